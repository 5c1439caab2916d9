"""Guessed teams: whole, without a contradiction to what was seen, and from the seed alone."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.showdown.live.seen import SeenPokemon, SeenSide
from gemma_metamon.showdown.matches.samplers import PackedSet, TeamSampler, contradiction, unpack_team

SPECIES = ("tauros", "snorlax", "chansey", "exeggutor", "alakazam", "starmie", "jynx", "rhydon")
MOVES = ("bodyslam", "earthquake", "rest", "psychic", "blizzard", "thunderwave")


def a_set(species: str, moves: tuple[str, ...], **more: str) -> PackedSet:
    return PackedSet(name="", species=species, item=more.get("item", ""), ability=more.get("ability", ""), moves=moves)


def pack(team: list[PackedSet]) -> str:
    return "]".join(each.pack() for each in team)


def side(*pokemon: SeenPokemon, gen: int = 1, size: int = 6, preview: tuple[str, ...] = ()) -> SeenSide:
    active = pokemon[-1].ident if pokemon else None
    return SeenSide(
        seat="p2", battle_format=f"gen{gen}ou", gen=gen, team_size=size, active=active, pokemon=pokemon, preview=preview
    )


moves = st.lists(st.sampled_from(MOVES), min_size=1, max_size=4, unique=True).map(tuple)
teams = st.lists(
    st.lists(st.sampled_from(SPECIES), min_size=6, max_size=6, unique=True).flatmap(
        lambda names: st.tuples(*(moves.map(lambda ms, name=name: a_set(name, ms)) for name in names))
    ),
    min_size=1,
    max_size=5,
)
shown = st.lists(st.sampled_from(SPECIES), max_size=6, unique=True).flatmap(
    lambda names: st.tuples(
        *(
            moves.map(lambda ms, name=name: SeenPokemon(ident=f"p2: {name}", species=name, uses=dict.fromkeys(ms, 1)))
            for name in names
        )
    )
)


@settings(max_examples=50)
@given(teams=teams, shown=shown, seed=st.integers(0, 9))
def test_a_guess_is_a_whole_team_that_agrees_with_what_was_seen(
    teams: list[tuple[PackedSet, ...]], shown: tuple[SeenPokemon, ...], seed: int
) -> None:
    sampler, seen = TeamSampler([pack(list(team)) for team in teams], "gen1ou"), side(*shown)
    if len({each.species for team in teams for each in team} | {each.species for each in shown}) < 6:
        return
    packed = sampler.sample(seen, random.Random(seed))
    assert packed == sampler.sample(seen, random.Random(seed))
    sets = [unpack_team(each, 1)[0] for each in packed]
    assert len(sets) == len({each.species for each in sets}) == 6
    first = sorted(shown, key=lambda each: each.ident != seen.active)
    for guess, pokemon in zip(sets, first, strict=False):
        assert contradiction(guess, pokemon, 1) is None


def test_a_team_that_agrees_is_drawn_whole() -> None:
    fitting = [a_set(name, ("rest",)) for name in SPECIES[:6]]
    other = [a_set(name, ("psychic",)) for name in SPECIES[:6]]
    sampler = TeamSampler([pack(other), pack(fitting)], "gen1ou")
    seen = side(SeenPokemon(ident="p2: X", species="chansey", uses={"rest": 1}))
    sets = [unpack_team(each, 1)[0] for each in sampler.sample(seen, random.Random(0))]
    assert sets[0] == fitting[2]
    assert sorted(each.species for each in sets) == sorted(SPECIES[:6])
    assert {each.moves for each in sets} == {("rest",)}


def test_what_was_seen_is_completed_by_what_is_most_common() -> None:
    team = [a_set(name, ("bodyslam", "earthquake", "rest", "psychic")) for name in SPECIES[:6]]
    seen = side(SeenPokemon(ident="p2: X", species="tauros", uses={"blizzard": 1}))
    (guess,) = unpack_team(TeamSampler([pack(team)], "gen1ou").sample(seen, random.Random(0))[0], 1)
    assert guess.moves == ("blizzard", "bodyslam", "earthquake", "rest")


def test_items_abilities_and_tera_types_that_were_seen_are_kept() -> None:
    team = [
        a_set("greattusk", ("earthquake",), item="leftovers", ability="protosynthesis").with_tera("Steel"),
        a_set("gholdengo", ("shadowball",), item="choicescarf", ability="goodasgold"),
    ]
    sampler = TeamSampler([pack(team)], "gen9ou")
    tusk = SeenPokemon(ident="p2: T", species="greattusk", first_item="rockyhelmet", item="", tera_type="Ice")
    ghost = SeenPokemon(ident="p2: G", species="gholdengo", changes_moves=True, first_ability="levitate")
    seen = side(tusk, ghost, gen=9, size=2)
    ghostly, tusked = (unpack_team(each, 9)[0] for each in sampler.sample(seen, random.Random(0)))
    assert (tusked.item, tusked.tera_type, tusked.ability) == ("rockyhelmet", "Ice", "protosynthesis")
    assert (ghostly.item, ghostly.ability) == ("", "levitate")  # a Choice Scarf would have held it


def test_the_unseen_are_those_of_the_preview() -> None:
    team = [a_set(name, ("protect",)) for name in ("greattusk", "gholdengo", "kingambit")]
    seen = side(gen=9, size=3, preview=("gholdengo", "dragapult", "kingambit"))
    packed = TeamSampler([pack(team)], "gen9ou").sample(seen, random.Random(0))
    assert sorted(unpack_team(each, 9)[0].species for each in packed) == ["dragapult", "gholdengo", "kingambit"]


def test_a_packed_team_is_read_as_the_simulator_reads_it() -> None:
    line = "Bud||Leftovers|H|Rest,HiddenPowerFire|Bold|252,,4,,252,|M|,0,,,,||50|,,,,,Fire"
    line = line.replace("Bud||", "Bud|Snorlax|")
    first, second = unpack_team(f"{line}]{line.replace('Bud', 'A]b')}", 9)
    assert (first.species, first.ability, first.tera_type, first.moves) == (
        "snorlax", "gluttony", "Fire", ("rest", "hiddenpowerfire"),
    )  # fmt: skip
    assert second == replace(first, name="A]b")
    assert unpack_team(first.pack(), 9) == [first]


def test_wrong_teams_are_refused() -> None:
    with pytest.raises(ConfigError, match="a sampler of no teams"):
        TeamSampler([], "gen1ou")
    with pytest.raises(DataError, match="'what' is no packed team"):
        TeamSampler(["what"], "gen1ou")
    sampler = TeamSampler([pack([a_set("tauros", ("rest",))])], "gen1ou")
    with pytest.raises(DataError, match="too few species to fill a team of 6"):
        sampler.sample(side(), random.Random(0))
