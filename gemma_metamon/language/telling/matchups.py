"""What a good player works out before choosing: what each move would do, who is faster, and how each duel would end.

It follows from what both players see: species, levels, HP, status, stages, screens and the moves shown. What they do
not see is taken as it is usual: training, and where fewer than four moves of the opponent's Pokémon are known, a good
attack of each of its types and a weaker one that nobody resists. Items and most abilities are left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from poke_env.battle import Move, PokemonType, Status, Target
from poke_env.data import GenData

from gemma_metamon.battle.state import MAX_MOVES, BattleState, PokemonState
from gemma_metamon.showdown.scripted.attacks import Attack, attack_of
from gemma_metamon.showdown.scripted.damage import hit_share
from gemma_metamon.showdown.scripted.duel import Weapon, duel_between, fight_out, status_lands, weapons_of, worth
from gemma_metamon.showdown.scripted.fighters import STATS, Fighter, turns_lost

_OLD_TRAINING, _USUAL_TRAINING = 93, 52
"""What is added to twice a base stat: all that there is in generations 1 and 2, later effort spread over all stats."""
_SPECIAL_TYPES: Final = frozenset({"FIRE", "WATER", "GRASS", "ELECTRIC", "ICE", "PSYCHIC", "DRAGON", "DARK"})
"""Until generation 3, where a type was either physical or special."""
_STAB_POWER, _OTHER_POWER = 90.0, 65.0
_STAT_NAMES: Final = {"atk": "Atk", "def": "Def", "spa": "SpA", "spd": "SpD", "spe": "Spe"}
_SCREENS: Final = {"reflect", "lightscreen"}


def generation(state: BattleState) -> int:
    """Of a battle, by its format's name; 9 where that does not tell."""
    found = re.match(r"gen([1-9])", state.format)
    return int(found[1]) if found else 9


