"""Scripted players of our own, from the weakest to the strongest.

TypeTrainer knows power, types and accuracy. DamageTrainer also knows the damage formula, heals, and gives status.
DuelTrainer also estimates how the fight between the two active Pokémon would end: so it chooses whom to send in, and
when to switch.

All three are deterministic, remember nothing, and decide from what is on the field, their own team, and whether one of
the opponent's Pokémon sleeps. They choose among `LiveBattle.options` only.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from poke_env.battle import AbstractBattle, Battle, Move, Pokemon, PokemonType, Status
from poke_env.data import GenData
from poke_env.player import BattleOrder, Player, SingleBattleOrder

from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.scripted.damage import Attack, attack_of, effectiveness, hit_share
from gemma_metamon.showdown.scripted.duel import (
    Duel,
    Weapon,
    best_outlook,
    damage_rate,
    duel_between,
    outlook,
    outlook_of_entry,
    status_lands,
    weapons_of,
)
from gemma_metamon.showdown.scripted.fighters import Fighter, opposing_fighter, own_fighter

STATUS_RATING = {Status.SLP: 0.8, Status.PAR: 0.45}
OTHER_STATUS_RATING = 0.2
STATUS_ABOVE = 0.4  # of their HP: below that, better finish it
HEALING_RATING = 0.9
HEAL_BELOW = 0.5  # of the own HP
REST_BELOW, REST_UNDER = 0.35, 0.3  # Rest, where they take less than this each turn
EXPLODE_BELOW, EXPLODE_FOR = 0.6, 0.4  # of the own HP, and for this share of theirs
SWITCH = 10.0  # apart from every rating of a move
_SPECIAL_TYPES = frozenset({"FIRE", "WATER", "GRASS", "ELECTRIC", "ICE", "PSYCHIC", "DRAGON", "DARK"})

Orders = Mapping[int, SingleBattleOrder]


class ScriptedTrainer(Player):
    """Rates the legal orders and takes the best; among equals, that of the lowest action number."""

    def rate(self, battle: Battle, mine: Fighter, theirs: Fighter, orders: Orders) -> dict[int, float]:
        """A rating for each of the orders, by their action numbers. Both sides have a Pokémon on the field."""
        raise NotImplementedError

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        """The best order. Raises ServerError in a battle that is not singles."""
        live = live_battle(battle)
        ratings = self.rate_options(live)
        if not ratings:
            return next(iter(live.options.values()))
        return live.options[max(sorted(ratings), key=lambda action: ratings[action])]

    def rate_options(self, live: LiveBattle) -> dict[int, float]:
        """A rating for each legal order, by its action; empty where there is nothing to choose, or nobody to rate."""
        orders = {a: order for a, order in live.options.items() if isinstance(order, SingleBattleOrder)}
        battle = live.battle
        active, opponent = battle.active_pokemon, battle.opponent_active_pokemon
        if len(orders) < 2 or active is None or opponent is None:
            return {}
        return self.rate(battle, own_fighter(active, battle), opposing_fighter(opponent, battle), orders)


class TypeTrainer(ScriptedTrainer):
    """The strongest move by power, types and accuracy. Switches only when it must, to whom they hit least hard."""

    def rate(self, battle: Battle, mine: Fighter, theirs: Fighter, orders: Orders) -> dict[int, float]:
        """A move's power, with types and accuracy; Pokémon by their weakness to the opponent's types, below moves."""
        ratings = {}
        for action, order in orders.items():
            if isinstance(order.order, Pokemon):
                types = tuple(order.order.types)
                ratings[action] = -SWITCH - max(effectiveness(t, types, battle.gen) for t in theirs.types)
            elif isinstance(order.order, Move):
                ratings[action] = _type_power(order.order.id, mine, theirs) - order.terastallize
        return ratings


class DamageTrainer(ScriptedTrainer):
    """The move that takes most by the damage formula; sleep, paralysis and healing where they are worth more.

    Switches only when it must, to whoever hits hardest.
    """

    def rate(self, battle: Battle, mine: Fighter, theirs: Fighter, orders: Orders) -> dict[int, float]:
        """A move's expected share of the opponent's HP, and a little for terastallising; Pokémon by `rate_switches`."""
        moves = {action: order.order for action, order in orders.items() if isinstance(order.order, Move)}
        sleep_clause = any(p.status == Status.SLP for p in battle.opponent_team.values())
        different = {move.id: move for move in moves.values()}  # each may be offered with terastallising, too
        by_id = {id_: _rate_move(move, mine, theirs, sleep_clause=sleep_clause) for id_, move in different.items()}
        ratings = {action: by_id[move.id] for action, move in moves.items()}
        if with_tera := [action for action in moves if orders[action].terastallize]:
            gain = self.tera_gain(battle, mine, theirs)
            ratings.update((action, ratings[action] + gain) for action in with_tera)
        bench = {action: order.order for action, order in orders.items() if isinstance(order.order, Pokemon)}
        return ratings | self.rate_switches(battle, mine, theirs, bench) if bench else ratings

    def rate_switches(
        self, battle: Battle, mine: Fighter, theirs: Fighter, bench: Mapping[int, Pokemon]
    ) -> dict[int, float]:
        """The expected share of their best move, below all moves; `bench` is by the actions that send them in."""
        ratings = {}
        for action, pokemon in bench.items():
            entering = own_fighter(pokemon, battle)
            attacks = [weapon.attack for weapon in weapons_of(pokemon.moves, battle.gen)]
            shares = (_expected(attack, hit_share(attack, entering, theirs), theirs) for attack in attacks)
            ratings[action] = -SWITCH + max(shares, default=0.0)
        return ratings

    def tera_gain(self, battle: Battle, mine: Fighter, theirs: Fighter) -> float:
        """What terastallising adds to a move's rating."""
        return -0.01


