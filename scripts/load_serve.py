"""Many battles at once ask a served agent on this machine: is every request answered, how fast, and does memory stay?

    python scripts/load_serve.py runs/first                                # 64 battles at once for 10 minutes
    python scripts/load_serve.py runs/first --minutes 0.5                  # the short form
    python scripts/load_serve.py --server_url http://127.0.0.1:8765        # of a service that runs already

Without a URL it serves the run in a process of its own. Battles are recorded first, one for each of --recorded teams,
by random players in an arena; then each of --battles threads plays one of them to its end again and again, under a new
name each time, sending the log so far at every decision. A request that is not answered with 200 is lost. Prints a
table, then one line of JSON; exits with 1 where a request was lost, or memory grew by more than --growth_mb in the
second half.
"""

import argparse
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np

from gemma_metamon.serving.monitor import Monitor
from gemma_metamon.showdown.arena.arena import SEATS, Arena, Seat
from gemma_metamon.showdown.arena.seeds import simulator_seed
from gemma_metamon.showdown.simulator.teams import load_teams


def record(battle_format: str, number: int) -> list[list[str]]:
    """What the first seat had been told at each decision of a battle in which the simulator chooses for both."""
    teams = load_teams(battle_format)
    decisions, lines = [], []
    first, second = (Seat(name=f"Player{i}", team=teams[(number + i) % len(teams)]) for i in range(2))
    with Arena() as arena:
        tag = f"battle-{battle_format}-{number}"
        arena.start(tag, battle_format=battle_format, seed=simulator_seed(0, number), seats=(first, second))
        while tag in arena.battles:
            for news in arena.receive():
                for seat in SEATS:
                    told = [line for message in news.told.get(seat, ()) for line in message.split("\n")]
                    lines += told if seat == "p1" else []
                    asked = [line for line in told if line.startswith("|request|{") and '"wait":true' not in line]
                    if asked and tag in arena.battles:
                        if seat == "p1":
                            decisions.append([*lines])
                        arena.send(tag, seat, "/choose default")
    return decisions


class Client(threading.Thread):
    """Plays battles until the end of the time."""

    def __init__(self, number: int, url: str, battles: list[list[bytes]], name: str, until: float) -> None:
        super().__init__(daemon=True)
        self.number, self.url, self.battles, self.name_, self.until = number, urlsplit(url), battles, name, until
        self.latencies: list[float] = []
        self.lost: list[str] = []
        self.played = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.url.hostname or "", self.url.port, timeout=120)
        while time.monotonic() < self.until:
            battle = self.battles[(self.number + self.played) % len(self.battles)]
            tag = f"{self.name_}-{self.number}x{self.played}".encode()
            for log in battle:
                if time.monotonic() >= self.until:
                    break
                body = b'{"battle": "' + tag + b'", "log": ' + log + b"}"
                began = time.perf_counter()
                try:
                    connection.request("POST", "/act", body, {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    said = response.read()
                    if response.status != 200:
                        self.lost.append(f"{response.status} {said[:200]!r}")
                except (OSError, http.client.HTTPException) as error:
                    self.lost.append(repr(error))
                    connection.close()
                self.latencies.append(1000 * (time.perf_counter() - began))
            self.played += 1


@contextmanager
def service(args: argparse.Namespace) -> Iterator[str]:
    if args.server_url:
        yield args.server_url
        return
    command = [sys.executable, "-m", "gemma_metamon", "serve", args.run, "--port", str(args.port), "--rate", "100000"]
    process = subprocess.Popen([*command, "--device", args.device], stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline() if process.stdout else ""
        if " is served at " not in said:
            raise SystemExit(f"load_serve: {args.run} is not served: {said}")
        yield said.split(" is served at ")[1].split(" ")[0]
    finally:
        process.terminate()
        status = process.wait(60)
        print(f"the service ended with status {status}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run's folder")
    parser.add_argument("--server_url", help="of a service without a token, instead of a run")
    parser.add_argument("--port", type=int, default=8799, help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the run (default: %(default)s)")
    parser.add_argument("--format", default="gen1ou", help="(default: %(default)s)")
    parser.add_argument("--battles", type=int, default=64, help="at once (default: %(default)s)")
    parser.add_argument("--recorded", type=int, default=8, help="battles that are played again (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="(default: %(default)s)")
    parser.add_argument("--growth_mb", type=float, default=50.0, help="(default: %(default)s)")
    args = parser.parse_args()
    if not args.run and not args.server_url:
        parser.error("name a run, or a service by --server_url")
    recorded = [[json.dumps(log).encode() for log in record(args.format, number)] for number in range(args.recorded)]
    print(f"recorded {sum(map(len, recorded))} decisions of {len(recorded)} battles", file=sys.stderr)
    with service(args) as url:
        monitor, began = Monitor(url, timeout_s=60), time.monotonic()
        memory = [monitor.look().memory_mb or 0.0]
        until = began + 60 * args.minutes
        clients = [Client(n, url, recorded, f"battle-{args.format}", until) for n in range(args.battles)]
        for client in clients:
            client.start()
        for part in (0.5, 1.0):
            time.sleep(max(0.0, began + 60 * args.minutes * part - time.monotonic()))
            memory.append(monitor.look().memory_mb or 0.0)
        for client in clients:
            client.join()
        seconds = time.monotonic() - began
    latencies = np.array([latency for client in clients for latency in client.latencies])
    lost = [why for client in clients for why in client.lost]
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99)).round(1).tolist()
    row = {
        "battles": args.battles,
        "seconds": round(seconds, 1),
        "requests": len(latencies),
        "lost": len(lost),
        "per_second": round(len(latencies) / seconds, 1),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        **dict(zip(("memory_start_mb", "memory_half_mb", "memory_end_mb"), np.round(memory, 1).tolist(), strict=True)),
    }
    print("\n".join(f"| {name} | {value} |" for name, value in row.items()))
    print(json.dumps({**row, "why_lost": lost[:5]}))
    return int(bool(lost) or memory[2] - memory[1] > args.growth_mb)


if __name__ == "__main__":
    sys.exit(main())
