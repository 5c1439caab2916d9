"""Forks hold what their seat was told, and no more: battles that look alike to it have the same forks."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from check_forks import ALL, Checks, differences, watch_forks
from support.arena_battles import RandomPlayers, begin, play, teams_for

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.arena.arena import Arena, News, Seat
from gemma_metamon.showdown.arena.hidden import TRUTH, HiddenPokemon
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.live.seen import revealed, seen_side
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.showdown.matches.forks import fork_for, hidden_team, sample_hidden
from gemma_metamon.showdown.matches.samplers import unpack_team

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def watched() -> Iterator[Arena]:
    """An arena whose forks tell their states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_OPTIONS", "")  # to be as it was as soon as the worker has begun
        watch_forks()
        arena = Arena()
    with arena:
        yield arena


@pytest.mark.parametrize(
    ("battle_format", "wild"),
    [
        ("gen1ou", True),
        ("gen2randombattle", True),
        ("gen3randombattle", False),
        ("gen4randombattle", True),
        ("gen6randombattle", False),
        ("gen7randombattle", True),
        ("gen8randombattle", False),
        ("gen9ou", False),
        ("gen9randombattle", True),
    ],
)
def test_battles_that_look_alike_have_the_same_forks(watched: Arena, battle_format: str, wild: bool) -> None:
    """More of them: python scripts/check_forks.py --formats gen1ou gen9ou --battles 500 [--wild]."""
    checks = Checks(watched, battle_format, wild=wild, turns=12)
    number = 0
    while checks.forks < 8:
        checks.play_pair(number)
        number += 1
    assert not checks.faults, checks.first


def test_the_truth_is_told_apart(watched: Arena) -> None:
    """So the comparison sees what is hidden."""
    team = teams_for("gen1ou")[0]
    lead, *bench = unpack_team(team, 1)
    other = [lead, *(replace(each, evs="4,4,4,4,4,4") for each in bench)]
    states = []
    for battle, theirs in (("first", team), ("second", "]".join(each.pack() for each in other))):
        table = Seat(name="Ann", team=team), Seat(name="Bob", team=theirs)
        watched.start(battle, battle_format="gen1ou", seed=simulator_seed(0), seats=table)
        watched.receive(at_least=ALL)
        watched.fork(battle, f"fork of {battle}", seat="p1", seed=simulator_seed(0), hidden=TRUTH)
        (news,) = watched.receive(at_least=ALL)
        states.append(json.loads(news.told["p1"][0].removeprefix("|state|")))
        for name in (battle, f"fork of {battle}"):
            watched.drop(name)
    assert {path.split(".")[1] for path, *_ in differences(*states)} == {"sides"}


class Watcher:
    """A battle of random players, and one seat of it that reads what it is told."""

    def __init__(self, arena: Arena, checks: Checks, battle_format: str, number: int) -> None:
        self.arena = arena
        self.tag = f"battle-{battle_format}-{number}"
        self.seat = ArenaSeat(self.tag, checks.player, random.Random(0))
        self.request: dict[str, Any] = {}
        self._players = RandomPlayers(number)
        begin(arena, self.tag, battle_format, seed=number)

    def go_on(self) -> bool:
        """One step; whether the battle is still in play. The requests have not been answered then."""
        self.asked: dict[str, dict[str, Any]] = {}
        for news in self.arena.receive(at_least=ALL):
            self.seat.read(news.told.get("p1", ()))
            for seat, messages in news.told.items():
                if messages[-1].startswith("|request|"):
                    self.asked[seat] = json.loads(messages[-1][len("|request|") :])
        self.request = self.asked.get("p1", {"wait": True})
        return self.tag in self.arena.battles

    def answer(self) -> None:
        for seat, request in self.asked.items():
            choice = self._players(self.tag, seat, request)
            if choice is not None:
                self.arena.send(self.tag, seat, choice)


def first_news(arena: Arena, battle: str) -> News:
    return next(news for news in arena.receive(at_least=ALL) if news.battle == battle)


