"""A password or token that a command is given stands in nothing that it leaves behind, and in no list of processes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.node import needs_node
from support.processes import free_port
from support.small_agent import train_command

from gemma_metamon.commands import main

SECRETS = {
    "WANDB_API_KEY": "5ec4e7" + "0123456789abcdef" * 2 + "ab",
    "HF_TOKEN": "hf_" + "Sec4e7" * 6,
    "SHOWDOWN_PASSWORD": "correct horse battery staple",
    "OPENAI_API_KEY": "sk-proj-" + "s3cr3t" * 5,
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI" + "K7MDENGbPxRfiCYEXAMPLEKEY",
    "GEMMA_METAMON_TOKEN": "bearer-" + "t0k3n" * 6,
}


def holding(folder: Path) -> list[str]:
    """Every file that holds one of them, also compressed by wandb's own writer, which compresses nothing."""
    values = [value.encode() for value in SECRETS.values()]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(value in path.read_bytes() for value in values)]


def told(text: str) -> list[str]:
    """The names of those that a text tells."""
    return [name for name, value in SECRETS.items() if value in text]


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
    """The command lines of all processes that this one starts in the block, and of those that they start."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    seen.add(" ".join(process.cmdline()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment, of this process and of those that it starts; wandb keeps to the test's folder."""
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
        monkeypatch.setenv(name, str(tmp_path / "wandb" / name))
    for name, value in {**SECRETS, "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
@pytest.mark.server
@needs_node
@pytest.mark.usefixtures("secrets")
def test_a_training_and_what_is_made_of_it_leave_no_secret_behind(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="needs the extra: pip install 'gemma-metamon[wandb]'")
    pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")
    run, registry = str(tmp_path / "runs/run"), str(tmp_path / "registry")
    played = ["evaluate", "--run_dir", run, "--opponents", "RandomPlayer", "--battles", "2", "--format", "gen1ou"]
    league, ours = str(tmp_path / "league"), [sys.executable, "-m", "gemma_metamon", "--debug"]
    with watched() as command_lines:
        command = [*ours, *train_command(tmp_path / "runs", "--log", "--dloader_workers", "1")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
        assert main([*played, "--workers", "2", "--out", league]) == 0
        assert main(["report", league]) == 0
        assert main(["report", run]) == 0
        assert main(["registry", "register", run, "--name", "best", "--results", league, "--registry", registry]) == 0
        assert main(["registry", "show", "best@1", "--registry", registry]) == 0
        served = serve_and_end([*ours, "serve", run, "--port", str(free_port())])
    assert any("wandb" in line for line in command_lines)
    assert any("serve" in line for line in command_lines)
    assert any("node" in line for line in command_lines)
    assert told("\n".join(command_lines)) == []
    printed = capfd.readouterr()
    assert told(done.stdout + done.stderr + served + printed.out + printed.err) == []
    for made in ("*.wandb", "metrics.jsonl", "report.html", "*.log"):
        assert list(tmp_path.rglob(made)), made
    assert holding(tmp_path) == []
    from gemma_metamon.release.contents import find_contents
    from gemma_metamon.release.secrets import find_secrets

    known = {name: value.encode() for name, value in SECRETS.items()}
    files = find_contents("agent", tmp_path / "runs" / "run").files.values()
    assert [find_secrets(path, known) for path in files] == [[] for _ in files]


def serve_and_end(command: list[str]) -> str:
    """What a service says that was asked with a wrong token and with the right one."""
    from support.served import ask

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = ""
        while " is served at " not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        url = said.split(" is served at ")[1].split(" ")[0]
        assert ask(f"{url}/act", b"{", token="another")[0] == 401
        assert ask(f"{url}/act", b"{", token=os.environ["GEMMA_METAMON_TOKEN"])[0] == 400
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=120)[0]
    assert process.returncode == 0
    return said


def test_a_secret_that_were_left_behind_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"token {SECRETS['HF_TOKEN']}")
    assert holding(tmp_path) == [str(tmp_path / "a.log")]
    assert told(f"--password {SECRETS['SHOWDOWN_PASSWORD']}") == ["SHOWDOWN_PASSWORD"]


def test_a_secret_in_an_argument_would_be_seen() -> None:
    """Of a process that another one has started."""
    inner = f"import time; time.sleep(3)  # {SECRETS['HF_TOKEN']}"
    outer = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.stdin.read()])"
    with watched() as command_lines:
        subprocess.run([sys.executable, "-c", outer], input=inner, text=True, check=True, timeout=60)
    assert told("\n".join(command_lines)) == ["HF_TOKEN"]
