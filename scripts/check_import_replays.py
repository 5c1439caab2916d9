"""Are imported battles what was recorded live? Battles are played, recorded from both sides, and imported.

Each battle is told three times: to its two players, with their requests, and to a spectator who joins the room. The
players' own logs must give the recorders' states and actions exactly, an action that the log does not tell excepted. Of
the spectator's log, and of the players' without their requests (as the ladder keeps them), every field of both views is
equal to the recorder's, or unknown in the import, or different; what differs is counted by its kind.

    python scripts/check_import_replays.py --battles 20
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websockets
from poke_env.player import Player

from gemma_metamon.battle.replays import MISSING_ACTION, RecordedBattle
from gemma_metamon.battle.state import BattleState
from gemma_metamon.replay_logs.importing import read_views
from gemma_metamon.replay_logs.sources import read_replay
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.watching import disconnect, play_pair
from gemma_metamon.showdown.players.registry import connection, player_class, user_name
from gemma_metamon.showdown.simulator.server import running_server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder, load_teams

FORMATS = ("gen1ou", "gen9ou", *(f"gen{gen}randombattle" for gen in range(1, 10)))
PAIRS = (("SimpleHeuristicsPlayer", "RandomPlayer"), ("SimpleHeuristicsPlayer", "MaxBasePowerPlayer"))
NOT_TOLD = {"unknownitem", "unknownability", "notype"}
DISGUISES = {"zoroark", "zorua", "zoroarkhisui", "zoruahisui"}
# a side's HP is told to the spectator in whole percent, rounded up
PERCENT = 0.0101


@dataclass
class Told:
    """A battle: what each player and a spectator were told, line by line, and what the recorders wrote."""

    logs: dict[str, list[str]] = field(default_factory=dict)
    records: dict[str, RecordedBattle | None] = field(default_factory=dict)
    spectator: list[str] = field(default_factory=list)


async def play(
    websocket_url: str, battle_format: str, pair: Sequence[str], teams: Sequence[list[str] | None], battles: int
) -> dict[str, Told]:
    """By the battle's tag. `teams` are the packed ones of each player, None in a random format."""
    told: dict[str, Told] = {}
    players = []
    for name, own_teams in zip(pair, teams, strict=True):
        team = None if own_teams is None else SeededTeambuilder(own_teams, len(players))
        options = connection(
            user_name(name), battle_format=battle_format, websocket_url=websocket_url, team=team, concurrency=8
        )
        players.append(player_class(name)(**options))
        _keep(players[-1], told)
    try:
        await play_pair(players[0], players[1], battles)
        await _spectate(websocket_url, told)
    finally:
        await disconnect(*players)
    return told


def _keep(player: Player, told: dict[str, Told]) -> None:
    receive: Any = player.ps_client._handle_message

    async def handle(message: str) -> None:
        room, _, rest = message.partition("\n")
        if room.startswith(">battle-"):
            battle = told.setdefault(room[1:], Told())
            battle.logs.setdefault(player.username, []).extend(rest.split("\n"))
        await receive(message)

    def record(battle: Any, recorded: RecordedBattle | None) -> None:
        told[battle.battle_tag].records[player.username] = recorded

    player.ps_client._handle_message = handle  # type: ignore[method-assign]
    open_door(player).record(Recorder(record))


async def _spectate(websocket_url: str, told: dict[str, Told]) -> None:
    """A room stays a while after its battle, and tells who comes all of it."""
    async with websockets.connect(websocket_url, max_size=None) as socket:
        for tag, battle in told.items():
            await socket.send(f"|/join {tag}")
            while not battle.spectator:
                message = str(await asyncio.wait_for(socket.recv(), 60))
                if message.startswith(f">{tag}\n|init|"):
                    battle.spectator = message.split("\n")[1:]


# --- comparing ------------------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """(field, "equal" | "unknown" | "different" | a kind of difference that is explained) -> how often."""

    fields: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, name: str, verdict: str, example: Any = "") -> None:
        self.fields[name, verdict] += 1
        if verdict == "different" and len(self.examples) < 60:
            self.examples.append(f"{name}: {example}")

    def of(self, verdict: str) -> int:
        return sum(count for (_, found), count in self.fields.items() if found == verdict)


def compare_own(live: RecordedBattle, imported: RecordedBattle, counts: Counts, where: str) -> None:
    """A player's own log: states and actions exactly, actions or missing."""
    if len(live.states) != len(imported.states):
        counts.add("decisions", "different", f"{where} {len(live.states)} {len(imported.states)}")
        return
    for t, (ours, theirs) in enumerate(zip(live.states, imported.states, strict=True)):
        counts.add("own log: state", "equal" if ours == theirs else "different", f"{where} {t}")
    for t, (ours, theirs) in enumerate(zip(live.actions[:-1], imported.actions[:-1], strict=True)):
        unknown = theirs == MISSING_ACTION != ours
        verdict = "unknown" if unknown else "equal" if ours == theirs else "different"
        counts.add("own log: action", verdict, f"{where} {t} {ours} {theirs}")