@pytest.mark.parametrize("battle_format", ["gen1ou", "gen3randombattle", "gen5randombattle", "gen9ou"])
def test_a_fork_shows_its_seat_what_the_battle_shows(arena: Arena, battle_format: str) -> None:
    """The same request; and the first turn in the fork begins from the HP that were shown."""
    checks = Checks(arena, battle_format)
    watcher = Watcher(arena, checks, battle_format, 5)
    n_forks = 0
    while watcher.go_on() and n_forks < 12:
        if not watcher.request.get("wait") and not watcher.request.get("teamPreview"):
            n_forks += 1
            copy = f"copy {n_forks}"
            hidden = fork_for(arena, watcher.seat.battle, copy, sampler=checks.sampler, seed=n_forks)
            news = first_news(arena, copy)
            assert not news.lost, news.lost
            (told,) = news.told["p1"]
            request = json.loads(told.removeprefix("|request|"))
            assert {**request, "rqid": 0} == {**watcher.request, "rqid": 0}
            theirs = json.loads(news.told["p2"][0].removeprefix("|request|"))["side"]["pokemon"]
            seen = list(revealed(seen_side(watcher.seat.battle)))
            for pokemon, shown in zip(theirs, seen, strict=False):
                assert pokemon["ident"] == shown.ident
                hp, whole = (float(part) for part in f"{pokemon['condition'].split(' ')[0]}/1".split("/")[:2])
                part, all_of_it = (float(part) for part in f"{shown.condition.split(' ')[0]}/1".split("/")[:2])
                assert abs(hp / whole - part / all_of_it) <= 1 / all_of_it
                if hp:
                    assert pokemon["condition"].split(" ")[1:] == shown.condition.split(" ")[1:]
            for each, shown in zip(hidden, seen, strict=False):
                (guess,) = unpack_team(each.packed, checks.gen)
                assert all(any(own.startswith(move) for own in guess.moves) for move in shown.uses)
            arena.drop(copy)
        watcher.answer()
    arena.drop(watcher.tag)
    assert n_forks > 5


def test_as_many_have_fainted_in_a_fork_as_were_seen_to(arena: Arena) -> None:
    """And none of those that were not on the field yet: both sides make the first legal choice, and switch seldom."""
    checks = Checks(arena, "gen1ou")
    watcher = Watcher(arena, checks, "gen1ou", 5)
    most = 0
    while watcher.go_on() and most < 2:
        seen = seen_side(watcher.seat.battle)
        n_fainted = sum(shown.condition == "0 fnt" for shown in seen.pokemon)
        if watcher.request.get("active") and n_fainted > most:
            most = n_fainted
            assert len(seen.pokemon) < seen.team_size
            fork_for(arena, watcher.seat.battle, "copy", sampler=checks.sampler, seed=0)
            theirs = json.loads(first_news(arena, "copy").told["p2"][0].removeprefix("|request|"))["side"]["pokemon"]
            assert sum(each["condition"] == "0 fnt" for each in theirs) == n_fainted
            arena.drop("copy")
        for seat in watcher.asked:
            arena.send(watcher.tag, seat, "/choose default")
    arena.drop(watcher.tag)
    assert most == 2


def test_the_states_of_a_fork_go_on_from_those_of_the_battle(arena: Arena) -> None:
    """A seat that has read the battle reads on in its fork, as search does: nothing has jumped."""
    checks = Checks(arena, "gen1ou")
    watcher = Watcher(arena, checks, "gen1ou", 2)
    while watcher.go_on():
        if len(seen_side(watcher.seat.battle).pokemon) > 2 and watcher.request.get("active"):
            break
        watcher.answer()
    before = live_battle(watcher.seat.battle).state
    fork_for(arena, watcher.seat.battle, "copy", sampler=checks.sampler, seed=0)
    news = first_news(arena, "copy")
    watcher.seat.read(news.told["p1"])
    after = live_battle(watcher.seat.battle).state
    assert after == before
    arena.drop(watcher.tag)
    arena.drop("copy")


@pytest.mark.parametrize("gen", range(1, 10))
def test_forks_are_played_to_their_end(arena: Arena, gen: int) -> None:
    battle_format = "gen1ou" if gen == 1 else f"gen{gen}randombattle"
    checks = Checks(arena, battle_format)
    watcher = Watcher(arena, checks, battle_format, gen)
    copies: list[News] = []
    step = 0
    while watcher.go_on():
        step += 1
        if step % 7 == 3 and not watcher.request.get("wait") and len(copies) < 5:
            fork_for(arena, watcher.seat.battle, f"copy {step}", sampler=checks.sampler, seed=step)
            copies.append(first_news(arena, f"copy {step}"))
        watcher.answer()
    for story in play(arena, RandomPlayers(gen), first=copies).values():
        assert story.ended, story.lost
        assert story.ended.inputs == ()
        assert not [line for line in story.lines("p1") if "BUG THREAD" in line]


