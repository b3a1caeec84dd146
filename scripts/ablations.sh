#!/usr/bin/env bash
# Every row of the paper's tables and figures as one Hydra multirun over the presets of conf/experiment.
# usage: scripts/ablations.sh [overrides of stp.train ...]
#   SEEDS=0,1,2   SAMPLER=adaptive (instead of the presets' own)
#   ONLY=table5,method_d1 (presets, or what the names of presets start with)
#   TO=<folder>, PYTHON=<command>: paths from where you are; by default outputs/ablations and .venv/bin/python of the project
# Finished jobs are skipped, interrupted ones continue, presets with the same settings run once; a failed job does not stop the
# rest and is listed at the end. $TO/runs.csv gets a line per finished run (logging.ledger). It begins as a copy of
# docs/results/runs.csv, so that runs whose results are published are not run again; FRESH=1 begins with none.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
from_here() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
to=outputs/ablations python=.venv/bin/python
[ -z "${TO:-}" ] || to=$(from_here "$TO")
case ${PYTHON:-} in '') ;; */*) python=$(from_here "$PYTHON") ;; *) python=$PYTHON ;; esac
presets=()
IFS=, read -ra prefixes <<< "${ONLY:-table,figure,heatmap,extra}"
for prefix in "${prefixes[@]}"; do
  [ -n "$prefix" ] || continue
  if [ -e "conf/experiment/$prefix.yaml" ]; then presets+=("$prefix"); continue; fi
  for file in conf/experiment/"$prefix"*.yaml; do
    [ -e "$file" ] || { echo "error: ONLY=$prefix: no preset has such a name; conf/experiment lists them" >&2; exit 2; }
    presets+=("$(basename "$file" .yaml)")
  done
done
[ ${#presets[@]} -gt 0 ] || { echo "error: ONLY=$ONLY: it names no preset; conf/experiment lists them" >&2; exit 2; }
published=docs/results/runs
if [ -z "${FRESH:-}" ] && [ -e $published.csv ] && [ ! -e "$to/runs.csv" ]; then
  mkdir -p "$to"
  cp $published.csv $published.settings.json "$to"
fi
folder='${hydra:runtime.choices.experiment}' rollouts=()
[ -z "${SAMPLER:-}" ] || { folder+=-$SAMPLER; rollouts=("sampler=$SAMPLER"); }
exec "$python" -m stp.train --multirun \
  "experiment=$(IFS=,; echo "${presets[*]}")" "seed=${SEEDS:-0,1,2}" trainer.resume=auto "logging.ledger=$to/runs.csv" 'trainer.eval_temperatures=[0.0]' \
  "hydra.sweep.dir=$to" "hydra.sweep.subdir=$folder/seed\${seed}" ${rollouts[@]+"${rollouts[@]}"} "$@"
