"""Whether metamon, amago, poke-env and this package go together here: a row for each thing, with its mend.

`look` reads files and variables and takes no time; `try_out` trains and plays in processes of their own.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import gemma_metamon
from gemma_metamon.checklist import Row, State
from gemma_metamon.child_processes import start_command
from gemma_metamon.errors import MissingDependencyError, ServerError
from gemma_metamon.showdown.simulator import server
from gemma_metamon.upstream import versions

SHOWDOWN_PORT: Final = 8000
"""metamon plays on this one and no other."""
_PACKAGES: Final = (("metamon", "metamon"), ("amago", "amago"), ("poke_env", "poke-env"))


def look(folder: Path) -> list[Row]:
    """What can be seen without starting anything; `folder` is the one that commands are run from."""
    found = {known_as: versions.find_installed(name, known_as) for name, known_as in _PACKAGES}
    rows = [
        Row(
            name="gemma_metamon",
            state="ok",
            found=f"{gemma_metamon.__version__} at {Path(gemma_metamon.__file__).parent}",
        )
    ]
    rows += [_package_row(package) for package in found.values()]
    metamon, amago, poke_env = found.values()
    if metamon.version and amago.version:
        rows.append(_verdict_row("the pair", versions.judge(metamon.version, amago.version)))
        if amago.installed_as not in ("", amago.version):
            rows.append(
                Row(
                    name="amago's version",
                    state="untried",
                    found=f"it calls itself {amago.version}, but was installed as {amago.installed_as}",
                )
            )
    if metamon.version and poke_env.folder is not None:
        rows.append(_verdict_row("poke-env for it", versions.judge_poke_env(metamon.version, poke_env.version)))
    return [*rows, _cache_row(), _folder_row(folder), *_fight_rows(metamon.version)]


def _package_row(package: versions.Installed) -> Row:
    if package.folder is None:
        return Row(name=package.name, state="wrong", found="not installed", mend=versions.INSTALL)
    if package.is_clone:
        return Row(name=package.name, state="wrong", found=f"{package.folder}, a clone", mend=f"cd {package.folder}")
    return Row(name=package.name, state="ok", found=f"{package} at {package.folder}".removeprefix(f"{package.name} "))


def _verdict_row(name: str, verdict: versions.Verdict) -> Row:
    state: State = "ok" if verdict.fits == "yes" else "untried"
    return Row(name=name, state="wrong" if verdict.fits == "no" else state, found=verdict.reason, mend=verdict.mend)


def _cache_row() -> Row:
    cache = os.environ.get(versions.CACHE_DIR)
    if cache:
        return Row(name=versions.CACHE_DIR, state="ok", found=cache)
    return Row(
        name=versions.CACHE_DIR,
        state="wrong",
        found="not set: metamon does not start without a folder for its teams and battles",
        mend=f"export {versions.CACHE_DIR}=~/metamon_cache",
    )


def _folder_row(folder: Path) -> Row:
    """Asks a Python that is started there, as `python -m` is: how a package was installed decides, too."""
    names = [name for name, _ in _PACKAGES if versions.is_clone(folder / name, name)]
    code = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if importlib.util.find_spec(n).origin is None))"
    hidden = []
    if names:
        asked = subprocess.run([sys.executable, "-c", code, *names], cwd=folder, capture_output=True, text=True)
        hidden = asked.stdout.split()
    if not hidden:
        return Row(name="this folder", state="ok", found="hides no package")
    clones = " and ".join(str(folder / name) for name in hidden)
    return Row(
        name="this folder",
        state="wrong",
        found=f"`python -m metamon.rl.train` finds {clones} here, the clone and not the package in it",
        mend=f"cd {folder / hidden[0]}, or anywhere else",
    )


def _fight_rows(metamon: str) -> list[Row]:
    tree = versions.find_tree(metamon)
    if tree is None or tree.knows_fight:
        return []
    return [
        Row(
            name="gen 1 battles",
            state="untried",
            found=f"metamon {metamon} does not know the Fight button that Showdown has in gen 1 since 2026, and fails",
            mend=f"for gen 1: {versions.OLDER_SHOWDOWN}",
        )
    ]


def try_out(folder: Path, *, timeout_s: float) -> Iterator[Row]:
    """Trains the tiny config for three updates, then lets it play; the second needs the first.

    Args:
        folder: an empty one, for what they write and print.
        timeout_s: of each.
    """
    from gemma_metamon.upstream import trial

    trial.fill_cache(folder / "cache")
    row = _run_trial("update", "three updates", folder, timeout_s)
    yield row
    if row.state == "wrong":
        return
    try:
        if server.answers(SHOWDOWN_PORT):
            yield _run_trial("battle", "a battle", folder, timeout_s)
        else:
            with server.running_server(SHOWDOWN_PORT):
                yield _run_trial("battle", "a battle", folder, timeout_s)
    except (MissingDependencyError, ServerError) as error:
        yield Row(
            name="a battle",
            state="wrong",
            found=f"no simulator on port {SHOWDOWN_PORT}, the only one that metamon plays on: {error}",
            mend=f"gemma-metamon showdown start --port {SHOWDOWN_PORT}",
        )


def _run_trial(program: str, name: str, folder: Path, timeout_s: float) -> Row:
    log = folder / f"{program}.txt"
    offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", versions.CACHE_DIR: str(folder / "cache")}
    # the folder that this is run from may hide a package, which is a row of its own
    path = os.pathsep.join(
        str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
    )
    with log.open("wb") as output:
        process = start_command(
            [sys.executable, "-m", "gemma_metamon.upstream.trial", program, str(folder)],
            cwd=folder,
            env={**os.environ, **offline, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its environments are processes, too
        )
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return Row(
                name=name,
                state="wrong",
                found=f"not done within {timeout_s:g} s: {_last_line(log)}",
                mend=f"give it longer, --timeout_s; what it printed is in {log}",
            )
        finally:
            _end(process)
    if status == 0:
        return Row(name=name, state="ok", found="done")
    return Row(name=name, state="wrong", found=_last_line(log), mend=f"what it printed is in {log}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone, or macOS's word for it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else "it printed nothing"


def commands(metamon: str) -> list[str]:
    """What trains the flagship on this version of metamon; on one that the table lacks, what does on the newest."""
    return (versions.find_tree(metamon) or versions.TREES[0]).train_commands()