class Stubborn:
    """Gives what it was given."""

    def __init__(self, sets: list[str]) -> None:
        self.sets = sets

    def sample(self, seen: object, draws: random.Random) -> list[str]:
        return self.sets


def test_a_team_that_was_not_seen_is_refused_in_one_sentence(arena: Arena) -> None:
    checks = Checks(arena, "gen1ou")
    watcher = Watcher(arena, checks, "gen1ou", 0)
    while watcher.go_on():
        if len(seen_side(watcher.seat.battle).pokemon) > 1:
            break
        watcher.answer()
    battle, seen = watcher.seat.battle, seen_side(watcher.seat.battle)
    good = checks.sampler.sample(seen, dice(0))
    lead, second = revealed(seen)
    (right,) = unpack_team(good[0], 1)
    wrong = replace(right, species="magikarp").pack()
    dull = replace(right, moves=("splash",)).pack()
    for sets, words in (
        (good[:-1], "the sampler gives 5 Pokémon for a team of 6"),
        ([*good, good[-1]], "the sampler gives 7 Pokémon for a team of 6"),
        ([wrong, *good[1:]], f"the sampler's set for {lead.ident} is magikarp, and was seen as {lead.species}"),
        ([dull, *good[1:]], f"the sampler's set for {lead.ident} lacks {next(iter(lead.uses), '')}"),
    ):
        if "lacks" in words and not lead.uses:
            continue
        with pytest.raises(ConfigError, match=words):
            fork_for(arena, battle, "copy", sampler=Stubborn(sets), seed=0)
    hidden = hidden_team(seen, good)
    swapped = [hidden[1], hidden[0], *hidden[2:]]
    unknown = [*hidden[:-1], HiddenPokemon(packed="nobody")]
    forgotten = [hidden[0], replace(hidden[1], ident=None), *hidden[2:]]
    for team, words in (
        (hidden[:-1], "the hidden team has 5 Pokémon, but p2 has 6 Pokémon"),
        (swapped, f"must begin with the Pokémon on the field, and begins with {second.ident}"),
        (unknown, '"nobody" is no packed Pokémon with moves'),
        (forgotten, f"the hidden team lacks {second.ident}, which was seen"),
    ):
        arena.fork(watcher.tag, "copy", seat="p1", seed=simulator_seed(0), hidden=team)
        lost = first_news(arena, "copy").lost
        assert lost is not None
        assert lost.startswith("the simulator refuses copy: ")
        assert words in lost
    arena.send(watcher.tag, "p1", "/forfeit")
    watcher.go_on()
    with pytest.raises(ConfigError, match=f"{watcher.tag} is over"):
        fork_for(arena, battle, "copy", sampler=checks.sampler, seed=0)


def test_the_guess_follows_from_the_seed(arena: Arena) -> None:
    checks = Checks(arena, "gen1ou")
    watcher = Watcher(arena, checks, "gen1ou", 1)
    watcher.go_on()
    seen = seen_side(watcher.seat.battle)
    teams = [sample_hidden(seen, checks.sampler, dice(seed)) for seed in (0, 0, 1, 2, 3)]
    assert teams[0] == teams[1]
    assert len({team[1].packed for team in teams}) > 1
    arena.drop(watcher.tag)


def custom(arena: Arena, tag: str, ours: str, theirs: str, *choices: tuple[str, str]) -> list[str]:
    """What p1 was told of a battle of these packed Pokémon, after these choices."""
    table = Seat(name="Ann", team=ours), Seat(name="Bob", team=theirs)
    arena.start(tag, battle_format=f"{tag.split('-')[1]}", seed=simulator_seed(0), seats=table)
    told = [message for news in arena.receive(at_least=ALL) for message in news.told["p1"]]
    for pair in choices:
        for seat, choice in zip(("p1", "p2"), pair, strict=True):
            arena.send(tag, seat, f"/choose {choice}")
        told += [message for news in arena.receive(at_least=ALL) for message in news.told.get("p1", ())]
    return told


PLAIN = "Snorlax|||Immunity|BodySlam,Rest|Serious|||||100|]Tauros|||Intimidate|BodySlam|Serious|||||100|"


def guess(packed: str, **more: Any) -> HiddenPokemon:
    return HiddenPokemon(packed=packed, **more)


