# Sourced by the other scripts: the project's folder, and its virtual environment .venv with the extras named as arguments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras=$(IFS=,; echo "$*")
installed=".venv/installed-${extras}"
if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
if [ ! -f "$installed" ] || [ pyproject.toml -nt "$installed" ]; then
    echo "installing into .venv: gemma_metamon[$extras] (with torch; on Linux 5 GB on disk, and minutes without a word)" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
    touch "$installed"
fi
PATH="$PWD/.venv/bin:$PATH"
export PATH
# Threads that wait for each other may spin only briefly: on a busy machine, spinning makes torch many times slower.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
