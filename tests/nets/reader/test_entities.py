"""Granularity "entity": an entity's vector follows from its words alone, a turn's from its entities and their slots.

Small random Gemmas, float32, CPU, turns of the default observation space made of random words.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import upstream_stand_ins as upstream
from support.run_files import identity_of
from support.small_agent import BACKBONE, train_command
from support.turns import SLOTS, WORDS, make_batch, make_turns, spaces
from torch import Tensor

from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.subword_lookup import NO_WORD, SubwordLookup, Texts
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.identity import RunDescription
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.showdown.players.policy_player import BatchedPolicy
from gemma_metamon.text.slots import split_turn
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.upstream import evaluation
from gemma_metamon.upstream.interchange import DESCRIPTION
from gemma_metamon.view import BattleView

OVERRIDE = ["--gin_override", "GemmaTstepEncoder.granularity = 'entity'"]


def build(words: int = WORDS, **changes: Any) -> GemmaTstepEncoder:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "pretrained": False,
        "backbone_config": BACKBONE,
        "text_emb_dim": 24,
        "summary_tokens": 3,
    }
    return GemmaTstepEncoder(**spaces(words), **{**options, "granularity": "entity", **changes})


@pytest.fixture(scope="module")
def encoder() -> GemmaTstepEncoder:
    return build().eval()


def slot_of(name: str) -> slice:
    return next(slice(slot.start, slot.stop) for slot in SLOTS if slot.name == name)


# ---- what is read


@contextlib.contextmanager
def texts_read(encoder: GemmaTstepEncoder) -> Iterator[list[tuple[int, ...]]]:
    """Fills with Gemma's ids of every text that the encoder reads meanwhile."""
    read: list[tuple[int, ...]] = []

    def add(_module: Any, _args: Any, texts: Texts) -> None:
        rows = encoder.subwords.used_ids[texts.subwords.numpy()].tolist()
        read.extend(tuple(row[:length]) for row, length in zip(rows, texts.lengths.tolist(), strict=True))

    hook = encoder.subwords.register_forward_hook(add)
    yield read
    hook.remove()


def test_each_distinct_entity_is_read_once_as_a_text_of_its_own(encoder: GemmaTstepEncoder) -> None:
    words, table = make_turns(), SubwordTable.load("natural")
    lines = [Vocabulary.default().decode(turn) for turn in words.numpy()]
    expected = {tuple(table.encode_line(line[slot.start : slot.stop])) for line in lines for slot in SLOTS}
    with texts_read(encoder) as read:
        encoder.encode_texts(words)
    assert sorted(read) == sorted(expected)
    assert len(expected) == 6 * 10 + 5


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 5), kinds=st.integers(1, 40))
def test_splitting_loses_no_word_and_keeps_its_place(encoder: GemmaTstepEncoder, seed: int, n: int, kinds: int) -> None:
    words = torch.randint(-1, kinds, (n, WORDS), generator=torch.Generator().manual_seed(seed))
    distinct, entity_of = encoder.entities.split(words)
    assert len(distinct.unique(dim=0)) == len(distinct)
    assert entity_of.shape == (n, len(SLOTS))
    for turn, places in zip(words.tolist(), entity_of, strict=True):
        joined = distinct[places]  # (E, K)
        assert joined[joined != NO_WORD].tolist() == turn


def test_a_missing_word_has_no_subwords_and_an_unknown_one_has() -> None:
    lookup = SubwordLookup(SubwordTable.load("natural").packaged, compact=False)
    short, padded = lookup(torch.tensor([[5, -1]])), lookup(torch.tensor([[5, -1, NO_WORD, NO_WORD]]))
    assert torch.equal(padded.subwords, short.subwords)
    assert torch.equal(padded.places, short.places)
    assert torch.equal(padded.lengths, short.lengths)
    assert lookup(torch.tensor([[5, NO_WORD]])).lengths < short.lengths


