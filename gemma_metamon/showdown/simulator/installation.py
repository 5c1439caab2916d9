"""The Pokémon Showdown server on this machine: one npm package, pinned by the lock file in assets/server.

Installed into the user's cache on first use, and never written to afterwards: several servers share it.
"""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from gemma_metamon.errors import MissingDependencyError, ServerError
from gemma_metamon.strict_json import on_one_line
from gemma_metamon.user_cache import cache_folder, make_once

ASSETS = resources.files("gemma_metamon.showdown.simulator") / "assets" / "server"
OLDEST_NODE = 18
INSTALL_TIMEOUT_S = 900.0
ASK_TIMEOUT_S = 300.0
VERSION_TIMEOUT_S = 60.0
_PINS = ("package.json", "package-lock.json")
_OURS = {
    "config.js": "config/config.js",
    "lifeline.js": "lifeline.js",
}  # asset -> its place in the package
# The package lacks these folders, and reads some of them at start.
_WRITABLE_FOLDERS = ("logs/repl", "logs/modlog", "config/chat-plugins", "config/ladders")


def pinned_version() -> str:
    """The version of pokemon-showdown that the lock file names."""
    lock = json.loads((ASSETS / "package-lock.json").read_text(encoding="utf-8"))
    return str(lock["packages"]["node_modules/pokemon-showdown"]["version"])


def find_node() -> str:
    """The path of a Node.js that can run the simulator; raises MissingDependencyError where there is none."""
    node = shutil.which("node")
    mend = f"install Node.js {OLDEST_NODE} or later (https://nodejs.org) so that `node` and `npm` are on the PATH"
    if node is None:
        raise MissingDependencyError(f"the simulator of battles needs Node.js, and no `node` was found; {mend}")
    try:
        answer = subprocess.run(
            [node, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:  # no program of this machine's, or one that hangs
        raise MissingDependencyError(f"`{node} --version` gave no answer ({on_one_line(error)}); {mend}") from error
    version = re.match(r"v(\d+)\.", answer.stdout)
    if version is None:
        raise MissingDependencyError(f"`{node} --version` answered {answer.stdout or answer.stderr!r}; {mend}")
    if int(version[1]) < OLDEST_NODE:
        raise MissingDependencyError(
            f"found Node.js {answer.stdout.strip()}, but the simulator of battles needs {OLDEST_NODE} or later; {mend}"
        )
    return node


def ensure_installed() -> Path:
    """The folder of the installed package, after installing it if this is the first time (about 150 MB).

    Raises MissingDependencyError without Node.js or npm, ServerError where npm fails, with npm's own words.
    """
    find_node()
    make_once(_place(), _install, timeout_s=INSTALL_TIMEOUT_S)
    return package_folder()


def package_folder() -> Path:
    """Where the package is, or will be once it is installed."""
    return _place() / "node_modules" / "pokemon-showdown"


def _place() -> Path:
    content = b"".join((ASSETS / name).read_bytes() for name in (*_PINS, *_OURS))
    return cache_folder() / f"showdown-{pinned_version()}-{hashlib.sha256(content).hexdigest()[:8]}"


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependencyError(
            "installing the simulator of battles needs npm, which comes with Node.js; none was found"
        )
    for name in _PINS:
        (folder / name).write_bytes((ASSETS / name).read_bytes())
    # optional: databases and mail that a server for one machine never opens, and minutes of compiling
    command = [npm, "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"npm did not install pokemon-showdown within {INSTALL_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        words = " / ".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise ServerError(
            f"npm could not install pokemon-showdown {pinned_version()} (exit status {done.returncode}): {words}; "
            f"check the network and `npm config get registry`, then try again"
        )
    package = folder / "node_modules" / "pokemon-showdown"
    for name in _WRITABLE_FOLDERS:
        (package / name).mkdir(parents=True, exist_ok=True)
    for name, place in _OURS.items():
        (package / place).write_bytes((ASSETS / name).read_bytes())


def import_teams(texts: Sequence[str]) -> list[dict[str, Any]]:
    """How the simulator reads each text (exported, JSON or packed): `Teams.pack(Teams.import(text))`, in one process.

    A dictionary each: `packed`, the line to send; `pokemon`, how many; `idle`, the names of those without a move;
    `survives`, whether a server that unpacks the line finds the same Pokémon. Raises ServerError where Node fails.
    """
    if not texts:
        return []
    find_node()
    return _import_teams(tuple(texts))


@lru_cache(maxsize=16)  # a process of Node.js takes a second, and the same teams are read for match after match
def _import_teams(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = ask_simulator("read teams", "teams.js", "pack", given=texts)
    return answers


def validate_teams(battle_format: str, teams: Sequence[str]) -> list[list[str]]:
    """The simulator's reasons against each team (export or packed text); empty where it accepts the team.

    Raises ServerError where the validator itself fails: an unknown format.
    """
    what = f"validate a team for {battle_format!r}"
    reasons: list[list[str]] = ask_simulator(what, "teams.js", "validate", battle_format, given=teams)
    return reasons


def generate_teams(battle_format: str, seeds: Sequence[str]) -> list[str]:
    """The packed team that a format gives out for each of the simulator's seeds ("sodium,…").

    Raises ServerError where the generator fails: a format that gives out no teams.
    """
    teams: list[str] = ask_simulator(
        f"give out teams for {battle_format!r}", "teams.js", "generate", battle_format, given=seeds
    )
    return teams


def ask_simulator(what: str, script: str, *arguments: str, given: Any) -> Any:
    """The JSON that one of the scripts beside the lock file answers to the JSON `given`, run by Node in the package.

    Raises MissingDependencyError without Node.js, ServerError where the script fails; `what` says what was wanted.
    """
    package = ensure_installed()
    # not copied into the package: a change to the script needs no new installation
    with resources.as_file(ASSETS / script) as path:
        try:
            done = subprocess.run(
                [find_node(), str(path.absolute()), *arguments],
                cwd=package,
                input=json.dumps(given),
                capture_output=True,
                encoding="utf-8",
                timeout=ASK_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"the simulator could not {what} within {ASK_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        words = next((line for line in done.stderr.splitlines() if "Error" in line), done.stderr.strip())
        raise ServerError(f"the simulator could not {what}: {words}")
    return json.loads(done.stdout)
