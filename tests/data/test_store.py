"""A prepared store gives training what the folder gives, bit for bit, and its size is no matter of memory."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import GOLDENS
from support.small_agent import BATTLES, train_command
from torch.utils.data import DataLoader

from gemma_metamon.battle.replays import find_battles
from gemma_metamon.commands import main
from gemma_metamon.data import store
from gemma_metamon.data.dataset import BattleDataset, Battles, WindowNumbers, collate, split_held_out
from gemma_metamon.data.encoding import EncodedBattle, SetAside, encode_battle
from gemma_metamon.data.preparing import prepare
from gemma_metamon.data.shards import Shard, ShardForm, ShardRecord, write_shard
from gemma_metamon.data.store import BattleStore
from gemma_metamon.data.store_files import FormatPlan, write_plan, write_records
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.nets.batch import Batch
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.view import BattleView

FORMATS = ["gen1ou", "gen9ou"]
SPACES = {
    "obs_space": "TeamPreviewObservationSpace",
    "action_space": "DefaultActionSpace",
    "reward_function": "DefaultShapedReward",
}


def view_of(**names: Any) -> BattleView:
    return BattleView.from_names(**{**SPACES, **names})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded battles of the goldens, and among them one that is cut off."""
    root = tmp_path_factory.mktemp("folder")
    for name in FORMATS:
        shutil.copytree(BATTLES / name, root / name)
    cut_off = sorted((root / "gen1ou").iterdir())[2]
    cut_off.write_bytes(cut_off.read_bytes()[:800])
    return root


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(folder, tmp_path_factory.mktemp("stores") / "store", view_of())


def make_store(folder: Path, root: Path, view: BattleView) -> Path:
    prepare(folder, FORMATS, view, root, set_aside=SetAside(1.0), shard_battles=3)
    return root


def batches(dataset: BattleDataset, workers: int = 0, context: str | None = None) -> list[Batch]:
    loader: DataLoader = DataLoader(
        dataset,
        batch_size=4,
        sampler=WindowNumbers(0, 48),
        num_workers=workers,
        collate_fn=collate,
        multiprocessing_context=context,
    )
    return list(loader)


def assert_same(ours: Sequence[Batch], theirs: Sequence[Batch]) -> None:
    assert len(ours) == len(theirs) == 12
    for a, b in zip(ours, theirs, strict=True):
        arrays, others = {**a.obs, **a._asdict()}, {**b.obs, **b._asdict()}
        assert a.labels is b.labels is None  # nobody was asked
        for key in arrays.keys() - {"obs", "labels"}:
            assert arrays[key].dtype == others[key].dtype
            assert torch.equal(arrays[key], others[key]), key


def open_dataset(battles: Battles, view: BattleView, **settings: Any) -> BattleDataset:
    training, _ = split_held_out(battles, 0.2)
    return BattleDataset([training, battles], [0.7, 0.3], view, max_seq_len=12, max_set_aside=1.0, **settings)


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"obs_space": "DefaultObservationSpace", "action_space": "MinimalActionSpace"},
        {"reward_function": "BinaryReward", "vocabulary": Vocabulary.from_words(["tauros", "<move>", "<blank>"])},
    ],
    ids=["default", "other spaces", "other words"],
)
def test_a_seed_gives_the_same_batches_from_store_and_folder(names: dict, folder: Path, tmp_path: Path) -> None:
    view = view_of(**names)
    there = BattleStore(make_store(folder, tmp_path / "store", view)).battles(FORMATS)
    for seed in (0, 7):
        raw = open_dataset(find_battles(folder, FORMATS), view, seed=seed)
        assert_same(batches(open_dataset(there, view, seed=seed)), batches(raw))
    assert raw.set_aside.reasons  # the battle that is cut off was drawn, by both


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_loader_processes_change_nothing(prepared: Path, context: str) -> None:
    dataset = open_dataset(BattleStore(prepared).battles(FORMATS), view_of())
    here = batches(dataset)
    assert_same(batches(dataset, workers=2, context=context), here)


def test_the_same_battles_are_held_out(prepared: Path, folder: Path) -> None:
    there, files = BattleStore(prepared).battles(FORMATS[::-1]), find_battles(folder, FORMATS[::-1])
    for share in (0.0, 0.3, 0.6, 1.0):
        for stored, raw in zip(split_held_out(there, share), split_held_out(files, share), strict=True):
            assert [battle.path.relative_to(prepared) for battle in stored] == [
                path.relative_to(folder) for path in raw
            ]


def test_formats_are_chosen_within_the_store(prepared: Path, folder: Path) -> None:
    there = BattleStore(prepared)
    names = [battle.path.name for battle in there.battles(["gen9ou"])]
    assert names == [path.name for path in find_battles(folder, ["gen9ou"])]
    with pytest.raises(MissingFileError, match=r"holds no battle of format 'gen3ou' \(formats there: gen1ou, gen9ou"):
        there.battles(["gen3ou"])


def weights(save_dir: Path, run_name: str) -> bytes:
    return (Checkpoint(save_dir / run_name, 1).folder / WEIGHTS).read_bytes()


