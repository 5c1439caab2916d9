"""Which formats are played: the simulator says what they are, and what states cannot hold is refused before play."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.node import needs_node

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.simulator.formats import (
    BattleFormat,
    describe_format,
    find_format,
    find_teams,
    require_singles,
)

SINGLES = BattleFormat(
    id="gen9ou", name="[Gen 9] OU", game_type="singles", gives_teams=False, max_team_size=6, best_of=1
)
ROUNDS = [part for flag in ("rounds", "battles_per_round", "steps_per_round") for part in (f"--{flag}", "1")]


@needs_node
@pytest.mark.parametrize("name", ["gen9ou", "[Gen 9] OU", "Gen9OU", "../gen9ou/"])
def test_a_format_is_found_by_its_id_or_its_name(name: str) -> None:
    assert find_format(name) == SINGLES


@needs_node
def test_random_battles_give_out_their_teams() -> None:
    assert find_teams("gen1randombattle", None) == ("gen1randombattle", [])
    with pytest.raises(ConfigError, match="gen1randombattle gives out its teams; play it without those of mine"):
        find_teams("gen1randombattle", Path("mine"))


@needs_node
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gen9doublesou", r"gen9doublesou is no singles format \(doubles\)"),
        ("gen9vgc2025regi", "no such format|no singles format"),
        ("gen5triplesou", "no such format|no singles format"),
        ("gen9oo", "no such format; did you mean .*gen9ou"),
        ("gen9ou@@@ Sleep Clause Mod", "no such format"),
        ("", "no such format"),
        ("gen9chimera1v1randombattlebo5", "plays matches of 5 battles"),
        ("gen6randombattleb12p6noteampreview", "gives out teams of up to 12"),
    ],
)
def test_what_states_cannot_hold_or_nobody_knows_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_format(name)


@pytest.mark.parametrize("game_type", ["doubles", "triples", "multi", "freeforall"])
def test_only_one_pokemon_against_one_is_singles(game_type: str) -> None:
    require_singles(SINGLES)
    with pytest.raises(ConfigError, match=game_type):
        require_singles(replace(SINGLES, game_type=game_type))


@pytest.mark.slow
@needs_node
def test_every_singles_format_of_the_simulator_that_upstream_has_data_of_is_played() -> None:
    for gen in range(1, 5):
        for tier in ("ou", "uu", "nu", "ubers"):
            found = describe_format(f"gen{gen}{tier}")
            assert found is not None
            require_singles(found)
            assert not found.gives_teams


@needs_node
@pytest.mark.parametrize(
    "command",
    [
        ["collect", "--battles", "1", "--players", "RandomPlayer", "--out", "OUT"],
        ["evaluate", "--players", "TypeTrainer", "--battles", "1", "--out", "OUT"],
        ["ladder", "--player", "RandomPlayer", "--username", "me", "--server", "local", "--out", "OUT"],
        ["improve", "--model_gin_config", "gemma_tiny_entity.gin", "--out", "OUT", *ROUNDS],
    ],
    ids=lambda command: command[0],
)
def test_no_command_plays_doubles(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = [str(out) if part == "OUT" else part for part in command]
    assert main([*arguments, "--format", "gen9doublesou"]) == 1
    assert "gen9doublesou is no singles format (doubles)" in capsys.readouterr().err
    assert not out.exists()
