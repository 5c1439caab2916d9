"""What battles and evaluations look like: web pages that stand alone, and charts as PNG."""

import importlib.util

from gemma_metamon.errors import MissingDependencyError


def require_libraries(what: str) -> None:
    """Raises MissingDependencyError, saying that `what` needs it, where a package for pages or charts is missing."""
    for name in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise MissingDependencyError(f"{what} needs {name}; pip install 'gemma-metamon[report]'")
