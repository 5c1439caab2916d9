"""A registry: versions of models, whose files are kept once each by their hash.

<place>/
files/<2 digits>/<SHA-256>          a file's content
models/<name>/versions/<N>.json     see `Manifest`
models/<name>/stages.json           see `Stages`
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal

from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError, MissingFileError
from gemma_metamon.registry.manifests import (
    MAX_BYTES,
    FileRow,
    Kind,
    Manifest,
    StageRow,
    Stages,
    read_manifest,
    read_stages,
)
from gemma_metamon.registry.names import (
    PREFIX,
    STAGES,
    Reference,
    Stage,
    check_name,
    default_place,
    is_name,
    is_registered,
    read_reference,
    replace_stages,
)
from gemma_metamon.registry.storage import Storage, hashed
from gemma_metamon.strict_json import shown_path
from gemma_metamon.user_cache import cache_folder, make_once

logger = logging.getLogger(__name__)

_FETCH_S: Final = 3600.0
_MODELS: Final = "models"
_said: set[str] = set()
"""What this process has said of names; a command looks at some more than once."""
_checked: dict[Path, tuple[tuple[int, int], ...]] = {}
"""Fetched folder that this process has checked -> size and time of change of each of its files, as they were then."""


class Registry:
    """The models in a place.

    Args:
        place: a folder, or an fsspec address; None is `default_place`.

    Raises:
        ConfigError, MissingDependencyError: as `Storage`.
    """

    def __init__(self, place: str | None = None) -> None:
        self.storage = Storage(default_place() if place is None else place)

    def names(self) -> list[str]:
        """Of all models."""
        return self.storage.names(_MODELS)

    def versions(self, name: str) -> list[int]:
        """Of a model, in order. Raises MissingFileError for one that there is not, with those that there are."""
        check_name(name)
        files = self.storage.names(f"{_MODELS}/{name}/versions")
        found = sorted(int(file[:-5]) for file in files if file.endswith(".json") and file[:-5].isdecimal())
        if not found:
            there = ", ".join(self.names()) or "none"
            raise MissingFileError(f"{shown_path(self.storage.place)} has no model {name}; it has {there}")
        return found

    def stages(self, name: str) -> Stages:
        """What happened to a model's stages. Raises DataError where that is damaged."""
        path = f"{_MODELS}/{name}/stages.json"
        if not self.storage.has(path):
            return Stages(rows=[])
        return read_stages(self.storage.read(path, MAX_BYTES), self.storage.where(path))

    def read(self, text: str) -> Reference:
        """The version that a text names, as `read_reference`. Raises ConfigError for a name alone, too.

        MissingFileError says that a model of that name is not there, and which are.
        """
        name = text.removeprefix(PREFIX)
        if not is_name(name):
            return read_reference(text)
        versions, stages = self.versions(name), self.stages(name)
        written = [f"{text}@{which}" for which in (versions[-1], *(s for s in STAGES if stages.of(s)))]
        raise ConfigError(
            f"{text} names no version of a registered model; write {' or '.join(written)} "
            f"({name} has {', '.join(map(str, versions))})"
        )

    def find(self, reference: Reference) -> Manifest:
        """The version that is meant.

        Raises:
            MissingFileError: a model, version or occupied stage that there is not; it says which there are.
            DataError: a damaged description.
        """
        there = self.versions(reference.name)
        version = reference.which
        if isinstance(version, str):
            stack = self.stages(reference.name).of(version)
            if not stack:
                raise MissingFileError(
                    f"no version of {reference.name} is in {version}; "
                    f"gemma-metamon registry promote {reference.name}@{there[-1]} {version} puts one there"
                )
            version = stack[-1]
        if version not in there:
            raise MissingFileError(f"{reference.name} has no version {version}; it has {', '.join(map(str, there))}")
        path = f"{_MODELS}/{reference.name}/versions/{version}.json"
        manifest = read_manifest(self.storage.read(path, MAX_BYTES), self.storage.where(path))
        if (manifest.name, manifest.version) != (reference.name, version):
            raise DataError(
                f"{self.storage.where(path)} describes {manifest.name}@{manifest.version}; register the run again"
            )
        return manifest

    def register(self, name: str, kind: Kind, files: Mapping[str, Path], *, source: str, epoch: int | None) -> Manifest:
        """Makes the next version of a model. What is there already by its hash is not copied again.

        Args:
            name: of the model; a new one begins at version 1.
            kind: what it is.
            files: name beneath the run's folder -> the file.
            source: the label of what is registered.
            epoch: of its checkpoint.

        Raises:
            GemmaMetamonError: what cannot be written.
        """
        check_name(name)
        with self.storage.held():
            rows = {file: self._keep(path) for file, path in sorted(files.items())}
            before = self.storage.names(f"{_MODELS}/{name}/versions")
            numbers = [int(file[:-5]) for file in before if file[:-5].isdecimal()]
            manifest = Manifest(
                name=name,
                version=max(numbers, default=0) + 1,
                kind=kind,
                source=source,
                epoch=epoch,
                made_at=now(),
                files=rows,
            ).sealed()
            self.storage.write(f"{_MODELS}/{name}/versions/{manifest.version}.json", manifest.as_json())
        return manifest

    def verify(self, manifest: Manifest) -> None:
        """Reads all files of a version. Raises MissingFileError or DataError naming the first that is not whole."""
        for file, row in manifest.files.items():
            self._read(manifest, file, row, None)

    def promote(self, reference: Reference, stage: Stage, digest: str | None = None) -> Manifest:
        """Puts a version into a stage, once all of its files have been read.

        Args:
            reference: to the version.
            stage: to put it into.
            digest: of the manifest that is meant; None takes whatever the reference leads to now.

        Raises as `find` and `verify`; DataError for another digest; GemmaMetamonError where it cannot be written.
        """
        manifest = self.find(reference)
        if digest not in (None, manifest.digest):
            raise DataError(
                f"{reference} in {shown_path(self.storage.place)} is another version than it was (its digest has "
                "changed); look at it again"
            )
        self.verify(manifest)
        with self.storage.held():
            before = self.stages(manifest.name)
            if before.of(stage)[-1:] != [manifest.version]:
                self._add(manifest.name, before, stage, "promote", manifest.version)
        return manifest

    def rollback(self, name: str, stage: Stage) -> Manifest:
        """Puts back the version that was in a stage before the one that is.

        Raises as `promote`, and where none was, or another process has changed the stage meanwhile.
        """
        stack = self.stages(name).of(stage)
        if len(stack) < 2:
            self.versions(name)
            now_in = f"{name}@{stack[0]} was the first" if stack else f"no version of {name} is"
            raise MissingFileError(f"{now_in} in {stage}, so there is none to go back to; promote one instead")
        manifest = self.find(Reference(name, stack[-2]))
        self.verify(manifest)
        with self.storage.held():
            before = self.stages(name)
            if before.of(stage) != stack:
                raise GemmaMetamonError(f"another process has changed {stage} of {name} meanwhile; look at it again")
            self._add(name, before, stage, "rollback", manifest.version)
        return manifest

    def fetch(self, manifest: Manifest) -> Path:
        """A folder of this machine with the files of a version, as a run's; made once, and checked by each process.

        Raises MissingFileError or DataError where a file in the registry is not whole.
        """
        folder = cache_folder() / "registry" / manifest.digest / f"{manifest.name}-v{manifest.version}"
        paths = {file: folder / file for file in manifest.files}
        if folder.is_dir() and folder in _checked and _checked[folder] == _stamps(paths.values()):
            return folder

        def is_whole(folder: Path) -> bool:
            return all(_is_whole(folder / file, row) for file, row in manifest.files.items())

        def make(staged: Path) -> None:
            for file, row in manifest.files.items():
                (staged / file).parent.mkdir(parents=True, exist_ok=True)
                self._read(manifest, file, row, staged / file)

        make_once(folder, make, timeout_s=_FETCH_S, is_whole=is_whole)
        _checked[folder] = _stamps(paths.values())
        return folder

    def _keep(self, path: Path) -> FileRow:
        with path.open("rb") as file:
            digest, size = hashed(file)
        kept, row = _place_of(digest), FileRow(sha256=digest, size=size)
        if not self._holds(kept, row):
            self.storage.put(kept, path)
        return row

    def _holds(self, kept: str, row: FileRow) -> bool:
        """Whether a content is there and whole: what was damaged is replaced when it is registered again."""
        if not self.storage.has(kept):
            return False
        with self.storage.reading(kept) as file:
            return hashed(file) == (row.sha256, row.size)

    def _read(self, manifest: Manifest, file: str, row: FileRow, out: Path | None) -> None:
        label = f"{file} of {manifest.name}@{manifest.version}"
        kept = _place_of(row.sha256)
        try:
            with self.storage.reading(kept) as source:
                if out is None:
                    found = hashed(source)
                else:
                    with out.open("wb") as target:
                        found = hashed(source, target)
        except MissingFileError as error:
            raise MissingFileError(
                f"{label} is missing ({shown_path(self.storage.where(kept))}); register the run again, or use another "
                "version"
            ) from error
        if found != (row.sha256, row.size):
            raise DataError(
                f"{label} is damaged ({shown_path(self.storage.where(kept))} has another SHA-256); register the run "
                "again, or use another version"
            )

    def _add(
        self, name: str, before: Stages, stage: Stage, action: Literal["promote", "rollback"], version: int
    ) -> None:
        row = StageRow(stage=stage, action=action, version=version, at=now())
        rows = [asdict(each) for each in (*before.rows, row)]
        self.storage.write(f"{_MODELS}/{name}/stages.json", (json.dumps({"rows": rows}, indent=1) + "\n").encode())


