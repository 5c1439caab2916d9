"""Real battles that come with the package: `<format>.tar.xz`, both views of each, played by scripted players.

Packed together they take a tenth of what they take as single files. scripts/collect_sample_battles.py made them.
"""

import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterable
from pathlib import Path

import lz4.frame

from gemma_metamon.battle.replays import BattleFileName
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.user_cache import cache_folder, make_once

_FOLDER = Path(__file__).parent
_SUFFIX = ".tar.xz"
_UNPACK_TIMEOUT_S = 600.0
# The battles repeat themselves over long distances: a window of 64 MiB halves what xz's own 8 MiB would need.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 26}]


def bundled_formats() -> list[str]:
    """The formats of the bundled battles, sorted."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in _FOLDER.glob(f"*{_SUFFIX}"))


def extract(battle_format: str, folder: Path | None = None) -> Path:
    """A parsed-replay root with the bundled battles of a format in `<root>/<format>/*.json.lz4`.

    Unpacked once, into `folder` or the user's cache. Raises MissingFileError for a format without bundled battles.
    """
    archive = _FOLDER / f"{battle_format}{_SUFFIX}"
    if not archive.is_file():
        raise MissingFileError(
            f"no battles of format {battle_format!r} come with gemma_metamon (there are "
            f"{', '.join(bundled_formats())}); "
            f"record some with gemma-metamon collect --format {battle_format}"
        )
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:12]
    root = (cache_folder() if folder is None else folder) / f"sample-battles-{battle_format}-{digest}"
    return make_once(root, lambda staged: _unpack(archive, staged / battle_format), timeout_s=_UNPACK_TIMEOUT_S)


def pack(files: Iterable[Path], archive: Path) -> None:
    """Writes recorded battles (`.json.lz4`) as one archive, the same bytes for the same battles."""
    with lzma.open(archive, "wb", filters=_FILTERS) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for path in sorted(files):
            content = lz4.frame.decompress(path.read_bytes())
            member = tarfile.TarInfo(path.name.removesuffix(".lz4"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    with tarfile.open(archive, mode="r|xz") as tar:
        for member in tar:
            BattleFileName.parse(member.name)  # also keeps a name from leading out of the folder
            content = tar.extractfile(member)
            if content is None:
                raise DataError(f"{member.name} in the bundled battles is no file")
            (folder / f"{member.name}.lz4").write_bytes(lz4.frame.compress(content.read()))
