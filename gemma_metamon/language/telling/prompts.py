"""A decision of a battle as a chat: what a player knows of it, in as few words as may be, and what may be chosen.

What a good player would work out of it is told as well, behind each choice: what the move takes, how the one that is
switched in would fare. `matchups` says how that is reckoned. HP are told as shares of the maximum in steps of 5 %,
damage rounded to the nearest step, and what is left rounded up: 50% is no more than a half.

Every token is paid for in training and in play, so each fact is said once, what is as usual (full accuracy, level 100,
the types of the species, a healthy bench, no item known, no weather) is not said, and the rules stand in the system's
text, which is the same at every decision. The text holds nothing that the player cannot know, and follows from the
decision alone.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.state import BattleState, MoveState, PokemonState
from gemma_metamon.language.telling.answers import TERASTALLIZE
from gemma_metamon.text.vocabulary import display_name

if TYPE_CHECKING:
    from gemma_metamon.language.telling.matchups import Ending, Matchups

HISTORY: Final = 0
"""Decisions before that are told, if nothing else is asked for."""
SYSTEM: Final = "Choose what wins this Pokémon Showdown battle. Answer <SOLUTION>choice</SOLUTION>."
SYSTEM_REASONING: Final = (
    "Choose what wins this Pokémon Showdown battle. "
    "Answer <REASONING>why, shortly</REASONING><SOLUTION>choice</SOLUTION>."
)
BLANK: Final = "Choose."
"""The user's text of the control that sees nothing of a battle."""
BOOSTS: Final = {
    "atk": "Atk", "def": "Def", "spa": "SpA", "spd": "SpD", "spe": "Spe", "accuracy": "accuracy", "evasion": "evasion",
}  # fmt: skip
"""A stat -> what it is called where its stages are told."""
_AFFLICTS: Final = {
    "SLP": "puts to sleep", "PAR": "paralyzes", "BRN": "burns",
    "PSN": "poisons", "TOX": "poisons badly", "FRZ": "freezes",
}  # fmt: skip
_FEW_PP: Final = 2
NOTHING: Final = {"noitem", "unknownitem", "noability", "unknownability", "notype", "nostatus", "noeffect", "fnt"}
"""Words of what is not there, or not known, or said otherwise."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """A decision that was made: its state, the game's turn, and the text of the choice ("" where it is not known)."""

    state: BattleState
    turn: int
    choice: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """All that a prompt is made of.

    Attributes:
        state: at the decision.
        choices: action -> its name, as `choice_names` gives them.
        turn: of the game, from 1; a Pokémon that replaces another comes in the same turn.
        history: the decisions before, the oldest first.
        seen: the opponent's Pokémon that were on the field before, as they were last seen; not the one there now. Who
            was there when the opponent had one more left is taken to have fainted.
    """

    state: BattleState
    choices: Mapping[int, str]
    turn: int = 1
    history: tuple[Past, ...] = ()
    seen: tuple[PokemonState, ...] = ()


class BattleSoFar:
    """Makes the decisions of one battle, recorded or live, as its states come.

    Args:
        history: how many decisions before are told.
    """

    def __init__(self, history: int = HISTORY) -> None:
        self._history: deque[Past] = deque(maxlen=history)
        self._seen: dict[str, PokemonState] = {}
        self._turn = 0
        self._now: Past | None = None

    def decide(self, state: BattleState, choices: Mapping[int, str]) -> Decision:
        """The next decision. To be called once for each state that is decided in."""
        if self._now is not None:
            self._history.append(self._now)
            self._note_fainted(self._now.state, state)
        self._turn += not state.forced_switch or self._turn == 0
        self._now = Past(state=state, turn=self._turn, choice="")
        foe = state.opponent_active_pokemon
        self._seen[foe.base_species] = foe
        seen = tuple(pokemon for species, pokemon in self._seen.items() if species != foe.base_species)
        return Decision(state=state, choices=choices, turn=self._turn, history=tuple(self._history), seen=seen)

    def _note_fainted(self, before: BattleState, now: BattleState) -> None:
        gone = before.opponent_active_pokemon
        changed = gone.base_species != now.opponent_active_pokemon.base_species
        if changed and now.opponents_remaining < before.opponents_remaining:
            self._seen[gone.base_species] = replace(gone, hp_pct=0.0, status="fnt")

    def chose(self, choice: str) -> None:
        """Tells what was chosen at the last decision, by its name."""
        if self._now is not None:
            self._now = replace(self._now, choice=choice)


