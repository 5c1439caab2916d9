"""Gemma 3 with its head, as it is trained and as it plays: built, cut down to few subwords, saved, loaded, restored.

A saved model is a folder:

    chat_model.json                                 see `ModelPlan`, and which subwords of the base are kept
    tokenizer.json, tokenizer_config.json, ...      of these subwords
    model.safetensors, config.json, ...             of a model whose own weights were trained: transformers reads it
    adapter_model.safetensors, ...                  instead, of one that was trained by adapters over its base
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from gemma_metamon.atomic_files import as_os_errors, written_whole
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.extras import require_extra
from gemma_metamon.language.data.chats import Example
from gemma_metamon.language.telling.answers import parse_answer, write_answer
from gemma_metamon.language.tokenizers import END_OF_TURN, EOS, chat_template, learn_tokenizer, trim_tokenizer
from gemma_metamon.nets.reader.backbone import LORA_TARGETS, trim_embedding
from gemma_metamon.nets.reader.four_bit import quantise_linears
from gemma_metamon.nets.reader.weights import load_adapted, load_tokenizer, load_with_head
from gemma_metamon.strict_json import read_dataclass, read_json_object

TINY: Final = "tiny"
TINY_CONFIG: Final[dict[str, Any]] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 512,
    "max_position_embeddings": 4096,
    # about 1 / sqrt(hidden_size): with Gemma's own 0.02 a word is lost among what narrow layers add to it
    "initializer_range": 0.09,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
"""The architecture of Gemma 3, small enough for minutes on a CPU."""
DESCRIPTION: Final = "chat_model.json"
SEEING_DESCRIPTION: Final = "seeing_model.json"
"""In its place, of a model that sees; see vision/models.py."""


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """Which Gemma is trained, and how.

    Attributes:
        model: "tiny", random weights of TINY_CONFIG; else a hub name or a folder of a Gemma 3 with its head.
        full: train all weights, not adapters. Random weights are always trained: adapters over them learn nothing.
        use_4bit: hold the base in 4 bits (NF4), computing in bfloat16.
        lora_r: rank of the adapters.
        lora_alpha: their scale, times lora_r.
        lora_dropout: share of the adapters' input that is left out in training.
        seed: of random weights.

    Raises:
        ConfigError: use_4bit of a model whose own weights are to be trained.
        MissingDependencyError: use_4bit without bitsandbytes.
    """

    model: str = TINY
    full: bool = False
    use_4bit: bool = False
    lora_r: int = 16
    lora_alpha: float = 32
    lora_dropout: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.use_4bit:
            return
        if self.is_random:
            raise ConfigError("--use_4bit holds a pretrained base, and the tiny model has none; name one by --model")
        if self.full:
            raise ConfigError("--use_4bit rounds the base's weights, so that they cannot be trained; leave out --full")
        require_extra("4bit", "--use_4bit")

    @property
    def is_random(self) -> bool:
        """Whether it begins with random weights."""
        return self.model == TINY

    @property
    def uses_adapters(self) -> bool:
        """Whether adapters are trained, and the base stays as it is."""
        return not (self.full or self.is_random)


@dataclass(frozen=True, kw_only=True)
class _Description:
    """chat_model.json; see `ChatModel` for `kept_ids`."""

    plan: ModelPlan
    kept_ids: list[int] | None


@dataclass
class ChatModel:
    """A model with its tokenizer.

    Attributes:
        model: a Gemma3ForCausalLM, or peft's with one inside.
        tokenizer: transformers'; its ids are the model's.
        plan: how it was made.
        kept_ids: the ids (U,) in the base's vocabulary that the model's stand for; None where nothing was cut off.
    """

    model: Any
    tokenizer: Any
    plan: ModelPlan
    kept_ids: list[int] | None = None

    @property
    def gemma(self) -> Any:
        """The Gemma3ForCausalLM, whose layers may have adapters."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def context(self) -> int:
        """Subwords that a chat may have at most, the answer included."""
        return int(self.gemma.config.get_text_config().max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def write_answer(self, choice: str) -> str:
        """The answer that names a choice, as this model gives it, without reasoning."""
        return write_answer(choice)

    def parse_answer(self, text: str, choices: Mapping[int, str]) -> int:
        """The action that an answer names; raises AnswerError where it names none of the choices."""
        return parse_answer(text, choices)

    def pixels_of(self, examples: Sequence[Example]) -> list[Tensor] | None:
        """What is seen at each example, (its pictures, 3, height, width); None of a model that reads words alone."""
        return None

    def inputs_of(self, ids: Tensor, pixels: Sequence[Tensor] | None) -> dict[str, Tensor]:
        """What the layers take of subwords (B, T), and of what is seen in each row."""
        return {"input_ids": ids}

    def save(self, folder: Path) -> None:
        """Writes the folder, whole or not at all. Raises OSError where it cannot be written."""
        with written_whole(folder) as staged, as_os_errors(folder):
            staged.mkdir(parents=True)
            if hasattr(self.model, "peft_config"):
                self._save_adapters(staged)
            else:
                self.model.save_pretrained(staged)
            self._save_description(staged)

    def _save_description(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)
        description = _Description(plan=self.plan, kept_ids=self.kept_ids)
        (folder / DESCRIPTION).write_text(json.dumps(asdict(description)) + "\n", encoding="utf-8")

    def _save_adapters(self, folder: Path) -> None:
        config = self.model.peft_config["default"]
        config.base_model_name_or_path = self.plan.model
        # GRPO may hold a second one, of the model that it began with
        self.model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
        config.base_model_name_or_path = ""  # with a name, peft looks there whenever TRL saves


def build(plan: ModelPlan, chats: Sequence[Sequence[dict[str, str]]], device: torch.device | str = "cpu") -> ChatModel:
    """A model to be trained, with the subwords of these chats; on the CPU for now.

    Args:
        plan: which model.
        chats: whose subwords it knows.
        device: where it will compute; for CUDA a base under adapters is held in bfloat16.

    Raises:
        MissingFileError: weights or a tokenizer that cannot be reached.
        ConfigError: what is no Gemma 3, or has no chat template and no marks to write one with.
    """
    if plan.is_random:
        tokenizer = learn_tokenizer(chats)
        return ChatModel(_random_gemma(len(tokenizer), plan.seed, tokenizer), tokenizer, plan)
    whole = _tokenizer_of(plan.model)
    tokenizer, kept_ids = trim_tokenizer(whole, chats)
    gemma = _base(plan, tokenizer, kept_ids, device)
    return ChatModel(
        with_adapters(gemma, plan, list(LORA_TARGETS)) if plan.uses_adapters else gemma, tokenizer, plan, kept_ids
    )


def load(folder: Path, device: torch.device | str = "cpu", *, trainable: bool = False) -> ChatModel:
    """A saved model, or a folder of transformers' with a Gemma 3 and its tokenizer.

    Args:
        folder: as `ChatModel.save` writes it, or plain.
        device: where it is to compute.
        trainable: whether its weights or adapters are to be trained further.

    Raises:
        MissingFileError: no such folder, or one without a model.
        DataError: a damaged description.
        ConfigError: what is no Gemma 3.
    """
    if (folder / SEEING_DESCRIPTION).is_file():
        raise ConfigError(f"the model in {folder} was trained to answer pictures; play it as vlm:RUN")
    if not (folder / DESCRIPTION).is_file():
        plain = ChatModel(
            load_with_head(str(folder), dtype_on(device)), _tokenizer_of(str(folder)), ModelPlan(full=True)
        )
        return _placed(plain, device, trainable)
    try:
        described = read_dataclass(_Description, read_json_object(folder / DESCRIPTION))
    except DataError as error:
        raise DataError(f"{folder / DESCRIPTION} cannot be read ({error}); train the model again") from error
    plan, kept_ids = described.plan, described.kept_ids
    tokenizer = load_tokenizer(str(folder))
    if not plan.uses_adapters:
        return _placed(
            ChatModel(load_with_head(str(folder), torch.float32), tokenizer, plan, kept_ids), device, trainable
        )
    if not kept_ids:
        raise DataError(f"{folder / DESCRIPTION} has adapters and no kept_ids; train the model again")
    adapted = load_adapted(_base(plan, tokenizer, kept_ids, device), folder, trainable=trainable)
    return _placed(ChatModel(adapted, tokenizer, plan, kept_ids), device, trainable)


def export_whole(chat: ChatModel, out: Path) -> list[str]:
    """Writes a plain float32 folder with adapters merged in and the base's whole vocabulary: AutoModelForCausalLM's.

    Returns:
        What a user must know of the result, a sentence each; often none.

    Raises:
        MissingFileError: the base cannot be reached any more.
        ConfigError: a base in 4 bits, which holds other numbers than were downloaded, is not restored.
    """
    plan, said = chat.plan, []
    if chat.kept_ids is None:
        merged, tokenizer = chat.gemma, chat.tokenizer
        if plan.is_random:
            said.append(
                f"the vocabulary is the {len(tokenizer)} subwords that were learned from the chats, all there are"
            )
    else:
        merged, tokenizer = load_with_head(plan.model, torch.float32), _tokenizer_of(plan.model)
        rows = torch.tensor(chat.kept_ids)
        with torch.no_grad():
            if plan.uses_adapters:
                for name, layer in chat.gemma.named_modules():
                    if hasattr(layer, "lora_A"):
                        merged.get_submodule(name).weight += layer.get_delta_weight("default").float().cpu()
            else:
                own = {name: value.float().cpu() for name, value in chat.gemma.state_dict().items()}
                for name in ("model.embed_tokens.weight", "lm_head.weight"):
                    whole = merged.state_dict()[name].clone()
                    whole[rows] = own[name]
                    own[name] = whole
                merged.load_state_dict(own)
        if plan.use_4bit:
            said.append(
                "the adapter was trained over a base in 4 bits and is merged into the full-precision one: answers "
                "differ from training's by what the rounding had changed"
            )
    with written_whole(out) as staged, as_os_errors(out):
        staged.mkdir(parents=True)
        merged.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
    return said


def _random_gemma(vocab_size: int, seed: int, tokenizer: Any) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    build_config: Any = Gemma3TextConfig
    config = build_config(vocab_size=vocab_size, attn_implementation="sdpa", **TINY_CONFIG)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gemma = Gemma3ForCausalLM(config)
    return _with_ids(gemma, tokenizer)


def _with_ids(gemma: Any, tokenizer: Any) -> Any:
    """Tells a model which of the tokenizer's ids end an answer, and so on."""
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    for config in (gemma.config, gemma.generation_config):
        config.pad_token_id, config.bos_token_id = tokenizer.pad_token_id, tokenizer.bos_token_id
        config.eos_token_id = [tokenizer.convert_tokens_to_ids(EOS), end]
    gemma.generation_config.do_sample = False
    gemma.generation_config.top_k = gemma.generation_config.top_p = None
    return gemma


def _base(plan: ModelPlan, tokenizer: Any, kept_ids: Sequence[int], device: torch.device | str) -> Any:
    """The pretrained model with the kept subwords alone, in 4 bits if so planned; not on the device yet."""
    gemma = load_with_head(plan.model, base_dtype(plan, device))
    if kept_ids[-1] >= gemma.config.vocab_size:
        raise ConfigError(
            f"the model of {plan.model!r} has {gemma.config.vocab_size} subwords, and its tokenizer needs number "
            f"{kept_ids[-1]}; name a model with its own tokenizer"
        )
    trim_embedding(gemma.model, kept_ids)
    head = nn.Linear(gemma.config.hidden_size, len(kept_ids), bias=False, device="meta")
    if gemma.config.tie_word_embeddings:
        head.weight = gemma.model.embed_tokens.weight
    else:
        head.weight = nn.Parameter(gemma.lm_head.weight.detach()[torch.tensor(kept_ids)])
    gemma.lm_head = head
    gemma.vocab_size = len(kept_ids)
    if plan.use_4bit:
        quantise_linears(gemma.model)
        cast("Any", gemma).is_loaded_in_4bit = True
    gemma.name_or_path = ""  # see ChatModel.save
    return _with_ids(gemma, tokenizer)


def with_adapters(gemma: Any, plan: ModelPlan, targets: list[str] | str) -> Any:
    """A model under new adapters; `targets` are the names of its linear layers, or a pattern of them."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=plan.lora_r,
        lora_alpha=cast("int", plan.lora_alpha),  # peft divides by it, and any number does
        lora_dropout=plan.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(gemma, lora)


def _tokenizer_of(model_name: str) -> Any:
    """With a chat template: its own, or the packaged one where it has the marks for it."""
    tokenizer = load_tokenizer(model_name)
    if tokenizer.chat_template is None:
        if END_OF_TURN not in tokenizer.get_vocab():
            raise ConfigError(
                f"{model_name!r} has no chat template, nor the marks <start_of_turn> and {END_OF_TURN} of Gemma's; "
                "name a model for chats, as google/gemma-3-270m-it"
            )
        tokenizer.chat_template = chat_template()
    return tokenizer


def base_dtype(plan: ModelPlan, device: torch.device | str) -> torch.dtype:
    """How a pretrained model is held that is to compute on a device; weights that are trained are float32 anywhere."""
    if plan.use_4bit:
        return torch.bfloat16
    return dtype_on(device) if plan.uses_adapters else torch.float32


def dtype_on(device: torch.device | str) -> torch.dtype:
    """How weights that are not trained are held on a device."""
    return torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32


def _placed(chat: ChatModel, device: torch.device | str, trainable: bool) -> ChatModel:
    chat.model.to(device)
    chat.model.train(trainable)
    if not trainable:
        chat.model.requires_grad_(False)
    return chat
