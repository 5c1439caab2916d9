#!/usr/bin/env bash
# Three rounds of `improve` in gen1ou, from the agent of win.sh; each is rated by 1,000 battles against its parent.
#
#     bash scripts/improve_gen1ou.sh [FOLDER] [SEED]     # default runs/win_gen1ou 0; FOLDER is that of win.sh
#
# Run again, it goes on where it was stopped. In each round the agent plays the teacher, SimpleHeuristicsPlayer, itself and
# the round before it; EXPERT (default DuelTrainer) says at each of its states what it would do; and the agent imitates that
# (TRAINING=quick.gin) beside the teacher's own battles. The other settings are BATTLES and UPDATES of a round, and ROUNDS.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle report

out="${1:-runs/win_gen1ou}"
seed="${2:-0}"
updates="${UPDATES:-1000}"

[ -d "$out/agent/ckpts/epoch_4" ] || bash scripts/win.sh gen1ou "$out" "$seed"
gemma-metamon improve --out "$out/improved-$seed" --run_dir "$out/agent@4" --format gen1ou --seed "$seed" \
    --rounds "${ROUNDS:-3}" --battles_per_round "${BATTLES:-1500}" --steps_per_round "$updates" --anew \
    --model_gin_config gemma_tiny_entity.gin --train_gin_config "${TRAINING:-quick.gin}" \
    --gin_override 'MultiTaskAgent.use_multigamma = True' \
    --gin_override "MetamonAMAGOExperiment.lr_decay_updates = $updates" --batch_size_per_gpu 16 \
    --parsed_replay_dir "$out/store" --collected_share 0.6 \
    --opponents DuelTrainer DuelTrainer SimpleHeuristicsPlayer --past_rounds 1 \
    --label_by "${EXPERT:-DuelTrainer}" --temperature 0.5 --max_turns 200 \
    --eval_opponents SimpleHeuristicsPlayer DuelTrainer --eval_battles 500 --parent_battles 1000
