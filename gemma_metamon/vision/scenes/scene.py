"""What a picture of a decision shows: the words and numbers of it, before anything is drawn.

A scene is made of the same `Decision` as the chat prompt, so it tells what the player may know and no more: with it, as
there, what a good player would work out of it (`language.telling.matchups`). All of it is drawn, rounded as it is
drawn; so equal scenes are equal pictures, and a picture need not be drawn to be recognised.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.state import BattleState, MoveState, PokemonState
from gemma_metamon.language.telling.prompts import BOOSTS, NOTHING, Decision, unseen_of
from gemma_metamon.text.vocabulary import display_name

if TYPE_CHECKING:
    from gemma_metamon.language.telling.matchups import Ending as Duelled
    from gemma_metamon.language.telling.matchups import Matchups

Ending = Literal["", "wins", "falls", "neither"]
"""How a duel in which both only attack would end for the player's Pokémon: "neither" falls soon; "" is not known."""
_ENDINGS: Final[Mapping[bool | None, Ending]] = {True: "wins", False: "falls", None: "neither"}
_NO_MOVE: Final = "nomove"
_NOWHERE: Final = {"noweather", "nofield", "noconditions"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A Pokémon, on the field or on a bench.

    Attributes:
        species: Showdown's name of its sprite: "rotom-wash", "greattusk".
        name: as players read it.
        types: words, one or two; none where they are not known.
        hp: whole percents, at least 1 where any are left; None where it was never seen.
        status: "PAR" and the like, "fainted", or "".
        level: of the Pokémon.
        legal: whether it may be switched in now; always so for those on the field, and the opponent's.
        ending: of its duel with the opponent's Pokémon on the field; of the player's own alone.
        best: of those that may come in the one whose duel would end best.
    """

    species: str
    name: str
    types: tuple[str, ...] = ()
    hp: int | None = None
    status: str = ""
    level: int = 100
    legal: bool = True
    ending: Ending = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """A player's half of the field.

    Attributes:
        active: the Pokémon on the field.
        boosts: "Atk +1" and the like.
        carried: item and ability as far as they are known.
        effects: tera type, confusion and the like.
        conditions: Stealth Rock and the like.
        bench: of one's own those that may be sent out, in the order of the actions; of the opponent's those seen, as
            they were last seen, and those previewed, which have no HP.
        last_move: "" for none.
    """

    active: Shown
    boosts: tuple[str, ...]
    carried: tuple[str, ...]
    effects: tuple[str, ...]
    conditions: tuple[str, ...]
    bench: tuple[Shown, ...]
    last_move: str


@dataclass(frozen=True, slots=True)
class Button:
    """One of the own moves.

    Attributes:
        name: of the move.
        type: its word.
        facts: category and power.
        pp: "24/24" for left and most; "" where it is none of the Pokémon's moves.
        legal: whether it may be chosen now.
        takes: of the opponent's maximum HP, in percent, where it hits; None of what is no attack.
        knocks_out: whether that is all that is left.
        strongest: of two or more attacks the likeliest to knock out, or the one that takes most in a turn.
        lands: whether the status that it is used for can; None of other moves.
    """

    name: str
    type: str
    facts: str
    pp: str
    legal: bool
    takes: int | None = None
    knocks_out: bool = False
    strongest: bool = False
    lands: bool | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A decision as a picture shows it.

    Attributes:
        format: e.g. "gen1ou".
        turn: of the game, from 1.
        notice: what is special about the choice: a replacement is asked for, or terastallising is possible.
        surroundings: weather, terrain or room.
        foes_left: how many of the opponent's Pokémon have not fainted.
        own: the player's side.
        foe: the opponent's side.
        moves: of the own active Pokémon, in the order of the actions.
        known: moves that the opponent's active Pokémon has shown.
        suffers: of the own maximum HP, in percent, by a turn of the opponent's best attack; None where nobody can tell.
        faster: whether the own Pokémon is; None where neither is, or nobody can tell.
    """

    format: str
    turn: int
    notice: str
    surroundings: tuple[str, ...]
    foes_left: int
    own: Side
    foe: Side
    moves: tuple[Button, ...]
    known: tuple[str, ...]
    suffers: int | None = None
    faster: bool | None = None


def scene_of(decision: Decision) -> Scene:
    """What the player sees at a decision."""
    from gemma_metamon.language.telling.matchups import Matchups  # needs poke-env's tables, and drawing does not

    state = decision.state
    matchups = Matchups(state, asleep=any(pokemon.status == "slp" for pokemon in decision.seen))
    return Scene(
        format=state.format,
        turn=decision.turn,
        notice=_notice(decision),
        surroundings=tuple(display_name(word) for word in (state.weather, state.battle_field) if word not in _NOWHERE),
        foes_left=state.opponents_remaining,
        own=_side(
            state.player_active_pokemon,
            state.player_conditions,
            _own_bench(decision, matchups),
            state.player_prev_move,
            _ending(matchups.present),
        ),
        foe=_side(
            state.opponent_active_pokemon, state.opponent_conditions, _foe_bench(decision), state.opponent_prev_move
        ),
        moves=tuple(_buttons(decision, matchups)),
        known=tuple(display_name(move.name) for move in state.opponent_active_pokemon.known_moves),
        suffers=None if matchups.suffers is None else _share(matchups.suffers),
        faster=matchups.is_faster,
    )


def _notice(decision: Decision) -> str:
    if decision.state.forced_switch:
        return "send out another"
    return "may terastallize" if any(action >= FIRST_TERA for action in decision.choices) else ""


def _side(
    active: PokemonState, conditions: str, bench: tuple[Shown, ...], last: MoveState, ending: Ending = ""
) -> Side:
    tera = (f"Tera {display_name(active.tera_type)}",) if active.tera_type not in NOTHING else ()
    return Side(
        active=_shown(active, ending=ending),
        boosts=tuple(
            f"{said} {stage:+d}" for stat, said in BOOSTS.items() if (stage := getattr(active, f"{stat}_boost"))
        ),
        carried=tuple(display_name(word) for word in (active.item, active.ability) if word not in NOTHING),
        effects=(*tera, *(display_name(word) for word in (active.effect,) if word not in NOTHING)),
        conditions=tuple(display_name(word) for word in (conditions,) if word not in _NOWHERE),
        bench=bench,
        last_move="" if last.name == _NO_MOVE else display_name(last.name),
    )


def _shown(pokemon: PokemonState, *, legal: bool = True, ending: Ending = "", best: bool = False) -> Shown:
    status = "fainted" if pokemon.hp_pct <= 0 else "" if pokemon.status in NOTHING else pokemon.status.upper()
    return Shown(
        species=sprite_name(pokemon.name, pokemon.base_species),
        name=display_name(pokemon.name),
        types=tuple(word for word in pokemon.types.split() if word not in NOTHING),
        hp=max(1, round(100 * pokemon.hp_pct)) if pokemon.hp_pct > 0 else 0,
        status=status,
        level=pokemon.lvl,
        legal=legal,
        ending=ending,
        best=best,
    )


def sprite_name(name: str, base_species: str) -> str:
    """Of a file: a forme stands behind its species and a dash, as "rotom-wash"."""
    forme = name.removeprefix(base_species)
    return f"{base_species}-{forme}" if forme and forme != name else name


def _own_bench(decision: Decision, matchups: "Matchups") -> tuple[Shown, ...]:
    bench = dict(enumerate(decision.state.switches, FIRST_SWITCH))
    best = matchups.best({action: pokemon for action, pokemon in bench.items() if action in decision.choices})
    return tuple(
        _shown(
            pokemon,
            legal=action in decision.choices,
            ending=_ending(matchups.entry(pokemon)) if action in decision.choices else "",
            best=action == best,
        )
        for action, pokemon in bench.items()
    )


def _ending(found: "Duelled | None") -> Ending:
    return "" if found is None else _ENDINGS[found.wins]


def _share(share: float) -> int:
    """In percent, in steps of 5, as the chat prompt tells it."""
    return 5 * round(20 * share)


def _foe_bench(decision: Decision) -> tuple[Shown, ...]:
    seen = [_shown(pokemon) for pokemon in decision.seen]
    return (*seen, *(Shown(species=word, name=display_name(word)) for word in unseen_of(decision)))


def _buttons(decision: Decision, matchups: "Matchups") -> list[Button]:
    """The moves; in place of the first what a request offers that is none of them: Recharge, Struggle."""
    state: BattleState = decision.state
    moves = state.player_active_pokemon.known_moves
    own = [
        move.name
        for action, move in enumerate(moves)
        if decision.choices.get(action, "").startswith(f"move {display_name(move.name)}")
    ]
    strongest = matchups.strongest(own)
    buttons = [
        _button(move, matchups, legal=action in decision.choices, strongest=move.name in own and move.name == strongest)
        for action, move in enumerate(moves)
    ]
    for action, choice in decision.choices.items():
        offered = choice.removeprefix("move ")
        if action < FIRST_SWITCH and (action >= len(buttons) or not offered.startswith(buttons[action].name)):
            buttons[action : action + 1] = [Button(name=offered, type="", facts="", pp="", legal=True)]
    return buttons


def _button(move: MoveState, matchups: "Matchups", *, legal: bool, strongest: bool) -> Button:
    hit, inflicts = matchups.hit(move.name), matchups.inflicts(move.name)
    return Button(
        name=display_name(move.name),
        type=move.move_type,
        facts=_facts(move),
        pp=f"{max(0, move.current_pp)}/{max(0, move.max_pp)}",
        legal=legal,
        takes=None if hit is None else _share(hit.taken),
        knocks_out=hit is not None and hit.knocks_out,
        strongest=strongest,
        lands=None if inflicts is None else inflicts[1],
    )


def _facts(move: MoveState) -> str:
    power = f" {move.base_power}" if move.base_power > 1 else ""  # 0 and 1 stand for none, or one of its own rule
    return f"{display_name(move.category)}{power}"
