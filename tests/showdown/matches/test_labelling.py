"""Labels of battles that are played: an expert's choice in each state, which changes nothing of the battle."""

import asyncio
import logging
from pathlib import Path

import pytest
from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, Player, RandomPlayer
from support.node import needs_node
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import RecordedBattle, find_battles, load_battle
from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.search.players import lookahead
from gemma_metamon.showdown.search.settings import SearchSettings
from gemma_metamon.showdown.simulator.formats import find_teams

pytestmark = needs_node


def played(out: Path, player: str, label_by: Contestant | None, battles: int = 3) -> list[RecordedBattle]:
    matchup = Matchup(player=scripted(player), opponent=scripted("RandomPlayer"), battles=battles)
    battle_format, teams = find_teams("gen1ou", None)
    asyncio.run(
        collect([matchup], battle_format=battle_format, teams=teams, out=out, seed=5, max_turns=40, label_by=label_by)
    )
    return [load_battle(path) for path in find_battles(out, ["gen1ou"])]


def test_labels_are_an_experts_choices_and_change_no_battle(tmp_path: Path) -> None:
    plain = played(tmp_path / "plain", "RandomPlayer", None)

    class Slow(RandomPlayer):
        async def choose_move(self, battle: AbstractBattle) -> BattleOrder:  # type: ignore[override]
            await asyncio.sleep(0)
            dice = live_battle(battle).dice
            assert dice is not None
            return dice.choice(list(live_battle(battle).options.values()))

    experts = [scripted("RandomPlayer"), scripted("DuelTrainer"), Contestant("Slow", Slow)]
    experts.append(lookahead("LookaheadTrainer", SearchSettings(forks=4, turns=2)))
    for expert in experts:  # one that draws, one that does not, and two that have to be waited for
        labelled = played(tmp_path / expert.name, "RandomPlayer", expert)
        for ours, theirs in zip(labelled, plain, strict=True):
            assert (ours.states, ours.actions) == (theirs.states, theirs.actions)
            assert ours.labels is not None
            assert ours.labels != ours.actions
            assert min(ours.labels[:-1]) >= 0


def test_who_labels_itself_is_of_one_mind(tmp_path: Path) -> None:
    views = played(tmp_path, "DuelTrainer", scripted("DuelTrainer"))
    own = [view for view in views if view.labels == view.actions]
    assert len(own) == len(views) // 2  # the other half are the opponent's


def test_a_battle_that_ends_while_its_expert_thinks_is_no_failure() -> None:
    """As on a server, where an opponent may leave at any time."""
    view = load_battle(find_battles(BATTLES, ["gen1ou"])[0])
    battle = Battle("battle-gen1ou-1", "Anna", logging.getLogger(), gen=1)
    live = live_battle(battle)

    async def label(_: LiveBattle) -> int:
        recorder.note_end(live)
        return 3

    async def decide() -> BattleOrder:
        return RandomPlayer.choose_default_move()

    recorder = Recorder(lambda battle, record: None, label=label)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiveBattle, "state", view.states[0])
        patch.setattr(LiveBattle, "options", {0: RandomPlayer.choose_default_move()})
        order = asyncio.run(recorder.follow(live, decide))
    assert order.message == "/choose default"


def test_an_expert_that_fails_is_named(tmp_path: Path) -> None:
    class Speechless(RandomPlayer):
        def choose_move(self, battle: object) -> str:  # type: ignore[override]
            raise ValueError("no idea")

    who = Contestant("Speechless", Speechless)
    with pytest.raises(ServerError, match=r"Speechless could not label a state of battle-gen1ou-0: ValueError: no ide"):
        played(tmp_path, "RandomPlayer", who)


def test_a_policy_is_no_labeller(tmp_path: Path) -> None:
    agent = Contestant("first@2", Player, policy=object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="first@2 is a checkpoint, which remembers what it did itself"):
        played(tmp_path, "RandomPlayer", agent)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--label_by", "Nobody"], "no player is called 'Nobody'"),
        (["--opponents", "RandomPlayer", "--record_opponents", "DuelTrainer"], "DuelTrainer is none of --opponents"),
    ],
)
def test_bad_names_are_refused(
    flags: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["collect", "--format", "gen1ou", "--battles", "1", "--players", "RandomPlayer", "--out", str(tmp_path)]
    assert main([*command, *flags]) == 1
    assert complaint in capsys.readouterr().err
