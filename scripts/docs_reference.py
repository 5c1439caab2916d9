"""The pages of the reference that are made from the code, whenever the site is built: so they are never out of date."""

import argparse
import inspect
import os
import re
from collections.abc import Iterator
from typing import Any, Final

WIDTH: Final = 110

PYTHON: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "runs": (
        "Runs, checkpoints, agents",
        (
            "gemma_metamon.runs.checkpoints",
            "gemma_metamon.runs.loading",
            "gemma_metamon.runs.resolve",
            "gemma_metamon.runs.experiment",
            "gemma_metamon.nets.agents.options",
            "gemma_metamon.nets.timestep",
            "gemma_metamon.nets.reader.tstep_encoder",
            "gemma_metamon.training.trainer",
            "gemma_metamon.training.schedule",
        ),
    ),
    "battles": (
        "Battles as data",
        (
            "gemma_metamon.view",
            "gemma_metamon.battle.state",
            "gemma_metamon.battle.replays",
            "gemma_metamon.battle.observations",
            "gemma_metamon.battle.rewards",
            "gemma_metamon.battle.actions",
            "gemma_metamon.data.encoding",
            "gemma_metamon.data.dataset",
            "gemma_metamon.data.store",
        ),
    ),
    "play": (
        "Play",
        (
            "gemma_metamon.showdown.players.contestants",
            "gemma_metamon.showdown.players.policies",
            "gemma_metamon.showdown.players.policy_player",
            "gemma_metamon.showdown.matches.evaluate",
            "gemma_metamon.showdown.matches.collect",
            "gemma_metamon.showdown.matches.forks",
            "gemma_metamon.envs",
            "gemma_metamon.envs.battle_env",
            "gemma_metamon.envs.vector_env",
            "gemma_metamon.envs.parallel_env",
            "gemma_metamon.envs.chat_env",
            "gemma_metamon.language.players.text",
            "gemma_metamon.vision.players.seeing",
        ),
    ),
    "results": (
        "Files of results",
        (
            "gemma_metamon.results.schema",
            "gemma_metamon.sweeps.results",
            "gemma_metamon.sweeps.study",
            "gemma_metamon.release.report",
            "gemma_metamon.release.gates",
            "gemma_metamon.training.batch_sizes",
            "gemma_metamon.intervals",
        ),
    ),
    "errors": ("Errors", ("gemma_metamon.errors",)),
}


def pages() -> Iterator[tuple[str, str]]:
    """Each page's path among the pages, and its text."""
    yield "reference/command_line.md", command_line()
    yield "reference/gin.md", gin_names()
    for name, (title, modules) in PYTHON.items():
        yield f"reference/python/{name}.md", python_page(title, modules)


def command_line() -> str:
    """The help of every command, as it prints it."""
    from gemma_metamon.commands import build_parser

    width, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), str(WIDTH)
    try:
        text = "".join(_helps(build_parser(), 1))
    finally:
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return f"# Command line\n\nWhat `--help` prints of each command. Flags may be spelled with `-` or `_`.\n\n{text}"


def _helps(parser: argparse.ArgumentParser, depth: int) -> Iterator[str]:
    heading = f"{'#' * depth} {parser.prog}\n\n" if depth > 1 else ""
    yield f"{heading}```text\n{parser.format_help().rstrip()}\n```\n\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _helps(below, depth + 1)


def gin_names() -> str:
    """What a .gin file can bind, with the defaults."""
    from gemma_metamon.runs.embedded import CONFIGURABLES

    lines = [
        "# What gin can bind\n",
        "Each name that a `.gin` file or `--gin_override` can bind in `gemma-metamon`, with its parameters and "
        "their defaults. Sizes and spaces, which whoever builds the agent supplies, are left out. "
        "`gemma-metamon configs show NAME` prints what a configuration binds.\n",
    ]
    for name, module, target in sorted(CONFIGURABLES, key=lambda entry: entry[0].lower()):
        lines.append(f"## {name}\n\n`{module}.{name}`: {first_line(target)}\n")
        parameters = [p for p in inspect.signature(target).parameters.values() if p.default is not p.empty]
        if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values()):
            lines.append("And what the class that it extends takes.\n")
        if parameters:
            lines.append("| parameter | type | default |\n|---|---|---|")
            lines += [f"| `{p.name}` | {_code(_type_name(p.annotation))} | {_default(p)} |" for p in parameters]
            lines.append("")
    return "\n".join(lines)


def first_line(documented: Any) -> str:
    """The first sentence of a docstring."""
    return (inspect.getdoc(documented) or "").split("\n", 1)[0]


def _default(parameter: inspect.Parameter) -> str:
    return _code(getattr(parameter.default, "__name__", None) or repr(parameter.default))


def _type_name(annotation: Any) -> str:
    """Short: without the modules."""
    text = (
        annotation.__name__ if inspect.isclass(annotation) and not hasattr(annotation, "__args__") else str(annotation)
    )
    return text if "[" not in text and "." not in text else _without_modules(text)


def _without_modules(text: str) -> str:
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+([A-Za-z_]\w*)", r"\1", text)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def python_page(title: str, modules: tuple[str, ...]) -> str:
    """What mkdocstrings makes of some modules."""
    return "\n".join([f"# {title}\n", *(f"::: {module}\n" for module in modules)])