@dataclass(frozen=True, slots=True)
class Hit:
    """What an attack would do to the opponent's Pokémon.

    Attributes:
        taken: share of its maximum HP, on average where it hits; may be more than it has left.
        turn: the same for each turn that it costs, misses counted, and no more than is left.
        knocks_out: whether it takes all that is left where it hits.
    """

    taken: float
    turn: float
    knocks_out: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a duel would end in which both only attack.

    Attributes:
        wins: whether the player's Pokémon is left; None where neither is beaten for long.
        loses: share of its maximum HP that the player's Pokémon loses.
        takes: share of its maximum HP that the opponent's loses.
    """

    wins: bool | None
    loses: float
    takes: float


class Matchups:
    """What can be worked out at one decision. Where a table lacks a Pokémon or a type, that is nothing.

    Args:
        state: at the decision.
        asleep: whether one of the opponent's Pokémon is known to sleep already.
    """

    def __init__(self, state: BattleState, *, asleep: bool = False) -> None:
        self.state, self.gen, self._asleep = state, generation(state), asleep
        self.foe = fighter_of(state.opponent_active_pokemon, self.gen, state.opponent_conditions)
        self.mine = fighter_of(state.player_active_pokemon, self.gen, state.player_conditions)

    def hit(self, move: str) -> Hit | None:
        """What a move of the player's Pokémon does; None for one that is no attack, or where there is nobody to hit."""
        attack = attack_of(move, self.gen)
        if attack is None or self.mine is None or self.foe is None or self.foe.hp <= 0:
            return None
        taken = hit_share(attack, self.mine, self.foe)
        knocks_out = taken >= self.foe.hp and not attack.charges
        lasting = 2 if attack.charges or (attack.recharges and not knocks_out) else 1
        return Hit(taken, attack.accuracy * min(taken, self.foe.hp) / lasting, knocks_out)

    def strongest(self, moves: Sequence[str]) -> str:
        """Of two or more attacks that can be repeated the one that is likeliest to knock out, or takes most in a turn.

        "" where there are not two, or none of them does anything.
        """
        rated = {}
        for move in moves:
            attack, hit = attack_of(move, self.gen), self.hit(move)
            if attack is not None and hit is not None and not attack.self_destruct:
                rated[move] = (attack.accuracy if hit.knocks_out else 0.0, hit.turn)
        best = max(rated, key=lambda move: rated[move], default="")
        return best if len(rated) > 1 and rated[best][1] > 0 else ""

    def inflicts(self, move: str) -> tuple[Status, bool] | None:
        """The status that a move is used for, and whether it can land; None for any other move."""
        known = move_of(move, self.gen)
        if known is None or known.status is None or self.foe is None or attack_of(move, self.gen) is not None:
            return None
        return known.status, status_lands(known, self.foe, sleep_clause=self._asleep)

    def side_effects(self, move: str) -> list[str]:
        """What else a move does to its user, in a word or two each: "heals", "you faint", "takes 2 turns", "Spe+2"."""
        known = move_of(move, self.gen)
        if known is None:
            return []
        attack = attack_of(move, self.gen)
        told = ["heals"] if known.heal or move == "rest" else []
        if attack is not None and attack.self_destruct:
            told.append("you faint")
        if attack is not None and (attack.charges or attack.recharges):
            told.append("two turns")
        stages = known.self_boost or (known.boosts if known.target == Target.SELF else None) or {}
        return told + [f"{_STAT_NAMES.get(stat, stat)}{stage:+d}" for stat, stage in stages.items()]

    @cached_property
    def present(self) -> Ending | None:
        """Of the two that are on the field; None where one of them is not, or nothing can be said."""
        if self.mine is None or self.mine.hp <= 0:
            return None
        return self._ending(self.mine, self.state.player_active_pokemon, entering=False)

    def entry(self, pokemon: PokemonState) -> Ending | None:
        """Of one that comes in from the bench, and is attacked first unless it replaces one that has fainted."""
        mine = fighter_of(pokemon, self.gen, self.state.player_conditions, entering=True)
        return None if mine is None else self._ending(mine, pokemon, entering=not self.state.forced_switch)

    def best(self, bench: Mapping[int, PokemonState]) -> int | None:
        """Whose coming in would end best: by what the opponent's Pokémon is worth less then, and the player's own.

        Args:
            bench: who may come in, by action; of equals the first is named.

        Returns:
            Its action; None where there are not two, or nothing can be said of them.
        """
        rated = {action: rating for action, pokemon in bench.items() if (rating := self._rate(pokemon)) is not None}
        return max(rated, key=lambda action: rated[action]) if len(rated) > 1 else None

    def _rate(self, pokemon: PokemonState) -> float | None:
        foe, ending = self.foe, self.entry(pokemon)
        mine = fighter_of(pokemon, self.gen, entering=True)
        if foe is None or ending is None or mine is None:
            return None
        gained = worth(foe.status, foe.hp) - worth(foe.status, foe.hp - ending.takes)
        return gained - worth(mine.status, mine.hp) + worth(mine.status, mine.hp - ending.loses)

    @cached_property
    def suffers(self) -> float | None:
        """The share of its maximum HP that the player's Pokémon loses by a turn of the opponent's best attack."""
        if self.mine is None or self.foe is None or min(self.mine.hp, self.foe.hp) <= 0:
            return None
        return duel_between(self.mine, (), self.foe, self._foe_weapons).their_rate

    @property
    def is_faster(self) -> bool | None:
        """Whether the player's Pokémon is faster than the opponent's; None where neither is, or nobody can tell."""
        if self.mine is None or self.foe is None or min(self.mine.hp, self.foe.hp) <= 0:
            return None
        return None if self.mine.speed == self.foe.speed else self.mine.speed > self.foe.speed

    def _ending(self, mine: Fighter, pokemon: PokemonState, *, entering: bool) -> Ending | None:
        foe = self.foe
        if foe is None or foe.hp <= 0:
            return None
        duel = duel_between(mine, weapons_of([m.name for m in pokemon.known_moves], self.gen), foe, self._foe_weapons)
        hp, idle = mine.hp, foe.idle
        if entering:
            hp, idle = max(0.0, hp - max(0.0, 1 - idle) * duel.their_rate), max(0.0, idle - 1)
        left, foe_left = fight_out(duel, hp, idle) if hp > 0 else (0.0, foe.hp)
        wins = True if foe_left <= 0 else False if left <= 0 else None
        return Ending(wins, mine.hp - left, foe.hp - foe_left)

    @cached_property
    def _foe_weapons(self) -> list[Weapon]:
        foe, known = self.foe, self.state.opponent_active_pokemon.known_moves
        shown = weapons_of([move.name for move in known], self.gen)
        return shown if foe is None or len(known) >= MAX_MOVES else [*shown, *_usual_weapons(foe)]


