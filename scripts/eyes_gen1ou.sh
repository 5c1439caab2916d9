#!/usr/bin/env bash
# Gemma that plays by sight, in gen1ou on two CPU cores: a tiny one that sees learns to answer as DuelTrainer chose.
#
#     bash scripts/eyes_gen1ou.sh [FOLDER] [SEED] [TEACHER]     # default runs/eyes_gen1ou 0, and battles of its own
#
# TEACHER is a folder of DuelTrainer's battles, as of words_gen1ou.sh. The question names no Pokémon and no choice: all
# that tells one decision from another is the picture. Beside the model stand the same one trained on blank pictures
# (as many updates, the same choices), the same one before training, and random moves without switching. They play 500
# battles (BATTLES) against each opponent. Run again, it goes on after the last step that was done.
#
# It first learns to read: LOOKS (1000) updates of BATCH (16) decisions, whose answers also say what the picture shows.
# Then it learns to choose alone: UPDATES (1500). The control, which has nothing to read, makes as many in all.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle vision report

out="${1:-runs/eyes_gen1ou}"
seed="${2:-0}"
teacher="${3:-$out/teacher}"
looks="${LOOKS:-1000}"
updates="${UPDATES:-1500}"
batch="${BATCH:-16}"
battles="${BATTLES:-500}"
began=$SECONDS
mkdir -p "$out"
set -m # what runs in the background is a process group of its own, which can be ended whole
trap 'kill -- $(jobs -p | sed s/^/-/) 2>/dev/null || true' EXIT # where one of two things at a time fails, end the other

# done_in FOLDER COMMAND...: runs it with FOLDER.part as its --out, unless FOLDER is there; a training that has kept
# something goes on there
done_in() {
    local resume=()
    if [ ! -e "$out/$1" ]; then
        if compgen -G "$out/$1.part/trainer/checkpoint-*" >/dev/null; then
            resume=(--resume)
        else
            rm -rf "${out:?}/$1.part"
        fi
        "${@:2}" --out "$out/$1.part" "${resume[@]}"
        mv "$out/$1.part" "$out/$1"
    fi
}
# export_pictures NAME FLAGS...: rows and pictures in the folder NAME; a few more than the trainings look at, so that
# none begins a second epoch, and a twentieth of the battles held out. An export that was stopped goes on where it was
export_pictures() {
    if [ ! -f "$out/$1/dataset.jsonl" ]; then
        gemma-metamon vlm export --parsed_replay_dir "$teacher" --formats gen1ou --players 'DuelTrainer*' \
            --frames single --size 224 --val_share 0.05 --subset "$(((looks + updates) * batch * 11 / 10))" \
            --seed "$seed" --workers 1 --out "$out/$1" "${@:2}"
    fi
}
# learn RUN DATA UPDATES FLAGS...
learn() {
    done_in "$1" gemma-metamon vlm train --data "$out/$2/dataset.jsonl" \
        --val "$out/$2/dataset.validation.jsonl" --max_updates "$3" --epochs 99 --batch_size "$batch" \
        --held_out 1500 --seed "$seed" "${@:4}"
}
# play FOLDER PLAYER OPPONENTS...
play() {
    done_in "$1" gemma-metamon evaluate --players "$2" --format gen1ou --battles "$battles" \
        --seed "$seed" --concurrency 32 --workers 1 --opponents "${@:3}"
}

if [ "$#" -lt 3 ]; then
    done_in teacher gemma-metamon collect --format gen1ou --battles 1000 --seed "$seed" --players DuelTrainer \
        --opponents DuelTrainer SimpleHeuristicsPlayer MaxBasePowerPlayer
fi
export OMP_NUM_THREADS=1 # from here on two things run at a time
{
    export_pictures blank --blank
    learn eyes_blank blank "$((looks + updates))" --generated 200
    play blank_table "vlm:$out/eyes_blank" RandomPlayer MaxBasePowerPlayer
    play no_switch_table NoSwitchRandomPlayer RandomPlayer MaxBasePowerPlayer
    until [ -e "$out/reader" ]; do sleep 5; done # the other one is long done, unless it has ended this one as well
    play untrained_table "vlm:$out/reader@0" MaxBasePowerPlayer # against RandomPlayer it takes 180 turns
} &
control=$!
export_pictures seen --reasoning seen
gemma-metamon chat validate "$out/seen/dataset.jsonl" "$out/seen/dataset.validation.jsonl"
learn reader seen "$looks" --generated 0
learn eyes seen "$updates" --generated 200 --choice_alone --full --learning_rate 1e-3 \
    --model "$(find "$out/reader/ckpts" -maxdepth 1 -name 'epoch_*' | sort -V | tail -n 1)"
echo "trained after $(((SECONDS - began) / 60)) minutes of this run of the script" >&2
play eyes_table "vlm:$out/eyes" RandomPlayer MaxBasePowerPlayer
wait "$control"
python scripts/words_table.py --of eyes "$out"
echo "done after $(((SECONDS - began) / 60)) minutes of this run of the script" >&2
