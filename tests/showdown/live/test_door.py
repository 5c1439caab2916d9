"""Choices that the server refuses: counted, never sent twice at a request, and the battle goes on all the same."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, Player, RandomPlayer, SingleBattleOrder
from support.live_battles import battle_at
from support.live_goldens import quiet_logger
from support.node import needs_node
from support.team_files import pack_team

from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.live.deciding import is_refusal
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.matches.evaluate import Evaluation, evaluate
from gemma_metamon.showdown.matches.watching import _shows_progress
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.simulator.formats import find_teams
from gemma_metamon.showdown.simulator.server import Server

DITTO = """
Ditto @ Leftovers
Ability: Imposter
Tera Type: Ghost
EVs: 252 HP
- Transform

Cinderace @ Heavy-Duty Boots
Ability: Blaze
Tera Type: Fire
EVs: 252 HP / 252 Spe
Jolly Nature
- U-turn
"""


class Insisting(RandomPlayer):
    """Wants the same whatever the server says, and to begin with a Pokémon that it does not have."""

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        return SingleBattleOrder("/choose switch Missingno")

    def teampreview(self, battle: AbstractBattle) -> str:
        return "/team 9"


def played(server: Server, player: Contestant, battle_format: str, teams: list[str], **options: Any) -> Evaluation:
    battles = options.pop("battles", 2)
    return asyncio.run(
        evaluate(
            [(player, scripted("NoSwitchRandomPlayer"))],
            battles,
            battle_format=battle_format,
            teams=teams,
            websocket_url=server.websocket_url,
            **options,
        )
    )


@pytest.mark.server
@pytest.mark.slow
@needs_node
def test_a_ditto_that_has_taken_the_species_of_its_bench_is_left_for_it(server: Server) -> None:
    """By name, the server took the Pokémon on the bench for the Ditto on the field, a thousand times a turn."""
    result = played(server, scripted("RandomPlayer"), "gen9ou", [pack_team(DITTO)], battles=6).pairs[0]
    assert result.players.battles == 6
    for side in (result.players, result.opponents):
        assert side.choices.sent > 0
        assert side.choices.refused == 0


@pytest.mark.server
@pytest.mark.slow
@needs_node
def test_who_insists_on_what_is_refused_is_refused_once_and_plays_on(server: Server) -> None:
    _, teams = find_teams("gen9ou", None)
    result = played(server, Contestant("Insisting", Insisting), "gen9ou", teams).pairs[0]
    assert result.players.battles == 2
    choices, leads = result.players.choices, 2
    # at each request: the one it insists on, and the one that is made for it
    assert choices.sent == 2 * (choices.refused - leads) > 0


@pytest.mark.server
@pytest.mark.slow
@needs_node
def test_what_was_made_for_who_insists_is_what_is_recorded(server: Server, tmp_path: Path) -> None:
    _, teams = find_teams("gen1ou", None)
    collection = asyncio.run(
        collect(
            [Matchup(player=Contestant("Insisting", Insisting), opponent=scripted("RandomPlayer"), battles=1)],
            battle_format="gen1ou",
            teams=teams,
            websocket_url=server.websocket_url,
            out=tmp_path,
        )
    )
    assert collection.files == 2
    (own,) = [path for path in find_battles(tmp_path, ["gen1ou"]) if "_Insisting" in path.name.split("_vs_")[0]]
    battle = load_battle(own)
    assert -1 not in battle.actions[:-1]
    # a turn in which neither can move leaves the state as it is; refused choices would have doubled every one
    repeated = sum(before == after for before, after in zip(battle.states, battle.states[1:], strict=False))
    assert repeated < len(battle.states) / 4


@pytest.mark.server
@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("battle_format", ["gen1randombattle", "gen9randombattle"])
def test_formats_that_give_out_teams_are_played_without(server: Server, tmp_path: Path, battle_format: str) -> None:
    found, teams = find_teams(battle_format, None)
    assert teams == []
    evaluation = played(server, scripted("SimpleHeuristicsPlayer"), found, teams, battles=3, out=tmp_path)
    assert evaluation.battles == 3
    rows = [json.loads(line) for line in (tmp_path / "battles.jsonl").read_text().splitlines()]
    assert [row["teams"] for row in rows] == [[None, None]] * 3


class Client:
    """What a door needs of a connection: who is told of a battle's messages."""

    def __init__(self) -> None:
        self.told: list[list[list[str]]] = []

    async def _on_battle_message(self, split_messages: list[list[str]]) -> None:
        self.told.append(split_messages)


class Offline(Insisting):
    def __init__(self) -> None:
        self.ps_client: Any = Client()


def refuse(player: Player, reason: str = "[Invalid choice] Can't move") -> None:
    asyncio.run(player.ps_client._on_battle_message([[">battle-gen9ou-1"], ["", "error", reason]]))


def choose(player: Player, battle: Battle) -> str:
    order: Any = player.choose_move(battle)
    return str(asyncio.run(order).message)


def at_request(rqid: int, **options: Any) -> Battle:
    battle = battle_at(**options)
    battle.last_request["rqid"] = rqid
    return battle


