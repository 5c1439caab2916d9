"""Checkpoints to AMAGO's layout and back: the same names in the same order, every bit, and the same play."""

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_sizes import checkpoint_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.amago_exports import AGENTS, import_command, write_run
from support.paths import GOLDENS, TESTS
from support.run_files import identity_of
from support.small_agent import BATTLES, SMALL, TINY, train_command
from support.tensors import assert_same_bits
from torch import Tensor, nn

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, bindings_of, configurable
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.errors import DataError
from gemma_metamon.nets.agents.copies import COPIES
from gemma_metamon.nets.batch import Batch
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import META, TRAINING, WEIGHTS, Checkpoint, write_checkpoint
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.runs.identity import CheckpointMeta
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.upstream import interchange
from gemma_metamon.view import BattleView

KEYS = GOLDENS / "amago/amago-3.1.1/state_dict_keys/placeholder_tstep_encoder_2944_multitaskagent.json"


AMAGO_PROCESS = TESTS / "support" / "amago_process.py"


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_dir = tmp_path_factory.mktemp("trained")
    assert main(train_command(save_dir, training="binary_maxq_rl.gin")) == 0
    return save_dir / "run"


def test_names_shapes_and_order_are_amagos() -> None:
    class Placeholder(nn.Module):
        emb_dim = 2944

        def __init__(self, **_: Any) -> None:
            super().__init__()

    resolve.load("gemma_synthetic_multitaskagent.gin", "binary_rl.gin")
    experiment: Experiment = configurable(EXPERIMENT)()
    experiment.tstep_encoder_type = Placeholder
    with torch.device("meta"):
        state = interchange.to_amago(experiment.build_agent(BattleView.default()).state_dict())
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    theirs = json.loads(KEYS.read_text())["state_dict"]
    assert [(key, [*tensor.shape]) for key, tensor in state.items()] == [
        (key, entry["shape"]) for key, entry in theirs.items()
    ]


def test_every_part_of_an_agent_has_a_name_at_amagos() -> None:
    def parts(training: str | None, overrides: list[str]) -> list[str]:
        resolve.load(TINY, training, overrides)
        return [*dict.fromkeys(key.split(".")[0] for key in interchange.expected_weights(BattleView.default()))]

    assert parts("finetune.gin", SMALL) == [*interchange.PARTS]
    ordinary = [part for part in interchange.PARTS if part not in COPIES]
    assert all(parts(None, overrides) == ordinary for overrides in AGENTS.values())


