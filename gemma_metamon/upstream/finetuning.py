"""metamon's own fine-tuning of a run: registered as one of its pretrained models, and handed over.

Needs metamon 1.6.0 or newer; the run may be metamon's, trained with the plugin, or one of ours, exported with `--to
amago`.
"""

import argparse
import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Final

from gemma_metamon.errors import ConfigError, MissingDependencyError
from gemma_metamon.upstream import metamon_process, versions
from gemma_metamon.upstream.evaluation import read_run, registered

PROGRAM: Final = "metamon.rl.finetune"
# metamon's flags that say which model and checkpoint it begins with, which is what this is about
OURS: Final = ("--base_model", "--base_checkpoint")
# a run of il.gin has this for itself: it trains no critic
LEARNS: Final = "agent.Agent.fake_filter = False\nagent.MultiTaskAgent.fake_filter = False\n"


def finetune(run_dir: Path, epoch: int, passed: list[str]) -> None:
    """Lets metamon fine-tune a checkpoint.

    Args:
        run_dir: save_dir/run_name, with ckpts/policy_weights.
        epoch: of `evaluation.choose_epoch`.
        passed: metamon's own flags (--run_name, --save_dir, --dataset_config, --prev_run_dir, ...).

    Raises:
        ConfigError: a flag that this command sets itself, or an environment that metamon does not start in.
        MissingDependencyError: no metamon here, or one that cannot fine-tune.
        MissingFileError, DataError, CheckpointMismatchError: see `evaluation.registered`.
    """
    for argument in passed:
        flag = argument.partition("=")[0]
        if len(flag) > len("--b") and any(ours.startswith(flag) for ours in OURS):
            raise ConfigError(f"{flag} is set by --run_dir and --ckpt; leave it out")
    identity = read_run(run_dir).identity
    with registered(run_dir, epoch, also=LEARNS) as (_, name):
        if importlib.util.find_spec(PROGRAM) is None:
            raise MissingDependencyError(
                f"metamon {versions.find_installed('metamon').version} has no {PROGRAM}; metamon 1.6.0 has, and "
                "`gemma-metamon train --train_gin_config finetune.gin --init_from RUN` needs none"
            )
        asked = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        asked.add_argument("--save_dir")
        asked.add_argument("--run_name")
        asked.add_argument("--reward_function", default=identity.reward_function)
        args, _ = asked.parse_known_args(passed)
        if args.save_dir is not None and args.run_name is not None:  # metamon asks for them
            args.obs_space, args.action_space = identity.obs_space, identity.action_space
            metamon_process.describe_runs_by(args)
        sys.argv = [f"python -m {PROGRAM}", "--base_model", name, *passed]
        runpy.run_module(PROGRAM, run_name="__main__")
