#!/usr/bin/env bash
#SBATCH --job-name=stp
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@600
#SBATCH --output=outputs/slurm-%j.log
# stp.train on one node or several of a Slurm cluster, one torchrun for each node. From the project's folder:
# usage: sbatch [--nodes=2] [--gpus-per-node=8] scripts/launch_slurm.sh [overrides of stp.train ...]
# The job's run is outputs/slurm/<job id>/run. Ten minutes before its time is up (--time=) it is asked to save its state and is
# queued again; so it is by Slurm after a preemption or a failed node. It continues from its checkpoint either way.
#   PROMPTS_PER_GPU=2   sets trainer.prompts_per_update for this many GPUs; without it the configuration's number is shared out
#   PORT=29500   JOB=stp.train   DRY_RUN=1 (print the command; on a login node give NODES and GPUS)
set -euo pipefail
if [ -n "${SLURM_JOB_ID:-}" ]; then
  cd "${SLURM_SUBMIT_DIR:?}" # Slurm runs a copy of this file
elif [ -n "${DRY_RUN:-}" ]; then
  cd "$(dirname "$0")/.."
else
  echo "error: $0: submit it with sbatch, or look at it with DRY_RUN=1" >&2
  exit 2
fi
nodes=${NODES:-${SLURM_JOB_NUM_NODES:-1}} gpus=${GPUS:-${SLURM_GPUS_ON_NODE:-1}}
if [ -n "${SLURM_JOB_NODELIST:-}" ]; then
  head=${HEAD:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
else
  head=${HEAD:-$(hostname)}
fi
[ -z "${PROMPTS_PER_GPU:-}" ] || set -- "trainer.prompts_per_update=$((PROMPTS_PER_GPU * gpus * nodes))" "$@"
job=${JOB:-stp.train}
if [ "$job" = stp.train ]; then # before what is given, which wins
  set -- trainer.resume=auto trainer.checkpoint_every=10 "hydra.run.dir=outputs/slurm/${SLURM_JOB_ID:-0}/run" "$@"
fi
# srun does not take over sbatch's --cpus-per-task (Slurm 22.05 and later): without it a whole node's ranks share one core
command=(srun --nodes "$nodes" --ntasks "$nodes" --ntasks-per-node 1 --cpus-per-task "${SLURM_CPUS_PER_TASK:-8}"
  "${PYTHON:-.venv/bin/python}" -m torch.distributed.run --nnodes "$nodes" --nproc_per_node "$gpus"
  --rdzv_backend c10d --rdzv_id "${SLURM_JOB_ID:-0}" --rdzv_endpoint "$head:${PORT:-29500}"
  -m "$job" "$@")
if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi
"${command[@]}" & # not exec: this shell gets Slurm's signal
step=$! again=
trap 'again=1; kill -TERM "$step"' USR1
code=0
wait "$step" || code=$?
if [ -n "$again" ]; then # the trap ended the first wait
  code=0
  wait "$step" || code=$?
  [ "$code" = 0 ] || { scontrol requeue "$SLURM_JOB_ID" && exit 0; }
fi
exit "$code"
