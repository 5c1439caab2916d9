"""What an agent sees of a state: words in fixed slots, and numbers. Order, fillers and rounding are metamon's.

A timestep is `n_words` words (a word is a Showdown id or a `<tag>`) and `n_numbers` float32 numbers. Four spaces, each
with more than the one before it: Default, Expanded (tera types, PP, revealed opponents), TeamPreview (the opponent's
previewed team) and OpponentMove (the opponent's known moves in place of move categories).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.state import MAX_MOVES, MAX_SWITCHES, TEAM_SIZE, BattleState, MoveState, PokemonState
from gemma_metamon.errors import ConfigError

BLANK = "<blank>"
MISSING_NUMBER = -2.0


@dataclass
class OpponentMemory:
    """What was seen of the opponent earlier in the battle: which species were active, and any asleep or frozen."""

    revealed: set[str] = field(default_factory=set)
    any_asleep: bool = False
    any_frozen: bool = False

    def update(self, state: BattleState) -> None:
        opponent = state.opponent_active_pokemon
        self.revealed.add(opponent.base_species)
        self.any_asleep |= opponent.status == "slp"
        self.any_frozen |= opponent.status == "frz"


@dataclass(frozen=True, kw_only=True)
class ObservationSpace:
    """Words and numbers of a state. `observe` is for play, `observe_battle` for a whole recorded battle.

    Attributes:
        name: metamon's name of the space.
        expanded: tera types, PP levels, revealed opponents, sleep and freeze of the opponent, can_tera.
        team_preview: the six species of the opponent's preview.
        opponent_moves: the opponent's four known moves, and no categories of the player's moves.
    """

    name: str
    expanded: bool = False
    team_preview: bool = False
    opponent_moves: bool = False

    @property
    def n_words(self) -> int:
        tera = 7 if self.expanded else 0
        revealed = TEAM_SIZE if self.expanded else 0
        preview = TEAM_SIZE if self.team_preview else 0
        return 87 + tera + revealed + preview

    @property
    def n_numbers(self) -> int:
        return 55 if self.expanded else 48

    def observe(self, state: BattleState, memory: OpponentMemory) -> tuple[list[str], npt.NDArray[np.float32]]:
        """n_words words and n_numbers numbers of one state, which `memory` then includes. Once per state, in order."""
        memory.update(state)
        return self._words(state, memory), np.array(self._numbers(state, memory), dtype=np.float32)

    def observe_battle(self, states: Sequence[BattleState]) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float32]]:
        """(T, n_words) words and (T, n_numbers) numbers of a battle's T states."""
        memory = OpponentMemory()
        observed = [self.observe(state, memory) for state in states]
        return np.array([words for words, _ in observed]), np.stack([numbers for _, numbers in observed])

    def _words(self, state: BattleState, memory: OpponentMemory) -> list[str]:
        player, opponent = state.player_active_pokemon, state.opponent_active_pokemon
        words = [f"<{state.format}>", "<forcedswitch>" if state.forced_switch else "<anychoice>"]
        words += ["<player>", *self._active_words(player)]
        for move in _filled(player.known_moves, MAX_MOVES):
            words += ["<move>", *self._move_words(move)]
        for pokemon in _filled(state.switches, MAX_SWITCHES):
            words += ["<switch>", *self._bench_words(pokemon)]
        words += ["<opponent>", *self._active_words(opponent)]
        if self.opponent_moves:
            words += [move.name if move else BLANK for move in _filled(opponent.known_moves, MAX_MOVES)]
        words += ["<conditions>", state.weather, state.player_conditions, state.opponent_conditions]
        words += ["<player_prev>", state.player_prev_move.name, "<opp_prev>", state.opponent_prev_move.name]
        if self.expanded:
            words += _filled_words(sorted(memory.revealed))
        if self.team_preview:
            words += _filled_words(sorted(state.opponent_teampreview))
        return words

    def _active_words(self, pokemon: PokemonState) -> list[str]:
        words = [pokemon.name, pokemon.item, pokemon.ability, *pokemon.types.split(" "), pokemon.effect, pokemon.status]
        return [*words, pokemon.tera_type] if self.expanded else words

    def _move_words(self, move: MoveState | None) -> list[str]:
        if move is None:
            return [BLANK] * (2 if self.opponent_moves else 3)
        return [move.name, move.move_type] if self.opponent_moves else [move.name, move.move_type, move.category]

    def _bench_words(self, pokemon: PokemonState | None) -> list[str]:
        if pokemon is None:
            return [BLANK] * (9 if self.expanded else 8)
        words = [pokemon.name, pokemon.item, pokemon.ability, "<moveset>"]
        words += [move.name if move else BLANK for move in _filled(pokemon.known_moves, MAX_MOVES)]
        return [*words, pokemon.tera_type] if self.expanded else words

    def _numbers(self, state: BattleState, memory: OpponentMemory) -> list[float]:
        player, opponent = state.player_active_pokemon, state.opponent_active_pokemon
        numbers = [state.opponents_remaining / TEAM_SIZE, *_active_numbers(player)]
        for move in _filled(player.known_moves, MAX_MOVES):
            numbers += self._move_numbers(move)
        numbers += [pokemon.hp_pct if pokemon else MISSING_NUMBER for pokemon in _filled(state.switches, MAX_SWITCHES)]
        numbers += _active_numbers(opponent)
        if self.expanded:
            numbers += [float(memory.any_asleep), float(memory.any_frozen), float(state.can_tera)]
        return numbers

    def _move_numbers(self, move: MoveState | None) -> list[float]:
        if move is None:
            return [MISSING_NUMBER] * (4 if self.expanded else 3)
        numbers = [move.base_power / 200, move.accuracy, move.priority / 5]
        if not self.expanded:
            return numbers
        left = move.current_pp / move.max_pp if move.max_pp else 0.0
        return [*numbers, float((left >= 0.5) + (left >= 0.25) + (left > 0))]


