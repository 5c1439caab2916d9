"""Forks for whoever decides: from a seat's own battle, a guess at what it does not know, and a seed."""

import random
from collections.abc import Sequence
from dataclasses import replace

from poke_env.battle import Battle

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.arena.hidden import HiddenPokemon
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.live.seen import SeenPokemon, SeenSide, revealed, seen_side
from gemma_metamon.showdown.matches.samplers import PackedSet, Sampler, contradiction, unpack_team


def fork_for(arena: Arena, battle: Battle, copy: str, *, sampler: Sampler, seed: int) -> list[HiddenPokemon]:
    """Begins a fork of a seat's battle in which the other side's team is a guess, and gives that guess.

    What is in the fork depends on what the seat has been told, on the sampler and on the seed alone: two battles that
    look the same to the seat give the same fork. The fork's first news are in the arena's next `receive`: a request for
    each seat.

    Args:
        arena: where the battle is in play, under poke-env's name for it (`battle.battle_tag`).
        battle: the seat's own, as `ArenaSeat.battle` or `LiveBattle.battle` has it.
        copy: the fork's name.
        sampler: guesses the team.
        seed: of the guess, and of all that the fork draws.

    Raises ConfigError where the battle is over, or the sampler's team is not the one that was seen.
    """
    if battle.finished:
        raise ConfigError(f"{battle.battle_tag} is over; only a battle in play can be forked")
    hidden = sample_hidden(seen_side(battle), sampler, dice(seed, "hidden team"))
    seat = str(battle.player_role)
    arena.fork(battle.battle_tag, copy, seat=seat, seed=simulator_seed(seed, "fork"), hidden=hidden)
    return hidden


def sample_hidden(seen: SeenSide, sampler: Sampler, draws: random.Random) -> list[HiddenPokemon]:
    """A sampler's team with what was seen of it, as `Arena.fork` wants it; raises as `hidden_team`."""
    return hidden_team(seen, sampler.sample(seen, draws))


def hidden_team(seen: SeenSide, sets: Sequence[str]) -> list[HiddenPokemon]:
    """What `Arena.fork` wants of a guessed team: the sets, each with what was seen of it.

    Args:
        seen: what the seat was told.
        sets: packed, as a `Sampler` gives them.

    Raises ConfigError, in one sentence, for too few or too many sets, or one that contradicts what was seen; DataError
    for what is no packed set.
    """
    if len(sets) != seen.team_size:
        raise ConfigError(f"the sampler gives {len(sets)} Pokémon for a team of {seen.team_size}; give all of them")
    shown = list(revealed(seen))
    hidden = []
    for i, packed in enumerate(sets):
        (pokemon,) = unpack_team(packed, seen.gen)
        if i < len(shown):
            trouble = contradiction(pokemon, shown[i], seen.gen)
            if trouble is not None:
                raise ConfigError(f"the sampler's set for {shown[i].ident} {trouble}")
            hidden.append(_seen_as(pokemon, shown[i]))
        else:
            hidden.append(HiddenPokemon(packed=pokemon.pack()))
    return hidden


def _seen_as(pokemon: PackedSet, seen: SeenPokemon) -> HiddenPokemon:
    named = replace(
        pokemon,
        name=seen.ident.partition(": ")[2],
        gender=seen.gender or "N",
        level=str(seen.level),
        shiny="S" if seen.shiny else "",
    )
    return HiddenPokemon(
        packed=named.pack(),
        ident=seen.ident,
        condition=seen.condition,
        item=seen.item,
        ability=seen.ability,
        uses=seen.uses,
    )
