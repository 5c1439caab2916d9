"""JSON of a stranger is read, or refused by a DataError: never a traceback, a number that is none, or a name lost."""

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemma_metamon import strict_json
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.strict_json import (
    Count,
    on_one_line,
    parse_json,
    parse_json_object,
    read_bounded,
    read_dataclass,
    read_json,
    shown,
    shown_path,
)

DEEP = 100_000
JSON_LIKE = r"[\[\]{}:,\"0-9eE.+\- NaIfity\\u]{0,40}"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "Expecting value"),
        (b"[1] x", "Extra data"),
        (b"\xff[]", "not UTF-8 at byte 0"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        ("[1]".encode("utf-16"), "not UTF-8"),
        (b'["\\ud800"]', "half of a surrogate pair"),
        (b"[" * DEEP, "too deep in one another"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "too deep in one another"),
        (b"NaN", "NaN is no number of JSON's"),
        (b"[-Infinity]", "-Infinity is no number of JSON's"),
        (b"[1e999]", "the number '1e999' is too large"),
        (b"1" * 5000, "more digits than can be read"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "the name 'b' stands twice in one object"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_is_no_strict_json_is_refused_with_the_reason(content: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        parse_json(content)


@given(st.binary() | st.text().map(str.encode) | st.from_regex(JSON_LIKE).map(str.encode))
@example(b"[1e400]")
def test_any_bytes_are_json_with_finite_numbers_or_a_data_error(content: bytes) -> None:
    try:
        value = parse_json(content)
    except DataError:
        return
    for number in numbers_of(value):
        assert math.isfinite(number)


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers_of(item)]
    return [value] if isinstance(value, float) else []


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@settings(max_examples=40)
def test_what_json_writes_is_read_the_same(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value
    assert parse_json(json.dumps(value).encode("utf-8-sig"), finite=False) == value


def test_numbers_that_somebody_else_checks_are_left_as_they_are() -> None:
    value = parse_json(b'{"a": NaN, "b": -1e999, "c": ' + b"9" * 5000 + b', "d": 12}', finite=False)
    assert math.isnan(value["a"])
    assert value["b"] == -math.inf
    assert not isinstance(value["c"], (int, float))
    assert shown(value["c"]).startswith("9999")
    assert len(shown(value["c"])) <= 60
    assert value["d"] == 12
    with pytest.raises(DataError, match="Expecting value"):
        parse_json(b"[" + b"9" * 5000 + b",]", finite=False)


@pytest.mark.parametrize("content", ["[]", "null", "5", '"x"'])
def test_an_object_is_asked_for_by_name(content: str) -> None:
    with pytest.raises(DataError, match="expected a JSON object"):
        parse_json_object(content)


@dataclass(frozen=True, kw_only=True)
class Cell:
    share: float
    span: tuple[float, float]
    side: Literal["p1", "p2"] = "p1"


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    count: Count
    words: dict[str, Count]
    cells: list[Cell]
    place: int | None = None
    seen: bool = False
    trail: tuple[str, ...] = ()
    best: Cell | None = None
    anything: Any = None


CELL = {"share": 1, "span": [0.5, 2]}
RIGHT = {"name": "x", "count": 3, "words": {"a": 1}, "cells": [CELL, {**CELL, "side": "p2"}], "place": -5}


def test_a_dataclass_is_read_with_all_that_lies_in_it() -> None:
    cells = [Cell(share=1, span=(0.5, 2)), Cell(share=1, span=(0.5, 2), side="p2")]
    row = Row(name="x", count=3, words={"a": 1}, cells=cells, place=-5)
    assert read_dataclass(Row, RIGHT) == row
    more = {"seen": True, "trail": ["a", "b"], "best": CELL, "anything": [{}], "place": None}
    assert read_dataclass(Row, RIGHT | more) == dataclasses.replace(
        row, seen=True, trail=("a", "b"), best=cells[0], anything=[{}], place=None
    )


@given(
    st.builds(
        Row,
        name=st.text(),
        count=st.integers(0, 2**53 - 1),
        words=st.dictionaries(st.text(), st.integers(0, 99)),
        cells=st.lists(st.builds(Cell, share=st.floats(0, 1), span=st.tuples(st.floats(0, 1), st.floats(1, 2)))),
        place=st.none() | st.integers(),
        trail=st.lists(st.text()).map(tuple),
    )
)
@settings(max_examples=40)
def test_what_was_written_of_a_dataclass_is_read_as_the_same(row: Row) -> None:
    assert read_dataclass(Row, json.loads(json.dumps(dataclasses.asdict(row)))) == row


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*RIGHT, "more"]), inner)))
def test_any_json_is_a_dataclass_or_a_data_error(value: Any) -> None:
    for content in (value, {**RIGHT, "cells": value}, {**RIGHT, "best": value}, {**RIGHT, "words": value}):
        said = ""
        try:
            read_dataclass(Row, content)
        except DataError as error:
            said = str(error)
        assert "\n" not in said


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"count": -1}, "count is -1; expected a count"),
        ({"count": True}, "count is True; expected a count"),
        ({"count": 10**30}, "count is 1000000"),
        ({"count": 1.0}, "count is 1.0; expected a count"),
        ({"name": None}, "name is null; expected a string"),
        ({"words": {"a": "b"}}, "words.a is 'b'; expected a count"),
        ({"words": {"a b\n": 0.5}}, r"words\['a b\\n'\] is 0.5; expected a count"),
        ({"words": []}, r"words is \[\]; expected an object"),
        ({"place": True}, "place is True; expected a whole number or null"),
        ({"seen": 1}, "seen is 1; expected true or false"),
        ({"trail": ["a", 1]}, r"trail\[1\] is 1; expected a string"),
        ({"cells": {}}, r"cells is {}; expected a list"),
        ({"cells": [CELL, 5]}, r"cells\[1\] is 5; expected an object"),
        ({"cells": [{**CELL, "share": True}]}, r"cells\[0\].share is True; expected a number"),
        ({"cells": [{**CELL, "share": 10**400}]}, r"cells\[0\].share is 1000"),
        ({"cells": [{**CELL, "span": [1]}]}, r"cells\[0\].span is \[1\]; expected a list of 2"),
        ({"cells": [{**CELL, "side": "p3"}]}, r"cells\[0\].side is 'p3'; expected 'p1' or 'p2'"),
        ({"cells": [{"span": [1, 2]}]}, r"cells\[0\].share is missing"),
        ({"best": {**CELL, "more": 1}}, "best.more is unknown"),
        ({"best": []}, r"best is \[\]; expected an object or null"),
        ({"more": 1}, "more is unknown"),
        ({"mo\nre": 1}, r"\['mo\\nre'\] is unknown"),
    ],
)
def test_a_field_that_is_wrong_is_named_by_its_place(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=f"^{complaint}"):
        read_dataclass(Row, RIGHT | change)