def compare_told(live: RecordedBattle, imported: RecordedBattle, counts: Counts, where: str) -> None:
    """A spectator's log: field by field."""
    if len(live.states) != len(imported.states):
        counts.add("decisions", "different", f"{where} {len(live.states)} {len(imported.states)}")
        return
    explain = _Explanation(live)
    for t, (ours, theirs) in enumerate(zip(live.states, imported.states, strict=True)):
        untold = imported.actions[t] == MISSING_ACTION
        for name, verdict, example in _state_verdicts(ours, theirs, explain.movesets):
            told = explain(name, example, t, untold=untold) if verdict == "different" else verdict
            counts.add(name, told, f"{where} {t} {example}")
    for t in range(len(live.actions) - 1):
        ours, theirs = _meaning(live, t), _meaning(imported, t)
        unknown = imported.actions[t] == MISSING_ACTION != live.actions[t]
        # recharge, Struggle and whatever else is offered alone is 0, whichever move stands there
        same = ours == theirs or live.actions[t] == imported.actions[t] == 0
        verdict = "unknown" if unknown else "equal" if same else explain("action", "", t, untold=False)
        counts.add("action", verdict, f"{where} {t} {ours} {theirs}")


class _Explanation:
    """Why a spectator cannot know better, for what differs; "different" where there is no reason."""

    def __init__(self, live: RecordedBattle) -> None:
        team = list(_team(live))
        self._states = live.states
        self.movesets = {frozenset(move.name for move in member.moves) for member in team}
        self._disguised = any(member.name in DISGUISES for member in team)
        self._pressing = any(member.ability == "pressure" for member in team)

    def __call__(self, name: str, example: Any, at: int, *, untold: bool) -> str:
        state = self._states[at]
        own = {move.name for move in state.player_active_pokemon.moves}
        if self._disguised:
            return "an Illusion that never broke"
        if name == "can_tera" and untold:
            return "a lock into a move, or Struggle, that nobody saw"
        if name == "player_prev_move.current_pp" and state.player_prev_move.name not in own:
            return "PP of a move that another called"
        if name == "bench.hp_pct" and self._regenerated_unseen(*example, at):
            return "Regenerator of one that never came back"
        if ".moves" in name and example[0] == "ditto":
            return "Transform into what is not all told"
        theirs = {move.name for move in state.opponent_active_pokemon.moves}
        if name.startswith("opponent_prev_move") and any(theirs <= moves for moves in self.movesets):
            return "Transform into what is not all told"
        if self._pressing and name.startswith("opponent") and name.endswith("current_pp"):
            return "Pressure that was never shown"
        return "different"

    def _regenerated_unseen(self, name: str, ours: float, theirs: float, at: int) -> bool:
        """The third that it got back as it left, which only its return would have told."""
        bench = self._states[at].available_switches
        regenerates = any(pokemon.name == name and pokemon.ability == "regenerator" for pokemon in bench)
        returns = any(state.player_active_pokemon.name == name for state in self._states[at:])
        return regenerates and not returns and abs(ours - min(1.0, theirs + 1 / 3)) <= PERCENT


def _team(battle: RecordedBattle) -> Iterable[Any]:
    for state in battle.states:
        yield state.player_active_pokemon
        yield from state.available_switches


def _is_own(state: BattleState) -> bool:
    return state.player_prev_move.name in {move.name for move in state.player_active_pokemon.moves}


def _meaning(battle: RecordedBattle, t: int) -> str:
    """The action in words: its number depends on what is known."""
    state, action = battle.states[t], battle.actions[t]
    if 4 <= action <= 8:
        return f"switch {state.switches[action - 4].name}"
    moves = [*state.player_active_pokemon.known_moves, *[None] * 4]
    move = moves[action - 9 if action > 8 else action]
    return f"{'tera ' if action > 8 else ''}{move.name if move else action}"


def _state_verdicts(
    live: BattleState, imported: BattleState, movesets: Iterable[frozenset[str]]
) -> Iterable[tuple[str, str, Any]]:
    ours, theirs = live.to_dict(), imported.to_dict()
    for name, value in ours.items():
        if name == "player_active_pokemon":
            yield from _pokemon_verdicts("player", value, theirs[name], own=True)
        elif name == "opponent_active_pokemon":
            yield from _pokemon_verdicts("opponent", value, theirs[name], own=False, movesets=movesets)
        elif name == "available_switches":
            yield from _bench_verdicts(value, theirs[name])
        elif isinstance(value, dict):
            called = value["name"] not in {move["name"] for move in ours["player_active_pokemon"]["moves"]}
            for field_name, verdict, example in _move_verdicts(
                name, value, theirs[name], own=name.startswith("player")
            ):
                if called and field_name == "player_prev_move.current_pp" and verdict == "different":
                    verdict = "PP of a move that another called"
                yield field_name, verdict, example
        else:
            yield name, "equal" if value == theirs[name] else "different", (value, theirs[name])


