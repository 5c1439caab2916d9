import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from poke_env.battle import Battle, Pokemon
from poke_env.player import BattleOrder, ForfeitBattleOrder, Player, SingleBattleOrder
from support.live_battles import BENCH, MOVES, battle_at, by_name, pokemon
from support.live_goldens import FORMATS, decisions, quiet_logger

from gemma_metamon.battle.state import BattleState
from gemma_metamon.showdown.live.orders import action_to_order, as_sent, legal_mask, legal_options, order_to_action


def legal(battle: Battle) -> list[int]:
    return [int(action) for action in np.flatnonzero(legal_mask(legal_options(battle)))]


def order_of(action: int, battle: Battle) -> BattleOrder:
    return action_to_order(action, legal_options(battle))


def action_of(order: BattleOrder, battle: Battle) -> int:
    return order_to_action(order, legal_options(battle))


def named(battle: Battle) -> dict[int, str]:
    return {action: by_name(order) for action, order in legal_options(battle).items()}


def test_moves_and_switches_are_numbered_by_name() -> None:
    assert named(battle_at()) == {
        0: "/choose move bodyslam",
        1: "/choose move earthquake",
        2: "/choose move rest",
        3: "/choose move selfdestruct",
        4: "/choose switch Alakazam",
        5: "/choose switch Chansey",
        6: "/choose switch Gengar",
        7: "/choose switch Starmie",
        8: "/choose switch Tauros",
    }


def test_tera_doubles_the_moves() -> None:
    tera = named(battle_at(canTerastallize="Ghost"))
    assert tera[9] == "/choose move bodyslam terastallize"
    assert sorted(tera) == list(range(13))


def test_disabled_moves_keep_their_number_but_are_illegal() -> None:
    battle = battle_at([{"id": move, "disabled": move == "bodyslam"} for move in MOVES], canTerastallize="Ghost")
    assert legal(battle) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]


def test_trapped_pokemon_cannot_leave() -> None:
    assert legal(battle_at(trapped=True)) == [0, 1, 2, 3]


def test_forced_switch_allows_no_move_and_no_fainted_pokemon() -> None:
    assert named(battle_at(force_switch=True, fainted=("Alakazam", "Gengar"))) == {
        4: "/choose switch Chansey",
        5: "/choose switch Starmie",
        6: "/choose switch Tauros",
    }


def test_reviving_chooses_among_the_fainted() -> None:
    battle = battle_at(force_switch=True, reviving=True, fainted=("Tauros", "Gengar"))
    assert named(battle) == {4: "/choose switch Gengar", 5: "/choose switch Tauros"}


@pytest.mark.parametrize(
    ("pseudo_move", "message"),
    [("recharge", "/choose move 1"), ("struggle", "/choose move struggle"), ("fight", "/choose move fight")],
)
def test_pseudo_moves_are_action_0(pseudo_move: str, message: str) -> None:
    assert named(battle_at([{"id": pseudo_move}], trapped=True)) == {0: message}


@pytest.mark.parametrize("battle_format", FORMATS)
def test_orders_and_actions_are_inverse_in_recorded_battles(battle_format: str) -> None:
    for battle, golden in decisions(battle_format):
        if battle.finished:
            continue
        state = BattleState.from_dict(golden)
        assert legal(battle)
        for action in legal(battle):
            order = order_of(action, battle)
            assert action_of(order, battle) == action
            if 4 <= action <= 8:
                assert isinstance(order, SingleBattleOrder)
                assert order.order is battle.team[f"{battle.player_role}: {order.order.name}"]  # type: ignore[union-attr]
                assert order.order.species == state.switches[action - 4].name  # type: ignore[union-attr]


@given(
    disabled=st.sets(st.sampled_from(MOVES)),
    fainted=st.sets(st.sampled_from(BENCH)),
    trapped=st.booleans(),
    tera=st.booleans(),
)
def test_whatever_is_legal_round_trips_and_something_is(
    disabled: set[str], fainted: set[str], trapped: bool, tera: bool
) -> None:
    moves = [{"id": move, "disabled": move in disabled} for move in MOVES]
    battle = battle_at(moves, fainted=tuple(fainted), trapped=trapped, **({"canTerastallize": "Ghost"} if tera else {}))
    actions = legal(battle)
    assert actions
    if len(disabled) < len(MOVES):
        assert all(action_of(order_of(action, battle), battle) == action for action in actions)


def sent(order: BattleOrder | str, battle: Battle) -> str:
    return as_sent(SingleBattleOrder(order) if isinstance(order, str) else order, battle).message


