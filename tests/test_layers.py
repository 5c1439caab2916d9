"""What may import what: the rooms of the package, and how quickly it is there."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gemma_metamon

PACKAGE = Path(gemma_metamon.__file__).parent

# From the ground up. A room may import itself and what stands behind it here, which stands above it: so there is no
# circle. A package without rooms is one room; `nets` alone stands for the files that lie in no room of it.
SHARED = {"errors", "extras", "strict_json", "atomic_files", "intervals", "progress", "protocol", "user_cache"}
WORDS = {"battle", "text", "view"}
READER = {"nets", "nets.reader"}
HEADS = READER | {"nets.trajectory", "nets.heads"}
AGENTS = HEADS | {"nets.agents"}
LIVE = {"showdown", "showdown.simulator", "showdown.live"}
PLAYERS = LIVE | {"showdown.scripted", "showdown.players"}
MATCHES = PLAYERS | {"showdown.matches"}
RUNS = {"configs", "runs"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "extras": set(),
    "strict_json": set(),
    "atomic_files": set(),
    "intervals": set(),
    "progress": set(),
    "protocol": set(),
    "user_cache": set(),
    "battle": set(),
    "sample_battles": {"battle"},
    "teams": set(),
    "text": {"battle"},
    "view": {"battle", "text"},
    "configs": set(),
    "nets": set(),
    "nets.reader": {"nets", "battle", "text"},
    "nets.trajectory": {"nets"},
    "nets.heads": READER | {"nets.trajectory"},
    "nets.agents": HEADS,
    "showdown": set(),
    "showdown.simulator": {"showdown", "battle", "teams"},
    "showdown.arena": {"showdown", "showdown.simulator", "battle"},
    "showdown.live": {"battle"},
    "showdown.scripted": LIVE,
    "showdown.players": WORDS | LIVE | {"showdown.scripted"},
    "showdown.matches": PLAYERS | {"battle"},
    "showdown.ladder": MATCHES | {"battle"},
    "replay_logs": {"battle", "showdown.live"},
    "data": WORDS | {"nets"},
    "runs": WORDS | AGENTS | {"configs"},
    "training": WORDS | AGENTS | RUNS | {"data"},
    "explain": WORDS | HEADS,
    "reports": set(),
    "upstream": WORDS | AGENTS | RUNS | {"sample_battles", "teams", "showdown.simulator"},
}


def room_of(module: str) -> str:
    """The room of a module of this package: "gemma_metamon.nets.heads.actors" is in "nets.heads"."""
    parts = module.split(".")[1:]
    if len(parts) > 1 and (PACKAGE / parts[0] / parts[1]).is_dir():
        return ".".join(parts[:2])
    return parts[0]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it: of `from a import b` it is a.b where that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if is_module(node.module, alias.name) else node.module
                      for alias in node.names}  # fmt: skip
    return found


def is_module(package: str, name: str) -> bool:
    place = PACKAGE.parent.joinpath(*package.split("."), name)
    return package.startswith("gemma_metamon") and (place.is_dir() or place.with_suffix(".py").is_file())


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_file_stands_in_a_room() -> None:
    assert {room_of(module_of(path)) for path in FILES} == set(ROOMS) | {"__main__", "commands"}


def test_rooms_stand_on_one_another_without_a_circle() -> None:
    seen: set[str] = set()
    for room, below in ROOMS.items():
        assert below <= seen, room
        seen.add(room)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_room_imports_only_the_rooms_that_it_may(path: Path) -> None:
    room = room_of(module_of(path))
    if room in ("__main__", "commands"):  # they bring everything together
        return
    allowed = ROOMS[room] | SHARED | {room, "gemma_metamon"}
    ours = {name for name in imports_of(path) if name.startswith("gemma_metamon.")}
    assert {room_of(name) for name in ours} <= allowed


def test_nothing_imports_commands() -> None:
    importing = {module_of(path) for path in FILES if any(".commands" in name for name in imports_of(path))}
    assert {name for name in importing if not name.startswith("gemma_metamon.commands")} == {"gemma_metamon.__main__"}


def test_only_upstream_imports_metamon_or_amago() -> None:
    for path in PACKAGE.rglob("*.py"):
        theirs = {name.split(".")[0] for name in imports_of(path)} & {"metamon", "amago"}
        assert not theirs or path.parent.name == "upstream", path


@pytest.mark.parametrize(
    "module",
    [
        "gemma_metamon.battle.trajectories",
        "gemma_metamon.view",
        "gemma_metamon.reports.evaluation",
        "gemma_metamon.commands",
    ],
)
def test_data_text_and_commands_import_neither_torch_nor_gin(module: str) -> None:
    code = f"import sys, {module}; print({{'torch', 'gin', 'transformers', 'poke_env'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_every_layer_imports_without_a_side_effect_on_gin() -> None:
    code = (
        "import gemma_metamon.training.trainer, gemma_metamon.showdown.players.policy_player, gin;"
        "from gemma_metamon.configs import names; assert not names.is_embedded(); assert not gin.config_str().strip()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def seconds(code: str) -> float:
    """Of the processor, the best of five: the machine may be busy, the code may not be slow."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


def test_importing_the_package_takes_under_100_ms() -> None:
    assert seconds("import gemma_metamon") - seconds("pass") < 0.1


def test_help_takes_under_300_ms() -> None:
    assert seconds("from gemma_metamon.commands import build_parser; build_parser().format_help()") < 0.3
