"""The heads on top of the trajectory encoder, by the names that configs bind."""

from gemma_metamon.nets.actors import (
    Actor,
    Discrete,
    MetamonMaskedActor,
    MetamonMaskedResidualActor,
    ResidualActor,
)
from gemma_metamon.nets.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.popart import PopArtLayer

__all__ = [
    "Actor",
    "Discrete",
    "MetamonMaskedActor",
    "MetamonMaskedResidualActor",
    "NCritics",
    "NCriticsTwoHot",
    "PopArtLayer",
    "ResidualActor",
]
