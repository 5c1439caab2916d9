"""Battles in process: from their seeds, on any number of workers, told as a server tells them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from arena_memory import resident_mb
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arena_battles import RandomPlayers, Story, begin, play, seats_for
from support.processes import eventually, is_running

from gemma_metamon.errors import ConfigError, MissingDependencyError, ServerError
from gemma_metamon.showdown.arena.arena import Arena, Seat
from gemma_metamon.showdown.arena.hidden import TRUTH
from gemma_metamon.showdown.arena.seeds import simulator_seed

pytestmark = pytest.mark.server
FORMATS = ("gen1ou", "gen9ou", "gen9randombattle")
posix = pytest.mark.skipif(os.name == "nt", reason="signals")


def stories(arena: Arena, seed: int) -> dict[str, Story]:
    for number in range(4):
        begin(arena, f"battle-{number}", "gen1ou" if number % 2 else "gen9randombattle", seed)
    return play(arena, RandomPlayers(seed))


@pytest.mark.slow
def test_a_seed_gives_the_same_battles_on_any_number_of_workers(arena: Arena) -> None:
    alone = stories(arena, seed=5)
    assert len(alone) == 4
    assert all(story.ended for story in alone.values())
    for workers in (2, 4):
        with Arena(workers) as other:
            assert stories(other, seed=5) == alone
    others = stories(arena, seed=6)
    assert all(others[battle].told != story.told for battle, story in alone.items())


@pytest.mark.parametrize("battle_format", FORMATS)
def test_an_input_log_plays_the_same_battle_again(arena: Arena, battle_format: str) -> None:
    begin(arena, "first", battle_format)
    first = play(arena)["first"]
    assert first.ended
    arena.replay("again", first.ended.inputs)
    again = play(arena)["again"]
    assert again.ended == first.ended
    assert again.told == first.told
    arena.replay("half", first.ended.inputs[: len(first.ended.inputs) // 2])
    (news,) = arena.receive()
    for seat, messages in news.told.items():
        assert messages == first.told[seat][: len(messages)]
    assert play(arena, first=[news])["half"].ended


def test_who_forfeits_has_lost_and_the_log_says_so(arena: Arena) -> None:
    begin(arena, "battle", "gen1ou")
    arena.receive()
    arena.send("battle", "p1", "/forfeit")
    (news,) = arena.receive()
    assert news.ended
    assert news.ended.winner == "p2"
    assert "\n".join(news.told["p2"]) == "|-message|Ann forfeited.\n|\n|win|Bob"
    arena.replay("again", news.ended.inputs)
    (again,) = arena.receive()
    assert again.ended == news.ended
    assert again.told["p2"][-2:] == news.told["p2"]


def test_a_refused_choice_is_told_to_its_seat_and_can_be_made_anew(arena: Arena) -> None:
    begin(arena, "battle", "gen1ou")
    arena.receive()
    arena.send("battle", "p1", "/choose move 9")
    (news,) = arena.receive()
    assert list(news.told) == ["p1"]
    assert news.told["p1"][0].startswith("|error|[Invalid choice] Can't move: Your ")
    for seat in ("p1", "p2"):
        arena.send("battle", seat, "/choose move 1|99")
        (news,) = arena.receive()
        assert "too late" in news.told[seat][0]
        arena.send("battle", seat, "/choose move 1")
    (news,) = arena.receive()
    assert "|turn|2" in news.told["p1"][0] or "|request|" in news.told["p1"][1]


@settings(max_examples=40)
@given(message=st.one_of(st.text(max_size=40), st.text(max_size=20).map("/choose {}".format)))
def test_whatever_a_player_says_the_battle_goes_on(arena: Arena, message: str) -> None:
    begin(arena, "battle", "gen1ou")
    arena.receive()
    for seat in ("p1", "p2"):
        arena.send("battle", seat, message)
    news = arena.receive(at_least=99)
    assert not [each.lost for each in news if each.lost]
    arena.send("battle", "p1", "/forfeit")
    assert [each.ended.winner for each in arena.receive() if each.ended] == ["p2"]


def test_some_battles_are_settled_and_news_of_others_are_kept(arena: Arena) -> None:
    for battle in ("a", "b", "c"):
        begin(arena, battle, "gen1ou")
    assert [news.battle for news in arena.settle(["b"])] == ["b"]
    assert {news.battle for news in arena.settle(["a", "c"])} == {"a", "c"}
    arena.send("a", "p1", "/choose move 1")
    assert arena.settle(["a"]) == []  # the other seat must choose, too
    arena.send("b", "p1", "/forfeit")
    arena.send("a", "p2", "/forfeit")
    assert [news.battle for news in arena.settle(["a"])] == ["a"]
    assert [news.ended.winner for news in arena.receive() if news.ended] == ["p2"]  # of b, kept or still to come
    assert arena.settle(["a", "b", "nobody"]) == []


def test_news_come_singly_or_by_as_many_as_are_wanted(arena: Arena) -> None:
    assert arena.receive() == []
    for number in range(4):
        begin(arena, str(number), "gen1ou")
    assert len(arena.receive(at_least=4)) == 4
    for number in range(3):
        arena.send(str(number), "p1", "/choose move 1")
    assert arena.receive() == []  # both must choose
    for number in range(3):
        arena.send(str(number), "p2", "/choose move 1")
    assert {news.battle for news in arena.receive(at_least=9)} == {"0", "1", "2"}
    arena.drop("3")
    arena.send("3", "p1", "/choose move 1")
    assert arena.receive() == []
    assert arena.battles == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("battle_format", "change", "words"),
    [
        ("gen1nonsense", {}, 'there is no format "gen1nonsense"'),
        ("gen9doublesou", {}, "gen9doublesou is no singles format"),
        ("gen1ou", {"team": None}, "gen1ou wants teams, and Ann brings none"),
        (
            "gen1ou",
            {"team": "Mewtwo|||NoAbility|Psychic|||||||"},
            "Ann's team is not valid for gen1ou: Mewtwo is tagged Uber, which is banned.",
        ),
        ("gen1ou", {"team": "]|]|"}, "Ann's team is not valid for gen1ou: "),
        ("gen1ou", {"name": "Bob"}, "both players are called Bob"),
        ("gen9randombattle", {"seed": None, "team": None}, "has no seed"),
        ("gen9randombattle", {}, "gen9randombattle gives out its teams, and Ann brings one"),
    ],
)
def test_what_the_simulator_refuses_it_refuses_in_its_own_words(
    arena: Arena, battle_format: str, change: dict[str, str], words: str
) -> None:
    ann, bob = seats_for("gen1ou", "battle")
    ann = Seat(**{"name": ann.name, "team": ann.team, **change})  # type: ignore[arg-type]
    arena.start("battle", battle_format=battle_format, seed=simulator_seed(0), seats=(ann, bob))
    (news,) = arena.receive()
    assert news.lost
    assert news.lost.startswith("the simulator refuses battle: ")
    assert words in news.lost
    assert "\n" not in news.lost
    assert not arena.battles


def test_wrong_calls_are_refused_before_anything_is_sent(arena: Arena) -> None:
    begin(arena, "battle", "gen1ou")
    with pytest.raises(ConfigError, match="a battle called 'battle' is in play already"):
        begin(arena, "battle", "gen1ou")
    with pytest.raises(ConfigError, match="no seat 'p3'"):
        arena.fork("battle", "copy", seat="p3", seed=simulator_seed(0), hidden=TRUTH)
    arena.receive()
    arena.send("battle", "p1", "/forfeit")
    with pytest.raises(ConfigError, match="0 workers"):
        Arena(0)
    # given before it was known to be over
    arena.fork("battle", "copy", seat="p1", seed=simulator_seed(0), hidden=TRUTH)
    ended, refused = arena.receive(at_least=2)
    assert ended.ended
    assert refused.lost == "the simulator refuses copy: a battle that is over cannot be forked"
    with pytest.raises(ConfigError, match="'battle' is not in play: only a battle that has begun and not ended"):
        arena.fork("battle", "copy", seat="p1", seed=simulator_seed(0), hidden=TRUTH)


@posix
def test_a_missing_or_old_node_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"needs Node\.js, and no `node` was found"):
        Arena()
    (tmp_path / "node").write_text("#!/bin/sh\necho v16.20.0\n")
    (tmp_path / "node").chmod(0o755)
    with pytest.raises(MissingDependencyError, match=r"found Node\.js v16\.20\.0"):
        Arena()


@posix
def test_a_node_that_cannot_run_the_simulator_is_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "node").write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo v20.0.0 && exit\necho Error: broken >&2; exit 3\n"
    )
    (tmp_path / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with Arena() as arena:
        begin(arena, "battle", "gen9randombattle")
        with pytest.raises(ServerError, match=r"does not run here: its process ended with 3 \(Error: broken\)"):
            arena.receive()


@pytest.mark.slow
@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_loses_its_battles_by_name_and_is_replaced(how: signal.Signals) -> None:
    with Arena(2, silence_timeout_s=20 if how == signal.SIGKILL else 3) as arena:
        for number in range(4):
            begin(arena, str(number), "gen1ou")
        first = arena.receive(at_least=4)
        assert len(first) == 4
        victim = arena.process_ids[0]
        os.kill(victim, how)
        played = play(arena, first=first)
        lost = {battle: story.lost for battle, story in played.items() if story.lost}
        assert sorted(lost) == ["0", "2"]
        why = "was" if how == signal.SIGKILL else "said nothing for 3 seconds and was"
        assert lost["2"] == f"2 is lost: worker {victim}, which played it, {why} ended by signal 9"
        assert all(story.ended for battle, story in played.items() if battle not in lost)
        assert len(set(arena.process_ids) - {victim}) == 2
        for number in range(4, 6):
            begin(arena, str(number), "gen1ou")
        assert all(story.ended for story in play(arena).values())
        pids = arena.process_ids
    assert not any(is_running(pid) for pid in pids)


@posix
def test_a_hanging_worker_does_not_hold_up_who_gives_it_more_than_its_pipe_holds() -> None:
    with Arena(silence_timeout_s=2) as arena:
        begin(arena, "first", "gen1ou")
        arena.receive()
        os.kill(arena.process_ids[0], signal.SIGSTOP)
        names = {f"{number:03}" for number in range(400)}
        for name in names:
            begin(arena, name, "gen1ou")
        lost = {news.battle for news in arena.receive(at_least=401) if news.lost}
        assert lost == names | {"first"}


@pytest.mark.slow
@posix
def test_the_workers_end_with_their_parent_even_where_its_child_holds_the_pipes() -> None:
    code = (
        "import os, time; from gemma_metamon.showdown.arena.arena import Arena\n"
        "arena = Arena(2); pids = arena.process_ids\n"
        "child = os.fork()\n"
        "if not child: time.sleep(600)\n"
        "print(child, *pids, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child, *workers = map(int, parent.stdout.readline().split())
    assert all(is_running(pid) for pid in workers)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        eventually(lambda: not any(is_running(pid) for pid in workers))
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.long
def test_memory_stays_over_some_hundred_battles() -> None:
    with Arena() as arena:
        after = []
        for hundred in range(3):
            for number in range(100):
                begin(arena, f"{hundred}-{number}", "gen1ou")
                if number % 10 == 9:
                    play(arena)
            after.append(resident_mb(arena.process_ids[0]))
    assert after[2] < after[0] + 60, after
