"""How probable Gemma finds the words of each action after the words of a turn, among the words of all of them.

    turn ── choose ─┬─ move ──┬─ Thunderbolt
                    │         └─ Thunder ── Wave
                    ├─ bench ─── Starmie
                    └─ you ───── move ── ...

Gemma reads the branches behind the turn in the same pass, each as if it alone followed (see `packing`). Wherever
branches part, the language-model head, which is the embedding once more, says how probable each way is; only the ways
that lead to an action are asked for, a dozen of 262,144. The product along a branch is the action's probability, and
those of all actions sum to 1: no name is at a disadvantage for being long.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.battle.observation_space import BLANK, ObservationSpace
from gemma_metamon.battle.replays import N_RECORDED_ACTIONS
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.subword_lookup import NO_WORD, SubwordLookup
from gemma_metamon.text.action_words import CUE, WORDS_NEEDED, name_actions

N_SCORES: Final = N_RECORDED_ACTIONS
"""Also where the action space has fewer: its actions are the first of them."""
NO_SUCH_ACTION: Final = -7.0
"""In place of a logarithm: about that of the least probability that an actor gives."""


class Branches(NamedTuple):
    """What follows each of n texts: c subwords of the cue, then A branches of at most S subwords.

    Attributes:
        cue: (c,) ids.
        subwords: (n, A, S) ids; anything behind a branch's end.
        lengths: (n, A), 0 where there is no such action.
    """

    cue: Tensor
    subwords: Tensor
    lengths: Tensor

    def of(self, chosen: slice | Tensor) -> "Branches":
        """Those of some of the texts, no longer than they need be."""
        lengths = self.lengths[chosen]
        return Branches(self.cue, self.subwords[chosen, :, : max(int(lengths.max()), 1)], lengths)


class ActionTexts(nn.Module):
    """The words of each action as subwords, looked up like those of the turn.

    Args:
        space: says in which slot an action's name stands.
        vocabulary: the words whose ids the observations hold, in order.
        n_actions: A; further ones have no branch.

    Raises:
        ConfigError: a vocabulary without the words that actions begin with.
    """

    tags: Tensor
    names: Tensor

    def __init__(self, space: ObservationSpace, vocabulary: Sequence[str], n_actions: int) -> None:
        super().__init__()
        ids = {word: index for index, word in enumerate(vocabulary)}
        missing = [word for word in WORDS_NEEDED if word not in ids]
        if missing:
            raise ConfigError(
                f"GemmaTstepEncoder.action_scores needs the words {', '.join(WORDS_NEEDED)}, but the vocabulary has no "
                f"{', '.join(missing)}; use one that has them, or set GemmaTstepEncoder.action_scores = False"
            )
        actions = name_actions(space)[:n_actions]
        longest = max(len(action.tags) for action in actions)
        tags = [[ids[tag] for tag in action.tags] + [NO_WORD] * (longest - len(action.tags)) for action in actions]
        self.register_buffer("tags", torch.tensor(tags), persistent=False)  # (A, K - 1)
        self.register_buffer("names", torch.tensor([action.name for action in actions]), persistent=False)  # (A,)
        self.cue, self.blank = ids[CUE], ids[BLANK]

    def forward(self, words: Tensor, lookup: SubwordLookup) -> Branches:
        """Turns (N, W) -> what follows each of them."""
        names = words[:, self.names].long()  # (N, A)
        spoken = torch.cat([self.tags.expand(len(words), -1, -1), names[..., None]], dim=-1)  # (N, A, K)
        spoken = spoken.masked_fill((names == self.blank)[..., None], NO_WORD)
        subwords, lengths = lookup.inner(spoken.flatten(0, 1))
        cue, cue_lengths = lookup.inner(torch.tensor([[self.cue]], device=words.device))
        N, A = names.shape
        return Branches(cue[0, : int(cue_lengths[0])], subwords.view(N, A, -1), lengths.view(N, A))


def score_actions(states: Tensor, branches: Branches, embedding: Tensor, end_id: int) -> Tensor:
    """The logarithm of each action's probability, (n, N_SCORES) float32; NO_SUCH_ACTION where there is none.

    Args:
        states: (n, c + A * S, hidden_size), Gemma's final ones of the cue and of the branches.
        branches: what was read.
        embedding: (U, hidden_size) of U subwords, which is the language-model head, too.
        end_id: the subword that says that a name ends; it matters where one name begins another.
    """
    A, S = branches.subwords.shape[1:]
    cue = len(branches.cue)
    with torch.autocast(states.device.type, enabled=False):
        # where each subword is chosen: the first behind the cue, the others behind the one before, the end last
        before = states[:, cue - 1, None, None].expand(-1, A, -1, -1)  # (n, A, 1, hidden_size)
        read = states[:, cue:].reshape(len(states), A, S, states.shape[-1])
        at = torch.cat([before, read], dim=2).float()  # (n, A, S + 1, hidden_size)
        place = torch.arange(S + 1, device=states.device)
        lengths = branches.lengths[..., None]  # (n, A, 1)
        ways = F.pad(branches.subwords, (0, 1))
        ways = torch.where(place == lengths, end_id, ways).masked_fill(place > lengths, 0)  # (n, A, S + 1)
        heads = F.embedding(ways, embedding).float()
        logits = torch.einsum("najh,nbjh->najb", at, heads)  # (n, A, S + 1, A), of b's way where a's is chosen
    there = branches.lengths > 0  # (n, A)
    same = (ways[:, :, None] == ways[:, None]).cumprod(-1).bool()  # (n, A, A, S + 1), so far, this subword included
    itself = torch.eye(A, dtype=torch.bool, device=states.device)
    open_ways = F.pad(same[..., :-1], (1, 0), value=True) & (there[:, None, :] | itself)[..., None]
    # actions that go on alike are one way
    counts = (same & there[:, None, :, None]).sum(2).clamp(min=1)  # (n, A, S + 1)
    weights = logits - counts.log().transpose(1, 2)[:, None]
    total = weights.masked_fill(~open_ways.transpose(2, 3), -torch.inf).logsumexp(-1)  # (n, A, S + 1)
    own = logits.diagonal(dim1=1, dim2=3).transpose(1, 2)  # (n, A, S + 1)
    steps = torch.where((place <= lengths) & there[..., None], own - total, 0.0)
    scores = steps.sum(-1).masked_fill(~there, NO_SUCH_ACTION)  # (n, A)
    return F.pad(scores, (0, N_SCORES - A), value=NO_SUCH_ACTION)
