"""Packages that the base install goes without, by the extra that brings them."""

import importlib.util

from gemma_metamon.errors import MissingDependencyError

EXTRAS = {
    "battle": ("poke_env",),
    "envs": ("gymnasium", "pettingzoo"),
    "language": ("trl", "datasets", "openai"),
    "report": ("choix", "jinja2", "matplotlib"),
    "vision": ("PIL",),
}


def require_extra(extra: str, what: str) -> None:
    """Raises MissingDependencyError, saying that `what` needs it, where a package of this extra is not installed."""
    for package in EXTRAS[extra]:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(f"{what} needs {package}; pip install 'gemma-metamon[{extra}]'")
