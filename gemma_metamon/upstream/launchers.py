"""metamon's launchers, which let several models play each other: the runs are made known in the processes they start.

For each player a launcher starts `python` with a script and the name of one of metamon's models; there is no way to
tell that process of another model. So it finds here, first on its path, a `python` that registers the runs, then runs
the script. As a program:

    python -m gemma_metamon.upstream.launchers RUNS.json SCRIPT [ARGUMENT ...]
"""

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gemma_metamon.child_processes import start_command
from gemma_metamon.errors import ConfigError, GemmaMetamonError, MissingFileError
from gemma_metamon.upstream import evaluation, versions

logger = logging.getLogger(__name__)

LAUNCHERS: Final = {
    "h2h": ("metamon.rl.evaluate.h2h",),
    "sweep": ("metamon.rl.evaluate.sweep",),
    "ladder_self_play": ("metamon.rl.evaluate.ladder_self_play", "metamon.rl.self_play"),
}
"""The program of each, under its names in the versions that have it."""
_RUN: Final = re.compile(r"""gemma_metamon:[^\s"'#,\[\]{}]*[^\s"'#,\[\]{}:]""")
_COMMENT: Final = re.compile(r"(?:^|\s)#.*", re.MULTILINE)
_RESULTS: Final = "matchup_results.jsonl"
_FOLDER_FLAG: Final = "--save_trajectories_to"
_PATIENCE_S: Final = 20
"""For a launcher that was asked to end, and whatever it has started."""


def launch(kind: str, runs: Mapping[Path, int], passed: Sequence[str]) -> int:
    """Runs a launcher of metamon's with these runs among its models; returns its exit status.

    Args:
        kind: of LAUNCHERS.
        runs: folder of each run (save_dir/run_name), and the epoch that plays where its config names no checkpoint.
        passed: the launcher's own flags (--config, --gpus, --output_dir, ...).

    Raises:
        ConfigError: this version of metamon has no such launcher, two runs of one name, or a run in the launcher's
            config that is not among these.
        MissingFileError: no result of any battle, where metamon reports no failure.
        What `evaluation.read_run` and `evaluation.import_evaluation` raise.
    """
    for run_dir in runs:
        evaluation.read_run(run_dir)
    names = [evaluation.model_name(run_dir) for run_dir in runs]
    if len({*names}) < len(names):
        raise ConfigError(f"two of the runs have one name, by which metamon would know both: {', '.join(names)}")
    program, given = find_launcher(kind), _flags(passed)
    _require_known_runs(Path(given.config), names)
    if any("gen1" in word for word in passed):
        evaluation.warn_of_fight([1])
    logger.info("in the launcher's config the model_name is %s", " or ".join(map(repr, names)))
    with tempfile.TemporaryDirectory(prefix="gemma-metamon-") as folder:
        spec, python = Path(folder) / "runs.json", Path(folder) / "python"
        spec.write_text(json.dumps([[str(run_dir.absolute()), epoch] for run_dir, epoch in runs.items()]))
        ours = shlex.join([sys.executable, "-m", "gemma_metamon.upstream.launchers", str(spec)])
        python.write_text(f'#!/bin/sh\nexec {ours} "$@"\n')
        python.chmod(0o755)
        # metamon's own processes may be run from another folder than this one
        places = [str(Path(place).absolute()) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
        path = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])
        env = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(places)}
        ours_first = [sys.executable, "-m", "gemma_metamon.child_processes"]
        status = _run([*ours_first, program, *_seen_from_here(passed)], env)
    if status == 0 and given.output_dir and not given.dry_run and not (Path(given.output_dir) / _RESULTS).exists():
        raise MissingFileError(
            f"no battle in {given.output_dir} has a result, though {program} reports no failure; metamon shows only "
            "the first words of its players' errors: --verbose shows all of them"
        )
    return status


def _flags(passed: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default="")
    parser.add_argument("--output_dir")
    parser.add_argument("--dry_run", action="store_true")
    return parser.parse_known_args(passed)[0]


def _require_known_runs(config: Path, names: Sequence[str]) -> None:
    """A player whose model is not known ends at once, and metamon does not show why."""
    text = config.read_text(encoding="utf-8") if config.is_file() else ""  # metamon says what is wrong with others
    unknown = sorted({*_RUN.findall(_COMMENT.sub("", text))} - {*names})
    if unknown:
        raise ConfigError(f"{config} names {', '.join(unknown)}; the runs of --run_dir are {', '.join(names)}")


def _seen_from_here(passed: Sequence[str]) -> list[str]:
    """With the folder of the battles absolute: metamon 1.5.1's players run in its clone, and would leave them there."""
    seen = list(passed)
    for index, word in enumerate(seen):
        flag, equals, value = word.partition("=")
        if flag == _FOLDER_FLAG and equals:
            seen[index] = f"{flag}={Path(value).expanduser().absolute()}"
        elif flag == _FOLDER_FLAG and index + 1 < len(seen):
            seen[index + 1] = str(Path(seen[index + 1]).expanduser().absolute())
    return seen


def find_launcher(kind: str) -> str:
    """The name of the program, in the metamon that is installed.

    Raises:
        ConfigError: the installed metamon has none of that kind, or does not start here.
        MissingDependencyError: no metamon here.
    """
    evaluation.import_evaluation()
    for name in LAUNCHERS[kind]:
        with contextlib.suppress(ModuleNotFoundError):  # a parent is missing, or no package
            if importlib.util.find_spec(f"{name}.__main__") is not None:
                return name
    have = [tree.metamon for tree in versions.TREES if kind in tree.launchers]
    raise ConfigError(
        f"{versions.find_installed('metamon')} has no --eval_type {kind} ({' or '.join(LAUNCHERS[kind])}); metamon "
        f"{' and '.join(have)} have it; `gemma-metamon evaluate --round_robin` lets imported runs play each other"
    )


def _run(command: list[str], env: dict[str, str]) -> int:
    process = start_command(command, env=env, start_new_session=True)  # so that its players end with it
    try:
        return process.wait()
    except BaseException:  # Ctrl-C, or SIGTERM, which comes as an exception, too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal would: it prints what it has
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone, or macOS's word for it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def serve(spec: Path, script: str, arguments: Sequence[str]) -> None:
    """Registers the runs, then is that script."""
    with contextlib.ExitStack() as stack:
        for run_dir, epoch in json.loads(spec.read_text()):
            stack.enter_context(evaluation.registered(Path(run_dir), epoch))
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    except GemmaMetamonError as error:
        sys.exit(str(error))
