"""What DuelTrainer does in generation 9 besides attacking, and that nothing of it reaches the generations before."""

import hashlib
import logging
from typing import Any

import pytest
from poke_env.battle import Battle, SideCondition
from support.live_goldens import decisions, feed
from support.trainer_situations import choice, own, situation, trainer

from gemma_metamon.showdown.players.registry import PLAYERS
from gemma_metamon.showdown.scripted.tactics import entering_loss
from gemma_metamon.showdown.scripted.thresholds import THRESHOLDS, thresholds_of
from gemma_metamon.showdown.scripted.trainers import DuelTrainer

FIRST_CHOICES = {  # digests of what was chosen in tests/goldens/live before there were thresholds by generation
    ("gen1ou", "TypeTrainer"): "636bc91c0614a2b6",
    ("gen1ou", "DamageTrainer"): "4991d58d9d36362c",
    ("gen1ou", "DuelTrainer"): "62e9de9dd052f91e",
    ("gen9ou", "TypeTrainer"): "65d4b299710bac82",
    ("gen9ou", "DamageTrainer"): "855dd18b96fffeee",
}


@pytest.fixture(autouse=True)
def quiet_poke_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("poke-env"), "level", logging.CRITICAL)


@pytest.mark.parametrize(("battle_format", "name"), FIRST_CHOICES)
def test_choices_outside_generation_nine_are_those_of_the_first_version(battle_format: str, name: str) -> None:
    player, digest = trainer(PLAYERS[name]), hashlib.sha256()  # type: ignore[arg-type]
    for battle, _ in decisions(battle_format):
        if not battle.finished:
            digest.update(f"{player.choose_move(battle).message}\n".encode())  # type: ignore[union-attr]
    assert digest.hexdigest()[:16] == FIRST_CHOICES[battle_format, name]


def test_thresholds_hold_until_a_later_generation_has_its_own() -> None:
    assert all(thresholds_of(gen) is THRESHOLDS[1] for gen in range(1, 9))
    assert thresholds_of(9) is THRESHOLDS[9]
    assert not THRESHOLDS[1].modern


def gen9(species: str, moves: list[str], condition: str = "100/100", **changes: Any) -> dict[str, Any]:
    return {**own(species, moves, condition, gen=9), **changes}


def facing(active: dict[str, Any], opponent: str, *bench: dict[str, Any], condition: str = "100/100") -> Battle:
    return situation(active, opponent, condition, *bench, gen=9)


def test_rocks_are_laid_once_and_not_for_the_last_one() -> None:
    hippowdon = gen9("hippowdon", ["stealthrock", "slackoff", "earthquake"])
    battle = facing(hippowdon, "Corviknight")
    assert choice(DuelTrainer, battle) == "move stealthrock"
    feed(battle, ["|-sidestart|p2: Blue|move: Stealth Rock"])
    assert choice(DuelTrainer, battle) != "move stealthrock"


def test_a_safe_fighter_raises_its_stats_and_a_dying_one_attacks() -> None:
    moves = ["swordsdance", "ironhead"]
    assert choice(DuelTrainer, facing(gen9("kingambit", moves), "Blissey")) == "move swordsdance"
    assert choice(DuelTrainer, facing(gen9("kingambit", moves, "10/100"), "Garchomp")) == "move ironhead"
    assert choice(DuelTrainer, facing(gen9("kingambit", moves), "Clefable", condition="5/100")) == "move ironhead"


def test_moves_that_fail_or_come_late_are_no_attacks() -> None:
    slowking = gen9("slowking", ["futuresight", "surf"])
    assert choice(DuelTrainer, facing(slowking, "Hitmonlee")) == "move surf"
    battle = facing(gen9("lokix", ["firstimpression", "leechlife"]), "Slowbro")
    assert choice(DuelTrainer, battle) == "move firstimpression"
    feed(battle, ["|turn|2"])
    assert battle.active_pokemon is not None
    battle.active_pokemon._active_turns = 3
    assert choice(DuelTrainer, battle) == "move leechlife"


def test_a_lost_duel_is_left_with_a_move_that_pivots() -> None:
    scizor, heatran = gen9("scizor", ["uturn", "bulletpunch"]), gen9("heatran", ["lavaplume", "earthpower"])
    assert choice(DuelTrainer, facing(scizor, "Ninetales", heatran)) in ("move uturn", "switch Heatran")
    assert choice(DuelTrainer, facing(scizor, "Ninetales")) != "switch Heatran"


def test_healing_waits_where_they_take_more_than_it_gives() -> None:
    toxapex = ["recover", "surf"]
    assert choice(DuelTrainer, facing(gen9("toxapex", toxapex, "45/100"), "Clefable")) == "move recover"
    assert choice(DuelTrainer, facing(gen9("weavile", ["recover", "iceshard"], "45/100"), "Iron Valiant")) == (
        "move iceshard"
    )


def test_one_that_is_locked_into_a_move_reckons_with_that_move_alone() -> None:
    """Locked into a move that does nothing to a Ghost, it leaves; with the choice it stays and attacks."""
    band = gen9("rillaboom", ["bodyslam", "knockoff"], item="choiceband")
    bench = gen9("kingambit", ["kowtowcleave"])
    battle = facing(band, "Gengar", bench)
    assert choice(DuelTrainer, battle) == "move knockoff"
    offered = [
        {"id": "bodyslam", "move": "Body Slam", "pp": 15, "maxpp": 24, "disabled": False},
        {"id": "knockoff", "move": "Knock Off", "pp": 20, "maxpp": 32, "disabled": True},
    ]
    battle.parse_request({**battle.last_request, "active": [{"moves": offered}]})
    assert choice(DuelTrainer, battle) == "switch Kingambit"


def test_entering_costs_what_the_hazards_take() -> None:
    charizard, boots = gen9("charizard", ["flamethrower"]), gen9("charizard", ["flamethrower"], item="heavydutyboots")
    for member, loss in ((charizard, 0.5), (boots, 0.0)):
        battle = facing(gen9("heatran", ["lavaplume"]), "Clefable", member)
        feed(battle, ["|-sidestart|p1: Red|move: Stealth Rock", "|-sidestart|p1: Red|Spikes"])
        assert battle.side_conditions.keys() == {SideCondition.STEALTH_ROCK, SideCondition.SPIKES}
        assert entering_loss(battle.team["p1: Charizard"], battle) == loss
