"""Gemma's scores of the actions' words: those of each line read alone, a distribution, of the right names."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import BATTLE_FILES
from support.small_agent import BACKBONE
from torch import Tensor, nn

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.observation_space import BLANK
from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.action_scores import N_SCORES, NO_SUCH_ACTION, Branches, score_actions
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.text.action_words import CUE, name_actions
from gemma_metamon.text.subwords import BOS_ID, SubwordTable
from gemma_metamon.text.vocabulary import Vocabulary

SPACE = OBSERVATION_SPACES["TeamPreviewObservationSpace"]
WORDS = Vocabulary.default().words
TABLE = SubwordTable.load("natural").packaged
SPACES = {
    "obs_space": {"text_tokens": SimpleNamespace(shape=(SPACE.n_words,)), "numbers": SimpleNamespace(shape=(55,))},
    "rl2_space": SimpleNamespace(shape=(14,)),
}
TINY = {**BACKBONE, "sliding_window": 32}


def build(**changes: Any) -> GemmaTstepEncoder:
    torch.manual_seed(0)
    options = {"pretrained": False, "backbone_config": TINY, "text_emb_dim": 24, "summary_tokens": 3}
    options |= {"observation_space": SPACE.name, "action_scores": True, "text_cache_mb": 0, "use_lora": False}
    return GemmaTstepEncoder(**SPACES, **{**options, **changes}).eval()


@pytest.fixture(scope="module")
def encoder() -> GemmaTstepEncoder:
    return build()


def turns_of(*battles: int) -> list[list[str]]:
    """The words of a few turns of recorded battles."""
    turns = [SPACE.observe_battle(load_battle(BATTLE_FILES[battle]).states)[0].tolist() for battle in battles]
    return [turn for battle in turns for turn in battle[:4]]


def ids_of(turns: list[list[str]]) -> Tensor:
    ids = {word: index for index, word in enumerate(WORDS)}
    return torch.tensor([[ids.get(word, -1) for word in turn] for turn in turns])


def actions_of(turn: list[str]) -> list[list[str]]:
    """The words of each action, none of one that is not there."""
    return [[] if turn[action.name] == BLANK else [*action.tags, turn[action.name]] for action in name_actions(SPACE)]


def spelled_out(backbone: nn.Module, head: Tensor, turn: list[str]) -> list[float]:
    """The scores of a turn by the definition: each line is read alone, and each way of each crossing looked at."""
    beginning = TABLE.encode_line([*turn, CUE])
    endings = [tuple(TABLE.encode_line([*turn, CUE, *words])[len(beginning) :]) for words in actions_of(turn)]
    ways = [(*ending, BOS_ID) for ending in endings if ending]
    scores = []
    for ending in endings:
        score = 0.0
        for place, subword in enumerate((*ending, BOS_ID) if ending else ()):
            line = torch.from_numpy(TABLE.compact([[*beginning, *ending[:place]]]))
            state = backbone(input_ids=line).last_hidden_state[0, -1]
            choices = sorted({way[place] for way in ways if way[:place] == ending[:place]})
            score += (head[TABLE.compact(choices)] @ state).log_softmax(0)[choices.index(subword)].item()
        scores.append(score if ending else NO_SUCH_ACTION)
    return scores


def scores_of(encoder: GemmaTstepEncoder, turns: list[list[str]]) -> Tensor:
    return encoder.encode_texts(ids_of(turns))[:, -N_SCORES:]


@torch.no_grad()
def test_scores_are_those_of_each_line_read_alone(encoder: GemmaTstepEncoder) -> None:
    backbone: Any = encoder.backbone
    turns = turns_of(0, 3)[::3]
    expected = [spelled_out(backbone, backbone.embed_tokens.weight, turn) for turn in turns]
    torch.testing.assert_close(scores_of(encoder, turns), torch.tensor(expected), rtol=0, atol=1e-4)


@torch.no_grad()
def test_what_actions_have_in_common_in_words_is_no_accident_of_the_batch(encoder: GemmaTstepEncoder) -> None:
    """A name that begins another, two actions of one name, and a turn without any action."""
    turns = turns_of(0)
    moves, switches = [action.name for action in name_actions(SPACE)][:4], [a.name for a in name_actions(SPACE)][4:9]
    for place, move in zip(moves, ["thunder", "thunderpunch", "thunder", BLANK], strict=True):
        turns[0][place] = move
    for place in (*moves, *switches):
        turns[1][place] = BLANK
    together = scores_of(encoder, turns)
    alone = torch.cat([scores_of(encoder, [turn]) for turn in turns])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert together[0, 0] == together[0, 2]
    assert together[0, 3] == together[0, 12] == NO_SUCH_ACTION
    assert (together[1] == NO_SUCH_ACTION).all()


@torch.no_grad()
def test_the_probabilities_of_the_actions_of_a_turn_sum_to_1(encoder: GemmaTstepEncoder) -> None:
    turns = turns_of(0, 1, 2, 3)
    scores = scores_of(encoder, turns)
    for turn, row in zip(turns, scores, strict=True):
        names = [tuple(TABLE.encode_line(words)) for words in actions_of(turn)]
        there = torch.tensor([len(name) > 1 for name in names])
        by_name = dict(zip(names, row.exp().tolist(), strict=True))  # actions of one name have its probability each
        assert sum(by_name[name] for name in {*names} if len(name) > 1) == pytest.approx(1.0, abs=1e-5)
        assert (row[~there] == NO_SUCH_ACTION).all()
    assert (scores[:, :FIRST_SWITCH] != NO_SUCH_ACTION).any()


subwords = st.lists(st.integers(3, 5), max_size=3)


@settings(max_examples=60)
@given(endings=st.lists(subwords, min_size=1, max_size=N_SCORES))
def test_any_names_get_a_distribution_and_finite_gradients(endings: list[list[int]]) -> None:
    longest = max(1, *map(len, endings))
    ids = torch.tensor([[ending + [0] * (longest - len(ending)) for ending in endings]])
    lengths = torch.tensor([[len(ending) for ending in endings]])
    A = len(endings)
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(1, 1 + A * longest, 8, generator=draw)
    # states of one beginning are one state: those of a text alone
    for a, one in enumerate(endings):
        for b, other in enumerate(endings[:a]):
            for place in range(longest):
                if one[: place + 1] == other[: place + 1] and len(one) > place:
                    states[0, 1 + a * longest + place] = states[0, 1 + b * longest + place]
    states.requires_grad_(True)
    embedding = torch.randn(6, 8, generator=draw, requires_grad=True)
    scores = score_actions(states, Branches(torch.tensor([2]), ids, lengths), embedding, end_id=2)
    distinct = {tuple(ending): scores[0, index].exp().item() for index, ending in enumerate(endings) if ending}
    assert not distinct or sum(distinct.values()) == pytest.approx(1.0, abs=1e-4)
    for gradient in torch.autograd.grad(scores.sum(), [states, embedding], allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


def test_actions_are_called_what_stands_in_their_slots() -> None:
    for space in OBSERVATION_SPACES.values():
        battle = load_battle(BATTLE_FILES[0])
        words, _ = space.observe_battle(battle.states)
        for state, turn in zip(battle.states, words.tolist(), strict=True):
            names = [turn[action.name] for action in name_actions(space)]
            moves = [move.name for move in state.player_active_pokemon.known_moves]
            switches = [pokemon.name for pokemon in state.switches]
            assert names[: len(moves)] == moves == names[FIRST_TERA : FIRST_TERA + len(moves)]
            assert names[FIRST_SWITCH : FIRST_SWITCH + len(switches)] == switches
            assert set(names) <= {*moves, *switches, BLANK}


@settings(max_examples=8)
@given(chunk=st.integers(1, 900))
def test_the_chunk_size_changes_neither_text_nor_scores(encoder: GemmaTstepEncoder, chunk: int) -> None:
    words = ids_of(turns_of(0, 2))
    with torch.no_grad():
        expected = encoder.encode_texts(words)
        encoder.reader.chunk_subwords = chunk
        try:
            torch.testing.assert_close(encoder.encode_texts(words), expected, rtol=0, atol=1e-5)
        finally:
            encoder.reader.chunk_subwords = None


@torch.no_grad()
def test_the_texts_part_is_the_same_with_and_without_scores(encoder: GemmaTstepEncoder) -> None:
    words = ids_of(turns_of(0, 3))
    plain = build(action_scores=False)
    assert encoder.emb_dim == plain.emb_dim + N_SCORES
    torch.testing.assert_close(encoder.encode_texts(words)[:, :-N_SCORES], plain.encode_texts(words), rtol=0, atol=1e-5)


def test_recomputed_gradients_are_those_of_what_is_kept(encoder: GemmaTstepEncoder) -> None:
    words, gradients = ids_of(turns_of(0, 2)), []
    encoder.train()
    for chunk, recomputed in ((None, False), (200, True)):
        encoder.reader.chunk_subwords, encoder.reader.recomputes = chunk, recomputed
        out = encoder.encode_texts(words)
        loss = (out * torch.linspace(-1, 1, out.shape[1])).sum()
        gradients.append(torch.autograd.grad(loss, [*encoder.backbone.parameters()]))
    encoder.reader.chunk_subwords, encoder.reader.recomputes = None, True
    encoder.eval()
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, kept, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
def test_remembered_scores_are_those_that_were_read(frozen: bool) -> None:
    words = ids_of(turns_of(0, 2))
    encoder = build(text_cache_mb=8, freeze_base_model=frozen)
    with torch.no_grad():
        expected = build(freeze_base_model=frozen).encode_texts(words)
        for _ in range(2):
            torch.testing.assert_close(encoder.encode_texts(words), expected, rtol=0, atol=1e-6)
        assert encoder.reader.cache is not None
        assert encoder.reader.cache.hits == len(words)
        next(encoder.backbone.parameters()).mul_(1.5)
        assert (encoder.encode_texts(words) - expected).abs().max() > 1e-3


def test_a_smaller_action_space_has_fewer_branches() -> None:
    words = ids_of(turns_of(0))
    minimal = GemmaTstepEncoder(
        SPACES["obs_space"],
        SimpleNamespace(shape=(10,)),
        pretrained=False,
        backbone_config=TINY,
        text_emb_dim=24,
        summary_tokens=3,
        observation_space=SPACE.name,
        action_scores=True,
        use_lora=False,
    ).eval()
    with torch.no_grad():
        scores = minimal.encode_texts(words)[:, -N_SCORES:]
    assert (scores[:, FIRST_TERA:] == NO_SUCH_ACTION).all()
    assert torch.allclose(scores[:, :FIRST_TERA].exp().sum(1), torch.ones(len(words)), atol=0.01)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"granularity": "entity"},
            r"action_scores = True .* granularity 'entity' .*set Gemma",
        ),
        ({"token_mask_aug": True}, r"token_mask_aug = True hides words.* set token_mask_aug = False"),
        ({"vocabulary": [w for w in WORDS if w != "<move>"]}, r"the vocabulary has no <move>"),
        ({"action_scores": 1}, r"action_scores = 1; it must be True or False"),
        ({"observation_space": None}, r"both have 106 words a turn; say which one"),
    ],
)
def test_what_cannot_be_scored_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build(**changes)
