"""What goes wrong with the simulator is told in one sentence by the commands that play in an arena."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.node import needs_node
from support.processes import command_line, descendants, eventually, is_running

from gemma_metamon.commands import main

posix = pytest.mark.skipif(os.name == "nt", reason="signals, and scripts in the place of Node.js")
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
COMMANDS = {
    "collect": ["collect", "--players", "RandomPlayer"],
    "evaluate": ["evaluate", "--run_dir", "RandomPlayer", "--opponents", "MaxBasePowerPlayer"],
}
both = pytest.mark.parametrize("command", COMMANDS)
one_for_both = pytest.mark.parametrize("command", ["collect", pytest.param("evaluate", marks=pytest.mark.long)])


def said(command: str, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The one line of a refusal."""
    arguments = [*COMMANDS[command], "--battles", "4", "--out", str(out), *options]
    assert main([*arguments, *(() if "--format" in options else ("--format", "gen1ou"))]) == 1
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"gemma-metamon {command}: ")
    return line.removeprefix(f"gemma-metamon {command}: ")


@posix
@both
def test_a_missing_or_old_node_is_named_with_where_to_get_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mend = "; install Node.js 18 or later (https://nodejs.org) so that `node` and `npm` are on the PATH"
    line = said(command, tmp_path / "out", capsys)
    # bundled teams that were packed in this process before need no Node.js; otherwise a clause about teams follows
    assert line.startswith(f"the simulator of battles needs Node.js, and no `node` was found{mend}")
    (tmp_path / "node").write_text("#!/bin/sh\necho v16.20.0\n")
    (tmp_path / "node").chmod(0o755)
    line = said(command, tmp_path / "out", capsys)
    assert line.startswith(f"found Node.js v16.20.0, but the simulator of battles needs 18 or later{mend}")


@pytest.mark.server
@needs_node
@both
def test_a_format_or_team_that_the_simulator_refuses_is_refused_in_its_words(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(command, tmp_path / "out", capsys, "--format", "gen1nonsense")
    assert line == "--format 'gen1nonsense': the simulator has no such format, such as gen1ou or gen9ou"
    assert "gen9doublesou is no singles format" in said(command, tmp_path / "out", capsys, "--format", "gen9doublesou")
    (tmp_path / "banned.gen1ou_team").write_text("Mewtwo\n- Psychic\n")
    line = said(command, tmp_path / "out", capsys, "--team_dir", str(tmp_path))
    assert line.startswith("the simulator refuses battle-gen1ou-0: ")
    assert line.endswith("'s team is not valid for gen1ou: Mewtwo is tagged Uber, which is banned.")


@pytest.mark.slow
@pytest.mark.server
@needs_node
@linux
@one_for_both
@pytest.mark.parametrize("kills", [1, 2])
def test_a_killed_worker_costs_no_battle_and_one_killed_again_ends_the_command(
    command: str, kills: int, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    arguments = [*COMMANDS[command], "--format", "gen1ou", "--battles", "80", "--out", str(tmp_path / "out")]
    with log.open("w") as words:
        process = subprocess.Popen([sys.executable, "-m", "gemma_metamon", *arguments], stdout=words, stderr=words)
    killed: list[int] = []
    try:
        for _ in range(kills):
            killed.append(eventually(lambda: worker_in_play(process.pid, killed)))
            os.kill(killed[-1], signal.SIGKILL)
        status = process.wait(120)
    finally:
        process.kill()
        process.wait()
    lost = [f"is lost: worker {pid}, which played it, was ended by signal 9" for pid in killed]
    text = log.read_text()
    assert f"{lost[0]}; it begins again" in text
    assert "Traceback" not in text
    if kills == 1:
        assert status == 0, text
        assert "80/80" in text
    else:
        assert status == 1
        line = text.strip().splitlines()[-1]
        assert line.startswith(f"gemma-metamon {command}: ")
        assert line.endswith(f"{lost[1]}, for the second time; it may be that this machine has too little memory")


@pytest.mark.slow
@pytest.mark.server
@needs_node
@linux
@one_for_both
def test_a_worker_that_hangs_is_ended_and_its_battles_begin_again(command: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = [*COMMANDS[command], "--format", "gen1ou", "--battles", "80", "--out", str(tmp_path / "out")]
    with log.open("w") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "gemma_metamon", *arguments, "--timeout_s", "15"], stdout=words, stderr=words
        )
    helpers: list[int] = []
    try:
        hanging = eventually(lambda: worker_in_play(process.pid, []))
        os.kill(hanging, signal.SIGSTOP)
        helpers = descendants(process.pid)
        status = process.wait(300)
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert status == 0, text
    why = "said nothing for 15 seconds and was ended by signal 9"
    assert f"is lost: worker {hanging}, which played it, {why}; it begins again" in text
    assert "80/80" in text
    assert "Traceback" not in text
    eventually(lambda: not any(map(is_running, helpers)))


@pytest.mark.slow
@pytest.mark.server
@needs_node
@linux
@one_for_both
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_is_killed_or_hangs_is_one_sentence_and_what_was_played_stays(
    command: str, how: signal.Signals, tmp_path: Path
) -> None:
    from gemma_metamon.showdown.simulator.server import running_server

    log, out = tmp_path / "log", tmp_path / "out"
    arguments = [*COMMANDS[command], "--format", "gen1ou", "--battles", "400", "--out", str(out), "--timeout_s", "30"]
    with running_server() as server:
        with log.open("w") as words:
            process = subprocess.Popen(
                [sys.executable, "-m", "gemma_metamon", *arguments, "--server", server.websocket_url],
                stdout=words,
                stderr=words,
            )
        try:
            found = "*.json.lz4" if command == "collect" else "*.log"
            eventually(lambda: any(out.rglob(found)) or process.poll() is not None, 300)
            os.kill(server.pid, how)
            helpers = descendants(process.pid)
            status = process.wait(300)
        finally:
            process.kill()
            process.wait()
            if how == signal.SIGSTOP:
                os.kill(server.pid, signal.SIGCONT)
    text = log.read_text()
    assert status == 1, text
    assert "Traceback" not in text
    assert text.strip().splitlines()[-1].startswith(f"gemma-metamon {command}: ")
    assert any(out.rglob(found))
    assert not any(path.name.endswith(".part") for path in out.rglob("*"))
    eventually(lambda: not any(map(is_running, helpers)))


def worker_in_play(parent: int, known: list[int]) -> int | None:
    """A worker that has begun to play: it has read its commands, and used the processor for a while."""
    for pid in descendants(parent):
        with suppress(OSError):  # a process that has ended meanwhile
            if pid not in known and "worker.js" in command_line(pid):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                if (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > 1.2:
                    return pid
    return None
