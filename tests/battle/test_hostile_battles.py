"""A battle file that somebody harmed, by accident or not, is set aside with its field and value; training goes on."""

import json
import math
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import BATTLE_FILES
from support.small_agent import BATTLES, train_command

from gemma_metamon.battle.replays import MAX_FILE_BYTES, MAX_STATES, find_battles, load_battle, parse_battle
from gemma_metamon.battle.state import MAX_LISTED, MAX_WORD_LENGTH
from gemma_metamon.commands import main
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.data.store import BattleStore
from gemma_metamon.errors import DataError
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.view import BattleView

VIEW = BattleView.default()
RAW = "@raw"


def short_battle(path: Path = BATTLE_FILES[0]) -> dict[str, Any]:
    """The first two states of a battle and its last."""
    battle = json.loads(lz4.frame.decompress(path.read_bytes()))
    states, actions = battle["states"], battle["actions"]
    return {"states": [*states[:2], states[-1]], "actions": [*actions[:2], -1]}


def with_raw(battle: dict[str, Any], text: str) -> bytes:
    """The battle's JSON with this text where RAW stands: json itself writes no such thing."""
    return json.dumps(battle).replace(f'"{RAW}"', text).encode()


def active(battle: dict[str, Any]) -> dict[str, Any]:
    pokemon: dict[str, Any] = battle["states"][1]["player_active_pokemon"]
    return pokemon


