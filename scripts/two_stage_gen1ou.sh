#!/usr/bin/env bash
# Supervised start, then reinforcement learning, stage by stage, on the bundled gen1ou battles; then who wins how often.
#
#     bash scripts/two_stage_gen1ou.sh [FOLDER] [SEED]      # default runs/stages 0; what is there is not made again
#
# imitated -> judged (critics alone) -> learned (reinforcement learning) -> tuned (fine-tuning); `unjudged` goes from
# imitation to reinforcement learning at once. A tiny Gemma and few updates: it shows the way, not what it is worth.
# UPDATES (of imitation; a third of them in each later stage), BATCH and BATTLES make it longer.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle report

out="${1:-runs/stages}"
seed="${2:-0}"
updates="${UPDATES:-300}"

if [ ! -d "$out/store" ]; then
    bundled="$(python -c 'from gemma_metamon import sample_battles; print(sample_battles.extract("gen1ou"))')"
    gemma-metamon prepare --parsed_replay_dir "$bundled" --formats gen1ou --out "$out/store"
fi

# stage NAME TRAINING_CONFIG UPDATES ARGUMENTS...
stage() {
    if [ ! -d "$out/$1-$seed/ckpts/epoch_1" ]; then
        rm -rf "${out:?}/$1-$seed"
        gemma-metamon train --run_name "$1-$seed" --save_dir "$out" --parsed_replay_dir "$out/store" --seed "$seed" \
            --model_gin_config gemma_tiny_entity.gin --train_gin_config "$2" --batch_size_per_gpu "${BATCH:-8}" \
            --epochs 1 --steps_per_epoch "$3" --gin_override 'MetamonAMAGOExperiment.lr_warmup_steps = 20' "${@:4}"
    fi
}

# imitation with all discounts, which reinforcement learning needs
stage imitated quick.gin "$updates" --gin_override 'MultiTaskAgent.use_multigamma = True'
# critics alone may learn as fast as imitation does: nothing else moves
stage judged binary_rl_critic_warmup.gin "$((updates / 3))" --init_from "$out/imitated-$seed" \
    --gin_override 'MetamonAMAGOExperiment.learning_rate = 1e-3'
stage learned binary_rl.gin "$((updates / 3))" --init_from "$out/judged-$seed"
stage unjudged binary_rl.gin "$((updates / 3))" --init_from "$out/imitated-$seed"
stage tuned finetune.gin "$((updates / 3))" --init_from "$out/learned-$seed"

rm -rf "$out/table-$seed"
gemma-metamon evaluate --format gen1ou --battles "${BATTLES:-200}" --seed "$seed" --out "$out/table-$seed" \
    --players "$out/imitated-$seed" "$out/learned-$seed" "$out/unjudged-$seed" "$out/tuned-$seed" \
    --opponents MaxBasePowerPlayer SimpleHeuristicsPlayer
