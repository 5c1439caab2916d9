"""Forks with the true team: copies that can be played on, with dice of their own, and without what has been chosen.

What a seat may know of the other team is in tests/showdown/matches/test_forks.py.
"""

import json
from typing import Any

import pytest
from support.arena_battles import RandomPlayers, Story, begin, play

from gemma_metamon.showdown.arena.arena import Arena, News, Seat
from gemma_metamon.showdown.arena.hidden import TRUTH
from gemma_metamon.showdown.arena.seeds import simulator_seed

pytestmark = [pytest.mark.server, pytest.mark.slow]
SEED = simulator_seed(1, "fork")


def fork(arena: Arena, source: str, copy: str, *, seat: str = "p1", seed: str = SEED) -> News:
    arena.fork(source, copy, seat=seat, seed=seed, hidden=TRUTH)
    news = next(news for news in arena.receive(at_least=99) if news.battle == copy)
    assert not news.lost
    return news


def turns(
    arena: Arena, *sides: tuple[str, str], teams: tuple[str, str], battle_format: str, seed: int, battle: str
) -> Story:
    """A battle in which the seats have said these pairs of messages, one after the other."""
    ann, bob = (Seat(name=name, team=team) for name, team in zip(("Ann", "Bob"), teams, strict=True))
    arena.start(battle, battle_format=battle_format, seed=simulator_seed(seed), seats=(ann, bob))
    story = Story()
    for pair in [None, *sides]:
        for seat, message in zip(("p1", "p2"), pair or (), strict=bool(pair)):
            if message:
                arena.send(battle, seat, message)
        for news in arena.receive(at_least=99):
            story.add(news)
    assert not story.lost, story.lost
    return story


def team(*sets: tuple[str, str, str, str]) -> str:
    """Packed, of (species, item, ability, moves)."""
    return "]".join(
        f"{name}||{item}|{ability}|{moves}|Serious|85,85,85,85,85,85||||100|" for name, item, ability, moves in sets
    )


@pytest.mark.parametrize(
    "battle_format", ["gen1ou", "gen2randombattle", "gen3randombattle", "gen4randombattle", "gen9ou"]
)
def test_every_decision_can_be_forked_and_played_to_the_end(arena: Arena, battle_format: str) -> None:
    begin(arena, "source", battle_format, seed=3)
    players, plain = RandomPlayers(3), RandomPlayers(3)
    copies: dict[str, News] = {}
    story, news, decisions = Story(), arena.receive(), 0
    while "source" in arena.battles:
        for each in news:
            story.add(each)
        decisions += 1
        if decisions % 4 == 0 and len(copies) < 8:
            name = f"copy {len(copies)}"
            copies[name] = fork(arena, "source", name, seat=("p1", "p2")[len(copies) % 2])
        for each in news:
            for seat, messages in each.told.items():
                if messages[-1].startswith("|request|"):
                    answer_one(arena, players, each.battle, seat, messages[-1])
        news = arena.receive(at_least=99)
    for each in news:
        story.add(each)
    played = play(arena, RandomPlayers(4), first=copies.values())
    assert len(played) > 3
    for copied in played.values():
        assert copied.ended, copied.lost
        assert not [line for line in copied.lines("p1") if "BUG THREAD" in line or "LIMIT" in line]
    begin(arena, "source", battle_format, seed=3)
    assert play(arena, plain)["source"] == story  # the source has not noticed


def answer_one(arena: Arena, players: RandomPlayers, battle: str, seat: str, message: str) -> None:
    choice = players(battle, seat, json.loads(message[len("|request|") :]))
    if choice is not None:
        arena.send(battle, seat, choice)


def test_a_fork_draws_from_its_seed_alone(arena: Arena) -> None:
    begin(arena, "source", "gen1ou")
    arena.receive()
    first = [
        fork(arena, "source", name, seed=seed) for name, seed in (("a", SEED), ("b", SEED), ("c", simulator_seed(2)))
    ]
    arena.drop("source")
    players = {name: RandomPlayers(0) for name in "abc"}
    played = play(arena, lambda battle, seat, request: players[battle]("same", seat, request), first=first)
    assert played["a"].told == played["b"].told
    assert played["a"].told != played["c"].told


def test_a_fork_of_a_fork_has_no_inputs_that_would_tell_the_team(arena: Arena) -> None:
    begin(arena, "source", "gen1ou")
    arena.receive()
    copies = [fork(arena, "source", "copy", seat="p2"), fork(arena, "copy", "copy of it", seed=simulator_seed(3))]
    for battle in ("source", "copy"):
        arena.drop(battle)
    story = play(arena, RandomPlayers(5), first=copies[1:])["copy of it"]
    assert story.ended
    assert story.ended.inputs == ()


def test_what_the_other_seat_has_chosen_already_is_not_in_the_fork(arena: Arena) -> None:
    begin(arena, "source", "gen1ou")
    arena.receive()
    arena.send("source", "p2", "/choose move 1")
    news = fork(arena, "source", "copy")
    assert all(len(messages) == 1 for messages in news.told.values())
    arena.send("copy", "p1", "/choose move 1")
    assert arena.receive() == []
    arena.send("copy", "p2", "/choose move 2")
    assert arena.receive()
    for battle in ("source", "copy"):
        arena.drop(battle)