def test_no_choice_is_sent_twice_until_all_are_refused() -> None:
    player = Offline()
    open_door(player)
    battle, sent = at_request(1), []
    for _ in range(11):  # its own, nine legal ones and the server's
        sent.append(choose(player, battle))
        refuse(player)
    with pytest.raises(ServerError, match=r"refuses every choice in battle-gen9ou-1: .*/choose default"):
        choose(player, battle)
    assert len(set(sent)) == 11
    assert sent[0] == "/choose switch Missingno"
    assert sent[-1] == "/choose default"


def test_a_new_request_forgets_what_was_refused_at_the_one_before() -> None:
    player = Offline()
    open_door(player)
    first, second = at_request(1), at_request(2)
    assert choose(player, first) == "/choose switch Missingno"
    refuse(player)
    assert choose(player, first).startswith("/choose move")
    assert choose(player, second) == "/choose switch Missingno"


def test_a_request_that_is_made_anew_because_the_choice_was_unavailable_remembers_it() -> None:
    player = Offline()
    open_door(player)
    assert choose(player, at_request(1)) == "/choose switch Missingno"
    refuse(player, "[Unavailable choice] Can't switch: The active Pokémon is trapped")
    assert choose(player, at_request(2, trapped=True)).startswith("/choose move")


def test_errors_that_say_nothing_about_the_choice_ask_for_no_other() -> None:
    player = Offline()
    client: Client = player.ps_client
    open_door(player)
    battle = at_request(1)
    assert choose(player, battle) == "/choose switch Missingno"
    late = "[Invalid choice] Sorry, too late to make a different move; the next turn has already started"
    refuse(player, late)
    assert client.told == [[[">battle-gen9ou-1"]]]
    assert choose(player, battle) == "/choose switch Missingno"
    assert not is_refusal(late)


@pytest.mark.parametrize("answer", ["hello there", "", "/undo", "/choose move 1\n/choose move 2|foo", None, "text"])
def test_an_answer_that_is_no_choice_is_the_players_failure_and_never_sent(answer: str | None) -> None:
    class Rambling(Offline):
        def choose_move(self, battle: AbstractBattle) -> BattleOrder:
            return answer if answer in (None, "text") else SingleBattleOrder(answer)  # type: ignore[return-value]

    player = Rambling()
    open_door(player)
    with pytest.raises(ValueError, match=r"is no order; expected /choose move|expected poke-env's BattleOrder"):
        choose(player, at_request(1))


def test_who_would_end_the_program_fails_instead() -> None:
    class Leaving(Offline):
        def choose_move(self, battle: AbstractBattle) -> BattleOrder:
            raise SystemExit(3)

    player = Leaving()
    open_door(player)
    with pytest.raises(RuntimeError, match="wanted to end the program"):
        choose(player, at_request(1))


def test_who_makes_up_another_illegal_choice_each_time_is_asked_twice() -> None:
    class Inventive(Offline):
        asked = 0

        def choose_move(self, battle: AbstractBattle) -> BattleOrder:
            self.asked += 1
            return SingleBattleOrder(f"/choose switch Missingno{self.asked}")

    player = Inventive()
    open_door(player)
    battle, sent = at_request(1), []
    for _ in range(4):
        sent.append(choose(player, battle))
        refuse(player)
    sent.append(choose(player, battle))
    assert player.asked == 2
    assert sent[:2] == ["/choose switch Missingno1", "/choose switch Missingno2"]
    assert all(message.split()[1:2] == ["move"] and message[-1].isdigit() for message in sent[2:])
    choose(player, at_request(2))
    assert player.asked == 3


def test_a_door_is_opened_once() -> None:
    player = Offline()
    assert open_door(player) is open_door(player)


@pytest.mark.parametrize(
    ("message", "leads_on"),
    [
        ("|updateuser| Red|1|", True),
        ("|pm| Blue| Red|/challenge gen1ou", True),
        ("|pm| Blue| Red|hello", False),
        ("|popup|no", False),
        (">battle-gen1ou-1\n|init|battle", True),
        (">battle-gen1ou-1\n|turn|3", True),
        (">battle-gen1ou-1\n|request|{}", True),
        (">battle-gen1ou-1\n|error|[Invalid choice] Can't switch", False),
        (">battle-gen1ou-1\n|c|Blue|are you there?", False),
        (">battle-gen1ou-1\n|inactive|Blue has 120 seconds left.", False),
        (">battle-gen1ou-1\n|request|", False),
    ],
)
def test_only_what_shows_progress_is_no_silence(message: str, leads_on: bool) -> None:
    assert _shows_progress(message) == leads_on


def test_battles_of_more_than_one_pokemon_a_side_are_not_chosen_in() -> None:
    from poke_env.battle import DoubleBattle

    player = Offline()
    open_door(player)
    with pytest.raises(ServerError, match="battle-gen9doublesou-1 is no singles battle"):
        choose(player, DoubleBattle("battle-gen9doublesou-1", "Red", quiet_logger(), gen=9))  # type: ignore[arg-type]
