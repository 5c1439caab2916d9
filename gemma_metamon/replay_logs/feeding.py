"""poke-env's battle, fed with a log's messages under names that no user has."""

import logging
import math
import re

from poke_env.battle import Battle

from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError
from gemma_metamon.replay_logs.lines import SIDES, read_line, side_of
from gemma_metamon.replay_logs.sources import ReplayLog
from gemma_metamon.showdown.live.battle import LiveBattle

# what tells nothing of the battle, or is told otherwise: users come, go and change their names
_NOT_FED = {
    "player", "win", "tie", "request", "t:", "c", "c:", "chat", "j", "l", "n", "J", "L", "N", "join", "leave", "name",
    "raw", "html", "uhtml", "uhtmlchange", "inactive", "inactiveoff", "title", "init", "deinit", "error", "bigerror",
    "expire", "noinit", "sentchoice", "message", "-message", "-hint", "debug", "badge", "hidelines", "unlink", "askreg",
    "tempnotify", "tempnotifyoff", "showteam", "b", "B", "battle", "users", "notify", "selectorhtml", "refresh", "",
    "fieldhtml", "controlshtml", "nametaken", "popup", "pm", "query", "seed", "choice", "bestof", "tournament",
}  # fmt: skip
# without these the rest cannot be read
_INDISPENSABLE = {"switch", "drag", "replace", "move", "faint", "-damage", "-heal", "turn", "teamsize", "poke"}
_HP = re.compile(r"^(\d{1,6})/(\d{1,6})(?= |$)")

# poke-env logs every message and every effect that it does not model
_silent = logging.getLogger("gemma_metamon.replay_logs.poke_env")
_silent.setLevel(logging.CRITICAL + 1)
logging.getLogger("poke-env").setLevel(logging.ERROR)


def new_battle(log: ReplayLog, side: str) -> Battle:
    """poke-env's battle before the first message of a log, seen by one side; both players are named p1 and p2."""
    battle = Battle(f"battle-{log.battle_format}-1", side, _silent, gen=log.gen)
    for name in SIDES:
        battle.parse_message(["", "player", name, name, "1", ""])
    return battle


def feed(battle: Battle, text: str) -> None:
    """Raises DataError where a message without which the battle cannot be followed is not understood."""
    message = text.split("|")
    kind = message[1]
    if kind in _NOT_FED:
        return
    try:
        battle.parse_message(message)
    except NotImplementedError:  # a kind of message that poke-env does not know tells nothing it could use
        return
    except Exception as error:  # poke-env's readers fail in many ways on what they do not expect
        called = kind == "move" and read_line(text).source  # Instruct, for one: what follows tells what it did
        if kind in _INDISPENSABLE and not called:
            raise DataError(f"a message that poke-env cannot follow: |{kind}| ({type(error).__name__})") from error


def state_now(live: LiveBattle) -> BattleState:
    """Raises DataError where a side has nobody on the field, or numbers are not the game's."""
    battle = live.battle
    if battle.active_pokemon is None or battle.opponent_active_pokemon is None:
        raise DataError("a choice is asked for before both sides have a Pokémon on the field")
    state = live.state
    for pokemon in (state.player_active_pokemon, state.opponent_active_pokemon, *state.available_switches):
        if not 0 <= pokemon.hp_pct <= 1:
            raise DataError("HP above their maximum")
    return state


def end(battle: Battle, winner: str) -> None:
    """The winner is a side, or "" of a tie."""
    if winner:
        battle.won_by(winner)
    else:
        battle.tied()  # type: ignore[no-untyped-call]


def as_opponent_sees(text: str, side: str, parts: int) -> str:
    """The message as this side's opponent has it: where it tells exact HP, these in so many parts (0: exactly)."""
    message = text.split("|")
    if not parts or len(message) < 4 or side_of(message[2]) != side:
        return text
    for place in (3, 4):
        if place < len(message):
            message[place] = _HP.sub(lambda found: _shared(int(found[1]), int(found[2]), parts), message[place])
    return "|".join(message)


def _shared(hp: int, most: int, parts: int) -> str:
    """As the simulator rounds: percent up, but never to all of it; pixels down, but never to none."""
    if most in (0, 48, 100):
        return f"{hp}/{most}"
    if parts == 100:
        return f"{min(math.ceil(100 * hp / most), 99 if hp < most else 100)}/100"
    return f"{max(48 * hp // most, 1 if hp else 0)}/48"
