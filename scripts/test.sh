#!/usr/bin/env bash
# All checks: style, types, all tests, on every core; at the end, what was skipped and why. `--short` leaves out the longest tests, as
# .ci/run does, and `--fast` all slow ones: minutes. Other arguments go to pytest, after style and types (then only the fast tests run).
locked=1
extras=(battle envs 4bit wandb serve ray s3 gs vertex docs dev)
if "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then # else TRL is not to be had
    extras+=(language vision gguf mlx)
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "${extras[@]}"

# pages are looked at in a browser, and pictures read: without these some tests skip, and say so
install_programs() {
    local missing=()
    command -v chromium chromium-browser google-chrome >/dev/null || missing+=(chromium)
    command -v tesseract >/dev/null || missing+=(tesseract-ocr)
    if [ "${#missing[@]}" -eq 0 ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return; fi
    echo "installing ${missing[*]} from Debian" >&2
    { timeout 120 apt-get -qq update && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq -y install \
        --no-install-recommends "${missing[@]}"; } >/dev/null || echo "could not install ${missing[*]}" >&2
}

ruff check .
ruff format --check .
if [ -n "$locked" ]; then
    mypy
else
    echo "mypy is left out: what it finds depends on others' versions, and those of the lock are for another Python" >&2
fi
npm ci --prefix tests/npm --no-audit --no-fund --silent # Gemma's real tokenizer, to hold the subword table against
# a file's tests stay together, for their servers; in the order of the folders, so that no long file is left for the end;
# two workers more than there are cores, as many tests wait for a network, a time-out or another process; a worker that
# dies ends the run, which would wait for its tests forever
workers=$(($(getconf _NPROCESSORS_ONLN) + 2))
every_core=(env OMP_NUM_THREADS=1 pytest --numprocesses "$workers" --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -rs)
case "${1:-}" in
"" | --short)
    install_programs
    "${every_core[@]}" -m "not (hub or upstream${1:+ or long})" --durations=15
    ;;
--fast) "${every_core[@]}" "${@:2}" ;;
*) pytest "$@" ;;
esac
