"""Readers of what others write as text, for scripts/fuzz_readers.py: gin, teams, battle logs, manifests."""

import gzip
import json
import os
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import wrong_gin
from mutations import mutate_bytes, mutate_json

ROOT = Path(__file__).resolve().parent.parent
SIGNS = ["|", "||", ",", "]", "\n", "===", "\ufeff", "\0", "🙂", "-", "@", "(", "9" * 400, "|win|", "|move|", "{}", "["]


def mutate_lines(rng: random.Random, text: str) -> str:
    """Lines exchanged, lost or repeated, and signs that mean something put anywhere."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        what = rng.random()
        if what < 0.2:
            lines[place], lines[other] = lines[other], lines[place]
        elif what < 0.35 and len(lines) > 1:
            del lines[place]
        elif what < 0.5:
            lines.insert(place, lines[other])
        else:
            line = lines[place]
            at = rng.randrange(len(line) + 1)
            lines[place] = line[:at] + rng.choice(SIGNS) + line[at + rng.choice((0, 0, 1, 3)) :]
    return "\n".join(lines)


class GinReader:
    """A .gin file with overrides, or a configuration as a run saves it; scripts/fuzz_gin.py builds agents of them."""

    def __init__(self, folder: Path) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        self.folder = folder

    def harm(self, rng: random.Random) -> None:
        self.given = wrong_gin.make_input(0, rng.randrange(2**31))
        for old in self.folder.iterdir():
            old.unlink()
        for name, text in self.given.files.items():
            path = self.folder / Path(name).name
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
        self.first = self.folder / Path(next(iter(self.given.files))).name
        self.text = next(iter(self.given.files.values()))

    def read(self) -> Iterator[Any]:
        from gemma_metamon.runs import resolve

        if self.given.saved:
            resolved = resolve.load_text(self.text, self.given.overrides)
        else:
            resolved = resolve.load(str(self.first), self.given.training, self.given.overrides)
        yield len(resolved.bindings)


class TeamReader:
    """A team file, up to the simulator: read, cut into teams, each with what is said of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a.gen9ou_team"
        packaged = sorted((ROOT / "gemma_metamon" / "teams" / "gen9ou").glob("*"))[:3]
        exported = [path.read_text(encoding="utf-8") for path in packaged]
        packed = json.loads((ROOT / "tests" / "goldens" / "packed_teams.json").read_text(encoding="utf-8"))
        lines = [line for line in _strings(packed) if line.count("|") >= 11][:5]
        backup = "".join(f"=== [gen9ou] a/{i} ===\n\n{text}\n\n" for i, text in enumerate(exported))
        self.seeds = [*exported, *lines, "\n".join(lines), backup]

    def harm(self, rng: random.Random) -> None:
        text = mutate_lines(rng, rng.choice(self.seeds)).encode("utf-8", "surrogatepass")
        self.path.write_bytes(mutate_bytes(rng, text) if rng.random() < 0.6 else text)

    def read(self) -> Iterator[Any]:
        from gemma_metamon.showdown.simulator.team_texts import split_teams
        from gemma_metamon.showdown.simulator.teams import _read

        teams = split_teams(_read(self.path))
        yield sum(len(team.text) for team in teams if team.is_for("gen9ou"))


class LogReader:
    """What a battle server sends, as a log with both sides' messages: read, followed by poke-env, made into views."""

    def __init__(self, folder: Path) -> None:
        path = ROOT / "tests" / "replay_logs" / "server_gen9randombattle.log.json.gz"
        data = json.loads(gzip.decompress(path.read_bytes()))
        log = data["log"] if isinstance(data["log"], str) else "\n".join(data["log"])
        lines = log.split("\n")
        turns = [i for i, line in enumerate(lines) if line.startswith("|turn|")]
        ending = [line for line in lines if line.startswith("|win|")]
        self.data, self.log = data, "\n".join([*lines[: turns[min(3, len(turns) - 1)]], *ending])
        self.name = "battle-gen9randombattle-1.log.json"

    def harm(self, rng: random.Random) -> None:
        log = mutate_lines(rng, self.log)
        if rng.random() < 0.2:
            self.content = mutate_json(rng, json.dumps(self.data | {"log": log}).encode())
        else:
            self.content = json.dumps(self.data | {"log": log}).encode()

    def read(self) -> Iterator[Any]:
        from gemma_metamon.replay_logs.importing import read_views
        from gemma_metamon.replay_logs.sources import read_replay

        views, _ = read_views(read_replay(self.content, self.name))
        for view in views.values():
            yield list(view.actions)


class ManifestReader:
    """A registry's description of a version, and of its stages."""

    def __init__(self, folder: Path) -> None:
        from gemma_metamon.registry.manifests import FileRow, Manifest

        row = FileRow(sha256="0" * 64, size=10)
        self.manifest = Manifest(
            name="best",
            version=1,
            kind="agent",
            source="first@3",
            epoch=3,
            made_at="2026-01-01T00:00:00Z",
            files={"ckpts/epoch_3/weights.safetensors": row, "README.md": row},
        ).sealed()
        rows = [{"stage": "production", "action": "promote", "version": 1, "at": "x"}] * 2
        self.stages = json.dumps({"rows": rows}).encode()

    def harm(self, rng: random.Random) -> None:
        self.told = rng.choice((self.manifest.as_json(), self.stages))
        self.is_manifest = self.told != self.stages
        self.content = mutate_json(rng, self.told)

    def read(self) -> Iterator[Any]:
        from gemma_metamon.registry.manifests import read_manifest, read_stages

        if self.is_manifest:
            read = read_manifest(self.content, "x")
            if asdict(read) != asdict(self.manifest):
                raise ValueError("another manifest was taken for the one that was written")
            yield read.total_bytes
        else:
            stages = read_stages(self.content, "x")
            yield [len(stages.of("production")), len(stages.of("staging"))]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
