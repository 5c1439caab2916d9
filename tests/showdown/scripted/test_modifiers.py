"""Items, abilities, weather and terrain in the trainers' damage, held against poke-env's own calculator."""

import logging

import pytest
from poke_env.battle import Battle, Move, Pokemon
from poke_env.calc import calculate_damage
from support.live_goldens import feed, quiet_logger

from gemma_metamon.showdown.scripted.attacks import attack_of
from gemma_metamon.showdown.scripted.damage import hit_share, mean_damage
from gemma_metamon.showdown.scripted.fighters import opposing_fighter, own_fighter

STATS = ("hp", "atk", "def", "spa", "spd", "spe")


@pytest.fixture(autouse=True)
def quiet_poke_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("poke-env"), "level", logging.CRITICAL)


def facing(attacker: str, defender: str, *lines: str) -> tuple[Battle, Pokemon, Pokemon]:
    """Each as "species", "species @item" or "species @item +ability"; the lines are the simulator's."""
    battle = Battle("battle-gen9ou-1", "Red", quiet_logger(), gen=9)
    feed(battle, ["|player|p1|Red|1|", "|player|p2|Blue|2|", "|teamsize|p1|6", "|teamsize|p2|6"])
    for side, text in (("p1", attacker), ("p2", defender)):
        feed(battle, [f"|switch|{side}a: {side}|{text.split(' ')[0]}|100/100"])
    feed(battle, ["|turn|1", *lines])
    mine, theirs = battle.active_pokemon, battle.opponent_active_pokemon
    assert mine is not None
    assert theirs is not None
    for pokemon, text in ((mine, attacker), (theirs, defender)):
        words = text.split(" ")[1:]
        pokemon.item = next((word[1:] for word in words if word[0] == "@"), None)
        pokemon.ability = next((word[1:] for word in words if word[0] == "+"), "illuminate")
        pokemon.stats = {name: 2 * pokemon.base_stats[name] + 57 for name in STATS}
        pokemon.stats["hp"] = 2 * pokemon.base_stats["hp"] + 162
    return battle, mine, theirs


RAIN, SUN = "|-weather|RainDance", "|-weather|SunnyDay"
GRASSY = "|-fieldstart|move: Grassy Terrain"


@pytest.mark.parametrize(
    ("attacker", "defender", "move_id", "lines"),
    [
        ("Weavile @choiceband", "Slowbro", "knockoff", ()),
        ("Weavile", "Slowbro @leftovers", "knockoff", ()),
        ("Dragapult @choicespecs", "Clefable @leftovers", "shadowball", ()),
        ("Dragapult @lifeorb", "Clefable @assaultvest", "thunderbolt", ()),
        ("Kingambit @blackglasses", "Slowbro", "kowtowcleave", ()),
        ("Ogerpon-Wellspring @wellspringmask", "Landorus", "ivycudgel", ()),
        ("Latias @souldew", "Zapdos", "dracometeor", ()),
        ("Scizor +technician", "Clefable", "bulletpunch", ()),
        ("Scizor +technician", "Clefable", "closecombat", ()),
        ("Samurott +sharpness", "Heatran", "razorshell", ()),
        ("Porygon-Z +adaptability", "Garchomp", "triattack", ()),
        ("ragingbolt +transistor", "Slowbro", "thunderbolt", ()),
        ("Barraskewda", "Garchomp", "liquidation", (RAIN,)),
        ("Cinderace", "Garchomp", "pyroball", (RAIN,)),
        ("Cinderace", "Garchomp", "pyroball", (SUN,)),
        ("walkingwake", "Garchomp", "hydrosteam", (SUN,)),
        ("Rillaboom", "Garchomp", "woodhammer", (GRASSY,)),
        ("Garchomp", "Heatran", "earthquake", (GRASSY,)),
        ("ironcrown", "Garchomp", "psyshock", ("|-fieldstart|move: Psychic Terrain",)),
        ("Zapdos", "Tyranitar", "heatwave", ("|-weather|Sandstorm",)),
        ("Garchomp", "Kyurem", "earthquake", ("|-weather|Snowscape",)),
        ("Weavile", "Dragonite +multiscale", "iceshard", ()),
        ("Weavile", "Snorlax +thickfat", "iceshard", ()),
        ("Greninja", "Frosmoth +icescales", "hydropump", ()),
        ("Garchomp", "Wo-Chien +tabletsofruin", "earthquake", ()),
        ("Haxorus +moldbreaker", "Rotom-Wash +levitate", "earthquake", ()),
        ("Garchomp", "Rotom-Wash +levitate", "earthquake", ()),
        ("Garchomp", "Heatran @airballoon", "earthquake", ()),
        ("Dragapult", "Kommo-o +soundproof", "hypervoice", ()),
    ],
)
def test_damage_is_what_poke_env_calculates(attacker: str, defender: str, move_id: str, lines: tuple[str, ...]) -> None:
    battle, mine, theirs = facing(attacker, defender, *lines)
    attack = attack_of(move_id, 9)
    assert attack is not None
    defends = own_fighter(theirs, battle, modern=True)
    ours = mean_damage(attack, own_fighter(mine, battle, modern=True), defends, critical=False)
    move = Move(move_id, gen=9)
    least, most = calculate_damage("p1: p1", "p2: p2", move, battle, False)
    expected = (least + most) / 2 * move.expected_hits / (sum(move.n_hit) / 2)
    assert ours == pytest.approx(expected, rel=0.04, abs=2)


def share(attacker: str, defender: str, move_id: str) -> float:
    battle, mine, theirs = facing(attacker, defender)
    attack = attack_of(move_id, 9)
    assert attack is not None
    return hit_share(attack, own_fighter(mine, battle, modern=True), opposing_fighter(theirs, battle, modern=True))


def test_abilities_that_poke_envs_calculator_leaves_out_count_too() -> None:
    salted = share("Dragapult", "Garganacl +purifyingsalt", "shadowball")
    assert salted == pytest.approx(0.5 * share("Dragapult", "Garganacl", "shadowball"))
    sword = share("Garchomp +swordofruin", "Slowbro", "earthquake")
    assert sword == pytest.approx(4 / 3 * share("Garchomp", "Slowbro", "earthquake"))
    assert share("Dragapult", "Armarouge +armortail", "suckerpunch") == 0


def test_only_modern_fighters_know_items_and_weather() -> None:
    battle, mine, theirs = facing("Barraskewda @choiceband", "Garchomp", RAIN)
    attack = attack_of("liquidation", 9)
    assert attack is not None
    shares = [
        hit_share(attack, own_fighter(mine, battle, modern=modern), opposing_fighter(theirs, battle))
        for modern in (False, True)
    ]
    assert shares[1] == pytest.approx(2.25 * shares[0], rel=0.03)


def test_speed_counts_items_weather_tailwind_and_trick_room() -> None:
    def speed(attacker: str, *lines: str) -> float:
        battle, mine, _ = facing(attacker, "Garchomp", *lines)
        return own_fighter(mine, battle, modern=True).speed

    plain = speed("Barraskewda +swiftswim")
    assert speed("Barraskewda @choicescarf") == 1.5 * plain
    assert speed("Barraskewda +swiftswim", RAIN) == 2 * plain
    assert speed("Barraskewda", "|-sidestart|p1: Red|move: Tailwind") == 2 * plain
    assert speed("Barraskewda", "|-fieldstart|move: Trick Room") == -plain
