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
            if self.active is None or self.active == key:
                return
            worn = self.pokemon[self.active]  # what the disguise did since it came in was this one's
            moves = {move: n - (self._before.uses.get(move, 0) if self._before else 0) for move, n in worn.uses.items()}
            known = known or shown
            uses = {**known.uses}
            for move, n in moves.items():
                if n or not (self._before and move in self._before.uses):
                    uses[move] = uses.get(move, 0) + n
            self.pokemon[key] = replace(known, uses=uses, condition=worn.condition, first_ability="illusion")
            if self._before is None:
                del self.pokemon[self.active]
            else:
                self.pokemon[self.active] = self._before
            self.active = key
            return
        condition = rest[1] if len(rest) > 1 else "100/100"
        self._before = known
        self.pokemon[key] = replace(known or shown, condition=condition)
        # an ability that was exchanged comes back with the next entry
        if known:
            self._set(key, ability=known.first_ability)
        self.active, self._borrowed, self._last_move = key, set(), None

    def _set(self, key: str, **changes: object) -> None:
        self.pokemon[key] = replace(self.pokemon[key], **changes)  # type: ignore[arg-type]

    def _read_own(self, kind: str, key: str, rest: list[str]) -> None:
        what = rest[0] if rest else ""
        if kind in ("-damage", "-heal", "-sethp"):
            self._set(key, condition=what)
        elif kind in ("-status", "-curestatus"):
            hp = self.pokemon[key].condition.split(" ")[0]
            self._set(key, condition=f"{hp} {what}" if kind == "-status" else hp)
        elif kind == "faint":
            self._set(key, condition="0 fnt")
        elif kind == "move":
            self._move(key, what, rest[1:])
        elif kind == "cant" and len(rest) > 1:
            self._show(key, Move.retrieve_id(rest[1]), 0)
        elif kind == "-transform":
            self._borrowed = None
        elif kind == "-start" and what in ("Mimic", "move: Mimic") and self._borrowed is not None and len(rest) > 1:
            self._borrowed.add(Move.retrieve_id(rest[1]))
        elif kind == "-terastallize":
            self._set(key, tera_type=what)
        elif kind in ("-mega", "-primal") and len(rest) > 1:
            self._has(key, to_id_str(rest[-1]))
        elif kind in ("-item", "-enditem", "-ability", "-endability"):
            self._hold(kind, key, to_id_str(what), rest[1:])
        elif kind in ("-activate", "-block", "-start") and what.startswith("item: "):
            self._has(key, to_id_str(what.removeprefix("item: ")))
        elif kind in ("-activate", "-block", "-start") and what.startswith("ability: "):
            self._is(key, to_id_str(what.removeprefix("ability: ")))

    def _hold(self, kind: str, key: str, what: str, rest: list[str]) -> None:
        cause = next((word.removeprefix("[from] ") for word in rest if word.startswith("[from]")), "")
        seen = self.pokemon[key]
        if kind == "-item":
            if cause.startswith(_GAINS):
                self._set(key, item=what)
            else:
                self._has(key, what)
        elif kind == "-enditem":
            self._has(key, what)
            self._set(key, item="")
        elif kind == "-endability":
            self._set(key, ability=None)
        elif cause.startswith("ability: "):  # Trace and its like: what it came with is the cause
            first = seen.first_ability or to_id_str(cause.removeprefix("ability: "))
            self._set(key, first_ability=first, ability=what)
        elif cause:
            self._set(key, ability=what)
        else:
            self._is(key, what)

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
        of = next((word.removeprefix("[of] ") for word in rest if word.startswith("[of] ")), "")
        for word in rest:
            cause, _, name = word.removeprefix("[from] ").partition(": ")
            if not word.startswith("[from]") or cause not in ("item", "ability"):
                continue
            owner = pokemon_key(of if of and not (cause == "ability" and kind in _OWN_KINDS) else who)
            if owner not in self.pokemon or kind in ("-ability", "-item", "-enditem"):
                continue
            if cause == "item" and self.pokemon[owner].item != "":
                self._has(owner, to_id_str(name))
            elif cause == "ability":
                self._is(owner, to_id_str(name))
        key = pokemon_key(of)
        if kind == "-item" and key in self.pokemon and any(f"[from] {cause}" in rest for cause in _STEALS):
            if key != pokemon_key(who):
                self._has(key, to_id_str(rest[0]))
                self._set(key, item="")

    def _move(self, key: str, name: str, rest: list[str]) -> None:
        move = Move.retrieve_id(name)
        causes = [word.removeprefix("[from]").strip() for word in rest if word.startswith("[from]")]
        called = any(cause != "lockedmove" for cause in causes) or any(word == "[zeffect]" for word in rest)
        if called or self._borrowed is None or move in self._borrowed or not Move.should_be_stored(move, self.gen):
            return
        spent = 0 if causes else 2 if self._pressure and rest and pokemon_key(rest[0]) == self._pressure else 1
        self._show(key, move, spent)
        if self._last_move not in (None, move) and self.pokemon[key].item is None:
            self._set(key, changes_moves=True)
        self._last_move = move

    def _show(self, key: str, move: str, spent: int) -> None:
        if self._borrowed is None or move in self._borrowed or not Move.should_be_stored(move, self.gen):
            return
        uses = self.pokemon[key].uses
        self._set(key, uses={**uses, move: uses.get(move, 0) + spent})


def revealed(side: SeenSide) -> Iterator[SeenPokemon]:
    """Those that were on the field, the one that is there now first."""
    yield from sorted(side.pokemon, key=lambda seen: seen.ident != side.active)