def test_moves_and_switches_are_sent_by_their_place_in_the_request() -> None:
    battle = battle_at(canTerastallize="Ghost")
    by_place = {action: order_of(action, battle).message for action in legal(battle)}
    assert {action: sent(message, battle) for action, message in named(battle).items()} == by_place
    assert by_place == {
        0: "/choose move 2",
        1: "/choose move 4",
        2: "/choose move 1",
        3: "/choose move 3",
        4: "/choose switch 5",
        5: "/choose switch 4",
        6: "/choose switch 2",
        7: "/choose switch 6",
        8: "/choose switch 3",
        9: "/choose move 2 terastallize",
        10: "/choose move 4 terastallize",
        11: "/choose move 1 terastallize",
        12: "/choose move 3 terastallize",
    }


def test_a_switch_to_the_species_that_a_ditto_has_taken_is_no_switch_to_the_ditto() -> None:
    """The server took "switch Cinderace" for the Ditto on the field."""
    side = [pokemon("Ditto", active=True), pokemon("Cinderace")]
    battle = Battle("battle-gen9ou-1", "Red", quiet_logger(), gen=9)
    battle.parse_request({"side": {"pokemon": side}, "active": [{"moves": [{"id": "rest"}]}]})
    battle.team["p1: Ditto"].transform(Pokemon(9, species="cinderace"))
    assert sent(order_of(4, battle), battle) == "/choose switch 2"
    assert sent("/choose switch Cinderace", battle) == "/choose switch 2"  # as a player in words has it


def test_of_two_of_one_name_the_one_that_may_come_in_is_sent() -> None:
    battle = battle_at(force_switch=True, reviving=True, fainted=("Alakazam",))
    battle.last_request["side"]["pokemon"][2]["details"] = "Alakazam, L50"
    assert sent("/choose switch Alakazam", battle) == "/choose switch 5"
    alive = battle_at(fainted=("Alakazam",))
    alive.last_request["side"]["pokemon"][2]["details"] = "Alakazam, L50"
    assert sent("/choose switch alakazam", alive) == "/choose switch 3"


@pytest.mark.parametrize(
    ("move", "place"),
    [("Conversion", 1), ("conversion2", 2), ("Hidden Power [Ice]", 3), ("hiddenpowerice60", 3), ("Return 102", 4)],
)
def test_moves_are_found_however_they_are_spelled(move: str, place: int) -> None:
    ids = ("conversion", "conversion2", "hiddenpower", "return")
    battle = battle_at(None)
    battle.last_request["active"][0]["moves"] = [{"id": move_id} for move_id in ids]
    assert sent(f"/choose move {move}", battle) == f"/choose move {place}"
    assert sent(f"/choose move {move} zmove", battle) == f"/choose move {place} zmove"


@pytest.mark.parametrize(
    "order", ["/choose move 3", "/choose move 2 1", "/choose move splash", "/choose switch 3", "/choose switch Mew"]
)
def test_orders_that_name_nothing_of_the_request_stay_as_they_are(order: str) -> None:
    assert sent(order, battle_at()) == order


def test_orders_that_choose_no_move_or_pokemon_stay_as_they_are() -> None:
    for order in (ForfeitBattleOrder(), Player.choose_default_move()):
        assert as_sent(order, battle_at()) is order


def test_of_two_moves_with_one_name_the_one_that_can_be_used_is_sent() -> None:
    """As Mimic makes them: by name, the server would take the first."""
    spent = {"id": "bodyslam", "disabled": True}
    battle = battle_at([spent, {"id": "rest"}, {"id": "bodyslam"}, {"id": "earthquake"}], canTerastallize="Ghost")
    assert legal(battle) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    orders = {action: as_sent(order_of(action, battle), battle) for action in legal(battle)}
    assert orders[0].message == "/choose move 3"
    assert orders[9].message == "/choose move 3 terastallize"
    assert orders[2].message == "/choose move 2"
    assert {action: action_of(order, battle) for action, order in orders.items()} == {a: a for a in orders}
    assert [as_sent(order, battle).message for order in orders.values()] == [o.message for o in orders.values()]


def test_poke_envs_own_orders_have_actions() -> None:
    battle = battle_at(canTerastallize="Ghost")
    assert sorted(action_of(as_sent(order, battle), battle) for order in battle.valid_orders) == list(range(13))


def test_orders_outside_the_numbering_are_missing() -> None:
    battle = battle_at()
    assert action_of(ForfeitBattleOrder(), battle) == -1
    assert action_of(Player.choose_default_move(), battle) == -1


def test_illegal_action_is_an_error_that_lists_the_legal_ones() -> None:
    with pytest.raises(ValueError, match=r"action 4 is not legal; legal: 0 /choose move 2, 1 /choose move 4, 2"):
        order_of(4, battle_at(trapped=True))