def local_folder(named: str | Path, place: str | None = None) -> Path:
    """The folder of a run: a path is itself, and of "registry:NAME@3" its files are fetched.

    Raises:
        ConfigError: what begins with "registry:" and names no version.
        MissingFileError: a model, version or stage that there is not.
        DataError: a version that is damaged.
    """
    if not is_registered(named):
        return Path(named)
    registry = Registry(place)
    manifest = registry.find(registry.read(str(named)))
    said = f"{named} is version {manifest.version}, registered from {manifest.source}"
    if said not in _said:
        _said.add(said)
        logger.info("%s", said)
    return registry.fetch(manifest)


def pinned(text: str, place: str | None = None) -> str:
    """A text that means the same whatever is promoted later: "registry:best@3" for "registry:best@production".

    Raises as `Registry.find`, for a stage alone: a version is looked for where its files are fetched.
    """
    return replace_stages(text, lambda reference: Registry(place).find(reference).version)


def now() -> str:
    """The time, UTC, as a manifest has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _place_of(digest: str) -> str:
    return f"files/{digest[:2]}/{digest}"


def _stamps(paths: Iterable[Path]) -> tuple[tuple[int, int], ...]:
    """Nothing of a file that is gone, which no file's stamp is equal to."""
    found = [path.stat() if path.is_file() else None for path in paths]
    return tuple((0, -1) if each is None else (each.st_size, each.st_mtime_ns) for each in found)


def _is_whole(path: Path, row: FileRow) -> bool:
    try:
        with path.open("rb") as file:
            return hashed(file) == (row.sha256, row.size)
    except OSError:
        return False
