"""What a decision costs Python beside a network and a simulator, of this version and of another one.

    git worktree add ../other COMMIT
    python scripts/bench_seats.py --against ../other --format gen9ou

Plays battles of RandomPlayer in an arena once, and keeps what each seat was told and answered. Then both versions, each
in a process of its own, have their seats told the same again, in turns: read, derive state and options, decide, record,
and write the file's JSON. Clocked is the processor time of the thread, and printed for each version the least and the
median of its passes, with the median of the quotients of passes beside each other. Both must answer as before, and
write the same bytes, or it ends with 1. Works against versions that have `ArenaSeat`.
"""

import argparse
import asyncio
import hashlib
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poke_env.battle import Battle

from gemma_metamon.battle.replays import RecordedBattle, dump_battle
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.players.registry import connection
from gemma_metamon.showdown.simulator.teams import load_teams

SEED = 1
Story = list[tuple[str, list[str] | str]]  # of a seat: what it was told ("read") and what it sent ("answer")


def play(battle_format: str, battles: int) -> dict[tuple[str, str], Story]:
    """Each seat's story, by its battle and its player's name."""
    stories: dict[tuple[str, str], Story] = {}
    read, answer = ArenaSeat.read, ArenaSeat.answer

    def story(seat: ArenaSeat) -> Story:
        return stories.setdefault((seat.battle.battle_tag, seat.player.username), [])

    def kept_read(seat: ArenaSeat, messages: Sequence[str]) -> None:
        if messages:
            story(seat).append(("read", list(messages)))
        read(seat, messages)

    async def kept_answer(seat: ArenaSeat) -> str:
        message = await answer(seat)
        story(seat).append(("answer", message))
        return message

    ArenaSeat.read, ArenaSeat.answer = kept_read, kept_answer  # type: ignore[assignment, method-assign]
    try:
        matchup = Matchup(player=scripted("RandomPlayer"), opponent=scripted("RandomPlayer"), battles=battles)
        teams = [] if "random" in battle_format else load_teams(battle_format)
        with tempfile.TemporaryDirectory() as out:
            asyncio.run(collect([matchup], battle_format=battle_format, teams=teams, out=Path(out), seed=SEED))
    finally:
        ArenaSeat.read, ArenaSeat.answer = read, answer  # type: ignore[assignment, method-assign]
    return stories


async def tell(stories: dict[tuple[str, str], Story], battle_format: str, written: Any) -> int:
    """Lets seats of this version read and answer all stories; how many decisions that were."""
    decisions = 0

    def write(battle: Battle, record: RecordedBattle | None) -> None:
        if record is not None:
            written.update(dump_battle(record))

    names = sorted({name for _, name in stories})
    options: dict[str, Any] = {"battle_format": battle_format, "websocket_url": "ws://nowhere", "team": None}
    players = {
        name: scripted("RandomPlayer").build(**connection(name, **options), start_listening=False) for name in names
    }
    for (tag, name), story in stories.items():
        draws = dice(SEED, int(tag.split("-")[2]), "player", name[-2:].lower())
        seat = ArenaSeat(tag, players[name], draws, Recorder(write))
        for kind, what in story:
            if kind == "read":
                seat.read(what)
            else:
                written.update((await seat.answer()).encode())
                decisions += 1
        seat.end()
    return decisions


def replay(path: Path) -> None:
    """The child: prints what it answered and wrote, then at each line of stdin the microseconds per decision."""
    battle_format, stories = pickle.loads(path.read_bytes())
    digest = hashlib.sha256()
    asyncio.run(tell(stories, battle_format, digest))
    print(digest.hexdigest(), flush=True)
    for _ in sys.stdin:
        began = time.thread_time()
        decisions = asyncio.run(tell(stories, battle_format, hashlib.sha256()))
        print(1e6 * (time.thread_time() - began) / decisions, flush=True)


def compare(trees: Sequence[Path], kept: Path, passes: int) -> bool:
    """Prints the table; whether both answered and wrote the same."""
    command = [sys.executable, str(Path(__file__).resolve()), "--replay", str(kept)]
    children = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(tree.resolve())},
        )
        for tree in trees
    ]
    digests = [ask(child) for child in children]
    times = [[float(ask(child, "again\n")) for child in children] for _ in range(passes)]
    for child in children:
        child.communicate()
    print("| version | least, CPU us per decision | median |")
    print("|---|---|---|")
    for tree, own in zip(trees, zip(*times, strict=True), strict=True):
        print(f"| {tree.resolve().name} | {min(own):.0f} | {statistics.median(own):.0f} |")
    print(f"this one / the other: {statistics.median(ours / theirs for theirs, ours in times):.2f}")
    print("the same bytes" if digests[0] == digests[1] else "OTHER BYTES")
    return digests[0] == digests[1]


def ask(child: Any, line: str = "") -> str:
    child.stdin.write(line)
    child.stdin.flush()
    answer = child.stdout.readline().strip()
    if not answer:
        raise SystemExit(f"the replay ended with {child.wait()}; its error stands above")
    return str(answer)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="the root of the other version")
    parser.add_argument("--format", default="gen1ou")
    parser.add_argument("--battles", type=int, default=12)
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--replay", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replay is not None:
        replay(args.replay)
        return 0
    if args.against is None or not (args.against / "gemma_metamon").is_dir():
        parser.error("--against: give a folder with a gemma_metamon in it")
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "stories.pickle")
        kept.write_bytes(pickle.dumps((args.format, play(args.format, args.battles))))
        return 0 if compare([args.against, Path(__file__).parent.parent], kept, args.passes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
