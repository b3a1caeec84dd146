#!/usr/bin/env bash
# Every row of the paper's tables and figures as one Hydra multirun over the presets of conf/experiment.
# usage: scripts/ablations.sh [overrides of stp.train ...]
#   SEEDS=0,1,2   ONLY=table5 (what the presets' names start with, several by commas)   TO=outputs/ablations
# Finished jobs are skipped, interrupted ones continue, presets with the same settings run once; a failed job does not stop the
# rest and is listed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
presets=()
for prefix in $(tr ',' ' ' <<< "${ONLY:-table,figure,heatmap,extra}"); do
  for file in conf/experiment/"$prefix"*.yaml; do
    [ -e "$file" ] || { echo "error: ONLY=$prefix: no preset has such a name; conf/experiment lists them" >&2; exit 2; }
    presets+=("$(basename "$file" .yaml)")
  done
done
exec "${PYTHON:-.venv/bin/python}" -m stp.train --multirun \
  "experiment=$(IFS=,; echo "${presets[*]}")" "seed=${SEEDS:-0,1,2}" trainer.resume=auto 'trainer.eval_temperatures=[0.0]' \
  "hydra.sweep.dir=${TO:-outputs/ablations}" 'hydra.sweep.subdir=${hydra:runtime.choices.experiment}/seed${seed}' "$@"
