"""Checkpoints and word lists that somebody harmed are refused in one sentence, before they play or train."""

import dataclasses
import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_agent import BATTLES, train_command
from torch import Tensor

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.errors import CheckpointMismatchError, DataError, GemmaMetamonError
from gemma_metamon.runs import resuming
from gemma_metamon.runs.checkpoints import META, TRAINING, WEIGHTS, Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.text.vocabulary import MAX_WORDS, Vocabulary
from gemma_metamon.upstream.interchange import read_policy

BATTLE = sorted((BATTLES / "gen1ou").iterdir())[0]
DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch; no test harms it."""
    save_dir = tmp_path_factory.mktemp("trained")
    assert main(train_command(save_dir)) == 0
    return save_dir / "run"


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def checkpoint(run_dir: Path) -> Checkpoint:
    return Checkpoint.find(run_dir, 1)


def one_sentence(command: list[str], capsys: pytest.CaptureFixture) -> str:
    """What a command that fails says last."""
    capsys.readouterr()
    assert main(command) == 1
    said: str = capsys.readouterr().err.strip().rpartition("\n")[2]
    assert said.startswith(f"gemma-metamon {command[0]}: ")
    return said


DESCRIPTIONS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "epoch -1": (lambda m: m.update(epoch=-1), "epoch is -1; expected 0 to 1000000000"),
    "epoch 10**19": (lambda m: m.update(epoch=10**19), "epoch is 10000000000000000000; expected 0 to"),
    "epoch true": (lambda m: m.update(epoch=True), "epoch is True"),
    "epoch 1.0": (lambda m: m.update(epoch=1.0), "epoch is 1.0"),
    "updates -5": (lambda m: m.update(updates=-5), "updates is -5; expected 0 to"),
    "draws 10**400": (lambda m: m.update(draws=10**400), "draws is 1000"),
    "settings a list": (lambda m: m.update(settings=[]), r"settings is \[\]"),
    "config a number": (lambda m: m.update(config=5), "config is 5"),
    "words of numbers": (lambda m: m.update(vocabulary=[1]), r"vocabulary\[0\] is 1; expected a string"),
    "identity null": (lambda m: m.update(identity=None), "identity is null; expected an object"),
    "identity of more": (lambda m: m["identity"].update(more="x"), r"identity\.more is unknown"),
    "no config": (lambda m: m.pop("config"), "config is missing"),
}


@pytest.mark.parametrize("harm", DESCRIPTIONS)
def test_a_description_with_a_wrong_field_names_it(harm: str, checkpoint: Checkpoint) -> None:
    change, complaint = DESCRIPTIONS[harm]
    meta = json.loads((checkpoint.folder / META).read_text())
    change(meta)
    (checkpoint.folder / META).write_text(json.dumps(meta))
    with pytest.raises(DataError, match=rf"checkpoint\.json is no description of a run .*{complaint}"):
        checkpoint.read_meta()


@pytest.mark.parametrize("content", ["", DEEP, '{"epoch": ' + "1" * 5000 + "}", '{"epoch": NaN}', "[]", "null", "\0"])
def test_a_description_that_is_no_object_is_refused(content: str, checkpoint: Checkpoint) -> None:
    (checkpoint.folder / META).write_text(content)
    with pytest.raises(DataError, match=r"checkpoint\.json is no description of a run"):
        checkpoint.read_meta()
    (checkpoint.folder / META).write_bytes(b"\xff" + content.encode())
    with pytest.raises(DataError, match="not UTF-8"):
        checkpoint.read_meta()


def change_tensors(path: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def spoil(value: float) -> Callable[[dict[str, Tensor]], Any]:
    """Makes one number of the last entry this value."""

    def change(tensors: dict[str, Tensor]) -> None:
        key = max(key for key, tensor in tensors.items() if tensor.is_floating_point())
        tensors[key] = tensors[key].clone()
        tensors[key].view(-1)[0] = value

    return change


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[:-5],
    "half a header": lambda content: content[:50],
    "garbage": lambda content: b"\xff" * 1000,
    "a header of 2**62 bytes": lambda content: struct.pack("<Q", 2**62) + content[8:],
    "a header of NaN": lambda content: struct.pack("<Q", 3) + b"NaN",
    "a header that lies deep": lambda content: struct.pack("<Q", 100_000) + DEEP.encode(),
    "a type that none knows": lambda content: content.replace(b'"F32"', b'"F99"', 1),
    "a type of eight bits": lambda content: content.replace(b'"F32"', b'"I32"'),
}


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING])
@pytest.mark.parametrize("harm", BYTES)
def test_tensors_that_are_damaged_neither_play_nor_resume(name: str, harm: str, checkpoint: Checkpoint) -> None:
    (checkpoint.folder / name).write_bytes(BYTES[harm]((checkpoint.folder / name).read_bytes()))
    with pytest.raises(GemmaMetamonError, match=r"epoch_1") as caught:
        load_both(checkpoint)
    assert "\n" not in str(caught.value)


def load_both(checkpoint: Checkpoint) -> None:
    """Loads a checkpoint to play, and to resume."""
    agent, _ = load_agent(checkpoint, "cpu")
    experiment: Any = configurable(EXPERIMENT)()
    resuming.load_training_state(checkpoint, experiment.build_optimizer(agent), agent)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_wherever_they_would_be_used(
    value: float, run_dir: Path, checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    change_tensors(checkpoint.folder / WEIGHTS, spoil(value))
    said = f"{checkpoint.folder / WEIGHTS}: 1 of the "
    run = ["--run_dir", str(run_dir)]
    assert said in one_sentence(["explain", str(BATTLE), *run, "--out", str(tmp_path / "x.html")], capsys)
    assert said in one_sentence(["export", *run, "--to", "amago", "--out", str(tmp_path / "amago")], capsys)
    assert said in one_sentence(["export", *run, "--to", "peft", "--out", str(tmp_path / "peft")], capsys)
    resume = train_command(run_dir.parent, "--ckpt", "1")
    resume[resume.index("--epochs") + 1] = "2"
    assert f"{checkpoint.folder / WEIGHTS} is damaged (its bytes are not those" in one_sentence(resume, capsys)
    meta = checkpoint.read_meta()
    dataclasses.replace(meta, checksums={}).write(checkpoint.folder / META)  # as of an earlier version
    assert said in one_sentence(resume, capsys)


TRAININGS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "NaN": (spoil(float("nan")), "not finite"),
    "no random state": (lambda t: t.pop("random/cpu"), "no random state"),
    "a random state of floats": (lambda t: t.update({"random/cpu": torch.zeros(1)}), "the random state cpu: "),
    "a random state of zeros": (lambda t: t["random/cpu"].zero_(), "the random state cpu: "),
    "a random state of another process": (
        lambda t: t.update({"random/cpu_of_process_1": torch.zeros(9)}),
        "the random state cpu_of_process_1: ",
    ),
    "a moment of another shape": (
        lambda t: t.update({"optimizer/0/exp_avg": torch.zeros(3)}),
        r"exp_avg of parameter 0",
    ),
    "a moment of integers": (
        lambda t: t.update({"optimizer/0/step": torch.tensor(3)}),
        "step of parameter 0 is torch.int",
    ),
    "a moment less": (lambda t: t.pop("optimizer/0/exp_avg_sq"), "parameter 0 has moments"),
    "a moment of no parameter": (lambda t: t.update({"optimizer/99999/step": torch.zeros(())}), "parameter 99999 of"),
}


@pytest.mark.parametrize("harm", TRAININGS)
def test_a_training_state_that_adamw_cannot_use_is_refused(harm: str, checkpoint: Checkpoint) -> None:
    change, complaint = TRAININGS[harm]
    load_both(checkpoint)
    change_tensors(checkpoint.folder / TRAINING, change)
    with pytest.raises(DataError, match=complaint):
        load_both(checkpoint)


def test_weights_of_another_type_are_refused(checkpoint: Checkpoint) -> None:
    change_tensors(checkpoint.folder / WEIGHTS, lambda t: t.update({key: value.double() for key, value in t.items()}))
    with pytest.raises(CheckpointMismatchError, match=r"in torch\.float64, not torch\.float32"):
        load_agent(checkpoint, "cpu")


class Stranger:
    """A class that no state dict holds."""


POLICIES: dict[str, tuple[Any, str]] = {
    "an object": (Stranger(), "holds more than tensors, .*Stranger, which could run code and is not opened"),
    "a number": ({"a": 1}, "is no state dict, it holds 'a': int"),
    "NaN": ({"a": torch.tensor([1.0, float("nan")])}, "1 of the 2 numbers of a are not finite"),
    "a complex number": ({"a": torch.zeros(2, dtype=torch.complex64)}, "'a': Tensor of torch.complex64"),
    "nothing but a shape": ({"a": torch.zeros(3, device="meta")}, "is no state dict"),
    "more numbers than there are": ({"a": torch.zeros(1).expand(10**12)}, "is no state dict"),
    "sparse": ({"a": torch.eye(3).to_sparse()}, "torch.sparse_coo"),
}


@pytest.mark.parametrize("harm", POLICIES)
def test_a_policy_of_amagos_that_is_more_or_less_than_tensors_is_refused(harm: str, tmp_path: Path) -> None:
    content, complaint = POLICIES[harm]
    path = tmp_path / "policy_epoch_1.pt"
    torch.save(content, path)
    with pytest.raises(DataError, match=complaint):
        read_policy(path)


@pytest.mark.parametrize(
    "content", [pickle.dumps({"a": 1}), b"\x80\x02\xff.", b"", b"x" * 99, pickle.dumps(Stranger(), 0)]
)
def test_torchs_advice_to_load_a_file_all_the_same_is_not_passed_on(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "policy_epoch_1.pt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"policy_epoch_1\.pt") as caught:
        read_policy(path)
    assert "weights_only" not in str(caught.value)


WORD_LISTS: dict[str, tuple[bytes, str]] = {
    "no UTF-8": (b'["\xff"]', "is not JSON: not UTF-8"),
    "deep": (DEEP.encode(), "too deep"),
    "digits": (b"1" * 5000, "more digits than can be read"),
    "NaN": (b'{"a": NaN}', "NaN is no number"),
    "null": (b"null", "NoneType is no word list"),
    "a number": (b"5", "int is no word list"),
    "a word of 5": (b'["a", 5]', "5 cannot be a word"),
    "an empty word": (b'["a", ""]', "'' cannot be a word"),
    "two words": (b'["a b"]', "'a b' cannot be a word"),
    "a NUL": (b'["a\\u0000"]', r"'a\\x00' cannot be a word"),
    "half a character": (b'["\\ud800"]', "half of a surrogate pair"),
    "a long word": (b'["' + b"a" * 65 + b'"]', "cannot be a word .*at most 64 characters"),
    "twice": (b'["a", "a"]', "lists 'a' more than once"),
    "twice in a map": (b'{"a": 0, "a": 1}', "the name 'a' stands twice"),
    "ids of words": (b'{"a": "0"}', "must have the ids 0 to 0"),
    "ids of both": (b'{"a": 0, "b": "1"}', "must have the ids 0 to 1"),
    "ids of true": (b'{"a": false, "b": true}', "must have the ids 0 to 1"),
    "ids of lists": (b'{"a": []}', "must have the ids 0 to 0"),
    "a hole": (b'{"a": 0, "b": 2}', "must have the ids 0 to 1"),
    "10**400": (b'{"a": 1' + b"0" * 400 + b"}", "must have the ids"),
}


@pytest.mark.parametrize("harm", WORD_LISTS)
def test_a_word_list_that_is_none_is_refused(harm: str, tmp_path: Path) -> None:
    content, complaint = WORD_LISTS[harm]
    path = tmp_path / "words.json"
    path.write_bytes(content)
    with pytest.raises(GemmaMetamonError, match=complaint) as caught:
        Vocabulary.from_file(path)
    assert "words.json" in str(caught.value) or "no word list" in str(caught.value)


def test_a_word_list_has_a_bound() -> None:
    with pytest.raises(DataError, match="a vocabulary of 1000001 words; expected at most 1000000"):
        Vocabulary.from_words(map(str, range(MAX_WORDS + 1)))


@pytest.mark.parametrize("content", ["[]", DEEP, '["a b"]', '{"a": 5}'])
def test_train_refuses_a_word_list_in_one_sentence(content: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "words.json").write_text(content)
    command = train_command(tmp_path, "--tokenizer", str(tmp_path / "words.json"))
    assert "words" in one_sentence(command, capsys)
