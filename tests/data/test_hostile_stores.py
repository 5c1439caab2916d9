"""A prepared store that somebody harmed is refused by name, or its battle set aside, without `--verify`, too."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.small_agent import BATTLES, train_command

from gemma_metamon.commands import main
from gemma_metamon.data.dataset import BattleDataset
from gemma_metamon.data.encoding import SetAside
from gemma_metamon.data.preparing import prepare
from gemma_metamon.data.store import BattleStore
from gemma_metamon.data.store_files import read_records, write_records
from gemma_metamon.errors import DataError
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.view import BattleView

SHARD = "gen1ou/00000.arrow"
VIEW = BattleView.default()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    for path in sorted((BATTLES / "gen1ou").iterdir())[:4]:
        (folder / "raw" / "gen1ou").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "raw" / "gen1ou")
    prepare(folder / "raw", ["gen1ou"], VIEW, folder / "store", set_aside=SetAside(1.0))
    return folder / "store"


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """The JSON of a file, changed in place or exchanged."""
    value = json.loads(path.read_text())
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))


PLANS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no layout": (lambda s: {"formats": s["formats"]}, r"is damaged \(it has no 'layout'\)"),
    "a list": (lambda s: [s], r"holds \[.*\]; expected a JSON object"),
    "no formats": (lambda s: s.update(formats={}), "it has no formats"),
    "formats a list": (lambda s: s.update(formats=[1]), r"formats is \[1\]; expected an object"),
    "another folder": (lambda s: s["formats"].update({"../../x": s["formats"]["gen1ou"]}), "'../../x' names no format"),
    "the folder above": (lambda s: s["formats"].update({"..": s["formats"]["gen1ou"]}), "'..' names no format"),
    "a long name": (lambda s: s["formats"].update({"a" * 300: s["formats"]["gen1ou"]}), "'aaa.*aaa' names no format"),
    "a line end": (lambda s: s["formats"].update({"a\n": s["formats"]["gen1ou"]}), "names no format"),
    "no battles": (lambda s: s["formats"]["gen1ou"].update(battles=0), "has 0 battles in shards of"),
    "battles of true": (
        lambda s: s["formats"]["gen1ou"].update(battles=True),
        r"formats\.gen1ou\.battles is True; expected a count",
    ),
    "10**15 battles": (lambda s: s["formats"]["gen1ou"].update(battles=10**15), "at most 1000000 shards"),
    "10**400 battles": (lambda s: s["formats"]["gen1ou"].update(battles=10**400), r"formats\.gen1ou\.battles is 1000"),
    "shards of none": (lambda s: s["formats"]["gen1ou"].update(shard_battles=0), "battles in shards of 0"),
    "a plan of null": (lambda s: s["formats"].update(gen1ou=None), r"formats\.gen1ou is null; expected an object"),
    "no identity": (lambda s: {**s, "identity": None}, "identity is null; expected an object"),
    "a vocabulary of 5": (
        lambda s: s["identity"].update(vocabulary=5),
        r"identity\.vocabulary is 5; expected a string",
    ),
    "an unknown space": (lambda s: s["identity"].update(obs_space="X"), "unknown observation space 'X'"),
    "other words": (
        lambda s: s["identity"].update(vocabulary="0"),
        "words.json holds other words than",
    ),
}


@pytest.mark.parametrize("harm", PLANS)
def test_a_plan_that_is_none_is_refused(harm: str, store: Path) -> None:
    change, complaint = PLANS[harm]
    edit(store / "store.json", change)
    with pytest.raises(DataError, match=complaint):
        BattleStore(store).battles(["gen1ou"])


RECORDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another folder": (lambda r: r.update(shard="../../x/00000.arrow"), "'../../x/00000.arrow' names no shard"),
    "a float": (lambda r: r.update(battles=4.0), r"\(battles is 4\.0; expected a count"),
    "less than none": (lambda r: r.update(size_bytes=-1), "size_bytes is -1; expected a count"),
    "words a list": (lambda r: r.update(unknown_words=["a"]), r"unknown_words is \['a'\]; expected an object"),
    "one field more": (lambda r: r.update(more=1), "more is unknown"),
}


@pytest.mark.parametrize("harm", RECORDS)
def test_a_record_that_is_none_is_refused_with_its_line(harm: str, store: Path) -> None:
    change, complaint = RECORDS[harm]
    edit(store / "shards.jsonl", change)
    (store / "shards.jsonl").write_text((store / "shards.jsonl").read_text() + "\n")
    with pytest.raises(DataError, match=f"line 1 of .*shards.jsonl is damaged .*{complaint}"):
        BattleStore(store)


@pytest.mark.parametrize("name", ["store.json", "shards.jsonl", "words.json"])
@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"1" * 5000 + b"\n", b"NaN\n", b""])
def test_bytes_that_are_no_json_are_refused(name: str, content: bytes, store: Path) -> None:
    (store / name).write_bytes(content)
    with pytest.raises(DataError, match=name if content else r"json|unfinished"):
        BattleStore(store).battles(["gen1ou"])


def test_a_store_without_its_words_is_refused(store: Path) -> None:
    (store / "words.json").unlink()
    with pytest.raises(DataError, match=r"is damaged \(it has no words\.json\); prepare the store again"):
        BattleStore(store)


def harm_shard(store: Path, change: Callable[[pa.Table], pa.Table], compression: str | None = None) -> None:
    """Rewrites the shard, and its record so that size and counts are no hint."""
    table = change(pa.ipc.open_file((store / SHARD).read_bytes()).read_all())
    with (
        pa.OSFile(str(store / SHARD), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer,
    ):
        writer.write_table(table)
    record = replace(read_records(store)[SHARD], size_bytes=(store / SHARD).stat().st_size)
    write_records(store, [record])


def with_rows(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[pa.Table], pa.Table]:
    """The table whose rows, as Python has them, were changed."""

    def rewrite(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        change(rows)
        return pa.Table.from_pylist(rows, schema=table.schema)

    return rewrite


def with_type(column: str, type_: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    """The table with a column of another type within its timesteps."""

    def rewrite(table: pa.Table) -> pa.Table:
        timestep = table.schema.field("timesteps").type.value_type
        fields = [pa.field(f.name, type_ if f.name == column else f.type) for f in timestep]
        schema = table.schema.set(3, pa.field("timesteps", pa.list_(pa.struct(fields))))
        return pa.Table.from_pylist(table.to_pylist(), schema=schema)

    return rewrite


OTHER_COLUMNS = "its columns are not those of the store's observations"
SHARDS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a battle less": (lambda t: t.slice(1), "it holds 3 battles, not 4"),
    "a column less": (lambda t: t.drop_columns(["damage"]), OTHER_COLUMNS),
    "a column renamed": (lambda t: t.rename_columns({"name": "x"}), OTHER_COLUMNS),
    "names that are numbers": (lambda t: t.set_column(0, "name", pa.array(range(4))), OTHER_COLUMNS),
    "wider tokens": (with_type("text_tokens", pa.list_(pa.int32(), 106)), OTHER_COLUMNS),
    "rewards of float64": (with_type("reward", pa.float64()), OTHER_COLUMNS),
    "a place of NaN": (
        with_rows(lambda r: r[0].update(hold_out_rank=float("nan"))),
        "hold_out_rank is not in .0, 1",
    ),
    "a place of 7": (with_rows(lambda r: r[0].update(hold_out_rank=7.0)), "hold_out_rank is not in .0, 1"),
    "no name": (with_rows(lambda r: r[0].update(name=None)), "a value is missing"),
    "no timesteps": (with_rows(lambda r: r[0].update(timesteps=[])), "neither timesteps nor a reason"),
    "one timestep": (with_rows(lambda r: r[0].update(timesteps=r[0]["timesteps"][:1])), "a battle has one timestep"),
    "timesteps and a reason": (with_rows(lambda r: r[0].update(damage="x")), "or both"),
    "a missing reward": (with_rows(lambda r: r[0]["timesteps"][0].update(reward=None)), "a value is missing"),
}


@pytest.mark.parametrize("harm", SHARDS)
def test_a_shard_that_is_none_of_the_stores_is_refused_when_it_is_opened(harm: str, store: Path) -> None:
    change, complaint = SHARDS[harm]
    harm_shard(store, change)
    with pytest.raises(DataError, match=rf"00000\.arrow is damaged \(.*{complaint}"):
        BattleStore(store).battles(["gen1ou"]).split(0.5)


def test_a_compressed_shard_is_refused(store: Path) -> None:
    harm_shard(store, lambda table: table, compression="zstd")
    with pytest.raises(DataError, match=r"00000\.arrow is damaged"):
        BattleStore(store).battles(["gen1ou"]).split(0.5)


def step(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A timestep of the first battle."""
    timestep: dict[str, Any] = rows[0]["timesteps"][1]
    return timestep


