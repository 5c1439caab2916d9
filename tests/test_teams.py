import shutil
from pathlib import Path

import pytest

from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.showdown.installation import validate_teams
from gemma_metamon.showdown.teams import SeededTeambuilder, load_teams, own_formats, pack_team

TAUROS = "Tauros\nAbility: No Ability\nEVs: 252 HP / 252 Atk\n- Body Slam\n- Hyper Beam"
ALL = [(battle_format, team) for battle_format in own_formats() for team in load_teams(battle_format)]


def species(team: str) -> list[str]:
    return [pokemon.split("|")[0] for pokemon in team.split("]")]


def test_there_are_enough_teams_and_no_two_are_the_same() -> None:
    assert len(set(load_teams("gen9ou"))) >= 12
    assert len(set(load_teams("gen1ou"))) >= 8


@pytest.mark.parametrize("team", [team for _, team in ALL])
def test_own_teams_have_six_different_pokemon_with_four_moves(team: str) -> None:
    assert len(set(species(team))) == 6
    assert all(len(pokemon.split("|")[4].split(",")) == 4 for pokemon in team.split("]"))


@pytest.mark.server
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize("battle_format", own_formats())
def test_the_simulator_accepts_every_team(battle_format: str) -> None:
    teams = load_teams(battle_format)
    reasons = validate_teams(battle_format, teams)
    assert {team: why for team, why in zip(teams, reasons, strict=True) if why} == {}


@pytest.mark.parametrize("blanks", ["", "\n", "\n\n\n", "\r\n\r\n", "\n  \n"])
def test_blank_lines_make_no_further_pokemon(blanks: str) -> None:
    text = f"=== [gen1ou] mine ===\n\n{blanks}{TAUROS}\n\n{blanks}{TAUROS.replace('Tauros', 'Snorlax')}\n\n{blanks}"
    assert species(pack_team(text)) == ["Tauros", "Snorlax"]


def test_packed_teams_are_taken_as_they_are() -> None:
    packed = pack_team(TAUROS)
    assert pack_team(packed) == packed


def test_same_seed_gives_the_same_teams_and_another_does_not() -> None:
    def draw(seed: int) -> list[str]:
        builder = SeededTeambuilder(load_teams("gen1ou"), seed)
        return [builder.yield_team() for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len(set(draw(1))) > 1


def test_users_folder_is_read_as_metamon_reads_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.gen1ou_team").write_text(TAUROS)
    (tmp_path / "b.txt").write_text(TAUROS.replace("Tauros", "Snorlax"))
    (tmp_path / "c.gen9ou_team").write_text(TAUROS)
    assert [species(team) for team in load_teams("gen1ou", tmp_path)] == [["Snorlax"], ["Tauros"]]


def test_no_team_for_a_format_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gen7ou.*there are gen1ou, gen9ou.*--team_dir"):
        load_teams("gen7ou")
    with pytest.raises(MissingFileError, match=r"holds no team file for 'gen1ou': expected NAME\.gen1ou_team"):
        load_teams("gen1ou", tmp_path)
    with pytest.raises(MissingFileError, match="no such folder"):
        load_teams("gen1ou", tmp_path / "absent")


@pytest.mark.parametrize("text", ["", "hello", "Tauros @ a @ b\n- Body Slam", "Tauros\nEVs: lots\n- Body Slam", "|||"])
def test_a_file_that_is_no_team_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.gen1ou_team").write_text(text)
    with pytest.raises(DataError, match=r"bad\.gen1ou_team"):
        load_teams("gen1ou", tmp_path)


def test_seven_pokemon_are_too_many() -> None:
    with pytest.raises(DataError, match="7 Pokémon"):
        pack_team("\n\n".join([TAUROS] * 7))