KISSER = team(
    ("Jynx", "", "No Ability", "LovelyKiss,Psychic,Rest,Blizzard"), ("Chansey", "", "No Ability", "SeismicToss")
)
SLEEPER = team(("Snorlax", "", "No Ability", "BodySlam,Rest"), ("Tauros", "", "No Ability", "BodySlam"))


def rest_on(battle: str, seat: str, request: dict[str, Any]) -> str:
    return "/choose move rest" if seat == "p1" else "/choose default"


def turns_asleep(story: Story) -> int:
    return story.lines("p1").count("|cant|p2a: Snorlax|slp")


def test_how_long_a_sleep_lasts_in_a_fork_is_drawn_anew_among_what_was_seen(arena: Arena) -> None:
    """In all of these battles the same was seen, though the sleep was to last for different times."""
    seen: dict[str, list[str]] = {}
    for seed in range(16):
        moves = ("/choose move lovelykiss", "/choose move bodyslam"), ("/choose move rest", "/choose move bodyslam")
        seen[str(seed)] = turns(
            arena, *moves, battle_format="gen1customgame", teams=(KISSER, SLEEPER), seed=seed, battle=str(seed)
        ).lines("p1")
    usual = max(seen.values(), key=list(seen.values()).count)
    assert "|cant|p2a: Snorlax|slp" in usual
    alike = [battle for battle, lines in seen.items() if lines == usual]
    for battle in seen.keys() - alike:
        arena.drop(battle)
    copies = [fork(arena, battle, f"{battle} {i}", seed=simulator_seed(i)) for i in range(8) for battle in alike]
    for battle in alike:
        for seat, message in (("p1", "rest"), ("p2", "bodyslam")):
            arena.send(battle, seat, f"/choose move {message}")

    def awake(stories: dict[str, Story]) -> bool:
        return all(
            turns_asleep(story) < len([line for line in story.lines("p1") if line.startswith("|turn|")]) or story.ended
            for story in stories.values()
        ) and len(stories) == 9 * len(alike)

    stories = play(arena, rest_on, first=copies, until=awake)
    for battle in arena.battles:
        arena.drop(battle)
    assert len({turns_asleep(stories[battle]) for battle in alike}) > 1
    lengths = set()
    for i in range(8):
        (same, *others) = [stories[f"{battle} {i}"] for battle in alike]
        shortest = min(len(story.told["p1"]) for story in (same, *others))
        assert all(other.told["p1"][:shortest] == same.told["p1"][:shortest] for other in others)
        lengths.add(turns_asleep(same))
    assert len(lengths) > 2


LEAVER = team(
    ("Ninjask", "", "Speed Boost", "UTurn,Protect"), ("Blissey", "", "Natural Cure", "Softboiled,SeismicToss")
)
STAYER = team(("Bronzong", "", "Levitate", "FlashCannon,CalmMind,Earthquake"), ("Snorlax", "", "Immunity", "Rest"))


def test_what_the_other_seat_has_still_to_do_this_turn_is_any_of_its_moves_in_the_fork(arena: Arena) -> None:
    """Ann has seen her U-turn only; what Bob has chosen is not hers to know, and so does not show in her forks."""
    stories: dict[str, Story] = {}
    for chosen in ("flashcannon", "calmmind"):
        moves = ("/choose move uturn", f"/choose move {chosen}")
        turns(arena, moves, battle_format="gen4customgame", teams=(LEAVER, STAYER), seed=7, battle=chosen)
        for i in range(12):
            news = fork(arena, chosen, f"{chosen} {i}", seed=simulator_seed(i))
            assert '"forceSwitch"' in news.told["p1"][0]
            assert '"wait"' in news.told["p2"][0]
            stories[news.battle] = Story()
    for copy in stories:
        arena.send(copy, "p1", "/choose switch 2")
    for news in arena.receive(at_least=99):
        stories[news.battle].add(news)
    used = set()
    for i in range(12):
        assert stories[f"flashcannon {i}"].told == stories[f"calmmind {i}"].told
        lines = stories[f"calmmind {i}"].lines("p1")
        assert "|turn|2" in lines
        used |= {line.split("|")[3] for line in lines if line.startswith("|move|p2a")}
    assert used == {"Flash Cannon", "Calm Mind", "Earthquake"}


TRAPPER = team(("Dugtrio", "", "Arena Trap", "Earthquake,Substitute"), ("Blissey", "", "Natural Cure", "Softboiled"))


def test_what_a_refusal_has_told_a_seat_it_knows_in_its_fork_and_the_other_seat_does_not(arena: Arena) -> None:
    story = turns(
        arena,
        ("", "/choose switch 2"),
        battle_format="gen4customgame",
        teams=(TRAPPER, SLEEPER),
        seed=0,
        battle="source",
    )
    error, request = story.told["p2"][-2:]
    assert error.startswith("|error|[Unavailable choice] Can't switch: The active Pokémon is trapped")
    assert '"trapped":true' in request
    for seat in ("p1", "p2"):
        copied = fork(arena, "source", seat, seat=seat)
        assert ('"trapped":true' in copied.told["p2"][0]) == (seat == "p2")
    arena.send("p2", "p2", "/choose switch 2")
    (refused,) = arena.receive()
    assert refused.told["p2"][0].startswith("|error|[Invalid choice]")
