"""Private names of poke-env are touched in one module, which is checked against the installed one."""

import ast
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.modules import FILES, PACKAGE, module_of

POKE_ENV_HOOKS = PACKAGE / "showdown" / "live" / "poke_env_hooks.py"
BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "attrgetter", "methodcaller"}


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__") and name != "_"


def poke_env_private_names() -> set[str]:
    """Every name with one underscore before it that the installed poke-env defines, or gives to an object."""
    spec = importlib.util.find_spec("poke_env")
    if spec is None or spec.origin is None:
        pytest.skip("needs poke-env: pip install 'gemma-metamon[battle]'")
    names: set[str] = set()
    for path in Path(spec.origin).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # __slots__
                names.add(node.value)
    return {name for name in names if is_private(name)}


def names_touched(source: str, derived: set[str]) -> set[str]:
    """The names of other objects that a file touches: as attributes, in `getattr` and its like, by `from x import`.

    What a class does to its own `self` counts where it is one of `derived`, which come from classes of poke-env.
    """
    found: set[str] = set()

    def visit(node: ast.AST, own: bool) -> None:
        if isinstance(node, ast.ClassDef):
            own = node.name not in derived
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not own:
            found.add(node.name)
        elif isinstance(node, ast.Attribute):
            if not (own and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
            found.update(arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):  # vars(player)["_name"]
            found.add(str(node.slice.value))
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names if (node.module or "").startswith("poke_env"))
        for child in ast.iter_child_nodes(node):
            visit(child, own)

    visit(ast.parse(source), True)
    return {name for name in found if is_private(name)}


def derived_from_poke_env(sources: Iterable[str]) -> set[str]:
    """The classes of these files that have a class of poke-env among their ancestors, by their names."""
    bases: dict[str, set[str]] = {}
    theirs: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("poke_env"):
                theirs |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(ast.unparse(base).split(".")[-1] for base in node.bases)
    derived: set[str] = set()
    while more := {name for name, of in bases.items() if of & (theirs | derived)} - derived:
        derived |= more
    return derived


def test_only_the_hooks_touch_private_names_of_poke_env() -> None:
    private = poke_env_private_names()
    sources = {path: path.read_text(encoding="utf-8") for path in FILES}
    derived = derived_from_poke_env(sources.values())
    touching = {path: names_touched(source, derived) & private for path, source in sources.items()}
    assert touching.pop(POKE_ENV_HOOKS) >= {"_handle_message", "_on_battle_message", "_replay_data"}
    assert {module_of(path): names for path, names in touching.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "battle._replay_data",
        "self._player._battle_finished_callback(battle)",
        "player.ps_client._handle_message = print",
        "getattr(battle, '_replay_data')",
        "vars(battle)['_replay_data']",
        "from poke_env.ps_client.ps_client import _noop_battle_message",
        "class Mine(Player):\n    def _battle_finished_callback(self, battle): ...",
        "class Mine(Player):\n    def choose_move(self, battle):\n        return self._battles",
    ],
)
def test_a_private_name_of_poke_env_is_seen_however_it_is_written(line: str) -> None:
    assert names_touched(line, derived_from_poke_env(["from poke_env.player import Player", line])) & (
        poke_env_private_names()
    )


def test_a_private_name_of_our_own_may_be_that_of_poke_env() -> None:
    ours = "class Journal:\n    def __init__(self, team):\n        self._team = team"
    assert names_touched(ours, derived_from_poke_env(["from poke_env.player import Player", ours])) == set()
