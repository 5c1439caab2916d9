"""A log whose JSON writes half of a surrogate pair is read, with another sign in its place."""

import gzip
import json
from pathlib import Path

from gemma_metamon.replay_logs.sources import read_replay


def test_half_a_surrogate_pair_in_a_log_or_beside_it_is_read() -> None:
    path = Path(__file__).parent / "server_gen9randombattle.log.json.gz"
    data = json.loads(gzip.decompress(path.read_bytes()))
    lines = data["log"] if isinstance(data["log"], list) else data["log"].split("\n")
    chat = "|c|☆somebody|cut \ud83d"
    log = [*lines[:3], chat, *lines[3:]]
    told = data | {"log": log if isinstance(data["log"], list) else "\n".join(log), "note": "\ud800"}
    content = json.dumps(told).encode()
    assert b"\\ud83d" in content
    read = read_replay(content, "battle-gen9randombattle-1.log.json")
    "".join(arg for line in read.lines for arg in line.args).encode()
    whole = read_replay(json.dumps(data).encode(), "battle-gen9randombattle-1.log.json")
    assert len(read.lines) >= len(whole.lines)
