"""Settings that another setting makes void: who changes one of these believes that something is changed."""

from typing import Any, Final, NamedTuple

from gemma_metamon.configs.names import EXPERIMENT, bases_of, bindings_of, bound_value, has_parameter, registered

ENCODER: Final = "GemmaTstepEncoder"
_AGENT: Final = "the agent's"
"""Stands for the gin names of the agent that is made, and of those that it extends."""


_ANY: Final = object()
"""In place of a value: the other parameter is told to what has these, whatever is bound to them."""


class _Void(NamedTuple):
    """Some parameters that mean nothing while another one has this value."""

    owner: str
    parameters: tuple[str, ...]
    decided_by: str
    decider: str
    value: Any


_VOID: Final = (
    _Void(ENCODER, ("lora_r", "lora_alpha", "lora_dropout"), ENCODER, "use_lora", False),
    _Void(ENCODER, ("model_name",), ENCODER, "pretrained", False),
    _Void(ENCODER, ("fusion_layers", "fusion_width", "fusion_heads"), ENCODER, "granularity", "turn"),
    _Void(ENCODER, ("token_mask_share",), ENCODER, "token_mask_aug", False),
    _Void(EXPERIMENT, ("best_after_epoch",), EXPERIMENT, "best_share", None),
    _Void(_AGENT, ("critic_warmup",), _AGENT, "critic_warmup_updates", 0),
    _Void(_AGENT, ("fbc_filter_func",), _AGENT, "fake_filter", True),
    _Void("PopArtLayer", ("beta", "init_nu"), _AGENT, "popart", False),
    _Void("PopArtLayer", ("enabled",), _AGENT, "popart", _ANY),
    _Void("NCriticsTwoHot", ("amago_version",), _AGENT, "amago_version", _ANY),
    _Void("Multigammas", ("discrete",), _AGENT, "use_multigamma", False),
)

_GIVEN: Final = {
    (ENCODER, "vocabulary"): "--tokenizer",
    (ENCODER, "observation_space"): "--obs_space",
    (_AGENT, "popart_type"): "PopArtLayer",
    (_AGENT, "multigammas_type"): "Multigammas",
}
"""What an experiment gives whatever is bound to it -> where it takes that from."""


def why_void(name: str, parameter: str) -> str | None:
    """Why a parameter that gin has bound changes nothing, and what to do about it; None where it may change something.

    Args:
        name: gin's, "GemmaTstepEncoder".
        parameter: of it.
    """
    agents = _names_of_agent()
    for (owner, given), source in _GIVEN.items():
        if given == parameter and name in (agents if owner == _AGENT else (owner,)):
            return f"it is taken from {source}; leave it out, and set that"
    for rule in _VOID:
        if parameter not in rule.parameters or name not in (agents if rule.owner == _AGENT else (rule.owner,)):
            continue
        for decided_by in agents if rule.decided_by == _AGENT else (rule.decided_by,):
            if not has_parameter(decided_by, rule.decider):  # of an agent that extends the one that has it
                continue
            found = bound_value(decided_by, rule.decider)
            if rule.value is _ANY or (type(found) is type(rule.value) and found == rule.value):
                return f"{decided_by}.{rule.decider} = {found!r} makes it void; leave it out, or override that as well"
    return None


def _names_of_agent() -> list[str]:
    """The gin name of the agent that is made, and those of the agents that it extends; none where nothing is made."""
    made = bindings_of(EXPERIMENT).get("agent_type")
    selector = getattr(made, "config_key", (None, None))[1]
    return [each for name, (own, target) in registered.items() if own == selector for each in (name, *bases_of(target))]
