"""What may import what: the rooms of the package, and how quickly it is there."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.modules import FILES, PACKAGE, imports_of, module_of
from support.paths import ROOT

# From the ground up. A room may import itself and what stands behind it here, which stands above it: so there is no
# circle. A package without rooms is one room; `nets` alone stands for the files that lie in no room of it. What stands
# in SHARED may be imported by all, and each of them imports only those before it.
SHARED = (
    "protocol", "intervals", "progress", "errors", "extras", "strict_json", "atomic_files", "user_cache",
    "object_stores", "child_processes", "pages", "checklist",
)  # fmt: skip
WORDS = {"battle", "text", "view"}
READER = {"nets", "nets.reader"}
HEADS = READER | {"nets.trajectory", "nets.heads"}
AGENTS = HEADS | {"nets.agents"}
LIVE = {"showdown", "showdown.simulator", "showdown.live"}
PLAYERS = LIVE | {"showdown.scripted", "showdown.players"}
MATCHES = PLAYERS | {"showdown.arena", "showdown.matches"}
RUNS = {"configs", "registry", "runs"}
CHATS = {"language", "language.telling", "language.data", "language.models"}
ROOMS: dict[str, set[str]] = {
    **{module: set(SHARED[:place]) for place, module in enumerate(SHARED)},
    "results": set(),
    "battle": set(),
    "sample_battles": {"battle"},
    "teams": set(),
    "text": {"battle"},
    "view": {"battle", "text"},
    "configs": set(),
    "registry": set(),
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
    "showdown.players": WORDS | LIVE | {"showdown.scripted", "results"},
    "showdown.matches": PLAYERS | {"showdown.arena", "battle", "results"},
    "showdown.search": MATCHES | {"battle"},
    "showdown.ladder": MATCHES | {"battle", "results"},
    "replay_logs": {"battle", "showdown.live"},
    "data": WORDS | {"nets"},
    "runs": WORDS | AGENTS | {"configs", "registry"},
    "training": WORDS | AGENTS | RUNS | {"data", "results"},
    "explain": WORDS | HEADS,
    "reports": {"results"},
    "language": {"text"},
    "language.telling": WORDS | {"showdown.scripted"},
    "language.data": WORDS | READER | RUNS | {"language", "language.telling", "data"},
    "language.models": WORDS | READER | RUNS | {"language", "language.telling", "language.data", "explain"},
    "language.training": WORDS | READER | RUNS | {*CHATS, "training"},
    "language.players": WORDS | MATCHES | {*CHATS, "language.training", "results"},
    "vision.scenes": WORDS | {"language.telling", "language.data"},
    "vision": WORDS | READER | RUNS | {*CHATS, "language.training", "vision.scenes", "training"},
    "vision.players": WORDS | MATCHES | {*CHATS, "language.players", "vision.scenes", "vision", "results", "explain"},
    "cluster": MATCHES | {"battle", "results"},
    "loops": RUNS | {"results", "reports", "showdown.matches"},
    "sweeps": RUNS | {"results", "reports"},
    "envs": WORDS | MATCHES | {"runs", "language.telling", "language.players"},
    "serving": WORDS | MATCHES | {*CHATS, "language.players", "vision", "reports", "results"},
    "upstream": WORDS | AGENTS | RUNS | {"sample_battles", "teams", "showdown.simulator"},
    "release": WORDS | AGENTS | RUNS | {*CHATS, "language.training", "vision", "upstream", "results", "reports"},
}


def room_of(module: str) -> str:
    """The room of a module of this package: "gemma_metamon.nets.heads.actors" is in "nets.heads"."""
    parts = module.split(".")[1:]
    if len(parts) > 1 and (PACKAGE / parts[0] / parts[1]).is_dir():
        return ".".join(parts[:2])
    return parts[0]


def test_every_file_stands_in_a_room() -> None:
    assert {room_of(module_of(path)) for path in FILES} == set(ROOMS) | {"__main__", "commands"}


def test_rooms_stand_on_one_another_without_a_circle() -> None:
    seen: set[str] = set()
    for room, below in ROOMS.items():
        assert below <= seen, room
        seen.add(room)


def test_the_page_about_the_rooms_names_them_all() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name.removesuffix(".py").strip("/").replace("/", ".") for name in re.findall(r"`([\w/.]+)`", page)}
    assert set(ROOMS) | {"commands"} <= named


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_room_imports_only_the_rooms_that_it_may(path: Path) -> None:
    room = room_of(module_of(path))
    if room in ("__main__", "commands"):  # they bring everything together
        return
    allowed = ROOMS[room] | ({room, "gemma_metamon"} if room in SHARED else {room, "gemma_metamon", *SHARED})
    ours = {name for name in imports_of(path) if name.startswith("gemma_metamon.")}
    assert {room_of(name) for name in ours} <= allowed


def test_nothing_imports_commands() -> None:
    importing = {module_of(path) for path in FILES if any(".commands" in name for name in imports_of(path))}
    assert {name for name in importing if not name.startswith("gemma_metamon.commands")} == {"gemma_metamon.__main__"}


def test_only_upstream_imports_metamon_or_amago() -> None:
    for path in PACKAGE.rglob("*.py"):
        theirs = {name.split(".")[0] for name in imports_of(path)} & {"metamon", "amago"}
        assert not theirs or path.parent.name == "upstream", path


# What reaches a file or a socket: modules (an error class of one is harmless), and what is called.
OUTSIDE = {
    "aiohttp", "ftplib", "glob", "h5py", "http", "httpx", "huggingface_hub", "io", "os", "pathlib", "requests",
    "safetensors", "shutil", "socket", "ssl", "subprocess", "tempfile", "urllib", "urllib3", "websockets",
}  # fmt: skip
HARMLESS = {"huggingface_hub.errors"}
OPENING = {
    "open", "from_pretrained", "fromfile", "hf_hub_download", "load_file", "load_state_dict_from_url", "memmap",
    "read_bytes", "read_text", "save_file", "save_pretrained", "snapshot_download", "write_bytes", "write_text",
}  # fmt: skip
SAVED_BY = {"torch", "np", "numpy", "pickle", "json", "gin"}  # whose `load`, `save` and `dump` are of files
ASKS_THE_HUB = PACKAGE / "nets" / "reader" / "weights.py"


def ways_outside(path: Path) -> set[str]:
    """What a file imports and calls that reaches a file or a socket."""
    found = {name for name in imports_of(path) - HARMLESS if name.split(".")[0] in OUTSIDE}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and node.id in OPENING | {"__import__"}:
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in OPENING | {"import_module"} or (
                owner in SAVED_BY and re.match("(load|save|dump)", node.attr)
            ):
                found.add(f"{owner}.{node.attr}")
    return found


def test_nets_open_no_file_and_no_socket_but_where_gemmas_weights_come_from() -> None:
    opening = {path for path in FILES if path.is_relative_to(PACKAGE / "nets") and ways_outside(path)}
    assert opening == {ASKS_THE_HUB}


@pytest.mark.parametrize(
    "line",
    [
        "import socket", "def f():\n    from pathlib import Path", "open(name)", "torch.load(name)", "np.save(name, x)",
        "model = Model.from_pretrained(name)", "import huggingface_hub.errors as e, huggingface_hub",
        "import importlib; importlib.import_module(name)", "read = folder.read_bytes", "with_it(torch.save)",
    ],
)  # fmt: skip
def test_a_way_outside_is_seen(tmp_path: Path, line: str) -> None:
    path = tmp_path / "module.py"
    path.write_text("import torch\nfrom huggingface_hub.errors import HTTPError\nagent.load_state_dict(x)\n" + line)
    assert len(ways_outside(path)) == 1
    path.write_text("import torch\nfrom huggingface_hub.errors import HTTPError\nagent.load_state_dict(x)\n")
    assert not ways_outside(path)


@pytest.mark.parametrize(
    "module",
    [
        "gemma_metamon.data.encoding",
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
