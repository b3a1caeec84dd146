#!/usr/bin/env bash
# stp.train on the GPUs of one node, or of several: run the same line on each of them.
# usage: [GPUS=8] [NODES=2 HEAD=<first node>] scripts/launch_torchrun.sh [overrides of stp.train ...]
#   PROMPTS_PER_GPU=2   sets trainer.prompts_per_update for this many GPUs; without it the configuration's number is shared out
#   PORT=29500   JOB=stp.train   DRY_RUN=1 (print the command)
set -euo pipefail
cd "$(dirname "$0")/.."
gpus=${GPUS:-$( (nvidia-smi --list-gpus 2>/dev/null || true) | wc -l)} nodes=${NODES:-1}
gpus=$((gpus > 0 ? gpus : 1))
meet=(--standalone)
if [ "$nodes" -gt 1 ]; then
  [ -n "${HEAD:-}" ] || { echo "error: HEAD: NODES=$nodes need the host name of the first one to meet; add HEAD=<name>" >&2; exit 2; }
  meet=(--rdzv_backend c10d --rdzv_id stp --rdzv_endpoint "$HEAD:${PORT:-29500}")
fi
[ -z "${PROMPTS_PER_GPU:-}" ] || set -- "trainer.prompts_per_update=$((PROMPTS_PER_GPU * gpus * nodes))" "$@"
command=("${PYTHON:-.venv/bin/python}" -m torch.distributed.run --nnodes "$nodes" --nproc_per_node "$gpus" "${meet[@]}"
  -m "${JOB:-stp.train}" "$@")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; else exec "${command[@]}"; fi
