"""Scripted players of our own, from the weakest to the strongest.

TypeTrainer knows power, types and accuracy. DamageTrainer also knows the damage formula, heals, and gives status.
DuelTrainer also estimates how the fight between the two active Pokémon would end: so it chooses whom to send in, and
when to switch.

In generation 9 it also looks at items, abilities, hazards and the opponent's known moves, raises stats, and pivots.
What it takes for much and for little stands in `thresholds.py`.

All three are deterministic, remember nothing, and decide from what is on the field, their own team, and what the
opponent's Pokémon have shown. They choose among `LiveBattle.options` only.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from poke_env.battle import AbstractBattle, Battle, Move, MoveCategory, Pokemon, PokemonType, Status
from poke_env.data import GenData
from poke_env.player import BattleOrder, Player, SingleBattleOrder

from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.scripted.attacks import Attack, attack_of
from gemma_metamon.showdown.scripted.damage import effectiveness, hit_share
from gemma_metamon.showdown.scripted.duel import (
    ALIVE,
    Duel,
    Weapon,
    best_outlook,
    damage_rate,
    duel_between,
    outlook,
    outlook_of_entry,
    status_lands,
    weapons_of,
    worth,
)
from gemma_metamon.showdown.scripted.fighters import Fighter, opposing_fighter, own_fighter
from gemma_metamon.showdown.scripted.tactics import after_entering, heals, leaving_gain, raised, rate_support
from gemma_metamon.showdown.scripted.thresholds import THRESHOLDS, Thresholds, thresholds_of

HEALING_RATING = 0.9
SETUP_RATING = 0.95  # below every last blow
REST_BELOW, REST_UNDER = 0.35, 0.3  # Rest, where they take less than this each turn
EXPLODE_BELOW, EXPLODE_FOR = 0.6, 0.4  # of the own HP, and for this share of theirs
SWITCH = 10.0  # apart from every rating of a move
_FIRST_TURN_ONLY = ("fakeout", "firstimpression", "matblock")
_DELAYED = ("futuresight", "doomdesire")
_SPECIAL_TYPES = frozenset({"FIRE", "WATER", "GRASS", "ELECTRIC", "ICE", "PSYCHIC", "DRAGON", "DARK"})

Orders = Mapping[int, SingleBattleOrder]


class ScriptedTrainer(Player):
    """Rates the legal orders and takes the best; among equals, that of the lowest action number."""

    def thresholds(self, gen: int) -> Thresholds:
        """What it takes for much and for little: in every generation the first ones."""
        return THRESHOLDS[1]

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
        modern = self.thresholds(battle.gen).modern
        mine = own_fighter(active, battle, modern=modern)
        return self.rate(battle, mine, opposing_fighter(opponent, battle, modern=modern), orders)


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
        different = {move.id: move for move in moves.values()}  # each may be offered with terastallising, too
        by_id = {id_: self.rate_move(battle, move, mine, theirs) for id_, move in different.items()}
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

    def rate_move(self, battle: Battle, move: Move, mine: Fighter, theirs: Fighter) -> float:
        """About the share of their HP that the move is worth; more than 1 where it wins the duel if it hits."""
        sleep_clause = any(p.status == Status.SLP for p in battle.opponent_team.values())
        return _rate_move(move, mine, theirs, self.thresholds(battle.gen), sleep_clause=sleep_clause)

    def tera_gain(self, battle: Battle, mine: Fighter, theirs: Fighter) -> float:
        """What terastallising adds to a move's rating."""
        return -0.01


