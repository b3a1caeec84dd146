#!/usr/bin/env bash
# stp.train under DeepSpeed's launcher: the GPUs of this node, or those of a hostfile (lines like `node1 slots=8`), over ssh.
# usage: [GPUS=8] [NODES=2 HOSTFILE=hosts] scripts/launch_deepspeed.sh [overrides of stp.train ...]
#   PROMPTS_PER_GPU=2   sets trainer.prompts_per_update for this many GPUs; without it the configuration's number is shared out
#   PORT=29500   JOB=stp.train   DRY_RUN=1 (print the command)
set -euo pipefail
cd "$(dirname "$0")/.."
gpus=${GPUS:-$( (nvidia-smi --list-gpus 2>/dev/null || true) | wc -l)} nodes=${NODES:-1}
gpus=$((gpus > 0 ? gpus : 1))
hosts=()
if [ "$nodes" -gt 1 ]; then
  [ -n "${HOSTFILE:-}" ] || { echo "error: HOSTFILE: NODES=$nodes need a file with a line like 'node1 slots=8' for each" >&2; exit 2; }
  hosts=(--hostfile "$HOSTFILE" --num_nodes "$nodes")
fi
[ -z "${PROMPTS_PER_GPU:-}" ] || set -- "trainer.prompts_per_update=$((PROMPTS_PER_GPU * gpus * nodes))" "$@"
command=("${PYTHON:-.venv/bin/python}" -m deepspeed.launcher.runner ${hosts[@]+"${hosts[@]}"} --num_gpus "$gpus" --master_port "${PORT:-29500}"
  --no_local_rank --module "${JOB:-stp.train}" "$@")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; else exec "${command[@]}"; fi
