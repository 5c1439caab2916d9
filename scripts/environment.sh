# Sourced by the other scripts: the project's folder, and its virtual environment .venv with the extras named as arguments.
# Where `locked` is set, in the versions of scripts/constraints.txt, if that was made of this minor version of Python; else
# `locked` is empty afterwards. Where those versions cannot be had, in those of today; on GitHub, where nobody would notice, it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

names=$(IFS=,; echo "$*")
installed=".venv/installed-${names}"
if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
lock=scripts/constraints.txt
minor=$(.venv/bin/python -c 'import sys; print("{}.{}.".format(*sys.version_info))')
if [ -n "${locked:-}" ] && ! head -n 1 "$lock" | grep -q " Python $minor"; then
    locked=""
fi
if [ ! -f "$installed" ] || [ pyproject.toml -nt "$installed" ]; then
    echo "installing into .venv: gemma_metamon[$names] (minutes without a word, where torch is not there yet; with it 2 to 5 GB on disk)" >&2
    install() {
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$names]" "$@"
    }
    if [ -n "${locked:-}" ]; then
        install --constraint "$lock" || {
            if [ -n "${GITHUB_ACTIONS:-}" ]; then
                echo "not everything is to be had in the versions of $lock: make it anew with scripts/lock.sh" >&2
                exit 1
            fi
            echo "not everything is to be had in the versions of $lock: installing those of today" >&2
            install
        }
    else
        install
    fi
    touch "$installed"
fi
PATH="$PWD/.venv/bin:$PATH"
export PATH
# Threads that wait for each other may spin only briefly: on a busy machine, spinning makes torch many times slower.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
