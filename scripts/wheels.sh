#!/usr/bin/env bash
# Collects, as wheels in a folder, what a GPU machine without network lacks beside torch and transformers.
# usage: [FOR=3.12] scripts/wheels.sh <folder>     on a machine with network; FOR is the GPU machine's Python
#   PYTHON=<command>: a Python with pip on this machine
set -euo pipefail
[ $# -eq 1 ] || { echo "error: scripts/wheels.sh: give one folder to collect the wheels in" >&2; exit 2; }
folder=$1 python=${PYTHON:-python3} constraints=$(cd "$(dirname "$0")/.." && pwd)/constraints.txt
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }
pinned() { grep "^$1==" "$constraints"; }
mkdir -p "$folder"
# these two are published as sources only, which give the same wheel on every machine
pip wheel --no-deps --wheel-dir "$folder" antlr4-python3-runtime==4.9.3 "$(pinned deepspeed)"
platforms=()
for tag in manylinux_2_28 manylinux_2_17 manylinux2014 manylinux1; do platforms+=(--platform "${tag}_x86_64"); done
pip download --only-binary=:all: --implementation cp --python-version "${FOR:-3.12}" "${platforms[@]}" --find-links "$folder" \
  --dest "$folder" "$(pinned hydra-core)" "$(pinned omegaconf)" pydantic hjson einops msgpack py-cpuinfo ninja
pip download --no-deps --only-binary=:all: --dest "$folder" "$(pinned peft)"
du -sh "$folder"