def _active_numbers(pokemon: PokemonState) -> list[float]:
    base_stats = (
        pokemon.base_atk,
        pokemon.base_spa,
        pokemon.base_def,
        pokemon.base_spd,
        pokemon.base_spe,
        pokemon.base_hp,
    )
    boosts = (
        pokemon.atk_boost,
        pokemon.spa_boost,
        pokemon.def_boost,
        pokemon.spd_boost,
        pokemon.spe_boost,
        pokemon.accuracy_boost,
        pokemon.evasion_boost,
    )
    return [pokemon.hp_pct, pokemon.lvl / 100, *(stat / 255 for stat in base_stats), *(boost / 6 for boost in boosts)]


def _filled_words(words: Sequence[str]) -> list[str]:
    return [*words[:TEAM_SIZE], *[BLANK] * (TEAM_SIZE - len(words))]


def _filled(items: Sequence[MoveState] | Sequence[PokemonState], length: int) -> list:  # type: ignore[type-arg]
    return [*items, *[None] * (length - len(items))]


OBSERVATION_SPACES = {
    space.name: space
    for space in (
        ObservationSpace(name="DefaultObservationSpace"),
        ObservationSpace(name="ExpandedObservationSpace", expanded=True),
        ObservationSpace(name="TeamPreviewObservationSpace", expanded=True, team_preview=True),
        ObservationSpace(name="OpponentMoveObservationSpace", expanded=True, team_preview=True, opponent_moves=True),
    )
}


def get_observation_space(name: str) -> ObservationSpace:
    """Raises ConfigError with the known names where there is no such space."""
    if name not in OBSERVATION_SPACES:
        raise ConfigError(f"unknown observation space {name!r}; choose one of {', '.join(OBSERVATION_SPACES)}")
    return OBSERVATION_SPACES[name]
