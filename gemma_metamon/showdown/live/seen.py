"""What a seat has been told of the other side, read from its own messages: whoever guesses the rest starts from this.

Nothing else is read: no request, no state of a simulator. Under an Illusion a Pokémon is what it shows, until it falls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from poke_env.battle import Battle, Move
from poke_env.data import to_id_str

from gemma_metamon.showdown.live.memory import pokemon_key
from gemma_metamon.showdown.live.poke_env_hooks import messages_read

# what a Pokémon gets by these is not what it came with
_SWAPS = ("move: Trick", "move: Switcheroo", "move: Thief", "move: Covet", "move: Bestow", "ability: Pickpocket")
_GAINS = (*_SWAPS, "ability: Magician", "ability: Symbiosis")
_STEALS = ("move: Thief", "move: Covet", "ability: Pickpocket", "ability: Magician")
# abilities that heal or protect the one that the line names; of others, `[of]` names the owner
_OWN_KINDS = {"-heal", "-immune", "-formechange", "detailschange", "-curestatus", "-fail", "cant"}


@dataclass(frozen=True, kw_only=True)
class SeenPokemon:
    """A Pokémon of the other side that was on the field.

    Attributes:
        ident: "p2: Gengar".
        species: its id when it first came, before any change of forme ("charizard").
        level: 1-100.
        gender: "M", "F" or "".
        shiny: whether it was seen to be.
        condition: HP and status as they were shown last: "52/100 par", "0 fnt".
        uses: PP that each of its own moves has spent, by id, in the order in which they were shown.
        first_item: what it came with, an id; "" of one that had nothing; None where nothing was seen.
        item: what it holds now, likewise.
        first_ability: what it came with, an id, or None.
        ability: what it has now, or None.
        tera_type: "Fire", once it has terastallised.
        changes_moves: whether it used two moves without leaving, with nothing seen to go: no Choice item holds it.
    """

    ident: str
    species: str
    level: int = 100
    gender: str = ""
    shiny: bool = False
    condition: str = "100/100"
    uses: dict[str, int] = field(default_factory=dict)
    first_item: str | None = None
    item: str | None = None
    first_ability: str | None = None
    ability: str | None = None
    tera_type: str | None = None
    changes_moves: bool = False


@dataclass(frozen=True, kw_only=True)
class SeenSide:
    """What a seat has been told of the other side.

    Attributes:
        seat: of the other side, "p1" or "p2".
        battle_format: "gen9ou".
        gen: 1-9.
        team_size: how many Pokémon it brought.
        active: the ident of the Pokémon on the field; None before the first one.
        pokemon: those that were on the field, in the order in which they came.
        preview: the species ids of its whole team, where the battle began with a preview: "arceus" where the forme was
            not shown.
    """

    seat: str
    battle_format: str
    gen: int
    team_size: int
    active: str | None
    pokemon: tuple[SeenPokemon, ...]
    preview: tuple[str, ...] = ()


def seen_side(battle: Battle) -> SeenSide:
    """What the messages of a seat's battle, as poke-env has read them, told of the other side so far."""
    reader = _Reader("p2" if battle.player_role == "p1" else "p1", battle.gen)
    for message in messages_read(battle):
        reader.read(message)
    return SeenSide(
        seat=reader.seat,
        battle_format=battle.battle_tag.split("-")[1],
        gen=battle.gen,
        team_size=reader.team_size,
        active=reader.active,
        pokemon=tuple(replace(seen, uses=dict(seen.uses)) for seen in reader.pokemon.values()),
        preview=tuple(reader.preview),
    )


