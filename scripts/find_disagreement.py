"""Where an agent and its teacher disagree, and who is right: each choice is played out many times from true forks.

    python scripts/find_disagreement.py runs/agent@4 --teacher DuelTrainer --out runs/disagreement
    python scripts/find_disagreement.py runs/agent@4 --battles 200 --rate 1000 --out runs/more     # hours

The agent plays; at each of its decisions the teacher is asked, too. Of the decisions in which they differ, so many are
drawn and rated: the battle is led back there and forked, the agent's or the teacher's choice is made, and the teacher
plays on to the end, --playouts times each, with the same dice for both. One of them is right where the difference in
battles won leaves its 95 % interval; by chance alone that happens to 2.5 % of equal choices, each way.

The decision in which the agent is most certainly right is rated again, with other dice (the best of many looks better
than it is), and shown on a page as `gemma-metamon explain` makes them. What there is in --out is not made again: a
script that was stopped goes on, and more may be rated later. Prints the kinds of disagreement, and what each of them
wins or loses the agent in a battle: summed over all kinds it is how much more battles it wins than its teacher.
"""

import argparse
import asyncio
import gc
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from playouts import Decision, PlayedBattle, Playouts, Rules, play_beside

from gemma_metamon.atomic_files import append_whole, written_whole
from gemma_metamon.battle.replays import N_RECORDED_ACTIONS, BattleFileName, load_battle, save_battle
from gemma_metamon.commands._players import contestants, find_players
from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.explain.follow import Advice, Follower, Tried, follow_recorded
from gemma_metamon.explain.page import Explanation, render_page, result_of
from gemma_metamon.intervals import Z_95, wilson_interval
from gemma_metamon.progress import progress_bar
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.simulator.formats import find_teams
from gemma_metamon.strict_json import read_dataclass, read_json_object

BATTLES, RATED, PAGE, RESULTS, SETTING = "battles", "rated.jsonl", "disagreement.html", "results.json", "setting.json"
FIXED = ("agent", "teacher", "opponent", "format", "battles", "playouts", "confirm", "max_turns", "seed")
"""Flags that must be the same when the script goes on."""


