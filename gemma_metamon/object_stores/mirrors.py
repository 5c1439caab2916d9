"""What is written on this machine, uploaded to an object store meanwhile."""

import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gemma_metamon.errors import GemmaMetamonError, ServerError
from gemma_metamon.object_stores.checkpoints import (
    CHECKPOINTS,
    IN_STORE,
    MARKED,
    age,
    checkpoint_of,
    is_mark,
    mark_of,
    newest_first,
    turn_of,
    whole_of,
)
from gemma_metamon.object_stores.folders import RemoteFolder
from gemma_metamon.object_stores.journal import Journal, about, was_moved
from gemma_metamon.strict_json import on_one_line

logger = logging.getLogger(__name__)

MIRROR_EVERY_S: Final = 20.0


class Mirror:
    """Uploads a folder of this machine while it is written, in a thread of its own, and once more at the end.

    Work does not wait for it, and goes on where the store does not answer: that is said, and tried again. It begins
    with what the journal has: what was uploaded or fetched before, and has not changed, is not uploaded. From the store
    it removes what it has seen here, or described in `.in_store`, and is gone; what was moved to `discarded`; and
    checkpoints that were half uploaded when it began, once a newer one is whole.

    Args:
        folder: of this machine.
        remote: where it goes.
        every_s: seconds between two looks at the folder.
    """

    def __init__(self, folder: Path, remote: RemoteFolder, *, every_s: float = MIRROR_EVERY_S) -> None:
        self.folder, self.remote = folder, remote
        self._every_s = every_s
        self._journal = Journal(folder)
        with self._journal.held():  # nobody fetches meanwhile
            self._seen = set(_files_of(folder))
            self._described = self._described_now()
        self._half: set[str] = set()
        self._has_begun = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> "Mirror":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Raises ServerError where the last upload fails: everything is still on this machine."""
        self._ended.set()
        self._thread.join()
        try:
            self.bring_up_to_date()
        except ServerError as error:
            raise ServerError(f"{error}; all of it is in {self.folder}: run the same command again") from error

    def bring_up_to_date(self) -> int:
        """One look at the folder. Returns how many files were uploaded.

        What was measured goes first, then checkpoints, the newest first, each with its mark, and what names them last.
        Only then is removed what is gone; but it is no longer whole in the store once the newest checkpoint is.

        Raises ServerError where the store does not answer, or refuses us.
        """
        with self._journal.held() as known:
            files = _files_of(self.folder)
            self._begin(files)
            self._seen |= set(files)
            described = self._described_now()
            checkpoints = newest_first(map(checkpoint_of, files))
            whole = [checkpoint for checkpoint in checkpoints if mark_of(checkpoint) in known]
            gone = [name for name in known if name not in files and self._is_gone(name, described, whole[:1])]
            changed = [name for name, here in files.items() if name not in known or known[name].here != here]
            there = {checkpoint_of(name) for name in known} & {*checkpoints, *described}
            self._mark(*newest_first(there - {checkpoint_of(name) for name in changed}))
            return self._upload(changed, checkpoints, gone)

    def _upload(self, changed: list[str], checkpoints: list[str], gone: list[str]) -> int:
        known = self._journal.entries
        before, after, last = (
            [name for name in changed if checkpoint_of(name) is None and turn_of(name) == turn] for turn in range(3)
        )
        if checkpoints and MARKED not in known:
            self._put_mark(MARKED)
        count = self._put(before)
        withdrawn = newest_first({checkpoint_of(name) for name in gone} - {*checkpoints})
        for checkpoint in checkpoints:
            todo = [name for name in changed if checkpoint_of(name) == checkpoint]
            if todo:
                self._remove(mark_of(checkpoint))  # of another branch's, which is written over
                put = self._put(todo)
                count += put
                if put == len(todo):  # it was not removed meanwhile
                    self._mark(checkpoint)
            if mark_of(checkpoint) in known:
                self._remove(*map(mark_of, withdrawn))
                withdrawn = []
        count += self._put(after) + self._put(last)
        if not checkpoints or not withdrawn:
            self._remove(*map(mark_of, withdrawn), *gone)
        return count

    def _begin(self, files: dict[str, tuple[int, int]]) -> None:
        """What the store has, once: what is not there is uploaded again, what another machine put there is its own."""
        if self._has_begun:
            return
        known, there = self._journal.entries, self.remote.sizes() if self.remote.ask() else {}
        for name in list(known):
            if name not in there or (name not in files and there[name] != known[name].version):
                self._journal.forget(name)
        self._half = {*newest_first(map(checkpoint_of, there))} - {*whole_of(there)}
        for name in there.keys() - known.keys():
            if is_mark(name) or checkpoint_of(name) in self._described | self._half:
                self._journal.note(name, there[name], None)
        self._has_begun = True

    def _is_gone(self, name: str, described: set[str], newest: list[str]) -> bool:
        checkpoint = checkpoint_of(name)
        if is_mark(name) or checkpoint in described or (self.folder / name).exists():
            return False
        if name in self._seen or checkpoint in self._described:
            return True
        if checkpoint in self._half:  # a killed training's: once what is newer is whole, nobody goes on with it
            return any(age(checkpoint) < age(one) for one in newest)
        return was_moved(self.folder, name, self._journal.entries[name])

    def _described_now(self) -> set[str]:
        return {path.name for path in (self.folder / IN_STORE / CHECKPOINTS).glob("[!.]*")}

    def _put(self, names: Iterable[str]) -> int:
        """Uploads files that are still there. Returns how many."""
        count = 0
        for name in names:
            path = self.folder / name
            here = about(path)
            if here is not None:
                try:
                    version = self.remote.put(name, path)
                except ServerError:
                    if path.exists():
                        raise
                else:
                    self._journal.note(name, version, here)
                    count += 1
        return count

    def _mark(self, *checkpoints: str) -> None:
        for checkpoint in checkpoints:
            if mark_of(checkpoint) not in self._journal.entries:
                self._put_mark(mark_of(checkpoint))

    def _put_mark(self, name: str) -> None:
        self.remote.put_mark(name)
        self._journal.note(name, (2, ""), None)

    def _remove(self, *names: str) -> None:
        for name in names:
            if name in self._journal.entries:
                self.remote.remove(name)
                self._journal.forget(name)

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self.bring_up_to_date()
            except (GemmaMetamonError, OSError) as error:
                logger.warning("%s; it is tried again in %.0f s", on_one_line(error), self._every_s)


def _files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each that nobody is writing: of atomic_files all names of what is begun have a dot before."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if not any(part.startswith(".") for part in inner.parts) and (here := about(path)) is not None:
            found[inner.as_posix()] = here
    return found
