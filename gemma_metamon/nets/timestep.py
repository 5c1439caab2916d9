"""What makes one vector of a timestep: the part of an agent that reads. `GemmaTstepEncoder` is one."""

from torch import nn


class TimestepEncoder(nn.Module):
    """Extend this to put another encoder in the place of Gemma.

    The constructor gets `obs_space` and `rl2_space` (shapes of one timestep), `vocabulary` (the words in the order of
    their ids) and `observation_space` (its name); all else needs a default, and gin binds it. A call with observations
    and rl2s, (B, L, ...) each, gives (B, L, emb_dim) float32, zeros on padded timesteps.

    Attributes:
        emb_dim: an attribute or a property: the width of a timestep's vector.
        phrasing: what is read for a word; a run with another one is refused, and so it is with the next two.
        granularity: whether turns are read whole, or in parts.
        subword_hash: of all else that the ids of words mean something for.
    """

    phrasing: str
    granularity: str
    subword_hash: str

    def describe(self) -> str:
        """How it reads, for a log: a sentence."""
        return type(self).__name__