# ---- what comes of it


def test_a_turn_alone_in_a_batch_and_among_duplicates_is_the_same(encoder: GemmaTstepEncoder) -> None:
    words = make_turns()
    together = encoder.encode_texts(words)
    order = torch.tensor([4, 1, 1, 0, 5, 3, 2, 4])
    alone = torch.cat([encoder.encode_texts(words[index : index + 1]) for index in range(6)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder.encode_texts(words[order]), together[order], rtol=0, atol=1e-5)


def test_the_chunk_size_does_not_change_the_output(encoder: GemmaTstepEncoder) -> None:
    expected = encoder.encode_texts(make_turns())
    for chunk in (1, 50, 333):
        other = build(encoder_chunk_tokens=chunk).eval()
        torch.testing.assert_close(other.encode_texts(make_turns()), expected, rtol=0, atol=1e-5)


def test_only_turns_that_hold_an_entity_change_with_it(encoder: GemmaTstepEncoder) -> None:
    words = make_turns()
    before = encoder.encode_texts(words)
    words[2, slot_of("move 3")] = words[0, slot_of("move 3")]
    words[4, slot_of("opponent")] = words[0, slot_of("player")]
    change = (encoder.encode_texts(words) - before).abs().amax(1)
    assert (change[[2, 4]] > 1e-3).all()
    assert (change[[0, 1, 3, 5]] < 1e-5).all()


def test_it_matters_in_which_slot_an_entity_stands(encoder: GemmaTstepEncoder) -> None:
    words = make_turns(1)
    swapped = words.clone()
    swapped[:, slot_of("move 1")] = words[:, slot_of("move 2")]
    swapped[:, slot_of("move 2")] = words[:, slot_of("move 1")]
    both = torch.cat([words, swapped])
    assert count_distinct(encoder, both) == count_distinct(encoder, words)
    out = encoder.encode_texts(both)
    assert (out[0] - out[1]).abs().max() > 1e-2


def count_distinct(encoder: GemmaTstepEncoder, words: Tensor) -> int:
    return len(encoder.entities.split(words)[0])


def test_a_timestep_is_text_then_numbers_and_padding_is_not_read(encoder: GemmaTstepEncoder) -> None:
    obs, rl2s = make_batch()
    with texts_read(encoder) as read:
        out = encoder(obs, rl2s)
    assert len(read) == 8 * 10 + 5
    assert out.shape == (2, 4, 24 + 256)
    torch.testing.assert_close(out[0, :, :24], encoder.encode_texts(obs["text_tokens"][0]), rtol=0, atol=1e-5)
    rl2s[1, 2:] = 4.0
    obs["text_tokens"][1, 2:] = 4
    with texts_read(encoder) as read:
        padded = encoder(obs, rl2s)
    assert len(read) == 6 * 10 + 5
    assert (padded[1, 2:] == 0).all()
    torch.testing.assert_close(padded[0], out[0], rtol=0, atol=1e-5)


def test_masked_words_are_masked_per_turn() -> None:
    encoder = build(token_mask_aug=True, token_mask_share=0.3)
    words = make_turns(1).expand(3, -1).contiguous()
    seen: list[Tensor] = []
    encoder.subwords.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    encoder.encode_texts(words)
    assert len(seen[0]) > len(SLOTS) * 2  # the same turn three times, masked in three ways
    encoder.eval().encode_texts(words)
    assert len(seen[1]) == len(SLOTS)


def test_acting_without_gradients_gives_the_same(encoder: GemmaTstepEncoder) -> None:
    """torch has kernels of its own for it."""
    other = build(fusion_layers=2).eval()
    with torch.no_grad():
        for parameter in other.entities.fusion.parameters():
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
        acting = other.encode_texts(make_turns())
    torch.testing.assert_close(acting, other.encode_texts(make_turns()), rtol=0, atol=1e-5)
    assert (acting - encoder.encode_texts(make_turns())).abs().max() > 0.1


# ---- learning


def gradients(**options: Any) -> dict[str, Tensor]:
    encoder = build(lora_dropout=0.3, lora_r=2, **options)
    with torch.no_grad():  # what starts at zero would hide what comes before it
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name or "fusion" in name:
                parameter.normal_()
    torch.manual_seed(1)
    encoder(*make_batch()).square().sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}


