"""Situations of a battle, made by hand, and what a scripted trainer chooses in them."""

import asyncio
from typing import Any

from poke_env.battle import Battle, Move, Pokemon
from support.live_battles import by_name
from support.live_goldens import feed, quiet_logger

from gemma_metamon.showdown.players.registry import connection
from gemma_metamon.showdown.scripted.trainers import ScriptedTrainer


def trainer(kind: type[ScriptedTrainer]) -> ScriptedTrainer:
    """One that never connects."""
    options = connection("Red", battle_format="gen1ou", websocket_url="ws://nowhere", team=None)
    return kind(**options, start_listening=False)


def own(species: str, moves: list[str], condition: str = "100/100", *, gen: int = 1) -> dict[str, Any]:
    """With the stats of full training, `condition` being a percentage."""
    stats = Pokemon(gen=gen, species=species).base_stats
    max_hp = 2 * stats["hp"] + 203
    hp, _, status = condition.partition(" ")
    scaled = "0 fnt" if hp == "0" else f"{max(1, int(hp.split('/')[0]) * max_hp // 100)}/{max_hp} {status}".strip()
    return {
        "ident": f"p1: {species.capitalize()}",
        "details": species.capitalize(),
        "condition": scaled,
        "active": False,
        "stats": {name: 2 * stats[name] + 98 for name in ("atk", "def", "spa", "spd", "spe")},
        "moves": moves,
        "baseAbility": "noability",
        "item": "",
    }


def situation(
    active: dict[str, Any],
    opponent: str,
    condition: str = "100/100",
    *bench: dict[str, Any],
    asleep: str = "",
    forced: bool = False,
    tera: str = "",
    gen: int = 1,
) -> Battle:
    """Mine against theirs; `asleep` names another of theirs."""
    battle = Battle(f"battle-gen{gen}ou-1", "Red", quiet_logger(), gen=gen)
    feed(battle, ["|player|p1|Red|1|", "|player|p2|Blue|2|", "|teamsize|p1|6", "|teamsize|p2|6"])
    name = active["details"]
    sleeper = [f"|switch|p2a: {asleep}|{asleep}|100/100", f"|-status|p2a: {asleep}|slp"] if asleep else []
    entries = [f"|switch|p1a: {name}|{name}|100/100", *sleeper, f"|switch|p2a: {opponent}|{opponent}|{condition}"]
    feed(battle, [*entries, "|turn|1"])
    request: dict[str, Any] = {"side": {"name": "Red", "id": "p1", "pokemon": [{**active, "active": True}, *bench]}}
    if forced:
        request["forceSwitch"] = [True]
    else:
        offered = [{"id": move, "move": Move(move, gen=gen).entry["name"]} for move in active["moves"]]
        request["active"] = [{"moves": offered, **({"canTerastallize": tera} if tera else {})}]
    battle.parse_request(request)
    return battle


def choice(kind: type[ScriptedTrainer], battle: Battle) -> str:
    order = trainer(kind).choose_move(battle)
    assert not asyncio.iscoroutine(order)
    return by_name(order).removeprefix("/choose ")