@dataclass(frozen=True, kw_only=True)
class Rated:
    """What came of a decision's two choices, playout by playout: 1 won, 0 lost, 0.5 neither."""

    battle: int
    decision: int
    agent: list[float]
    teacher: list[float]

    @property
    def differences(self) -> list[float]:
        """The agent's less the teacher's, of each playout with the same dice."""
        return [mine - theirs for mine, theirs in zip(self.agent, self.teacher, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", metavar="RUN", help="a run, as `evaluate` names them; or a scripted player")
    parser.add_argument("--teacher", default="DuelTrainer", help="a scripted player (default: %(default)s)")
    parser.add_argument("--opponent", default="DuelTrainer", help="a scripted player (default: %(default)s)")
    parser.add_argument("--format", default="gen1ou", help="(default: %(default)s)")
    parser.add_argument("--battles", type=int, default=40, help="that the agent plays (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=60, help="disagreements that are rated (default: %(default)s)")
    parser.add_argument("--playouts", type=int, default=100, help="of each choice (default: %(default)s)")
    parser.add_argument("--confirm", type=int, default=400, help="of the clearest one's (default: %(default)s)")
    parser.add_argument("--in_play", type=int, default=32, help="battles at a time (default: %(default)s)")
    parser.add_argument("--max_turns", type=int, default=500, help="then nobody has won (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="of the agent (default: CUDA where there is some)")
    parser.add_argument("--out", type=Path, default=Path("runs/disagreement"), help="(default: %(default)s)")
    args = parser.parse_args()
    for name, least in (("battles", 1), ("rate", 0), ("playouts", 5), ("confirm", 5), ("in_play", 2), ("max_turns", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name} {getattr(args, name)}; give {least} or more")
    print(as_table(find(args)))


def find(args: argparse.Namespace) -> dict[str, Any]:
    """All of it; what results.json holds. Raises ConfigError for other flags than --out was made with."""
    (found,) = find_players([args.agent])
    opponent, teacher = scripted(args.opponent), scripted(args.teacher)
    battle_format, teams = find_teams(args.format, None)
    keep_setting(args)
    (agent,) = contestants(
        [found], device=args.device, sample=False, temperature=1.0, max_battles=2 * args.in_play, seed=args.seed
    )
    if agent.name == opponent.name:
        raise ConfigError(f"{agent.name} would meet itself; name another --opponent")
    rules = Rules(
        battle_format=battle_format, teams=teams, seed=args.seed, in_play=args.in_play, max_turns=args.max_turns
    )
    gc.freeze()  # poke-env's tables are a quarter of a million objects, which a collection would look through
    with Arena() as arena:
        battles = play(arena, rules, args, agent, opponent, teacher)
        playouts = Playouts(arena, rules, agent, opponent, teacher)
        rated = rate(playouts, battles, args)
        best = clearest(rated)
        again = None if best is None else confirm(playouts, battles, best, args)
    results = summary(battles, rated)
    results |= {"agent": agent.name, "teacher": teacher.name, "opponent": opponent.name, "format": battle_format}
    if again is not None:
        decision = battles[again.battle].decisions[again.decision]
        results["clearest"] = {
            "battle": again.battle,
            "decision": again.decision,
            "turn": decision.turn,
            **{who: getattr(decision, who).name for who in ("agent", "teacher")},
            "wins": {who: statistics.fmean(getattr(again, who)) for who in ("agent", "teacher")},
            "playouts": len(again.agent),
            "difference": of_one(again),
            "page": show(args.out, battles[again.battle], again, agent, teacher.name),
        }
    with written_whole(args.out / RESULTS) as staged:
        staged.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


def keep_setting(args: argparse.Namespace) -> None:
    """Raises ConfigError, naming the flag, where --out was made with another one."""
    setting = {name: getattr(args, name) for name in FIXED}
    path = args.out / SETTING
    if path.is_file():
        for name, value in read_json_object(path).items():
            if setting.get(name) != value:
                raise ConfigError(
                    f"{args.out} was made with {name} {value}, not {setting.get(name)}; choose another --out"
                )
        return
    (args.out / BATTLES).mkdir(parents=True, exist_ok=True)
    with written_whole(path) as staged:
        staged.write_text(json.dumps(setting, indent=1), encoding="utf-8")


def play(
    arena: Arena, rules: Rules, args: argparse.Namespace, agent: Contestant, opponent: Contestant, teacher: Contestant
) -> dict[int, PlayedBattle]:
    """The agent's battles by their numbers: those in --out, and those that are played now, with a file of each."""
    folder = args.out / BATTLES
    missing = [number for number in range(args.battles) if not (folder / f"{number}.json").is_file()]
    for first in range(0, len(missing), rules.in_play):
        numbers = missing[first : first + rules.in_play]
        for battle, record in asyncio.run(play_beside(arena, rules, agent, opponent, teacher, numbers)):
            name = BattleFileName(
                battle_id=f"{rules.battle_format}-{battle.number}",
                rating=None,
                player="agent",
                opponent=opponent.name,
                played_at=datetime.now().replace(microsecond=0),
                won=record.won,
            )
            save_battle(record, folder / str(battle.number), name)
            with written_whole(folder / f"{battle.number}.json") as staged:
                staged.write_text(json.dumps(asdict(battle)), encoding="utf-8")
    numbers = [number for number in range(args.battles) if (folder / f"{number}.json").is_file()]
    return {number: read_dataclass(PlayedBattle, read_json_object(folder / f"{number}.json")) for number in numbers}


def rate(playouts: Playouts, battles: dict[int, PlayedBattle], args: argparse.Namespace) -> list[Rated]:
    """The first --rate of the disagreements in an order that is drawn once: those in --out, and the others now."""
    path = args.out / RATED
    rated = read_rows(Rated, path) if path.is_file() else []
    known = {(row.battle, row.decision) for row in rated}
    places = disagreements(battles)
    dice(args.seed, "which are rated").shuffle(places)
    wanted = places[: args.rate]
    for number, i in progress_bar([place for place in wanted if place not in known], desc="rating", unit="decision"):
        rated.append(play_out(playouts, battles[number], i, args.playouts, "rate"))
        append_whole(path, f"{json.dumps(asdict(rated[-1]))}\n")
    return [row for row in rated if (row.battle, row.decision) in set(wanted)]


def play_out(playouts: Playouts, battle: PlayedBattle, i: int, n: int, dice_for: str) -> Rated:
    """Both choices of a decision, n times each."""
    decision = battle.decisions[i]
    messages = [decision.agent.message, decision.teacher.message]
    agent, teacher = asyncio.run(playouts.rate(battle, i, messages, n, dice_for=dice_for))
    return Rated(battle=battle.number, decision=i, agent=agent, teacher=teacher)


def confirm(playouts: Playouts, battles: dict[int, PlayedBattle], best: Rated, args: argparse.Namespace) -> Rated:
    """The clearest decision, rated with other dice than those that chose it."""
    path = args.out / f"confirmed-{best.battle}-{best.decision}.json"
    if not path.is_file():
        again = play_out(playouts, battles[best.battle], best.decision, args.confirm, "confirm")
        with written_whole(path) as staged:
            staged.write_text(json.dumps(asdict(again)), encoding="utf-8")
    return read_dataclass(Rated, read_json_object(path))


def disagreements(battles: dict[int, PlayedBattle]) -> list[tuple[int, int]]:
    """(battle, decision) of all."""
    return [(n, i) for n, battle in battles.items() for i, decision in enumerate(battle.decisions) if decision.differs]


def of_one(row: Rated) -> tuple[float, float, float]:
    """The mean difference in the share won, and its 95 % interval: over the playouts, which share their dice."""
    return mean_of_groups([[difference] for difference in row.differences])


def mean_of_groups(groups: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """The mean of all values, each in -1..1, and its 95 % interval (low, high); values of one group may go together.

    By Student's t with a degree of freedom less than there are groups; of fewer than 5 groups nothing is said: -1 to 1.
    """
    values = [value for group in groups for value in group]
    mean, freedom = statistics.fmean(values), len(groups) - 1
    if freedom < 4:
        return mean, -1.0, 1.0
    squares = math.fsum(math.fsum(value - mean for value in group) ** 2 for group in groups)
    # the first terms of t's quantile in 1 / freedom (Fisher and Cornish 1960), 2 % too little of 5 groups, less of more
    t = Z_95 + (Z_95**3 + Z_95) / (4 * freedom) + (5 * Z_95**5 + 16 * Z_95**3 + 3 * Z_95) / (96 * freedom**2)
    half_width = t * math.sqrt(squares * len(groups) / freedom) / len(values)
    return mean, max(-1.0, mean - half_width), min(1.0, mean + half_width)


def clearest(rated: Sequence[Rated]) -> Rated | None:
    """The decision in which the agent is right by most, at the lower end of the interval; None where it never is."""
    best = max(rated, key=lambda row: of_one(row)[1], default=None)
    return None if best is None or of_one(best)[1] <= 0 else best


def summary(battles: dict[int, PlayedBattle], rated: Sequence[Rated]) -> dict[str, Any]:
    """How often they disagree, who is right, and that for each kind of disagreement."""
    free = [decision for battle in battles.values() for decision in battle.decisions if decision.is_free]
    differing = [decision for decision in free if decision.differs]
    rows: dict[str, Any] = {"all": of_rows(rated, len(differing), len(battles))} if rated else {}
    by_kind: dict[str, list[Rated]] = {}
    for row in rated:
        by_kind.setdefault(kind_of(battles[row.battle].decisions[row.decision]), []).append(row)
    counts = {kind: sum(kind_of(each) == kind for each in differing) for kind in by_kind}
    for kind in sorted(by_kind, key=lambda kind: -counts[kind]):
        rows[kind] = of_rows(by_kind[kind], counts[kind], len(battles))
    won = [battle.won for battle in battles.values()]
    return {
        "battles": len(won),
        "won": sum(share == 1 for share in won),
        "decisions": len(free),
        "disagreements": len(differing),
        "kinds": rows,
    }


def kind_of(decision: Decision) -> str:
    """What the agent does, and what the teacher would do: "switch / attack"."""
    return f"{decision.agent.kind} / {decision.teacher.kind}"


def of_rows(rated: Sequence[Rated], n: int, battles: int) -> dict[str, Any]:
    """A row of the table: of n disagreements in so many battles, some were rated."""
    ordered = sorted(rated, key=lambda row: row.battle)
    groups = [[of_one(row)[0] for row in rows] for _, rows in groupby(ordered, lambda row: row.battle)]
    difference = mean_of_groups(groups)
    return {
        "n": n,
        "rated": len(rated),
        "agent_right": sum(of_one(row)[1] > 0 for row in rated),
        "teacher_right": sum(of_one(row)[2] < 0 for row in rated),
        "difference": difference,
        "in_a_battle": tuple(bound * n / battles for bound in difference),
    }


def show(out: Path, battle: PlayedBattle, again: Rated, agent: Contestant, teacher: str) -> str | None:
    """Writes the page of the battle; None where who plays is no checkpoint that plays alone."""
    policy: Any = agent.policy
    if not hasattr(policy, "agent"):
        return None
    file = max((out / BATTLES / str(battle.number)).glob("*.json.lz4"))  # a script that was stopped may have left two
    record = load_battle(file)
    masks = np.zeros((len(battle.decisions), N_RECORDED_ACTIONS), dtype=np.bool_)
    for mask, decision in zip(masks, battle.decisions, strict=True):
        mask[decision.legal] = True
    follower = Follower(policy.agent, policy.view)
    decisions = [
        replace(seen, advice=advice(i, decision, teacher, again))
        for i, (seen, decision) in enumerate(
            zip(follow_recorded(follower, record, list(masks)), battle.decisions, strict=True)
        )
    ]
    explanation = Explanation(
        battle=file.name.partition("_")[0],
        battle_format=record.states[0].format,
        player=agent.name,
        opponent=BattleFileName.parse(file.name).opponent,
        agent=agent.name,
        result=result_of(record.states[-1]),
        setting=follower.setting(),
        decisions=decisions,
    )
    with written_whole(out / PAGE) as staged:
        staged.write_text(render_page(explanation), encoding="utf-8")
    return f"{out / PAGE}#{again.decision + 1}"


def advice(i: int, decision: Decision, teacher: str, again: Rated) -> Advice:
    """What the page says of the teacher at a decision, and at the one that was rated, what came of both choices."""
    tried = []
    if i == again.decision:
        for choice, shares in ((decision.agent, again.agent), (decision.teacher, again.teacher)):
            low, high = wilson_interval(round(sum(shares)), len(shares))
            tried.append(Tried(name=choice.name, times=len(shares), won=statistics.fmean(shares), low=low, high=high))
    return Advice(who=teacher, action=decision.teacher.action, tried=tuple(tried))


def as_table(results: dict[str, Any]) -> str:
    """The results for people."""
    low, high = wilson_interval(results["won"], results["battles"])
    share = results["disagreements"] / max(1, results["decisions"])
    agent, teacher = results["agent"], results["teacher"]
    lines = [
        f"{agent} won {results['won']} of {results['battles']} battles against {results['opponent']} in "
        f"{results['format']} ({low:.0%} to {high:.0%}).",
        f"In {results['disagreements']} of {results['decisions']} decisions ({share:.1%}) {teacher} would have done "
        "something else.",
        "Points: percent of battles won, the agent's choice less the teacher's, with 95 % intervals.",
        "",
        f"{'the agent / its teacher':32}{'n':>6}{'rated':>7}{'agent right':>13}{'teacher right':>15}"
        f"{'points':>24}{'points in a battle':>26}",
    ]
    for kind, row in results["kinds"].items():
        right = [f"{row[who]} ({row[who] / row['rated']:.0%})" for who in ("agent_right", "teacher_right")]
        lines.append(
            f"{kind:32}{row['n']:6}{row['rated']:7}{right[0]:>13}{right[1]:>15}"
            f"{points(row['difference']):>24}{points(row['in_a_battle']):>26}"
        )
    best = results.get("clearest")
    if best is None:
        return "\n".join([*lines, "", "In none of those that were rated is the agent right beyond its interval."])
    lines += [
        "",
        f"Clearest: battle {best['battle']}, turn {best['turn']}: {best['agent']}, not {best['teacher']}. Played out "
        f"{best['playouts']} times anew, {best['wins']['agent']:.1%} won, not {best['wins']['teacher']:.1%}: "
        f"{points(best['difference'])} points.",
        f"open {best['page']}" if best["page"] else "There is no page of who is no checkpoint that plays alone.",
    ]
    return "\n".join(lines)


def points(interval: Sequence[float]) -> str:
    mean, low, high = (100 * bound for bound in interval)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    try:
        main()
    except GemmaMetamonError as error:
        raise SystemExit(f"find_disagreement: {error}") from error
