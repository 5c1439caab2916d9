"""What a seat is told of the other side: who was there, what it used, held, and how it fared."""

import logging

import pytest
from poke_env.battle import Battle

from gemma_metamon.showdown.live.seen import SeenPokemon, SeenSide, revealed, seen_side


def seen(*lines: str, gen: int = 9, role: str = "p1") -> SeenSide:
    battle = Battle(f"battle-gen{gen}ou-1", "Ann", logging.getLogger("seen"), gen)
    battle.player_role = role
    # what poke-env makes of them does not matter here
    battle._replay_data = [f"|{line}".split("|") for line in lines]
    return seen_side(battle)


def only(*lines: str, gen: int = 9) -> SeenPokemon:
    (pokemon,) = seen("switch|p2a: Gar|Gengar, M|100/100", *lines, gen=gen).pokemon
    return pokemon


def test_who_was_there_stands_in_the_order_of_coming() -> None:
    side = seen(
        "teamsize|p2|4",
        "poke|p2|Arceus-*|",
        "poke|p1|Mew|",
        "switch|p1a: Mew|Mew|100/100",
        "switch|p2a: Gar|Gengar, L80, M, shiny|100/100",
        "switch|p2a: Zap|Zapdos|100/100",
        "-damage|p2a: Zap|40/100 par",
    )
    assert (side.seat, side.team_size, side.preview, side.active) == ("p2", 4, ("arceus",), "p2: Zap")
    first, second = side.pokemon
    assert first == SeenPokemon(ident="p2: Gar", species="gengar", level=80, gender="M", shiny=True)
    assert second.condition == "40/100 par"
    assert [each.ident for each in revealed(side)] == ["p2: Zap", "p2: Gar"]


@pytest.mark.parametrize(
    ("line", "condition"),
    [
        ("-damage|p2a: Gar|52/100 brn", "52/100 brn"),
        ("-heal|p2a: Gar|100/100|[from] item: Leftovers", "100/100"),
        ("-status|p2a: Gar|par", "100/100 par"),
        ("faint|p2a: Gar", "0 fnt"),
    ],
)
def test_a_condition_is_the_one_shown_last(line: str, condition: str) -> None:
    assert only(line).condition == condition


def test_a_status_that_is_cured_on_the_bench_is_gone() -> None:
    side = seen(
        "switch|p2a: Gar|Gengar, M|90/100 par",
        "switch|p2a: Zap|Zapdos|100/100",
        "-curestatus|p2: Gar|par|[msg]",
    )
    assert side.pokemon[0].condition == "90/100"


def test_moves_count_what_they_spend() -> None:
    lines = (
        "move|p2a: Gar|Shadow Ball|p1a: Mew",
        "move|p2a: Gar|Shadow Ball|p1a: Mew",
        "move|p2a: Gar|Outrage|p1a: Mew",
        "move|p2a: Gar|Outrage|p1a: Mew|[from] lockedmove",
        "move|p2a: Gar|Flamethrower|p1a: Mew|[from] Metronome",
        "move|p2a: Gar|Struggle|p1a: Mew",
    )
    pokemon = only(*lines)
    assert pokemon.uses == {"shadowball": 2, "outrage": 1}
    assert pokemon.changes_moves


def test_against_pressure_a_move_spends_two() -> None:
    lines = ("switch|p1a: Zap|Zapdos|100/100", "-ability|p1a: Zap|Pressure", "move|p2a: Gar|Shadow Ball|p1a: Zap")
    assert only(*lines).uses == {"shadowball": 2}
    assert only(*lines, "switch|p1a: Mew|Mew|100/100", "move|p2a: Gar|Lick|p1a: Mew").uses["lick"] == 1


def test_moves_that_are_only_borrowed_are_not_its_own() -> None:
    assert only("-transform|p2a: Gar|p1a: Mew", "move|p2a: Gar|Psychic|p1a: Mew", gen=1).uses == {}
    mimic = ("move|p2a: Gar|Mimic|p1a: Mew", "-start|p2a: Gar|Mimic|Psychic", "move|p2a: Gar|Psychic|p1a: Mew")
    assert only(*mimic, gen=1).uses == {"mimic": 1}


