"""Guesses at a team of which a part was seen: what a fork puts in the place of the part that was not."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from poke_env.data import GenData, to_id_str

from gemma_metamon.battle.state import MAX_MOVES
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.showdown.live.seen import SeenPokemon, SeenSide, revealed


class Sampler(Protocol):
    """Guesses the other side's team."""

    def sample(self, seen: SeenSide, dice: random.Random) -> list[str]:
        """A whole team that agrees with what was seen: `seen.team_size` packed sets.

        Those of `revealed(seen)` come first, in that order; then the ones that were not on the field. Whatever is drawn
        is drawn with `dice` alone, so that the same `seen` and dice give the same team.
        """


@dataclass(frozen=True, kw_only=True)
class PackedSet:
    """A Pokémon's set, as Showdown packs it, cut into its fields; ids where Showdown compares ids.

    Attributes:
        name: nickname, or empty.
        species: an id.
        item: an id, or "".
        ability: an id; "" in generations without.
        moves: ids.
        nature, evs, gender, ivs, shiny, level, misc: as they were packed. misc is happiness, type of Hidden Power,
            ball, Gigantamax, Dynamax level and tera type, with commas between.
    """

    name: str
    species: str
    item: str
    ability: str
    moves: tuple[str, ...]
    nature: str = ""
    evs: str = ""
    gender: str = ""
    ivs: str = ""
    shiny: str = ""
    level: str = ""
    misc: str = ""

    @property
    def tera_type(self) -> str:
        """As packed; empty where nothing is said."""
        return (self.misc.split(",") + [""] * 6)[5]

    def with_tera(self, tera_type: str) -> "PackedSet":
        """The same set with that tera type."""
        fields = (self.misc.split(",") + [""] * 6)[:5]
        return replace(self, misc=",".join([*fields, tera_type]))

    def pack(self) -> str:
        """The line that Showdown reads."""
        moves = ",".join(self.moves)
        fields = (self.name, self.species, self.item, self.ability, moves, self.nature, self.evs, self.gender)
        return "|".join((*fields, self.ivs, self.shiny, self.level, self.misc))


def unpack_team(team: str, gen: int) -> list[PackedSet]:
    """The sets of a packed team. Raises DataError for a line that breaks off."""
    pokedex = GenData.from_gen(gen).pokedex
    sets, at = [], 0
    while at <= len(team):
        fields = team[at:].split("|", 11)
        if len(fields) < 12:
            raise DataError(f"{team!r} is no packed team: a Pokémon has 12 fields with `|` between")
        misc, _, _ = fields[11].partition("]")
        at += sum(len(field) + 1 for field in fields[:11]) + len(misc) + 1
        species = to_id_str(fields[1] or fields[0])
        abilities = pokedex.get(species, {}).get("abilities", {})
        ability = fields[3] if fields[3] not in ("", "0", "1", "H", "S") else abilities.get(fields[3] or "0", "")
        sets.append(
            PackedSet(
                name=fields[0],
                species=species,
                item=to_id_str(fields[2]),
                ability=to_id_str(ability) if gen > 2 else "",
                moves=tuple(to_id_str(move) for move in fields[4].split(",") if move),
                **dict(zip(("nature", "evs", "gender", "ivs", "shiny", "level"), fields[5:11], strict=True)),
                misc=misc,
            )
        )
    return sets


def contradiction(pokemon: PackedSet, seen: SeenPokemon, gen: int) -> str | None:
    """What a set has otherwise than it was seen, in words; None where it agrees."""
    if not same_species(pokemon.species, seen.species, gen):
        return f"is {pokemon.species}, and was seen as {seen.species}"
    lacking = [move for move in seen.uses if not any(_same_move(move, own) for own in pokemon.moves)]
    if lacking:
        return f"lacks {', '.join(lacking)}, which it was seen to use"
    if seen.first_item is not None and pokemon.item != seen.first_item:
        return f"has {pokemon.item or 'no item'}, and was seen with {seen.first_item or 'none'}"
    if gen > 2 and seen.first_ability is not None and pokemon.ability != seen.first_ability:
        return f"has {pokemon.ability}, and was seen with {seen.first_ability}"
    if seen.tera_type and pokemon.tera_type and pokemon.tera_type != seen.tera_type:
        return f"has tera type {pokemon.tera_type}, and was seen with {seen.tera_type}"
    return None


def same_species(species: str, seen: str, gen: int) -> bool:
    """Whether a set's species may have been seen as that one: the same, or one that becomes it in battle."""
    if species == seen:
        return True
    pokedex = GenData.from_gen(gen).pokedex
    entry = pokedex.get(seen, {})
    base = base_species(seen, gen)
    becomes = "battleOnly" in entry or "requiredItem" in entry or "requiredItems" in entry
    cosmetic = base_species(species, gen) == base and entry.get("name") == pokedex.get(species, {}).get("name")
    return cosmetic or (becomes and species == base)


def base_species(species: str, gen: int) -> str:
    """The id of the species that a forme belongs to; one that is no forme is its own."""
    return to_id_str(str(GenData.from_gen(gen).pokedex.get(species, {}).get("baseSpecies", species)))