def messages_of(decision: Decision, *, reasoning: bool = False, blank: bool = False) -> list[dict[str, str]]:
    """The system's and the user's message of a decision; the answer is to follow.

    Args:
        decision: what is asked.
        reasoning: whether the answer is to say why.
        blank: leave out all that the text tells of the battle, the choices too: they name the own moves and the bench,
            so what is learned without them is only how often each answer is right.
    """
    return [
        {"role": "system", "content": SYSTEM_REASONING if reasoning else SYSTEM},
        {"role": "user", "content": BLANK if blank else user_text(decision)},
    ]


def user_text(decision: Decision) -> str:
    """What the player knows, a line for each thing."""
    from gemma_metamon.language.telling.matchups import (
        Matchups,  # needs poke-env's tables, and training on texts does not
    )

    state = decision.state
    matchups = Matchups(state, asleep=any(pokemon.status == "slp" for pokemon in decision.seen))
    lines = [
        f"{state.format}, foe has {state.opponents_remaining} left",
        *_surroundings(state),
        f"You: {', '.join([*_active(state.player_active_pokemon), *_prospects(matchups)])}",
        f"Foe: {', '.join(_active(state.opponent_active_pokemon))}{_known_moves(state.opponent_active_pokemon)}",
        *_rest_of_foe(decision),
        *_past(decision),
        "Choices:",
        *_choices(decision, matchups),
    ]
    return "\n".join(lines)


def _surroundings(state: BattleState) -> list[str]:
    own, foes = state.player_conditions, state.opponent_conditions
    there = [
        *([display_name(state.weather)] if state.weather != "noweather" else []),
        *([display_name(state.battle_field)] if state.battle_field != "nofield" else []),
        *([f"{display_name(own)} on your side"] if own != "noconditions" else []),
        *([f"{display_name(foes)} on foe's side"] if foes != "noconditions" else []),
    ]
    return [", ".join(there)] if there else []


def _active(pokemon: PokemonState) -> list[str]:
    """A Pokémon on the field: what it is, and how it is."""
    if pokemon.hp_pct <= 0:
        return [_standing(pokemon)]
    boosts = [f"{stat}{stage:+d}" for name, stat in BOOSTS.items() if (stage := getattr(pokemon, f"{name}_boost"))]
    tera = [f"Tera {display_name(pokemon.tera_type)}"] if pokemon.tera_type != "notype" else []
    effect = [display_name(pokemon.effect)] if pokemon.effect not in NOTHING else []
    return [_standing(pokemon), *_carried(pokemon), *tera, *boosts, *effect]


def _prospects(matchups: "Matchups") -> list[str]:
    """What is to be expected of the two on the field: who is faster, what the foe's best attack takes, how it ends."""
    told = [] if matchups.is_faster is None else ["faster" if matchups.is_faster else "slower"]
    if (suffers := matchups.suffers) is not None:
        told.append(f"hit for {_damage_text(suffers)}")
    return told if matchups.present is None else [*told, _ending_text(matchups.present)]


def _ending_text(ending: "Ending") -> str:
    """How a duel ends for the player's Pokémon, and at what price."""
    if ending.wins is None:
        return "neither falls"
    if ending.wins:
        return f"wins losing {_damage_text(ending.loses)}"
    return f"falls taking {_damage_text(ending.takes)}"


def _damage_text(share: float) -> str:
    return f"{5 * round(20 * share)}%"


def _standing(pokemon: PokemonState) -> str:
    """Name, HP and status."""
    level = f" L{pokemon.lvl}" if pokemon.lvl != 100 else ""
    if pokemon.hp_pct <= 0:
        return f"{display_name(pokemon.name)}{level} fainted"
    status = f" {display_name(pokemon.status)}" if pokemon.status not in NOTHING else ""
    return f"{display_name(pokemon.name)}{level} {_hp_text(pokemon.hp_pct)}{status}"


def _hp_text(share: float) -> str:
    return f"{5 * math.ceil(20 * share - 1e-9)}%"


def percent(share: float) -> str:
    """Of HP or chances: whole percents, and at least one where any are left."""
    return f"{max(1, round(100 * share))}%" if share > 0 else "0%"


def types_text(pokemon: PokemonState) -> str:
    """As in "Grass/Psychic"."""
    return "/".join(display_name(word) for word in pokemon.types.split() if word != "notype")


def _carried(pokemon: PokemonState) -> list[str]:
    return [display_name(word) for word in (pokemon.item, pokemon.ability) if word not in NOTHING]


def _known_moves(pokemon: PokemonState) -> str:
    moves = [display_name(move.name) for move in pokemon.known_moves]
    return f"; knows {', '.join(moves)}" if moves else ""


def unseen_of(decision: Decision) -> list[str]:
    """Of the opponent's previewed Pokémon those that were not on the field yet, by species word."""
    met = {decision.state.opponent_active_pokemon.base_species, *(pokemon.base_species for pokemon in decision.seen)}
    return [word for word in decision.state.opponent_teampreview if word not in met]


