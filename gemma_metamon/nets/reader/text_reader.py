"""Texts in, one vector per text out: what stands between the words of a batch and Gemma.

    words (N, W) -> cache -> subword ids -> distinct texts -> chunks -> packed rows -> Gemma -> pooled (N, D)

No text is read twice in a call, nor in a later one while no weight has changed; what texts begin with alike is read
once (see `packing`), and what does not fit in memory is computed again in the backward pass (see `memory_plan`).
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from gemma_metamon.nets.reader.action_scores import ActionTexts, Branches, score_actions
from gemma_metamon.nets.reader.memory_plan import MemoryPlan
from gemma_metamon.nets.reader.packing import PackedTexts, pack, plan_chunks, read_packed, use_packed_attention
from gemma_metamon.nets.reader.readout import SummaryReadout
from gemma_metamon.nets.reader.recompute import recompute_chunks
from gemma_metamon.nets.reader.subword_lookup import SubwordLookup
from gemma_metamon.nets.reader.text_cache import TextCache, weights_of


class TextReader:
    """Reads texts with one Gemma. A plain object: backbone and lookup are modules of the encoder that uses it.

    Args:
        backbone: a Gemma3TextModel without a head; it is made to attend to packed texts.
        lookup: words to subwords.
        chunk_subwords: subwords that go through Gemma at a time; None chooses by device, see `MemoryPlan`.
        recomputes: whether a chunk's activations may be recomputed in the backward pass.
        cache_bytes: how much is kept of texts that were read; 0 keeps nothing.

    Attributes:
        cache: of texts that were read, None where nothing is kept.
        trains_backbone: whether any weight of the backbone is trained.
        keeps_step: whether all processes read at the same time, see `keep_step`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        lookup: SubwordLookup,
        *,
        chunk_subwords: int | None,
        recomputes: bool,
        cache_bytes: int,
    ) -> None:
        use_packed_attention(backbone)
        self.backbone = backbone
        self.lookup = lookup
        self.chunk_subwords = chunk_subwords
        self.recomputes = recomputes
        self.cache = TextCache(cache_bytes) if cache_bytes else None
        self.trains_backbone = any(parameter.requires_grad for parameter in backbone.parameters())
        self.keeps_step = False
        config: Any = backbone.config
        self._has_dropout = bool(config.attention_dropout)  # adapters' own counts only where they train

    def keep_step(self, device: torch.device) -> None:
        """Read from now on as many chunks as each other process does, at the same time: the layers are in shards.

        Then every process must call `read` whenever another does. Nothing is found in a cache, which each would fill
        with texts of its own, and where chunks may be recomputed all are.

        Args:
            device: where it reads.
        """
        self.chunk_subwords = self.memory_plan(device).chunk_subwords
        self.cache = None
        self.keeps_step = True

    def read(self, words: Tensor, pool: SummaryReadout, action_texts: ActionTexts | None = None) -> Tensor:
        """Word ids of N texts (N, W) -> (N, pool.emb_dim), or with action_texts (N, pool.emb_dim + N_SCORES).

        What is kept are Gemma's states where its weights are frozen, so that `pool` may train on, and otherwise, only
        in eval mode and without gradients, what `pool` made of them.

        Args:
            words: -1 the unknown word, NO_WORD none.
            pool: makes one vector of a text's states.
            action_texts: what to score after each text.
        """
        differs = self.backbone.training and self._has_dropout  # from one reading to the next
        keeps_states = not self.trains_backbone and action_texts is None and not differs
        if self.cache is None or (not keeps_states and (self.backbone.training or torch.is_grad_enabled())):
            return self._read_and_pool(words, pool, action_texts)
        if keeps_states:
            made_by = _precision(words.device), weights_of([self.backbone])
            states = self.cache.read(words, made_by, self._read_states)  # (t, hidden_size) each
            summary: Tensor = pool(nn.utils.rnn.pad_sequence(states, batch_first=True), self.lookup(words).places)
            return summary
        made_by = _precision(words.device), weights_of((self.backbone, pool))
        return torch.stack(
            self.cache.read(words, made_by, lambda unread: self._read_and_pool(unread, pool, action_texts).unbind(0))
        )

    def memory_plan(self, device: torch.device) -> MemoryPlan:
        """How much is read at a time, and kept for a backward pass, if gradients are on now."""
        recomputes = self.recomputes and self.trains_backbone and torch.is_grad_enabled()
        return MemoryPlan.choose(self.backbone.config, device, self.chunk_subwords, recomputes=recomputes)

    @torch.no_grad()
    def _read_states(self, words: Tensor) -> list[Tensor]:
        """Gemma's states of each text, (t, hidden_size) of its t subwords."""
        texts, text_of = self.lookup(words).sorted_distinct()
        states: list[Tensor] = []
        for chunk in plan_chunks(texts, self.memory_plan(words.device).chunk_subwords):
            read, _ = read_packed(self.backbone, pack(texts[chunk]))  # (n, t, hidden_size)
            states += [one[:length] for one, length in zip(read, texts.lengths[chunk].tolist(), strict=True)]
        return [states[text] for text in text_of.tolist()]

    def _read_and_pool(self, words: Tensor, pool: SummaryReadout, action_texts: ActionTexts | None) -> Tensor:
        """As `read`, without the cache: chunk by chunk; what neighbours have in common is read once."""
        texts, text_of = self.lookup(words).sorted_distinct()
        plan = self.memory_plan(words.device)
        branches: Branches | None = None
        if action_texts is not None:
            # texts alike in subwords and places have the same names in the same places: any turn of a text will do
            turn_of = text_of.new_zeros(len(texts)).scatter_(0, text_of, torch.arange(len(words), device=words.device))
            branches = action_texts(words[turn_of], self.lookup)
        behind = None if branches is None else len(branches.cue) + branches.lengths.sum(1)
        parts = plan_chunks(texts, plan.chunk_subwords, behind)
        chunks = [pack(texts[part], None if branches is None else branches.of(part)) for part in parts]
        if self.keeps_step:  # reads a text again, of which nobody asks for the result
            again = pack(texts[:1], None if branches is None else branches.of(slice(1)))
            chunks += [again] * (_most_of_all(len(chunks), words.device) - len(chunks))
        kept = plan.count_kept([len(packed.subwords) for packed in chunks])

        def read_chunk(*chunk: Any) -> Tensor:
            packed = PackedTexts(*chunk)
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_backbone):
                states, places = read_packed(self.backbone, packed)  # (n, t, hidden_size), (n, the longest text)
            T = places.shape[1]
            pooled: Tensor = pool(states[:, :T], places)
            if packed.branches is None:
                return pooled
            backbone: Any = self.backbone
            embedding = backbone.embed_tokens.weight
            return torch.cat([pooled, score_actions(states[:, T:], packed.branches, embedding, self.lookup.bos_id)], 1)

        recomputed = []
        # first, so that backward comes to it last, when the activations that are kept have been let go
        if kept < len(chunks):
            trained = [p for part in (self.backbone, pool) for p in part.parameters() if p.requires_grad]
            recomputed = [recompute_chunks(read_chunk, chunks[kept:], trained, adds_to_grad=self.keeps_step)]
        embs = [read_chunk(*packed) for packed in chunks[:kept]] + recomputed
        return torch.cat(embs)[text_of]


def _most_of_all(count: int, device: torch.device) -> int:
    """The largest count of all processes, each of which must ask at the same time."""
    counts = torch.tensor(count, device=device)
    distributed.all_reduce(counts, distributed.ReduceOp.MAX)
    return int(counts)


def _precision(device: torch.device) -> torch.dtype | None:
    """What autocast computes in here; None where it is off."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