def test_recomputing_gives_the_same_gradients_and_all_parts_get_one() -> None:
    recomputed = gradients(encoder_chunk_tokens=60)
    kept = gradients(encoder_chunk_tokens=60, gradient_checkpointing=False)
    assert recomputed.keys() == kept.keys()
    for name, gradient in recomputed.items():
        assert gradient is not None, name
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, kept[name], rtol=1e-4, atol=1e-6, msg=name)
    for part in ("lora_A", "lora_B", "entities.pool.", "entities.fusion.0.", "entities.slots", "readout.to_tokens"):
        assert any(part in name for name in recomputed), part


# ---- configuration


def test_parameters_are_counted_by_part_and_the_width_is_promised_on_meta() -> None:
    with torch.device("meta"):
        encoder = GemmaTstepEncoder(**spaces(), granularity="entity")
    assert encoder.emb_dim == 2944
    counts = encoder.parameter_counts()
    assert counts["entities"]["trainable"] == counts["entities"]["total"] > 0
    assert sum(part["total"] for part in counts.values()) == sum(p.numel() for p in encoder.parameters())


def test_fusion_has_the_size_that_was_asked_for() -> None:
    encoder = build(fusion_width=48, fusion_layers=3, fusion_heads=4)
    assert encoder.entities.slots.shape == (len(SLOTS), 48)
    assert len(encoder.entities.fusion) == 3
    assert encoder.encode_texts(make_turns()).shape == (6, 24)
    assert build(fusion_layers=0).encode_texts(make_turns()).shape == (6, 24)
    with pytest.raises(ConfigError, match=r"fusion_width \(50\) must be a multiple of fusion_heads \(8\).* 56"):
        build(fusion_width=50, pretrained=True, backbone_config=None, model_name="/nowhere")  # before it is loaded
    with pytest.raises(ConfigError, match=r"fusion_width \(32\) must be a multiple of fusion_heads \(7\)"):
        build(fusion_heads=7)


def test_fusion_starts_as_if_there_were_none(encoder: GemmaTstepEncoder) -> None:
    vectors = torch.randn(2, len(SLOTS), 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder.entities(vectors), vectors + encoder.entities.slots, rtol=0, atol=0)


def test_a_space_that_its_width_does_not_tell_needs_its_name() -> None:
    for name, slots in (("TeamPreviewObservationSpace", 17), ("OpponentMoveObservationSpace", 21)):
        assert len(build(106, observation_space=name).entities.slots) == slots
    with pytest.raises(ConfigError, match=r"both have 106 .* GemmaTstepEncoder.observation_space = "):
        build(106)
    build(99, granularity="turn", observation_space="MySpace")  # read as one line


@pytest.mark.parametrize("name", OBSERVATION_SPACES)
def test_the_embedded_runtime_says_which_space_it_is(name: str) -> None:
    resolve.load("gemma_tiny_entity.gin", "quick.gin")
    view = BattleView.from_names(
        obs_space=name, action_space="DefaultActionSpace", reward_function="DefaultShapedReward"
    )
    with torch.device("meta"):
        agent = configurable(EXPERIMENT)().build_agent(view)
    assert len(agent.tstep_encoder.entities.slots) == len(split_turn(view.obs_space))


def test_keys_of_a_turn_encoders_state_are_as_before() -> None:
    state = build(granularity="turn").state_dict()
    assert {key.split(".")[0] for key in state} == {"backbone", "readout", "numbers"}
    assert {key.split(".")[0] for key in build().state_dict()} == {"backbone", "entities", "readout", "numbers"}