VALUES: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "a token beyond the vocabulary": (
        lambda rows: step(rows)["text_tokens"].__setitem__(3, len(VIEW.vocabulary)),
        f"text_tokens holds {len(VIEW.vocabulary)}; expected -1 to {len(VIEW.vocabulary) - 1}",
    ),
    "a token below -1": (lambda rows: step(rows)["text_tokens"].__setitem__(0, -2), "text_tokens holds -2"),
    "NaN among the numbers": (lambda rows: step(rows)["numbers"].__setitem__(0, float("nan")), "numbers holds nan"),
    "infinity": (lambda rows: step(rows)["numbers"].__setitem__(9, float("inf")), "numbers holds inf; expected -1e"),
    "a reward of NaN": (lambda rows: step(rows).update(reward=float("nan")), "reward holds nan"),
    "a reward of 1e30": (lambda rows: step(rows).update(reward=1e30), "reward holds 1.*e.30"),
    "an action of 13": (lambda rows: step(rows).update(chosen=13), "chosen holds 13; expected -1 to 12"),
    "an action at the end": (
        lambda rows: rows[0]["timesteps"][-1].update(chosen=3),
        "chosen ends with 3; the last state",
    ),
    "an action of -2": (lambda rows: step(rows).update(chosen=-2), "chosen holds -2"),
}


