"""Build gemma_metamon/text/assets/subwords.npz: Gemma 3's subword ids of every word, in both phrasings.

Before writing, every word and 2,000 random lines are tokenized whole and must equal the table. With --goldens the ids
of the lines in that file are made anew from the real tokenizer. With --add the words of a file that the packaged
vocabulary lacks get their subwords too, so that a vocabulary may hold them: no id and no hash of before changes.

    python scripts/build_subwords.py --tokenizer google/gemma-3-270m
    python scripts/build_subwords.py --tokenizer google/gemma-3-270m --add MY_WORDS.json
    python scripts/build_subwords.py --tokenizer FOLDER --goldens tests/goldens/text/lines.json
"""

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from gemma_metamon.text.phrases import PHRASINGS, join_phrases
from gemma_metamon.text.subwords import (
    SubwordTable,
    Tokenize,
    VocabularySubwords,
    build_rows,
    load_added_rows,
    pack_rows,
)
from gemma_metamon.text.vocabulary import UNKNOWN_WORD, Vocabulary

ASSETS = Path(__file__).resolve().parents[1] / "gemma_metamon/text/assets"
ASSET, ADDED = ASSETS / "subwords.npz", ASSETS / "added_subwords.json"


def load_tokenizer(source: str) -> Tokenizer:
    """From a tokenizer.json, a folder that holds one, or the hub."""
    path = Path(source)
    if path.is_dir():
        path /= "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.exists() else Tokenizer.from_pretrained(source)


def build(vocabulary: Vocabulary, phrasing: str, tokenize: Tokenize) -> VocabularySubwords:
    first_rows, inner_rows = build_rows([*vocabulary.words, UNKNOWN_WORD], phrasing, tokenize)
    first_ids, first_lengths = pack_rows(first_rows)
    inner_ids, inner_lengths = pack_rows(inner_rows)
    return VocabularySubwords(
        phrasing=phrasing,
        words=vocabulary.words,
        first_ids=first_ids,
        inner_ids=inner_ids,
        first_lengths=first_lengths,
        inner_lengths=inner_lengths,
    )


def check(table: VocabularySubwords, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    chooser = random.Random(0)
    lines = [[word] for word in vocabulary] + [["<blank>", word] for word in vocabulary]
    lines += [chooser.choices(vocabulary.words, k=chooser.randint(2, 110)) for _ in range(2000)]
    for words in lines:
        text = join_phrases(words, table.phrasing)
        if table.encode_line(words) != tokenizer.encode(text).ids:
            sys.exit(f"word by word differs from the whole line in phrasing {table.phrasing}: {text}")


def write_asset(tokenizer: Tokenizer) -> None:
    vocabulary = Vocabulary.default()
    arrays = {}
    for phrasing in PHRASINGS:
        table = build(vocabulary, phrasing, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
        check(table, vocabulary, tokenizer)
        arrays[f"{phrasing}_hash"] = np.array(table.hash)
        for position in ("first", "inner"):
            ids, lengths = getattr(table, f"{position}_ids"), getattr(table, f"{position}_lengths")
            arrays[f"{phrasing}_{position}_lengths"] = lengths.astype(np.uint8)
            arrays[f"{phrasing}_{position}_ids"] = np.concatenate(
                [row[:n] for row, n in zip(ids, lengths, strict=True)]
            )
        mean = table.inner_lengths[:-1].mean()
        print(
            f"{phrasing}: {mean:.2f} subwords a word, at most {table.inner_lengths.max()}, "
            f"{len(table.used_ids)} different ones, hash {table.hash[:12]}"
        )
    np.savez_compressed(ASSET, **arrays)
    print(f"{ASSET.name}: {len(vocabulary)} words, {ASSET.stat().st_size} bytes")


def write_added(path: Path, tokenizer: Tokenizer) -> None:
    """Adds the words of a JSON file, a list or a map word -> id, that the table lacks."""

    def tokenize(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    packaged, rows = Vocabulary.default(), load_added_rows()
    new = [word for word in Vocabulary.from_file(path) if word not in packaged and word not in rows]
    vocabulary = Vocabulary.from_words([*packaged, *rows, *new])
    for phrasing in PHRASINGS:
        check(SubwordTable.load(phrasing).rows_for(vocabulary.words, tokenize), vocabulary, tokenizer)
    first, inner = build_rows(new, "raw", tokenize)
    added = rows | dict(zip(new, zip(first, inner, strict=True), strict=True))
    lines = (f"{json.dumps(word)}: {json.dumps(added[word], separators=(',', ':'))}" for word in sorted(added))
    ADDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{ADDED.name}: {len(new)} new words, {len(added)} in all")


def write_goldens(path: Path, tokenizer: Tokenizer) -> None:
    """A list of objects with `space`, `words` (one string) and per phrasing the ids, which are replaced."""
    vocabulary = Vocabulary.default()
    goldens = json.loads(path.read_text(encoding="utf-8"))
    for golden in goldens:
        for phrasing in PHRASINGS:
            text = join_phrases(golden["words"].split(" "), phrasing, vocabulary)
            golden[phrasing] = tokenizer.encode(text).ids
    lines = (json.dumps(golden, separators=(",", ":")) for golden in goldens)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{path.name}: {len(goldens)} lines")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json, a folder that holds one, or a hub name")
    parser.add_argument("--goldens", type=Path, help="make this file's ids anew, leave the asset alone")
    parser.add_argument("--add", type=Path, metavar="FILE", help="add this word list's words to the table")
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.tokenizer)
    if arguments.add:
        write_added(arguments.add, tokenizer)
    elif arguments.goldens:
        write_goldens(arguments.goldens, tokenizer)
    else:
        write_asset(tokenizer)


if __name__ == "__main__":
    main()
