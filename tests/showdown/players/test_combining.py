"""Members' policies made one: the mean and the vote keep to what is legal and to the weights, in whatever order."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gemma_metamon.showdown.players.combining import count_votes, drawn, elect, mean_policy, tempered

A = 5
LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=A, max_size=A)
LEGAL = st.lists(st.booleans(), min_size=A, max_size=A).filter(any)
MEMBERS = st.lists(st.tuples(LOGITS, st.floats(0.01, 10)), min_size=1, max_size=4)


def policies(members: list[tuple[list[float], float]], legal: list[bool]) -> tuple[Tensor, Tensor]:
    """(M, 1, A) with 0 where an action is not legal, and (M,)."""
    logits = torch.tensor([logits for logits, _ in members])[:, None]
    return logits.masked_fill(~torch.tensor(legal), -torch.inf).softmax(-1), torch.tensor([w for _, w in members])


def voted(probs: Tensor, weights: Tensor) -> Tensor:
    return elect(count_votes(probs.argmax(-1), probs, weights), mean_policy(probs, weights))


@given(MEMBERS, LEGAL)
def test_the_mean_is_a_policy_over_the_legal_actions(members: list, legal: list[bool]) -> None:
    mean = mean_policy(*policies(members, legal))
    torch.testing.assert_close(mean.sum(-1), torch.ones(1), rtol=0, atol=1e-5)
    assert not mean[0, ~torch.tensor(legal)].any()
    assert (mean >= 0).all()


@given(MEMBERS, LEGAL)
def test_an_elected_action_is_legal(members: list, legal: list[bool]) -> None:
    assert legal[int(voted(*policies(members, legal)))]


@given(LOGITS, LEGAL, st.floats(0.001, 1000))
def test_one_member_is_left_as_it_is(logits: list[float], legal: list[bool], weight: float) -> None:
    probs, weights = policies([(logits, weight)], legal)
    assert torch.equal(mean_policy(probs, weights), probs[0])
    assert torch.equal(voted(probs, weights), probs[0].argmax(-1))


@given(MEMBERS, LEGAL, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(members: list, legal: list[bool], dice: object) -> None:
    shuffled = list(members)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    (probs, weights), (others, their_weights) = policies(members, legal), policies(shuffled, legal)
    torch.testing.assert_close(mean_policy(probs, weights), mean_policy(others, their_weights), rtol=0, atol=1e-6)
    votes = count_votes(probs.argmax(-1), probs, weights)
    torch.testing.assert_close(votes, count_votes(others.argmax(-1), others, their_weights), rtol=0, atol=1e-6)


@given(LOGITS, LOGITS, LEGAL, st.integers(1, 5))
def test_a_weight_is_so_many_members(one: list[float], two: list[float], legal: list[bool], n: int) -> None:
    weighted, repeated = policies([(one, n), (two, 1)], legal), policies([(one, 1)] * n + [(two, 1)], legal)
    torch.testing.assert_close(mean_policy(*weighted), mean_policy(*repeated), rtol=0, atol=1e-6)
    assert torch.equal(voted(*weighted), voted(*repeated))


def test_equally_many_votes_are_settled_by_the_mean() -> None:
    """0.1 + 0.2 and 0.3 are equally many, though they are not the same number."""
    probs = torch.tensor([[[0.6, 0.4, 0.0]], [[0.6, 0.4, 0.0]], [[0.05, 0.95, 0.0]]])
    weights = torch.tensor([0.1, 0.2, 0.3])
    assert voted(probs, weights).tolist() == [1]
    assert voted(probs, torch.tensor([0.1, 0.21, 0.3])).tolist() == [0]


def test_most_votes_win_against_the_mean() -> None:
    probs = torch.tensor([[[0.51, 0.49]], [[0.51, 0.49]], [[0.0, 1.0]]])
    weights = torch.ones(3)
    assert mean_policy(probs, weights).argmax(-1).tolist() == [1]
    assert voted(probs, weights).tolist() == [0]


def test_who_has_no_legal_action_has_no_say() -> None:
    probs = torch.tensor([[[0.0, 0.0, 0.0]], [[0.2, 0.3, 0.5]]])
    assert torch.equal(mean_policy(probs, torch.tensor([9.0, 1.0])), probs[1])
    assert voted(probs, torch.tensor([9.0, 1.0])).tolist() == [2]


@given(LOGITS, LEGAL, st.floats(0.1, 10), st.floats(0.1, 1))
def test_a_lower_temperature_follows_from_a_higher_one(
    logits: list[float], legal: list[bool], high: float, share: float
) -> None:
    masked = torch.tensor(logits).masked_fill(~torch.tensor(legal), -torch.inf)
    made = tempered((masked / high).softmax(-1), made_at=high, temperature=high * share)
    torch.testing.assert_close(made, (masked / (high * share)).softmax(-1), rtol=1e-3, atol=1e-5)
    assert not made[~torch.tensor(legal)].any()


def test_temperature_0_is_the_most_probable_action_alone() -> None:
    assert tempered(torch.tensor([[0.2, 0.5, 0.3]]), made_at=1.0, temperature=0.0).tolist() == [[0.0, 1.0, 0.0]]


@given(st.lists(LOGITS, min_size=1, max_size=4), LEGAL, st.floats(0, 1, exclude_max=True))
def test_a_drawn_action_is_legal_and_its_own_rows_alone(rows: list, legal: list[bool], at: float) -> None:
    probs = torch.tensor(rows).masked_fill(~torch.tensor(legal), -torch.inf).softmax(-1)
    numbers = torch.full((len(rows),), at, dtype=torch.float64)
    actions = drawn(probs, numbers)
    assert all(legal[action] for action in actions.tolist())
    assert actions[-1:].equal(drawn(probs[-1:], numbers[-1:]))


def test_actions_are_drawn_as_often_as_they_are_probable() -> None:
    probs = torch.tensor([0.1, 0.0, 0.6, 0.3, 0.0])
    at = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = drawn(probs.expand(1000, A), at).bincount(minlength=A)
    torch.testing.assert_close(counts / 1000, probs, rtol=0, atol=0.002)