@pytest.mark.parametrize(
    ("lines", "first", "now"),
    [
        (["-heal|p2a: Gar|100/100|[from] item: Leftovers"], "leftovers", "leftovers"),
        (["-damage|p1a: Mew|90/100|[from] item: Rocky Helmet|[of] p2a: Gar"], "rockyhelmet", "rockyhelmet"),
        (["-enditem|p2a: Gar|Leftovers|[from] move: Knock Off|[of] p1a: Mew"], "leftovers", ""),
        (["-enditem|p2a: Gar|Focus Sash"], "focussash", ""),
        (["-item|p2a: Gar|Choice Scarf|[from] move: Trick"], None, "choicescarf"),
        (["-item|p2a: Gar|Air Balloon"], "airballoon", "airballoon"),
        (["-item|p1a: Mew|Leftovers|[from] move: Thief|[of] p2a: Gar"], "leftovers", ""),
        (["-item|p2a: Gar|Leftovers|[from] ability: Frisk|[of] p1a: Mew"], "leftovers", "leftovers"),
        (["-activate|p2a: Gar|item: Quick Claw"], "quickclaw", "quickclaw"),
        ([], None, None),
    ],
)
def test_what_it_came_with_and_what_it_holds(lines: list[str], first: str | None, now: str | None) -> None:
    pokemon = only(*lines)
    assert (pokemon.first_item, pokemon.item) == (first, now)


@pytest.mark.parametrize(
    ("lines", "first", "now"),
    [
        (["-ability|p2a: Gar|Cursed Body"], "cursedbody", "cursedbody"),
        (["-ability|p2a: Gar|Levitate|[from] ability: Trace|[of] p1a: Mew"], "trace", "levitate"),
        (["-damage|p1a: Mew|88/100|[from] ability: Rough Skin|[of] p2a: Gar"], "roughskin", "roughskin"),
        (["-heal|p2a: Gar|100/100|[from] ability: Water Absorb|[of] p1a: Mew"], "waterabsorb", "waterabsorb"),
        (["-weather|Sandstorm|[from] ability: Sand Stream|[of] p2a: Gar"], "sandstream", "sandstream"),
        (["-activate|p2a: Gar|ability: Sturdy"], "sturdy", "sturdy"),
        (["-ability|p2a: Gar|Cursed Body", "-endability|p2a: Gar"], "cursedbody", None),
    ],
)
def test_the_ability_it_came_with_and_the_one_it_has(lines: list[str], first: str, now: str | None) -> None:
    pokemon = only(*lines)
    assert (pokemon.first_ability, pokemon.ability) == (first, now)


def test_what_a_disguise_did_was_its_wearers() -> None:
    side = seen(
        "switch|p2a: Zap|Zapdos|100/100",
        "move|p2a: Zap|Thunderbolt|p1a: Mew",
        "-damage|p2a: Zap|70/100",
        "switch|p2a: Gar|Gengar, M|100/100",
        "switch|p2a: Zap|Zapdos|100/100",
        "move|p2a: Zap|Night Daze|p1a: Mew",
        "-damage|p2a: Zap|30/100",
        "replace|p2a: Zor|Zoroark, M",
    )
    zapdos, _, zoroark = side.pokemon
    assert (zapdos.condition, zapdos.uses) == ("70/100", {"thunderbolt": 1})
    assert (zoroark.condition, zoroark.uses, zoroark.first_ability) == ("30/100", {"nightdaze": 1}, "illusion")
    assert side.active == "p2: Zor"


def test_nothing_is_read_of_the_seats_own_side() -> None:
    lines = ("switch|p1a: Mew|Mew|100/100", "move|p1a: Mew|Psychic|p2a: Gar", "-ability|p1a: Mew|Synchronize")
    assert seen(*lines).pokemon == ()
    assert [each.species for each in seen(*lines, role="p2").pokemon] == ["mew"]
