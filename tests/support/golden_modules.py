"""Goldens of single modules held against ours: traj_encoder, actor, critic, popart, filters, misc, nstep.

Each comparer gives the largest relative error of every array in the file that came out of the module.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from support.amago_goldens import Golden, errors, experiment, gradients
from torch import Tensor

from gemma_metamon.nets.heads import actors
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.heads.filters import binary_filter, exp_filter, leaky_relu_filter
from gemma_metamon.nets.heads.popart import PopArtLayer
from gemma_metamon.nets.heads.returns import nstep_return
from gemma_metamon.nets.layers import masked_mean, symexp, symlog
from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder


def compare_traj_encoder(golden: Golden) -> dict[str, float]:
    """Whole sequences in evaluation and training, what training moves, and single steps past max_seq_len."""
    not_ours = {"amago", "attention", "cls", "seed"}
    encoder = TformerTrajEncoder(**{key: value for key, value in golden.config.items() if key not in not_ours})
    encoder.load_state_dict(golden.group("params"))
    inputs, ours = golden.group("inputs"), {}
    whole = (inputs["seq"], inputs["time_idxs"])

    encoder.eval()
    embedded = []
    hook = encoder.tformer.layers[0].register_forward_pre_hook(lambda _, args: embedded.append(args[0]))
    ours["outputs/eval_full_sequence"] = encoder(*whole)
    hook.remove()
    ours["outputs/preprocessed_seq"] = embedded[0]
    for name, times, reset in (
        ("steps", "step_time_idxs", False),
        ("steps_with_reset", "step_time_idxs_reset", True),
    ):
        ours[f"outputs/{name}"], ours[f"outputs/{name}_seq_lens"] = _steps(encoder, inputs, inputs[times], reset)

    out = encoder.train()(*whole)
    ours["outputs/train_full_sequence"] = out
    (out * inputs["cotangent"]).sum().backward()
    ours |= {f"buffers_after_train_call/{key}": value.clone() for key, value in encoder.named_buffers()}
    ours["outputs/train_full_sequence_second_call"] = encoder(*whole)
    return errors(golden, ours | gradients(encoder))


def _steps(encoder: TformerTrajEncoder, inputs: dict[str, Tensor], times: Tensor, reset: bool) -> tuple[Tensor, Tensor]:
    """Single steps, and how many timesteps each row remembers for the next one."""
    B, T, _ = inputs["step_seq"].shape
    cache, outputs, lengths = encoder.init_cache(B), [], []
    for step in range(T):
        if reset and step == inputs["reset_before_step"]:
            cache.reset(int(inputs["reset_row"]))
        outputs.append(encoder.step(inputs["step_seq"][:, step], times[:, step], cache, torch.arange(B)))
        lengths.append(cache.timesteps_seen.clamp(max=encoder.max_seq_len - 1))
    return torch.stack(outputs, dim=1), torch.stack(lengths, dim=1)


def compare_actor(golden: Golden) -> dict[str, float]:
    """The distribution, what MultiTaskAgent makes of it, and the state's gradient; or softened recorded actions."""
    inputs = golden.group("inputs")
    if "outputs/action_from_buffer" in golden:
        recorded = F.one_hot(inputs["action_idx"].long(), 13).float()
        return errors(golden, {"outputs/action_from_buffer": actors.Discrete(13).clip(recorded)})
    options = {key: value for key, value in golden.config.items() if key not in ("amago", "cls", "seed")}
    clips = {key: options.pop(key) for key in ("clip_prob_low", "clip_prob_high")}
    actor = getattr(actors, golden.config["cls"])(**options)
    actor.load_state_dict(golden.group("params"))
    distribution, network_outputs = actors.Discrete(13, **clips), []

    def remember(outputs: Tensor) -> actors.ActionDistribution:
        network_outputs.append(outputs)
        return distribution(outputs)

    actor.policy_dist = remember
    state, indices = inputs["state"].requires_grad_(), inputs["action_idx"].long()
    policy = actor(state, {"illegal_actions": inputs["illegal_actions"]})  # (3, 6, 7, 13)
    one_hot = policy.normalized()
    policy.log_prob(indices).sum().backward()
    ours = {
        "network_output": network_outputs[0],
        "probs": policy.probs,
        "logits": policy.logits,
        "entropy": policy.entropy(),
        "log_prob": policy.log_prob(indices),
        "onehot_probs": one_hot.probs,
        "onehot_logits": one_hot.logits,
        "onehot_log_prob": one_hot.log_prob(indices),
        "onehot_entropy": one_hot.entropy(),
        "grad_state_of_sum_log_prob": state.grad,
    }
    return errors(golden, {f"outputs/{key}": value for key, value in ours.items()})


