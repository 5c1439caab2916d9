#!/usr/bin/env bash
# Uses a built wheel as somebody does who has nothing else: an empty environment, an empty folder, the quickstart's parts.
#     bash scripts/use_wheel.sh dist/gemma_metamon-*.whl
# Needs Node.js 18 or newer, and pip's index for the dependencies. WHEEL_PYTHON names a Python that has them already.
set -euo pipefail
wheel=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

if [ -n "${WHEEL_PYTHON:-}" ]; then
    "$WHEEL_PYTHON" -m pip install --quiet --no-deps --target "$folder/site" "$wheel"
    export PYTHONPATH="$folder/site"
    python="$WHEEL_PYTHON"
else
    python3 -m venv "$folder/environment"
    python="$folder/environment/bin/python"
    "$python" -m pip install --quiet "$wheel[battle]"
fi
used=$("$python" -c "import gemma_metamon; print(gemma_metamon.__file__)")
case "$used" in "$folder"/*) ;; *) echo "not the wheel's, but $used" >&2 && exit 1 ;; esac

"$python" -m gemma_metamon configs show gemma_synthetic_multitaskagent.gin --train_gin_config binary_rl.gin >configs.txt
"$python" -m gemma_metamon train --run_name first --save_dir runs --formats gen1ou --model_gin_config gemma_tiny_entity.gin \
    --train_gin_config quick.gin --batch_size_per_gpu 4 --epochs 1 --steps_per_epoch "${UPDATES:-5}"
"$python" -m gemma_metamon evaluate --run_dir runs/first --format gen1ou --opponents RandomPlayer --battles 2
echo "the wheel trains and plays without the source"