def _rest_of_foe(decision: Decision) -> list[str]:
    """The opponent's other Pokémon: those seen as they were last, unless they fainted; the previewed by name."""
    left = [_standing(pokemon) for pokemon in decision.seen if pokemon.hp_pct > 0]
    team = [*left, *map(display_name, unseen_of(decision))]
    return [f"Foe's bench: {', '.join(team)}"] if team else []


def _past(decision: Decision) -> list[str]:
    states = [*(past.state for past in decision.history), decision.state]
    return [_past_line(past, then) for past, then in zip(decision.history, states[1:], strict=True)]


def _past_line(past: Past, then: BattleState) -> str:
    """What was chosen, and what the opponent did as far as the next state shows it."""
    mine, foe, foe_then = (
        past.state.player_active_pokemon,
        past.state.opponent_active_pokemon,
        then.opponent_active_pokemon,
    )
    done = [past.choice] if past.choice else []
    if foe_then.name != foe.name:
        done.append(f"foe to {display_name(foe_then.name)}")
    elif _was_used(then.opponent_prev_move, past.state, then):
        done.append(f"foe {display_name(then.opponent_prev_move.name)}")
    return f"Turn {past.turn}: {_standing(mine)} v {_standing(foe)}: {', '.join(done)}"


def _was_used(move: MoveState, before: BattleState, then: BattleState) -> bool:
    """Whether the opponent's last move is of this turn: another than before, or with fewer PP than it had."""
    if move.name == "nomove":
        return False
    if move.name != before.opponent_prev_move.name:
        return True
    had = {known.name: known.current_pp for known in before.opponent_active_pokemon.moves}
    has = {known.name: known.current_pp for known in then.opponent_active_pokemon.moves}
    return move.name in has and has[move.name] < had.get(move.name, has[move.name])


def _choices(decision: Decision, matchups: "Matchups") -> list[str]:
    state, choices = decision.state, decision.choices
    moves, bench = state.player_active_pokemon.known_moves, state.switches
    own = {  # those that Recharge, Struggle and Fight do not stand for
        action: moves[action]
        for action, choice in choices.items()
        if action < len(moves) and choice.startswith(f"move {display_name(moves[action].name)}")
    }
    strongest = matchups.strongest([move.name for move in own.values()])
    entering = {action: bench[action - FIRST_SWITCH] for action in choices if FIRST_SWITCH <= action < FIRST_TERA}
    best = matchups.best(entering)
    lines = []
    for action, choice in choices.items():
        if action >= FIRST_TERA:
            continue
        facts = []
        if action in entering:
            facts = _bench_facts(entering[action], matchups, best=action == best)
        elif action in own:
            facts = _move_facts(own[action], matchups, strongest=own[action].name == strongest)
        lines.append(f"{choice}: {', '.join(facts)}" if facts else choice)
    if any(action >= FIRST_TERA for action in choices):
        lines.append(f'a move may end in "{TERASTALLIZE}"')
    return lines


def _move_facts(move: MoveState, matchups: "Matchups", *, strongest: bool) -> list[str]:
    """What a move would do, as far as that can be reckoned, and what is special about it."""
    hit = matchups.hit(move.name)
    told = ["strongest"] if strongest else []
    if hit is not None:
        told.append("knocks out" if hit.knocks_out else f"takes {_damage_text(hit.taken)}")
    elif (inflicts := matchups.inflicts(move.name)) is not None:
        status, lands = inflicts
        told.append(_AFFLICTS[status.name] if lands else "no effect")
    elif move.base_power > 1:  # 0 and 1 stand for none, or one of its own rule
        told.append(f"{display_name(move.move_type)} {move.base_power}")
    if 0 < move.accuracy < 1:
        told.append(f"hits {percent(move.accuracy)}")
    if move.priority:
        told.append(f"priority {move.priority:+d}")
    told += matchups.side_effects(move.name)
    return [*told, f"{max(0, move.current_pp)} PP"] if move.current_pp <= _FEW_PP else told


def _bench_facts(pokemon: PokemonState, matchups: "Matchups", *, best: bool) -> list[str]:
    """How a Pokémon is, where it is not as when it began, and how it would fare."""
    told = ["best"] if best else []
    hp = [_hp_text(pokemon.hp_pct)] if pokemon.hp_pct < 1 else []
    status = [display_name(pokemon.status)] if pokemon.status not in NOTHING else []
    ending = matchups.entry(pokemon)
    return [*told, *hp, *status, *_carried(pokemon), *([] if ending is None else [_ending_text(ending)])]
