"""Answers to one prompt, drawn and weighed together: a group's prompt is read once, and not once for each answer.

    prompt ─┬─ <SOLUTION> move   Thunderbolt </SOLUTION>
            ├─ <SOLUTION> switch Starmie     </SOLUTION>
            └─ <SOLUTION> move   Thunderbolt </SOLUTION>

Where a prompt has 200 subwords and an answer 5, reading is nearly all that reinforcement learning costs: with groups of
8 an update takes a fifth of the time. The numbers are those of one row per answer.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def draw(
    gemma: Any, prompts: Sequence[Sequence[int]], n: int, *, most: int, temperature: float, ends: Collection[int]
) -> list[list[int]]:
    """Answers in subwords, n to each prompt, one prompt's after the other's.

    Args:
        gemma: a Gemma3ForCausalLM.
        prompts: in subwords, at least one each.
        n: answers to each.
        most: subwords of an answer.
        temperature: of the draw; above 0.
        ends: the subwords that an answer ends with; each answer has its own, unless it was cut off.
    """
    from transformers import DynamicCache

    device = gemma.lm_head.weight.device
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    real = torch.tensor([[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts], device=device)
    places = (real.cumsum(1) - 1).clamp(min=0)  # (B, P)
    cache: Any = DynamicCache()
    sees = torch.ones(width, width, dtype=torch.bool, device=device).tril() & real[:, None, :]
    sees |= torch.eye(width, dtype=torch.bool, device=device)  # padding; a softmax must have something
    states = _read(gemma, ids, places, places, sees, cache)[:, -1]  # (B, D)
    states = states.repeat_interleave(n, 0)
    cache.batch_repeat_interleave(n)
    real, places = real.repeat_interleave(n, 0), places.repeat_interleave(n, 0)
    last = torch.tensor(sorted(ends), device=device)
    answers, going = [], torch.ones(len(real), dtype=torch.bool, device=device)
    while True:
        sums = (gemma.lm_head(states).float() / temperature).softmax(-1).cumsum(-1)  # (B n, vocabulary)
        # torch.multinomial draws a number for each subword of the vocabulary, which takes as long as all the rest
        at = torch.rand(len(sums), 1, device=device) * sums[:, -1:]
        drawn = torch.where(going, torch.searchsorted(sums, at, right=True)[:, 0].clamp(max=sums.shape[1] - 1), -1)
        answers.append(drawn)
        going &= ~torch.isin(drawn, last)
        if len(answers) == most or not going.any():
            break
        places = torch.cat([places, places[:, -1:] + 1], 1)
        real = torch.cat([real, torch.ones_like(real[:, :1])], 1)
        states = _read(gemma, drawn.clamp(min=0)[:, None], places[:, -1:], places, real[:, None, :], cache)[:, -1]
    return [[subword for subword in row if subword >= 0] for row in torch.stack(answers, 1).tolist()]


def weigh(gemma: Any, ids: Tensor, mask: Tensor, n_answer: int, *, temperature: float) -> tuple[Tensor, Tensor]:
    """How probable each subword of the answers is, and how open each draw was.

    Args:
        gemma: a Gemma3ForCausalLM.
        ids: (B, P + A), prompts padded on the left and answers padded on the right, as TRL has them.
        mask: (B, P + A), 1 on what is no padding.
        n_answer: A.
        temperature: of the draw.

    Returns:
        (B, A) the logarithms of the probabilities, with gradients, and (B, A) the entropies in nats, without; 0 on
        padding.
    """
    device, B, P = ids.device, len(ids), ids.shape[1] - n_answer
    prompts, group = torch.unique(ids[:, :P], dim=0, return_inverse=True)  # (N, P), (B,)
    slot = (torch.tril(group[:, None] == group[None], -1)).sum(1)  # (B,), its number within the group
    N, G = len(prompts), int(slot.max()) + 1
    first = torch.zeros(N, dtype=torch.long, device=device).scatter_(0, group, torch.arange(B, device=device))
    prompt_real = mask[first, :P].bool()  # (N, P)
    answers = torch.zeros(N, G, n_answer, dtype=ids.dtype, device=device)
    answers[group, slot] = ids[:, P:]
    real = mask[:, P:].bool()
    lengths = prompt_real.sum(1)
    step = torch.arange(n_answer, device=device)
    places = torch.cat(
        [(prompt_real.cumsum(1) - 1).clamp(min=0), (lengths[:, None] + step).repeat(1, G)], 1
    )  # (N, P + G A)
    Q = places.shape[1]
    sees = torch.zeros(N, Q, Q, dtype=torch.bool, device=device)
    sees[:, :, :P] = prompt_real[:, None, :]
    sees[:, :P, :P] &= torch.ones(P, P, dtype=torch.bool, device=device).tril()
    own = torch.ones(n_answer, n_answer, device=device).tril()
    sees[:, P:, P:] = torch.kron(torch.eye(G, device=device), own).bool()  # an answer sees no other one
    sees |= torch.eye(Q, dtype=torch.bool, device=device)
    states = _read(gemma, torch.cat([prompts, answers.flatten(1)], 1), places, places, sees, None)
    rows, ats = real.nonzero(as_tuple=True)  # of the answers' subwords
    before = torch.where(ats > 0, P + slot[rows] * n_answer + ats - 1, P - 1)
    logits = gemma.lm_head(states[group[rows], before]).float() / temperature  # (subwords, vocabulary)
    log_probs = logits.log_softmax(-1)
    chosen = log_probs.gather(1, ids[rows, P + ats][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(1)
    empty = torch.zeros(B, n_answer, device=device)
    return empty.index_put((rows, ats), chosen), empty.index_put((rows, ats), entropy)


def _read(gemma: Any, ids: Tensor, places: Tensor, keys: Tensor, sees: Tensor, cache: Any) -> Tensor:
    """The last layer's states (B, T, D).

    Args:
        gemma: a Gemma3ForCausalLM.
        ids: (B, T) subwords.
        places: (B, T), where they stand.
        keys: (B, K), where all stand that there are to be seen.
        sees: (B, T, K), True where a subword sees another one, unless that is too far away for a layer.
        cache: of those before, to which these are added; None keeps nothing.
    """
    near = keys[:, None, :] > places[:, :, None] - gemma.config.sliding_window
    states: Tensor = gemma.model(
        input_ids=ids,
        position_ids=places,
        attention_mask={"full_attention": sees[:, None], "sliding_attention": (sees & near)[:, None]},
        cache=cache,
        use_cache=cache is not None,
    ).last_hidden_state
    return states
