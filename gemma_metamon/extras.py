"""Packages that the base install goes without, by the extra that brings them."""

import importlib.util
import sys

from gemma_metamon.errors import MissingDependencyError

EXTRAS = {
    "battle": ("poke_env",),
    "envs": ("gymnasium", "pettingzoo"),
    "gguf": ("gguf",),
    "language": ("trl", "datasets", "openai"),
    "mlx": ("mlx_lm", "mlx"),
    "openenv": ("openenv",),
    "ray": ("ray",),
    "report": ("choix", "jinja2", "matplotlib"),
    "sweep": ("optuna", "matplotlib"),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "vision": ("PIL",),
}
PYTHON = sys.version_info[:2]
FROM_PYTHON_3_11 = ("gguf", "language", "mlx", "openenv", "vision")  # TRL wants it


def require_extra(extra: str, what: str, *only: str) -> None:
    """Raises MissingDependencyError where a package of an extra is not installed.

    Args:
        extra: its name.
        what: needs it, for the message.
        only: those of its packages that are needed; none stand for all.
    """
    for package in only or EXTRAS[extra]:
        if importlib.util.find_spec(package) is None:
            if extra in FROM_PYTHON_3_11 and PYTHON < (3, 11):
                raise MissingDependencyError(f"{what} needs {package}, and the extra {extra} Python 3.11 or newer")
            raise MissingDependencyError(f"{what} needs {package}; pip install 'gemma-metamon[{extra}]'")
