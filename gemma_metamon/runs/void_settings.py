"""Settings that another setting makes void: who changes one of these believes that something is changed."""

from typing import Any, Final, NamedTuple

from gemma_metamon.configs.names import EXPERIMENT, bindings_of, bound_value, registered

ENCODER: Final = "GemmaTstepEncoder"
_AGENT: Final = "the agent's"
"""Stands for the gin name of the agent that is made."""


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
    agent = _name_of_agent()
    for (given, taken), source in _GIVEN.items():
        if (agent if given == _AGENT else given, taken) == (name, parameter):
            return f"it is taken from {source}; leave it out, and set that"
    for rule in _VOID:
        owner, decided_by = (agent if each == _AGENT else each for each in (rule.owner, rule.decided_by))
        if owner != name or parameter not in rule.parameters or decided_by is None:
            continue
        found = bound_value(decided_by, rule.decider)
        if rule.value is _ANY or (type(found) is type(rule.value) and found == rule.value):
            return f"{decided_by}.{rule.decider} = {found!r} makes it void; leave it out, or override that as well"
    return None


def _name_of_agent() -> str | None:
    made = bindings_of(EXPERIMENT).get("agent_type")
    selector = getattr(made, "config_key", (None, None))[1]
    return next((name for name, (own, _) in registered.items() if own == selector), None)
