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


def is_in_the_code(name: str) -> bool:
    """Whether a name of Python's, after `gemma_metamon.`, is a module, or something that a module defines at its top.

    Methods of classes count, and attributes of dataclasses. What a package takes from its modules is not looked for.
    """
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        place = PACKAGE.joinpath(*parts[:length])
        path = next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
        if path is None:
            continue
        body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
        for part in parts[length:]:
            defined = [node for node in body if part in _names_of(node)]
            if not defined:
                return False
            body = getattr(defined[0], "body", [])
        return True
    return False


def _names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def texts_of_the_code() -> list[list[str]]:
    """Every text in the package, as its literal parts: one, or those between the values of an f-string."""
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values = node.values if isinstance(node, ast.JoinedStr) else [node]
            parts = [
                value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
            ]
            if parts:
                found.append(parts)
    return found
