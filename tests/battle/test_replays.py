"""metamon's recorded battles are read and written to the letter; what is damaged is refused with a reason."""

import copy
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import BATTLE_FILES

from gemma_metamon.battle.replays import (
    BattleFileName,
    dump_battle,
    find_battles,
    load_battle,
    parse_battle,
    save_battle,
)
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError, MissingFileError


def read_json(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(lz4.frame.decompress(path.read_bytes()))
    return data


@pytest.mark.parametrize("path", BATTLE_FILES, ids=lambda p: p.name[:26])
def test_a_battle_is_written_byte_for_byte_as_it_was_read(path: Path) -> None:
    written = dump_battle(load_battle(path))
    if "old_format" in path.parts:
        again = parse_battle(written)
        assert again == load_battle(path)
        assert again.states[0].opponent_teampreview == ()
        assert not again.states[0].can_tera
    else:
        assert written == lz4.frame.decompress(path.read_bytes())


@pytest.mark.parametrize("path", BATTLE_FILES, ids=lambda p: p.name[:26])
def test_a_file_name_survives_parsing(path: Path) -> None:
    assert f"{BattleFileName.parse(path.name)}.json.lz4" == path.name


def test_a_saved_battle_is_found_and_loads_the_same(tmp_path: Path, battle_file: Path) -> None:
    battle = load_battle(battle_file)
    name = BattleFileName("metamon-gen9ou-1", 1500, "Ash", "Gary", datetime(2026, 1, 2, 3, 4, 5), won=battle.won)
    saved = save_battle(battle, tmp_path / "gen9ou", name)
    assert find_battles(tmp_path, ["gen9ou"]) == [saved]
    assert load_battle(saved) == battle
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    "name",
    [
        "metamon-gen9ou-1_1500_Ash_vs_Gary_01-02-2026_WIN",
        "metamon-gen9ou-1_Unrated_Ash_vs_Gary_01-02-2026-03:04:05_LOSS.json",
    ],
)
def test_both_dates_and_both_ratings_parse(name: str) -> None:
    assert BattleFileName.parse(name).player == "Ash"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("battle.json.lz4", "is not named"),
        ("a_1500_Ash_Ketchum_vs_Gary_01-02-2026_WIN", "is not named"),
        ("a_high_Ash_vs_Gary_01-02-2026_WIN", "rating 'high'"),
        ("a_1500_Ash_vs_Gary_2026-01-02_WIN", "date '2026-01-02'"),
        ("a_1500_Ash_vs_Gary_01-02-2026_DRAW", "is not named"),
    ],
)
def test_a_name_that_metamon_would_skip_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        BattleFileName.parse(name)


def test_an_underscore_in_a_user_name_is_refused() -> None:
    with pytest.raises(DataError, match="'A_b'"):
        BattleFileName("metamon-gen9ou-1", None, "A_b", "Gary", datetime(2026, 1, 2), won=True)


DAMAGE = {
    "no move name": (lambda s: s["player_prev_move"].pop("name"), "MoveState.name is missing"),
    "hp a word": (lambda s: s["player_active_pokemon"].update(hp_pct="full"), "PokemonState.hp_pct is 'full'"),
    "a bool for a level": (lambda s: s["opponent_active_pokemon"].update(lvl=None), "PokemonState.lvl is null"),
    "moves no list": (lambda s: s["player_active_pokemon"].update(moves={}), "moves is {}; expected a JSON list"),
    "no opponent": (
        lambda s: s.pop("opponent_active_pokemon"),
        "opponent_active_pokemon is null; expected a JSON object",
    ),
    "preview of numbers": (
        lambda s: s.update(opponent_teampreview=[1]),
        "opponent_teampreview holds 1; expected a word",
    ),
    "weather null": (lambda s: s.update(weather=None), "BattleState.weather is null"),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_a_damaged_state_names_the_field(damage: str, battle_file: Path) -> None:
    data = read_json(battle_file)
    change, complaint = DAMAGE[damage]
    change(data["states"][1])
    with pytest.raises(DataError, match=complaint):
        parse_battle(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d["actions"].pop(), "32 states but 31 actions"),
        (lambda d: d["actions"].__setitem__(3, 13), "action 13 at timestep 3"),
        (lambda d: d["actions"].__setitem__(-1, 2), "the last action is 2"),
        (lambda d: d["actions"].__setitem__(0, 1.5), "must be integers"),
        (lambda d: d.pop("states"), "expected an object"),
        (lambda d: d["states"].__setitem__(0, 7), "state 0 is 7; expected a JSON object"),
        (lambda d: d.update(states=d["states"][:1], actions=[-1]), "a battle needs a decision"),
    ],
)
def test_a_damaged_battle_says_why(change: Any, complaint: str, battle_file: Path) -> None:
    data = read_json(battle_file)
    change(data)
    with pytest.raises(DataError, match=complaint):
        parse_battle(json.dumps(data).encode())


@settings(max_examples=60)
@given(cut=st.integers(0, 5000), flip=st.integers(0, 4999))
def test_a_half_written_or_garbled_file_is_a_data_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    content = bytearray(BATTLE_FILES[0].read_bytes())
    content[flip % len(content)] ^= 0xFF
    path = tmp_path_factory.mktemp("bad") / "x.json.lz4"
    path.write_bytes(content[: cut % len(content)])
    with pytest.raises(DataError, match=r"x\.json\.lz4"):
        load_battle(path)


def test_missing_folders_and_formats_are_named(tmp_path: Path, battle_file: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        find_battles(tmp_path / "nowhere", ["gen9ou"])
    (tmp_path / "gen9ou").mkdir()
    (tmp_path / "gen9ou" / battle_file.name).write_bytes(battle_file.read_bytes())
    with pytest.raises(MissingFileError, match=r"no battle of format 'gen1ou' \(formats there: gen9ou\)"):
        find_battles(tmp_path, ["gen1ou"])
    with pytest.raises(MissingFileError, match="no battle file"):
        load_battle(tmp_path / "gen9ou" / "other.json.lz4")


def test_fields_of_a_later_format_are_ignored(battle_file: Path) -> None:
    state = read_json(battle_file)["states"][0]
    later = copy.deepcopy(state) | {"added_in_v9": 1}
    assert BattleState.from_dict(later) == BattleState.from_dict(state)
