"""Fuzzing that is guided by coverage, with atheris, of the readers of text and JSON in scripts/fuzz_readers.py.

    pip install atheris                                          # has wheels for Linux
    python scripts/fuzz_guided.py battle -runs=100000            # what follows the reader is libFuzzer's

Inputs grow from whole files wherever a harmed one reaches code that none has reached before. It ends at the first input
that ends in a traceback, brings in a number that is none, takes too long (libFuzzer's -timeout, 10 here) or more
than 2 GiB (-rss_limit_mb): the input is then kept as crash-... in this folder. Otherwise it ends with 0 after -runs.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

OPTIONS = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"]


def seeds_of(name: str, reader: Any) -> list[bytes]:
    """Whole inputs."""
    if name == "server":
        return [json.dumps(reader.data | {"log": reader.log}).encode()]
    if name == "manifest":
        return [reader.manifest.as_json()]
    return [text if isinstance(text, bytes) else text.encode() for text in reader.seeds]


def give(name: str, reader: Any, folder: Path, content: bytes) -> None:
    """Puts an input where the reader looks for one."""
    if name in ("server", "manifest"):
        reader.content, reader.is_manifest = content, True
        return
    if name == "battle":
        reader.path = folder / "x.json"
    reader.path.write_bytes(content)


def main() -> int:
    try:
        import atheris
    except ImportError:
        print("fuzz_guided: needs atheris; pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["gemma_metamon"]):
        from fuzz_readers import READERS, read_one

    names = ("battle", "vocabulary", "team", "server", "manifest")
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"usage: python scripts/fuzz_guided.py {'|'.join(names)} [-runs=N ...]", file=sys.stderr)
        return 2
    name = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        folder, corpus = Path(scratch, "reader"), Path(scratch, "corpus")
        for each in (folder, corpus):
            each.mkdir()
        reader: Any = READERS[name](folder)
        for number, seed in enumerate(seeds_of(name, reader)):
            (corpus / str(number)).write_bytes(seed)

        def one(content: bytes) -> None:
            give(name, reader, folder, content)
            outcome, said = read_one(reader)
            if outcome not in ("accepted", "refused"):
                raise RuntimeError(f"{outcome}: {said}")

        atheris.Setup([sys.argv[0], *OPTIONS, *sys.argv[2:], str(corpus)], one)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
