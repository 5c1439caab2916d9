"""How long a decision of a chat model takes, by likelihood and by free generation, alone and in a batch.

    python scripts/words_latency.py OUT/words OUT/told/chats.validation.jsonl      # OUT of words_gen1ou.sh

The model is a run of `sft` or `grpo`, RUN or RUN@EPOCH; the decisions are the first ones of chats with two or more
legal choices. Clocked is CPU time of one core, the ways in turn; a figure is the median over the batches. A free answer
that names no legal choice is none: its share is the last column, and a player that generates has to choose anew there.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from gemma_metamon.commands._player_texts import read_text
from gemma_metamon.language.models.chat_model import load
from gemma_metamon.language.models.held_out import ANSWER_SUBWORDS, generate
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.telling.answers import AnswerError, parse_answer
from gemma_metamon.language.tokenizers import encode_prompts
from gemma_metamon.language.training.fine_tuning import find_model
from gemma_metamon.results.json_lines import read_json_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path, help="chats of `chat export`")
    parser.add_argument("--batches", type=int, default=10, help="of each size (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = read_text(args.model)
    chat = load(find_model(text.run_dir, text.epoch), torch.device("cpu"))
    chat.model.eval()
    scorer = ChoiceScorer(chat)
    rows = [row for row in read_json_lines(args.data) if len(row["legal"]) > 1]

    def by_likelihood(part: list[dict]) -> int:
        scorer.score([row["messages"][:-1] for row in part], [row["legal"] for row in part])
        return len(part)

    def by_generation(part: list[dict]) -> int:
        prompts = encode_prompts(chat.tokenizer, [row["messages"][:-1] for row in part])
        answers = generate(chat, prompts, ANSWER_SUBWORDS)
        return sum(is_legal(answer, row) for answer, row in zip(answers, part, strict=True))

    print("| a decision by | battles at a time | ms of a batch | ms of a decision | decisions per CPU second | legal |")
    print("|---|---|---|---|---|---|")
    for size in (1, 32):
        parts = [rows[size * i : size * (i + 1)] for i in range(args.batches)]
        for name, way in (("likelihood", by_likelihood), ("free generation", by_generation)):
            seconds, legal = [], 0
            way(parts[0])  # what is prepared once is not counted
            for part in parts:
                began = time.process_time()
                legal += way(part)
                seconds.append(time.process_time() - began)
            ms = 1000 * statistics.median(seconds)
            share = legal / (size * args.batches)
            print(f"| {name} | {size} | {ms:.1f} | {ms / size:.1f} | {1000 * size / ms:.0f} | {share:.1%} |")


def is_legal(answer: str, row: dict) -> bool:
    try:
        parse_answer(answer, dict(enumerate(row["legal"])))
    except AnswerError:
        return False
    return True


if __name__ == "__main__":
    main()
