"""`gemma-metamon vlm export` and `scenes`: the rows of `chat export`, with pictures that are there."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from PIL import Image
from support.seen_battles import battles, bundled, sprite

from gemma_metamon.commands import main
from gemma_metamon.language.data import export as exporting
from gemma_metamon.language.telling.json_answers import parse_json_answer
from gemma_metamon.vision import export as picturing

__all__ = ["battles"]
SMALL = ("--size", "112", "--workers", "1")


def run(capsys: pytest.CaptureFixture, *command: str) -> dict[str, Any]:
    assert main([*command, "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def export(capsys: pytest.CaptureFixture, folder: Path, out: Path, *extra: str) -> dict[str, Any]:
    return run(capsys, "vlm", "export", "--parsed_replay_dir", str(folder), "--out", str(out), *SMALL, *extra)


def sentence(capsys: pytest.CaptureFixture, *command: str) -> str:
    assert main([*command]) == 1
    said: str = capsys.readouterr().err.splitlines()[-1]
    return said


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def test_rows_are_those_of_chat_export_and_all_of_them_are_valid(
    battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = ["--val_share", "0.5", "--reasoning", "facts", "--seed", "3", "--turns", "all", "--results", "won"]
    printed = export(capsys, battles, tmp_path / "seen", *flags)
    chats = run(capsys, "chat", "export", "--parsed_replay_dir", str(battles), "--out", f"{tmp_path}/x.jsonl", *flags)
    facts = ("battle_id", "player", "decision", "turn", "legal", "choice", "result")
    for seen, told in (("dataset", "x"), ("dataset.validation", "x.validation")):
        rows, others = rows_of(tmp_path / "seen" / f"{seen}.jsonl"), rows_of(tmp_path / f"{told}.jsonl")
        keys = [[row[name] for name in facts] for row in rows]
        assert keys == [[row[name] for name in facts] for row in others]
        for row, other in zip(rows, others, strict=True):
            assert row["image"] == row["images"][-1]
            assert opened(tmp_path / "seen" / row["image"]).size == (112, 112)
            output = row["output"]
            assert f"{output['action']} {output['choice']}" == row["choice"]
            assert f"<REASONING>{output['reasoning']}</REASONING>" in other["messages"][-1]["content"]
            (said,) = row["messages"][-1]["content"]
            assert json.loads(said["text"]) == output
            legal = dict(enumerate(row["legal"]))
            assert legal[parse_json_answer(said["text"], legal)] == row["choice"]
            assert row["context"] == ""
            assert not any(choice.partition(" ")[2] in row["question"] for choice in row["legal"])
    assert (printed["left_out"], printed["decisions"]) == (chats["left_out"], chats["decisions"])
    images = {name for name in files_of(tmp_path / "seen") if name.endswith(".png")}
    assert images == {f"grid_images/grid_{n:06d}.png" for n in range(1, printed["pictures"] + 1)}
    checked = run(capsys, "chat", "validate", *(str(path) for path in sorted((tmp_path / "seen").glob("*.jsonl"))))
    assert checked["fits"]
    assert sum(file["pictures"] for file in checked["files"]) >= printed["pictures"] == printed["pictures_drawn"]


def test_four_pictures_are_shared_by_the_turns_that_show_them(
    battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    printed = export(capsys, battles, tmp_path / "four", "--frames", "four")
    single = export(capsys, battles, tmp_path / "single", "--frames", "single")
    rows, alone = (rows_of(tmp_path / name / "dataset.jsonl") for name in ("four", "single"))
    assert {len(row["images"]) for row in rows} == {4}
    assert printed["pictures"] < 1.3 * printed["train"]
    assert single["pictures"] <= single["train"]
    pixels = [opened(tmp_path / "four" / name).tobytes() for name in rows[5]["images"]]
    now = next(row for row in alone if row["battle_id"] == rows[5]["battle_id"] and row["decision"] == 5)
    assert len(set(pixels)) == 4
    if rows[5]["decision"] == 5:
        assert pixels[-1] == opened(tmp_path / "single" / now["image"]).tobytes()
    contents = [path.read_bytes() for path in (tmp_path / "four" / "scene_images").iterdir()]
    assert len(set(contents)) == len(contents)
    parts = rows[5]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image"] * 4 + ["text"]


def test_several_processes_read_and_draw_what_one_does(
    battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PART_BATTLES", 1)
    monkeypatch.setattr(picturing, "_BATCH", 4)
    shared_out: list[tuple[str, int]] = []  # who had work for how many processes

    def watched(module: Any) -> Callable[..., Any]:
        in_workers = module.in_workers

        def noted(work: Any, tasks: Iterator[Any], workers: int) -> Iterator[Any]:
            shared_out.append((module.__name__, workers))
            return in_workers(work, tasks, workers)

        return noted

    for module in (exporting, picturing):
        monkeypatch.setattr(module, "in_workers", watched(module))
    flags = ["--subset", "20", "--val_share", "0.5", "--reasoning", "seen"]
    for name, workers in (("one", "1"), ("several", "3")):
        export(capsys, battles, tmp_path / name, *flags, "--workers", workers)
    assert {(exporting.__name__, 3), (picturing.__name__, 3)} <= set(shared_out)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "several")


@pytest.mark.parametrize("stopped_in", ["rows", "pictures", "form"])
def test_stopped_anywhere_it_goes_on_and_writes_what_it_would_have_written(
    battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    monkeypatch.setattr(exporting, "PART_BATTLES", 2)
    monkeypatch.setattr(picturing, "_BATCH", 16)
    flags = ["--val_share", "0.5", "--subset", "60"]
    export(capsys, battles, tmp_path / "whole", *flags)
    command = ["vlm", "export", "--parsed_replay_dir", str(battles), "--out", str(tmp_path / "x"), *SMALL, *flags]
    with monkeypatch.context() as patched:
        if stopped_in == "rows":
            made: list[Any] = []
            rows = exporting.Chooser.rows

            def stopped(self: Any, battle: Any, name: str, counts: Any) -> Any:
                made.append(name)
                if len(made) == 4:
                    raise KeyboardInterrupt
                return rows(self, battle, name, counts)

            patched.setattr(exporting.Chooser, "rows", stopped)
        elif stopped_in == "form":

            def no_more(*args: Any) -> None:
                raise KeyboardInterrupt

            patched.setattr(picturing, "write_form", no_more)
        else:

            def two_batches(work: Any, tasks: Iterator[Any], workers: int) -> Iterator[Any]:
                yield work(next(tasks))
                raise KeyboardInterrupt

            patched.setattr(picturing, "in_workers", two_batches)
        assert main(command) == 130
    assert not (tmp_path / "x" / "dataset.jsonl").exists()
    assert "begun with other flags or battles (size differ)" in sentence(capsys, *command, "--size", "168")
    printed = export(capsys, battles, tmp_path / "x", *flags)
    assert files_of(tmp_path / "x") == files_of(tmp_path / "whole")
    assert (printed["pictures_drawn"] < printed["pictures"]) == (stopped_in != "rows")


def test_the_blank_control_keeps_the_rows_and_shows_nothing(
    battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    export(capsys, battles, tmp_path / "seen")
    printed = export(capsys, battles, tmp_path / "blank", "--blank", "--context", "words")
    rows, blank = (rows_of(tmp_path / name / "dataset.jsonl") for name in ("seen", "blank"))
    assert [row["choice"] for row in rows] == [row["choice"] for row in blank]
    assert {row["messages"][0]["content"][1]["text"] for row in blank} == {rows[0]["question"]}
    assert printed["pictures"] == 1
    assert len(opened(tmp_path / "blank" / blank[0]["image"]).getcolors() or []) == 1
    assert run(capsys, "chat", "validate", str(tmp_path / "blank" / "dataset.jsonl"))["fits"]


def test_words_are_those_of_the_chat_prompt(battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    export(
        capsys,
        battles,
        tmp_path / "seen",
        "--context",
        "words",
        "--subset",
        "5",
        "--frames",
        "single",
        "--formats",
        "gen1ou",
    )
    for row in rows_of(tmp_path / "seen" / "dataset.jsonl"):
        assert all(choice in row["context"] for choice in row["legal"])
        assert row["messages"][0]["content"][1]["text"] == f"{row['context']}\n{row['question']}"


def test_pokemon_without_a_sprite_are_drawn_and_counted(
    battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sprite(tmp_path / "sprites", "tauros.png")
    flags = ["--formats", "gen1ou", "--subset", "30", "--sprites", str(tmp_path / "sprites")]
    printed = export(capsys, battles, tmp_path / "seen", *flags)
    assert "tauros" not in printed["without_sprite"]
    assert printed["without_sprite"]


def test_those_drawn_before_a_stop_are_counted_as_well(
    battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sprite(tmp_path / "sprites", "tauros.png")
    flags = ["--formats", "gen1ou", "--subset", "30", "--sprites", str(tmp_path / "sprites")]
    whole = export(capsys, battles, tmp_path / "whole", *flags)

    def no_more(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(picturing, "write_form", no_more)
        command = ["vlm", "export", "--parsed_replay_dir", str(battles), "--out", str(tmp_path / "x"), *SMALL, *flags]
        assert main(command) == 130
    resumed = export(capsys, battles, tmp_path / "x", *flags)
    assert resumed["pictures_drawn"] == 0
    assert resumed["without_sprite"] == whole["without_sprite"]


def processor(folder: Path, size: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}), encoding="utf-8")
    return folder


def test_what_cannot_be_is_said_in_one_sentence(battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "seen"
    command = ["vlm", "export", "--parsed_replay_dir", str(battles), "--out", str(out), *SMALL]
    fitting = processor(tmp_path / "model", {"height": 896, "width": 896})
    said = sentence(capsys, *command, "--processor", str(fitting))
    assert "--size 112 would be scaled to 896 by the processor of" in said
    assert said.endswith("give --size 896")
    assert "expected a square" in sentence(capsys, *command, "--processor", str(processor(tmp_path / "m", None)))
    assert "neither processor_config.json" in sentence(capsys, *command, "--processor", str(tmp_path))
    large = sprite(tmp_path / "sprites", "mew.png", (900, 20))
    assert f"vlm: {large} is 900 x 20 pixels" in sentence(capsys, *command, "--sprites", str(large.parent))
    assert "--size 113 is odd" in sentence(capsys, *command, "--size", "113")
    assert "--size 9000 is no size" in sentence(capsys, *command, "--size", "9000")
    assert "--size 56 is no size of a grid; give 112 to 4096" in sentence(capsys, *command, "--size", "56")
    assert not out.exists()
    export(capsys, battles, out, "--subset", "3")
    assert "holds dataset.jsonl already" in sentence(capsys, *command)
    (out / "dataset.jsonl").unlink()
    assert "holds grid_images already" in sentence(capsys, *command)


def test_a_wrong_picture_is_found_and_named(battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    export(capsys, battles, tmp_path / "seen", "--subset", "12")
    data = tmp_path / "seen" / "dataset.jsonl"
    names = [row["image"] for row in rows_of(data)]
    (tmp_path / "seen" / names[2]).unlink()
    damaged = tmp_path / "seen" / names[4]
    damaged.write_bytes(damaged.read_bytes()[:300])
    rows = rows_of(data)
    rows[6]["images"] *= 2
    rows[7]["output"] = rows[7]["messages"][1]["content"][0]["text"] = '{"action": "move", "choice": "Splash"}'
    rows[8]["images"] = "x.png"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["chat", "validate", str(data), "--json"]) == 1
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["wrong"] == {"a picture is wrong": 4, "the answer is not legal": 1}
    assert f"line 3: a picture is wrong: {tmp_path}" in file["examples"]["a picture is wrong"][0]
    assert "2 images, and 1 places" in file["examples"]["a picture is wrong"][2]


def test_sft_in_words_takes_no_rows_with_pictures(battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from gemma_metamon.errors import DataError
    from gemma_metamon.language.data.chats import read_chats

    export(capsys, battles, tmp_path / "seen", "--subset", "3")
    with pytest.raises(DataError, match="line 1 has pictures; give rows of gemma-metamon chat export"):
        read_chats(tmp_path / "seen" / "dataset.jsonl")


def test_a_file_of_two_battles_is_named_before_a_grid_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two battles of one format follow one another as far as their states tell."""
    first, second = (
        json.loads(lz4.frame.decompress(bundled(name, 1)[0].read_bytes())) for name in ("gen1ou", "gen9ou")
    )
    spliced = {key: value[:5] + second[key][-5:] if isinstance(value, list) else value for key, value in first.items()}
    path = tmp_path / "battles/gen1ou" / bundled("gen1ou", 1)[0].name.removesuffix(".lz4")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(spliced), encoding="utf-8")
    said = sentence(capsys, "scenes", str(path), "--out", str(tmp_path / "out"), "--size", "112", "--frames", "grid")
    assert said.endswith(
        f"{path}: turn 5 of gen9ou does not follow turn 4 of gen1ou; give a grid the turns of one battle, in order"
    )
    assert not (tmp_path / "out").exists()
    export = [
        "vlm",
        "export",
        "--parsed_replay_dir",
        str(tmp_path / "battles"),
        "--out",
        str(tmp_path / "seen"),
        *SMALL,
    ]
    assert f"{path.name}: turn 5 of gen9ou does not follow turn 4 of gen1ou" in sentence(capsys, *export)


@pytest.mark.parametrize("frames", ["grid", "single"])
def test_scenes_draws_each_decision_of_a_battle(tmp_path: Path, capsys: pytest.CaptureFixture, frames: str) -> None:
    battle = bundled("gen1ou", 1)[0]
    command = ["scenes", str(battle), "--out", str(tmp_path / "out"), "--size", "112", "--frames", frames, "--sheet"]
    assert main(command) == 0
    said = capsys.readouterr().out
    drawn = {path.name for path in (tmp_path / "out").iterdir()}
    kind = "grid" if frames == "grid" else "scene"
    assert drawn == {"sheet.png", *(f"{kind}_{n:04d}.png" for n in range(1, len(drawn)))}
    assert said == f"{len(drawn) - 1} pictures in {tmp_path / 'out'}\n"
    sprite(tmp_path / "sprites", "tauros.png")
    assert main([*command, "--sprites", str(tmp_path / "sprites")]) == 0
    assert re.search(r"\n +[1-9][0-9]* Pokémon have no sprite, and are drawn: [a-z, .-]+\n$", capsys.readouterr().out)
    assert "no battle file" in sentence(capsys, "scenes", str(tmp_path / "none.json.lz4"), "--out", str(tmp_path / "o"))
