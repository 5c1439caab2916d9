"""`gemma-metamon chat export`: whole, repeatable, resumable; every decision is a row or is counted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.small_agent import BATTLES, train_command

from gemma_metamon.battle.replays import BattleFileName, RecordedBattle, find_battles, load_battle, save_battle
from gemma_metamon.commands import main
from gemma_metamon.language.data import export as exporting
from gemma_metamon.language.data.choosing import Chooser, answer_of
from gemma_metamon.language.data.recorded import is_stand_in, recorded_decisions
from gemma_metamon.language.data.row_files import read_table
from gemma_metamon.language.telling.answers import parse_answer
from gemma_metamon.language.telling.prompts import BLANK
from gemma_metamon.sample_battles import extract


def export(capsys: pytest.CaptureFixture, folder: Path, out: Path, *extra: str) -> dict[str, Any]:
    assert main(["chat", "export", "--parsed_replay_dir", str(folder), "--out", str(out), "--json", *extra]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sentence(capsys: pytest.CaptureFixture, *command: str) -> str:
    assert main(["chat", *command]) == 1
    said: str = capsys.readouterr().err.splitlines()[-1]
    return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both views of some bundled gen1ou battles."""
    (tmp_path / "battles" / "gen1ou").mkdir(parents=True)
    for path in sorted((extract("gen1ou") / "gen1ou").iterdir())[:12]:
        shutil.copy(path, tmp_path / "battles" / "gen1ou")
    return tmp_path / "battles"


def test_every_decision_is_a_row_or_is_counted_and_every_answer_is_legal(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    printed = export(capsys, folder, tmp_path / "x.jsonl")
    rows = rows_of(tmp_path / "x.jsonl")
    battles = [load_battle(path) for path in find_battles(folder, ["gen1ou"])]
    assert printed["decisions"] == sum(len(battle.states) - 1 for battle in battles)
    assert printed["train"] == len(rows) == printed["decisions"] - sum(printed["left_out"].values())
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]
        action = parse_answer(row["messages"][-1]["content"], dict(enumerate(row["legal"])))
        assert row["legal"][action] == row["choice"]
        assert all(choice in row["messages"][1]["content"] for choice in row["legal"])
        assert row["result"] in ("won", "lost")
        assert len(row["legal"]) > 1
    assert not (tmp_path / "x.jsonl.parts").exists()


def test_the_same_command_writes_the_same_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["--subset", "40", "--val_share", "0.4", "--reasoning", "facts", "--seed", "3"]
    for name in ("x", "y"):
        export(capsys, folder, tmp_path / f"{name}.jsonl", *flags)
    for suffix in (".jsonl", ".validation.jsonl"):
        assert (tmp_path / f"x{suffix}").read_bytes() == (tmp_path / f"y{suffix}").read_bytes()
    train, held_out = rows_of(tmp_path / "x.jsonl"), rows_of(tmp_path / "x.validation.jsonl")
    assert len(train) + len(held_out) == 40
    assert all("<REASONING>" in row["messages"][-1]["content"] for row in train)


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PART_BATTLES", 2)
    damaged = sorted((folder / "gen1ou").iterdir())[7]
    damaged.write_bytes(b"nothing")
    flags = ["--subset", "40", "--val_share", "0.4", "--reasoning", "facts", "--max_set_aside", "0.5", "--workers"]
    alone = export(capsys, folder, tmp_path / "x.jsonl", *flags, "1")
    together = export(capsys, folder, tmp_path / "y.jsonl", *flags, "3")
    for suffix in (".jsonl", ".validation.jsonl"):
        assert (tmp_path / f"x{suffix}").read_bytes() == (tmp_path / f"y{suffix}").read_bytes()
    assert alone["set_aside"] == 1
    paths = {name: alone[name].replace("x.", "y.") for name in ("out", "validation_out")}
    assert together == alone | paths


