"""Scripted players of our own, from the weakest to the strongest.

TypeTrainer knows power, types and accuracy. DamageTrainer also knows the damage formula, heals, and gives status.
DuelTrainer also estimates how the fight between the two active Pokémon would end: so it chooses whom to send in, and
when to switch.

All three are deterministic, remember nothing, and decide from what is on the field, their own team, and whether one of
the opponent's Pokémon sleeps. They choose among `LiveBattle.options` only.
"""

from collections.abc import Mapping
from dataclasses import replace

from poke_env.battle import AbstractBattle, Battle, Move, Pokemon, PokemonType, Status
from poke_env.data import GenData
from poke_env.player import BattleOrder, Player, SingleBattleOrder

from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.scripted.damage import (
    Attack,
    Fighter,
    attack_of,
    effectiveness,
    hit_share,
    opposing_fighter,
    own_fighter,
)
from gemma_metamon.showdown.scripted.duel import (
    Duel,
    Weapon,
    damage_rate,
    outlook,
    outlook_of_entry,
    status_lands,
    turns_lost,
    weapons_of,
)

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
        battle, options = live.battle, live.options
        orders = {a: order for a, order in options.items() if isinstance(order, SingleBattleOrder)}
        active, opponent = battle.active_pokemon, battle.opponent_active_pokemon
        if len(orders) < 2 or active is None or opponent is None:
            return next(iter(options.values()))
        mine, theirs = _ready(own_fighter(active, battle)), _ready(opposing_fighter(opponent, battle))
        if opponent.must_recharge:
            theirs = replace(theirs, idle=max(theirs.idle, 1.0))
        ratings = self.rate(battle, mine, theirs, orders)
        return orders[max(ratings, key=lambda action: ratings[action])]


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
        """A move's expected share of the opponent's HP; Pokémon by that of their best move, below all moves."""
        sleep_clause = any(p.status == Status.SLP for p in battle.opponent_team.values())
        ratings = {}
        for action, order in orders.items():
            if isinstance(order.order, Pokemon):
                entering = own_fighter(order.order, battle)
                weapons = weapons_of(order.order.moves, battle.gen)
                ratings[action] = -SWITCH + max((_expected(w.attack, entering, theirs) for w in weapons), default=0.0)
            elif isinstance(order.order, Move):
                rating = _rate_move(order.order.id, mine, theirs, sleep_clause=sleep_clause)
                ratings[action] = rating + self.tera_gain(battle, mine, theirs) * order.terastallize
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

    def rate(self, battle: Battle, mine: Fighter, theirs: Fighter, orders: Orders) -> dict[int, float]:
        """A move's rating as of DamageTrainer; Pokémon by how the duel would end for them."""
        ratings = super().rate(battle, mine, theirs, orders)
        duel = _duel(battle, mine, theirs)
        staying = outlook(duel)
        for action, order in orders.items():
            if isinstance(order.order, Pokemon):
                entry = self._outlook_of(order.order, battle, duel)
                leaves = bool(battle.force_switch) or entry > staying + self.switch_margin
                ratings[action] = entry + (SWITCH if leaves else -SWITCH)
        return ratings

    def tera_gain(self, battle: Battle, mine: Fighter, theirs: Fighter) -> float:
        """Above 0 where it clearly improves the duel."""
        tera_type = battle.active_pokemon.tera_type if battle.active_pokemon else None
        if tera_type is None or tera_type == PokemonType.STELLAR:
            return -0.01
        changed = replace(mine, types=(tera_type,), stab_types=(*mine.stab_types, tera_type))
        gain = outlook(_duel(battle, changed, theirs)) - outlook(_duel(battle, mine, theirs))
        return 0.01 if gain > self.tera_margin else -0.01

    def _outlook_of(self, pokemon: Pokemon, battle: Battle, duel: Duel) -> float:
        entering = replace(_ready(own_fighter(pokemon, battle)), boosts={})
        if battle.reviving:
            entering = replace(entering, hp=0.5, status=None)
        after = replace(duel, mine=entering, my_weapons=weapons_of(pokemon.moves, battle.gen))
        return outlook(after) if battle.force_switch else outlook_of_entry(after)


def _duel(battle: Battle, mine: Fighter, theirs: Fighter) -> Duel:
    my_moves = battle.active_pokemon.moves if battle.active_pokemon else ()
    return Duel(mine, theirs, weapons_of(my_moves, battle.gen), _assumed_weapons(theirs))


def _assumed_weapons(fighter: Fighter) -> list[Weapon]:
    physical = fighter.stats["atk"] >= fighter.stats["spa"]
    attacks = [
        Attack(type=t, physical=physical if fighter.gen >= 4 else t.name not in _SPECIAL_TYPES, power=90.0)
        for t in fighter.types
    ]
    attacks.append(Attack(type=PokemonType.THREE_QUESTION_MARKS, physical=physical, power=65.0))
    return [Weapon(attack) for attack in attacks]


def _rate_move(move_id: str, mine: Fighter, theirs: Fighter, *, sleep_clause: bool) -> float:
    """About the share of their HP that the move is worth; more than 1 where it wins the duel if it hits."""
    if move_id not in GenData.from_gen(mine.gen).moves:
        return 0.0
    attack = attack_of(move_id, mine.gen)
    if attack is None:
        return _rate_status_move(Move(move_id, gen=mine.gen), mine, theirs, sleep_clause=sleep_clause)
    rating = _expected(attack, mine, theirs)
    if attack.self_destruct:
        return rating if mine.hp <= EXPLODE_BELOW and rating >= EXPLODE_FOR else 0.0
    if not attack.charges and hit_share(attack, mine, theirs) >= theirs.hp:
        return rating + attack.accuracy
    return rating / 2 if attack.charges or attack.recharges else rating


def _rate_status_move(move: Move, mine: Fighter, theirs: Fighter, *, sleep_clause: bool) -> float:
    if move.heal:
        return HEALING_RATING if mine.hp <= HEAL_BELOW else 0.0
    if move.id == "rest":
        safe = damage_rate(_assumed_weapons(theirs), theirs, mine) < REST_UNDER
        return HEALING_RATING if safe and mine.hp <= REST_BELOW else 0.0
    if move.status and theirs.hp > STATUS_ABOVE and status_lands(move, theirs, sleep_clause=sleep_clause):
        return STATUS_RATING.get(move.status, OTHER_STATUS_RATING) * move.accuracy
    return 0.0


def _expected(attack: Attack, attacker: Fighter, defender: Fighter) -> float:
    """Mean share of the defender's maximum HP, misses included, and no more than it has left."""
    return attack.accuracy * min(defender.hp, hit_share(attack, attacker, defender))


def _type_power(move_id: str, attacker: Fighter, defender: Fighter) -> float:
    attack = attack_of(move_id, attacker.gen)
    if attack is None:
        return 0.0
    stab = 1.5 if attack.type in attacker.stab_types else 1.0
    factor = stab * effectiveness(attack.type, defender.types, attacker.gen)
    return attack.power * attack.hits * attack.accuracy * factor


def _ready(fighter: Fighter) -> Fighter:
    """With the turns that sleep or ice will cost it."""
    return replace(fighter, idle=turns_lost(fighter.status, fighter.gen))