def fighter_of(pokemon: PokemonState, gen: int, conditions: str = "", *, entering: bool = False) -> Fighter | None:
    """A Pokémon with the training that is usual; None where tables lack it or a type, or it may have transformed.

    Args:
        pokemon: as its player or the opponent sees it.
        gen: of the battle.
        conditions: the word of its side's, which may be a screen.
        entering: it comes in from the bench, and so without stages.
    """
    base = _base_of(pokemon.name, pokemon.base_species, gen)
    types = tuple(type_of(word) for word in pokemon.types.split() if word != "notype")
    may_be_another = pokemon.base_species == "ditto" or any(move.name == "transform" for move in pokemon.moves)
    if base is None or not types or None in types or may_be_another:
        return None
    bases, born = base
    known = tuple(type_ for type_ in types if type_ is not None)
    level, status = pokemon.lvl, Status.__members__.get(pokemon.status.upper())
    stages = {} if entering else {name: stage for name in STATS if (stage := getattr(pokemon, f"{name}_boost"))}
    words = {conditions} if entering else {conditions, pokemon.effect}
    return Fighter(
        gen=gen,
        level=level,
        types=known,
        stab_types=(*born, *(known if known == (type_of(pokemon.tera_type),) else ())),
        max_hp=_trained(bases["hp"], level, gen) + level + 10,
        stats={name: _trained(bases[name], level, gen) + 5 for name in STATS},
        base_speed=bases["spe"],
        hp=pokemon.hp_pct,
        boosts=stages,
        status=None if status == Status.FNT else status,
        ability=pokemon.ability if gen >= 3 and pokemon.ability not in ("noability", "unknownability") else None,
        screens=frozenset(words & _SCREENS),
        idle=turns_lost(status, gen),
        behind_substitute=not entering and pokemon.effect == "substitute",
    )


def type_of(word: str) -> PokemonType | None:
    """A type by its word in a state; None for none."""
    return PokemonType.__members__.get(word.upper())


@lru_cache(maxsize=4096)
def move_of(name: str, gen: int) -> Move | None:
    """A move of the generation's tables; None for one that is not there."""
    return Move(name, gen=gen) if name in GenData.from_gen(gen).moves else None


@lru_cache(maxsize=4096)
def _base_of(name: str, base_species: str, gen: int) -> tuple[dict[str, int], tuple[PokemonType, ...]] | None:
    """Base stats and types of a species, which everybody can look up."""
    pokedex = GenData.from_gen(gen).pokedex
    entry = pokedex.get(name) or pokedex.get(base_species)
    if entry is None:
        return None
    born = tuple(type_ for word in entry["types"] if (type_ := type_of(word)) is not None)
    return dict(entry["baseStats"]), born


def _trained(base: int, level: int, gen: int) -> int:
    return (2 * base + (_OLD_TRAINING if gen <= 2 else _USUAL_TRAINING)) * level // 100


def _usual_weapons(fighter: Fighter) -> list[Weapon]:
    physical = fighter.stats["atk"] >= fighter.stats["spa"]
    own = [
        _usual_weapon(type_, physical if fighter.gen >= 4 else type_.name not in _SPECIAL_TYPES, _STAB_POWER)
        for type_ in fighter.types
    ]
    return [*own, _usual_weapon(PokemonType.THREE_QUESTION_MARKS, physical, _OTHER_POWER)]


@lru_cache(maxsize=256)
def _usual_weapon(type_: PokemonType, physical: bool, power: float) -> Weapon:
    stats = ("atk", "def") if physical else ("spa", "spd")
    return Weapon(Attack(type=type_, physical=physical, power=power, attack_stat=stats[0], defense_stat=stats[1]))
