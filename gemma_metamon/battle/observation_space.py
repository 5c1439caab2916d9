"""What every observation space has, and the pieces that they share. Fillers, order and rounding are metamon's."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.state import TEAM_SIZE, BattleState, MoveState, PokemonState

BLANK = "<blank>"
MISSING_NUMBER = -2.0
HIDDEN_TERA: Final = "notype"
"""In place of a tera type that a space hides."""
# variants of a format's rules that play alike and are shown as the format
SHOWN_FORMATS: Final = {"gen1oulongtimer": "gen1ou", "gen9oulongtimer": "gen9ou"}


@dataclass
class OpponentMemory:
    """What was seen of the opponent so far in the battle.

    Attributes:
        revealed: the species that were active.
        any_asleep: whether one of them was asleep.
        any_frozen: whether one of them was frozen.
    """

    revealed: set[str] = field(default_factory=set)
    any_asleep: bool = False
    any_frozen: bool = False

    def update(self, state: BattleState) -> None:
        """Adds what the next state of the battle shows."""
        opponent = state.opponent_active_pokemon
        self.revealed.add(opponent.base_species)
        self.any_asleep |= opponent.status == "slp"
        self.any_frozen |= opponent.status == "frz"


@dataclass(frozen=True, kw_only=True)
class ObservationSpace(ABC):
    """Words and numbers of a state. `observe` is for play, `observe_battle` for a whole recorded battle.

    Attributes:
        name: metamon's name of the space.
        word_keys: what metamon calls the arrays that a turn's words come in, which follow each other in a turn.
        number_keys: the same of the numbers.
    """

    name: str
    word_keys: ClassVar[tuple[str, ...]]
    number_keys: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def entities(self) -> Mapping[str, int]:
        """The entities (Pokémon, moves, the field, ...) that a turn describes, in order: name -> number of words."""

    @property
    def n_words(self) -> int:
        """How many words a turn has."""
        return sum(self.entities.values())

    @property
    @abstractmethod
    def n_numbers(self) -> int:
        """How many numbers a turn has."""

    def observe(self, state: BattleState, memory: OpponentMemory) -> tuple[list[str], npt.NDArray[np.float32]]:
        """The n_words words and n_numbers numbers of a state.

        Args:
            state: the battle's next one; each is to be observed once, in order.
            memory: of the states before. The state is added to it.
        """
        memory.update(state)
        return self._words(state, memory), np.array(self._numbers(state, memory), dtype=np.float32)

    def observe_battle(self, states: Sequence[BattleState]) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float32]]:
        """(T, n_words) words and (T, n_numbers) numbers of a battle's T states."""
        memory = OpponentMemory()
        observed = [self.observe(state, memory) for state in states]
        return np.array([words for words, _ in observed]), np.stack([numbers for _, numbers in observed])

    @abstractmethod
    def _words(self, state: BattleState, memory: OpponentMemory) -> list[str]: ...

    @abstractmethod
    def _numbers(self, state: BattleState, memory: OpponentMemory) -> list[float]: ...


def format_word(state: BattleState) -> str:
    """The tag of a battle's format."""
    battle_format = state.format.lower()
    return f"<{SHOWN_FORMATS.get(battle_format, battle_format)}>"


def choice_word(state: BattleState) -> str:
    """The tag that says whether a Pokémon has to be switched in."""
    return "<forcedswitch>" if state.forced_switch else "<anychoice>"


def stats_of(pokemon: PokemonState) -> list[float]:
    """hp, level and the six base stats."""
    base_stats = (
        pokemon.base_atk,
        pokemon.base_spa,
        pokemon.base_def,
        pokemon.base_spd,
        pokemon.base_spe,
        pokemon.base_hp,
    )
    return [pokemon.hp_pct, pokemon.lvl / 100, *(stat / 255 for stat in base_stats)]


def boosts_of(pokemon: PokemonState) -> list[float]:
    """The seven boosts, -1 to 1."""
    boosts = (
        pokemon.atk_boost,
        pokemon.spa_boost,
        pokemon.def_boost,
        pokemon.spd_boost,
        pokemon.spe_boost,
        pokemon.accuracy_boost,
        pokemon.evasion_boost,
    )
    return [boost / 6 for boost in boosts]


def strength_of(move: MoveState) -> list[float]:
    """Base power, accuracy and priority, scaled as metamon does."""
    return [move.base_power / 200, move.accuracy, move.priority / 5]


def pp_level(move: MoveState) -> float:
    """0 to 3: used up, below a quarter, below a half, more. Replays give no exact count."""
    left = move.current_pp / move.max_pp if move.max_pp else 0.0
    return float((left >= 0.5) + (left >= 0.25) + (left > 0))


def filled_words(words: Sequence[str]) -> list[str]:
    """The words of at most six Pokémon, filled up with blanks to six."""
    return [*words[:TEAM_SIZE], *[BLANK] * (TEAM_SIZE - len(words))]


def filled(items: Sequence[MoveState] | Sequence[PokemonState], length: int) -> list:  # type: ignore[type-arg]
    """The moves or Pokémon, filled up with None to a length."""
    return [*items, *[None] * (length - len(items))]
