"""`gemma-metamon release`: all checks before a model is promoted, in one command."""

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.child_processes import start_command
from gemma_metamon.commands._arguments import add_shared_argument, make_folder
from gemma_metamon.commands._registering import RUN_HELP, add_registry_argument, contents_of, register, with_card
from gemma_metamon.commands._words_players import with_kind
from gemma_metamon.errors import CheckpointMismatchError, ConfigError, DataError
from gemma_metamon.extras import require_extra
from gemma_metamon.registry.manifests import PLAYED_AS
from gemma_metamon.registry.names import STAGES, Reference, check_name, leading, read_reference

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
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

    gates = read_gates(args.gates)
    registered = _registered(args)
    if args.out.exists() and any(args.out.iterdir()):
        raise ConfigError(f"--out {args.out} holds something already; choose another folder")
    make_folder(args.out, "out")
    source = with_kind(args.source)
    contents, rows = _load(source)
    if contents is not None:
        for row in _look(args, gates, contents):
            logger.info("%s: %s", "passed" if row.passed else "NOT PASSED", row.name)
            rows.append(row)
    report = ReleaseReport(
        source=args.source if contents is None else contents.facts.label,
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


def _registered(args: argparse.Namespace) -> Reference | None:
    """The version that is looked at, where it is one. Raises ConfigError where --promote does not go with it."""
    if args.promote is not None:
        check_name(args.promote)
    found = leading(args.source)
    if found is None:
        return None
    if found[1]:
        raise ConfigError(f"{args.source}: behind a registered model stands nothing here")
    reference = read_reference(found[0])
    if args.promote not in (None, reference.name):
        raise ConfigError(
            f"--promote {args.promote} is another model than {args.source}; give --promote {reference.name}"
        )
    return reference


def _load(source: str) -> "tuple[Contents | None, list[GateRow]]":
    """A run that is not there is the user's mistake; one that is damaged has not passed."""
    from gemma_metamon.release.gates import GateRow

    wanted = "its model can be built"
    try:
        contents = contents_of(source)
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
    status, output, complaints = _run([*launcher, *command, "--out", str(folder)])
    try:
        peak_mib = float(read_json_object(peak)["peak_mib"]) if peak.is_file() else None
        report = read_dataclass(EvaluationReport, parse_json_object(output))
    except DataError:
        lines = complaints.strip().splitlines() or [f"it ended with status {status}"]
        return Battles(gate=gate, failed=lines[-1])
    finally:
        peak.unlink(missing_ok=True)
    return Battles(gate=gate, report=report, peak_mib=peak_mib)


def _run(command: list[str]) -> tuple[int, str, str]:
    """A command's status, what it prints and what it complains of. It ends with this one, and may end well."""
    with start_command(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            output, complaints = process.communicate()
        except BaseException:
            process.terminate()
            raise
    return process.returncode, output, complaints


def _promoted(
    args: argparse.Namespace,
    registered: Reference | None,
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
            manifest = register(registry, args.promote, contents, files)
        registered = Reference(manifest.name, manifest.version)
    manifest = registry.promote(registered, args.stage)
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
