"""What the language-model head costs as the actor: subwords to read, rows of the head to ask, time.

    python scripts/bench_lm_actor.py --repeats 3

Subwords are counted over the bundled battles, each text by itself (TeamPreview, natural phrasing). Time is that of the
timestep encoder at Gemma 3 270M's size, forward and backward, LoRA, float32, random weights, whole turns: processor
time, with and without `action_scores` in turn. "all rows" is what the head would take if it were asked for every
subword of the vocabulary at each subword of a turn, in multiplications, against all of Gemma's layers.
"""

import argparse
import json
import statistics
import time
from typing import Any

import torch

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.nets.reader.action_scores import ActionTexts
from gemma_metamon.nets.reader.backbone import GEMMA_3_270M_CONFIG
from gemma_metamon.nets.reader.subword_lookup import SubwordLookup
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.runs.experiment import Space
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.view import BattleView

LAYER_WEIGHTS = 100_326_016
"""Of Gemma 3 270M without its embedding."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battles", type=int, default=40, help="of each format, to count (default: %(default)s)")
    parser.add_argument(
        "--turns", type=int, default=6, help="to time; more, and a CPU recomputes (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="0 counts alone (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    view = BattleView.default()
    report: dict[str, Any] = {name: count(name, view, args.battles) for name in sample_battles.bundled_formats()}
    vocabulary, hidden = (int(GEMMA_3_270M_CONFIG[name]) for name in ("vocab_size", "hidden_size"))
    report["all rows of the head / all layers, multiplications"] = round(vocabulary * hidden / LAYER_WEIGHTS, 2)
    if args.repeats:
        report["seconds"] = measure(view, args.turns, args.repeats)
    print(json.dumps(report) if args.json else json.dumps(report, indent=2))


def turns_of(battle_format: str, view: BattleView, n_battles: int) -> torch.Tensor:
    files = find_battles(sample_battles.extract(battle_format), [battle_format])[:n_battles]
    return torch.cat([torch.from_numpy(encode_battle(file, view).word_ids) for file in files]).long()


def build(view: BattleView, *, action_scores: bool) -> GemmaTstepEncoder:
    torch.manual_seed(0)
    spaces = {"text_tokens": Space((view.obs_space.n_words,)), "numbers": Space((view.obs_space.n_numbers,))}
    return GemmaTstepEncoder(
        spaces,
        Space((1 + view.action_space.n,)),
        pretrained=False,
        backbone_config=GEMMA_3_270M_CONFIG,
        observation_space=view.obs_space.name,
        dtype="float32",
        action_scores=action_scores,
    )


def count(battle_format: str, view: BattleView, n_battles: int) -> dict[str, float]:
    """Subwords and rows of a turn, on average."""
    table = SubwordTable.load("natural").rows_for(view.vocabulary.words)
    lookup = SubwordLookup(table, compact=True)
    words = turns_of(battle_format, view, n_battles)
    branches = ActionTexts(view.obs_space, view.vocabulary.words, view.action_space.n)(words, lookup)
    turn = lookup(words).lengths.float().mean().item()
    behind = (len(branches.cue) + branches.lengths.sum(1)).float().mean().item()
    rows = (branches.lengths + (branches.lengths > 0)).sum(1).float().mean().item()
    return {
        "turns": len(words),
        "subwords of a turn": round(turn, 1),
        "of its actions": round(behind, 1),
        "more to read, %": round(100 * behind / turn, 1),
        "rows of the head asked": round(rows, 1),
        "actions": round((branches.lengths > 0).sum(1).float().mean().item(), 2),
    }


def measure(view: BattleView, turns: int, repeats: int) -> dict[str, Any]:
    """Processor seconds of forward and backward: median and range of each side."""
    words = turns_of("gen9ou", view, 4)[:turns]
    obs = {"text_tokens": words[None], "numbers": torch.zeros(1, len(words), view.obs_space.n_numbers)}
    rl2s = torch.zeros(1, len(words), 1 + view.action_space.n)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    encoders = {scored: build(view, action_scores=scored).train() for scored in seconds}
    for repeat in range(repeats + 1):  # the first warms up
        for scored, encoder in encoders.items():
            start = time.process_time()
            encoder(obs, rl2s).sum().backward()
            if repeat:
                seconds[scored].append(time.process_time() - start)
    ratios = [scored / plain for plain, scored in zip(seconds[False], seconds[True], strict=True)]
    return {
        name: [round(value, 2) for value in (statistics.median(values), min(values), max(values))]
        for name, values in (("without", seconds[False]), ("with", seconds[True]), ("with / without", ratios))
    }


if __name__ == "__main__":
    main()
