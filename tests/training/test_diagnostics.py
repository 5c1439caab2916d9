"""What a training says of its critics on held-out battles: by hand, of critics that know all or nothing, in a run."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.run_files import metrics
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.training import diagnostics
from gemma_metamon.training.diagnostics import (
    Diagnostics,
    HeldOutBattle,
    Judged,
    auc,
    measure_ranking,
    measure_values,
    player_of,
)
from gemma_metamon.view import BattleView

Array = npt.NDArray[Any]
FREE = np.ones((4, 3), dtype=bool)


def judged(
    values: Array, *, won: bool | None = True, chosen: Any = 0, legal: Array | None = None, player: str | None = None
) -> Judged:
    """A battle of len(values) decisions, of a policy that draws its actions; the result alone is paid, undiscounted."""
    battle = HeldOutBattle(window=None, player=player, won=won)  # type: ignore[arg-type]
    n, n_actions = values.shape
    return Judged(
        battle=battle,
        probs=np.full((n, n_actions), 1 / n_actions),
        values=values.astype(float),
        legal=np.ones((n, n_actions), dtype=bool) if legal is None else legal,
        chosen=np.broadcast_to(chosen, n).astype(np.int64),
        returns=np.full(n, 1000.0 if won else -1000.0),
    )


def test_an_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auc(np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, False, False, True])) == (1 + 1 + 0.5 + 0) / 4


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=20))
def test_an_auc_is_half_for_all_the_same_and_turns_with_the_sign(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([float(s) for s, _ in pairs]), np.array([p for _, p in pairs])
    if positive.all() or not positive.any():
        return
    assert auc(np.zeros_like(scores), positive) == 0.5
    assert auc(-scores, positive) == pytest.approx(1 - auc(scores, positive))


def test_values_are_held_against_the_result_at_four_points() -> None:
    """Critics that know nothing at first and all at three quarters, and that believe half of what they know."""
    ramp = np.array([0.0, 0.0, 500.0, 500.0])
    battles = [judged(sign * np.repeat(ramp[:, None], 3, axis=1), won=sign > 0) for sign in (1, -1)]
    battles.append(judged(np.zeros((4, 3)), won=None))
    measured = measure_values(battles)
    assert [measured[f"value_auc_{point}"] for point in diagnostics.POINTS] == [0.5, 0.5, 1.0, 1.0]
    assert (measured["battles_won"], measured["battles_lost"]) == (1.0, 1.0)
    assert measured["value_slope"] == pytest.approx(2.0)  # a point of value is worth two of return


def test_without_a_lost_battle_or_any_that_ended_there_is_no_auc() -> None:
    assert measure_values([judged(np.zeros((4, 3)), won=None)]) == {"battles_won": 0.0, "battles_lost": 0.0}
    assert "value_auc_1_2" not in measure_values([judged(np.zeros((4, 3)))])


def test_the_critics_best_legal_action_is_held_against_the_recorded_one_by_player() -> None:
    values = np.tile([1.0, 2.0, 9.0], (4, 1))
    only_two = FREE.copy()
    only_two[:, 2] = False
    forced = FREE.copy()
    forced[:, 1:] = False
    battles = [
        judged(values, chosen=1, legal=only_two, player="Duel"),  # 1 is the best of the legal ones, all four times
        judged(values, chosen=[2, 0, -1, 1], player="Random"),  # once of three, one is not known
        judged(values, chosen=0, legal=forced, player="Random"),  # no choice
    ]
    measured = measure_ranking(battles)
    assert measured["critic_agreement"] == 5 / 7
    assert measured["critic_agreement_by_chance"] == pytest.approx((4 / 2 + 3 / 3) / 7)
    assert measured["critic_agreement_of/Duel"] == 1.0
    assert measured["critic_agreement_of/Random"] == pytest.approx(1 / 3)


def test_players_by_the_dozen_are_not_told_apart() -> None:
    battles = [judged(np.zeros((4, 3)), player=f"player {i}") for i in range(9)]
    assert not [name for name in measure_ranking(battles) if name.startswith("critic_agreement_of/")]


def test_advantages_correlate_with_what_followed() -> None:
    """Whoever takes action 2 wins: critics who know have a correlation, those who say the opposite a negative one."""
    knows = np.tile([-300.0, 0.0, 300.0], (4, 1))
    for sign in (1, -1):
        battles = [judged(sign * knows, chosen=2 if won else 0, won=won) for won in (True, False) * 10]
        measured = measure_ranking(battles)
        assert measured["advantage_correlation"] == pytest.approx(sign)
        assert measured["advantage_correlation_sigmas"] == pytest.approx(sign * math.sqrt(20))


@pytest.mark.parametrize(
    ("name", "player"),
    [
        ("gen1ou-1_Unrated_Duel-0a1b2c3d_vs_Duel-ffffffff_11-20-2026_WIN.json.lz4", "Duel"),
        ("gen1ou-1_1500_SimpleHeuristics-p1_vs_Duel-p2_11-20-2026_LOSS.json.lz4", "SimpleHeuristics"),
        ("gen1ou-1_1500_Ann-Marie_vs_Bob_11-20-2026_LOSS.json.lz4", "Ann-Marie"),
        ("battle.json.lz4", None),
    ],
)
def test_who_decided_is_in_the_files_name(name: str, player: str | None) -> None:
    assert player_of(name) == player


def agent_of(**options: Any) -> Any:
    bound = {"critic_warmup_updates": 0, "advantage": "critic", "online_coeff": 0.0, "owner": "MultiTaskAgent"}
    return SimpleNamespace(
        options=SimpleNamespace(**bound | options), uses_critics=True, trains_critics_alone=False, updates_made=3
    )


KNOWN = {
    "value_auc_1_2": 0.8,
    "battles_won": 50.0,
    "battles_lost": 50.0,
    "battles_ranked": 100.0,
    "critic_agreement": 0.4,
    "critic_agreement_by_chance": 0.2,
    "critic_agreement_sigmas": 9.0,
    "advantage_correlation_sigmas": 0.1,
}


@pytest.mark.parametrize(
    ("measured", "options", "said"),
    [
        ({}, {}, None),
        ({"value_auc_1_2": 0.55}, {}, "the result with an AUC of 0.55, chance 0.50"),
        ({"value_auc_1_2": 0.55}, {"advantage": "target"}, "AUC of 0.55"),
        ({"value_auc_1_2": 0.55, "battles_lost": 3.0}, {}, None),
        ({"critic_agreement_sigmas": 1.0}, {}, "one in 40% of held-out decisions, by chance it would be in 20%"),
        ({"critic_agreement_sigmas": 1.0, "battles_ranked": 9.0}, {}, None),
        ({"critic_agreement_sigmas": 1.0}, {"advantage": "target"}, None),
        ({"critic_agreement_sigmas": 1.0}, {"advantage": "target", "online_coeff": 0.2}, "the recorded one in 40%"),
        # players who choose badly: critics disagree with them, and are right
        ({"critic_agreement_sigmas": -9.0, "advantage_correlation_sigmas": 5.0}, {}, None),
        ({"critic_agreement_sigmas": 1.0}, {"critic_warmup_updates": 4}, None),
        ({"critic_agreement_sigmas": 1.0}, {"critic_warmup_updates": 3}, "the recorded one"),
    ],
)
def test_critics_that_know_too_little_to_be_heard_are_warned_of_once(
    measured: dict[str, float], options: dict[str, Any], said: str | None
) -> None:
    diagnosed = Diagnostics([], BattleView.default(), 10)
    known = {f"held_out/{name}": value for name, value in (KNOWN | measured).items()}
    warning = diagnosed.warning(agent_of(**options), known)
    if said is None:
        assert warning is None
        return
    assert said in (warning or "")
    assert "MultiTaskAgent.critic_warmup_updates" in (warning or "")
    assert diagnosed.warning(agent_of(**options), known) is None


def test_critics_alone_and_imitation_are_not_warned_of() -> None:
    diagnosed = Diagnostics([], BattleView.default(), 10)
    nothing = {f"held_out/{name}": value for name, value in (KNOWN | {"value_auc_1_2": 0.5}).items()}
    for state in ({"trains_critics_alone": True}, {"uses_critics": False}):
        agent = agent_of()
        vars(agent).update(state)
        assert diagnosed.warning(agent, nothing) is None


def test_the_policys_entropy_and_its_distance_from_the_start_are_those_of_legal_actions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    legal = FREE.copy()
    legal[:, 2] = False
    policies = iter([[0.25, 0.25, 0.5], [0.6, 0.2, 0.2]])  # of the legal two: 1/2 and 1/2, then 3/4 and 1/4

    def judge(*_: Any) -> list[Judged]:
        one = judged(np.zeros((4, 3)), legal=legal)
        return [Judged(**{**vars(one), "probs": np.tile(next(policies), (4, 1))})]

    monkeypatch.setattr(diagnostics, "judge", judge)
    diagnosed = Diagnostics([], BattleView.default(), 10)
    diagnosed.remember_start(agent_of())
    measured = diagnosed.measure(agent_of())
    assert measured["held_out/policy_entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert measured["held_out/policy_kl"] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_a_run_logs_them_from_its_start_and_a_resumed_one_knows_where_it_started(
    tmp_path: Path,
) -> None:
    steps = ["--steps_per_epoch", "4", "--gin_override", "MetamonAMAGOExperiment.learning_rate = 1e-2"]
    for where, *flags in (["whole", "2"], ["parts", "1"], ["parts", "2", "--ckpt", "1"]):
        assert main(train_command(tmp_path / where, *steps, "--epochs", *flags)) == 0
    whole, parts = tmp_path / "whole" / "run", tmp_path / "parts" / "run"
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if "held_out/policy_kl" in line]
    assert [line["update"] for line in told] == [0, 4, 8]
    assert told[0]["held_out/policy_kl"] == 0.0
    assert all(line["held_out/policy_kl"] > 0.0 for line in told[1:])
    for line in told:
        assert 0 <= line["held_out/critic_agreement"] <= 1
        assert 0 < line["held_out/critic_agreement_by_chance"] < 1
        assert line["held_out/policy_entropy"] > 0
    assert metrics(parts, "held_out/policy_kl") == pytest.approx(metrics(whole, "held_out/policy_kl"), rel=1e-4)


def test_imitation_has_no_critics_to_tell_of(tmp_path: Path) -> None:
    assert main(train_command(tmp_path, training="il.gin")) == 0
    assert metrics(tmp_path / "run", "held_out/agreement")
    assert not metrics(tmp_path / "run", "held_out/critic_agreement")
