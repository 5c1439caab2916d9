"""Runs inside metamon as it is installed: their processes, and the fixtures that several test files ask for."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.small_agent import BATTLES, TINY

import gemma_metamon.teams
from gemma_metamon.commands import main
from gemma_metamon.configs.files import find_config
from gemma_metamon.errors import MissingDependencyError, ServerError
from gemma_metamon.showdown.simulator import server
from gemma_metamon.upstream import interchange, versions
from gemma_metamon.upstream.datasets import dataset_text, link_roots

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("metamon", "amago")),
        reason="needs metamon and amago: see CONTRIBUTING.md",
    ),
]
TREE = versions.find_tree(versions.find_installed("metamon").version) or versions.TREES[0]
PROGRAM = Path(__file__).with_name("metamon_process.py")
SHOWDOWN_PORT = 8000  # metamon asks for no other
TIMEOUT_S = 300.0


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of the processes: the packaged teams where metamon looks for its own, and no network."""
    cache = tmp_path_factory.mktemp("metamon_cache")
    for folder in Path(gemma_metamon.teams.__file__).parent.glob("gen*"):
        shutil.copytree(folder, cache / "teams" / "competitive" / folder.name)
    offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    return {**os.environ, **offline, "METAMON_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}


def run_program(name: str, folder: Path, env: dict[str, str], **spec: Any) -> Any:
    """The result of one of metamon_process.py's programs, with its output left in folder/output.txt."""
    folder.mkdir(exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    with (folder / "output.txt").open("wb") as output:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), name, str(folder / "spec.json")],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, (folder / "output.txt").read_text()[-3000:]
    return json.loads((folder / "result.json").read_text())


def train_flags(save_dir: Path, model: str | None, *extra: str, epochs: int = 1) -> list[str]:
    """Of metamon.rl.train, for a run on recorded battles that starts soon."""
    flags = ["--run_name", "run", "--save_dir", str(save_dir), "--train_gin_config", "binary_rl.gin"]
    (root,) = link_roots(BATTLES, ["gen1ou"], save_dir.with_name(f"{save_dir.name}_roots"))
    if TREE.dataset_file:
        (save_dir / "dataset.yaml").write_text(dataset_text([(root, 1.0)], ["gen1ou"], replay_weight=0.0))
        flags += ["--dataset_config", str(save_dir / "dataset.yaml")]
    else:
        flags += ["--parsed_replay_dir", str(root.folder), "--formats", "gen1ou"]
    flags += ["--batch_size_per_gpu", "2", "--dloader_workers", "0", "--async_env_mp_context", "fork", "--eval_gens"]
    flags += ["--epochs", str(epochs)]
    return [*flags, *([] if model is None else ["--model_gin_config", model]), *extra]


def start_training(flags: list[str], env: dict[str, str], output: Path) -> None:
    """Runs `python -m metamon.rl.train` until it has made five updates, and ends it."""
    make_five_updates([sys.executable, "-m", "metamon.rl.train", *flags], env, output)


def make_five_updates(command: list[str], env: dict[str, str], output: Path, **options: Any) -> None:
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            env=env,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its environments are processes, too
            **options,
        )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not re.search(r"\b([5-9]|\d\d+)/(25|100)000\b", text := output.read_text(errors="replace")):
            assert process.poll() is None, text[-3000:]
            assert time.monotonic() < deadline, text[-3000:]
            time.sleep(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def derive(name: str, overrides: list[str], path: Path) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert (
            main(["configs", "derive", name, *(word for line in overrides for word in ("--gin_override", line))]) == 0
        )
    path.write_text(printed.getvalue())
    return str(path)


def policy_file(save_dir: Path, epoch: int) -> Path:
    return interchange.policy_path(save_dir, "run", epoch)


@pytest.fixture(scope="module")
def save_dir(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that metamon's own command line has begun, with the tiny config by its path."""
    save_dir = tmp_path_factory.mktemp("metamon_checkpoints")
    start_training(train_flags(save_dir, tiny_path()), env, save_dir / "output.txt")
    return save_dir


@pytest.fixture(scope="module")
def trained(save_dir: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What three short epochs in that run saw."""
    folder = tmp_path_factory.mktemp("train")
    flags = train_flags(save_dir, tiny_path(), epochs=3)
    return {"save_dir": save_dir, **run_program("train", folder, env, flags=flags, steps_per_epoch=4)}


def tiny_path() -> str:
    return str(find_config(TINY, "models").resolve())


@pytest.fixture(scope="module")
def showdown() -> Iterator[None]:
    """A server where metamon looks for one: that which answers there, or one of our own."""
    if server.answers(SHOWDOWN_PORT):
        yield
        return
    try:
        with server.running_server(SHOWDOWN_PORT):
            yield
    except (MissingDependencyError, ServerError) as error:
        pytest.skip(f"metamon's port {SHOWDOWN_PORT} has no Showdown server: {error}")


def run_here(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gemma_metamon", *command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def printed_object(output: str) -> dict[str, Any]:
    """The JSON object that metamon prints at the end; its players may print a last choice behind it."""
    found, _ = json.JSONDecoder().raw_decode(output, output.rindex("\n{\n") + 1)
    assert isinstance(found, dict)
    return found
