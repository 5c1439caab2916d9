"""Adapters over a base that sees: what they touch, in 4 bits, resumed, merged; and what is refused in one sentence."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.seen_battles import bundled

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.language.telling.json_answers import write_json_answer
from gemma_metamon.language.training.fine_tuning import FineTuning, find_model
from gemma_metamon.language.training.sft import SFTSettings
from gemma_metamon.vision import chats, models
from gemma_metamon.vision.chats import choices_alone, encode, read_seen
from gemma_metamon.vision.forms import Form, read_form, write_form
from gemma_metamon.vision.models import SeeingModel, SeeingPlan, build, load, merge
from gemma_metamon.vision.training import train

CPU = torch.device("cpu")
FEW = {"batch_size": 2, "warmup_updates": 0, "learning_rate": 1e-2, "generated": 1, "log_every": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four pictures to a row."""
    root = tmp_path_factory.mktemp("four")
    (root / "battles/gen1ou").mkdir(parents=True)
    shutil.copy(bundled("gen1ou", 1)[0], root / "battles/gen1ou")
    export = ["vlm", "export", "--parsed_replay_dir", str(root / "battles"), "--out", str(root / "seen")]
    assert main([*export, "--size", "112", "--workers", "1", "--frames", "four", "--subset", "6"]) == 0
    return root / "seen"


@pytest.fixture(scope="module")
def base(data: Path) -> Path:
    """A folder as a downloaded Gemma 3's that sees."""
    texts = [text for each in read_seen(data / "dataset.jsonl") for text in each.texts]
    model = build(SeeingPlan(), read_form(data), texts)
    model.model.save_pretrained(data.parent / "base")
    model.processor.save_pretrained(data.parent / "base")
    return data.parent / "base"


def trained(data: Path, base: Path, out: Path, *, resume: bool = False, epochs: int = 1, **plan: Any) -> SeeingModel:
    out.mkdir(exist_ok=True)
    seen = read_seen(data / "dataset.jsonl")
    whole = SeeingPlan(model=str(base), lora_r=2, lora_dropout=0.0, **plan)
    settings = SFTSettings(epochs=epochs, **FEW)
    done = train(whole, read_form(data), settings, seen, seen[:2], out, device=CPU, resume=resume)
    assert done.updates == 3 * epochs
    assert done.measured is not None
    return load(find_model(out))


def adapted(model: SeeingModel) -> set[str]:
    """The parts whose adapters have learned something; those begin with zeros."""
    learned = {name for name, value in model.model.named_parameters() if "lora_B" in name and value.abs().max() > 0}
    return {part for part in ("language_model", "vision_tower") if any(part in name for name in learned)}