class DuelTrainer(DamageTrainer):
    """DamageTrainer's moves; switches to whoever would do best in the duel, if that is better by a clear margin.

    The opponent's Pokémon is assumed to have a good attack of each of its types, and a weaker one that nobody resists.
    """

    def thresholds(self, gen: int) -> Thresholds:
        """Those of the generation."""
        return thresholds_of(gen)

    def rate(self, battle: Battle, mine: Fighter, theirs: Fighter, orders: Orders) -> dict[int, float]:
        """As DamageTrainer; a move that brings a switch is rated as a switch where it is worth one."""
        ratings = super().rate(battle, mine, theirs, orders)
        thresholds = self.thresholds(battle.gen)
        pivots = [a for a, order in orders.items() if isinstance(order.order, Move) and order.order.self_switch]
        if not thresholds.modern or not pivots:
            return ratings
        bench = [order.order for order in orders.values() if isinstance(order.order, Pokemon)]
        duel = _present_duel(battle, mine, theirs, thresholds)
        least = outlook(duel) + thresholds.pivot_margin - leaving_gain(mine)
        first = mine.speed > theirs.speed or theirs.idle >= 1
        lost = 0.0 if first else worth(mine.status, mine.hp) - worth(mine.status, mine.hp - duel.their_rate)
        entry = max((self._entry(battle, pokemon, theirs, free=not first) for pokemon in bench), default=-math.inf)
        for action in pivots:
            worth_it = entry - lost + ratings[action] * (1 - ALIVE)
            if worth_it > least and ratings[action] < 1 and mine.hp > (0.0 if first else duel.their_rate):
                ratings[action] = SWITCH + worth_it
        return ratings

    def rate_move(self, battle: Battle, move: Move, mine: Fighter, theirs: Fighter) -> float:
        """As DamageTrainer; in the modern way also what it is worth for more than damage."""
        rating = super().rate_move(battle, move, mine, theirs)
        thresholds = self.thresholds(battle.gen)
        active = battle.active_pokemon
        if not thresholds.modern or active is None:
            return rating
        if move.id in _DELAYED or (move.id in _FIRST_TURN_ONLY and not active.first_turn):
            return 0.0
        duel = _present_duel(battle, mine, theirs, thresholds)
        if heals(move):
            useful = mine.hp <= thresholds.heal_below and duel.their_rate < thresholds.heal_under
            return HEALING_RATING if useful else 0.0
        boosted = raised(move, mine, thresholds.setup_stages) if move.category == MoveCategory.STATUS else None
        if boosted is not None:
            after = duel_between(boosted, _my_weapons(battle), theirs, _their_weapons(battle, theirs, thresholds))
            survives = boosted.hp > after.their_rate + thresholds.setup_hp or theirs.idle >= 1
            better = outlook_of_entry(after) > outlook(duel) + thresholds.setup_margin
            return SETUP_RATING if survives and better else 0.0
        if rating > 1 and move.priority > 0 and mine.speed < theirs.speed:
            return rating + 1
        return rating + rate_support(move, battle, mine, theirs, thresholds)

    def rate_switches(
        self, battle: Battle, mine: Fighter, theirs: Fighter, bench: Mapping[int, Pokemon]
    ) -> dict[int, float]:
        """How the duel would end for them; above all moves where that is much better than how it ends for `mine`."""
        must = bool(battle.force_switch)
        thresholds = self.thresholds(battle.gen)
        least = -math.inf
        if not must:
            least = outlook(_present_duel(battle, mine, theirs, thresholds)) + thresholds.switch_margin
        if thresholds.modern and not must:
            with_tera = _tera_outlook(battle, mine, theirs, thresholds) - thresholds.tera_margin
            least = max(least, with_tera + thresholds.switch_margin) - leaving_gain(mine)
        if best_outlook(theirs) <= least and battle.available_moves:
            return dict.fromkeys(bench, -SWITCH)
        ratings = {}
        for action, pokemon in bench.items():
            entry = self._entry(battle, pokemon, theirs, free=must)
            ratings[action] = entry + (SWITCH if entry > least else -SWITCH)
        return ratings

    def _entry(self, battle: Battle, pokemon: Pokemon, theirs: Fighter, *, free: bool) -> float:
        """How the duel would end for one that comes in from the bench; `free`: without being attacked first."""
        thresholds = self.thresholds(battle.gen)
        entering = own_fighter(pokemon, battle, entering=True, modern=thresholds.modern)
        if battle.reviving:
            entering = replace(entering, hp=0.5, status=None)
        lost = 0.0
        if thresholds.modern:
            entering, lost = after_entering(entering, pokemon, battle)
            if entering.hp <= 0:
                return -lost - 1
        their_weapons = _their_weapons(battle, theirs, thresholds)
        duel = duel_between(entering, weapons_of(pokemon.moves, battle.gen), theirs, their_weapons)
        return (outlook(duel) if free else outlook_of_entry(duel)) - lost

    def tera_gain(self, battle: Battle, mine: Fighter, theirs: Fighter) -> float:
        """Above 0 where it clearly improves the duel."""
        thresholds = self.thresholds(battle.gen)
        present = outlook(_present_duel(battle, mine, theirs, thresholds))
        changed = _tera_outlook(battle, mine, theirs, thresholds)
        return 0.01 if changed > present + thresholds.tera_margin else -0.01


