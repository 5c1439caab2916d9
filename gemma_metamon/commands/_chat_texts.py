"""What `chat validate` prints of chat data."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gemma_metamon.language.data.costs import Cost, TokenCounter
from gemma_metamon.language.data.validation import FileCheck, Overlap


def as_report(
    checks: Sequence[FileCheck],
    duplicates: int,
    overlaps: Sequence[Overlap],
    counters: Sequence[TokenCounter],
    cost: Cost | None,
    max_tokens: int | None,
) -> dict[str, Any]:
    """All of it as one JSON object; `fits` is whether nothing is wrong.

    Args:
        checks: of each file.
        duplicates: rows of all files that are equal to an earlier one.
        overlaps: files that share a battle or a chat.
        counters: of each file, or none.
        cost: of training on the first file; None where no tokens were counted.
        max_tokens: the most that a chat may have; None for no bound.
    """
    files = [_of_file(check) for check in checks]
    for file, counter in zip(files, counters, strict=False):
        file["tokens"] = counter.tokens
        file["quantiles"] = {str(share): counter.quantile(share) for share in (0.5, 0.9, 0.99, 1.0)}
        file["too_long"] = None if max_tokens is None else counter.longer_than(max_tokens)
    wrong = sum(sum(check.wrong.values()) for check in checks)
    too_long = sum(file.get("too_long") or 0 for file in files)
    empty = any(not check.rows for check in checks)
    return {
        "fits": not (wrong or duplicates or overlaps or too_long or empty),
        "files": files,
        "duplicates": duplicates,
        "overlaps": [
            {"first": str(o.first), "second": str(o.second), "battles": o.battles, "chats": o.chats} for o in overlaps
        ],
        "max_tokens": max_tokens,
        "cost": None if cost is None else asdict(cost),
    }


def _of_file(check: FileCheck) -> dict[str, Any]:
    return {
        "file": str(check.path),
        "rows": check.rows,
        "battles": check.n_battles,
        "pictures": len(check.pictures),
        "wrong": dict(check.wrong),
        "examples": check.examples,
        "labelled": check.labelled,
        "without_battle": check.without_battle,
        "results": dict(check.results),
        "formats": dict(check.formats),
    }


def as_text(report: dict[str, Any], counters: Sequence[TokenCounter], epochs: int) -> str:
    """The report for people.

    Args:
        report: of `as_report`.
        counters: of each file, or none, for their histograms.
        epochs: that hours and money are of.
    """
    lines: list[str] = []
    for i, file in enumerate(report["files"]):
        lines += _file_lines(file, report["max_tokens"])
        if counters:
            lines += counters[i].histogram()
    lines += [f"{report['duplicates']:,} chats are equal to another one"] if report["duplicates"] else []
    for overlap in report["overlaps"]:
        lines.append(
            "{first} and {second} share {battles:,} battles and {chats:,} chats: what is trained on is tested".format(
                **overlap
            )
        )
    if report["cost"] is not None:
        lines.append(_cost_line(report["cost"], epochs))
    lines.append("nothing is wrong" if report["fits"] else "something is wrong, see above")
    return "\n".join(lines)


def _file_lines(file: dict[str, Any], max_tokens: int | None) -> list[str]:
    told = [f"{count:,} {name}" for kind in ("formats", "results") for name, count in file[kind].items()]
    if file["pictures"]:
        told.append(f"{file['pictures']:,} pictures")
    if file["labelled"]:
        told.append(f"{file['labelled']:,} labelled")
    lines = [f"{file['file']}: {file['rows']:,} rows of {file['battles']:,} battles" + "".join(f", {t}" for t in told)]
    if file["without_battle"]:
        lines.append(
            f"{file['without_battle']:,} rows name no battle and no legal choices: neither leaks nor legality are known"
        )
    for kind, count in file["wrong"].items():
        lines.append(f"{count:>10,} set aside, {kind}:")
        lines += [f"{'':10} {example}" for example in file["examples"][kind]]
    if not file["rows"]:
        lines.append("it has no row that is right")
    if "tokens" in file:
        spread = ", ".join(f"{float(share):.0%} up to {length}" for share, length in file["quantiles"].items())
        lines.append(f"{file['tokens']:,} tokens; of a chat {spread}")
        if file["too_long"]:
            lines.append(f"{file['too_long']:,} chats have more than {max_tokens} tokens")
    return lines


def _cost_line(cost: dict[str, Any], epochs: int) -> str:
    told = ["{updates_per_epoch:,} updates and {tokens_per_epoch:,} tokens an epoch".format(**cost)]
    of = f"{epochs} epoch{'s' if epochs > 1 else ''}"
    told += [f"{cost['hours']:.2f} hours for {of}"] if cost["hours"] is not None else []
    told += [f"{cost['money']:.2f} to pay for {of}"] if cost["money"] is not None else []
    return "training: " + ", ".join(told)
