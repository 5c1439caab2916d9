#!/usr/bin/env bash
# All checks: style, types, fast tests, slow tests. `--fast` leaves the slow tests out and tests on every core: minutes.
# Other arguments go to pytest, after style and types (then only the fast tests run).
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle envs 4bit wandb language vision vertex dev

ruff check .
ruff format --check .
mypy
npm ci --prefix tests/npm --no-audit --no-fund --silent # Gemma's real tokenizer, to hold the subword table against
case "${1:-}" in
"") pytest -m "not (gpu or hub or upstream)" --durations=15 ;;
--fast) OMP_NUM_THREADS=1 pytest --numprocesses auto --dist loadfile "${@:2}" ;;
*) pytest "$@" ;;
esac
