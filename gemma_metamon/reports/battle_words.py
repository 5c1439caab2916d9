"""Showdown's battle messages in plain words. What has no words here is shown as the server sent it."""

from collections.abc import Callable, Mapping, Sequence

STATS = {
    "atk": "Attack",
    "def": "Defense",
    "spa": "Sp. Atk",
    "spd": "Sp. Def",
    "spe": "Speed",
    "spc": "Special",
    "accuracy": "accuracy",
    "evasion": "evasiveness",
}
STATUSES = {
    "brn": "burned",
    "par": "paralyzed",
    "slp": "asleep",
    "frz": "frozen",
    "psn": "poisoned",
    "tox": "badly poisoned",
}
_WEATHERS = {
    "RainDance": "rain",
    "SunnyDay": "sun",
    "Sandstorm": "sandstorm",
    "Hail": "hail",
    "Snow": "snow",
    "Snowscape": "snow",
    "DesolateLand": "extremely harsh sunlight",
    "PrimordialSea": "heavy rain",
    "DeltaStream": "strong winds",
}
_CANNOT = {
    "slp": "is asleep",
    "par": "is fully paralyzed",
    "frz": "is frozen solid",
    "flinch": "flinched",
    "recharge": "must recharge",
    "partiallytrapped": "is held and cannot move",
}

# What is not told: bookkeeping, and what the page shows elsewhere.
# fmt: off
UNTOLD = {
    "", "t:", "upkeep", "gametype", "gen", "tier", "rule", "rated", "start", "done", "turn", "debug", "init", "title",
    "deinit", "html", "uhtml", "uhtmlchange", "player", "teamsize", "clearpoke", "poke", "teampreview", "updatepoke",
    "showteam", "request", "j", "J", "l", "L", "n", "N", "join", "leave", "name", "raw", "inactiveoff", "-anim",
    "-candynamax",
}
# fmt: on

# {0}, {1}, ... are the message's fields, Pokémon and sides already named, effects without their "move: ".
_TEMPLATES = {
    "move": "{0} used {1}",
    "faint": "{0} fainted",
    "-transform": "{0} transformed into {1}",
    "-zpower": "{0} surrounded itself with Z-Power",
    "-terastallize": "{0} Terastallized into the {1} type",
    "-supereffective": "It's super effective on {0}",
    "-resisted": "It's not very effective on {0}",
    "-crit": "A critical hit on {0}",
    "-immune": "It doesn't affect {0}",
    "-ohko": "A one-hit KO",
    "-zbroken": "{0} couldn't fully protect itself",
    "-notarget": "There was no target",
    "-nothing": "Nothing happened",
    "-hitcount": "{0} was hit {1} times",
    "-prepare": "{0} prepares {1}",
    "-mustrecharge": "{0} must recharge",
    "-clearallboost": "All stat changes were removed",
    "-clearboost": "{0}'s stat changes were removed",
    "-clearnegativeboost": "{0}'s lowered stats went back to normal",
    "-clearpositiveboost": "{0}'s raised stats went back to normal",
    "-invertboost": "{0}'s stat changes were inverted",
    "-copyboost": "{0} copied the stat changes of {1}",
    "-swapboost": "{0} and {1} exchanged stat changes",
    "-cureteam": "{0}'s team was healed of its conditions",
    "-ability": "{0} has the ability {1}",
    "-endability": "{0}'s ability was suppressed",
    "-item": "{0} has the item {1}",
    "-start": "{0}: {1} began",
    "-end": "{0}: {1} ended",
    "-activate": "{0}: {1}",
    "-block": "{0} was protected by {1}",
    "-singleturn": "{0}: {1}",
    "-singlemove": "{0}: {1}",
    "-fieldstart": "{0} began",
    "-fieldend": "{0} ended",
    "-fieldactivate": "{0}",
    "-sidestart": "{1} on {0}'s side",
    "-sideend": "{1} disappeared from {0}'s side",
    "-swapsideconditions": "The sides exchanged their conditions",
    "-message": "{0}",
    "-hint": "({0})",
    "message": "{0}",
    "inactive": "{0}",
    "bigerror": "{0}",
    "c": "{0} said: {1}",
    "c:": "{1} said: {2}",
    "win": "{0} won the battle",
    "tie": "The battle ended in a tie",
}