class _Reader:
    def __init__(self, seat: str, gen: int) -> None:
        self.seat, self.gen = seat, gen
        self.team_size = 6
        self.active: str | None = None
        self.pokemon: dict[str, SeenPokemon] = {}
        self.preview: list[str] = []
        self._before: SeenPokemon | None = None  # the one on the field, as it was when it came in
        self._borrowed: set[str] | None = set()  # moves that it has by Mimic; None: all, it is transformed
        self._last_move: str | None = None  # since it came in
        self._changed: set[str] = set()  # who has another forme for the rest of the battle
        self._pressure: str | None = None  # who of our own side has it

    def read(self, message: Sequence[str]) -> None:
        if len(message) < 3:
            return
        kind, who, rest = message[1], message[2], list(message[3:])
        if kind == "teamsize" and who == self.seat:
            self.team_size = int(rest[0])
        elif kind == "poke" and who == self.seat:
            self.preview.append(to_id_str(rest[0].split(",")[0].removesuffix("-*")))
        elif kind in ("switch", "drag", "replace"):
            self._come(kind, pokemon_key(who), rest)
        else:
            self._read_causes(kind, who, rest)
            key = pokemon_key(who)
            if kind == "-cureteam" and key.startswith(self.seat):
                for each in self.pokemon:
                    self._read_condition("-curestatus", each, "")
            if key in self.pokemon:
                self._read_own(kind, key, rest)
            elif kind == "-ability" and rest[0] == "Pressure":
                self._pressure = key

    def _come(self, kind: str, key: str, rest: Sequence[str]) -> None:
        if not key.startswith(self.seat):
            if key != self._pressure:
                self._pressure = None
            return
        details = rest[0].split(", ")
        shown = SeenPokemon(
            ident=key,
            species=to_id_str(details[0]),
            level=next((int(word[1:]) for word in details[1:] if word[:1] == "L" and word[1:].isdigit()), 100),
            gender=next((word for word in details[1:] if word in ("M", "F")), ""),
            shiny="shiny" in details,
        )
        known = self.pokemon.get(key)
        if kind == "replace":
            self._fall(known or shown)
            return
        condition = rest[1] if len(rest) > 1 else "100/100"
        self._before = known
        self.pokemon[key] = replace(known or shown, condition=condition)
        if known:  # an ability that was exchanged comes back; what another forme has, nobody has said
            self._set(key, ability=None if key in self._changed else known.first_ability)
        self.active, self._borrowed, self._last_move = key, set(), None

    def _fall(self, real: SeenPokemon) -> None:
        """An Illusion ends: what the disguise did and suffered since it came in was this Pokémon's."""
        if self.active is None or self.active == real.ident:
            return
        worn, before = self.pokemon[self.active], self._before
        uses = dict(real.uses)
        for move, n in worn.uses.items():
            if before is None or n > before.uses.get(move, -1):
                uses[move] = uses.get(move, 0) + n - (before.uses.get(move, 0) if before else 0)
        self.pokemon[real.ident] = replace(real, uses=uses, condition=worn.condition, first_ability="illusion")
        if before is None:
            del self.pokemon[self.active]
        else:
            self.pokemon[self.active] = before
        self.active = real.ident

    def _set(self, key: str, **changes: object) -> None:
        self.pokemon[key] = replace(self.pokemon[key], **changes)  # type: ignore[arg-type]

    def _read_own(self, kind: str, key: str, rest: list[str]) -> None:
        what = rest[0] if rest else ""
        if kind == "-terastallize":
            self._set(key, tera_type=what)
        elif kind == "detailschange":
            self._changed.add(key)
            self._set(key, ability=None)
        elif kind in ("-mega", "-primal") and len(rest) > 1:
            self._has(key, to_id_str(rest[-1]))
        elif kind in ("-item", "-enditem"):
            self._read_item(kind, key, to_id_str(what), _cause(rest))
        elif kind in ("-ability", "-endability"):
            self._read_ability(kind, key, to_id_str(what), _cause(rest))
        elif kind in ("-activate", "-block", "-start") and what.startswith("item: "):
            self._has(key, to_id_str(what.removeprefix("item: ")))
        elif kind in ("-activate", "-block", "-start") and what.startswith("ability: "):
            self._is(key, to_id_str(what.removeprefix("ability: ")))
        else:
            self._read_condition(kind, key, what)
            self._read_move(kind, key, rest)

    def _read_condition(self, kind: str, key: str, what: str) -> None:
        hp = self.pokemon[key].condition.split(" ")[0]
        if kind in ("-damage", "-heal", "-sethp"):
            self._set(key, condition=what)
        elif kind == "-status":
            self._set(key, condition=f"{hp} {what}")
        elif kind == "-curestatus":
            self._set(key, condition=hp)
        elif kind == "faint":
            self._set(key, condition="0 fnt")

    def _read_move(self, kind: str, key: str, rest: list[str]) -> None:
        if kind == "-transform":
            self._borrowed = None
        elif kind == "-start" and len(rest) > 1 and rest[0].removeprefix("move: ") == "Mimic":
            if self._borrowed is not None:
                self._borrowed.add(Move.retrieve_id(rest[1]))
        elif kind == "cant" and len(rest) > 1:
            self._show(key, Move.retrieve_id(rest[1]), 0)
        elif kind == "move":
            self._use(key, Move.retrieve_id(rest[0]), rest[1:])

    def _read_item(self, kind: str, key: str, item: str, cause: str) -> None:
        if kind == "-item" and cause.startswith(_GAINS):
            self._set(key, item=item)
            return
        self._has(key, item)
        if kind == "-enditem":
            self._set(key, item="")

    def _read_ability(self, kind: str, key: str, ability: str, cause: str) -> None:
        if kind == "-endability":
            self._set(key, ability=None)
        elif cause.startswith("ability: "):  # Trace and its like: what it came with is the cause
            first = self.pokemon[key].first_ability or to_id_str(cause.removeprefix("ability: "))
            self._set(key, first_ability=first, ability=ability)
        elif cause:
            self._set(key, ability=ability)
        else:
            self._is(key, ability)

    def _has(self, key: str, item: str) -> None:
        """It is seen to hold something, which it came with if nothing was seen to come or go before."""
        seen = self.pokemon[key]
        first = item if seen.first_item is None and seen.item is None else seen.first_item
        self._set(key, first_item=first, item=item)

    def _is(self, key: str, ability: str) -> None:
        seen = self.pokemon[key]
        first = ability if seen.first_ability is None and seen.ability is None else seen.first_ability
        if self._borrowed is not None:
            self._set(key, first_ability=first, ability=ability)

    def _read_causes(self, kind: str, who: str, rest: list[str]) -> None:
        """Items and abilities that a line gives as the reason of what it tells."""
        of = next((pokemon_key(word.removeprefix("[of] ")) for word in rest if word.startswith("[of] ")), "")
        cause, _, name = _cause(rest).partition(": ")
        if kind == "-item" and of in self.pokemon and _cause(rest) in _STEALS:
            self._read_item("-enditem", of, to_id_str(rest[0]), "")
        if kind in ("-ability", "-item", "-enditem"):
            return
        owner = of if of and not (cause == "ability" and kind in _OWN_KINDS) else pokemon_key(who)
        if owner not in self.pokemon:
            return
        if cause == "item" and self.pokemon[owner].item != "":
            self._has(owner, to_id_str(name))
        elif cause == "ability":
            self._is(owner, to_id_str(name))

    def _use(self, key: str, move: str, rest: list[str]) -> None:
        cause = _cause(rest)
        if cause not in ("", "lockedmove") or "[zeffect]" in rest or not self._is_own(move):
            return
        spent = 0 if cause else 2 if self._pressure and rest and pokemon_key(rest[0]) == self._pressure else 1
        self._show(key, move, spent)
        if self._last_move not in (None, move) and self.pokemon[key].item is None:
            self._set(key, changes_moves=True)
        self._last_move = move

    def _is_own(self, move: str) -> bool:
        """Whether the Pokémon on the field brought a move that it uses now."""
        return self._borrowed is not None and move not in self._borrowed and Move.should_be_stored(move, self.gen)

    def _show(self, key: str, move: str, spent: int) -> None:
        if self._is_own(move):
            uses = self.pokemon[key].uses
            self._set(key, uses={**uses, move: uses.get(move, 0) + spent})


def _cause(words: Sequence[str]) -> str:
    """What comes after "[from]": "item: Leftovers", "lockedmove"; empty where the line gives no reason."""
    return next((word.removeprefix("[from]").strip() for word in words if word.startswith("[from]")), "")


def revealed(side: SeenSide) -> Iterator[SeenPokemon]:
    """Those that were on the field, the one that is there now first."""
    yield from sorted(side.pokemon, key=lambda seen: seen.ident != side.active)