def slots_in_metamon(argv: list[str], bindings: str) -> int:
    upstream.install()
    upstream.install_train_script("metamon.rl.train", [*argv, "--model_gin_config", "a", "--train_gin_config", "b"])
    upstream.parse_as_metamon_does(
        upstream.model_file("gemma_tiny_entity.gin"),
        tokenizer=upstream.Tokenizer(upstream.word_ids(Vocabulary.default().words)),
        finalize=False,
    )
    gin.parse_config(bindings)
    return len(upstream.build_encoder(words=106, numbers=55).entities.slots)


def test_in_metamons_process_its_train_script_says_which_space_it_is_unless_gin_does(tmp_path: Path) -> None:
    argv = ["--run_name", "mine", "--save_dir", str(tmp_path), "--obs_space", "OpponentMoveObservationSpace"]
    assert upstream.run(slots_in_metamon, argv, "") == 21
    assert upstream.run(slots_in_metamon, [*argv[:-1], "PAC-TeamPreviewObservationSpace"], "") == 17
    binding = "GemmaTstepEncoder.observation_space = 'TeamPreviewObservationSpace'"
    assert upstream.run(slots_in_metamon, [*argv[:-1], "MyObservationSpace"], binding) == 17


@pytest.mark.parametrize("bound", [[], ["GemmaTstepEncoder.observation_space = 'OpponentMoveObservationSpace'"]])
def test_metamons_evaluation_is_told_the_space_of_the_run(
    bound: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = resolve.load("gemma_tiny_entity.gin", None, bound).text
    view = BattleView.from_names(
        obs_space="TeamPreviewObservationSpace", action_space="DefaultActionSpace", reward_function="BinaryReward"
    )
    (tmp_path / "ckpts").mkdir()
    description = RunDescription(identity=identity_of(view), config=text)
    description.write(tmp_path / "ckpts" / DESCRIPTION)
    read: list[str] = []

    def stop(_run_dir: Path, _epoch: int, _description: Any, config: Path, _nothing: Path) -> str:
        read.append(config.read_text())
        raise InterruptedError

    monkeypatch.setattr(evaluation, "import_evaluation", lambda: None)
    monkeypatch.setattr(evaluation, "_register", stop)
    with pytest.raises(InterruptedError):
        evaluation.evaluate(tmp_path, 1, [])
    told = resolve.load_text(read[0]).bindings["GemmaTstepEncoder.observation_space"]
    assert told == ("'OpponentMoveObservationSpace'" if bound else "'TeamPreviewObservationSpace'")


# ---- a run


def test_a_run_trains_resumes_plays_and_refuses_weights_of_the_other_granularity(
    tmp_path: Path, battle_file: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path, *OVERRIDE)) == 0
    assert Checkpoint(tmp_path / "run", 1).read_meta().identity.granularity == "entity"
    assert main(train_command(tmp_path, *OVERRIDE, "--ckpt", "1", "--epochs", "2")) == 0
    agent, meta = load_agent(Checkpoint.find(tmp_path / "run"), "cpu")
    policy = BatchedPolicy(agent, meta.view(), max_battles=1)
    session, states = policy.open_session(), load_battle(battle_file).states[:3]
    legal = torch.arange(13) == 4
    assert [asyncio.run(policy.decide(session, state, legal.numpy())) for state in states] == [4, 4, 4]
    capsys.readouterr()
    assert main(train_command(tmp_path, "--ckpt", "1", "--epochs", "2")) == 1
    assert "granularity 'entity', but this run uses 'turn'" in capsys.readouterr().err
    assert main(train_command(tmp_path, run_name="turns")) == 0
    assert main(train_command(tmp_path, *OVERRIDE, "--ckpt", "1", "--epochs", "2", run_name="turns")) == 1
    assert "granularity 'turn', but this run uses 'entity'" in capsys.readouterr().err
