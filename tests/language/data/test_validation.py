"""`gemma-metamon chat validate`: what is wrong with chat data is found, named by its line, and counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_metamon.commands import main
from gemma_metamon.language.data.costs import Cost, TokenCounter
from gemma_metamon.language.data.validation import FileCheck, RowError, check_file, check_row
from gemma_metamon.language.tokenizers import learn_tokenizer


def chat(answer: str = "<SOLUTION>move Rest</SOLUTION>", **changes: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "Choose."},
        {"role": "user", "content": "You: Snorlax"},
        {"role": "assistant", "content": answer},
    ]
    row = {"messages": messages, "battle_id": "b1", "turn": 1, "legal": ["move Rest", "switch Jynx"], "result": "won"}
    return {**row, **changes}


def asked(text: str, **changes: Any) -> dict[str, Any]:
    row = chat(**changes)
    row["messages"][1]["content"] = text
    return row


def write(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def validate(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, dict[str, Any]]:
    status = main(["chat", "validate", "--json", *arguments])
    return status, json.loads(capsys.readouterr().out)


def test_data_without_a_fault_fits(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path / "x.jsonl", chat(), asked("You: Jynx", battle_id="b2", choice="move Rest"))
    status, report = validate(capsys, str(path))
    assert status == 0
    assert report["fits"]
    assert (report["files"][0]["rows"], report["files"][0]["battles"], report["duplicates"]) == (2, 2, 0)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "no JSON object"),
        ("[1]", "no JSON object"),
        ("", "no JSON object"),
        ('{"messages": NaN}', "no JSON object"),
        ({"text": "hello"}, "no chat: the row has no messages"),
        (chat(messages=[]), "no chat"),
        (chat(messages=[{"role": "user", "content": "a"}]), "no chat"),
        (chat(messages=[{"role": "user", "content": "a"}, {"role": "robot", "content": "b"}]), "is of 'robot'"),
        (chat(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": 3}]), "message 2 holds 3"),
        (chat(messages=[{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]), "in turns"),
        (chat("<SOLUTION>move Surf</SOLUTION>"), "the answer is not legal: 'move Surf' is no choice here"),
        (chat("move Rest"), "the answer is not legal: 0 <SOLUTION> blocks"),
        (chat(choice="switch Jynx"), "choice is 'switch Jynx', the answer move Rest"),
        (chat(turn="1"), "turn is '1'"),
        (chat(battle_id=None), "battle_id is null"),
        (chat(result="drawn"), "result is 'drawn'; expected one of won, lost, tied"),
        (chat(legal=[]), "legal is []"),
        (chat(advantages=[0.5]), "advantages is [0.5]; expected a number of each legal choice"),
        (chat(legal=["move Rest", "move Rest"]), "expected different choices"),
        ({"contents": [{"role": "user", "parts": []}]}, "expected a role and parts"),
    ],
)
def test_a_row_that_is_wrong_is_set_aside_by_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, row: Any, complaint: str
) -> None:
    path = write(tmp_path / "x.jsonl", chat(), row)
    status, report = validate(capsys, str(path), "--set_aside", str(tmp_path / "wrong.jsonl"))
    assert status == 1
    assert report["files"][0]["rows"] == 1
    (examples,) = report["files"][0]["examples"].values()
    assert examples[0].startswith("x.jsonl line 2: ")
    assert complaint in examples[0]
    kept = [json.loads(line) for line in (tmp_path / "wrong.jsonl").read_text().splitlines()]
    assert [each["row"] for each in kept] == ["x.jsonl line 2"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*chat(), "role", "content"]), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([*chat(), "contents", "choice", "player", "systemInstruction", "advantages"]), JSON)
)
def test_any_object_is_a_chat_or_is_told_why_not(changes: dict[str, Any]) -> None:
    last, kind = "assistant", "no chat"
    try:
        last = check_row({**chat(), **changes}, FileCheck(Path("x.jsonl")))[-1]["role"]
    except RowError as error:  # no other error may come
        kind = error.kind
    assert last == "assistant"
    assert kind in ("no chat", "a field is wrong", "the answer is not legal")


def test_duplicates_and_battles_on_both_sides_are_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train = write(tmp_path / "x.jsonl", chat(), chat(battle_id="b3"), asked("another", battle_id="b4"))
    other_view = asked("other view", player="B", opponent="A", battle_id="b2")
    seen = asked("one view", player="A", opponent="B", battle_id="b2")
    held_out = write(tmp_path / "v.jsonl", other_view, asked("another", battle_id="b9"))
    write(train, chat(), chat(battle_id="b3"), asked("another", battle_id="b4"), seen)
    status, report = validate(capsys, str(train), str(held_out))
    assert status == 1
    assert report["duplicates"] == 2
    assert [(o["battles"], o["chats"]) for o in report["overlaps"]] == [(1, 1)]
    assert main(["chat", "validate", str(train), str(held_out)]) == 1
    assert "share 1 battles and 1 chats" in capsys.readouterr().out


def test_an_export_and_its_split_fit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from support.small_agent import BATTLES

    command = ["chat", "export", "--parsed_replay_dir", str(BATTLES), "--formats", "gen1ou", "gen9ou"]
    for suffix in ("jsonl", "parquet"):
        assert main([*command, "--out", str(tmp_path / f"x.{suffix}"), "--val_share", "0.3"]) == 0
        capsys.readouterr()
        files = [str(tmp_path / f"x.{suffix}"), str(tmp_path / f"x.validation.{suffix}")]
        status, report = validate(capsys, *files)
        assert status == 0, report


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    learn_tokenizer([chat()["messages"]]).save_pretrained(folder)
    return folder


def test_tokens_are_those_of_the_template_and_long_chats_are_counted(
    tmp_path: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    from transformers import AutoTokenizer

    rows = [asked("You: " + "Snorlax " * n, battle_id=f"b{n}") for n in range(1, 30)]
    path = write(tmp_path / "x.jsonl", *rows)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    lengths = [len(tokenizer.apply_chat_template(row["messages"], return_dict=False)) for row in rows]
    most = sorted(lengths)[20]
    flags = ["--tokenizer", str(tokenizer_folder), "--max_tokens", str(most), "--batch_size", "4", "--price", "2"]
    status, report = validate(capsys, str(path), *flags, "--tokens_per_s", "10", "--epochs", "3")
    file, cost = report["files"][0], report["cost"]
    assert status == 1
    assert file["tokens"] == cost["tokens_per_epoch"] == sum(lengths)
    assert file["too_long"] == sum(length > most for length in lengths) > 0
    assert file["quantiles"]["1.0"] == max(lengths)
    assert cost["updates_per_epoch"] == 8
    assert cost["hours"] == pytest.approx(3 * sum(lengths) / 10 / 3600)
    assert cost["money"] == pytest.approx(3 * sum(lengths) * 2 / 1e6)
    assert main(["chat", "validate", str(path), *flags]) == 1
    assert "#" in capsys.readouterr().out


@given(st.dictionaries(st.integers(1, 5000), st.integers(1, 9), min_size=1, max_size=40))
def test_a_histogram_counts_every_chat_once(lengths: dict[int, int]) -> None:
    counter = TokenCounter(None)
    counter.lengths = lengths
    lines = counter.histogram()
    assert len(lines) <= 12
    assert sum(int(line.split()[1].replace(",", "")) for line in lines) == sum(lengths.values())
    assert counter.longer_than(counter.quantile(1.0)) == 0
    assert Cost.of(counter, batch_size=3).updates_per_epoch == -(-sum(lengths.values()) // 3)


def test_a_line_without_end_is_passed_over_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemma_metamon.language.data.validation.MAX_LINE_BYTES", 1000)
    path = write(tmp_path / "x.jsonl", "x" * 5000, chat())
    check = check_file(path, lambda messages: None, lambda place, reason: None)
    assert (check.rows, sum(check.wrong.values())) == (1, 1)


def test_what_cannot_be_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path / "x.jsonl", chat())
    (tmp_path / "x.parquet").write_text("no table")
    for arguments, said in (
        ([str(tmp_path / "none.jsonl")], "no file"),
        ([str(write(tmp_path / "x.txt", chat()))], "ends in no .jsonl"),
        ([str(tmp_path / "x.parquet")], "cannot be read as a table"),
        ([str(path), str(path)], "named twice"),
        ([str(path), "--price", "1"], "--price counts tokens; give the --tokenizer"),
        ([str(path), "--tokenizer", str(tmp_path / "no")], "no folder"),
        ([str(path), "--tokenizer", str(tmp_path)], "holds no tokenizer"),
    ):
        assert main(["chat", "validate", *arguments]) == 1
        assert said in capsys.readouterr().err.splitlines()[-1]
