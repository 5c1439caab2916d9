"""The embedded runtime's classes, under the names that upstream's have in gin: one .gin file serves both runtimes."""

from gemma_metamon.configs import names
from gemma_metamon.nets.agents import amago2, finetune, interface
from gemma_metamon.nets.heads import actors, batch_filters, critics, filters, lm_actor, popart
from gemma_metamon.nets.reader import tstep_encoder, word_encoder
from gemma_metamon.nets.trajectory import traj_encoder
from gemma_metamon.runs import experiment

_AGENT = "amago.agent"
_NETS = "amago.nets.actor_critic"
_METAMON = "metamon.rl.metamon_to_amago"
_CUSTOM = "metamon.rl.custom_agent"


def best_attention() -> None:
    """Nothing to choose here: the embedded trajectory encoder has one attention, torch's own."""


AGENTS = (amago2.MultiTaskAgent, amago2.Agent, finetune.MetamonFinetuneAgent)
"""Whose parameters may be bound under the names of what they extend, too: see `inherited_bindings`."""

CONFIGURABLES = (
    ("MultiTaskAgent", _AGENT, amago2.MultiTaskAgent),
    ("Agent", _AGENT, amago2.Agent),
    ("MetamonFinetuneAgent", _CUSTOM, finetune.MetamonFinetuneAgent),
    ("Multigammas", _AGENT, interface.Multigammas),
    ("binary_filter", _AGENT, filters.binary_filter),
    ("exp_filter", _AGENT, filters.exp_filter),
    ("leaky_relu_filter", _AGENT, filters.leaky_relu_filter),
    ("BatchNormalizedExpFilter", _METAMON, batch_filters.BatchNormalizedExpFilter),
    ("ISAdvantageFilter", _CUSTOM, batch_filters.ISAdvantageFilter),
    ("NCriticsTwoHot", _NETS, critics.NCriticsTwoHot),
    ("NCritics", _NETS, critics.NCritics),
    ("PopArtLayer", _NETS, popart.PopArtLayer),
    ("Actor", _NETS, actors.Actor),
    ("ResidualActor", _NETS, actors.ResidualActor),
    ("TformerTrajEncoder", "amago.nets.traj_encoders", traj_encoder.TformerTrajEncoder),
    ("MetamonMaskedActor", _METAMON, actors.MetamonMaskedActor),
    ("MetamonMaskedResidualActor", _METAMON, actors.MetamonMaskedResidualActor),
    (names.EXPERIMENT, _METAMON, experiment.Experiment),
    # ours under the names that runs have saved, wherever the modules stand today
    ("GemmaTstepEncoder", "gemma_metamon.nets.tstep_encoder", tstep_encoder.GemmaTstepEncoder),
    ("WordTstepEncoder", "gemma_metamon.nets.word_encoder", word_encoder.build_word_encoder),
    ("LMTrajEncoder", "gemma_metamon.nets.lm_actor", lm_actor.LMTrajEncoder),
    ("LMActor", "gemma_metamon.nets.lm_actor", lm_actor.LMActor),
    ("best_attention", "gemma_metamon.configs", best_attention),
)


def register() -> None:
    """Puts the embedded classes under upstream's gin names. Safe to call again."""
    for name, module, target in CONFIGURABLES:
        names.register(name, module, target)
