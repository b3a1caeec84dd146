#!/usr/bin/env bash
# Runs the tests in fresh environments with the lowest, the pinned and the newest versions of the packages, on each Python found.
# usage: scripts/versions.sh [arguments of pytest ...]     by default the whole suite, two tests at a time
#   ENVIRONMENTS="lowest pinned newest"   lowest: setup.py's lower bounds; pinned: constraints.txt; newest: what setup.py allows
#   PYTHONS="python3.11 python3.12 python3.13"   those that are not there are left out
#   TO=outputs/versions   a folder for the environments (some GB each; one that is complete is used again), logs and the table
#   PIP_ARGS=...   arguments of pip install
set -euo pipefail
cd "$(dirname "$0")/.."
to=${TO:-outputs/versions}
mkdir -p "$to"
to=$(cd "$to" && pwd)
[ $# -gt 0 ] || set -- -n 2 --dist loadfile --no-loadscope-reorder
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 WANDB_MODE=offline

sed -nE 's/^ *"([A-Za-z0-9-]+)>=([0-9.]+).*/\1==\2/p' setup.py > "$to/lowest.txt"
cp constraints.txt "$to/pinned.txt"
: > "$to/newest.txt"

shown() { # the versions that a table's row shows
  "$1/bin/python" - <<'PY'
from importlib.metadata import version
print(" | ".join(version(name) for name in ("torch", "transformers", "peft", "deepspeed")))
PY
}

table="$to/versions.md" failed=0
{
  echo "| Python | environment | torch | transformers | peft | DeepSpeed | tests | minutes |"
  echo "|---|---|---|---|---|---|---|---|"
} | tee "$table"
for python in ${PYTHONS:-python3.11 python3.12 python3.13}; do
  command -v "$python" > /dev/null && "$python" -c "" 2> /dev/null || { echo "$python is not here: left out" >&2; continue; }
  for name in ${ENVIRONMENTS:-lowest pinned newest}; do
    place="$to/$name-${python##*/}" log="$to/$name-${python##*/}.log" begun=$SECONDS said="not installed"
    if [ ! -e "$place/.installed" ]; then
      "$python" -m venv --clear "$place"
      # shellcheck disable=SC2086
      if "$place/bin/pip" install --quiet --disable-pip-version-check ${PIP_ARGS:-} -c "$to/$name.txt" -e '.[dev]' > "$log" 2>&1
      then touch "$place/.installed"; fi
    fi
    row="| - | - | - | -"
    if [ -e "$place/.installed" ]; then
      PYTHONPATH="$PWD" "$place/bin/python" -m pytest -p no:cacheprovider "$@" > "$log" 2>&1 || failed=1
      said=$( (grep -E "(passed|failed|error|deselected).* in [0-9.]+" "$log" || true) | tail -n 1 | sed -E 's/ in [0-9.]+.*//; s/=//g')
      row="| $(shown "$place")"
    else failed=1; fi
    version=$("$python" -c 'import platform; print(platform.python_version())')
    echo "| $version | $name $row | ${said:-none ran} | $(( (SECONDS - begun + 30) / 60 )) |" | tee -a "$table"
  done
done
exit $failed
