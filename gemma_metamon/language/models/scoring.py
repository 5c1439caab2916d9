"""How probable a model finds each legal choice as its answer: all choices of all battles in one forward pass.

    prompt ── <SOLUTION> ─┬─ move ────┬─ Thunderbolt ── </SOLUTION>
                          │           └─ Thunder ── Wave ── </SOLUTION>
                          └─ switch ──── Starmie ── </SOLUTION>

Behind its prompt a battle's answers stand as a tree, each subword once, and each sees the prompt and the way to it
alone: the numbers are those of one pass per answer, for the price of a prompt that is a little longer. The head, whose
cost is that of the vocabulary, looks at the places where answers part and at those behind them. An answer counts up to
the first subword behind its choice; what follows is the same for all.

What all prompts begin with (the system's text) is read once, and its keys and values are kept. Of a model that sees,
the pictures are looked at once for each battle, whatever the number of its choices; nothing is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.seeing import embed, picture_blocks
from gemma_metamon.language.tokenizers import encode_answers, encode_prompts

LEAST_SHARED: Final = 8
"""Subwords that all prompts must begin with, for them to be worth keeping."""

Ids = Sequence[int]


@dataclass(frozen=True)
class _Tree:
    """The answers of one battle behind its prompt. Place -1 is the prompt's last subword, others are nodes' numbers.

    Attributes:
        subwords: of the nodes that something follows.
        parents: the node before each, -1 for the prompt's end.
        depths: how many nodes are before it.
        ways: of each answer, the (place, subword) pairs that it consists of, where it is not alone.
    """

    subwords: list[int]
    parents: list[int]
    depths: list[int]
    ways: list[list[tuple[int, int]]]


def _grow(answers: Sequence[Ids]) -> _Tree:
    """The tree of two or more different answers, without what all end with."""
    shortest = min(map(len, answers))
    same_end = next((n for n in range(shortest) if len({answer[-1 - n] for answer in answers}) > 1), shortest)
    cut = [list(answer[: len(answer) - max(same_end - 1, 0)]) for answer in answers]
    same_begin = next((n for n in range(min(map(len, cut))) if len({answer[n] for answer in cut}) > 1), 0)
    nodes: dict[tuple[int, int], int] = {}
    tree = _Tree([], [], [], [])
    for answer in cut:
        place, way = -1, []
        for depth, subword in enumerate(answer):
            if depth >= same_begin:
                way.append((place, subword))
            if depth == len(answer) - 1:
                break  # nothing is asked for behind it
            if (place, subword) not in nodes:
                nodes[place, subword] = len(tree.subwords)
                tree.subwords.append(subword)
                tree.parents.append(place)
                tree.depths.append(depth)
            place = nodes[place, subword]
        tree.ways.append(way)
    return tree


class ChoiceScorer:
    """Scores choices by a model. Deterministic; one thread at a time.

    Args:
        chat: in eval mode.
    """

    def __init__(self, chat: ChatModel) -> None:
        self.chat = chat
        self._answers: dict[str, list[int]] = {}
        self._shared: list[int] = []
        self._kept: list[tuple[Tensor, Tensor]] = []

    def score(
        self, prompts: Sequence[Sequence[dict[str, str]]], choices: Sequence[Sequence[str]]
    ) -> list[npt.NDArray[np.float32]]:
        """The logarithm of each choice's probability among the legal ones, (its choices,) for each of n battles.

        Args:
            prompts: chats up to where the model answers.
            choices: of each, the names of its legal choices, at least one.
        """
        return self.score_ids(encode_prompts(self.chat.tokenizer, prompts), [self.answer_ids(c) for c in choices])

    def answer_ids(self, choices: Sequence[str]) -> list[list[int]]:
        """The subwords of the answers that name these choices, without reasoning."""
        new = [choice for choice in choices if choice not in self._answers]
        encoded = encode_answers(self.chat.tokenizer, [self.chat.write_answer(choice) for choice in new])
        self._answers.update(zip(new, encoded, strict=True))
        return [self._answers[choice] for choice in choices]

    @torch.inference_mode()
    def score_ids(
        self, prompts: Sequence[Ids], answers: Sequence[Sequence[Ids]], pixels: Sequence[Tensor] | None = None
    ) -> list[npt.NDArray[np.float32]]:
        """`score` of subwords.

        Args:
            prompts: with the places of pictures.
            answers: of each prompt, none of which begins with another whole one.
            pixels: what is seen at each prompt, (its pictures, 3, height, width); None for a model without sight.
        """
        asked = [i for i, each in enumerate(answers) if len(each) > 1]
        scores = [np.zeros(len(each), dtype=np.float32) for each in answers]
        if asked:
            seen = None if pixels is None else torch.cat([pixels[i] for i in asked])
            found = self._forward([prompts[i] for i in asked], [_grow(answers[i]) for i in asked], seen)
            for i, values in zip(asked, found, strict=True):
                scores[i] = values
        return scores

    def _forward(
        self, prompts: Sequence[Ids], trees: Sequence[_Tree], pixels: Tensor | None
    ) -> list[npt.NDArray[np.float32]]:
        gemma, device = self.chat.gemma, self.chat.device
        n_kept = self._keep_shared(prompts) if pixels is None else 0
        ids, positions, sees = _lay_out([prompt[n_kept:] for prompt in prompts], trees, n_kept)
        places = torch.from_numpy(positions).to(device)
        keys = torch.cat([torch.arange(n_kept, device=device).expand(len(prompts), -1), places], dim=1)
        allowed = torch.from_numpy(sees).to(device)
        near = keys[:, None, :] > places[:, :, None] - gemma.config.get_text_config().sliding_window
        subwords = torch.from_numpy(ids).to(device)
        layers, inputs = gemma.model, {"input_ids": subwords}
        if pixels is not None:
            layers, inputs = layers.language_model, {"inputs_embeds": embed(gemma, subwords, pixels)}
            together = picture_blocks(subwords, gemma.config.image_token_id)
            allowed, near = allowed | together, near | together
        states = layers(
            **inputs,
            position_ids=places,
            attention_mask={
                "full_attention": allowed[:, None],
                "sliding_attention": (allowed & near)[:, None],
            },
            cache=self._cache_for(len(prompts)),
            use_cache=bool(n_kept),
        ).last_hidden_state  # (n, Q, D)
        lengths = [len(prompt) - n_kept for prompt in prompts]
        steps = [
            (row, lengths[row] + place, subword, row, way)
            for row, tree in enumerate(trees)
            for way, pairs in enumerate(tree.ways)
            for place, subword in pairs
        ]
        where = sorted({(row, at) for row, at, *_ in steps})
        number = {each: i for i, each in enumerate(where)}
        rows, ats = torch.tensor(where, device=device).T
        logits = gemma.lm_head(states[rows, ats]).float()  # (places, vocabulary)
        asked = torch.tensor([[number[row, at], subword] for row, at, subword, *_ in steps], device=device)
        values = (logits[asked[:, 0], asked[:, 1]] - logits.logsumexp(-1)[asked[:, 0]]).cpu()
        first = np.cumsum([0, *(len(tree.ways) for tree in trees)])
        answer = torch.tensor([first[row] + way for *_, row, way in steps])
        sums = torch.zeros(int(first[-1])).index_add(0, answer, values)
        return [own.log_softmax(-1).numpy() for own in torch.tensor_split(sums, torch.from_numpy(first[1:-1]))]

    def _keep_shared(self, prompts: Sequence[Ids]) -> int:
        """How many subwords all these prompts begin with whose keys and values are kept."""
        shared = self._shared
        if not shared or any(list(prompt[: len(shared)]) != shared for prompt in prompts):
            self._shared = shared = _same_begin([prompt[:-1] for prompt in prompts]) if len(prompts) > 1 else []
            self._kept = []
            if len(shared) < LEAST_SHARED:
                self._shared = []
                return 0
            from transformers import DynamicCache

            cache: Any = DynamicCache()
            self.chat.gemma.model(
                input_ids=torch.tensor([shared], device=self.chat.device), cache=cache, use_cache=True
            )
            self._kept = [(layer.keys, layer.values) for layer in cache.layers]
        return len(shared)

    def _cache_for(self, n: int) -> Any:
        """The kept keys and values for n battles, to be added to."""
        if not self._kept:
            return None
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        for layer, (keys, values) in enumerate(self._kept):
            cache.update(keys.expand(n, -1, -1, -1), values.expand(n, -1, -1, -1), layer)
        return cache


def _same_begin(rows: Sequence[Ids]) -> list[int]:
    in_order = sorted(map(list, rows))
    first, last = in_order[0], in_order[-1]  # in order, so that what these two share all do
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return list(first[:n])


def _lay_out(
    prompts: Sequence[Ids], trees: Sequence[_Tree], n_kept: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Prompts and their trees as rows, padded on the right.

    Returns:
        ids (n, Q), positions (n, Q), and (n, Q, n_kept + Q), True where a subword sees another one.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    n, Q = len(prompts), max(len(p) + len(t.subwords) for p, t in zip(prompts, trees, strict=True))
    ids, positions = np.zeros((n, Q), dtype=np.int64), np.zeros((n, Q), dtype=np.int64)
    sees = np.zeros((n, Q, n_kept + Q), dtype=bool)
    sees[:, :, :n_kept] = True
    sees[:, :, n_kept:] = np.tri(Q, dtype=bool) & (np.arange(Q) < lengths[:, None])[:, None, :]
    for row, (prompt, tree) in enumerate(zip(prompts, trees, strict=True)):
        start, stop = len(prompt), len(prompt) + len(tree.subwords)
        ids[row, :start], ids[row, start:stop] = prompt, tree.subwords
        positions[row, :start] = np.arange(n_kept, n_kept + start)
        positions[row, start:stop] = n_kept + start + np.array(tree.depths, dtype=np.int64)
        for node, parent in enumerate(tree.parents):
            at = start + node
            if parent >= 0:
                sees[row, at, n_kept + start :] |= sees[row, start + parent, n_kept + start :]
            sees[row, at, n_kept + at] = True
        sees[row, np.arange(stop, Q), n_kept + np.arange(stop, Q)] = True  # padding; a softmax must have something
    return ids, positions, sees
