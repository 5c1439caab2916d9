#!/usr/bin/env bash
# Gemma as a policy in words, in gen1ou on two CPU cores: a tiny one learns to answer as DuelTrainer chose, and plays.
#
#     bash scripts/words_gen1ou.sh [FOLDER] [SEED] [TEACHER]     # default runs/words_gen1ou 0, and battles of its own
#
# TEACHER is a folder of DuelTrainer's battles, as runs/win_gen1ou/teacher of win.sh. Each player of the table that is
# printed at the end plays 500 battles against each opponent. Beside the model that was trained stand the same one
# before training, one that was trained on texts in which the battle is blanked, and random moves without switching;
# then a model that was stopped after EARLY (160) updates and what GRPO makes of it in GRPO (240) of its own. Run again,
# it goes on after the last step that was done. UPDATES (4500) are those of the training: about 0.1 s of one core each.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle language report

out="${1:-runs/words_gen1ou}"
seed="${2:-0}"
teacher="${3:-$out/teacher}"
updates="${UPDATES:-4500}"
early="${EARLY:-160}"
grpo="${GRPO:-240}"
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
# export_chats NAME FLAGS...: chats in the folder NAME, those of every 20th battle held out
export_chats() {
    mkdir -p "$out/$1"
    if [ ! -f "$out/$1/chats.jsonl" ]; then
        gemma-metamon chat export --parsed_replay_dir "$teacher" --formats gen1ou --players 'DuelTrainer*' \
            --val_share 0.05 --seed "$seed" --out "$out/$1/chats.jsonl" "${@:2}"
    fi
}
# learn RUN CHATS UPDATES FLAGS...: one thread each, as two of them run at a time
learn() {
    OMP_NUM_THREADS=1 done_in "$1" gemma-metamon sft --data "$out/$2/chats.jsonl" \
        --val "$out/$2/chats.validation.jsonl" --max_updates "$3" --held_out 1500 --generated 500 \
        --seed "$seed" "${@:4}"
}
# play FOLDER PLAYER [OPPONENT...]: 500 battles against each, of three unless they are named; every PLAYER has the same
# teams and seats
play() {
    local opponents=("${@:3}")
    [ "$#" -ge 3 ] || opponents=(RandomPlayer MaxBasePowerPlayer SimpleHeuristicsPlayer)
    OMP_NUM_THREADS=1 done_in "$1" gemma-metamon evaluate --players "$2" --format gen1ou --battles 500 \
        --seed "$seed" --concurrency 32 --opponents "${opponents[@]}"
}

if [ "$#" -lt 3 ]; then
    done_in teacher gemma-metamon collect --format gen1ou --battles 2000 --seed "$seed" --players DuelTrainer \
        --opponents DuelTrainer SimpleHeuristicsPlayer MaxBasePowerPlayer
fi
export_chats told --workers 1 &
export_chats blanked --workers 1 --blank
wait $!
gemma-metamon chat validate "$out/told/chats.jsonl" "$out/told/chats.validation.jsonl"

# two lanes of about the same length
{
    learn words told "$updates"
    echo "the model after $(((SECONDS - began) / 60)) minutes of this run of the script" >&2
    play words_table "text:$out/words"
    learn blank blanked "$updates"
    play blank_table "text:$out/blank"
    play untrained_random "text:$out/early@0" RandomPlayer # slow: it takes 110 turns
} &
lane=$!
learn early told "$early"
# held near where it began (--beta), for else it merely becomes surer of what it would say anyway
OMP_NUM_THREADS=1 done_in grpo gemma-metamon grpo --data "$out/told/chats.jsonl" \
    --val "$out/told/chats.validation.jsonl" --model "$out/early" --held_out 1500 --generated 500 --seed "$seed" \
    --num_generations 8 --batch_size 512 --answer_subwords 12 --reward correctness --beta 1 --learning_rate 7e-4 \
    --max_updates "$grpo" --keep_every 40
play early_table "text:$out/early" MaxBasePowerPlayer
play grpo_table "text:$out/grpo" MaxBasePowerPlayer
play no_switch_table NoSwitchRandomPlayer
play untrained_table "text:$out/early@0" MaxBasePowerPlayer SimpleHeuristicsPlayer
wait "$lane"
python scripts/words_table.py "$out"
python scripts/compare_words.py "$out/early" "$out/grpo" "$out/told/chats.validation.jsonl" \
    --battles "$out/early_table" "$out/grpo_table"
python scripts/words_latency.py "$out/words" "$out/told/chats.validation.jsonl"
echo "done after $(((SECONDS - began) / 60)) minutes of this run of the script" >&2
