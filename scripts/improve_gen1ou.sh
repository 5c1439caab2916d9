#!/usr/bin/env bash
# Rounds of `improve` in gen1ou from any agent that imitated; each is rated by 1,000 battles against its parent and the first.
#
#     bash scripts/improve_gen1ou.sh RUN[@EPOCH] STORE FOLDER [SEED]
#
# For instance from what rl_bench.py (--out runs/fresh --data_seed 2 --seeds 7 ...) has left, or from the agent of win.sh:
#
#     bash scripts/improve_gen1ou.sh runs/fresh/runs/imitation-7 runs/fresh/store_all runs/improve_gen1ou
#     BATTLES=1500 UPDATES=1000 bash scripts/improve_gen1ou.sh runs/win_gen1ou/agent runs/win_gen1ou/store runs/improve_win
#
# In each round the agent plays DuelTrainer, SimpleHeuristicsPlayer, itself and the round before it; EXPERT (default
# "LookaheadTrainer(forks=300)") says at each of its states what it would do; and the agent is trained, as it was before,
# to imitate that, a tenth of the time the battles of STORE. BATTLES (400) and UPDATES (500) are those of a round, and
# ROUNDS (3) how many there are. Run again, it goes on where it was stopped.
if [ $# -lt 3 ]; then
    sed -n '2,14p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle report

updates="${UPDATES:-500}"
gemma-metamon improve --out "$3" --run_dir "$1" --parsed_replay_dir "$2" --format gen1ou --seed "${4:-0}" \
    --rounds "${ROUNDS:-3}" --battles_per_round "${BATTLES:-400}" --steps_per_round "$updates" --anew \
    --gin_override "MetamonAMAGOExperiment.lr_decay_updates = $updates" --batch_size_per_gpu 16 --collected_share 0.9 \
    --opponents DuelTrainer DuelTrainer SimpleHeuristicsPlayer --past_rounds 1 \
    --label_by "${EXPERT:-LookaheadTrainer(forks=300)}" --temperature 0.5 --max_turns 200 \
    --eval_opponents SimpleHeuristicsPlayer DuelTrainer --eval_battles 500 --parent_battles 1000
