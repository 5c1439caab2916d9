"""One timestep of a battle as a vector: Gemma reads the turn's words, a small MLP its numbers.

    words (B, L, W) -> distinct texts -> subword ids -> Gemma -> SummaryReadout ── 2688 ┐
    numbers, previous reward and action ───────────────────────── NumbersEncoder ── 256 ┴ 2944

A text is a turn or, with granularity "entity", a part of one (see `entity_reader`). Each distinct text of a batch is
read once, padded timesteps not at all, and what does not fit in memory is recomputed in the backward pass. No tokenizer
and no loop over words: subword ids come from a table. With `action_scores` 13 entries more say what Gemma's
language-model head would do, see `action_scores`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.batch import padded_timesteps
from gemma_metamon.nets.checks import FLAG, HEADS, TEXT, WIDTH, check, number, one_of, whole
from gemma_metamon.nets.reader.action_scores import N_SCORES, ActionTexts
from gemma_metamon.nets.reader.backbone import BackboneOptions, build_backbone
from gemma_metamon.nets.reader.distinct_rows import distinct_rows
from gemma_metamon.nets.reader.entities import EntityReader, check_fusion
from gemma_metamon.nets.reader.numbers import NumbersEncoder
from gemma_metamon.nets.reader.observation_keys import ObservationKeys
from gemma_metamon.nets.reader.readout import SummaryReadout
from gemma_metamon.nets.reader.subword_lookup import SubwordLookup
from gemma_metamon.nets.reader.text_reader import TextReader
from gemma_metamon.nets.reader.weights import GEMMA_3_270M
from gemma_metamon.nets.spaces import HasShape
from gemma_metamon.nets.timestep import TimestepEncoder
from gemma_metamon.text.phrases import PHRASINGS
from gemma_metamon.text.slots import find_space, split_turn
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.text.vocabulary import UNKNOWN_ID, Vocabulary

MASKED_WORDS_SHARE = 0.15
_RULES = {
    "granularity": one_of("turn", "entity"),
    "phrasing": one_of(*PHRASINGS),
    "gradient_checkpointing": FLAG,
    "encoder_chunk_tokens": whole(1, 1_000_000_000).or_none(),
    "trim_vocabulary": FLAG,
    "text_emb_dim": WIDTH,
    "summary_tokens": HEADS,
    "numerical_emb_dim": WIDTH,
    "extra_emb_dim": WIDTH,
    "token_mask_aug": FLAG,
    "token_mask_share": number(0, 1, above=True, below=True).saying("0.15 is usual"),
    "slot_scores": FLAG,
    "save_base_weights": FLAG,
    "observation_space": TEXT.or_none(),
    "fusion_layers": whole(0, 128).saying("1 is usual"),
    "fusion_width": WIDTH.or_none(),
    "fusion_heads": HEADS,
    "text_cache_mb": whole(0, 1_000_000_000).saying("0 keeps nothing"),
    "action_scores": FLAG,
}


class GemmaTstepEncoder(TimestepEncoder):
    """Gemma 3 inside a timestep encoder, for the embedded agents and for AMAGO's alike.

    Shapes: obs["text_tokens"] (B, L, W) word ids, -1 the unknown word; obs["numbers"] (B, L, N); rl2s (B, L, 1 + A)
    -> (B, L, emb_dim) float32, zeros on padded timesteps. B battles, L timesteps, W words, N numbers, A actions.
    Of metamon's grouped space the words and the numbers come in eight arrays each, see `ObservationKeys`.

    Adapters, readout and the numbers' MLP are always float32. With LoRA the adapters and what is above them train; with
    freeze_base_model alone, only what is above Gemma; with neither, Gemma's own weights too.

    Args:
        obs_space: holds the shapes of "text_tokens" and "numbers" or of metamon's groups, and nothing else of a turn.
        rl2_space: has shape (1 + A,).
        model_name: hub name or local folder of a Gemma 3 text model.
        pretrained: False makes random weights of `backbone_config`; nothing is downloaded.
        backbone_config: fields of transformers' Gemma3TextConfig; None is Gemma 3 270M.
        granularity: "turn", the whole turn is one text; "entity", each Pokémon, move, ... of it is a short text, read
            once in a batch wherever it stands, and a small transformer fuses the turn.
        phrasing: "natural" ("Great Tusk") or "raw" ("greattusk").
        use_lora: train adapters on q, k, v, o, gate, up and down of every layer, with the base frozen.
        lora_r: rank of the adapters.
        lora_alpha: their scale is lora_alpha / lora_r.
        lora_dropout: on the adapters' input, in training.
        gradient_checkpointing: recompute a chunk's activations in the backward pass.
        encoder_chunk_tokens: subwords that go through Gemma at a time; what texts begin with alike counts once. None
            chooses by device: on a CPU 512 for Gemma 3 270M and up to 4096 for small models, whose activations then
            stay in the cache; on a GPU as many as an eighth of its memory holds (about 9,000 on 140 GB in bfloat16).
            With None, activations are kept instead of recomputed: on a CPU of all chunks if they fit in 2 GiB, on a GPU
            of as many as fit in a quarter of its memory. With a number every chunk is recomputed.
        dtype: Gemma's own: "auto" is bfloat16 where the machine has CUDA when the encoder is made, unless Gemma's own
            weights train, else float32. "float32" and "bfloat16" hold anywhere; float16 overflows and is refused.
        freeze_base_model: train nothing of Gemma's own weights.
        use_4bit: NF4 through bitsandbytes, computed in bfloat16.
        trim_vocabulary: keep only the embedding rows that the vocabulary can produce; the output is the same.
        text_emb_dim: width of the text's part.
        summary_tokens: pooling heads of the readout; each makes text_emb_dim / summary_tokens.
        numerical_emb_dim: width of the numbers' part.
        extra_emb_dim: features made of the previous reward and action before they join the numbers.
        token_mask_aug: in training, replace a random share of the words by the unknown word.
        token_mask_share: that share.
        slot_scores: let the readout's scores depend on the place of a word in the text, or of an entity in the turn,
            see SummaryReadout.
        save_base_weights: keep a frozen pretrained base in `state_dict`, where it is otherwise left out: whoever loads
            the rest, also with strict=True, keeps the base that `model_name` gave.
        vocabulary: the words whose ids the observations hold, in order; None is the packaged vocabulary.
        observation_space: for granularity "entity", the name of the space; None where the number of words tells it.
        fusion_layers: for granularity "entity", layers of the transformer over the entities of a turn.
        fusion_width: its width, also of an entity's vector; None is Gemma's.
        fusion_heads: its attention heads, also the pooling heads that make an entity's vector.
        text_cache_mb: megabytes of what was made of texts that are kept, so that none is read twice while no weight
            changes: when acting, or with freeze_base_model (then also in training, but for action_scores; read in
            `dtype`, whatever mixed_precision is). 0 keeps nothing.
        action_scores: append to each timestep how probable Gemma finds each action's words after the turn's, (B, L, 13)
            logarithms, for LMTrajEncoder and LMActor. For granularity "turn": entities are read apart, and Gemma never
            sees the turn that it would have to go on with.
        init_adapter: the folder of a run of `gemma-metamon sft` over the same `model_name` (its last epoch), or of one
            adapter in peft's form: training begins with that adapter in place of one that adds nothing. Its rank and
            scale must be lora_r and lora_alpha. A checkpoint holds its own adapter and needs the folder no more.

    Raises:
        ConfigError: values that cannot work, before anything is loaded.
        DataError: words that the packaged subword table lacks; weights or an adapter that are damaged.
        MissingDependencyError: use_4bit without bitsandbytes.
        MissingFileError: weights or an adapter that cannot be reached.
        CheckpointMismatchError: an adapter that does not fit.
    """

    def __init__(
        self,
        obs_space: Mapping[str, HasShape],
        rl2_space: HasShape,
        model_name: str = GEMMA_3_270M,
        pretrained: bool = True,
        backbone_config: dict[str, Any] | None = None,
        granularity: str = "turn",
        phrasing: str = "natural",
        use_lora: bool = True,
        lora_r: int = 16,
        lora_alpha: float = 32,
        lora_dropout: float = 0.05,
        gradient_checkpointing: bool = True,
        encoder_chunk_tokens: int | None = None,
        dtype: str = "auto",
        freeze_base_model: bool = False,
        use_4bit: bool = False,
        trim_vocabulary: bool = True,
        text_emb_dim: int = 2688,
        summary_tokens: int = 21,
        numerical_emb_dim: int = 256,
        extra_emb_dim: int = 18,
        token_mask_aug: bool = False,
        token_mask_share: float = MASKED_WORDS_SHARE,
        slot_scores: bool = True,
        save_base_weights: bool = False,
        vocabulary: Sequence[str] | None = None,
        observation_space: str | None = None,
        fusion_layers: int = 1,
        fusion_width: int | None = None,
        fusion_heads: int = 8,
        text_cache_mb: int = 1024,
        action_scores: bool = False,
        init_adapter: str | None = None,
    ) -> None:
        super().__init__()
        check("GemmaTstepEncoder", locals(), _RULES)
        if text_emb_dim % summary_tokens:
            raise ConfigError(
                f"GemmaTstepEncoder.text_emb_dim ({text_emb_dim}) must be a multiple of summary_tokens "
                f"({summary_tokens}); the next one is {(text_emb_dim // summary_tokens + 1) * summary_tokens}"
            )
        if fusion_width is not None:  # Gemma's own is known later
            check_fusion(fusion_width, fusion_heads)
        self.options = BackboneOptions(
            model_name=model_name,
            pretrained=pretrained,
            backbone_config=backbone_config,
            use_lora=use_lora,
            lora_r=lora_r,
            lora_alpha=lora_alpha,
            lora_dropout=lora_dropout,
            dtype=dtype,
            freeze_base_model=freeze_base_model,
            use_4bit=use_4bit,
            init_adapter=init_adapter,
        )
        if action_scores:
            _check_scored(granularity, token_mask_aug=token_mask_aug)
        self.observation_keys = keys = ObservationKeys.find(obs_space)
        if not rl2_space.shape:
            raise ConfigError("rl2_space is no vector; it holds the previous reward and action")
        rl2_dim = rl2_space.shape[-1]
        slots = split_turn(find_space(keys.n_words, observation_space)) if granularity == "entity" else None

        words = Vocabulary.default().words if vocabulary is None else vocabulary
        table = SubwordTable.load(phrasing).rows_for(words)
        self.granularity, self.phrasing, self.subword_hash = granularity, phrasing, table.hash
        lookup = SubwordLookup(table, compact=trim_vocabulary)
        backbone: Any = build_backbone(self.options, table.used_ids.tolist(), trim=trim_vocabulary)
        self.read_with(
            TextReader(
                backbone,
                lookup,
                chunk_subwords=encoder_chunk_tokens,
                recomputes=gradient_checkpointing,
                cache_bytes=text_cache_mb * 2**20,
            )
        )
        hidden_size = backbone.config.hidden_size
        self.entities: EntityReader | None = None
        read_width, read_places = hidden_size, keys.n_words
        if slots is not None:
            read_width, read_places = fusion_width or hidden_size, len(slots)
            self.entities = EntityReader(
                slots, hidden_size, width=read_width, n_layers=fusion_layers, n_heads=fusion_heads
            )
        self.readout = SummaryReadout(
            read_width,
            read_places if slot_scores else None,
            summary_tokens=summary_tokens,
            token_dim=text_emb_dim // summary_tokens,
        )
        self.action_texts: ActionTexts | None = None
        if action_scores:
            self.action_texts = ActionTexts(find_space(keys.n_words, observation_space), words, rl2_dim - 1)
        self.numbers = NumbersEncoder(keys.n_numbers, rl2_dim, extra_dim=extra_emb_dim, emb_dim=numerical_emb_dim)
        self.text_emb_dim, self.numerical_emb_dim = text_emb_dim, numerical_emb_dim
        self.masked_share = token_mask_share if token_mask_aug else 0.0
        if pretrained and not self.options.trains_base and not save_base_weights:
            hooked: Any = self  # torch gives these two methods no types
            hooked.register_state_dict_post_hook(_leave_out_base)
            hooked.register_load_state_dict_pre_hook(_put_back_base)

    def read_with(self, reader: TextReader) -> None:
        """Let `reader` read the texts from now on; its Gemma and its table become parts of this encoder."""
        self.reader, self.subwords, self.backbone = reader, reader.lookup, reader.backbone

    @property
    def emb_dim(self) -> int:
        """Width of a timestep."""
        return self.text_emb_dim + self.numerical_emb_dim + (N_SCORES if self.action_texts is not None else 0)

    def forward(self, obs: Mapping[str, Tensor], rl2s: Tensor, log_dict: dict[str, Any] | None = None) -> Tensor:
        """Timesteps as vectors, (B, L, emb_dim) float32; zeros where they are padding.

        Args:
            obs: the words (B, L, W) and the numbers (B, L, N), under the names that the space gave.
            rl2s: (B, L, 1 + A), the previous reward and action.
            log_dict: where AMAGO collects what it logs; gets the share of texts that are different.
        """
        real = ~padded_timesteps(rl2s)  # (B, L)
        out = torch.zeros(*real.shape, self.emb_dim, device=rl2s.device)
        words, numbers = self.observation_keys.read(obs, real)  # (R, W), (R, N), R real timesteps
        if len(words) == 0:
            return out
        # distinct (N, W), N distinct texts; text_of (R,), the text of each timestep
        distinct, text_of = distinct_rows(words)
        if log_dict is not None:
            log_dict["Distinct Texts per Timestep"] = len(distinct) / len(words)
        extra = self.numbers(numbers, rl2s[real])  # (R, numerical_emb_dim)
        texts = self.encode_texts(distinct)[text_of]
        text, scores = texts[:, : self.text_emb_dim], texts[:, self.text_emb_dim :]
        out[real] = torch.cat([text, extra, scores], dim=-1).to(out.dtype)  # not so in autocast
        return out

    def encode_texts(self, words: Tensor) -> Tensor:
        """Word ids of turns (N, W) -> (N, text_emb_dim), or with action_scores (N, text_emb_dim + N_SCORES)."""
        if self.training and self.masked_share:
            masked = torch.rand(words.shape, device=words.device) < self.masked_share
            words = words.masked_fill(masked, UNKNOWN_ID)
        if self.entities is None:
            return self.reader.read(words, self.readout, self.action_texts)
        distinct, entity_of = self.entities.split(words)  # (M, K), (N, E)
        vectors = self.reader.read(distinct, self.entities.pool)  # (M, D)
        fused = self.entities(vectors[entity_of])  # (N, E, D)
        summary: Tensor = self.readout(fused, self.entities.places.expand_as(entity_of))
        return summary

    def describe(self) -> str:
        """One line on how texts are read, now that it is known where the weights are."""
        weight = next(self.backbone.parameters())
        chunk = self.reader.memory_plan(weight.device).chunk_subwords
        dtype = "4 bits" if self.options.use_4bit else str(weight.dtype).removeprefix("torch.")
        return (
            f"Gemma reads with sdpa attention in {dtype} on {weight.device.type}, "
            f"granularity {self.granularity}, chunks of {chunk} subwords"
        )

    def parameter_counts(self) -> dict[str, dict[str, int]]:
        """Parameters per part, each as {"total", "trainable"}; 4-bit weights count as the weights that they stand for.

        Cheap for an encoder made under `torch.device("meta")`.
        """
        parts = ["embedding", "layers", "lora", "readout", "numbers"]
        parts += [] if self.entities is None else ["entities"]
        counts = {part: {"total": 0, "trainable": 0} for part in parts}
        for name, parameter in self.named_parameters():
            part = name.split(".")[0]
            if part == "backbone":
                part = "lora" if ".lora_" in name else "embedding" if ".embed_tokens." in name else "layers"
            quant_state = getattr(parameter, "quant_state", None)
            count = parameter.numel() if quant_state is None else int(torch.Size(quant_state.shape).numel())
            counts[part]["total"] += count
            counts[part]["trainable"] += count if parameter.requires_grad else 0
        return counts


def _is_of_base(key: str) -> bool:
    return key.startswith("backbone.") and ".lora_" not in key


def _leave_out_base(encoder: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(prefix) and _is_of_base(key.removeprefix(prefix))]:
        del state[key]


def _put_back_base(encoder: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Entries that a saved state leaves out are those that are there, so that strict=True finds nothing missing."""
    backbone = encoder.get_submodule("backbone").state_dict(prefix=f"{prefix}backbone.")
    for key, value in backbone.items():
        if _is_of_base(key.removeprefix(prefix)):
            state.setdefault(key, value)


def _check_scored(granularity: str, *, token_mask_aug: bool) -> None:
    off = "or choose a model config without the language-model actor"
    if granularity != "turn":
        raise ConfigError(
            f"GemmaTstepEncoder.action_scores = True scores what would follow a turn, but granularity {granularity!r} "
            f"reads its parts one by one; set GemmaTstepEncoder.granularity = 'turn', {off}"
        )
    if token_mask_aug:
        raise ConfigError(
            "GemmaTstepEncoder.token_mask_aug = True hides words, and with them what the actions of action_scores are "
            f"called; set token_mask_aug = False, {off}"
        )