def _cannot(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    if len(fields) > 2:
        return f"{fields[0]} cannot use {fields[2]} ({fields[1]})"
    return f"{fields[0]} {_CANNOT.get(fields[1], f'cannot move ({fields[1]})')}"


def _boost(verb: str, limit: str) -> Callable[[Sequence[str], Mapping[str, str]], str]:
    def words(fields: Sequence[str], tags: Mapping[str, str]) -> str:
        stat = STATS.get(fields[1], fields[1])
        if fields[2] == "0":
            return f"{fields[0]}'s {stat} won't go any {limit}"
        return f"{fields[0]}'s {stat} {verb} by {fields[2]} stage{'s' if fields[2] != '1' else ''}"

    return words


def _set_boost(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    return f"{fields[0]}'s {STATS.get(fields[1], fields[1])} was set to stage {fields[2]}"


def _status(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    return f"{fields[0]} is {STATUSES.get(fields[1], fields[1])}"


def _cured(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    return f"{fields[0]} is no longer {STATUSES.get(fields[1], fields[1])}"


def _weather(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    name = _WEATHERS.get(fields[0], fields[0])
    if name == "none":
        return "The weather cleared"
    return f"The weather is still {name}" if "upkeep" in tags else f"The weather became {name}"


def _lost_item(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    return f"{fields[0]} {'ate' if 'eat' in tags else 'lost'} its {fields[1]}"


def _miss(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    return f"{fields[0]}'s attack missed{f' {fields[1]}' if len(fields) > 1 else ''}"


def _fail(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    return "But it failed" + (f" ({STATUSES.get(fields[1], fields[1])})" if len(fields) > 1 else "")


def _start(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    if fields[1] == "typechange" and len(fields) > 2:
        return f"{fields[0]} became {fields[2]} type"
    if fields[1] == "Dynamax":
        return f"{fields[0]} {'Gigantamaxed' if 'Gmax' in fields[2:] else 'Dynamaxed'}"
    return _TEMPLATES["-start"].format(*fields)


def _end(fields: Sequence[str], tags: Mapping[str, str]) -> str:
    if fields[1] == "Dynamax":
        return f"{fields[0]} returned to its normal size"
    return _TEMPLATES["-end"].format(*fields)


_FUNCTIONS: dict[str, Callable[[Sequence[str], Mapping[str, str]], str]] = {
    "cant": _cannot,
    "-boost": _boost("rose", "higher"),
    "-unboost": _boost("fell", "lower"),
    "-setboost": _set_boost,
    "-status": _status,
    "-curestatus": _cured,
    "-weather": _weather,
    "-enditem": _lost_item,
    "-miss": _miss,
    "-fail": _fail,
    "-start": _start,
    "-end": _end,
}


def in_words(kind: str, fields: Sequence[str], tags: Mapping[str, str]) -> str | None:
    """A message as a sentence without its full stop, or None where this module has no words for it.

    Args:
        kind: "move", "-damage", ...
        fields: of the message, Pokémon already named as a reader knows them.
        tags: "[from] item: Leftovers" as {"from": "Leftovers"}, "[eat]" as {"eat": ""}.
    """
    try:
        if kind in _FUNCTIONS:
            words = _FUNCTIONS[kind](fields, tags)
        elif kind in _TEMPLATES:
            words = _TEMPLATES[kind].format(*fields)
        else:
            return None
    except IndexError:  # fewer fields than this kind of message has
        return None
    return words + cause(tags)


def cause(tags: Mapping[str, str]) -> str:
    """Why it happened, in brackets: " (Leftovers)"; empty where the server does not say, or says only the obvious."""
    effect = tags.get("from", "")
    return f" ({STATUSES.get(effect, effect)})" if effect and effect != "lockedmove" else ""
