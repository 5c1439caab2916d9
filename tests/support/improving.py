"""What the tests of `improve` have in common: a short command, what it has finished, made-up results."""

import json
from pathlib import Path

from poke_env.player import RandomPlayer

from gemma_metamon.results.schema import EvaluationResults
from gemma_metamon.showdown.matches.evaluate import Evaluation
from gemma_metamon.showdown.matches.seatings import PairResult
from gemma_metamon.showdown.matches.tallies import Tally
from gemma_metamon.showdown.players.contestants import Contestant


def improve_command(out: Path, *extra: str) -> list[str]:
    command = ["improve", "--format", "gen1ou", "--rounds", "2", "--battles_per_round", "3", "--steps_per_round", "2"]
    command += ["--opponents", "RandomPlayer", "--eval_opponents", "RandomPlayer", "--eval_battles", "2"]
    command += ["--parent_battles", "2", "--batch_size_per_gpu", "2", "--max_turns", "10"]
    command += ["--device", "cpu", "--workers", "1"]
    return [*command, "--out", str(out), *extra]


def evaluation(*results: tuple[str, str, int, int]) -> EvaluationResults:
    pairs = []
    for player, opponent, wins, losses in results:
        sides = [Contestant(name, RandomPlayer) for name in (player, opponent)]
        tallies = [Tally(wins=wins, losses=losses, turns=20), Tally(wins=losses, losses=wins, turns=20)]
        pairs.append(PairResult(player=sides[0], opponent=sides[1], players=tallies[0], opponents=tallies[1]))
    return Evaluation(battle_format="gen1ou", battles_per_pair=10, seed=0, pairs=pairs).results()


def finished(out: Path) -> list[tuple[int, str]]:
    path = out / "improve.json"
    return [(e["round"], e["step"]) for e in json.loads(path.read_text())["finished"]] if path.exists() else []