EXPECTED_SHARE, EXPECTED_WORD = "expected a number from 0 to 1", "expected a word of at most 64 characters"
HARM: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    # what is done, the text that stands for RAW, what is said
    "NaN": (lambda b: active(b).update(hp_pct=RAW), "NaN", f"state 1: PokemonState.hp_pct is nan; {EXPECTED_SHARE}"),
    "infinity": (lambda b: active(b).update(hp_pct=RAW), "-Infinity", "PokemonState.hp_pct is -inf"),
    "1e999": (lambda b: active(b)["moves"][0].update(accuracy=RAW), "1e999", "MoveState.accuracy is inf"),
    "5,000 digits": (
        lambda b: active(b).update(lvl=RAW),
        "1" * 5000,
        r"PokemonState.lvl is 1{20,30}\.\.\.1{20,30}; expected an integer from 1 to 9999",
    ),
    "10**400": (
        lambda b: active(b).update(base_hp=RAW),
        "1" + "0" * 400,
        "PokemonState.base_hp is 10000.*000; expected",
    ),
    "a float for an integer": (lambda b: active(b).update(lvl=100.0), "", "PokemonState.lvl is 100.0; expected an int"),
    "true for an integer": (lambda b: active(b).update(atk_boost=True), "", "PokemonState.atk_boost is True; expected"),
    "true for a number": (lambda b: active(b).update(hp_pct=True), "", "PokemonState.hp_pct is True"),
    "1 for a truth": (lambda b: b["states"][0].update(can_tera=1), "", "BattleState.can_tera is 1; expected true or"),
    "hp above 1": (lambda b: active(b).update(hp_pct=1.5), "", f"PokemonState.hp_pct is 1.5; {EXPECTED_SHARE}"),
    "a boost of 7": (lambda b: active(b).update(spe_boost=-7), "", "spe_boost is -7; expected an integer from -6 to 6"),
    "2**31 PP": (lambda b: active(b)["moves"][0].update(max_pp=2**31), "", "MoveState.max_pp is 2147483648"),
    "a move is null": (
        lambda b: active(b)["moves"].__setitem__(0, None),
        "",
        r"moves\[0\] is null; expected a JSON obj",
    ),
    "a switch is 5": (
        lambda b: b["states"][0]["available_switches"].__setitem__(1, 5),
        "",
        r"available_switches\[1\] is 5; expected a JSON object",
    ),
    "a move is a list": (lambda b: b["states"][0].update(player_prev_move=[1]), "", r"player_prev_move is \[1\]; exp"),
    "a list for a word": (
        lambda b: active(b).update(item=["a"]),
        "",
        r"State.item is \['a'\]; " + EXPECTED_WORD,
    ),
    "an object for a number": (lambda b: active(b).update(lvl={}), "", r"PokemonState.lvl is \{\}"),
    "a space in a word": (lambda b: active(b).update(name="great tusk"), "", "name is 'great tusk'; " + EXPECTED_WORD),
    "a NUL in a word": (lambda b: active(b).update(item="x\0"), "", r"item is 'x\\x00'"),
    "half a character": (lambda b: active(b).update(item="\ud800"), "", "half of a surrogate pair"),
    "one type": (lambda b: active(b).update(types="water"), "", "types is 'water'; expected two words"),
    "three types": (lambda b: active(b).update(types="a b c"), "", "types is 'a b c'; expected two words"),
    "a long word": (lambda b: active(b).update(name="a" * (MAX_WORD_LENGTH + 1)), "", r"name is 'aaa.*\.\.\.aaa.*'"),
    "a long list": (
        lambda b: active(b).update(moves=active(b)["moves"][:1] * (MAX_LISTED + 1)),
        "",
        "moves holds 25 entries; expected at most 24",
    ),
    "a long preview": (lambda b: b["states"][0].update(opponent_teampreview=["a"] * 99), "", "teampreview holds 99"),
    "two of a name": (lambda b: active(b).update({RAW: 1}), '"hp_pct"', "the name 'hp_pct' stands twice"),
    "too deep": (lambda b: active(b).update(more=RAW), "[" * 100_000 + "]" * 100_000, "lie too deep"),
    "an action of true": (
        lambda b: b["actions"].__setitem__(0, True),
        "",
        "action True at timestep 0; actions must be",
    ),
    "an action of 10**30": (lambda b: b["actions"].__setitem__(0, 10**30), "", "action 1000.* at timestep 0"),
    "too many states": (
        lambda b: b.update(states=[{}] * (MAX_STATES + 1), actions=[-1] * (MAX_STATES + 1)),
        "",
        "5001 states; a battle has at most 5000",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_harmed_battle_is_refused_with_field_value_and_what_was_expected(harm: str) -> None:
    change, raw, complaint = HARM[harm]
    battle = short_battle()
    change(battle)
    with pytest.raises(DataError, match=complaint) as caught:
        parse_battle(with_raw(battle, raw))
    assert len(str(caught.value)) < 300


@given(
    path=st.lists(st.integers(0, 100), max_size=6),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_whatever_stands_anywhere_the_battle_is_refused_or_finite(
    path: list[int], value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    battle: Any = short_battle()
    parent, key = {"battle": battle}, "battle"
    for choice in path:
        here: Any = parent[key]
        if not isinstance(here, (dict, list)) or not here:
            break
        parent, key = here, list(here)[choice % len(here)] if isinstance(here, dict) else choice % len(here)
    parent[key] = value
    file = tmp_path_factory.mktemp("any") / "x.json"
    file.write_text(json.dumps(battle))
    try:
        encoded = encode_battle(file, VIEW)
    except DataError:
        return
    assert np.isfinite(encoded.numbers).all()
    assert np.isfinite(encoded.rewards).all()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a whole lz4 frame"),
        (lz4.frame.compress(b"{}")[:-4], "not a whole lz4 frame"),
        (lz4.frame.compress(b"{}") + b"more", "4 bytes follow its end"),
        (lz4.frame.compress(b"{}") * 2 + b"x", "1 bytes follow its end"),
        (lz4.frame.compress(b"{}") + lz4.frame.compress(b"{}")[:-5], "not a whole lz4 frame: it is cut off"),
        (lz4.frame.compress(b"") * 101, "holds more than 100 lz4 frames"),
        (lz4.frame.compress(b" " * (MAX_FILE_BYTES + 1)), f"more than {MAX_FILE_BYTES} bytes when decompressed"),
        (
            bytes.fromhex("04224d186840") + struct.pack("<Q", 2**62) + bytes.fromhex("0a0d0000807b"),
            "not a whole lz4 frame",
        ),
    ],
    ids=[
        "empty",
        "cut off",
        "more behind",
        "more behind two",
        "cut off second",
        "many",
        "too large",
        "claims 2**62 bytes",
    ],
)
def test_a_frame_is_taken_by_what_it_holds_not_by_what_it_claims(
    content: bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.json.lz4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.json\.lz4: .*{complaint}"):
        load_battle(path)


def test_several_frames_are_read_one_after_the_other(tmp_path: Path) -> None:
    content = json.dumps(short_battle()).encode()
    (tmp_path / "one.json.lz4").write_bytes(lz4.frame.compress(content))
    cuts = [content[:100], b"", content[100:200], content[200:]]
    (tmp_path / "four.json.lz4").write_bytes(b"".join(map(lz4.frame.compress, cuts)))
    assert load_battle(tmp_path / "four.json.lz4") == load_battle(tmp_path / "one.json.lz4")


def test_a_frame_whose_header_lies_about_its_size_takes_no_more_memory_than_it_holds(tmp_path: Path) -> None:
    frame = lz4.frame.compress(json.dumps(short_battle()).encode(), store_size=True)
    for claimed in (0, 1, 2**40, 2**62, 2**64 - 1):
        path = tmp_path / "x.json.lz4"
        path.write_bytes(frame[:6] + struct.pack("<Q", claimed) + frame[14:])
        with pytest.raises(DataError, match=r"x\.json\.lz4: not a whole lz4 frame"):
            load_battle(path)


def test_a_file_of_no_use_is_found_and_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "gen1ou" / "folder.json").mkdir(parents=True)
    os.mkfifo(tmp_path / "gen1ou" / "pipe.json")
    (tmp_path / "gen1ou" / "loop.json").symlink_to("loop.json")
    Path(os.fsdecode(os.fsencode(tmp_path / "gen1ou") + b"/\xff.json")).write_bytes(b"{}")
    found = find_battles(tmp_path, ["gen1ou"])
    assert len(found) == 4
    for path, complaint in zip(
        found, ("folder.json: is no file", "loop", "pipe.json: is no file", "not UTF-8"), strict=True
    ):
        with pytest.raises(DataError, match=complaint) as caught:
            load_battle(path)
        str(caught.value).encode()


HOSTILE = {
    "nan.json": (lambda b: active(b).update(hp_pct=RAW), "NaN", "PokemonState.hp_pct is nan"),
    "infinite.json": (lambda b: active(b).update(hp_pct=RAW), "1e999", "PokemonState.hp_pct is inf"),
    "move.json": (lambda b: active(b)["moves"].__setitem__(0, None), "", "moves[0] is null"),
    "digits.json": (lambda b: active(b).update(lvl=RAW), "1" * 5000, "PokemonState.lvl is 111"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four gen1ou battles, and where they will be harmed."""
    root = tmp_path / "battles"
    (root / "gen1ou").mkdir(parents=True)
    for path in sorted((BATTLES / "gen1ou").iterdir())[:4]:
        shutil.copy(path, root / "gen1ou")
    return root


def write_hostile(folder: Path, name: str) -> str:
    """Harms one more battle; returns what will be said of it."""
    change, raw, complaint = HOSTILE[name]
    battle = short_battle()
    change(battle)
    (folder / "gen1ou" / name).write_bytes(with_raw(battle, raw))
    return complaint


@pytest.mark.parametrize("name", HOSTILE)
def test_one_hostile_battle_among_four_does_not_poison_training(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    complaint = write_hostile(folder, name)
    command = train_command(tmp_path, "--max_set_aside", "0.5")
    command[command.index("--parsed_replay_dir") + 1] = str(folder)
    del command[command.index("gen9ou")]
    assert main(command) == 0
    weights = Checkpoint.find(tmp_path / "run", 1).read_weights()
    assert all(tensor.isfinite().all() for tensor in weights.values())
    (row,) = map(json.loads, (tmp_path / "run" / "set_aside.jsonl").read_text().splitlines())
    assert row["file"] == str(folder / "gen1ou" / name)
    assert complaint in row["reason"]


def test_hostile_battles_keep_their_rows_in_a_store_with_their_reasons(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    complaints = {name: write_hostile(folder, name) for name in HOSTILE}
    odd = Path(os.fsdecode(os.fsencode(folder / "gen1ou") + b"/\xff.json"))
    odd.write_bytes(json.dumps(short_battle()).encode())
    complaints["\\xff.json"] = "its name is not UTF-8"
    out = tmp_path / "store"
    command = ["prepare", "--parsed_replay_dir", str(folder), "--out", str(out), "--workers", "1", "--verify"]
    assert main([*command, "--max_set_aside", "0.9"]) == 0
    battles = BattleStore(out).battles(["gen1ou"])
    damaged = {path.name: reason for path, reason in battles.damaged()}
    assert damaged.keys() == complaints.keys()
    for name, complaint in complaints.items():
        assert complaint in damaged[name]
    numbers = np.concatenate([battle.load().numbers for battle in battles if battle.damage is None])
    assert math.isfinite(numbers.sum())
    assert main([*command, "--max_set_aside", "0.9"]) == 0  # again: it goes on from what is there
    train = train_command(tmp_path, "--max_set_aside", "0.9")
    train[train.index("--parsed_replay_dir") + 1] = str(folder)  # from the files, one of whose names is no UTF-8
    del train[train.index("gen9ou")]
    assert main(train) == 0
    assert len((tmp_path / "run" / "set_aside.jsonl").read_text().splitlines()) == len(complaints)


@pytest.mark.parametrize("name", HOSTILE)
def test_inspect_says_in_one_sentence_what_is_wrong(name: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    complaint = write_hostile(folder, name)
    assert main(["inspect", str(folder / "gen1ou" / name)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"gemma-metamon inspect: {name}: ")
    assert complaint in said


def test_a_word_of_ten_million_characters_takes_no_memory_of_the_observations(tmp_path: Path) -> None:
    battle = short_battle()
    active(battle)["name"] = "a" * 10_000_000  # in an array of words, 40 MB for each word of the battle
    path = tmp_path / "x.json"
    path.write_text(json.dumps(battle))
    with pytest.raises(DataError, match=r"state 1: PokemonState\.name is 'aaa"):
        encode_battle(path, VIEW)