class TeamSampler:
    """Draws among given teams; where none of them agrees with what was seen, puts one together from their sets.

    Then each Pokémon that was seen has a set of its species that agrees, or else what was seen of it and what is most
    common; the others are drawn from all sets, no species twice.

    Args:
        teams: packed, as `load_teams` or `random_teams` give them. Good enough for the simulator: nobody looks at them
            again before they play.
        battle_format: what they are for.

    Raises ConfigError for no teams, DataError for a line that is none.
    """

    def __init__(self, teams: Sequence[str], battle_format: str) -> None:
        if not teams:
            raise ConfigError("a sampler of no teams has nothing to draw from; give at least one team")
        self._gen = GenData.from_format(battle_format).gen
        self._teams = [unpack_team(team, self._gen) for team in dict.fromkeys(teams)]
        self._sets = [pokemon for team in self._teams for pokemon in team]
        self._seen: SeenSide | None = None
        self._fitting: list[list[PackedSet]] = []

    def sample(self, seen: SeenSide, dice: random.Random) -> list[str]:
        """See `Sampler`. Raises DataError where the teams have too few species for the Pokémon that were not seen."""
        if seen is not self._seen:  # a decision guesses many a time from the same
            self._seen = seen
            self._fitting = [order for team in self._teams if (order := self._order(team, seen)) is not None]
        team = dice.choice(self._fitting) if self._fitting else self._complete(seen, dice)
        return [pokemon.pack() for pokemon in team]

    def _agrees(self, pokemon: PackedSet, seen: SeenPokemon) -> bool:
        if seen.changes_moves and self._gen > 2 and pokemon.item.startswith("choice"):
            return False
        if seen.tera_type and pokemon.tera_type != seen.tera_type:
            return False
        return contradiction(pokemon, seen, self._gen) is None

    def _order(self, team: Sequence[PackedSet], seen: SeenSide) -> list[PackedSet] | None:
        """The team with those that were seen first; None where it does not agree."""
        if len(team) != seen.team_size:
            return None
        left, first = list(team), []
        for shown in revealed(seen):
            same = next((pokemon for pokemon in left if self._agrees(pokemon, shown)), None)
            if same is None or (same.level or "100") != str(shown.level):
                return None
            left.remove(same)
            first.append(same)
        unseen = list(seen.preview)
        for pokemon in team if unseen else ():
            name = next((name for name in unseen if self._previewed(pokemon, name)), None)
            if name is None:
                return None
            unseen.remove(name)
        return [*first, *left]

    def _previewed(self, pokemon: PackedSet, name: str) -> bool:
        known = pokemon.species, base_species(pokemon.species, self._gen)
        return name in known or same_species(pokemon.species, name, self._gen)

    def _complete(self, seen: SeenSide, dice: random.Random) -> list[PackedSet]:
        shown = list(revealed(seen))
        team = [self._fill(pokemon, dice) for pokemon in shown]
        taken = {base_species(pokemon.species, self._gen) for pokemon in team}
        if seen.preview:
            left = [name for name in seen.preview if base_species(name, self._gen) not in taken][
                : seen.team_size - len(team)
            ]
            team += [self._fill(SeenPokemon(ident="", species=name), dice) for name in left]
            taken = {base_species(pokemon.species, self._gen) for pokemon in team}
        while len(team) < seen.team_size:
            others = [pokemon for pokemon in self._sets if base_species(pokemon.species, self._gen) not in taken]
            if not others:
                raise DataError(
                    f"the sampler's teams have too few species to fill a team of {seen.team_size}; give more teams"
                )
            team.append(dice.choice(others))
            taken.add(base_species(team[-1].species, self._gen))
        return team

    def _fill(self, seen: SeenPokemon, dice: random.Random) -> PackedSet:
        """A set for a Pokémon that was seen, or announced."""
        same = [pokemon for pokemon in self._sets if same_species(pokemon.species, seen.species, self._gen)]
        agreeing = [pokemon for pokemon in same if self._agrees(pokemon, seen)]
        if agreeing:
            return dice.choice(agreeing)
        base = dice.choice(same) if same else self._nobody(seen.species)
        moves = list(seen.uses)
        for move in (*_common(pokemon.moves for pokemon in same), *_common(pokemon.moves for pokemon in self._sets)):
            if len(moves) < MAX_MOVES and not any(_same_move(shown, move) for shown in moves):
                moves.append(move)
        item = base.item if seen.first_item is None else seen.first_item
        if seen.changes_moves and seen.first_item is None and item.startswith("choice"):
            item = ""
        filled = replace(base, moves=tuple(moves), item=item)
        if seen.first_ability is not None and self._gen > 2:
            filled = replace(filled, ability=seen.first_ability)
        return filled.with_tera(seen.tera_type) if seen.tera_type else filled

    def _nobody(self, species: str) -> PackedSet:
        abilities = GenData.from_gen(self._gen).pokedex.get(species, {}).get("abilities", {})
        return PackedSet(
            name="",
            species=species,
            item="",
            ability=to_id_str(abilities.get("0", "")) if self._gen > 2 else "",
            moves=(),
            nature="Serious",
            evs="84,84,84,84,84,84" if self._gen > 2 else "",
        )


def _common(moves: Iterable[tuple[str, ...]]) -> list[str]:
    return [move for move, _ in Counter(move for each in moves for move in each).most_common(2 * MAX_MOVES)]


def _same_move(shown: str, own: str) -> bool:
    return shown == own or (shown == "hiddenpower" and own.startswith("hiddenpower"))