class DuelTrainer(DamageTrainer):
    """DamageTrainer's moves; switches to whoever would do best in the duel, if that is better by a clear margin.

    The opponent's Pokémon is assumed to have a good attack of each of its types, and a weaker one that nobody resists.
    """

    switch_margin = 1.0
    tera_margin = 0.3

    def rate_switches(
        self, battle: Battle, mine: Fighter, theirs: Fighter, bench: Mapping[int, Pokemon]
    ) -> dict[int, float]:
        """How the duel would end for them; above all moves where that is much better than how it ends for `mine`."""
        must = bool(battle.force_switch)
        least = -math.inf if must else outlook(_present_duel(battle, mine, theirs)) + self.switch_margin
        if best_outlook(theirs) <= least and battle.available_moves:
            return dict.fromkeys(bench, -SWITCH)
        their_weapons = _assumed_weapons(theirs)
        ratings = {}
        for action, pokemon in bench.items():
            entering = own_fighter(pokemon, battle, entering=True)
            if battle.reviving:
                entering = replace(entering, hp=0.5, status=None)
            duel = duel_between(entering, weapons_of(pokemon.moves, battle.gen), theirs, their_weapons)
            entry = outlook(duel) if must else outlook_of_entry(duel)
            ratings[action] = entry + (SWITCH if entry > least else -SWITCH)
        return ratings

    def tera_gain(self, battle: Battle, mine: Fighter, theirs: Fighter) -> float:
        """Above 0 where it clearly improves the duel."""
        tera_type = battle.active_pokemon.tera_type if battle.active_pokemon else None
        if tera_type is None or tera_type == PokemonType.STELLAR:
            return -0.01
        present = outlook(_present_duel(battle, mine, theirs))
        if best_outlook(theirs) <= present + self.tera_margin:
            return -0.01
        changed = replace(mine, types=(tera_type,), stab_types=(*mine.stab_types, tera_type))
        gain = outlook(_present_duel(battle, changed, theirs)) - present
        return 0.01 if gain > self.tera_margin else -0.01


def _present_duel(battle: Battle, mine: Fighter, theirs: Fighter) -> Duel:
    my_moves = battle.active_pokemon.moves if battle.active_pokemon else ()
    return duel_between(mine, weapons_of(my_moves, battle.gen), theirs, _assumed_weapons(theirs))


def _assumed_weapons(fighter: Fighter) -> list[Weapon]:
    physical = fighter.stats["atk"] >= fighter.stats["spa"]
    weapons = [
        _assumed_weapon(t, physical if fighter.gen >= 4 else t.name not in _SPECIAL_TYPES, 90.0) for t in fighter.types
    ]
    return [*weapons, _assumed_weapon(PokemonType.THREE_QUESTION_MARKS, physical, 65.0)]


@lru_cache(maxsize=256)
def _assumed_weapon(type_: PokemonType, physical: bool, power: float) -> Weapon:
    attack_stat, defense_stat = ("atk", "def") if physical else ("spa", "spd")
    attack = Attack(type=type_, physical=physical, power=power, attack_stat=attack_stat, defense_stat=defense_stat)
    return Weapon(attack)


def _rate_move(move: Move, mine: Fighter, theirs: Fighter, *, sleep_clause: bool) -> float:
    """About the share of their HP that the move is worth; more than 1 where it wins the duel if it hits."""
    if move.id not in GenData.from_gen(mine.gen).moves:
        return 0.0
    attack = attack_of(move.id, mine.gen)
    if attack is None:
        return _rate_status_move(move, mine, theirs, sleep_clause=sleep_clause)
    share = hit_share(attack, mine, theirs)
    rating = _expected(attack, share, theirs)
    if attack.self_destruct:
        return rating if mine.hp <= EXPLODE_BELOW and rating >= EXPLODE_FOR else 0.0
    if not attack.charges and share >= theirs.hp:
        return rating + attack.accuracy
    return rating / 2 if attack.charges or attack.recharges else rating


def _rate_status_move(move: Move, mine: Fighter, theirs: Fighter, *, sleep_clause: bool) -> float:
    if move.heal:
        return HEALING_RATING if mine.hp <= HEAL_BELOW else 0.0
    if move.id == "rest":
        safe = mine.hp <= REST_BELOW and damage_rate(_assumed_weapons(theirs), theirs, mine) < REST_UNDER
        return HEALING_RATING if safe else 0.0
    if move.status and theirs.hp > STATUS_ABOVE and status_lands(move, theirs, sleep_clause=sleep_clause):
        return STATUS_RATING.get(move.status, OTHER_STATUS_RATING) * move.accuracy
    return 0.0


def _expected(attack: Attack, share: float, defender: Fighter) -> float:
    """Mean share of the defender's maximum HP, misses included, and no more than it has left."""
    return attack.accuracy * min(defender.hp, share)


def _type_power(move_id: str, attacker: Fighter, defender: Fighter) -> float:
    attack = attack_of(move_id, attacker.gen)
    if attack is None:
        return 0.0
    stab = 1.5 if attack.type in attacker.stab_types else 1.0
    factor = stab * effectiveness(attack.type, defender.types, attacker.gen)
    return attack.power * attack.hits * attack.accuracy * factor
