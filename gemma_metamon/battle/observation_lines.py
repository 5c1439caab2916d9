"""A turn as one line of words, each kind of thing behind its tag, and one row of numbers.

A timestep is `n_words` words (a word is a Showdown id or a `<tag>`) and `n_numbers` float32 numbers. Four spaces, each
with more than the one before it: Default, Expanded (tera types, PP, revealed opponents), TeamPreview (the opponent's
previewed team) and OpponentMove (the opponent's known moves in place of move categories). The PAC spaces are the last
three without the player's own tera types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gemma_metamon.battle.observation_space import (
    BLANK,
    HIDDEN_TERA,
    MISSING_NUMBER,
    ObservationSpace,
    OpponentMemory,
    boosts_of,
    choice_word,
    filled,
    filled_words,
    format_word,
    pp_level,
    stats_of,
    strength_of,
)
from gemma_metamon.battle.state import MAX_MOVES, MAX_SWITCHES, TEAM_SIZE, BattleState, MoveState, PokemonState


@dataclass(frozen=True, kw_only=True)
class LineSpace(ObservationSpace):
    """The spaces of one line.

    Attributes:
        expanded: tera types, PP levels, revealed opponents, sleep and freeze of the opponent, can_tera.
        team_preview: the six species of the opponent's preview.
        opponent_moves: the opponent's four known moves, and no categories of the player's moves.
        hides_own_tera: "notype" in place of the tera type of each of the player's Pokémon. The opponent's is shown,
            and the numbers are those of the space without this: can_tera says what it says there.
    """

    word_keys: ClassVar[tuple[str, ...]] = ("text_tokens",)
    number_keys: ClassVar[tuple[str, ...]] = ("numbers",)

    expanded: bool = False
    team_preview: bool = False
    opponent_moves: bool = False
    hides_own_tera: bool = False

    @property
    def entities(self) -> Mapping[str, int]:
        """15 in the default space, up to 21."""
        active = 9 if self.expanded else 8  # the tag, name, item, ability, two types, effect, status; tera type
        move = 3 if self.opponent_moves else 4  # the tag, name, type; category
        bench = 10 if self.expanded else 9  # the tag, name, item, ability, <moveset>, four moves; tera type
        lengths = {"format": 2, "player": active}  # with the format: whether a switch is forced
        lengths |= {f"move {index}": move for index in range(1, MAX_MOVES + 1)}
        lengths |= {f"bench {index}": bench for index in range(1, MAX_SWITCHES + 1)}
        lengths["opponent"] = active
        if self.opponent_moves:
            lengths |= {f"opponent's move {index}": 1 for index in range(1, MAX_MOVES + 1)}
        lengths |= {"conditions": 4, "player's last move": 2, "opponent's last move": 2}
        if self.expanded:
            lengths["revealed"] = TEAM_SIZE
        if self.team_preview:
            lengths["preview"] = TEAM_SIZE
        return lengths

    @property
    def n_numbers(self) -> int:
        """48; with the PP of four moves, any asleep, any frozen and can_tera 55."""
        return 55 if self.expanded else 48

    def _words(self, state: BattleState, memory: OpponentMemory) -> list[str]:
        player, opponent = state.player_active_pokemon, state.opponent_active_pokemon
        words = [format_word(state), choice_word(state)]
        words += ["<player>", *self._active_words(player, self._own_tera(player))]
        for move in filled(player.known_moves, MAX_MOVES):
            words += ["<move>", *self._move_words(move)]
        for pokemon in filled(state.switches, MAX_SWITCHES):
            words += ["<switch>", *self._bench_words(pokemon)]
        words += ["<opponent>", *self._active_words(opponent, opponent.tera_type)]
        if self.opponent_moves:
            words += [move.name if move else BLANK for move in filled(opponent.known_moves, MAX_MOVES)]
        words += ["<conditions>", state.weather, state.player_conditions, state.opponent_conditions]
        words += ["<player_prev>", state.player_prev_move.name, "<opp_prev>", state.opponent_prev_move.name]
        if self.expanded:
            words += filled_words(sorted(memory.revealed))
        if self.team_preview:
            words += filled_words(sorted(state.opponent_teampreview))
        return words

    def _own_tera(self, pokemon: PokemonState) -> str:
        return HIDDEN_TERA if self.hides_own_tera else pokemon.tera_type

    def _active_words(self, pokemon: PokemonState, tera_type: str) -> list[str]:
        words = [pokemon.name, pokemon.item, pokemon.ability, *pokemon.types.split(" "), pokemon.effect, pokemon.status]
        return [*words, tera_type] if self.expanded else words

    def _move_words(self, move: MoveState | None) -> list[str]:
        if move is None:
            return [BLANK] * (2 if self.opponent_moves else 3)
        return [move.name, move.move_type] if self.opponent_moves else [move.name, move.move_type, move.category]

    def _bench_words(self, pokemon: PokemonState | None) -> list[str]:
        if pokemon is None:
            return [BLANK] * (9 if self.expanded else 8)
        words = [pokemon.name, pokemon.item, pokemon.ability, "<moveset>"]
        words += [move.name if move else BLANK for move in filled(pokemon.known_moves, MAX_MOVES)]
        return [*words, self._own_tera(pokemon)] if self.expanded else words

    def _numbers(self, state: BattleState, memory: OpponentMemory) -> list[float]:
        player, opponent = state.player_active_pokemon, state.opponent_active_pokemon
        numbers = [state.opponents_remaining / TEAM_SIZE, *stats_of(player), *boosts_of(player)]
        for move in filled(player.known_moves, MAX_MOVES):
            numbers += self._move_numbers(move)
        numbers += [pokemon.hp_pct if pokemon else MISSING_NUMBER for pokemon in filled(state.switches, MAX_SWITCHES)]
        numbers += [*stats_of(opponent), *boosts_of(opponent)]
        if self.expanded:
            numbers += [float(memory.any_asleep), float(memory.any_frozen), float(state.can_tera)]
        return numbers

    def _move_numbers(self, move: MoveState | None) -> list[float]:
        if move is None:
            return [MISSING_NUMBER] * (4 if self.expanded else 3)
        return [*strength_of(move), pp_level(move)] if self.expanded else strength_of(move)
