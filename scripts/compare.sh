#!/usr/bin/env bash
# The README's comparison: STP beside the standard sampler, three seeds each, same updates, prompts and test problems.
# usage: scripts/compare.sh [overrides of stp.train ...]; SEEDS="0 1 2" chooses the seeds, TO the folder.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
to=${TO:-outputs/compare}
for seed in ${SEEDS:-0 1 2}; do
  for sampler in stp standard; do
    run="$to/$sampler-seed$seed"
    [ -f "$run/summary.json" ] || "$python" -m stp.train sampler=$sampler task=countdown seed="$seed" trainer.resume=auto hydra.run.dir="$run" "$@"
  done
done
"$python" -m stp.report "$to"/*-seed* --to "$to/report"
