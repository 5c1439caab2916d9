"""A trial of what is installed, as a program: updates of the tiny config inside metamon, and a battle of the result.

    python -m gemma_metamon.upstream.trial update|battle FOLDER

Everything is written into FOLDER. `checks.py` starts it in processes of their own, with metamon's variables set.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import gemma_metamon.teams
from gemma_metamon import sample_battles
from gemma_metamon.child_processes import end_with_parent
from gemma_metamon.configs.files import find_config
from gemma_metamon.upstream.datasets import dataset_text, link_roots

CONFIG: Final = "gemma_tiny_multitaskagent.gin"
RUN: Final = "trial"
EPOCH: Final = 2
"""Of the checkpoint that plays: metamon saves every second epoch and never loads the first, 0."""
BATTLE_FORMAT: Final = "gen9ou"
"""gen1ou asks for more than some versions of metamon know, see `versions.Tree.knows_fight`."""
BASELINE: Final = "RandomBaseline"


def fill_cache(cache: Path) -> None:
    """The packaged teams where metamon looks for its own, so that none are downloaded."""
    for folder in Path(gemma_metamon.teams.__file__).parent.glob("gen*"):
        shutil.copytree(folder, cache / "teams" / "competitive" / folder.name, dirs_exist_ok=True)


def train_flags(folder: Path, *, dataset_file: bool) -> list[str]:
    """Of metamon.rl.train, for a run on the bundled battles that starts soon."""
    roots = link_roots(sample_battles.extract("gen1ou"), ["gen1ou"], folder / "roots")
    if dataset_file:
        path = folder / "dataset.yaml"
        path.write_text(dataset_text([(roots[0], 1.0)], ["gen1ou"], replay_weight=0.0), encoding="utf-8")
        data = ["--dataset_config", str(path)]
    else:
        data = ["--parsed_replay_dir", str(roots[0].folder), "--formats", "gen1ou"]
    model = str(find_config(CONFIG, "models").resolve())
    flags = ["--run_name", RUN, "--save_dir", str(folder), "--model_gin_config", model]
    flags += ["--train_gin_config", "il.gin", "--batch_size_per_gpu", "2", "--dloader_workers", "0"]
    return [*flags, *data, "--epochs", str(EPOCH + 1), "--eval_gens"]


def build_trainer(flags: list[str], steps_per_epoch: int) -> tuple[Any, argparse.Namespace]:
    """What metamon.rl.train makes of its command line, with epochs of another length than its 25,000 updates."""
    from metamon import interface
    from metamon.rl import train as upstream
    from metamon.tokenizer import get_tokenizer

    parser = argparse.ArgumentParser()
    upstream.add_cli(parser)
    args = parser.parse_args(flags)
    spaces: dict[str, Any] = {
        "obs_space": interface.TokenizedObservationSpace(
            interface.get_observation_space(args.obs_space), get_tokenizer(args.tokenizer)
        ),
        "action_space": interface.get_action_space(args.action_space),
        "reward_function": interface.get_reward_function(args.reward_function),
    }
    if hasattr(args, "dataset_config"):
        dataset = upstream.build_dataset(config=upstream.load_dataset_config(args.dataset_config), **spaces)
    else:
        dataset = upstream.create_offline_dataset(
            parsed_replay_dir=args.parsed_replay_dir, formats=args.formats, **spaces
        )
    trainer = upstream.create_offline_rl_trainer(
        ckpt_dir=args.save_dir,
        run_name=args.run_name,
        model_gin_config=args.model_gin_config,
        train_gin_config=args.train_gin_config,
        amago_dataset=dataset,
        eval_gens=args.eval_gens,
        async_env_mp_context=args.async_env_mp_context,
        dloader_workers=args.dloader_workers,
        epochs=args.epochs,
        batch_size_per_gpu=args.batch_size_per_gpu,
        steps_per_epoch=steps_per_epoch,
        **spaces,
    )
    return trainer, args


def update(folder: Path) -> None:
    """One update in each of three epochs, which leaves a checkpoint that metamon can play."""
    import metamon.rl.train as upstream

    from gemma_metamon.upstream.metamon_process import describe_run, read_vocabulary

    flags = train_flags(folder, dataset_file=hasattr(upstream, "load_dataset_config"))
    trainer, args = build_trainer(flags, 1)
    trainer.start()
    describe_run(trainer.policy.tstep_encoder, read_vocabulary(), args)
    trainer.learn()
    trainer.train_envs.close()
    trainer.val_envs.close()


def battle(folder: Path) -> None:
    """The checkpoint of `update` against metamon's random player."""
    from metamon.env import get_metamon_teams
    from metamon.rl.pretrained import get_pretrained_model

    from gemma_metamon.upstream.evaluation import registered

    with registered(folder / RUN, EPOCH) as (evaluation, name):
        results = evaluation.pretrained_vs_baselines(
            get_pretrained_model(name),
            battle_format=BATTLE_FORMAT,
            team_set=get_metamon_teams(BATTLE_FORMAT, "competitive"),
            checkpoint=EPOCH,
            total_battles=1,
            parallel_actors_per_baseline=1,
            baselines=[BASELINE],
        )
    if not any("Win Rate" in key for key in results):
        sys.exit(f"metamon played no battle to its end: {results}")


if __name__ == "__main__":
    end_with_parent()
    {"update": update, "battle": battle}[sys.argv[1]](Path(sys.argv[2]))
