"""The modules of the package and what each of them imports, read from their files."""

import ast
from pathlib import Path

import gemma_metamon

PACKAGE = Path(gemma_metamon.__file__).parent


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
