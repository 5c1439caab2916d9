"""Two chat models on the same held-out decisions: how much oftener the second agrees, and what its draws earn more.

    python scripts/compare_words.py OUT/early OUT/grpo OUT/told/chats.validation.jsonl \\
        --battles OUT/early_table OUT/grpo_table                                           # OUT of words_gen1ou.sh

Each is a run of `sft` or `grpo`, RUN or RUN@EPOCH. Agreement is of the most probable legal choice; a drawn answer
earns 1 for a legal choice and 2 more for the recorded one (rewards `legality` and `correctness`), and eight are drawn
of each decision. Decisions of one battle are alike: the 95 % intervals of the differences are those of battles, each
with all of its decisions.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from gemma_metamon.commands._player_texts import read_text
from gemma_metamon.intervals import Z_95
from gemma_metamon.language.models.chat_model import load
from gemma_metamon.language.models.grouped import draw
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.telling.answers import AnswerError, parse_answer
from gemma_metamon.language.tokenizers import encode_prompts
from gemma_metamon.language.training.fine_tuning import find_model
from gemma_metamon.results.json_lines import read_json_lines

DRAWS, BATCH, LONGEST = 8, 32, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("data", type=Path, help="held-out chats of `chat export`")
    parser.add_argument("--battles", nargs=2, type=Path, metavar=("FIRST", "SECOND"), help="folders of `evaluate`")
    args = parser.parse_args()
    rows = [row for row in read_json_lines(args.data) if len(row["legal"]) > 1]
    battles = [row["battle_id"] for row in rows]
    for name, before, after in zip(
        ("agreement", "drawn reward"), look(args.first, rows), look(args.second, rows), strict=True
    ):
        change, half = difference(battles, before, after)
        print(
            f"{name}: {sum(before) / len(rows):.3f} and {sum(after) / len(rows):.3f}, {change:+.3f} ± {half:.3f} "
            f"({len(set(battles))} battles, {len(rows)} decisions)"
        )
    if args.battles:
        first, second = map(won, args.battles)
        same = sorted(set(first) & set(second))
        for opponent in sorted({opponent for opponent, _, _ in same}):
            own = [seating for seating in same if seating[0] == opponent]
            before, after = ([wins[seating] for seating in own] for wins in (first, second))
            change, half = difference([draw for _, draw, _ in own], before, after)
            print(
                f"win rate against {opponent}: {sum(before) / len(own):.3f} and {sum(after) / len(own):.3f}, "
                f"{change:+.3f} ± {half:.3f} ({len(own)} battles each)"
            )


def won(folder: Path) -> dict[tuple[str, int, str], float]:
    """1 for a win and 0 for all else, by opponent, drawn teams, and seat."""
    rows = read_json_lines(folder / "battles.jsonl")
    return {(row["opponent"], row["draw"], row["p1"]): float(row["result"] == "win") for row in rows}


def look(model: str, rows: Sequence[dict]) -> tuple[list[float], list[float]]:
    """Of each decision, whether the model agrees, and the mean reward of its draws."""
    text = read_text(model)
    chat = load(find_model(text.run_dir, text.epoch), torch.device("cpu"))
    chat.model.eval()
    torch.manual_seed(0)
    scorer, ends = ChoiceScorer(chat), chat.gemma.config.eos_token_id
    agreed, earned = [], []
    for begin in range(0, len(rows), BATCH):
        part = rows[begin : begin + BATCH]
        messages = [row["messages"][:-1] for row in part]
        with torch.inference_mode():
            scores = scorer.score(messages, [row["legal"] for row in part])
            prompts = encode_prompts(chat.tokenizer, messages)
            answers = draw(chat.gemma, prompts, DRAWS, most=LONGEST, temperature=1.0, ends=ends)
        texts = chat.tokenizer.batch_decode(answers, skip_special_tokens=True)
        for i, (row, own) in enumerate(zip(part, scores, strict=True)):
            agreed.append(float(row["legal"][int(own.argmax())] == row["choice"]))
            earned.append(sum(reward(text, row) for text in texts[DRAWS * i : DRAWS * (i + 1)]) / DRAWS)
    return agreed, earned


def reward(answer: str, row: dict) -> float:
    """1 for a legal choice, 2 more for the recorded one."""
    try:
        place = parse_answer(answer, dict(enumerate(row["legal"])))
    except AnswerError:
        return 0.0
    return 1.0 + 2.0 * (row["legal"][place] == row["choice"])


def difference(battles: Sequence[str | int], before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """The mean difference, and half of its 95 % interval (of clusters: Liang and Zeger 1986)."""
    mean = (sum(after) - sum(before)) / len(battles)
    apart = defaultdict(float)
    for battle, one, other in zip(battles, before, after, strict=True):
        apart[battle] += other - one - mean
    n = len(apart)
    return mean, Z_95 * math.sqrt(sum(total**2 for total in apart.values()) * n / (n - 1)) / len(battles)


if __name__ == "__main__":
    main()
