"""A battle's log as a page: what happened in words, both teams after each turn, and nothing loaded or let out."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from poke_env.battle import Battle
from support.pages import Page, after_scripts, loads, needs_chromium

from gemma_metamon.reports.battle_log import read_log
from gemma_metamon.reports.battle_words import STATUSES
from gemma_metamon.reports.replay_page import replay_page

# two as spectators saw them, one as a player's own connection received it
LOGS = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "battle_logs").iterdir())
}
GENERATIONS = {"gen1_spectator": 1, "gen4_spectator": 4, "gen9ou_player": 9}
NOT_FOR_POKE_ENV = {"", "t:", "j", "init", "title", "win"}


def log_of(page: Page) -> str:
    """As Showdown's viewer reads it (replay-embed.js)."""
    (script,) = page.all("script", class_="battle-log-data", type="text/plain")
    return script.text.replace("\\/", "/")


@pytest.mark.parametrize("name", LOGS)
def test_all_that_happens_in_a_battle_has_words(name: str) -> None:
    events = [event for turn in read_log(LOGS[name]).turns for event in turn.events]
    assert len(events) > 50
    assert [event.text for event in events if event.weight == "raw"] == []


@pytest.mark.parametrize("name", LOGS)
def test_the_teams_after_each_turn_are_as_poke_env_reads_them(name: str) -> None:
    lines = LOGS[name].splitlines()
    user = next(line.split("|")[3] for line in lines if line.startswith("|player|p1|"))
    battle = Battle("battle", user, logging.getLogger("test"), gen=GENERATIONS[name])
    turns = iter(read_log(LOGS[name]).turns)
    for line in [*lines, "|turn|end"]:
        message = line.split("|")
        if message[1] == "turn":
            for side, theirs in zip(next(turns).sides, (battle.team, battle.opponent_team), strict=True):
                ours = {m.name: (m.hp, m.status, m.active) for m in side.members if m.seen}
                assert ours.keys() == {ident.split(": ")[1] for ident in theirs}
                for ident, pokemon in theirs.items():
                    status = pokemon.status.name.lower() if pokemon.status else ""
                    hp, our_status, active = ours[ident.split(": ")[1]]
                    assert hp == pytest.approx(pokemon.current_hp_fraction, abs=1e-9)
                    assert our_status == ("" if status == "fnt" else status)
                    assert active == (pokemon.active and status != "fnt")
        if message[1] not in NOT_FOR_POKE_ENV and message[2:] != ["end"]:
            battle.parse_message(message)
    assert next(turns, None) is None


def test_words_say_who_what_and_why() -> None:
    log = """|player|p1|x1|1|
|player|p2|x2|2|
|switch|p1a: Bully|Tauros, M|263/353 par
|switch|p2a: Landorus|Landorus-Therian, M|100/100
|turn|1
|move|p1a: Bully|Body Slam|p2a: Landorus
|-damage|p2a: Landorus|58/100
|-heal|p2a: Landorus|64/100|[from] item: Leftovers
|-boost|p2a: Landorus|atk|2
|cant|p1a: Bully|par
|-newthing|p1a: Bully|5
|win|x2"""
    story = read_log(log, {"p1": "first@2", "p2": "RandomPlayer"})
    assert story.winner == "RandomPlayer"
    assert [[event.text for event in turn.events] for turn in story.turns] == [
        ["first@2 sent out Bully (Tauros), 75 % of its HP left", "RandomPlayer sent out Landorus-Therian"],
        [
            "first@2's Bully used Body Slam",
            "RandomPlayer's Landorus lost 42 % of its HP, 58 % left",
            "RandomPlayer's Landorus regained 6 % of its HP, 64 % left (Leftovers)",
            "RandomPlayer's Landorus's Attack rose by 2 stages",
            "first@2's Bully is fully paralyzed",
            "|-newthing|p1a: Bully|5",
            "RandomPlayer won the battle",
        ],
    ]
    assert story.turns[1].events[5].weight == "raw"


def test_of_an_event_told_twice_the_exact_one_is_read() -> None:
    log = "|switch|p1a: A|A|100/100\n|split|p1\n|-damage|p1a: A|33/300\n|-damage|p1a: A|11/100\n|-damage|p1a: A|30/300"
    (turn,) = read_log(log).turns
    assert turn.sides[0].members[0].hp == pytest.approx(0.1)
    assert len(turn.events) == 3


@pytest.mark.parametrize("name", LOGS)
def test_the_page_loads_nothing_and_holds_the_whole_log(name: str) -> None:
    page = replay_page(LOGS[name], "Ann against Bob")
    assert loads(page) == []
    assert log_of(Page(page)) == LOGS[name]


def test_nothing_in_a_log_or_a_title_becomes_part_of_the_page() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    log = f"|player|p1|{evil}|1|\n|switch|p1a: {evil}|{evil}|100/100\n|c|{evil}|{evil}\n|{evil}"
    page = Page(replay_page(log, evil))
    assert len(page.all("script")) == 3
    assert not page.all("img")
    assert page.all("h1")[0].text == evil
    assert log_of(page) == log


KINDS = [
    "move",
    "switch",
    "drag",
    "replace",
    "detailschange",
    "-formechange",
    "-mega",
    "-terastallize",
    "-curestatus",
    "-cureteam",
    "-sethp",
    "-damage",
    "-heal",
    "-status",
    "faint",
    "turn",
    "poke",
    "teamsize",
    "player",
    "win",
    "-boost",
]
fields = st.sampled_from(
    ["p1a: A", "p2: B", "p3a: C", "p1", "A, L5", "50/100", "1/0", "0 fnt", "x", "", "[from] x", "3"]
)
messages = st.builds(
    lambda kind, rest: "|".join(["", kind, *rest]), st.sampled_from(KINDS), st.lists(fields, max_size=4)
)


@given(st.lists(messages | st.text(max_size=20), max_size=12))
def test_any_log_makes_a_page(lines: list[str]) -> None:
    page = replay_page("\n".join(lines), "any")
    assert loads(page) == []


@needs_chromium
def test_in_a_browser_both_teams_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "battle.html"
    path.write_text(replay_page(LOGS["gen9ou_player"], "Agent against Random", {"p1": "Agent"}), encoding="utf-8")
    page = after_scripts(path, tmp_path)
    shown = [element.text for element in page.all("h3", class_="")]
    assert shown[0] == "Agent"
    assert len([e for e in page.all("div") if e.attributes.get("class", "").startswith("member")]) == 12
    assert [e.text for e in page.all("output")] == ["Before the first turn"]


def test_the_page_and_the_story_use_the_same_words_for_a_status() -> None:
    page = replay_page("", "empty")
    for status, words in STATUSES.items():
        assert f'{status}: "{words}"' in page
