"""What a battle's messages told that poke-env does not keep, or keeps otherwise than metamon's recordings do.

Previous moves survive a switch; an ability that made itself known is remembered and is no effect; Trick, Haze and a few
others are effects; under an Illusion all this is of the Pokémon that wears it, as soon as it is known. One memory
belongs to one battle. Pokémon are known by poke-env's own keys ("p1: Gengar").
"""

from poke_env.battle import Effect, Move, PokemonType
from poke_env.data import GenData

_EFFECTS = {effect.name.replace("_", ""): effect for effect in Effect}
# metamon's client library knows these too; whatever neither knows is one word
_MORE_EFFECTS = {"BEATUP", "GOOEY", "HAZE", "LIGHTSCREEN", "MUDSPORT", "MYSTERYBERRY", "NEUTRALIZINGGAS", "RAMPAGE"}
_BOOSTED_STATS = ("ATK", "DEF", "SPA", "SPD", "SPE")
_STARTS = {"-start", "-activate", "-singleturn", "-singlemove"}


class BattleMemory:
    """Reads each of a battle's messages once, in order; `read` before every use.

    Args:
        gen: the battle's generation, 1-9.
    """

    def __init__(self, gen: int) -> None:
        self.previous_moves: dict[str, str] = {}  # key -> id of the last move shown, whatever called it
        self.revealed_abilities: dict[str, str] = {}
        self.effects: dict[str, dict[str, int]] = {}  # key -> effect -> turns or repetitions, oldest first
        self._on_field: dict[str, str] = {}  # "p1" -> key
        self._moved: dict[str, str] = {}  # "p1" -> id of the last move since the Pokémon on the field came in
        self._moves_before: dict[str, str | None] = {}  # "p1" -> its previous move when it came in
        self._disguised: dict[str, str] = {}  # key that our own Pokémon on the field is shown under -> its own key
        self._n_read = 0
        self._gen = gen

    def read(self, messages: list[list[str]]) -> None:
        """Reads those that it has not read yet, of all of the battle's messages so far, each split at "|"."""
        for message in messages[self._n_read :]:
            if len(message) > 2:
                self._read_message(message[1], message[2], message[3] if len(message) > 3 else "")
        self._n_read = len(messages)

    def begin_anew(self) -> None:
        """The messages that it has read are kept by nobody; those to come are a list of their own."""
        self._n_read = 0

    def note_active(self, key: str) -> None:
        """Who of our own team is on the field, as the request has it: under an Illusion the messages name another."""
        shown = self._on_field.get(key[:2], key)
        if shown != key:
            self._uncover(key)
            self._disguised = {shown: key}

    def effect(self, key: str) -> str | None:
        """The effect with the smallest counter, the oldest of equals."""
        effects = self.effects.get(key)
        return min(effects, key=lambda effect: effects[effect]) if effects else None

    def _read_message(self, kind: str, ident: str, what: str) -> None:
        if kind == "turn":
            self._end_turn()
            return
        key = self._real_key(kind, pokemon_key(ident))
        if kind in ("switch", "drag"):
            side = key[:2]
            self.effects.pop(self._on_field.get(side, ""), None)
            self._on_field[side] = key
            self._moved.pop(side, None)
            self._moves_before[side] = self.previous_moves.get(key)
        elif kind == "replace":
            self._uncover(key)
        elif kind in ("move", "-prepare"):
            self._move(key, Move.retrieve_id(what))
        elif kind == "-activate" and what.startswith("ability: "):
            self.revealed_abilities[key] = what.removeprefix("ability: ")
        elif kind in _STARTS and ident:
            self._start(key, _effect_name(what))
        elif kind == "-end":
            self._end(key, _effect_name(what))
        elif kind == "faint" or (kind == "-damage" and what == "0 fnt"):
            self.effects.pop(key, None)
        elif kind == "-status" and what == "slp":
            self._end(key, "YAWN")

    def _real_key(self, kind: str, shown: str) -> str:
        if kind in ("switch", "drag", "replace") and shown[:2] in (real[:2] for real in self._disguised.values()):
            self._disguised = {}
        return self._disguised.get(shown, shown)

    def _uncover(self, key: str) -> None:
        """Illusion ends: what the disguise did and suffered since it came in was this Pokémon's."""
        side = key[:2]
        disguise, before = self._on_field.get(side, key), self._moves_before.get(side)
        if disguise == key:
            return
        self.previous_moves.pop(disguise, None)
        if before is not None:
            self.previous_moves[disguise] = before
        if side in self._moved:
            self.previous_moves[key] = self._moved[side]
        self.effects[key] = self.effects.pop(disguise, {})
        self._on_field[side] = key

    def _start(self, key: str, name: str) -> None:
        effects = self.effects.setdefault(key, {})
        if name not in effects:
            effects[name] = 0
        elif name in _EFFECTS and _EFFECTS[name].is_action_countable:
            effects[name] += 1

    def _end(self, key: str, name: str) -> None:
        effects = self.effects.get(key, {})
        effects.pop(name, None)
        if name in ("QUARKDRIVE", "PROTOSYNTHESIS"):  # its end is told once, its beginning also by the raised stat
            for stat in _BOOSTED_STATS:
                effects.pop(name + stat, None)

    def _move(self, key: str, move_id: str) -> None:
        self.previous_moves[key] = self._moved[key[:2]] = move_id
        if move_id == "minimize":
            self._start(key, "MINIMIZE")
        self._end(key, "GLAIVERUSH")
        if "CHARGE" in self.effects.get(key, {}):
            entry = GenData.from_gen(self._gen).moves.get(move_id)
            if entry is not None and PokemonType.from_name(entry["type"]) == PokemonType.ELECTRIC:
                self._end(key, "CHARGE")

    def _end_turn(self) -> None:
        for key in self._on_field.values():
            effects = self.effects.get(key, {})
            for name in list(effects):
                effect = _EFFECTS.get(name)
                if effect is not None and effect.is_turn_countable:
                    effects[name] += 1
                if effect is not None and effect.ends_on_turn:
                    self._end(key, name)


def pokemon_key(ident: str) -> str:
    """poke-env's key of a Pokémon: "p1a: Gengar" on the field is "p1: Gengar"."""
    return ident[:2] + ident[3:] if ident[2:3] in ("a", "b", "c") else ident


def _effect_name(message: str) -> str:
    for prefix in ("item: ", "move: ", "ability: "):
        message = message.removeprefix(prefix)
    name = "".join(char for char in message if char.isalnum()).upper()
    if name == "FALLENUNDEFINED":
        return "FALLEN"
    return name if name in _EFFECTS or name in _MORE_EFFECTS else "UNKNOWN"