def compare_critic(golden: Golden) -> dict[str, float]:
    """Values, the state's gradient; of NCriticsTwoHot also logits, bins, labels and initial biases."""
    two_hot = golden.config["cls"] == "NCriticsTwoHot"
    not_ours = {"amago", "cls", "seed", "note", "sigma_default"}
    options = {key: value for key, value in golden.config.items() if key not in not_ours}
    if two_hot:
        options["amago_version"] = golden.version
    build = functools.partial(NCriticsTwoHot if two_hot else NCritics, **options)
    critics = build()
    critics.load_state_dict(golden.group("params"))
    inputs = golden.group("inputs")
    state = inputs["state"].requires_grad_()
    out = critics(state, inputs["action"])
    values = critics.values(out) if two_hot else out
    (values.flatten() * inputs["cotangent"]).sum().backward()
    ours = {"values": values, "raw_values": values, "grad_state": state.grad, "logits": out}
    if two_hot:
        returns = inputs["label_values"]
        ours |= {
            "probs_sum_check": out.exp().sum(-1),
            "bin_vals": critics.bin_values,
            "labels": critics.labels(returns),
        }
    if two_hot and golden.version == "3.3":
        ours |= {
            "hlgauss_labels": build(label_type="hlgauss").labels(returns),
            "hlgauss_labels_sigma1.5": build(label_type="hlgauss", sigma=1.5).labels(returns),
            "output_bias_with_init_value_0": build(init_value=0.0).net.output_layer.bias,
            "output_bias_with_init_value_250": build(init_value=250.0).net.output_layer.bias,
        }
    return errors(golden, {f"outputs/{key}": value for key, value in ours.items()})


def compare_popart(golden: Golden) -> dict[str, float]:
    """The statistics and what they do to values, before the first update and after each."""
    config, inputs = golden.config, golden.group("inputs")
    layer = PopArtLayer(gammas=config["gammas"], beta=config["beta"], init_nu=config["init_nu"])
    rows: dict[str, list[Tensor]] = {}
    for update in range(len(inputs["values"]) + 1):
        if update:
            layer.update_stats(inputs["values"][update - 1], inputs["masks"][update - 1].bool())
        row = {name: getattr(layer, name).clone() for name in ("mu", "nu", "w", "b", "_t", "sigma")}
        row["normalize_values"] = layer.normalize_values(inputs["x"])
        row["forward_normalized"] = layer(inputs["x"])
        row["forward_denormalized"] = layer(inputs["x"], normalized=False)
        for name, value in row.items():
            rows.setdefault(f"outputs/{name}", []).append(value)
    return errors(golden, {name: torch.stack(values) for name, values in rows.items()})


def compare_filters(golden: Golden) -> dict[str, float]:
    settings = golden.config
    leaky = leaky_relu_filter if golden.version == "3.3" else functools.partial(leaky_relu_filter, add_binary=False)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "binary_filter": binary_filter,
        "binary_filter_threshold0.5": functools.partial(binary_filter, threshold=0.5),
        "exp_filter_default": exp_filter,
        "exp_filter_exp_rl": functools.partial(exp_filter, **settings["exp_rl"]),
        "exp_filter_beta0.5_advclip-2_3_weights0.1_5": functools.partial(
            exp_filter, beta=0.5, clip_adv_low=-2, clip_adv_high=3, clip_weights_low=0.1, clip_weights_high=5
        ),
        "leaky_relu_filter_default": leaky,
        "leaky_relu_filter_alakazam": functools.partial(leaky, **settings["alakazam"]),
        "leaky_relu_filter_alakazam2": functools.partial(leaky, **settings["alakazam2"]),
        "leaky_relu_filter_default_no_binary": functools.partial(leaky_relu_filter, add_binary=False),
    }
    advantage = golden["inputs/advantage"]
    return errors(golden, {f"outputs/{name}": function(advantage) for name, function in functions.items()})


def compare_misc(golden: Golden) -> dict[str, float]:
    """symlog and its inverse, the critics' view of a discount, the masked mean, the learning rate's warm-up."""
    inputs = golden.group("inputs")
    x, counted = inputs["masked_avg_x"], inputs["masked_avg_mask"]
    gamma_feature = NCriticsTwoHot(4, 3, inputs["gammas"], True, 2).gamma_feature
    schedule = experiment(learning_rate=golden.config["lr"], lr_warmup_steps=golden.config["warmup"])
    factors = [schedule.learning_rate_factor(update) for update in range(1205)]
    ours = {
        "symlog": symlog(inputs["symlog_x"]),
        "symexp": symexp(inputs["symexp_y"]),
        "gamma_feature": gamma_feature.repeat(2)[:, None, None].expand(-1, 3, 1),
        "masked_avg": masked_mean(x, counted),
        "masked_avg_empty": masked_mean(x, torch.zeros_like(counted)),
        "learning_rate_of_update": schedule.learning_rate * torch.tensor(factors),
    }
    return errors(golden, {f"outputs/{key}": value for key, value in ours.items()})


def compare_nstep(golden: Golden) -> dict[str, float]:
    inputs = golden.group("inputs")
    r, d, q, real = (inputs[name].float() for name in ("r", "d", "q", "mask"))
    targets = {f"outputs/n{n}": nstep_return(r, d, q, inputs["gamma"], n, real) for n in (1, 2, 3, 5)}
    return errors(golden, targets)
