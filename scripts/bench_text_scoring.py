"""Decisions per second by likelihood: `python scripts/bench_text_scoring.py [--battles 32] [--model tiny]`.

The same decisions, of the bundled sample battles, are scored by one forward pass per legal choice, by one padded batch
of all choices, and as a player scores them: all choices of all battles behind prompts that are read once. Clocked is
CPU time, the three in turn; the figures are medians over the passes, the ratios are within one run. The three must give
the same numbers.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.models.chat_model import ModelPlan, build
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.telling.answers import write_answer
from gemma_metamon.language.telling.prompts import messages_of
from gemma_metamon.language.tokenizers import encode_prompts
from gemma_metamon.sample_battles import extract

Scores = list[np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="as of gemma-metamon sft (default: %(default)s)")
    parser.add_argument("--battles", type=int, default=32, help="in a batch (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    decisions = []
    for path in sorted(extract("gen1ou").rglob("*.json.lz4")):
        decisions += [each for each in recorded_decisions(load_battle(path)) if len(each.choices) > 1][5:7]
    decisions = decisions[: args.battles]
    chats = [messages_of(each) for each in decisions]
    choices = [list(each.choices.values()) for each in decisions]
    answered = [
        [*chat, {"role": "assistant", "content": write_answer(own[0])}]
        for chat, own in zip(chats, choices, strict=True)
    ]
    model = build(ModelPlan(model=args.model), answered)
    model.model.eval()
    scorer = ChoiceScorer(model)
    prompts, answers = encode_prompts(model.tokenizer, chats), [scorer.answer_ids(own) for own in choices]

    ways: dict[str, Callable[[], Scores]] = {
        "one pass per choice": lambda: [
            scored_apart(model.gemma, *each) for each in zip(prompts, answers, strict=True)
        ],
        "one batch per battle": lambda: [
            scored_batch(model.gemma, *each) for each in zip(prompts, answers, strict=True)
        ],
        "as a player": lambda: scorer.score_ids(prompts, answers),
    }
    found = {name: way() for name, way in ways.items()}
    for name, scores in found.items():
        for own, expected in zip(scores, found["one pass per choice"], strict=True):
            np.testing.assert_allclose(own, expected, rtol=0, atol=1e-4, err_msg=name)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.passes):
        for name, way in ways.items():
            began = time.process_time()
            way()
            seconds[name].append(time.process_time() - began)
    per_s = {name: len(decisions) / statistics.median(times) for name, times in seconds.items()}
    print(
        f"{args.model}: {len(decisions)} battles, {np.mean([len(own) for own in choices]):.1f} choices and "
        f"{np.mean([len(prompt) for prompt in prompts]):.0f} subwords of a prompt on average"
    )
    for name, rate in per_s.items():
        print(f"{name:22}{rate:9.1f} decisions a CPU second{rate / per_s['one pass per choice']:8.1f} times")
    if args.json:
        print(json.dumps({"decisions_per_s": per_s, "ratio": per_s["as a player"] / per_s["one pass per choice"]}))


def without_same_end(answers: list[list[int]]) -> list[list[int]]:
    """Up to the first subword of what all end with."""
    same = 0
    while len({tuple(answer[len(answer) - same - 1 :]) for answer in answers}) == 1:
        same += 1
    return [answer[: len(answer) - same + 1] for answer in answers]


@torch.inference_mode()
def scored_apart(gemma: torch.nn.Module, prompt: list[int], answers: list[list[int]]) -> np.ndarray:
    return normal([total(gemma, [prompt], [own])[0] for own in without_same_end(answers)])


@torch.inference_mode()
def scored_batch(gemma: torch.nn.Module, prompt: list[int], answers: list[list[int]]) -> np.ndarray:
    return normal(total(gemma, [prompt] * len(answers), without_same_end(answers)))


def total(gemma: torch.nn.Module, prompts: list[list[int]], answers: list[list[int]]) -> list[torch.Tensor]:
    """The log-likelihood of each answer; logits where the longest answer stands alone."""
    rows = [prompt + own for prompt, own in zip(prompts, answers, strict=True)]
    width, most = max(map(len, rows)), max(map(len, rows)) - len(prompts[0]) + 1
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])  # padding is behind all that is looked at
    logits = gemma(input_ids=ids, logits_to_keep=most).logits.log_softmax(-1)
    return [sum(logits[i, at, subword] for at, subword in enumerate(own)) for i, own in enumerate(answers)]


def normal(totals: list[torch.Tensor]) -> np.ndarray:
    return torch.stack(totals).log_softmax(0).numpy()


if __name__ == "__main__":
    main()
