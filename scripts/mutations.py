"""What can happen to a file: bytes damaged, JSON rebuilt, lz4, safetensors and Arrow broken. For fuzz_readers.py.

Each function takes a generator of random numbers and what is to be harmed, and gives back one harmed copy.
"""

import contextlib
import json
import random
import struct
from typing import Any

import lz4.frame
import pyarrow as pa

# JSON text that stands where a value stood; most of it no program would write
EXTREMES = [
    *("null", "true", "false", "0", "1", "-1", "-0.0", "0.5", "1e-320", "7", "13", "255", "1000000"),
    *("2147483648", "-2147483649", "9223372036854775808", "10000000000000000000", "1e38", "3.5e38", "1e308", "-1e308"),
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400, "9" * 5000, "-" + "1" * 5000, "1." + "0" * 5000),
    *("[]", "{}", "[[]]", '[""]', "[null]", '{"": null}', '{"a": 1, "a": 2}', "[" * 200 + "]" * 200, "[" * 50_000),
    *("[" * 50_000 + "]" * 50_000, '{"a":' * 3000 + "1" + "}" * 3000, "[" + "0," * 5000 + "0]"),
    *('""', '" "', '"a b"', '"a\\u0000"', '"\\u0000"', '"\\n"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u200b"', '"é"'),
    *(
        '"-1"',
        '"NaN"',
        '"nan"',
        '"../../x"',
        '"/etc/passwd"',
        '"' + "a" * 65 + '"',
        '"' + "x" * 100_000 + '"',
        '"<blank>"',
    ),
]
_MARK = "@raw"


def _flip_bits(rng: random.Random, harmed: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if harmed else 0):
        harmed[rng.randrange(len(harmed))] ^= 1 << rng.randrange(8)


def _exchange(rng: random.Random, harmed: bytearray) -> None:
    for _ in range(rng.choice((1, 2, 8)) if harmed else 0):
        harmed[rng.randrange(len(harmed))] = rng.randrange(256)


def _cut_off(rng: random.Random, harmed: bytearray) -> None:
    del harmed[rng.randrange(len(harmed) + 1) :]


def _take_away(rng: random.Random, harmed: bytearray) -> None:
    at = rng.randrange(len(harmed) + 1)
    del harmed[at : at + rng.choice((1, 4, 8, 100))]


def _insert(rng: random.Random, harmed: bytearray) -> None:
    at = rng.randrange(len(harmed) + 1)
    harmed[at:at] = rng.randbytes(rng.choice((1, 4, 8, 100)))


