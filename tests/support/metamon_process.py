"""Run as a program, where metamon and amago are: they train, compute losses and evaluate with our encoder in them.

    python tests/support/metamon_process.py train|configs|losses|encode|evaluate SPEC.json

SPEC.json holds the arguments of that function; what it returns goes to result.json beside it. A process of its own,
because amago's names in gin and the embedded ones exclude each other. Nothing of upstream's is changed, but where a
comment says so.
"""

import json
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gemma_metamon.upstream import metamon_process
from gemma_metamon.upstream.trial import build_trainer


def train(flags: list[str], steps_per_epoch: int, ckpt: int | None = None, *, describe: bool = False) -> dict[str, Any]:
    """Trains as metamon.rl.train does.

    The plugin describes only runs of `python -m metamon.rl.train`; this one is described where it is asked for.
    Returns each update's losses, the optimizer's steps before and after, and the parts of the agent that changed.
    """
    experiment, args = build_trainer(flags, steps_per_epoch)
    experiment.start()
    if describe:
        metamon_process.describe_run(experiment.policy.tstep_encoder, metamon_process.read_vocabulary(), args)
    if ckpt is not None:
        experiment.load_checkpoint(ckpt)
    steps_before = optimizer_steps(experiment)
    before = {key: value.clone() for key, value in experiment.policy.state_dict().items()}
    losses: list[tuple[float, float]] = []
    train_step = experiment.train_step

    def watched_train_step(batch: Any, log_step: bool) -> Any:
        seen = train_step(batch, log_step)
        losses.append((float(seen["Actor Loss"]), float(seen["Critic Loss"])))
        return seen

    experiment.train_step = watched_train_step
    experiment.learn()
    close_envs(experiment)
    after = experiment.policy.state_dict()
    return {
        "losses": losses,
        "steps": [steps_before, optimizer_steps(experiment)],
        "changed": sorted({key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}),
    }


def optimizer_steps(experiment: Any) -> int:
    return max((int(state["step"]) for state in experiment.optimizer.state.values()), default=0)


def close_envs(experiment: Any) -> None:
    experiment.train_envs.close()
    experiment.val_envs.close()


def configs(files: dict[str, dict[str, str]], flags: list[str]) -> dict[str, Any]:
    """Of each model config: the parameters of its whole agent, and one update of the small one derived from it."""
    import metamon.rl.train  # noqa: F401  once, for all the processes that are forked here

    found = {}
    for name, paths in files.items():
        whole = in_a_fork(count_parameters, [*flags, "--model_gin_config", paths["whole"]])
        small = in_a_fork(train, [*flags, "--model_gin_config", paths["small"]], 1)
        found[name] = {"parameters": whole, **small}
    return found


def in_a_fork(work: Callable[..., Any], *args: Any) -> Any:
    """A process can finalise gin's configuration only once."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work(*args)))
    child.start()
    child.join()
    if child.exitcode != 0:
        sys.exit(f"{args}: exit status {child.exitcode}")
    return receiver.recv()


def count_parameters(flags: list[str]) -> dict[str, int]:
    """By part; the agent is made on torch's meta device, without memory or download."""
    experiment, _ = build_trainer(flags, 1)
    experiment.init_envs()
    with torch.device("meta"):
        agent = experiment.agent_type(
            tstep_encoder_type=experiment.tstep_encoder_type,
            traj_encoder_type=experiment.traj_encoder_type,
            obs_space=experiment.rl2_space["obs"],
            rl2_space=experiment.rl2_space["rl2"],
            action_space=experiment.train_envs.single_action_space,
            max_seq_len=experiment.max_seq_len,
        )
    close_envs(experiment)
    parts = {**dict(agent.named_children()), "whole": agent}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def losses(
    cases: dict[str, dict[str, str]], batch: str, seed: int, words: list[str], obs_space: str, action_space: str
) -> dict[str, Any]:
    """Of each config with its weights: the losses of the batch, and the gradients' norms by part."""
    import amago
    import gin
    from metamon import interface
    from metamon.rl import metamon_to_amago
    from metamon.tokenizer import PokemonTokenizer

    if agents_mask(amago):
        # metamon 1.4.0 cannot train with this amago, but it does build its agent, and only that is asked here
        metamon_process.check_versions = lambda *_: None
    tokenizer = PokemonTokenizer().load_tokens({word: i for i, word in enumerate(words)})
    spaces = (
        interface.TokenizedObservationSpace(interface.get_observation_space(obs_space), tokenizer),
        interface.get_action_space(action_space),
    )
    loaded, found = read_batch(Path(batch)), {}
    for name, case in cases.items():
        gin.clear_config()
        bindings = {"MetamonTstepEncoder.tokenizer": tokenizer}
        amago.cli_utils.use_config(bindings, [case["config"]], finalize=False)
        save_dir = str(Path(batch).parent / "unused")
        experiment = metamon_to_amago.make_placeholder_experiment(save_dir, name, False, *spaces)
        experiment.start()
        experiment.policy.load_state_dict(torch.load(case["policy"], weights_only=True), strict=True)
        experiment.policy.train()
        torch.manual_seed(seed)
        found[name] = losses_and_gradients(experiment, loaded)
    return {"amago": amago.__version__, "cases": found}


