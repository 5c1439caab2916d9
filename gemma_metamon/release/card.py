"""The card of a registered model: Markdown that tells what the run knows, with the front matter that the hub reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemma_metamon import __version__
from gemma_metamon.errors import MissingFileError
from gemma_metamon.registry.manifests import PLAYED_AS, Kind
from gemma_metamon.release.contents import Contents, Facts, measured_when_saved
from gemma_metamon.results import schema
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.results.schema import PairRow, TrainingEvaluation

TERMS: Final = "https://ai.google.dev/gemma/terms"
_PIPELINES: Final[dict[Kind, str]] = {
    "agent": "reinforcement-learning",
    "text": "text-generation",
    "vision": "image-text-to-text",
}
_WHAT: Final[dict[Kind, str]] = {
    "agent": "A policy{critics} that plays Pokémon battles: it reads each turn with Gemma 3 and chooses an action.",
    "text": "A Gemma 3 that answers a battle's situation in words with one legal choice.",
    "vision": "A Gemma 3 that sees a battle as a picture and answers with one legal choice.",
}


@dataclass(frozen=True)
class Played:
    """Battles of the model against one opponent, in a format."""

    format: str
    pair: PairRow


def find_results(contents: Contents, folders: Sequence[Path] = ()) -> list[Played]:
    """What is known of how a model plays: evaluations while it trained, and those in folders of `evaluate --out`.

    Raises MissingFileError where a folder holds no battles of this model, DataError where a file is damaged.
    """
    label, found = contents.facts.label, list[Played]()
    lines = contents.run_dir / "evaluations.jsonl"
    if contents.epoch is not None and lines.is_file():
        for row in read_rows(TrainingEvaluation, lines):
            if row.epoch == contents.epoch:
                found += [Played(row.format, pair) for pair in row.pairs]
    for folder in folders:
        results = schema.read(folder / "results.json" if folder.is_dir() else folder)
        names = {label, f"{PLAYED_AS[contents.facts.kind]}{label}"}
        pairs = [Played(results.format, pair) for pair in results.pairs if pair.player in names]
        if not pairs:
            there = ", ".join(dict.fromkeys(pair.player for pair in results.pairs)) or "nobody"
            raise MissingFileError(f"{folder} holds no battles of {label}; it holds those of {there}")
        found += pairs
    return found


def write_card(name: str, contents: Contents, results: Sequence[Played]) -> str:
    """The Markdown, with its front matter.

    Args:
        name: of the registered model.
        contents: what is registered.
        results: how it plays.
    """
    facts = contents.facts
    what = _WHAT[facts.kind].format(critics=" with critics" if facts.uses_critics else "")
    parts = [
        f"---\n{_front_matter(name, facts, results)}\n---\n",
        f"# {name}\n\n{what}\nMade of {_text(facts.label)} by gemma_metamon {__version__}.\n",
        _licence(facts),
        _results(results),
    ]
    if measured := measured_when_saved(contents):
        rows = [(key.removeprefix("held_out/").replace("_", " "), f"{value:.4g}") for key, value in measured.items()]
        parts.append("## On held-out decisions\n\n" + _table(("measure", "value"), rows))
    if facts.progress or facts.learnt:
        told = [*facts.progress.items(), *facts.learnt.items()]
        rows = [(key.replace("_", " "), _value(value)) for key, value in told if value is not None]
        parts.append("## How it was trained\n\n" + _table(("setting", "value"), rows))
    parts.append(_use(name, facts))
    if facts.config:
        parts.append(f"## Configuration\n\n{_code(facts.config, 'python')}")
    return "\n".join(parts)


def _front_matter(name: str, facts: Facts, results: Sequence[Played]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    tags = ["pokemon", "pokemon-showdown", "gemma-metamon", *dict.fromkeys(played.format for played in results)]
    measured = [
        EvalResult(
            task_type="reinforcement-learning",
            dataset_type="pokemon-showdown",
            dataset_name=f"{played.format} against {played.pair.opponent}",
            metric_type="win_rate",
            metric_value=round(played.pair.win_rate, 4),
            metric_name=f"win rate of {played.pair.battles} battles, "
            f"95 % interval {played.pair.interval_95[0]:.3f} to {played.pair.interval_95[1]:.3f}",
        )
        for played in results
        if played.pair.win_rate is not None
    ]
    options: dict[str, Any] = {}
    if facts.base is not None:
        options = {"license": "gemma", "license_link": TERMS}
        if facts.base.count("/") == 1:
            options["base_model"] = facts.base
    if measured:
        options |= {"eval_results": measured, "model_name": name}
    data = ModelCardData(library_name="gemma-metamon", pipeline_tag=_PIPELINES[facts.kind], tags=tags, **options)
    return data.to_yaml().strip()


def _licence(facts: Facts) -> str:
    if facts.base is None:
        return (
            "## Licence\n\nIts weights began as random numbers and hold nothing of Google's Gemma; "
            "whoever trained it says how it may be used.\n"
        )
    return (
        f"## Licence\n\nIt is derived from Gemma ({_text(facts.base)}), which is provided under and subject to the "
        f"Gemma Terms of Use: {TERMS}. Whoever passes it on passes these terms on with it.\n"
    )


def _results(results: Sequence[Played]) -> str:
    if not results:
        return "## Results\n\nNone were registered with it.\n"
    rows = [
        (
            played.format,
            played.pair.opponent,
            str(played.pair.battles),
            "" if played.pair.win_rate is None else f"{played.pair.win_rate:.1%}",
            f"{played.pair.interval_95[0]:.1%} to {played.pair.interval_95[1]:.1%}",
            str(played.pair.refused),
        )
        for played in results
    ]
    heads = ("format", "opponent", "battles", "win rate", "95 % interval", "refused choices")
    return "## Results\n\n" + _table(heads, [tuple(map(_text, row)) for row in rows])


def _use(name: str, facts: Facts) -> str:
    player = f"{PLAYED_AS[facts.kind]}registry:{name}@VERSION"
    command = f'gemma-metamon evaluate --players "{player}" --opponents MaxBasePowerPlayer'
    return f"## Use\n\n{_code(command, 'bash')}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _value(value: Any) -> str:
    return _text(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _text(text: str) -> str:
    """What others named, as text: nothing of it is Markdown, markup or another cell."""
    line = " ".join(text.split())[:300]
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{sign}" if sign in "\\`*[]|!#" else sign for sign in line)


def _code(text: str, language: str) -> str:
    """A block that the text itself cannot end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.strip()}\n{fence}\n"
