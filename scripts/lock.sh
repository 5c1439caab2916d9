#!/usr/bin/env bash
# Makes scripts/constraints.txt anew: the versions of all that the extras for the tests bring, as pip resolves them now.
# scripts/audit.sh looks for known faults of them, and `pip install -c scripts/constraints.txt -e ".[battle,dev]"` installs
# what the tests last ran with. scripts/environment.sh, and with it CI, does not: it serves Python 3.10 as well, for which
# there are no such numpy, scipy and pandas.
#
#   scripts/lock.sh          # in a new environment: downloads everything, torch's CPU build included
#   scripts/lock.sh --here   # of the environment that is active: downloads nothing
set -euo pipefail
cd "$(dirname "$0")/.."
extras="battle,envs,4bit,wandb,language,vision,serve,ray,s3,gs,gguf,mlx,vertex,docs,dev"
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