def test_what_holds_a_pokemon_is_found_again_from_the_guess(arena: Arena) -> None:
    """A Dugtrio may have Arena Trap: who guesses that it has not may leave, in the fork."""
    trapper = "Dugtrio|||ArenaTrap|Earthquake|Serious|||||100|"
    custom(arena, "battle-gen4customgame-1", PLAIN, trapper, ("team 12", "team 1"))
    for ability, words in (("SandVeil", "|switch|p1a: Tauros"), ("ArenaTrap", "|error|[Unavailable choice]")):
        team = [guess(trapper.replace("ArenaTrap", ability), ident="p2: Dugtrio", condition="100/100")]
        arena.fork("battle-gen4customgame-1", ability, seat="p1", seed=simulator_seed(0), hidden=team)
        news = first_news(arena, ability)
        assert not news.lost, news.lost
        assert '"maybeTrapped":true' in news.told["p1"][0]
        for seat, choice in (("p1", "switch 2"), ("p2", "move 1")):
            arena.send(ability, seat, f"/choose {choice}")
        assert words in "\n".join(first_news(arena, ability).told["p1"])


def test_an_illusion_is_what_it_shows(arena: Arena) -> None:
    zoroark = "Zoroark|||Illusion|NightDaze|Serious|||M||100|"
    blissey = "Blissey|||NaturalCure|SeismicToss|Serious|||F||100|"
    tag = "battle-gen5customgame-1"
    told = custom(arena, tag, PLAIN, f"{zoroark}]{blissey}", ("team 12", "team 12"), ("move rest", "move 1"))
    assert any("|switch|p2a: Blissey" in message for message in told)
    team = [guess(blissey, ident="p2: Blissey", condition="100/100", uses={"nightdaze": 1}), guess(zoroark)]
    arena.fork(tag, "copy", seat="p1", seed=simulator_seed(0), hidden=team)
    news = first_news(arena, "copy")
    assert not news.lost, news.lost
    first, second = json.loads(news.told["p2"][0].removeprefix("|request|"))["side"]["pokemon"]
    assert (first["ident"], first["active"], first["moves"]) == ("p2: Blissey", True, ["seismictoss"])
    assert second["ident"] == "p2: Zoroark"


def test_a_guessed_choice_item_holds_its_pokemon_to_the_move_it_used(arena: Arena) -> None:
    free = "Garchomp|||SandVeil|Earthquake,Outrage|Serious|||M||100|"
    custom(arena, "battle-gen4customgame-2", PLAIN, free, ("team 12", "team 1"), ("move rest", "move 1"))
    for item, held in (("ChoiceScarf", True), ("Leftovers", False)):
        team = [guess(free.replace("|||", f"||{item}|", 1), ident="p2: Garchomp", uses={"earthquake": 1})]
        arena.fork("battle-gen4customgame-2", item, seat="p1", seed=simulator_seed(0), hidden=team)
        news = first_news(arena, item)
        assert not news.lost, news.lost
        moves = json.loads(news.told["p2"][0].removeprefix("|request|"))["active"][0]["moves"]
        assert [bool(move.get("disabled")) for move in moves] == [False, held]
        assert moves[0]["pp"] == moves[0]["maxpp"] - 1


END = "|-sideend|p2: Bob|Reflect"


@pytest.mark.parametrize("item", ["", "LightClay"])
def test_how_long_a_screen_stands_follows_from_the_guess(arena: Arena, item: str) -> None:
    """Whatever its user really holds."""
    bronzong = f"Bronzong||{item}|Levitate|Reflect,Rest|Serious|||N||100|"
    tag = f"battle-gen4customgame-3{item}"
    custom(arena, tag, PLAIN, bronzong, ("team 12", "team 1"), ("move rest", "move reflect"))
    for held, turns in (("", 5), ("LightClay", 8)):
        set_ = f"Bronzong||{held}|Levitate|Reflect,Rest|Serious|||N||100|"
        team = [guess(set_, ident="p2: Bronzong", condition="100/100", uses={"reflect": 1})]
        arena.fork(tag, f"copy {held}", seat="p1", seed=simulator_seed(0), hidden=team)
        stories = play(
            arena,
            lambda battle, seat, request: "/choose move rest",
            first=[first_news(arena, f"copy {held}")],
            until=lambda stories: any(END in story.lines("p1") for story in stories.values()),
        )
        lines = stories[f"copy {held}"].lines("p1")
        assert sum(line == "|upkeep" for line in lines[: lines.index(END)]) == turns - 2  # one has passed before
        arena.drop(f"copy {held}")