def test_training_from_the_store_equals_training_from_the_folder(
    prepared: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, data in (("raw", folder), ("store", prepared)):
        replays = ["--parsed_replay_dir", str(data), "--custom_replay_dir", str(data), "--max_set_aside", "0.5"]
        assert main(train_command(tmp_path, *replays, run_name=name)) == 0
    assert weights(tmp_path, "raw") == weights(tmp_path, "store")
    raw, stored = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("raw", "store")
    )
    assert raw[-1]["held_out/agreement"] == stored[-1]["held_out/agreement"]
    assert caplog.text.count("damaged battle files were set aside") == 2
    assert "not a whole lz4 frame" in (tmp_path / "store" / "set_aside.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_train_from_a_store_as_from_the_folder(prepared: Path, folder: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, data in (("raw", folder), ("store", prepared)):
        command = train_command(
            tmp_path,
            "--parsed_replay_dir",
            str(data),
            "--max_set_aside",
            "0.5",
            "--dloader_workers",
            "1",
            run_name=name,
        )
        subprocess.run(
            [*launch, "-m", "gemma_metamon", *command],
            env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=300,
            check=True,
        )
    assert weights(tmp_path, "raw") == weights(tmp_path, "store")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (
            ["--obs_space", "DefaultObservationSpace"],
            "was prepared with obs_space 'TeamPreviewObservationSpace', but this run uses 'DefaultObservationSpace'; "
            "use --obs_space TeamPreviewObservationSpace, or prepare another store",
        ),
        (["--action_space", "MinimalActionSpace"], "with action_space 'DefaultActionSpace', but this run uses 'Min"),
        (["--reward_function", "BinaryReward"], "with reward_function 'DefaultShapedReward', but this run uses 'Bin"),
        (["--tokenizer", "WORDS"], "/words.json, or prepare another store"),
        (["--formats", "gen3ou"], "holds no battle of format 'gen3ou' (formats there: gen1ou, gen9ou)"),
    ],
)
def test_another_view_than_the_stores_is_refused(
    flags: list[str], complaint: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = tmp_path / "words.json"
    words.write_text('["tauros"]')
    flags = [flag.replace("WORDS", str(words)) for flag in flags]
    assert main(train_command(tmp_path, "--parsed_replay_dir", str(prepared), *flags)) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(prepared) in said
    assert complaint in said
    assert not (tmp_path / "run").exists()


def test_the_stores_own_word_list_is_the_mend(folder: Path, tmp_path: Path) -> None:
    words = Vocabulary.from_words(["tauros", "<move>"])
    root = make_store(folder, tmp_path / "store", view_of(vocabulary=words))
    with pytest.raises(ConfigError, match=r"use --tokenizer .*/words\.json"):
        BattleStore(root).identity.require(view_of(), root)
    BattleStore(root).identity.require(view_of(vocabulary=Vocabulary.from_file(root / "words.json")), root)


def remove(root: Path) -> None:
    (root / "gen1ou" / "00001.arrow").unlink()


def cut_off(root: Path) -> None:
    shard = root / "gen1ou" / "00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-100])


def forget(root: Path) -> None:
    lines = (root / "shards.jsonl").read_text().splitlines(keepends=True)
    (root / "shards.jsonl").write_text("".join(line for line in lines if "gen1ou/00001" not in line))


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (remove, r"gen1ou/00001.arrow is missing; run the same prepare command again"),
        (cut_off, r"gen1ou/00001.arrow has \d+ bytes, not the \d+ it was written with"),
        (forget, r"is unfinished: 1 of 2 shards of gen1ou are there; run the same prepare command again"),
        (lambda root: (root / "store.json").write_text("{"), r"store.json is damaged"),
        (lambda root: (root / "store.json").write_text('{"layout": 9, "version": "0"}'), "has layout 9"),
        (lambda root: (root / "shards.jsonl").write_text("{}\n"), r"shards.jsonl is damaged"),
    ],
)
def test_a_store_that_is_not_whole_is_refused_by_name(
    harm: Any, complaint: str, prepared: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(prepared, tmp_path / "store"))
    harm(root)
    with pytest.raises(DataError, match=complaint):
        BattleStore(root).battles(FORMATS)


def test_a_file_that_is_no_shard_is_named(tmp_path: Path) -> None:
    shard = tmp_path / "00000.arrow"
    shard.write_bytes(b"ARROW1" + bytes(1000))
    with pytest.raises(DataError, match=r"00000\.arrow is damaged"):
        Shard(shard, ShardForm.of(view_of()), 1)
    table = pa.table({"name": ["a"]})
    with pa.OSFile(str(shard), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"00000\.arrow is damaged"):
        Shard(shard, ShardForm.of(view_of()), 1)