def agents_mask(amago: Any) -> bool:
    """Whether missing actions are masked by amago's agent (3.3.0), not by its experiment (3.1)."""
    return hasattr(amago.agent.Agent, "edit_actor_mask")


def losses_and_gradients(experiment: Any, batch: Any) -> dict[str, float]:
    import amago

    policy = experiment.policy
    if agents_mask(amago):
        recorded = ~batch.obs["missing_action_mask"][:, :-1, None]  # (B, L, 1, 1)
        policy.edit_actor_mask = lambda _batch, _loss, counted: counted & recorded
        policy.edit_critic_mask = lambda _batch, _loss, counted: counted & recorded[..., None]
        total = policy(batch, log_step=False)
        computed = policy.update_info
    else:
        computed = experiment.compute_loss(batch, log_step=False)
        total = computed["Actor Loss"] + experiment.critic_loss_weight * computed["Critic Loss"]
    total.backward()
    parts = ("tstep_encoder", "traj_encoder", "actor", "critics")
    return {
        "actor_loss": float(computed["Actor Loss"]),
        "critic_loss": float(computed["Critic Loss"]),
        **{f"gradient of {part}": gradient_norm(getattr(policy, part)) for part in parts},
    }


def gradient_norm(module: torch.nn.Module) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))


def read_batch(path: Path) -> Any:
    """A batch of amago's."""
    from amago.loading import Batch
    from safetensors.torch import load_file

    arrays = load_file(path)
    obs = {name.removeprefix("obs/"): arrays.pop(name) for name in [*arrays] if name.startswith("obs/")}
    return Batch(obs=obs, **arrays)


def encode(config: str, policy: str, battle: str, words: list[str], obs_space: str, action_space: str) -> list[Any]:
    """What the encoder of a policy makes of each state of a recorded battle (T, emb_dim), as metamon shows it."""
    import amago
    import lz4.frame
    import numpy as np
    from metamon import interface
    from metamon.rl import metamon_to_amago
    from metamon.tokenizer import PokemonTokenizer

    tokenizer = PokemonTokenizer().load_tokens({word: i for i, word in enumerate(words)})
    space = interface.TokenizedObservationSpace(interface.get_observation_space(obs_space), tokenizer)
    amago.cli_utils.use_config({"MetamonTstepEncoder.tokenizer": tokenizer}, [config], finalize=False)
    save_dir = str(Path(policy).parent / "unused")
    spaces = (space, interface.get_action_space(action_space))
    experiment = metamon_to_amago.make_placeholder_experiment(save_dir, "encode", False, *spaces)
    experiment.start()
    experiment.policy.load_state_dict(torch.load(policy, weights_only=True), strict=True)
    encoder = experiment.policy.tstep_encoder.eval()
    states = json.loads(lz4.frame.decompress(Path(battle).read_bytes()))["states"]
    space.reset()
    shown = [space.state_to_obs(interface.UniversalState.from_dict(state)) for state in states]
    obs = {key: torch.from_numpy(np.stack([one[key] for one in shown]))[None] for key in shown[0]}  # (1, T, ...)
    with torch.no_grad():
        encoded = encoder(obs, torch.zeros(1, len(states), 1 + spaces[1].gym_space.n))
    close_envs(experiment)
    made: list[Any] = encoded[0].tolist()
    return made


def evaluate(flags: list[str], baselines: list[str]) -> int:
    """`gemma-metamon metamon-evaluate` against these of metamon's baselines, for which it has no flag."""
    from gemma_metamon.commands import main
    from gemma_metamon.upstream.evaluation import import_evaluation

    upstream = import_evaluation()
    upstream.HEURISTIC_COMPOSITE_BASELINES[:] = baselines
    return main(["metamon-evaluate", *flags])


if __name__ == "__main__":
    programs = {"train": train, "configs": configs, "losses": losses, "encode": encode, "evaluate": evaluate}
    spec = Path(sys.argv[2])
    result = programs[sys.argv[1]](**json.loads(spec.read_text()))
    spec.with_name("result.json").write_text(json.dumps(result))
