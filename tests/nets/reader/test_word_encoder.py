"""WordTstepEncoder: Gemma's layers read one learned vector per word, and all else is GemmaTstepEncoder's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.encoders import build
from support.small_agent import BACKBONE, train_command
from support.turns import SLOTS, WORDS, make_batch, make_turns, spaces

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.subword_lookup import NO_WORD
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.reader.word_encoder import WordLookup, build_word_encoder
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.gemma_export import export_merged
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.view import BattleView

CONFIG, ENTITY = "gemma_tiny_words.gin", "gemma_tiny_entity.gin"
TRAINED = {"pretrained": False, "backbone_config": BACKBONE, "use_lora": False, "text_emb_dim": 24, "summary_tokens": 3}


def build_words(**changes: Any) -> GemmaTstepEncoder:
    torch.manual_seed(0)

    def build_gemma(**given: Any) -> GemmaTstepEncoder:
        return GemmaTstepEncoder(**given, **{**TRAINED, "granularity": "entity", "text_cache_mb": 0, **changes})

    return build_word_encoder(**spaces(), encoder_type=build_gemma)


def test_each_word_is_one_subword_of_its_own() -> None:
    n_words = len(Vocabulary.default())
    lookup = WordLookup(n_words)
    texts = lookup(torch.arange(-1, n_words)[:, None])  # each word, and the unknown one, a text
    assert texts.subwords.shape == (n_words + 1, 2)  # with bos
    assert (texts.lengths == 2).all()
    assert len({lookup.pad_id, lookup.bos_id, *texts.subwords[:, 1].tolist()}) == n_words + 3 == len(lookup.used_ids)


def test_a_words_slot_is_its_place_and_no_word_is_not_read() -> None:
    texts = WordLookup(9)(torch.tensor([[3, -1, 3], [8, NO_WORD, NO_WORD]]))
    assert texts.places.tolist() == [[0, 1, 2, 3], [0, 1, -1, -1]]
    assert texts.lengths.tolist() == [4, 2]
    assert texts.subwords[0, 1] == texts.subwords[0, 3]


def test_a_words_vector_changes_only_turns_with_the_word() -> None:
    encoder, turns = build_words().eval(), make_turns()
    turns[0, 5] = 17
    turns[1:][turns[1:] == 17] = 18
    with torch.no_grad():
        before = encoder.encode_texts(turns)
        encoder.backbone.embed_tokens.weight[2 + 17] += 1  # behind pad and bos
        after = encoder.encode_texts(turns)
    assert (after[0] - before[0]).abs().max() > 1e-3
    torch.testing.assert_close(after[1:], before[1:], rtol=0, atol=0)


def test_how_a_word_is_phrased_changes_nothing() -> None:
    natural, raw = (build_words(phrasing=phrasing).eval() for phrasing in ("natural", "raw"))
    raw.load_state_dict(natural.state_dict())
    torch.testing.assert_close(natural.encode_texts(make_turns()), raw.encode_texts(make_turns()), rtol=0, atol=0)


def test_only_the_embedding_has_another_size_than_gemmas() -> None:
    ours = {name: p.shape for name, p in build_words().named_parameters()}
    gemmas = {
        name: p.shape for name, p in GemmaTstepEncoder(**spaces(), **TRAINED, granularity="entity").named_parameters()
    }
    assert ours.keys() == gemmas.keys()
    assert [name for name in ours if ours[name] != gemmas[name]] == ["backbone.embed_tokens.weight"]


def test_words_start_at_the_scale_of_gemmas_subwords() -> None:
    gemma = build(use_lora=False).backbone.embed_tokens
    words = build_words().backbone.embed_tokens
    assert words.weight.std().item() == pytest.approx(gemma.weight.std().item(), rel=0.02)
    assert words.embed_scale == gemma.embed_scale


def test_all_of_it_learns() -> None:
    encoder = build_words()
    with torch.no_grad():
        for parameter in encoder.entities.fusion.parameters():  # what starts at zero would hide what comes before it
            parameter.normal_()
    obs, rl2s = make_batch()
    encoder(obs, rl2s).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    rows = encoder.backbone.embed_tokens.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    unknown = len(Vocabulary.default())
    met = {2 + (unknown if word < 0 else word) for word in obs["text_tokens"].unique().tolist()}
    assert set(rows) == {1, *met}  # bos, and the words


def test_turns_may_be_read_whole() -> None:
    encoder = build_words(granularity="turn").eval()
    assert encoder.encode_texts(make_turns()).shape == (6, 24)
    assert encoder.subwords(make_turns()).lengths.unique().tolist() == [1 + WORDS]
    assert build_words().entities.slots.shape[0] == len(SLOTS)


@pytest.mark.parametrize("frozen", [{"use_lora": True}, {"freeze_base_model": True}])
def test_words_that_could_not_be_learned_are_refused(frozen: dict[str, bool]) -> None:
    with pytest.raises(ConfigError, match=r"weights are frozen; set GemmaTstepEncoder.use_lora = False and freeze"):
        build_words(**frozen)


def test_a_config_without_the_encoder_is_refused() -> None:
    resolve.load(CONFIG, "quick.gin", ["WordTstepEncoder.encoder_type = None"])
    with pytest.raises(ConfigError, match=r"WordTstepEncoder.encoder_type must be set"):
        configurable(EXPERIMENT)().build_agent(default_view())


def default_view() -> BattleView:
    return BattleView.from_names(
        obs_space="DefaultObservationSpace", action_space="DefaultActionSpace", reward_function="DefaultShapedReward"
    )


def test_the_config_differs_from_the_entity_one_in_the_encoder_alone() -> None:
    words, entity = resolve.load(CONFIG).bindings, resolve.load(ENTITY).bindings
    assert dict(words.items() - entity.items()) == {
        "MetamonAMAGOExperiment.tstep_encoder_type": "@WordTstepEncoder",
        "WordTstepEncoder.encoder_type": "@GemmaTstepEncoder",
    }
    assert entity.keys() < words.keys()


def test_a_run_trains_and_its_checkpoint_loads_with_the_words_it_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_command(tmp_path, "--model_gin_config", CONFIG)) == 0
    before, after = (load_agent(Checkpoint.find(tmp_path / "run", epoch), "cpu")[0] for epoch in (0, 1))
    assert isinstance(after.tstep_encoder.subwords, WordLookup)
    words = [agent.tstep_encoder.backbone.embed_tokens.weight for agent in (before, after)]
    assert words[0].shape[0] == len(Vocabulary.default()) + 3
    assert (words[0] != words[1]).any()
    # going on from it with Gemma's subwords is refused
    assert main(train_command(tmp_path, "--model_gin_config", ENTITY, "--ckpt", "1", "--epochs", "2")) != 0
    assert "1 of another shape there (tstep_encoder.backbone.embed_tokens.weight is" in capsys.readouterr().err


def test_it_is_not_exported_as_a_gemma(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learned a vector per word \(WordTstepEncoder\)"):
        export_merged(build_words(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
