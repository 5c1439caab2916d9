#!/usr/bin/env bash
# Makes scripts/constraints.txt anew: the versions of all that the extras for the tests bring, as pip resolves them now.
# scripts/test.sh, and with it CI, installs these where Python's minor version is the one they were resolved for; for 3.10,
# to name one, there are no such numpy, scipy and pandas. scripts/audit.sh looks for known faults of them.
#
#   scripts/lock.sh          # in a new environment: downloads everything, torch's CPU build included
#   scripts/lock.sh --here   # of the environment that is active: downloads nothing
set -euo pipefail
cd "$(dirname "$0")/.."
extras="battle,envs,4bit,wandb,serve,ray,s3,gs,vertex,docs,dev,language,vision,gguf,mlx"
python=python
if [[ "${1:-}" != "--here" ]]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    python="$folder/bin/python"
    "$python" -m pip install --quiet torch --index-url https://download.pytorch.org/whl/cpu
    "$python" -m pip install --quiet ".[$extras]"
fi
{
    echo "# Made by scripts/lock.sh of Python $("$python" -c 'import platform; print(platform.python_version())'); extras: $extras. What it is for stands there."
    # torch names its build (+cpu), which other machines do not have; this project itself is not locked
    "$python" -m pip list --format=freeze --exclude gemma-metamon --exclude pip --exclude setuptools --exclude wheel |
        sed 's/+[A-Za-z0-9.]*$//' | LC_ALL=C sort --ignore-case
} > scripts/constraints.txt
echo "wrote scripts/constraints.txt: $(grep -vc '^#' scripts/constraints.txt) packages"
