"""A decision of a battle as a chat: what a player knows of it, in as few words as may be, and what may be chosen.

Every token is paid for in training and in play, so each fact is said once: a move's facts stand behind the choice of
it, what is as usual (full accuracy, level 100, no item known, no weather) is not said, and the rules stand in the
system's text, which is the same at every decision. The text holds nothing that the player cannot know, and follows
from the decision alone.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.state import BattleState, MoveState, PokemonState
from gemma_metamon.language.answers import TERASTALLIZE
from gemma_metamon.text.vocabulary import load_display_names

HISTORY: Final = 2
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
        seen: the opponent's Pokémon that were on the field before, as they were last seen; not the one there now.
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
        self._turn += not state.forced_switch or self._turn == 0
        self._now = Past(state=state, turn=self._turn, choice="")
        foe = state.opponent_active_pokemon
        self._seen[foe.base_species] = foe
        seen = tuple(pokemon for species, pokemon in self._seen.items() if species != foe.base_species)
        return Decision(state=state, choices=choices, turn=self._turn, history=tuple(self._history), seen=seen)

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
    state = decision.state
    lines = [
        f"{state.format} turn {decision.turn}, foe has {state.opponents_remaining} left",
        *_surroundings(state),
        f"You: {_active(state.player_active_pokemon)}",
        f"Foe: {_active(state.opponent_active_pokemon)}{_known_moves(state.opponent_active_pokemon)}",
        *_rest_of_foe(decision),
        *_past(decision),
        "Choices:",
        *_choices(decision),
    ]
    return "\n".join(lines)


def _surroundings(state: BattleState) -> list[str]:
    there = [
        *([_name(state.weather)] if state.weather != "noweather" else []),
        *([_name(state.battle_field)] if state.battle_field != "nofield" else []),
        *([f"{_name(state.player_conditions)} on your side"] if state.player_conditions != "noconditions" else []),
        *([f"{_name(state.opponent_conditions)} on foe's side"] if state.opponent_conditions != "noconditions" else []),
    ]
    return [", ".join(there)] if there else []


def _active(pokemon: PokemonState) -> str:
    """A Pokémon on the field: what it is, and how it is."""
    if pokemon.hp_pct <= 0:
        return _standing(pokemon)
    boosts = [f"{stat}{stage:+d}" for name, stat in BOOSTS.items() if (stage := getattr(pokemon, f"{name}_boost"))]
    tera = [f"Tera {_name(pokemon.tera_type)}"] if pokemon.tera_type != "notype" else []
    effect = [_name(pokemon.effect)] if pokemon.effect not in NOTHING else []
    return ", ".join([_standing(pokemon), types_text(pokemon), *_carried(pokemon), *tera, *boosts, *effect])


def _standing(pokemon: PokemonState) -> str:
    """Name, HP and status."""
    level = f" L{pokemon.lvl}" if pokemon.lvl != 100 else ""
    if pokemon.hp_pct <= 0:
        return f"{_name(pokemon.name)}{level} fainted"
    status = f" {_name(pokemon.status)}" if pokemon.status not in NOTHING else ""
    return f"{_name(pokemon.name)}{level} {percent(pokemon.hp_pct)}{status}"


def percent(share: float) -> str:
    """Of HP: whole percents, and at least one where any are left."""
    return f"{max(1, round(100 * share))}%" if share > 0 else "0%"


def types_text(pokemon: PokemonState) -> str:
    """As in "Grass/Psychic"."""
    return "/".join(_name(word) for word in pokemon.types.split() if word != "notype")


def _carried(pokemon: PokemonState) -> list[str]:
    return [_name(word) for word in (pokemon.item, pokemon.ability) if word not in NOTHING]


def _known_moves(pokemon: PokemonState) -> str:
    moves = [_name(move.name) for move in pokemon.known_moves]
    return f"; knows {', '.join(moves)}" if moves else ""


def unseen_of(decision: Decision) -> list[str]:
    """Of the opponent's previewed Pokémon those that were not on the field yet, by species word."""
    met = {decision.state.opponent_active_pokemon.base_species, *(pokemon.base_species for pokemon in decision.seen)}
    return [word for word in decision.state.opponent_teampreview if word not in met]


def _rest_of_foe(decision: Decision) -> list[str]:
    """The opponent's other Pokémon: those seen as they were last, the previewed ones that were not by name."""
    team = [*map(_standing, decision.seen), *map(_name, unseen_of(decision))]
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
        done.append(f"foe to {_name(foe_then.name)}")
    elif _was_used(then.opponent_prev_move, past.state, then):
        done.append(f"foe {_name(then.opponent_prev_move.name)}")
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


def _choices(decision: Decision) -> list[str]:
    state, choices = decision.state, decision.choices
    moves, bench = state.player_active_pokemon.known_moves, state.switches
    lines = []
    for action, choice in choices.items():
        if action >= FIRST_TERA:
            continue
        if action >= FIRST_SWITCH:
            lines.append(f"{choice}: {_bench_facts(bench[action - FIRST_SWITCH])}")
        elif action < len(moves) and choice.startswith(f"move {_name(moves[action].name)}"):
            lines.append(f"{choice}: {_move_facts(moves[action])}")
        else:  # Recharge, Struggle
            lines.append(choice)
    if any(action >= FIRST_TERA for action in choices):
        lines.append(f'a move may end in "{TERASTALLIZE}"')
    return lines


def _move_facts(move: MoveState) -> str:
    power = f" {move.base_power}" if move.base_power > 1 else ""  # 0 and 1 stand for none, or one of its own rule
    accuracy = [f"hits {percent(move.accuracy)}"] if 0 < move.accuracy < 1 else []
    priority = [f"priority {move.priority:+d}"] if move.priority else []
    kind = f"{_name(move.move_type)} {_name(move.category)}{power}"
    return ", ".join([kind, *accuracy, *priority, f"{max(0, move.current_pp)} PP"])


def _bench_facts(pokemon: PokemonState) -> str:
    status = [_name(pokemon.status)] if pokemon.status not in NOTHING else []
    facts = [percent(pokemon.hp_pct), *status, *_carried(pokemon)]
    moves = [_name(move.name) for move in pokemon.known_moves]
    return ", ".join(facts) + (f"; {', '.join(moves)}" if moves else "")


def _name(word: str) -> str:
    return load_display_names().get(word, word)
