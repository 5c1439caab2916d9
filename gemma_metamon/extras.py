"""Packages that the base install goes without, by the extra that brings them."""

import importlib.util
import sys

from gemma_metamon.errors import MissingDependencyError

EXTRAS = {
    "4bit": ("bitsandbytes",),
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
    "vertex": ("google.genai", "google.cloud.storage"),
    "vision": ("PIL",),
    "wandb": ("wandb",),
}
PYTHON = sys.version_info[:2]
FROM_PYTHON_3_11 = ("gguf", "language", "mlx", "openenv", "vision")  # TRL wants it


def is_installed(package: str) -> bool:
    """Whether it is there. It is not imported; only what it lies in is, as "google" of "google.genai"."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # what it lies in is not there
        return False


def require_extra(extra: str, what: str, *only: str, otherwise: str = "") -> None:
    """Raises MissingDependencyError where a package of an extra is not installed.

    Args:
        extra: its name.
        what: needs it, for the message.
        only: those of its packages that are needed; none stand for all.
        otherwise: what helps without it, for the message: "train without --log".
    """
    for package in only or EXTRAS[extra]:
        if not is_installed(package):
            if extra in FROM_PYTHON_3_11 and PYTHON < (3, 11):
                raise MissingDependencyError(f"{what} needs {package}, and the extra {extra} Python 3.11 or newer")
            mend = f"pip install 'gemma-metamon[{extra}]'" + (f", or {otherwise}" if otherwise else "")
            raise MissingDependencyError(f"{what} needs {package}; {mend}")