def test_adapters_learn_on_the_language_layers_and_resume_and_merge(data: Path, base: Path, tmp_path: Path) -> None:
    model = trained(data, base, tmp_path / "run")
    assert adapted(model) == {"language_model"}
    assert not any("vision_tower" in name for name, _ in model.model.named_parameters() if "lora" in name)
    trained(data, base, tmp_path / "run", resume=True, epochs=2)
    lines = (tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    measured = [json.loads(line)["update"] for line in lines if "held_out/agreement" in line]
    assert measured == [3, 6]
    assert merge(find_model(tmp_path / "run"), tmp_path / "plain") <= 1e-4
    merged = load(tmp_path / "plain")
    assert merged.form == read_form(data)
    assert {path.suffix for path in (tmp_path / "plain").iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert not any("lora" in name for name, _ in merged.model.named_parameters())


def test_all_weights_go_on_after_a_stop_as_if_there_were_none(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach = ["vlm", "train", "--data", str(data / "dataset.jsonl"), "--epochs", "2", "--batch_size", "2"]
    teach += ["--warmup_updates", "0", "--out"]
    assert main([*teach, str(tmp_path / "whole")]) == 0
    keep = FineTuning.keep

    def stopping(self: FineTuning, number: int, updates: int) -> None:
        keep(self, number, updates)
        if number == 2:  # its model is there, and what TRL goes on from is still that of the epoch before
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "keep", stopping)
        assert main([*teach, str(tmp_path / "stopped")]) == 130
    assert main([*teach, str(tmp_path / "stopped"), "--resume"]) == 0
    whole, resumed = (load(find_model(tmp_path / name)).model.state_dict() for name in ("whole", "stopped"))
    torch.testing.assert_close(resumed, whole, rtol=0, atol=1e-6)


def test_the_vision_layers_learn_where_that_is_asked_for(data: Path, base: Path, tmp_path: Path) -> None:
    model = trained(data, base, tmp_path / "run", vision_layers=True)
    assert adapted(model) == {"language_model", "vision_tower"}


def test_a_base_in_4_bits_is_trained_and_merged_whole(data: Path, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = trained(data, base, tmp_path / "run", use_4bit=True)
    assert adapted(model) == {"language_model"}
    assert merge(find_model(tmp_path / "run"), tmp_path / "plain") <= 1e-4


@pytest.mark.parametrize(
    ("device", "plan", "dtype"),
    [
        ("cpu", {}, torch.float32),
        ("cuda", {}, torch.bfloat16),
        ("cuda", {"full": True}, torch.float32),  # bfloat16 would swallow small updates of the weights
    ],
)
def test_a_base_is_held_as_its_device_wants_it_whatever_the_machine_has(
    device: str, plan: dict[str, bool], dtype: torch.dtype, data: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")  # as it is first imported, it looks for the GPU itself
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # there is none here
    model = build(SeeingPlan(model=str(base), **plan), read_form(data), [], device)
    assert model.gemma.get_input_embeddings().weight.dtype == dtype


def test_what_does_not_fit_the_context_is_set_aside_before_the_run(data: Path, base: Path, tmp_path: Path) -> None:
    seen = read_seen(data / "dataset.jsonl")
    model = load(base)
    spent = 4 * model.processor.image_seq_length
    lengths = [len(example) for example in encode(model, seen, 4096)[0]]
    assert min(lengths) > spent
    assert encode(model, seen, min(lengths))[1] == sum(length > min(lengths) for length in lengths)
    with pytest.raises(
        DataError, match=f"no decision fits into a context of {spent} tokens, of which pictures take {spent}; .* grid"
    ):
        train(SeeingPlan(model=str(base)), read_form(data), SFTSettings(context=spent), seen, [], tmp_path, device=CPU)
    assert not (tmp_path / "run.json").exists()


def spoil_picture(data: Path, base: Path) -> None:
    path = data / json.loads((data / "dataset.jsonl").read_text(encoding="utf-8").splitlines()[0])["image"]
    path.write_bytes(path.read_bytes()[:50])


def lose_picture(data: Path, base: Path) -> None:
    (data / json.loads((data / "dataset.jsonl").read_text(encoding="utf-8").splitlines()[0])["image"]).unlink()


def write_words(data: Path, base: Path) -> None:
    (data / json.loads((data / "dataset.jsonl").read_text(encoding="utf-8").splitlines()[0])["image"]).write_text("x")


def lose_form(data: Path, base: Path) -> None:
    (data / "form.json").unlink()


def change_size(data: Path, base: Path) -> None:
    write_form(data, Form(layout="four", size=140))


def spoil_form(data: Path, base: Path) -> None:
    (data / "form.json").write_text('{"layout": "nine"}', encoding="utf-8")


def change_processor(data: Path, base: Path) -> None:
    path = base / "processor_config.json"
    read = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(read | {"image_seq_length": 4}), encoding="utf-8")


def change_processor_and_size(data: Path, base: Path) -> None:
    path = base / "processor_config.json"
    read = json.loads(path.read_text(encoding="utf-8"))
    read["image_processor"]["size"] = {"height": 224, "width": 224}
    path.write_text(json.dumps(read), encoding="utf-8")


def lose_pictures_of_rows(data: Path, base: Path) -> None:
    rows = [json.loads(line) for line in (data / "dataset.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        del row["images"]
        row["messages"][-1]["content"] = f"<SOLUTION>{row['choice']}</SOLUTION>"
    (data / "dataset.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_picture, "cannot be read"),
        (lose_picture, "000001.png cannot be read (No such file or directory); see all that is wrong with"),
        (write_words, "cannot be read (it is no picture of a known kind); see all that is wrong with"),
        (lose_form, "holds no form.json, which says how its decisions are shown"),
        (spoil_form, "form.json is wrong (layout is 'nine'; expected"),
        (change_size, "pictures have 140 pixels on a side, and"),
        (change_processor, "gives a picture so many tokens: 4, and the model wants 16"),
        (change_processor_and_size, "pictures have 112 pixels on a side, and"),
        (lose_pictures_of_rows, "has no pictures; give rows of gemma-metamon vlm export"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_before_anything_is_trained(
    data: Path,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    spoil: Callable[[Path, Path], None],
    said: str,
) -> None:
    shutil.copytree(data, tmp_path / "seen")
    shutil.copytree(base, tmp_path / "base")
    spoil(tmp_path / "seen", tmp_path / "base")
    command = ["vlm", "train", "--data", str(tmp_path / "seen/dataset.jsonl"), "--model", str(tmp_path / "base")]
    assert main([*command, "--out", str(tmp_path / "runs/run")]) == 1
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert said in sentence
    assert sentence.count("dataset.jsonl") <= 1
    assert not (tmp_path / "runs").exists()


def test_a_model_is_looked_at_before_the_data_and_its_weights(
    data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base, tmp_path / "base")
    change_processor(data, tmp_path / "base")

    def too_early(*args: object) -> None:
        raise AssertionError("pictures or weights were read")

    monkeypatch.setattr(chats, "read_seen", too_early)
    monkeypatch.setattr(models, "load_that_sees", too_early)
    train = ["vlm", "train", "--data", str(data / "dataset.jsonl"), "--out", str(tmp_path / "run"), "--model"]
    for model, said in (
        (tmp_path / "base", "gives a picture so many tokens: 4, and the model wants 16"),
        (tmp_path, "holds neither processor_config.json nor preprocessor_config.json"),
    ):
        assert main([*train, str(model)]) == 1
        assert said in capsys.readouterr().err.splitlines()[-1]
    write_form(tmp_path, Form(layout="single", size=100))
    assert main(["vlm", "train", "--data", str(tmp_path / "dataset.jsonl"), "--out", str(tmp_path / "run")]) == 1
    assert "pictures of 100 pixels are not made of the tiny model's patches" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="gives a picture so many tokens"):
        load(tmp_path / "base")


def test_a_hub_that_cannot_be_reached_is_asked_once(data: Path, tmp_path: Path) -> None:
    told = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    told.pop("HF_HUB_OFFLINE", None)
    train = ["vlm", "train", "--data", str(data / "dataset.jsonl"), "--model", "google/gemma-3-4b-it"]
    command = [sys.executable, "-m", "gemma_metamon", *train, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert "the weights of 'google/gemma-3-4b-it' cannot be reached" in done.stderr.splitlines()[-1]
    assert "Retry" not in done.stderr


def change_last_picture(data: Path, folder: Path) -> None:
    last = read_seen(data / "dataset.jsonl")[-1].pictures[-1]
    Image.new("RGB", (140, 112)).save(last)


@pytest.mark.parametrize(
    ("spoil", "command", "said"),
    [
        (
            change_size,
            "vlm train",
            "has 112 x 112 pixels, and form.json beside the data says 140; export the data again",
        ),
        (change_last_picture, "vlm train", "has 140 x 112 pixels, and form.json beside the data says 112; export"),
        (change_last_picture, "grpo", "has 140 x 112 pixels, and form.json beside the data says 112; export"),
    ],
)
def test_pictures_of_another_size_than_form_json_says_are_refused(
    data: Path,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    spoil: Callable[[Path, Path], None],
    command: str,
    said: str,
) -> None:
    shutil.copytree(data, tmp_path / "seen")
    spoil(tmp_path / "seen", tmp_path)
    given = ["--data", str(tmp_path / "seen/dataset.jsonl"), "--out", str(tmp_path / "run")]
    assert main([*command.split(), *given, *(["--model", str(base)] if command == "grpo" else [])]) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_model_whose_form_names_another_size_does_not_play(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    write_form(tmp_path / "base", Form(size=224))
    with pytest.raises(
        ConfigError, match=r"says that pictures have 224 pixels .* the processor beside it looks at 112"
    ):
        load(tmp_path / "base")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_weights_and_adapters_are_told_in_one_sentence(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    model = build(SeeingPlan(model=str(tmp_path / "base"), lora_r=2), Form(size=112, layout="four"), [])
    model.save(tmp_path / "adapted")
    cut(tmp_path / "adapted/adapter_model.safetensors")
    with pytest.raises(
        DataError, match=r"the adapters in .*adapted cannot be put over their base \(.*; train them again"
    ):
        load(tmp_path / "adapted")
    cut(tmp_path / "base/model.safetensors")
    with pytest.raises(DataError, match=r"the model in .*base cannot be read \(.*; get its files once more"):
        load(tmp_path / "base")


def test_a_model_of_another_kind_is_no_player_and_nothing_to_merge(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, description in (("words", "chat_model.json"), ("eyes", "seeing_model.json")):
        (tmp_path / name / "ckpts/epoch_1").mkdir(parents=True)
        (tmp_path / name / "ckpts/epoch_1" / description).write_text("{}", encoding="utf-8")
    evaluate = ["evaluate", "--format", "gen1ou", "--opponents", "RandomPlayer", "--players"]
    for command, said in (
        (
            ["vlm", "train", "--data", "x", "--out", "y", "--vision_layers"],
            "all layers of the tiny model, or with --full of any, learn",
        ),
        ([*evaluate, f"vlm:{tmp_path / 'words'}"], "reads words alone; play it as text:RUN"),
        ([*evaluate, f"text:{tmp_path / 'eyes'}"], "was trained to answer pictures; play it as vlm:RUN"),
        (["vlm", "merge", "--run", str(tmp_path / "words"), "--out", str(tmp_path / "x")], "reads words alone"),
        ([*evaluate, f"vlm:{tmp_path}"], "holds no chat model; name the --out of gemma-metamon sft or vlm train"),
        ([*evaluate, f"vlm:ensemble({base}, {base})"], "a model that sees plays alone"),
        (["vlm", "merge", "--run", str(tmp_path), "--out", str(tmp_path / "x")], "holds no chat model"),
        (["vlm", "merge", "--run", str(base), "--out", str(tmp_path)], "is there already; remove it"),
    ):
        assert main(command) == 1
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_what_was_read_aloud_is_a_start_for_learning_to_choose(data: Path, tmp_path: Path) -> None:
    read = ["vlm", "export", "--parsed_replay_dir", str(data.parent / "battles"), "--out", str(tmp_path / "read")]
    flags = ["--size", "112", "--workers", "1", "--frames", "single", "--subset", "6"]
    assert main([*read, *flags, "--reasoning", "seen"]) == 0
    seen = read_seen(tmp_path / "read/dataset.jsonl")
    said = [json.loads(each.chat.messages[-1]["content"])["reasoning"] for each in seen]
    assert all(move.removeprefix("move ") in text for each, text in zip(seen, said, strict=True)
               for move in each.chat.legal if move.startswith("move ") and move != "move Fight")  # fmt: skip
    few = ["--max_updates", "1", "--batch_size", "2", "--generated", "0", "--warmup_updates", "0"]
    train = ["vlm", "train", "--data", str(tmp_path / "read/dataset.jsonl"), *few]
    assert main([*train, "--out", str(tmp_path / "reader")]) == 0
    start = str(find_model(tmp_path / "reader"))
    assert main([*train, "--out", str(tmp_path / "eyes"), "--model", start, "--full", "--choice_alone"]) == 0
    before, after = load(Path(start)), load(find_model(tmp_path / "eyes"))
    changed = {
        name
        for name, value in after.model.state_dict().items()
        if not torch.equal(value, before.model.state_dict()[name])
    }
    assert any("vision_tower" in name for name in changed)
    assert any("language_model" in name for name in changed)
    for each in choices_alone(seen):
        assert each.chat.messages[-1]["content"] == write_json_answer(each.chat.choice)


def test_nothing_is_read_aloud_of_a_blank_picture(data: Path, tmp_path: Path) -> None:
    read = ["vlm", "export", "--parsed_replay_dir", str(data.parent / "battles"), "--out", str(tmp_path / "blank")]
    flags = ["--size", "112", "--workers", "1", "--frames", "single", "--subset", "3", "--blank"]
    assert main([*read, *flags, "--reasoning", "seen"]) == 0
    for each in read_seen(tmp_path / "blank/dataset.jsonl"):
        assert set(json.loads(each.chat.messages[-1]["content"])) == {"action", "choice"}
