"""What the environments say of a step, the same in all of them."""

from typing import Any

from gemma_metamon.battle.state import BattleState
from gemma_metamon.envs.battles import EnvBattle
from gemma_metamon.envs.sides import Side, Taken
from gemma_metamon.errors import ConfigError


def as_action(action: Any, n_actions: int) -> int:
    """An action as a number. Raises ConfigError for what is none of 0 ... n_actions - 1."""
    try:
        number = int(action)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{action!r} is no action; give a number from 0 to {n_actions - 1}") from error
    if not 0 <= number < n_actions:
        raise ConfigError(f"there is no action {number}; give one from 0 to {n_actions - 1}")
    return number


def info_of(battle: EnvBattle, side: Side, taken: Taken | None) -> dict[str, Any]:
    """What an environment's `info` says of a side.

    Args:
        battle: as it stands.
        side: of it.
        taken: what was chosen for it in this step; None at the first state.

    Returns:
        "turn": of the battle. After a step, "action": what was played, -1 for a side that was not asked;
        "illegal_action": whether that was drawn in place of an illegal one; "refused": whether the simulator took the
        choice back, so that the side is asked again of the same state. At the end, "cut_short": why the battle was not
        played to its end; or "result": "won", "lost" or "tied", and "is_success": whether it was won.
    """
    info: dict[str, Any] = {"turn": side.seat.battle.turn}
    if taken is not None:
        info |= {"action": taken.action, "illegal_action": taken.was_illegal, "refused": side.was_refused}
    if battle.cut_short is not None:
        info["cut_short"] = battle.cut_short
    elif battle.ended is not None and side.state is not None:
        won, lost = side.state.battle_won, side.state.battle_lost
        info |= {"result": "won" if won else "lost" if lost else "tied", "is_success": won}
    return info


def as_line(side: Side) -> str:
    """The battle as a side sees it, in a line."""
    state = side.state
    if state is None:
        return "before the first decision"
    mine, theirs = state.player_active_pokemon, state.opponent_active_pokemon
    left = len(state.available_switches) + (mine.hp_pct > 0)
    return (
        f"turn {side.seat.battle.turn}: {mine.name} {mine.hp_pct:.0%} against {theirs.name} {theirs.hp_pct:.0%}, "
        f"{left} left against {state.opponents_remaining}{_result(state)}"
    )


def _result(state: BattleState) -> str:
    return "; won" if state.battle_won else "; lost" if state.battle_lost else ""
