#!/usr/bin/env bash
# Rounds of `improve` from any agent that imitated: it plays, an expert labels what it got into, and it imitates that.
#
#     bash scripts/improve.sh FORMAT RUN[@EPOCH] STORE FOLDER [SEED]     # gen1ou or gen9ou
#
# For instance from what rl_bench.py (--out runs/fresh --data_seed 2 --seeds 7 ...) has left, or from an agent of win.sh:
#
#     bash scripts/improve.sh gen1ou runs/fresh/runs/imitation-7 runs/fresh/store_all runs/improve_gen1ou
#     BATTLES=1500 UPDATES=1000 bash scripts/improve.sh gen9ou runs/win_gen9ou/agent runs/win_gen9ou/store runs/improve_gen9ou
#
# In each round the agent plays DuelTrainer, SimpleHeuristicsPlayer, itself and the round before it; EXPERT (default in
# gen1ou "LookaheadTrainer(forks=300)", in gen9ou DuelTrainer) says at each of its states what it would do; and the agent
# is trained, as it was before, to imitate that, and now and then the battles of STORE. BATTLES (400) and UPDATES (500)
# are those of a round, ROUNDS (3) how many there are, PARENT_BATTLES (1000) and EVAL_BATTLES (500) what each is rated by.
# Run again, it goes on where it was stopped.
case "${1:-}" in
    gen1ou) expert="LookaheadTrainer(forks=300)" collected=0.9 opponents=(DuelTrainer DuelTrainer SimpleHeuristicsPlayer) ;;
    # teams differ more there, and the battles of STORE hold many that a few rounds do not meet
    gen9ou) expert=DuelTrainer collected=0.7 opponents=(DuelTrainer DuelTrainer SimpleHeuristicsPlayer SimpleHeuristicsPlayer) ;;
    *) expert="" ;;
esac
if [ -z "$expert" ] || [ $# -lt 4 ]; then
    sed -n '2,15p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle report

updates="${UPDATES:-500}"
gemma-metamon improve --out "$4" --run_dir "$2" --parsed_replay_dir "$3" --format "$1" --seed "${5:-0}" \
    --rounds "${ROUNDS:-3}" --battles_per_round "${BATTLES:-400}" --steps_per_round "$updates" --anew \
    --gin_override "MetamonAMAGOExperiment.lr_decay_updates = $updates" --batch_size_per_gpu 16 \
    --collected_share "$collected" --opponents "${opponents[@]}" --past_rounds 1 \
    --label_by "${EXPERT:-$expert}" --temperature 0.5 --max_turns 200 \
    --eval_opponents MaxBasePowerPlayer SimpleHeuristicsPlayer DuelTrainer --eval_battles "${EVAL_BATTLES:-500}" \
    --parent_battles "${PARENT_BATTLES:-1000}"