@lru_cache(maxsize=4)
def _tera_outlook(battle: Battle, mine: Fighter, theirs: Fighter, thresholds: Thresholds) -> float:
    """The outlook of the duel after terastallising; minus infinity where that cannot be."""
    # poke-env knows the tera types of the opponent's that have terastallised, and none of the player's own
    asked = (battle.last_request.get("active") or [{}])[0].get("canTerastallize")
    tera_type = PokemonType.from_name(asked) if asked else None
    if tera_type is None or tera_type == PokemonType.STELLAR:
        return -math.inf
    changed = replace(mine, types=(tera_type,), stab_types=(*mine.stab_types, tera_type))
    if "terablast" in (active.moves if (active := battle.active_pokemon) else ()):
        changed = replace(changed, own_types={**mine.own_types, "terablast": tera_type})
    return outlook(_present_duel(battle, changed, theirs, thresholds))


@lru_cache(maxsize=4)  # asked for again and again in one decision; fighters are those of one decision
def _present_duel(battle: Battle, mine: Fighter, theirs: Fighter, thresholds: Thresholds) -> Duel:
    if thresholds.modern:
        my_weapons = _my_weapons(battle)
    else:
        my_weapons = weapons_of(battle.active_pokemon.moves if battle.active_pokemon else (), battle.gen)
    return duel_between(mine, my_weapons, theirs, _their_weapons(battle, theirs, thresholds))


def _my_weapons(battle: Battle) -> list[Weapon]:
    """The attacks that may be chosen now: one that is locked into a move has no other."""
    moves = [move.id for move in battle.available_moves if move.id not in (*_FIRST_TURN_ONLY, *_DELAYED)]
    return weapons_of(moves or (battle.active_pokemon.moves if battle.active_pokemon else ()), battle.gen)


def _their_weapons(battle: Battle, theirs: Fighter, thresholds: Thresholds) -> list[Weapon]:
    """Assumed attacks; in the modern way also those that it has shown, and no assumed ones where all four are known."""
    opponent = battle.opponent_active_pokemon
    assumed = _assumed_weapons(theirs, thresholds)
    if not thresholds.modern or opponent is None:
        return assumed
    known = weapons_of(opponent.moves, battle.gen)
    return known + (assumed if len(opponent.moves) < 4 else [])


def _assumed_weapons(fighter: Fighter, thresholds: Thresholds) -> list[Weapon]:
    physical = fighter.stats["atk"] >= fighter.stats["spa"]
    weapons = [
        _assumed_weapon(t, physical if fighter.gen >= 4 else t.name not in _SPECIAL_TYPES, thresholds.assumed_power)
        for t in fighter.types
    ]
    return [*weapons, _assumed_weapon(PokemonType.THREE_QUESTION_MARKS, physical, thresholds.assumed_coverage)]


@lru_cache(maxsize=256)
def _assumed_weapon(type_: PokemonType, physical: bool, power: float) -> Weapon:
    attack_stat, defense_stat = ("atk", "def") if physical else ("spa", "spd")
    attack = Attack(type=type_, physical=physical, power=power, attack_stat=attack_stat, defense_stat=defense_stat)
    return Weapon(attack)


def _rate_move(move: Move, mine: Fighter, theirs: Fighter, thresholds: Thresholds, *, sleep_clause: bool) -> float:
    if move.id not in GenData.from_gen(mine.gen).moves:
        return 0.0
    attack = attack_of(move.id, mine.gen)
    if attack is None:
        return _rate_status_move(move, mine, theirs, thresholds, sleep_clause=sleep_clause)
    share = hit_share(attack, mine, theirs)
    rating = _expected(attack, share, theirs)
    if attack.self_destruct:
        return rating if mine.hp <= EXPLODE_BELOW and rating >= EXPLODE_FOR else 0.0
    if not attack.charges and share >= theirs.hp:
        return rating + attack.accuracy
    return rating / 2 if attack.charges or attack.recharges else rating


def _rate_status_move(
    move: Move, mine: Fighter, theirs: Fighter, thresholds: Thresholds, *, sleep_clause: bool
) -> float:
    if move.heal:
        return HEALING_RATING if mine.hp <= thresholds.heal_below else 0.0
    if move.id == "rest":
        their_rate = damage_rate(_assumed_weapons(theirs, thresholds), theirs, mine)
        return HEALING_RATING if mine.hp <= REST_BELOW and their_rate < REST_UNDER else 0.0
    if move.status and theirs.hp > thresholds.status_above and status_lands(move, theirs, sleep_clause=sleep_clause):
        return thresholds.status.get(move.status, thresholds.other_status) * move.accuracy
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