@pytest.mark.slow
@pytest.mark.parametrize("agent", AGENTS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=6)
def test_there_and_back_keeps_every_bit_both_ways(agent: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_dir, out = Path(folder) / "save", Path(folder) / "out"
        first = write_run(save_dir / "first", agent=agent, seed=seed)
        exported = interchange.export_policy(first, out)
        assert main(import_command(exported, save_dir)) == 0
        second = Checkpoint.find(save_dir / "imported", 1)
        again = interchange.export_policy(second, out)
        assert_same_bits(first.read_weights(), second.read_weights())
        assert_same_bits(interchange.read_policy(exported), interchange.read_policy(again))
        assert [*interchange.read_policy(exported)] == [*interchange.read_policy(again)]
        before, after = first.read_meta(), second.read_meta()
        assert (before.identity, before.config, before.vocabulary) == (after.identity, after.config, after.vocabulary)


def test_the_layout_is_amagos(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = write_run(tmp_path / "run", epoch=3)
    command = ["export", "--run_dir", str(tmp_path / "run"), "--to", "amago", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    weights = "run/ckpts/policy_weights/policy_epoch_3"
    assert written == {f"{weights}.pt", "run/ckpts/gemma_metamon.json", "run/ckpts/config.txt"}
    assert capsys.readouterr().out == f"wrote {tmp_path / 'out' / weights}.pt\n"
    meta = checkpoint.read_meta()
    assert (tmp_path / "out" / "run" / "ckpts" / "config.txt").read_text() == meta.config
    state = torch.load(tmp_path / "out" / f"{weights}.pt", weights_only=True)
    assert type(state) is dict
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in state.values())
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state.values()}
    assert sum(storages.values()) == sum(tensor.nbytes for tensor in state.values())


def policy_of(run_dir: Path, batch: Batch) -> Tensor:
    agent: Any = load_agent(Checkpoint.find(run_dir, 1), "cpu")[0]
    probs: Tensor = agent.action_probs(batch)
    return probs


def recorded_batch() -> Batch:
    files = sorted((BATTLES / "gen1ou").glob("*.lz4"))[:3]
    return collate([take_window(encode_battle(path, BattleView.default()), 0, 8) for path in files])


def test_an_imported_agent_plays_the_same_and_does_not_resume(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    exported = interchange.export_policy(Checkpoint.find(trained_run, 1), tmp_path / "out")
    assert main(import_command(exported, tmp_path)) == 0
    assert "does not resume" in capsys.readouterr().out
    files = [path for path in (tmp_path / "imported").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"config.gin", WEIGHTS, META}
    batch = recorded_batch()
    assert torch.equal(policy_of(tmp_path / "imported", batch), policy_of(trained_run, batch))
    resume = train_command(tmp_path, "--ckpt", "1", "--epochs", "2", run_name="imported", training="binary_maxq_rl.gin")
    assert main(resume) == 1
    assert "cannot be resumed: it has no training.safetensors" in capsys.readouterr().err


def test_critics_of_states_stay_behind(tmp_path: Path) -> None:
    assert main(train_command(tmp_path, "--gin_override", "MultiTaskAgent.baseline = 'state'")) == 0
    trained = Checkpoint.find(tmp_path / "run", 1)
    exported = interchange.export_policy(trained, tmp_path / "out")
    assert main(import_command(exported, tmp_path)) == 0
    before, after = trained.read_weights(), Checkpoint.find(tmp_path / "imported", 1).read_weights()
    assert {key.partition(".")[0] for key in before.keys() - after.keys()} == {"state_critics"}
    assert not after.keys() - before.keys()
    assert torch.equal(
        policy_of(tmp_path / "imported", recorded_batch()), policy_of(tmp_path / "run", recorded_batch())
    )


def test_entries_that_share_memory_or_are_strided_come_out_whole(policy_file: Path, tmp_path: Path) -> None:
    # as amago writes them: it saves what an SVD returned as it lay in memory
    state, memory = interchange.read_policy(policy_file), torch.randn(64)
    state |= {key: memory[: tensor.numel()].view(tensor.shape) for key, tensor in state.items() if tensor.numel() <= 64}
    state["actor.base.in_layer.weight"] = torch.randn(16, 16).T
    torch.save(state, policy_file)
    assert main(import_command(policy_file, tmp_path)) == 0
    imported = Checkpoint.find(tmp_path / "imported", 1)
    assert_same_bits(imported.read_weights(), state)


def test_parameters_are_read_as_the_numbers_they_hold(policy_file: Path, tmp_path: Path) -> None:
    state = interchange.read_policy(policy_file)
    torch.save(
        {key: nn.Parameter(value, value.is_floating_point()) for key, value in state.items()},
        tmp_path / "policy_epoch_1.pt",
    )
    read = interchange.read_policy(tmp_path / "policy_epoch_1.pt")
    assert_same_bits(read, state)
    assert not any(value.requires_grad for value in read.values())


def test_a_length_that_a_file_lies_about_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "policy_epoch_1.pt"
    state = {"a": torch.linspace(-1, 1, 40)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert_same_bits(interchange.read_policy(path), state)
    content = path.read_bytes()
    text = b"X" + struct.pack("<I", 16) + b"protocol_version"  # pickle's code for a text, and its length
    path.write_bytes(content.replace(text, b"X" + struct.pack("<I", 2**31 - 1) + b"protocol_version"))
    tracemalloc.start()
    with pytest.raises(DataError, match="is damaged"):
        interchange.read_policy(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.slow
def test_a_random_base_in_four_bits_travels_along(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="pip install 'gemma-metamon[4bit]'")
    resolved = resolve.load(
        TINY, None, [*SMALL, "GemmaTstepEncoder.use_4bit = True", "GemmaTstepEncoder.use_lora = True"]
    )
    view = BattleView.default()
    meta = CheckpointMeta(identity=identity_of(view), config=resolved.text, epoch=1, updates=0, draws=0, settings={})
    saved = []
    for seed in range(2):  # the scales' text has not the same length each time
        torch.manual_seed(seed)
        agent = configurable(EXPERIMENT)().build_agent(view)
        saved.append(write_checkpoint(tmp_path / f"run{seed}", meta, agent.state_dict()))
    for seed, checkpoint in enumerate(saved):
        exported = interchange.export_policy(checkpoint, tmp_path / "out")
        assert main(import_command(exported, tmp_path / str(seed))) == 0
        imported = Checkpoint.find(tmp_path / str(seed) / "imported", 1)
        assert_same_bits(checkpoint.read_weights(), imported.read_weights())
        agent = load_agent(imported, "cpu")[0]
        assert_same_bits(agent.state_dict(), checkpoint.read_weights())


def test_a_word_list_of_its_own_travels_along(tmp_path: Path) -> None:
    words = [*Vocabulary.default().words[:400]]
    (tmp_path / "words.json").write_text(json.dumps(words))
    assert main(train_command(tmp_path, "--tokenizer", str(tmp_path / "words.json"))) == 0
    exported = interchange.export_policy(Checkpoint.find(tmp_path / "run", 1), tmp_path / "out")
    assert main(import_command(exported, tmp_path)) == 0
    assert Checkpoint.find(tmp_path / "imported", 1).read_meta().vocabulary == words
    (exported.parents[1] / interchange.DESCRIPTION).unlink()
    flags = ["--model_gin_config", TINY, *(word for line in SMALL for word in ("--gin_override", line))]
    flags += ["--tokenizer", str(tmp_path / "words.json"), "--ckpt", "2"]
    assert main(import_command(exported, tmp_path, *flags)) == 0
    assert Checkpoint.find(tmp_path / "imported", 2).read_meta().vocabulary == words


def test_gemma_is_exported_with_what_one_should_know(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["export", "--run_dir", str(trained_run), "--ckpt", "1"]
    assert main([*command, "--to", "merged", "--out", str(tmp_path / "merged")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"wrote {tmp_path / 'merged'}"
    assert "the base was random" in said[1]
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert main([*command, "--to", "peft", "--out", str(tmp_path / "peft")]) == 1
    assert "has no adapter" in capsys.readouterr().err


def test_computed_sizes_are_those_of_real_files(trained_run: Path, tmp_path: Path) -> None:
    computed = checkpoint_bytes(TINY, SMALL)
    checkpoint = Checkpoint.find(trained_run, 1)
    entries = len(checkpoint.read_weights())
    exported = interchange.export_policy(checkpoint, tmp_path)
    for column, file, n_names in (
        ("weights", checkpoint.folder / WEIGHTS, entries),
        ("training", checkpoint.folder / TRAINING, 3 * entries),
        ("amago", exported, entries),
    ):
        assert computed[column] <= file.stat().st_size < computed[column] + 500 * n_names, column


@pytest.mark.upstream
@pytest.mark.parametrize(("agent", "critic"), [("MultiTaskAgent", "NCriticsTwoHot"), ("Agent", "NCritics")])
def test_amagos_own_agent_loads_it_strictly_and_plays_the_same(agent: str, critic: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("amago") is None:
        pytest.skip("amago is not installed: see docs/tutorials/inside_metamon.md")
    unmasked = [f"{agent}.actor_type = @actor_critic.Actor", "Actor.d_hidden = 16"]
    unmasked += [f"{agent}.pass_obs_keys_to_actor = []", f"{agent}.num_critics = 4"]
    changes = [line for line in AGENTS[agent] if line not in SMALL]
    overrides = [word for line in [*changes, *unmasked] for word in ("--gin_override", line)]
    lacks = ("MetamonMaskedActor",) if agent == "MultiTaskAgent" else ("MetamonMaskedActor", "NCriticsTwoHot")
    assert main(train_command(tmp_path, *overrides, lacks=lacks)) == 0
    exported = interchange.export_policy(Checkpoint.find(tmp_path / "run", 1), tmp_path / "out")
    batch = recorded_batch()
    ours = policy_of(tmp_path / "run", batch)
    names = ("GemmaTstepEncoder", "TformerTrajEncoder", "Actor", critic, EXPERIMENT)
    parameters = {name: {k: v for k, v in bindings_of(name).items() if "_type" not in k} for name in names}
    (tmp_path / "build.json").write_text(
        json.dumps({"agent": agent, "critic": critic, "num_critics": 4, "parameters": parameters})
    )
    shutil.copyfile(exported, tmp_path / "policy.pt")
    inputs = {"rl2s": batch.rl2s, "time_idxs": batch.time_idxs}
    inputs |= {name: batch.obs[name] for name in ("numbers", "text_tokens")}
    save_file({name: array.contiguous() for name, array in inputs.items()}, tmp_path / "inputs.safetensors")
    done = subprocess.run(
        [sys.executable, str(AMAGO_PROCESS), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = load_file(tmp_path / "probs.safetensors")["probs"]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert_same_bits(interchange.read_policy(tmp_path / "resaved.pt"), interchange.read_policy(exported))
