#!/usr/bin/env bash
# An agent that wins, from nothing but battles that it collects itself, on two CPU cores; then 500 battles a pair.
#
#     bash scripts/win.sh FORMAT [FOLDER] [SEED]     # gen1ou or gen9ou; default runs/win_FORMAT 0
#
# Run again, it goes on after the last step that was done; the training after its last epoch. The seed gives the same
# table again on one machine; another seed wants another folder. DuelTrainer plays, and a tiny Gemma imitates it.
format="${1:-}"
case "$format" in
    gen1ou) battles=2000 epochs=4 decay=2000 ;;
    # many more Pokémon, moves and items than in gen1ou
    gen9ou) battles=12000 epochs=16 decay=8000 ;;
    *)
        echo "usage: bash scripts/win.sh gen1ou|gen9ou [FOLDER] [SEED]" >&2
        exit 2
        ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle report

out="${2:-runs/win_$format}"
seed="${3:-0}"
began=$SECONDS

if [ ! -d "$out/teacher" ]; then
    rm -rf "$out/teacher.part"
    gemma-metamon collect --format "$format" --battles "$battles" --seed "$seed" --players DuelTrainer \
        --opponents DuelTrainer SimpleHeuristicsPlayer MaxBasePowerPlayer --out "$out/teacher.part"
    mv "$out/teacher.part" "$out/teacher"
fi
gemma-metamon prepare --parsed_replay_dir "$out/teacher" --formats "$format" --out "$out/store"
if [ ! -d "$out/agent/ckpts/epoch_$epochs" ]; then
    mkdir -p "$out/agent/ckpts"
    last=$(find "$out/agent/ckpts" -maxdepth 1 -name 'epoch_*' | sed 's/.*_//' | sort -n | tail -1)
    # all discounts: those that reinforcement learning could go on with
    gemma-metamon train --run_name agent --save_dir "$out" --parsed_replay_dir "$out/store" \
        --model_gin_config gemma_tiny_entity.gin --train_gin_config quick.gin \
        --gin_override 'MultiTaskAgent.use_multigamma = True' \
        --gin_override "MetamonAMAGOExperiment.lr_decay_updates = $decay" \
        --batch_size_per_gpu 16 --epochs "$epochs" --steps_per_epoch 500 --seed "$seed" ${last:+--ckpt "$last"}
fi
echo "an agent after $(((SECONDS - began) / 60)) minutes of this run of the script" >&2

# evaluate FOLDER ARGUMENTS: 500 battles a pair, unless they were all played already
evaluate() {
    if [ ! -f "$out/$1/results.json" ]; then
        rm -rf "${out:?}/$1.part"
        gemma-metamon evaluate "${@:2}" --format "$format" --battles 500 --seed "$seed" --out "$out/$1.part"
        mv "$out/$1.part" "$out/$1"
    fi
}
opponents=(RandomPlayer MaxBasePowerPlayer SimpleHeuristicsPlayer)
evaluate table --players "$out/agent" NoSwitchRandomPlayer "${opponents[@]}" --round_robin
# greedy, an untrained network names the same action for ever: its draws are the stronger control
evaluate untrained --players "$out/agent@0" --sample --opponents "${opponents[@]}"
evaluate teacher_table --players DuelTrainer --opponents "${opponents[@]}"
