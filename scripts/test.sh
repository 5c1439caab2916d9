#!/usr/bin/env bash
# All checks: style, types, fast tests, slow tests. Arguments go to pytest (then only the fast tests run).
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle 4bit wandb dev

ruff check .
ruff format --check .
mypy
npm ci --prefix tests/npm --no-audit --no-fund --silent # Gemma's real tokenizer, to hold the subword table against
if [ "$#" -gt 0 ]; then
    exec pytest "$@"
fi
pytest -m "not (gpu or hub or upstream)" --durations=15
