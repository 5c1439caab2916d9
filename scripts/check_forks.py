"""Forks by the hundred: do they tell apart what a seat cannot tell apart, and can they be played to their end?

    python scripts/check_forks.py --formats gen1ou gen9ou gen4randombattle --battles 50

Each battle is played twice, with the same dice and choices: p2's team is another one the second time, in moves, items,
abilities, stats or members. As long as p1 is told the same of both, both are forked for it, and the two forks must be
the same: state, requests, and all that both seats are told when the same choices are made. Then the fork is played on
by random players. Teams are those of the project or what the format gives out; with --wild they get moves, items and
abilities at random. Prints a line for each format, and what differed; ends with 1 if anything did.
"""

import argparse
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench_arena import random_choice
from poke_env.battle import Move
from poke_env.data import GenData, to_id_str

from gemma_metamon.showdown.arena.arena import Arena, News, Seat
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.showdown.matches.arena_tables import player_of
from gemma_metamon.showdown.matches.forks import fork_for
from gemma_metamon.showdown.matches.samplers import PackedSet, TeamSampler, unpack_team
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.teams import load_teams, random_teams

HOOK = Path(__file__).with_suffix(".js")
ALL = 1 << 30
SPECIALS = {"canTerastallize": "terastallize", "canMegaEvo": "mega", "canDynamax": "dynamax", "canUltraBurst": "ultra"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", default=["gen1ou", "gen9ou"])
    parser.add_argument("--battles", type=int, default=30, help="pairs of each format (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first pair")
    parser.add_argument("--turns", type=int, default=40, help="that a fork is played on for (default: %(default)s)")
    parser.add_argument("--wild", action="store_true", help="moves, items and abilities at random")
    args = parser.parse_args()
    watch_forks()
    failed = False
    with Arena() as arena:
        for name in args.formats:
            checks = Checks(arena, name, wild=args.wild, turns=args.turns)
            for number in range(args.first, args.first + args.battles):
                checks.play_pair(number)
            print(f"{name}: {checks.forks} pairs of forks, {checks.decisions} decisions", flush=True)
            for what, count in checks.faults.most_common():
                print(f"  {count} x {what}; first: {checks.first[what]}")
            failed = failed or bool(checks.faults)
    return int(failed)


def watch_forks() -> None:
    """From now on, an arena that begins tells the states of its forks, and lets every team play."""
    os.environ["NODE_OPTIONS"] = f"--require={HOOK}"


@dataclass
class Checks:
    """Pairs of battles of one format, and what was found in their forks.

    Attributes:
        arena: begun after `watch_forks`.
        battle_format: e.g. "gen4randombattle"; where teams are given out, they play by the rules of its "ou".
        wild: whether sets are made at random.
        turns: how many answers a fork is played on for; all it takes, where that is large.
    """

    arena: Arena
    battle_format: str
    wild: bool = False
    turns: int = 40
    forks: int = 0
    decisions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gen = GenData.from_format(self.battle_format).gen
        given = "random" in self.battle_format
        teams = random_teams(self.battle_format, 60, seed=0) if given else load_teams(self.battle_format)
        self.rules = f"gen{self.gen}ou" if given else self.battle_format
        self.teams = [[self._whole(each) for each in unpack_team(team, self.gen)] for team in teams]
        self.sets = [each for team in self.teams for each in team]
        self.sampler = TeamSampler(teams, self.rules)
        data = GenData.from_gen(self.gen)
        own = {move for each in self.sets for move in each.moves}
        self.moves = sorted(_real_moves(self.gen) if self.wild else own)
        self.items = sorted({each.item for each in self.sets})
        abilities = {str(name) for entry in data.pokedex.values() for name in entry.get("abilities", {}).values()}
        self.abilities = sorted(to_id_str(name) for name in abilities)
        self.player = player_of(scripted("RandomPlayer"), "p1", self.rules)

    def _whole(self, pokemon: PackedSet) -> PackedSet:
        """With what the validator fills in, which does not look here."""
        return replace(pokemon, evs=pokemon.evs or ("252," * 6 if self.gen < 3 else "84," * 6).rstrip(","))

    def play_pair(self, number: int) -> None:
        """Plays two battles as long as p1 cannot tell them apart, and forks both now and then."""
        draws = dice(number, self.battle_format, "pair")
        ours, theirs = (self._team(draws) for _ in range(2))
        tags = [f"battle-{self.rules}-{2 * number + i}" for i in range(2)]
        seats = {}
        for tag, team in zip(tags, (theirs, self._vary(theirs, draws)), strict=True):
            table = Seat(name=self.player.username, team=_pack(ours)), Seat(name="Bob", team=_pack(team))
            self.arena.start(tag, battle_format=self.rules, seed=simulator_seed(number), seats=table)
            seats[tag] = ArenaSeat(tag, self.player, random.Random(0))
        requests: dict[tuple[str, str], dict[str, Any]] = {}
        while (told := self._hear(tags, requests)) is not None:
            self.decisions += 1
            for tag in tags:
                seats[tag].read(told)
            asked = requests.get((tags[0], "p1"), {"wait": True})
            if not asked.get("wait") and draws.random() < 0.5:
                self._fork(tags, seats, number)
            if not self._answer(tags, requests, draws):
                break
        self._drop(tags)

    def _hear(self, tags: Sequence[str], requests: dict[tuple[str, str], dict[str, Any]]) -> list[str] | None:
        """What p1 is told of both battles; None where that is not the same, or one of them is over."""
        told: dict[str, list[str]] = {tag: [] for tag in tags}
        for news in self.arena.receive(at_least=ALL):
            if news.lost:
                self._fault("a battle is lost", news.lost)
            told[news.battle] += news.told.get("p1", ())
            for seat, messages in news.told.items():
                if messages[-1].startswith("|request|"):
                    requests[news.battle, seat] = json.loads(messages[-1][len("|request|") :])
        first, second = (told[tag] for tag in tags)
        return first if first and first == second and self.arena.battles >= set(tags) else None

    def _team(self, draws: random.Random) -> list[PackedSet]:
        team = draws.choice(self.teams)
        if not self.wild:
            return team
        wild = []
        for each in team:
            moves = draws.sample(self.moves, 4)
            ability = draws.choice(self.abilities) if self.gen > 2 and draws.random() < 0.5 else each.ability
            wild.append(replace(each, moves=tuple(moves), ability=ability, item=draws.choice(self.items)))
        return wild

    def _vary(self, team: Sequence[PackedSet], draws: random.Random) -> list[PackedSet]:
        """Another team that may look the same for a while."""
        strong = draws.random() < 0.3
        varied = [self._vary_set(each, draws, strong=strong) if draws.random() < 0.7 else each for each in team]
        if self.gen < 5:  # without a preview
            for place in range(3, len(team)):
                other = draws.choice(self.sets)
                if draws.random() < 0.4 and other.species not in {each.species for each in varied}:
                    varied[place] = other
        return varied

    def _vary_set(self, each: PackedSet, draws: random.Random, *, strong: bool) -> PackedSet:
        moves = list(each.moves)
        new = draws.choice(self.moves)
        if new not in moves and draws.random() < 0.7:
            moves[draws.randrange(len(moves))] = new
        draws.shuffle(moves)
        each = replace(each, moves=tuple(moves))
        if self.gen > 1 and draws.random() < 0.3:
            each = replace(each, item="" if draws.random() < 0.4 else draws.choice(self.items))
        if self.gen == 9:
            each = each.with_tera(draws.choice(["Fire", "Water", "Steel", "Ghost"]))
        if self.gen > 2 and draws.random() < 0.3:
            entry = GenData.from_gen(self.gen).pokedex[each.species]
            each = replace(each, ability=to_id_str(draws.choice(list(entry["abilities"].values()))))
        if strong:
            evs, ivs = (",".join(str(draws.randrange(0, most, 2)) for _ in range(6)) for most in (253, 31))
            each = replace(each, evs=evs, ivs=ivs, nature=draws.choice(["Adamant", "Timid", "Bold"]))
        return each

    def _fork(self, tags: Sequence[str], seats: dict[str, ArenaSeat], number: int) -> None:
        news = []
        for tag in tags:
            fork_for(self.arena, seats[tag].battle, f"fork of {tag}", sampler=self.sampler, seed=number)
            news += self.arena.receive(at_least=ALL)
        self.forks += 1
        where = number, len(seats[tags[0]].battle._replay_data)
        if any(each.lost for each in news):
            self._fault(f"a fork fails: {news[0].lost or news[1].lost}", where)
            return
        states = [json.loads(each.told["p1"][0].removeprefix("|state|")) for each in news]
        for path, *values in differences(*states):
            self._fault(f"the states differ at {path}", (*where, *values))
        if news[0].told["p2"] != news[1].told["p2"] or news[0].told["p1"][1:] != news[1].told["p1"][1:]:
            self._fault("the first requests differ", where)
        asked = json.loads(news[0].told["p1"][-1][len("|request|") :])
        mine = seats[tags[0]].battle.last_request
        if {**asked, "rqid": 0} != {**mine, "rqid": 0}:
            self._fault("the fork asks p1 for something else", where)
        first, second = (self._play_on(each, number) for each in news)
        if first != second:
            self._fault("the forks go on differently", where)

    def _play_on(self, news: News, number: int) -> list[Any]:
        coins = Coins(number)
        told: list[Any] = []
        for _ in range(self.turns):
            for seat, messages in sorted(news.told.items()):
                if messages[-1].startswith("|error|"):
                    self.arena.send(news.battle, seat, "/choose default")
                elif messages[-1].startswith("|request|"):
                    choice = choose(json.loads(messages[-1][len("|request|") :]), coins)
                    if choice is not None:
                        self.arena.send(news.battle, seat, f"/choose {choice}")
            more = [each for each in self.arena.receive(at_least=ALL) if each.battle == news.battle]
            if not more:
                self._fault("a fork is stuck", number)
                break
            told += [each.told for each in more]
            if more[-1].lost:
                self._fault(f"a fork fails later: {more[-1].lost.partition(':')[2]}", number)
            if more[-1].ended or more[-1].lost:
                return told
            news = News(battle=news.battle, told={seat: msgs for each in more for seat, msgs in each.told.items()})
        self._drop([news.battle])
        return told

    def _answer(
        self, tags: Sequence[str], requests: dict[tuple[str, str], dict[str, Any]], draws: random.Random
    ) -> bool:
        """The same choices in both battles; False where p2 cannot choose the same in the second."""
        answers = []
        for seat in ("p1", "p2"):
            first, second = (requests.pop((tag, seat), {"wait": True}) for tag in tags)
            coins = Coins(draws.getrandbits(64))
            choice = choose(first, coins)
            same = choice if seat == "p1" else _same_choice(choice, first, second)
            if seat == "p2" and _may_not_move(first) and coins.random() < 0.5:
                same = choose(second, coins)  # which perhaps nobody will see
            if choice is not None and same is None:
                return False
            if choice is not None:
                answers += [(tags[0], seat, choice), (tags[1], seat, str(same))]
        for tag, seat, choice in answers:
            self.arena.send(tag, seat, f"/choose {choice}")
        return bool(answers)

    def _drop(self, battles: Sequence[str]) -> None:
        for battle in battles:
            self.arena.drop(battle)
        self.arena.receive(at_least=ALL)

    def _fault(self, what: str, where: Any) -> None:
        self.faults[what] += 1
        self.first.setdefault(what, where)


class Coins(random.Random):
    """What random_choice draws with."""

    def below(self, n: int) -> int:
        return self.randrange(n)


def choose(request: dict[str, Any], coins: Coins) -> str | None:
    """Any legal choice, a Mega Evolution or terastallisation with it now and then."""
    choice = random_choice(request, coins)  # type: ignore[arg-type]
    if choice and choice.startswith("move "):
        special = [word for key, word in SPECIALS.items() if request["active"][0].get(key)]
        if special and coins.random() < 0.2:
            return f"{choice} {special[0]}"
    return choice


def _may_not_move(request: dict[str, Any]) -> bool:
    condition = request["side"]["pokemon"][0]["condition"] if "active" in request else ""
    return condition.endswith((" slp", " frz", " par"))


def _same_choice(choice: str | None, first: dict[str, Any], second: dict[str, Any]) -> str | None:
    """The choice that looks like this one of the first request, in the second."""
    if choice is None:
        return None
    kind, *words = choice.split()
    if kind == "move" and "active" in second:
        moves = [move["id"] for move in second["active"][0]["moves"]]
        wanted = first["active"][0]["moves"][int(words[0]) - 1]["id"]
        return " ".join([kind, str(moves.index(wanted) + 1), *words[1:]]) if wanted in moves else None
    if kind == "switch":
        names = [pokemon["ident"] for pokemon in second["side"]["pokemon"]]
        wanted = first["side"]["pokemon"][int(words[0]) - 1]["ident"]
        return f"switch {names.index(wanted) + 1}" if wanted in names else None
    return choice


def _real_moves(gen: int) -> list[str]:
    moves = GenData.from_gen(gen).moves
    usual = (None, "Past", "Unobtainable")
    return [
        move
        for move, entry in moves.items()
        if Move.should_be_stored(move, gen)
        and entry.get("isNonstandard") in usual
        and move not in ("struggle", "fight")
    ]


def differences(first: Any, second: Any, path: str = "") -> list[tuple[str, str, str]]:
    """Where two JSON values differ: (path with * for numbers, value, value)."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = sorted(first.keys() | second.keys())
        return [each for key in keys for each in differences(first.get(key), second.get(key), f"{path}.{key}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [each for a, b in zip(first, second, strict=True) for each in differences(a, b, f"{path}.*")]
    return [] if first == second else [(path, str(first)[:100], str(second)[:100])]


def _pack(team: Sequence[PackedSet]) -> str:
    return "]".join(each.pack() for each in team)


if __name__ == "__main__":
    sys.exit(main())