def _blank(rng: random.Random, harmed: bytearray) -> None:
    at, size = rng.randrange(len(harmed) + 1), rng.choice((4, 8, 64))
    harmed[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size


def _repeat(rng: random.Random, harmed: bytearray) -> None:
    start = rng.randrange(len(harmed) + 1)
    harmed += harmed[start : start + 1000]


def _begin_otherwise(rng: random.Random, harmed: bytearray) -> None:
    harmed[:] = rng.choice((b"", b"\0", rng.randbytes(200), b"null", b"\xef\xbb\xbf" + harmed))


_OF_BYTES = (_flip_bits, _exchange, _cut_off, _take_away, _insert, _blank, _repeat, _begin_otherwise)


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flipped, cut off, grown, blanked or repeated in places."""
    harmed = bytearray(content)
    rng.choice(_OF_BYTES)(rng, harmed)
    return bytes(harmed)


def mutate_json(rng: random.Random, content: bytes) -> bytes:
    """The same JSON with a value taken away, exchanged, moved, wrapped or repeated; now and then with damaged bytes."""
    if rng.random() < 0.1:
        return mutate_bytes(rng, content)
    value = [json.loads(content)]
    raw: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        _mutate_somewhere(rng, value, raw)
    text = json.dumps(value[0])
    for index, inserted in enumerate(raw):
        text = text.replace(f'"{_MARK}{index}"', inserted, 1)
    return text.encode(errors="surrogatepass")


def _mutate_somewhere(rng: random.Random, value: list[Any], raw: list[str]) -> None:
    """Changes something in or beneath value[0]; `raw` gets the texts that are to stand for the marks left there."""
    parent: Any = value
    key: Any = 0
    while isinstance(parent[key], (dict, list)) and parent[key] and rng.random() < 0.85:
        parent = parent[key]
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
    here = parent[key]
    kind = rng.randrange(6)
    if kind == 0 and parent is not value:
        _reshape(rng, parent, key)
    elif kind == 1:
        parent[key] = rng.choice(([here], {"a": here}, str(here)[:200], bool(here), None, 5))
    elif kind <= 3 and not isinstance(here, bool):
        parent[key] = _near(rng, here)
    else:
        parent[key] = f"{_MARK}{len(raw)}"
        raw.append(rng.choice(EXTREMES))


def _reshape(rng: random.Random, parent: Any, key: Any) -> None:
    here = parent[key]
    if rng.random() < 0.5:
        del parent[key]
    elif isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), here)
    else:
        parent[rng.choice(("", "extra", "name", "states", "../x", "a" * 300))] = here


def _near(rng: random.Random, here: Any) -> Any:
    """Another value of the same type, often one that is right."""
    if isinstance(here, (int, float)):
        return rng.choice((here + 1, -here - 1, here * 1000, here + 0.5, here * 1e300, float(here), here / 2, 0, 1))
    if isinstance(here, str):
        at = rng.randrange(len(here) + 1)
        return here[:at] + rng.choice((" ", "\0", "\t", "\ud800", "é", "_", "/", "a", "b", "a" * 100)) + here[at:]
    if isinstance(here, list):
        return here * rng.choice((0, 2, 30)) if len(json.dumps(here)) < 20_000 else here[: len(here) // 2]
    return {} if isinstance(here, dict) else here


def mutate_lz4(rng: random.Random, content: bytes) -> bytes:
    """A frame of this content that is damaged, lies about its size, is followed by more, or is a bomb."""
    frame = lz4.frame.compress(content, store_size=rng.random() < 0.7, block_linked=rng.random() < 0.5)
    match rng.randrange(100):
        case kind if kind < 60:
            return mutate_bytes(rng, frame)
        case kind if kind < 80:  # the eight bytes of the size, in a header that says that there are some
            claimed = rng.choice((0, 1, len(content) + 1, 2**31, 2**62, 2**63 - 1, 2**64 - 1))
            return frame[:4] + bytes([frame[4] | 8]) + frame[5:6] + struct.pack("<Q", claimed) + frame[6:]
        case kind if kind < 98:
            return frame + rng.choice((b"\0", frame, rng.randbytes(20)))
        case _:
            return bytes(lz4.frame.compress(b" " * rng.choice((10**6, 10**8))))


def mutate_safetensors(rng: random.Random, content: bytes) -> bytes:
    """A header that is rebuilt or says another length, numbers that are not finite, or damaged bytes."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + length], content[8 + length :]
    match rng.randrange(4):
        case 0:
            return mutate_bytes(rng, content)
        case 1:
            header = mutate_json(rng, header)
            return struct.pack("<Q", len(header)) + header + data
        case 2:
            claimed = rng.choice((0, 1, length - 1, length + 8, 2**31, 2**62, 2**64 - 1))
            return struct.pack("<Q", claimed) + header + data
        case _:
            return content[: 8 + length] + harm_numbers(rng, data)


_WORDS = [struct.pack("<f", value) for value in (float("nan"), float("inf"), -float("inf"), 3e38, 1e-40)]
_WORDS += [struct.pack("<i", value) for value in (-2, 2**31 - 1, -(2**31))]


def harm_numbers(rng: random.Random, data: bytes) -> bytes:
    """Array data with some of its 32-bit words made NaN, infinite, huge or any."""
    harmed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 100)) if len(harmed) >= 4 else 0):
        at = rng.randrange(len(harmed) // 4) * 4
        harmed[at : at + 4] = rng.choice((*_WORDS, rng.randbytes(4)))
    return bytes(harmed)


def harm_columns(rng: random.Random, content: bytes) -> bytes:
    """A shard whose rows were taken away or repeated, or whose columns have other names, types, widths or packing."""
    table = pa.ipc.open_file(content).read_all()
    index = rng.randrange(table.num_columns)
    name = table.column_names[index]
    match rng.randrange(7):
        case 0:
            table = table.slice(rng.randrange(2), rng.randrange(2))
        case 1:
            table = pa.concat_tables([table, table]).combine_chunks()
        case 2:
            table = table.drop_columns([name])
        case 3:
            table = table.rename_columns({name: rng.choice(("x", "", "name"))})
        case 4:
            odd = pa.array([rng.choice((None, 1, "x", 1.5, [1], b"\xff"))] * table.num_rows)
            table = table.set_column(index, name, odd)
        case 5:
            rows = table.to_pylist()
            victim = rng.choice(rows)
            steps = victim["timesteps"]
            if steps:
                step = rng.choice(steps)
                field = rng.choice(list(step))
                value = rng.choice((-1, 127, 1.0, float("nan"), -128, 32767))
                with contextlib.suppress(TypeError):
                    step[field][rng.randrange(len(step[field]))] = value
                if rng.random() < 0.3:
                    del steps[rng.randrange(len(steps)) :]
            else:
                victim["damage"] = rng.choice((None, "", "\0", "a" * 10**5))
            with contextlib.suppress(pa.ArrowException, OverflowError, TypeError):
                table = pa.Table.from_pylist(rows, schema=table.schema)
    sink = pa.BufferOutputStream()
    packing = rng.choice((None, None, "lz4", "zstd"))
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=packing)) as writer:
        writer.write_table(table, max_chunksize=rng.choice((None, 1)))
    return bytes(sink.getvalue())