def test_what_is_no_object_of_the_dataclass_is_refused() -> None:
    with pytest.raises(DataError, match=r"^count is missing$"):
        read_dataclass(Row, {"name": "x"})
    with pytest.raises(DataError, match=r"^it is \[.*\]; expected an object$"):
        read_dataclass(Row, [RIGHT])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(11))
    assert read_bounded(tmp_path / "large", 11) == bytes(11)
    with pytest.raises(DataError, match="large: has more than 10 bytes"):
        read_bounded(tmp_path / "large", 10)
    with pytest.raises(MissingFileError, match=r"no file .*nowhere"):
        read_bounded(tmp_path / "nowhere", 10)
    with pytest.raises(MissingFileError, match="no file"):
        read_bounded(tmp_path / "large" / "below", 10)
    with pytest.raises(DataError, match="is no file"):
        read_bounded(tmp_path, 10)
    os.mkfifo(tmp_path / "pipe")  # to open it would be to wait for a writer
    with pytest.raises(DataError, match="pipe: is no file"):
        read_bounded(tmp_path / "pipe", 10)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="loop: cannot be read"):
        read_bounded(tmp_path / "loop", 10)
    with pytest.raises(DataError, match=r"cannot be read \(File name too long"):
        read_bounded(tmp_path / ("a" * 5000), 10)
    (tmp_path / "x.json").write_text("[1,")
    with pytest.raises(DataError, match=r"x\.json is not JSON: "):
        read_json(tmp_path / "x.json")


def test_what_a_message_quotes_is_short_and_can_be_printed() -> None:
    assert len(shown("a" * 10**6)) <= 80
    assert (shown(None), shown(None, none="None"), shown(10**5000)) == (
        "null",
        "None",
        "a number of thousands of digits",
    )
    assert len(shown({str(i): ["x"] * 100 for i in range(1000)})) < 300
    assert shown_path(Path("a") / os.fsdecode(b"\xff.json")) == shown_path(b"a/\xff.json") == r"a/\xff.json"
    assert shown_path(Path("a\nb\x1b[31m é")) == r"a\nb\x1b[31m é"
    assert on_one_line(ValueError("a\nb")) == r"a\nb"
    assert len(on_one_line("a" * 10**6)) < 300
    assert "\n" not in shown("a\nb")


def test_a_place_is_written_out_only_where_something_is_wrong_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else most of the time that a long list takes goes into names that nobody sees."""
    written: list[object] = []
    monkeypatch.setattr(strict_json, "shown", lambda value: written.append(value) or repr(value))
    counts = {f"no name {i}": 1 for i in range(100)}
    assert read_dataclass(Scored, {"scores": [counts]}) == Scored([counts])
    assert written == []
    with pytest.raises(DataError, match=r"^scores\[1\]\['no name 7'\] is -1; expected a count$"):
        read_dataclass(Scored, {"scores": [{}, counts | {"no name 7": -1}]})
    assert len(written) == 2


@dataclass(frozen=True)
class Scored:
    scores: list[dict[str, Count]]