def test_any_arrow_reader_opens_a_shard(prepared: Path) -> None:
    table = pa.ipc.open_file((prepared / "gen1ou" / "00000.arrow").read_bytes()).read_all()
    assert table.column_names == ["name", "damage", "hold_out_rank", "timesteps"]
    battle = table.to_pylist()[0]
    assert battle["name"].endswith(".json.lz4")
    assert battle["damage"] is None
    words = json.loads((prepared / "words.json").read_text())
    assert words[battle["timesteps"][0]["text_tokens"][0]] == "<gen1ou>"
    assert battle["timesteps"][-1]["chosen"] == -1
    assert "not a whole lz4 frame" in table.to_pylist()[2]["damage"]


@st.composite
def encoded_battles(draw: st.DrawFn) -> EncodedBattle | str:
    length = draw(st.integers(0, 5))
    if not length:
        return draw(st.text(min_size=1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    view = view_of()
    return EncodedBattle(
        word_ids=rng.integers(-1, len(view.vocabulary), (length + 1, view.obs_space.n_words), dtype=np.int32),
        numbers=rng.standard_normal((length + 1, view.obs_space.n_numbers), dtype=np.float32),
        legal_actions=rng.random((length + 1, view.action_space.n)) < 0.5,
        actions=np.append(rng.integers(-1, view.action_space.n, length), -1),
        rewards=rng.standard_normal(length + 1, dtype=np.float32),
        labels=np.append(rng.integers(-1, view.action_space.n if draw(st.booleans()) else 0, length), -1),
    )


@settings(max_examples=30)
@given(battles=st.lists(encoded_battles(), min_size=1, max_size=6))
def test_what_is_written_is_read(battles: list[EncodedBattle | str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("shard")
    write_shard(root, "f/0.arrow", [f"{i}.json" for i in range(len(battles))], battles, view_of())
    shard = Shard(root / "f" / "0.arrow", ShardForm.of(view_of()), len(battles))
    for row, battle in enumerate(battles):
        if isinstance(battle, str):
            assert shard.damage_of(row) == battle
            continue
        read = shard.battle(row)
        for name in EncodedBattle.__slots__:
            wanted, found = getattr(battle, name), getattr(read, name)
            assert wanted.dtype == found.dtype
            np.testing.assert_array_equal(wanted, found, err_msg=name)


def test_a_store_of_before_gives_what_its_battles_give() -> None:
    """It was made by 0.1.0; the words of its gen9ou battles are mostly unknown to it."""
    root = GOLDENS / "stores" / "layout_1"
    view = view_of(vocabulary=Vocabulary.from_file(root / "words.json"))
    kept = BattleStore(root)
    kept.identity.require(view, root)
    assert [complaint for _, complaint in kept.check_shards() if complaint] == []
    stored = kept.battles(FORMATS)
    assert len(stored) == 4
    for battle in stored:
        file = BATTLES / "edge_cases" / battle.path.relative_to(root)
        loaded, encoded = battle.load(), encode_battle(file, view)
        assert (encoded.actions[:-1] == -1).any()
        for name in EncodedBattle.__slots__:
            wanted, found = getattr(encoded, name), getattr(loaded, name)
            assert wanted.dtype == found.dtype
            np.testing.assert_array_equal(wanted, found, err_msg=name)


DRAW = """
import sys
from pathlib import Path
from gemma_metamon.view import BattleView
from gemma_metamon.data.dataset import BattleDataset, split_held_out
from gemma_metamon.data.store import BattleStore

def resident_mib():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

view = BattleView.default()
before, most = resident_mib(), 0
training, _ = split_held_out(BattleStore(Path(sys.argv[1])).battles(["gen1ou"]), 0.0)
dataset = BattleDataset([training], [1.0], view, max_seq_len=128)
dataset.preload()
for number in range(len(training)):
    dataset[number]
    if number % 100 == 0:
        most = max(most, resident_mib())
print(most - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_resident_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    view, root, grown = view_of(), tmp_path / "store", {}
    longest = max(find_battles(BATTLES, ["gen1ou"]), key=lambda path: path.stat().st_size)
    record = write_shard(
        root, "gen1ou/00000.arrow", [f"{i}.json" for i in range(16)], [encode_battle(longest, view)] * 16, view
    )
    for shards in (store.MAPPED_SHARDS, 6 * store.MAPPED_SHARDS):
        replicate(root, record, shards, view)
        done = subprocess.run([sys.executable, "-c", DRAW, str(root)], capture_output=True, text=True, check=True)
        grown[shards] = float(done.stdout)
    assert shards * record.size_bytes > 200 * 2**20
    mapped_mib = store.MAPPED_SHARDS * record.size_bytes / 2**20
    assert max(grown.values()) < mapped_mib + 10, grown


def replicate(root: Path, record: ShardRecord, shards: int, view: BattleView) -> None:
    """Makes a store of so many shards, all of them the one that is there."""
    plan = FormatPlan(battles=shards * record.battles, shard_battles=record.battles, names="")
    names = plan.shards("gen1ou")
    for name in names[1:]:
        if not (root / name).exists():
            (root / name).hardlink_to(root / record.shard)
    write_plan(root, view, {"gen1ou": plan})
    write_records(root, [replace(record, shard=name) for name in names])
