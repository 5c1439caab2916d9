"""`gemma-metamon release`: all checks before a model is promoted, in one command."""

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.child_processes import start_command
from gemma_metamon.commands._arguments import add_shared_argument, make_folder
from gemma_metamon.commands._registering import RUN_HELP, add_registry_argument, contents_of, register, with_card
from gemma_metamon.commands._words_players import SEES, WORDS
from gemma_metamon.errors import CheckpointMismatchError, ConfigError, DataError
from gemma_metamon.extras import require_extra
from gemma_metamon.registry.manifests import PLAYED_AS
from gemma_metamon.registry.names import STAGES, VARIABLE, Reference, check_name, leading, read_reference

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.registry.manifests import Manifest
    from gemma_metamon.release.contents import Contents
    from gemma_metamon.release.gates import Battles, GateRow, Gates, OpponentGate
    from gemma_metamon.release.report import ReleaseReport

logger = logging.getLogger(__name__)

EXAMPLE = """examples:
  gemma-metamon release runs/first@3 --gates examples/gates.toml --out releases/first
  gemma-metamon release runs/first@3 --gates gates.toml --out releases/first --promote best
  gemma-metamon release registry:best@2 --gates gates.toml --out releases/best2 --promote best --stage staging

It loads the model, looks for passwords and tokens in its files, exports it as the gates name and compares, and plays:
win rates, refused choices, latency, memory. OUT/release.html and OUT/release.json tell each gate; the exit status is 0
where all are passed, and only then --promote registers the model under that name and promotes it."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "release",
        help="run the checks before production, and promote what passes them",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="RUN", help=f"{RUN_HELP}; or registry:NAME@VERSION")
    parser.add_argument("--gates", type=Path, required=True, metavar="FILE", help="what is wanted, as TOML")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for all that is found")
    parser.add_argument("--promote", metavar="NAME", help="of the model that it becomes, where all gates are passed")
    parser.add_argument("--stage", choices=STAGES, default="production", help="for --promote (default: %(default)s)")
    add_registry_argument(parser)
    for name in ("workers", "concurrency", "device", "team_dir", "json"):
        add_shared_argument(parser, name)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Looks at each gate; status 1 where one is not passed."""
    require_extra("battle", "release")
    require_extra("report", "release")
    from gemma_metamon.registry.registry import now
    from gemma_metamon.release.gates import read_gates
    from gemma_metamon.release.report import ReleaseReport

    gates = _pinned(read_gates(args.gates), args.registry)
    registered = _find_registered(args)
    if args.out.exists() and any(args.out.iterdir()):
        raise ConfigError(f"--out {args.out} holds something already; choose another folder")
    make_folder(args.out, "out")
    contents, rows = _load(args, registered)
    if contents is not None:
        for row in _look(args, gates, contents):
            logger.info("%s: %s", "passed" if row.passed else "NOT PASSED", row.name)
            rows.append(row)
    report = ReleaseReport(
        source=_name_of(args, registered) if contents is None else contents.facts.label,
        at=now(),
        gates_file=args.gates.name,
        format=gates.format,
        seed=gates.seed,
        rows=rows,
        files={} if contents is None else {name: path.stat().st_size for name, path in contents.files.items()},
    )
    written = report.write(args.out)
    if report.passed and args.promote is not None and contents is not None:
        report = _promoted(args, registered, contents, report, written)
        report.write(args.out)
    _tell(args, report)
    return 0 if report.passed else 1


def _pinned(gates: "Gates", place: str | None) -> "Gates":
    """Whoever is in a stage now is the opponent, however long the battles last. Raises as `Registry.find`."""
    from gemma_metamon.registry.registry import pinned

    opponents = [replace(gate, player=pinned(gate.player, place)) for gate in gates.opponents]
    return replace(gates, opponents=opponents)


def _find_registered(args: argparse.Namespace) -> "Manifest | None":
    """The version that is looked at, where it is one; found once, for its stage may get another one meanwhile.

    Raises ConfigError where --promote does not go with it, and as `Registry.find`.
    """
    from gemma_metamon.registry.registry import Registry

    if args.promote is not None:
        check_name(args.promote)
    found = leading(_without_kind(args.source))
    if found is None:
        return None
    if found[1]:
        raise ConfigError(f"{args.source}: behind a registered model stands nothing here")
    reference = read_reference(found[0])
    if args.promote not in (None, reference.name):
        raise ConfigError(
            f"--promote {args.promote} is another model than {args.source}; give --promote {reference.name}"
        )
    return Registry(args.registry).find(reference)


def _without_kind(source: str) -> str:
    return source.removeprefix(WORDS).removeprefix(SEES)


def _name_of(args: argparse.Namespace, registered: "Manifest | None") -> str:
    return str(args.source) if registered is None else f"{registered.name}@{registered.version}"


