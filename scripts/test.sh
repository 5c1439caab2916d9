#!/usr/bin/env bash
# All checks: style, types, all tests, on every core; at the end, what was skipped and why. `--fast` leaves the slow tests out: minutes.
# Other arguments go to pytest, after style and types (then only the fast tests run).
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle envs 4bit wandb language vision serve ray s3 gs gguf mlx vertex docs dev

ruff check .
ruff format --check .
mypy
npm ci --prefix tests/npm --no-audit --no-fund --silent # Gemma's real tokenizer, to hold the subword table against
# a file's tests stay together, for their servers; in the order of the folders, so that no long file is left for the end;
# one worker more than there are cores, as many tests wait for a network, a time-out or another process
workers=$(($(getconf _NPROCESSORS_ONLN) + 1))
every_core=(env OMP_NUM_THREADS=1 pytest --numprocesses "$workers" --dist loadfile --no-loadscope-reorder)
case "${1:-}" in
"") "${every_core[@]}" -m "not (gpu or hub or upstream)" --durations=15 -rs ;;
--fast) "${every_core[@]}" "${@:2}" ;;
*) pytest "$@" ;;
esac
