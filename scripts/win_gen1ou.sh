#!/usr/bin/env bash
# An agent that wins in gen1ou, from nothing but battles that it collects itself, on two CPU cores; then 500 battles a pair.
#
#     bash scripts/win_gen1ou.sh [FOLDER] [SEED]     # default runs/win 0; run again, it collects and trains no second time
#
# The seed gives the same table again on one machine; another seed wants another folder.
# DuelTrainer plays, and a tiny Gemma imitates it.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle report

out="${1:-runs/win}"
seed="${2:-0}"
began=$SECONDS

if [ ! -d "$out/teacher" ]; then
    rm -rf "$out/teacher.part"
    gemma-metamon collect --format gen1ou --battles 2000 --seed "$seed" --players DuelTrainer \
        --opponents DuelTrainer SimpleHeuristicsPlayer MaxBasePowerPlayer --out "$out/teacher.part"
    mv "$out/teacher.part" "$out/teacher"
fi
gemma-metamon prepare --parsed_replay_dir "$out/teacher" --formats gen1ou --out "$out/store"
if [ ! -d "$out/agent/ckpts/epoch_4" ]; then
    rm -rf "$out/agent"
    # all discounts: those that reinforcement learning could go on with
    gemma-metamon train --run_name agent --save_dir "$out" --parsed_replay_dir "$out/store" \
        --model_gin_config gemma_tiny_entity.gin --train_gin_config quick.gin \
        --gin_override 'MultiTaskAgent.use_multigamma = True' \
        --batch_size_per_gpu 16 --epochs 4 --steps_per_epoch 500 --seed "$seed"
fi
echo "an agent after $(((SECONDS - began) / 60)) minutes of this run of the script" >&2

opponents=(RandomPlayer MaxBasePowerPlayer SimpleHeuristicsPlayer)
rm -rf "$out/table" "$out/untrained"
gemma-metamon evaluate --players "$out/agent" NoSwitchRandomPlayer "${opponents[@]}" --round_robin \
    --format gen1ou --battles 500 --seed "$seed" --out "$out/table"
# greedy, an untrained network names the same action for ever: its draws are the stronger control
gemma-metamon evaluate --players "$out/agent@0" --sample --opponents "${opponents[@]}" \
    --format gen1ou --battles 500 --seed "$seed" --out "$out/untrained"