def _load(args: argparse.Namespace, registered: "Manifest | None") -> "tuple[Contents | None, list[GateRow]]":
    """A run that is not there is the user's mistake; one that is damaged has not passed."""
    from gemma_metamon.registry.registry import Registry
    from gemma_metamon.release.gates import GateRow

    wanted = "its model can be built"
    try:
        if registered is None:
            contents = contents_of(args.source)
        else:
            said = args.source.removesuffix(_without_kind(args.source))
            folder = Registry(args.registry).fetch(registered)
            contents = contents_of(f"{said or PLAYED_AS[registered.kind]}{folder}")
    except (DataError, CheckpointMismatchError) as error:
        return None, [GateRow(name="loads", passed=False, found=str(error), wanted=wanted)]
    found = f"{contents.facts.label}, {len(contents.files)} files"
    return contents, [GateRow(name="loads", passed=True, found=found, wanted=wanted)]


def _look(args: argparse.Namespace, gates: "Gates", contents: "Contents") -> "Iterator[GateRow]":
    from gemma_metamon.release.exports import check_export
    from gemma_metamon.release.gates import judge_battles

    yield _look_for_secrets(contents.files)
    for form in gates.exports:
        yield check_export(form, contents)
    played = [_play(args, gates, gate, contents, number) for number, gate in enumerate(gates.opponents)]
    yield from judge_battles(gates, played)


def _play(
    args: argparse.Namespace, gates: "Gates", gate: "OpponentGate", contents: "Contents", number: int
) -> "Battles":
    """An evaluation in a process of its own, so that what it takes is counted and its end is not ours."""
    from gemma_metamon.release.gates import Battles
    from gemma_metamon.results.schema import EvaluationReport
    from gemma_metamon.strict_json import parse_json_object, read_dataclass, read_json_object

    folder = args.out / f"battles_{number}"
    player = PLAYED_AS[contents.facts.kind] + str(contents.run_dir)
    player += "" if contents.epoch is None else f"@{contents.epoch}"
    command = [sys.executable, "-m", "gemma_metamon", "evaluate", "--json", "--players", player]
    command += ["--opponents", gate.player, "--battles", str(gate.battles), "--format", gates.format]
    command += ["--seed", str(gates.seed), "--workers", str(args.workers), "--concurrency", str(args.concurrency)]
    for flag in ("device", "team_dir"):
        if (value := getattr(args, flag)) is not None:
            command += [f"--{flag}", str(value)]
    peak = args.out / f"memory_{number}.json"
    launcher = [sys.executable, "-m", "gemma_metamon.release.measured", str(peak)]
    status, output, complaints = _run([*launcher, *command, "--out", str(folder)], args.registry)
    try:
        peak_mib = float(read_json_object(peak)["peak_mib"]) if peak.is_file() else None
        report = read_dataclass(EvaluationReport, parse_json_object(output))
    except DataError:
        lines = complaints.strip().splitlines() or [f"it ended with status {status}"]
        return Battles(gate=gate, failed=lines[-1])
    finally:
        peak.unlink(missing_ok=True)
    return Battles(gate=gate, report=report, peak_mib=peak_mib)


def _run(command: list[str], place: str | None) -> tuple[int, str, str]:
    """A command's status, what it prints and what it complains of. It ends with this one, and may end well.

    Registered models are those of this place, None is the usual one.
    """
    environment = dict(os.environ) if place is None else {**os.environ, VARIABLE: place}
    with start_command(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            output, complaints = process.communicate()
        except BaseException:
            process.terminate()
            raise
    return process.returncode, output, complaints


def _promoted(
    args: argparse.Namespace,
    registered: "Manifest | None",
    contents: "Contents",
    report: "ReleaseReport",
    written: list[Path],
) -> "ReleaseReport":
    """Registers what passed, with what was found of it, and promotes it; what is registered is promoted alone.

    What was found may hold a secret, too, as an opponent's address: then that gate is not passed after all.
    """
    from gemma_metamon.registry.registry import Registry

    registry = Registry(args.registry)
    if registered is None:
        with with_card(args.promote, contents, sorted(args.out.glob("battles_*")), written) as files:
            row = _look_for_secrets({name: path for name, path in files.items() if name not in contents.files})
            if not row.passed:
                return replace(report, rows=[row if each.name == row.name else each for each in report.rows])
            registered = register(registry, args.promote, contents, files)
    reference = Reference(registered.name, registered.version)
    manifest = registry.promote(reference, args.stage, registered.digest)
    return replace(report, promoted=f"{manifest.name}@{manifest.version} {args.stage}")


def _look_for_secrets(files: Mapping[str, Path]) -> "GateRow":
    from gemma_metamon.release.gates import GateRow
    from gemma_metamon.release.secrets import find_secrets, given

    known = given()
    secrets = {name: found for name, path in files.items() if (found := find_secrets(path, known))}
    said = "; ".join(f"{name} holds {', '.join(found)}" for name, found in secrets.items())
    return GateRow(name="secrets", passed=not secrets, found=said or "none", wanted="none in any file")


def _tell(args: argparse.Namespace, report: "ReleaseReport") -> None:
    if args.json:
        print(json.dumps({"passed": report.passed, **asdict(report), "page": str(args.out / "release.html")}))
        return
    print(report.as_table())
    if report.promoted is not None:
        print(f"promoted: {report.promoted}")
    elif args.promote is not None:
        print(f"{args.promote} is not promoted")
    print(f"wrote {args.out / 'release.html'}")
