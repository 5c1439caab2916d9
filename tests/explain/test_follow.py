"""What is told of an agent's decisions is what the agent reads, thinks and does in play."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.explained import ENTITY, build_agent, explain, play

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.explain.follow import Decision, Follower, follow_recorded
from gemma_metamon.showdown.players.policy_player import BatchedPolicy
from gemma_metamon.text.phrases import join_phrases
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.view import BattleView

GRANULARITIES = pytest.mark.parametrize("overrides", [[], [ENTITY]], ids=["turn", "entity"])


def probabilities(decision: Decision) -> dict[int, float]:
    return {option.action: option.probability for option in decision.options}


class Listening:
    """An observer that notes what it is told; with it, the probabilities that each decision was made by."""

    def __init__(self, policy: BatchedPolicy) -> None:
        self.told: list[tuple[np.ndarray, int]] = []
        self.probs: list[torch.Tensor] = []
        self.ended = 0
        act = policy.agent.act

        def noting(*arguments: Any, **options: Any) -> Any:
            actions, probs = act(*arguments, **options)
            self.probs += probs
            return actions, probs

        policy.agent.act = noting

    def on_decision(self, player: Any, battle: Any, state: Any, legal: np.ndarray, action: int) -> None:
        self.told.append((legal, action))

    def on_end(self, player: Any, battle: Any, state: Any) -> None:
        self.ended += 1


@pytest.mark.slow
@pytest.mark.server
@GRANULARITIES
def test_a_recorded_battle_is_explained_as_it_was_decided_live(view: BattleView, overrides: list[str]) -> None:
    """Beyond the agent's memory (12 decisions), at a temperature, drawn actions."""
    agent = build_agent(view, *overrides)
    policy = BatchedPolicy(agent, view, max_battles=2, sample=True, temperature=0.7)
    listening = Listening(policy)
    (record,) = play(policy, listening, 1)
    del agent.act
    assert listening.ended == 1
    assert len(listening.told) == len(listening.probs) == len(record.states) - 1 > 12
    by_simulator = [legal for legal, _ in listening.told]
    decisions = list(follow_recorded(Follower(agent, view, temperature=0.7), record, by_simulator))
    as_recorded = list(follow_recorded(Follower(agent, view, temperature=0.7), record))
    for t, (decision, live) in enumerate(zip(decisions, listening.probs, strict=True)):
        shown = probabilities(decision)
        assert sorted(shown) == np.flatnonzero(by_simulator[t]).tolist()
        assert decision.chosen == listening.told[t][1]
        torch.testing.assert_close(torch.tensor(list(shown.values())), live[list(shown)], rtol=0, atol=1e-5)
        if np.array_equal(view.action_space.legal(record.states[t]), by_simulator[t]):
            assert probabilities(as_recorded[t]) == pytest.approx(shown, abs=1e-5)


@GRANULARITIES
def test_policy_and_critics_are_those_of_the_whole_trajectory(
    view: BattleView, overrides: list[str], battle_file: Path
) -> None:
    """Within the agent's memory, against the batch that training reads."""
    agent = build_agent(view, *overrides, "MetamonAMAGOExperiment.max_seq_len = 400")
    encoded = encode_battle(battle_file, view)
    batch = collate([take_window(encoded, 0, encoded.n_decisions)])
    explanation = explain(agent, view, battle_file)
    with torch.no_grad():
        probs = agent.action_probs(batch)[0]  # (T, A)
        state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)
        chosen = torch.tensor([decision.judged for decision in explanation.decisions])
        one_hot = torch.nn.functional.one_hot(chosen, 13).float()[None, None, :, None]  # (1, 1, L, 1, A)
        log_probs = agent.critics(state[:, :-1], one_hot.expand(-1, -1, -1, len(agent.discounts), -1))[0, 0, :, :, -1]
    assert encoded.actions[:-1].tolist() == [-1 if d.chosen is None else d.chosen for d in explanation.decisions]
    for t, decision in enumerate(explanation.decisions):
        legal = torch.from_numpy(encoded.legal_actions[t])
        expected = probs[t] * legal / (probs[t] * legal).sum()  # play gives illegal actions exactly 0
        shown = probabilities(decision)
        torch.testing.assert_close(torch.tensor(list(shown.values())), expected[list(shown)], rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.tensor(decision.distributions), log_probs[t].exp(), rtol=0, atol=1e-5)
        bins = torch.tensor(explanation.setting.returns)
        means = (log_probs[t].exp() * bins).sum(-1)  # (C,)
        torch.testing.assert_close(torch.tensor(decision.judged_option.values), means, rtol=0, atol=1e-3)


@pytest.mark.parametrize("phrasing", ["natural", "raw"])
@GRANULARITIES
def test_the_words_are_those_that_gemma_reads(
    view: BattleView, overrides: list[str], phrasing: str, battle_file: Path
) -> None:
    agent = build_agent(view, *overrides, f"GemmaTstepEncoder.phrasing = '{phrasing}'")
    words, _ = view.obs_space.observe_battle(load_battle(battle_file).states)
    table = SubwordTable.load(phrasing)
    for decision, turn in zip(explain(agent, view, battle_file).decisions, words.tolist(), strict=False):
        text = " ".join(entity.text for entity in decision.entities)
        assert text == join_phrases(turn, phrasing, view.vocabulary)
        if not overrides:
            assert decision.subwords == len(table.encode_line(turn))


@pytest.mark.parametrize(
    ("overrides", "place", "entity"), [([], 16, "move 2"), ([ENTITY], 4, "move 2"), ([ENTITY], 12, "opponent")]
)
def test_attention_is_credited_to_the_entity_that_gets_it(
    view: BattleView, overrides: list[str], place: int, entity: str, battle_file: Path
) -> None:
    """A readout whose every head looks at one place: a word's (the second move's name is word 16), or an entity's."""
    agent = build_agent(view, *overrides)
    with torch.no_grad():
        agent.tstep_encoder.readout.slot_scores.zero_()[place] = 1000.0
    for decision in explain(agent, view, battle_file).decisions:
        shares = {part.name: part.attention for part in decision.entities}
        assert shares.pop(entity) == pytest.approx(1.0, abs=1e-6)
        assert sum(shares.values()) + decision.start_attention == pytest.approx(0.0, abs=1e-6)


@GRANULARITIES
def test_attention_is_told_also_of_texts_that_are_remembered(
    view: BattleView, overrides: list[str], battle_file: Path
) -> None:
    agent = build_agent(view, *overrides)
    first, again = (explain(agent, view, battle_file).decisions for _ in range(2))
    assert agent.tstep_encoder.reader.cache.hits > 0
    for before, after in zip(first, again, strict=True):
        assert sum(part.attention for part in before.entities) + before.start_attention == pytest.approx(1.0, abs=1e-5)
        assert [part.attention for part in after.entities] == pytest.approx(
            [part.attention for part in before.entities], abs=1e-6
        )
