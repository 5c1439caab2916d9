"""Gemma 3 as a reader of turns: the backbone without its head, trimmed, adapted or in 4 bits, as asked.

The language-model head is never built: 262,144 logits per subword would cost more than all layers, for nothing.
Where its word is asked for (`action_scores`), the few rows of the embedding that matter are the head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra
from gemma_metamon.nets.checks import (
    DROPOUT,
    FLAG,
    HEADS,
    LAYERS,
    TEXT,
    WIDTH,
    Rule,
    check,
    each,
    number,
    one_of,
    whole,
)
from gemma_metamon.nets.reader.adapters import AdapterForm
from gemma_metamon.nets.reader.dropout import AdapterDropout
from gemma_metamon.nets.reader.four_bit import quantise_linears
from gemma_metamon.nets.reader.weights import (
    GEMMA_3_270M,
    check_config,
    find_adapter,
    load_config,
    load_pretrained,
    place_of,
)
from gemma_metamon.strict_json import shown

GEMMA_3_270M_CONFIG: Final[dict[str, Any]] = {
    "vocab_size": 262_144,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "max_position_embeddings": 32_768,
    "layer_types": ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(18)],
}
"""The architecture of Gemma 3 270M: random weights of it, and its parameter counts, need no download."""

LORA_TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_RULES: Final = {
    "model_name": TEXT,
    "pretrained": FLAG,
    "backbone_config": Rule("a map field -> value", lambda value: isinstance(value, dict)).or_none(),
    "use_lora": FLAG,
    "lora_r": WIDTH.saying("to train without adapters, set use_lora = False"),
    "lora_alpha": number(0, 1e6, above=True).saying("twice lora_r is usual"),
    "lora_dropout": DROPOUT.saying("0.05 is usual"),
    "dtype": one_of("auto", *DTYPES).saying("in float16 Gemma 3 overflows"),
    "freeze_base_model": FLAG,
    "use_4bit": FLAG,
    "init_adapter": TEXT.or_none(),
}
_BACKBONE_RULES: Final = {
    "vocab_size": whole(1, 10_000_000),
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": Rule(
        "an even whole number from 2 to 4,096", lambda width: whole(2, 4096).holds(width) and width % 2 == 0
    ),
    "query_pre_attn_scalar": number(0.001, 1e6),
    "sliding_window": whole(1, 10_000_000),
    "max_position_embeddings": whole(1, 10_000_000),
    "layer_types": each(one_of("full_attention", "sliding_attention"), most=128),
    "sliding_window_pattern": LAYERS,
    "hidden_activation": one_of("gelu_pytorch_tanh", "gelu", "relu", "silu"),
    "initializer_range": number(0, 10),
    "rms_norm_eps": number(1e-12, 1),
    "rope_theta": number(1, 1e9),
    "rope_local_base_freq": number(1, 1e9),
    "attention_bias": FLAG,
    "attention_dropout": DROPOUT,
    "use_bidirectional_attention": FLAG,
}


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """What `GemmaTstepEncoder` was told about its Gemma; refuses what cannot work, before anything is loaded.

    Raises:
        ConfigError: a value that breaks its rule, or two that do not go together.
        MissingDependencyError: use_4bit without bitsandbytes.
    """

    model_name: str = GEMMA_3_270M
    pretrained: bool = True
    backbone_config: dict[str, Any] | None = None
    use_lora: bool = True
    lora_r: int = 16
    lora_alpha: float = 32
    lora_dropout: float = 0.05
    dtype: str = "auto"
    freeze_base_model: bool = False
    use_4bit: bool = False
    init_adapter: str | None = None

    def __post_init__(self) -> None:
        check("GemmaTstepEncoder", vars(self), _RULES)
        if self.pretrained and self.backbone_config is not None:
            raise ConfigError(
                "backbone_config describes random weights, but pretrained is True; "
                "set GemmaTstepEncoder.pretrained = False, or leave backbone_config out"
            )
        if self.use_4bit:
            self._check_4bit()
        if self.init_adapter is not None:
            self._check_init_adapter()

    def _check_4bit(self) -> None:
        if self.dtype == "float32":
            raise ConfigError(
                "use_4bit computes in bfloat16, but dtype is 'float32'; set GemmaTstepEncoder.dtype = 'auto'"
            )
        if self.trains_base:
            raise ConfigError(
                "use_4bit cannot train the base, whose weights are rounded to 4 bits; "
                "set GemmaTstepEncoder.use_lora = True or freeze_base_model = True"
            )
        without = "use the config of the same name without _4bit (GemmaTstepEncoder.use_4bit = False)"
        require_extra("4bit", "use_4bit", otherwise=without)

    def _check_init_adapter(self) -> None:
        begins = f"GemmaTstepEncoder.init_adapter = {shown(self.init_adapter)}"
        if not self.use_lora:
            raise ConfigError(f"{begins}, but use_lora is False; set GemmaTstepEncoder.use_lora = True")
        if not self.pretrained:
            raise ConfigError(
                f"{begins}, but pretrained is False: an adapter means something over its own base alone, and these "
                "random weights have an embedding of the packaged words, which no chat model shares; set "
                "GemmaTstepEncoder.pretrained = True and model_name to the --model of that sft, and leave "
                "backbone_config out"
            )

    @property
    def adapter_form(self) -> AdapterForm:
        """Of the adapters that it gets."""
        return AdapterForm(
            base=place_of(self.model_name),
            lora_r=self.lora_r,
            lora_alpha=self.lora_alpha,
            target_modules=frozenset(LORA_TARGETS),
        )

    @property
    def trains_base(self) -> bool:
        """Whether Gemma's own weights are trained, not only what was added to them."""
        return not (self.use_lora or self.freeze_base_model)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The backbone's dtype; "auto" asks now whether the machine has CUDA, whatever device the model moves to.

        A base that is trained stays float32 with "auto": AdamW's small updates vanish in bfloat16's eight bits.
        """
        if self.dtype != "auto":
            return DTYPES[self.dtype]
        if self.use_4bit:
            return torch.bfloat16
        return torch.bfloat16 if torch.cuda.is_available() and not self.trains_base else torch.float32


def build_backbone(options: BackboneOptions, used_ids: Sequence[int], *, trim: bool) -> nn.Module:
    """A `Gemma3TextModel` with the base frozen or not, and adapters, as the options say.

    Under `torch.device("meta")` no weight is made or loaded, and for Gemma 3 270M nothing is downloaded: enough to
    count parameters. 4-bit layers then stay whole, so that the counts are those of the architecture.

    Args:
        options: which weights, and which of them train.
        used_ids: the Gemma ids that the vocabulary can produce, sorted, pad first.
        trim: keep the embedding rows of these ids alone; subwords are then positions in `used_ids`.

    Raises:
        MissingFileError: weights or an adapter that cannot be reached.
        ConfigError: a model, an architecture or an adapter that cannot be used.
        CheckpointMismatchError: an adapter of other shapes.
        DataError: damaged weights, or a damaged adapter.
    """
    adapter = None if options.init_adapter is None else find_adapter(options.init_adapter)
    if adapter is not None:
        adapter.require_form(options.adapter_form, _mend_form)
    on_meta = torch.get_default_device().type == "meta"
    if options.pretrained and not on_meta:
        backbone = load_pretrained(options.model_name, options.torch_dtype)
        _check_vocabulary(backbone.config, used_ids)
        if trim:
            trim_embedding(backbone, used_ids)
    else:
        backbone = _build_random(options, used_ids, trim=trim)
    backbone.requires_grad_(options.trains_base)
    if options.use_4bit and not on_meta:
        quantise_linears(backbone)
    if options.use_lora:
        _add_lora(backbone, options)
    if adapter is not None:
        adapter.require_shapes(backbone) if on_meta else adapter.put_into(backbone)
    return backbone


def _mend_form(field: str, value: object) -> str:
    if field == "target_modules":
        return "train one with gemma-metamon sft, whose adapters have these"
    return f"set GemmaTstepEncoder.{'model_name' if field == 'base' else field} = {value!r}, or name another adapter"


def _build_random(options: BackboneOptions, used_ids: Sequence[int], *, trim: bool) -> nn.Module:
    from transformers import AutoModel

    if options.pretrained and options.model_name != GEMMA_3_270M:
        config = load_config(options.model_name)
    else:
        config = _random_config(GEMMA_3_270M_CONFIG if options.backbone_config is None else options.backbone_config)
    if trim:
        config.vocab_size = len(used_ids)  # small from the start: the full embedding is never allocated
    else:
        _check_vocabulary(config, used_ids)
    auto_model: Any = AutoModel
    backbone: nn.Module = auto_model.from_config(config, dtype=options.torch_dtype)
    return backbone


def _random_config(fields: dict[str, Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import Gemma3TextConfig

    _check_fields(fields)
    try:
        config = Gemma3TextConfig(**{"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, **fields})
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(f"backbone_config describes no Gemma 3 ({reason}); see Gemma3TextConfig") from error
    check_config(config, "backbone_config")
    return config


def _check_fields(fields: dict[str, Any]) -> None:
    owner = "GemmaTstepEncoder.backbone_config"
    unknown = [field for field in fields if field not in _BACKBONE_RULES]
    if unknown:
        raise ConfigError(f"{owner} has no field {shown(unknown[0])}; its fields are {', '.join(_BACKBONE_RULES)}")
    check(owner, fields, {field: rule for field, rule in _BACKBONE_RULES.items() if field in fields})
    sizes = {**GEMMA_3_270M_CONFIG, **fields}
    heads, shared, layers = (sizes[f"num_{name}"] for name in ("attention_heads", "key_value_heads", "hidden_layers"))
    if heads % shared:
        raise ConfigError(f"{owner}.num_key_value_heads ({shared}) must divide num_attention_heads ({heads})")
    if len(fields.get("layer_types", range(layers))) != layers:
        raise ConfigError(
            f"{owner}.layer_types names {len(fields['layer_types'])} layers, but num_hidden_layers is {layers}"
        )


def _check_vocabulary(config: Any, used_ids: Sequence[int]) -> None:
    if used_ids[-1] >= config.vocab_size:
        raise ConfigError(
            f"the model has embeddings for {config.vocab_size} subwords (vocab_size), but the words need number "
            f"{used_ids[-1]}; use a model with Gemma 3's tokenizer, or random weights with trim_vocabulary = True"
        )


def trim_embedding(backbone: Any, used_ids: Sequence[int]) -> None:
    """Keeps these rows of a `Gemma3TextModel`'s embedding, in this order."""
    whole = backbone.embed_tokens
    # of the same class, which multiplies by sqrt(hidden_size) in a buffer that is not saved
    trimmed = type(whole)(len(used_ids), whole.embedding_dim, 0, embed_scale=backbone.config.hidden_size**0.5)
    trimmed.weight = nn.Parameter(whole.weight.detach()[torch.tensor(used_ids)])
    backbone.embed_tokens = trimmed
    backbone.config.vocab_size = backbone.vocab_size = len(used_ids)


def _add_lora(backbone: nn.Module, options: BackboneOptions) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(
        r=options.lora_r,
        lora_alpha=cast("int", options.lora_alpha),  # peft divides by it, and any number does
        lora_dropout=options.lora_dropout,
        target_modules=list(LORA_TARGETS),
    )
    inject_adapter_in_model(lora, backbone)
    if options.lora_dropout:
        layers: list[Any] = [module for module in backbone.modules() if hasattr(module, "lora_dropout")]
        for layer in layers:
            layer.lora_dropout["default"] = AdapterDropout(options.lora_dropout)
    for name, parameter in backbone.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()  # a bfloat16 adapter would not feel AdamW's small updates
