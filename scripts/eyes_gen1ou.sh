#!/usr/bin/env bash
# Gemma that plays by sight, in gen1ou on two CPU cores: a tiny one that sees learns to answer as DuelTrainer chose.
#
#     bash scripts/eyes_gen1ou.sh [FOLDER] [SEED] [TEACHER]     # default runs/eyes_gen1ou 0, and battles of its own
#
# TEACHER is a folder of DuelTrainer's battles, as of words_gen1ou.sh. The question names no Pokémon and no choice: all
# that tells one decision from another is the picture. Beside the model stand the same one trained on blank pictures
# (as many updates, the same answers), the same one before training, and random moves without switching. Each plays 500
# battles against each opponent (BATTLES). Run again, it goes on after the last step that was done. UPDATES (2500) of
# BATCH (16) decisions are those of the training.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle language vision report

out="${1:-runs/eyes_gen1ou}"
seed="${2:-0}"
teacher="${3:-$out/teacher}"
updates="${UPDATES:-2500}"
batch="${BATCH:-16}"
battles="${BATTLES:-500}"
began=$SECONDS
mkdir -p "$out"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT # where one of two things at a time fails, end the other

# done_in FOLDER COMMAND...: runs it with FOLDER.part as its --out, unless FOLDER is there
done_in() {
    if [ ! -e "$out/$1" ]; then
        rm -rf "${out:?}/$1.part"
        "${@:2}" --out "$out/$1.part"
        mv "$out/$1.part" "$out/$1"
    fi
}
# export_pictures NAME FLAGS...: rows and pictures in the folder NAME; those of every 20th battle are held out. An
# export that was stopped goes on where it was
export_pictures() {
    if [ ! -f "$out/$1/dataset.jsonl" ]; then
        gemma-metamon vlm export --parsed_replay_dir "$teacher" --formats gen1ou --players 'DuelTrainer*' \
            --frames single --size 224 --val_share 0.05 --subset "$((updates * batch * 21 / 20))" --seed "$seed" \
            --workers 1 --out "$out/$1" "${@:2}"
    fi
}
# learn RUN DATA: one thread each, as two of them run at a time
learn() {
    OMP_NUM_THREADS=1 done_in "$1" gemma-metamon vlm train --data "$out/$2/dataset.jsonl" \
        --val "$out/$2/dataset.validation.jsonl" --epochs 99 --max_updates "$updates" --batch_size "$batch" \
        --held_out 1500 --generated 200 --seed "$seed"
}
# play FOLDER PLAYER
play() {
    OMP_NUM_THREADS=1 done_in "$1" gemma-metamon evaluate --players "$2" --format gen1ou --battles "$battles" \
        --seed "$seed" --concurrency 32 --workers 1 --opponents RandomPlayer MaxBasePowerPlayer
}

if [ "$#" -lt 3 ]; then
    done_in teacher gemma-metamon collect --format gen1ou --battles 1000 --seed "$seed" --players DuelTrainer \
        --opponents DuelTrainer SimpleHeuristicsPlayer MaxBasePowerPlayer
fi
{
    export_pictures blank --blank
    learn eyes_blank blank
    play blank_table "vlm:$out/eyes_blank"
    play no_switch_table NoSwitchRandomPlayer
} &
control=$!
export_pictures seen
gemma-metamon chat validate "$out/seen/dataset.jsonl" "$out/seen/dataset.validation.jsonl"
learn eyes seen
echo "trained after $(((SECONDS - began) / 60)) minutes of this run of the script" >&2
play eyes_table "vlm:$out/eyes"
play untrained_table "vlm:$out/eyes@0"
wait "$control"
python scripts/words_table.py --of eyes "$out"
echo "done after $(((SECONDS - began) / 60)) minutes of this run of the script" >&2
