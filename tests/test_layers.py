"""What imports what: the layers of the design, and how quickly the package is there."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gemma_metamon

PACKAGE = Path(gemma_metamon.__file__).parent
# a layer may import itself, the shared modules, and what stands here
MAY_IMPORT = {
    "battle": set(),
    "text": {"battle"},
    "nets": {"text", "battle"},
    "training": {"nets", "text", "battle"},
    "showdown": {"text", "battle"},
    "replay_logs": {"showdown", "battle"},
    "explain": {"nets", "text", "battle"},
    "reports": set(),
}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_a_layer_imports_only_what_is_above_it(layer: str) -> None:
    allowed = MAY_IMPORT[layer] | {layer}
    for path in (PACKAGE / layer).rglob("*.py"):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "gemma_metamon" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                data = {"teams", "sample_battles"} if layer == "showdown" else set()
                assert parts[1] in allowed | data, f"{path.name} imports {name}"


def test_only_upstream_imports_metamon_or_amago() -> None:
    for path in PACKAGE.rglob("*.py"):
        theirs = {name.split(".")[0] for name in imports_of(path)} & {"metamon", "amago"}
        assert not theirs or path.parent.name == "upstream", path


@pytest.mark.parametrize(
    "module",
    [
        "gemma_metamon.battle.trajectories",
        "gemma_metamon.text.view",
        "gemma_metamon.reports.evaluation",
        "gemma_metamon.commands",
    ],
)
def test_data_text_and_commands_import_neither_torch_nor_gin(module: str) -> None:
    code = f"import sys, {module}; print({{'torch', 'gin', 'transformers', 'poke_env'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_every_layer_imports_without_a_side_effect_on_gin() -> None:
    code = (
        "import gemma_metamon.training.trainer, gemma_metamon.showdown.players, gin;"
        "from gemma_metamon import configs; assert not configs.is_embedded(); assert not gin.config_str().strip()"
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