@pytest.mark.parametrize("harm", VALUES)
def test_a_battle_with_a_value_that_cannot_be_is_set_aside_when_it_is_loaded(harm: str, store: Path) -> None:
    change, complaint = VALUES[harm]
    harm_shard(store, with_rows(change))
    battles = BattleStore(store).battles(["gen1ou"])
    with pytest.raises(DataError, match=rf"00000\.arrow: {complaint}"):
        battles[0].load()
    dataset = BattleDataset([battles], [1.0], VIEW, max_seq_len=12, max_set_aside=0.5)
    dataset.preload()
    for number in range(40):
        assert np.isfinite(dataset[number].obs["numbers"]).all()
    assert list(dataset.set_aside.reasons) == [battles[0].path]
    strict = BattleDataset([battles[:1]], [1.0], VIEW, max_seq_len=12, max_set_aside=0.0)
    strict.set_aside.met = 20
    with pytest.raises(DataError, match="battle files are damaged"):
        strict[0]


def test_training_from_a_harmed_store_stays_finite(store: Path, tmp_path: Path) -> None:
    harm_shard(store, with_rows(lambda rows: step(rows)["numbers"].__setitem__(0, float("nan"))))
    command = train_command(tmp_path, "--max_set_aside", "0.5")
    command[command.index("--parsed_replay_dir") + 1] = str(store)
    del command[command.index("gen9ou")]
    assert main(command) == 0
    weights = Checkpoint.find(tmp_path / "run", 1).read_weights()
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_verify_names_each_shard_that_is_none(store: Path, capsys: pytest.CaptureFixture) -> None:
    (store / SHARD).write_bytes(b"\0" * (store / SHARD).stat().st_size)
    assert main(["prepare", "--out", str(store), "--verify"]) == 1
    assert f"{SHARD} does not have the checksum" in capsys.readouterr().err
