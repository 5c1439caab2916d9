"""poke-env battles at a request or after some lines, as a test wants them."""

from typing import Any

from poke_env.battle import Battle
from poke_env.player import SingleBattleOrder
from support.live_goldens import feed, quiet_logger

BENCH = ("Gengar", "Tauros", "Chansey", "Alakazam", "Starmie")
MOVES = ("rest", "bodyslam", "selfdestruct", "earthquake")  # by name: bodyslam earthquake rest selfdestruct


def pokemon(name: str, *, active: bool = False, condition: str = "300/300", reviving: bool = False) -> dict[str, Any]:
    return {
        "ident": f"p1: {name}",
        "details": name,
        "condition": condition,
        "active": active,
        "stats": {},
        "moves": list(MOVES) if active else ["tackle"],
        "baseAbility": "pressure",
        "item": "",
        "reviving": reviving,
    }


def battle_at(
    moves: list[dict[str, Any]] | None = None,
    *,
    fainted: tuple[str, ...] = (),
    force_switch: bool = False,
    reviving: bool = False,
    **active: Any,
) -> Battle:
    offered = [{"id": move} for move in MOVES] if moves is None else moves
    bench = [pokemon(name, condition="0 fnt" if name in fainted else "300/300") for name in BENCH]
    side = {"pokemon": [pokemon("Snorlax", active=True, reviving=reviving), *bench]}
    battle = Battle("battle-gen9ou-1", "Red", quiet_logger(), gen=9)
    request: dict[str, Any] = {"side": side}
    request |= {"forceSwitch": [True]} if force_switch else {"active": [{"moves": offered, **active}]}
    battle.parse_request(request)
    return battle


def new_battle(*lines: str, gen: int = 1) -> Battle:
    battle = Battle(f"battle-gen{gen}ou-1", "Red", quiet_logger(), gen=gen)
    feed(battle, ["|player|p1|Red|1|", "|player|p2|Blue|2|", "|teamsize|p1|6", "|teamsize|p2|6", *lines])
    return battle


START = ("|switch|p1a: Snorlax|Snorlax|100/100", "|switch|p2a: Gengar|Gengar|100/100", "|turn|1")


def by_name(order: Any) -> str:
    """The message of an order as poke-env has it, which names the move or the Pokémon and not its place."""
    assert isinstance(order, SingleBattleOrder)
    return SingleBattleOrder(order.order, terastallize=order.terastallize).message


def battle_with_request() -> Battle:
    battle = Battle("battle-gen1ou-1", "Red", quiet_logger(), gen=1)
    side = {"pokemon": [pokemon("Snorlax", active=True), pokemon("Tauros")]}
    moves = [{"id": move} for move in ("rest", "bodyslam", "selfdestruct", "earthquake")]
    battle.parse_request({"side": side, "active": [{"moves": moves}]})
    feed(battle, ["|player|p1|Red|1|", "|player|p2|Blue|2|", *START])
    return battle