def test_both_views_of_a_battle_are_on_one_side_of_the_split(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    export(capsys, folder, tmp_path / "x.jsonl", "--val_share", "0.5")
    train, held_out = (rows_of(tmp_path / name) for name in ("x.jsonl", "x.validation.jsonl"))
    sides = [{row["battle_id"] for row in rows} for rows in (train, held_out)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert len({(row["battle_id"], row["player"]) for row in train}) == 2 * len(sides[0])


def test_a_share_that_holds_no_battle_out_is_said_and_makes_no_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    printed = export(capsys, folder, tmp_path / "x.jsonl", "--val_share", "0.001", "--subset", "20")
    assert (printed["train"], printed["validation"], printed["validation_out"]) == (20, 0, None)
    assert "no row is of a battle that --val_share 0.001 holds out (by a hash of its id)" in caplog.text
    assert not (tmp_path / "x.validation.jsonl").exists()


def test_stopped_anywhere_it_goes_on_and_writes_what_it_would_have_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PART_BATTLES", 2)
    export(capsys, folder, tmp_path / "whole.jsonl", "--subset", "50")
    made, rows = [], Chooser.rows

    def stopped(self: Chooser, battle: RecordedBattle, name: str, counts: Any) -> Any:
        if len(made) == 7:
            raise KeyboardInterrupt
        made.append(name)
        return rows(self, battle, name, counts)

    command = ["chat", "export", "--parsed_replay_dir", str(folder), "--out", str(tmp_path / "x.jsonl")]
    command += ["--workers", "1"]  # others would not know of what is set here
    monkeypatch.setattr(Chooser, "rows", stopped)
    assert main([*command, "--subset", "50"]) == 130
    assert not (tmp_path / "x.jsonl").exists()
    monkeypatch.setattr(Chooser, "rows", rows)
    assert "begun with other flags or battles (subset differ)" in sentence(capsys, *command[1:], "--subset", "51")
    assert export(capsys, folder, tmp_path / "x.jsonl", "--subset", "50")["done_before"] == 6
    assert (tmp_path / "x.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_tables_hold_the_same_rows(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str) -> None:
    export(capsys, folder, tmp_path / "x.jsonl")
    export(capsys, folder, tmp_path / f"x{suffix}")
    assert list(read_table(tmp_path / f"x{suffix}")) == rows_of(tmp_path / "x.jsonl")
    if suffix == ".parquet":
        assert pq.read_table(tmp_path / "x.parquet").num_rows == len(rows_of(tmp_path / "x.jsonl"))
    else:
        assert pa.ipc.open_file(tmp_path / "x.arrow").schema.field("legal").type == pa.list_(pa.string())


def test_geminis_shape_has_the_same_chat(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    export(capsys, folder, tmp_path / "x.jsonl")
    export(capsys, folder, tmp_path / "g.jsonl", "--to", "gemini")
    for row, shaped in zip(rows_of(tmp_path / "x.jsonl"), rows_of(tmp_path / "g.jsonl"), strict=True):
        system, *said = row["messages"]
        assert shaped["systemInstruction"]["parts"] == [{"text": system["content"]}]
        assert [(each["role"], each["parts"][0]["text"]) for each in shaped["contents"]] == [
            ("user", said[0]["content"]),
            ("model", said[1]["content"]),
        ]


def test_the_blank_control_tells_nothing_and_keeps_the_same_rows(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    export(capsys, folder, tmp_path / "x.jsonl")
    export(capsys, folder, tmp_path / "blank.jsonl", "--blank")
    rows, blank = rows_of(tmp_path / "x.jsonl"), rows_of(tmp_path / "blank.jsonl")
    assert {row["messages"][1]["content"] for row in blank} == {BLANK}
    assert [row["choice"] for row in blank] == [row["choice"] for row in rows]
    assert [row["legal"] for row in blank] == [row["legal"] for row in rows]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--results", "won"], "result"),
        (["--max_length", "25"], "length"),
        (["--players", "SimpleHeu*"], "players"),
        (["--turns", "sampled"], "not sampled"),
        (["--subset", "5"], "subset"),
    ],
)
def test_a_filter_leaves_out_what_it_says_and_counts_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, flags: list[str], reason: str
) -> None:
    printed = export(capsys, folder, tmp_path / "x.jsonl", *flags)
    rows = rows_of(tmp_path / "x.jsonl")
    assert printed["left_out"][reason] > 0
    assert printed["decisions"] == printed["train"] + sum(printed["left_out"].values())
    assert rows
    if reason == "result":
        assert {row["result"] for row in rows} == {"won"}
    if reason == "players":
        assert all(row["player"].startswith("SimpleHeu") for row in rows)
    if reason == "not sampled":
        assert len({(row["battle_id"], row["player"]) for row in rows}) == len(rows) == printed["battles"]


def test_a_rated_battle_with_labels_teaches_the_labels(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = find_battles(BATTLES, ["gen1ou"])[0]
    battle = load_battle(path)
    free = next(t for t, s in enumerate(battle.states[:-1]) if not s.forced_switch and battle.actions[t] in (1, 2))
    labels = [-1] * len(battle.actions)
    labels[free] = 3
    name = replace(BattleFileName.parse(path.name), rating=1500)
    save_battle(replace(battle, labels=tuple(labels)), tmp_path / "in" / "gen1ou", name)
    printed = export(capsys, tmp_path / "in", tmp_path / "x.jsonl", "--min_rating", "1500")
    row = next(row for row in rows_of(tmp_path / "x.jsonl") if row["decision"] == free)
    assert row["labelled"]
    assert row["choice"] == row["legal"][3]
    assert row["rating"] == 1500
    assert printed["labelled"] == 1
    said = sentence(
        capsys, "export", "--parsed_replay_dir", str(tmp_path / "in"), "--out", str(tmp_path / "y.jsonl"),
        "--min_rating", "1501",
    )  # fmt: skip
    assert "is left" in said
    assert "rating" in said


def test_a_turn_of_recharging_teaches_no_move() -> None:
    """Found in bundled battles: after a Hyper Beam that hits, files have action 0 whatever that move is."""
    found = 0
    for path in sorted((extract("gen1ou") / "gen1ou").iterdir())[:40]:
        battle = load_battle(path)
        for t in range(1, len(battle.states) - 1):
            if is_stand_in(battle, t):
                before, now, then = battle.states[t - 1], battle.states[t], battle.states[t + 1]
                assert answer_of(battle, t) == (0, False)
                assert now.player_active_pokemon.name == before.player_active_pokemon.name
                same = then.player_active_pokemon.name == now.player_active_pokemon.name
                pp = [s.player_active_pokemon.known_moves[0].current_pp for s in (now, then)]
                assert not same or pp[0] == pp[1]
                found += 1
    assert found > 20


def test_a_pokemon_of_generation_1_that_sleeps_is_offered_fight_alone() -> None:
    """Its moves are offered as one since 2026, and files have action 0: the first move is not what was chosen."""
    found = 0
    for path in sorted((extract("gen1ou") / "gen1ou").iterdir())[:40]:
        battle = load_battle(path)
        for decision, action in zip(recorded_decisions(battle), battle.actions, strict=False):
            mine, moves = decision.state.player_active_pokemon, [c for c in decision.choices.values() if "move" in c]
            if mine.status in ("slp", "frz") and action == 0 and not decision.state.forced_switch:
                assert moves == ["move Fight"]
                found += 1
            elif mine.status not in ("slp", "frz"):
                assert "move Fight" not in moves
    assert found > 20


def test_what_cannot_be_is_said_in_one_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["export", "--parsed_replay_dir", str(folder), "--out"]
    (tmp_path / "there.jsonl").touch()
    assert "is there already" in sentence(capsys, *command, str(tmp_path / "there.jsonl"))
    assert ".jsonl, .arrow or .parquet" in sentence(capsys, *command, str(tmp_path / "x.csv"))
    assert "gemini is a shape" in sentence(capsys, *command, str(tmp_path / "x.arrow"), "--to", "gemini")
    assert "go together" in sentence(capsys, *command, str(tmp_path / "x.jsonl"), "--min_advantage", "1")
    lengths = ["--min_length", "9", "--max_length", "8"]
    assert "--max_length 8 is below" in sentence(capsys, *command, str(tmp_path / "x.jsonl"), *lengths)
    assert "no such folder" in sentence(
        capsys, *command, str(tmp_path / "x.jsonl"), "--agree_with", str(tmp_path / "no")
    )


def test_damaged_files_are_set_aside_and_counted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "gen1ou" / "damaged.json").write_text("{")
    printed = export(capsys, folder, tmp_path / "x.jsonl", "--max_set_aside", "0.5")
    assert printed["set_aside"] == 1
    assert printed["battles"] == 12


@pytest.mark.slow
def test_an_agent_and_its_critics_leave_out_what_they_would_not_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path)) == 0
    capsys.readouterr()
    run = str(tmp_path / "run")
    agreed = export(capsys, folder, tmp_path / "a.jsonl", "--agree_with", run, "--device", "cpu")
    judged = export(capsys, folder, tmp_path / "c.jsonl", "--critics", run, "--min_advantage", "0", "--device", "cpu")
    everything = export(capsys, folder, tmp_path / "x.jsonl")
    for printed, reason in ((agreed, "disagreement"), (judged, "advantage")):
        assert printed["left_out"][reason] > 0
        assert printed["decisions"] == everything["decisions"] == printed["train"] + sum(printed["left_out"].values())
    for row in rows_of(tmp_path / "c.jsonl"):
        assert len(row["advantages"]) == len(row["legal"])
        assert row["advantages"][row["legal"].index(row["choice"])] >= 0
    assert all(row["advantages"] is None for row in rows_of(tmp_path / "a.jsonl"))
    kept = {(row["battle_id"], row["player"], row["decision"]) for row in rows_of(tmp_path / "x.jsonl")}
    assert {(row["battle_id"], row["player"], row["decision"]) for row in rows_of(tmp_path / "c.jsonl")} <= kept