def _bench_verdicts(ours: list[Any], theirs: list[Any]) -> Iterable[tuple[str, str, Any]]:
    bench = {pokemon["name"]: pokemon for pokemon in theirs}
    for pokemon in ours:
        found = bench.pop(pokemon["name"], None)
        yield "bench", "unknown" if found is None else "equal", ""
        if found is not None:
            yield from _pokemon_verdicts("bench", pokemon, found, own=True)
    for extra in bench:
        yield "bench", "different", extra


def _pokemon_verdicts(
    prefix: str, ours: dict[str, Any], theirs: dict[str, Any], *, own: bool, movesets: Iterable[frozenset[str]] = ()
) -> Iterable[tuple[str, str, Any]]:
    known = {move["name"]: move for move in theirs["moves"]}
    # an opponent that became one of ours has moves and an ability that the log may not tell
    became_ours = len(ours["moves"]) > 1 and any({move["name"] for move in ours["moves"]} <= mine for mine in movesets)
    for name, value in ours.items():
        if name == "moves":
            for move in value:
                found = known.pop(move["name"], None)
                told = own or became_ours
                yield f"{prefix}.moves", "equal" if found else "unknown" if told else "different", (ours["name"], move)
                if found:
                    yield from _move_verdicts(f"{prefix}.moves", move, found, own=told)
            for extra in known:
                yield f"{prefix}.moves", "different", (ours["name"], extra)
        elif value == theirs[name] or (own and name == "hp_pct" and abs(value - theirs[name]) <= PERCENT):
            yield f"{prefix}.{name}", "equal", ""
        elif theirs[name] in NOT_TOLD and (own or became_ours):
            yield f"{prefix}.{name}", "unknown", ""
        else:
            yield f"{prefix}.{name}", "different", (ours["name"], value, theirs[name])


def _move_verdicts(
    prefix: str, ours: dict[str, Any], theirs: dict[str, Any], *, own: bool
) -> Iterable[tuple[str, str, Any]]:
    hidden_power = own and ours["name"] == theirs["name"] == "hiddenpower"
    for name, value in ours.items():
        unknown = hidden_power and name in ("move_type", "base_power", "category", "current_pp")
        verdict = "equal" if value == theirs[name] else "Hidden Power's type" if unknown else "different"
        yield f"{prefix}.{name}", verdict, (ours["name"], value, theirs[name])


def check(tag: str, battle: Told, counts: Counts, missing: Counter[str]) -> None:
    """Imports the battle's logs and compares. `missing` counts what the spectator's does not tell."""
    for name, live in battle.records.items():
        log = read_replay("\n".join(battle.logs[name]).encode(), f"{tag}.log")
        views, _ = read_views(log)
        if live is not None and log.requests is not None:
            compare_own(live, views[log.requests], counts, f"{tag} {log.requests}")
        _check_told([line for line in battle.logs[name] if not line.startswith("|request|")], tag, battle, counts)
    missing += _check_told(battle.spectator, tag, battle, counts)


def _check_told(lines: list[str], tag: str, battle: Told, counts: Counts) -> Counter[str]:
    log = read_replay("\n".join(lines).encode(), f"{tag}.log")
    views, untold = read_views(log)
    for side, imported in views.items():
        live = battle.records[log.players[side]]
        if live is not None:
            compare_told(live, imported, counts, f"{tag} {side}")
    return untold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battles", type=int, default=10, help="for each format and pair (default: %(default)s)")
    parser.add_argument("--formats", nargs="+", default=FORMATS, help="(default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="a folder to write the logs into")
    args = parser.parse_args()
    counts, missing, battles = Counts(), Counter[str](), 0
    keep = args.keep or Path(tempfile.mkdtemp())
    keep.mkdir(parents=True, exist_ok=True)
    with running_server() as server:
        for battle_format in args.formats:
            teams = None if "random" in battle_format else load_teams(battle_format)
            for pair in PAIRS:
                told = asyncio.run(play(server.websocket_url, battle_format, pair, [teams, teams], args.battles))
                for tag, battle in told.items():
                    (keep / f"{tag}.log").write_text("\n".join(battle.spectator), encoding="utf-8")
                    check(tag, battle, counts, missing)
                battles += len(told)
            print(f"{battle_format}: {battles} battles so far, {counts.of('different')} different", file=sys.stderr)
    verdicts = sorted({verdict for _, verdict in counts.fields} - {"equal"})
    print(f"| {'field':<44} | {'equal':>9} | " + " | ".join(verdicts) + " |")
    for name in sorted({name for name, verdict in counts.fields if verdict != "equal"}):
        cells = " | ".join(f"{counts.fields[name, verdict]:>{len(verdict)}}" for verdict in verdicts)
        print(f"| {name:<44} | {counts.fields[name, 'equal']:>9} | {cells} |")
    alike = {name for name, _ in counts.fields} - {name for name, verdict in counts.fields if verdict != "equal"}
    print(f"always equal: {', '.join(sorted(alike))}")
    print("\nchoices that the spectator's log does not tell:")
    for why, count in missing.most_common():
        print(f"{count:>7} {why}")
    for example in counts.examples:
        print(f"different: {example}")
    print(json.dumps({"battles": battles, **{verdict: counts.of(verdict) for verdict in ["equal", *verdicts]}}))


if __name__ == "__main__":
    main()
