"""What a training is to be: the flags of `train`, and what they, the configuration and the battles come to."""

import argparse
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import (
    add_custom_share_argument,
    add_gin_arguments,
    add_shared_argument,
    add_space_arguments,
    add_tokenizer_argument,
    at_least_one,
    check_custom_share,
    folder_name,
    load_view,
    not_negative,
    refuse_void,
    share,
)
from gemma_metamon.commands._evaluations import add_evaluation_arguments, check_evaluation
from gemma_metamon.commands._run_folder import check_run_folder
from gemma_metamon.commands._saving import add_saving_arguments, read_saving
from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.strict_json import shown, shown_path

if TYPE_CHECKING:
    from gemma_metamon.data.dataset import BattleDataset, Battles
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.runs.experiment import Experiment
    from gemma_metamon.runs.identity import RunIdentity
    from gemma_metamon.runs.keeping import Keeping
    from gemma_metamon.runs.resolve import ResolvedConfig
    from gemma_metamon.training.saving import SaveEvery
    from gemma_metamon.view import BattleView

logger = logging.getLogger(__name__)

# Flags of metamon's own train command that mean nothing here: taken, so that its command lines work, and said so.
UNUSED = {
    "async_env_mp_context": "environments run outside training here",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All of train's own flags, for the commands that look at a training before it begins, too."""
    parser.add_argument("--run_name", required=True, type=folder_name, help="names the run's folder in save_dir")
    parser.add_argument("--save_dir", required=True, type=Path, help="checkpoints go to save_dir/run_name/ckpts")
    parser.add_argument("--model_gin_config", required=True, help="a packaged model config's name, or a path to one")
    add_gin_arguments(parser)
    add_space_arguments(parser)
    data = parser.add_argument_group("battles")
    data.add_argument(
        "--parsed_replay_dir",
        type=Path,
        help="folder of recorded battles, DIR/<format>/*.json.lz4, or a store of `prepare` (default: the bundled)",
    )
    data.add_argument(
        "--custom_replay_dir", type=Path, nargs="+", help="more folders of recorded battles, or stores, taken as one"
    )
    add_custom_share_argument(data)
    data.add_argument(
        "--formats", nargs="+", type=folder_name, help="battle formats (default: all in parsed_replay_dir)"
    )
    add_tokenizer_argument(data)
    data.add_argument(
        "--holdout_share",
        type=share,
        default=0.02,
        help="share of battles kept out of training, to measure agreement with (default: %(default)s)",
    )
    add_shared_argument(data, "max_set_aside")
    data.add_argument(
        "--dloader_workers", type=not_negative, default=0, help="processes that read battles (default: %(default)s)"
    )
    length = parser.add_argument_group("length")
    size = length.add_mutually_exclusive_group()
    size.add_argument(
        "--batch_size_per_gpu", type=at_least_one, default=12, help="battles in a batch (default: %(default)s)"
    )
    size.add_argument(
        "--batch_size_from",
        type=Path,
        metavar="FILE",
        help="take batch size and --grad_accum that find-batch-size found",
    )
    length.add_argument(
        "--grad_accum", type=at_least_one, default=1, help="batches in an update (default: %(default)s)"
    )
    length.add_argument("--epochs", type=at_least_one, default=100, help="epochs in all (default: %(default)s)")
    length.add_argument(
        "--steps_per_epoch", type=at_least_one, default=25_000, help="updates in an epoch (default: %(default)s)"
    )
    add_shared_argument(length, "seed", help="of weights, dropout and battles (default: %(default)s)")
    parser.add_argument(
        "--log_interval", type=at_least_one, default=20, help="updates between logged means (default: %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="print the resolved configuration, too")
    parser.add_argument("--log", action="store_true", help="log to wandb (offline where no key is set up)")
    add_saving_arguments(parser)
    add_evaluation_arguments(parser)
    unused = parser.add_argument_group("accepted and unused")
    unused.add_argument("--async_env_mp_context", help=UNUSED["async_env_mp_context"])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be trained, on what; `warning` is what to say of it."""

    experiment: "Experiment"
    resolved: "ResolvedConfig"
    identity: "RunIdentity"
    dataset: "BattleDataset"
    held_out: "Battles"
    save_every: "SaveEvery"
    keeping: "Keeping"
    warning: str | None


def take_batch_size(args: argparse.Namespace, *, trains: bool) -> None:
    """Puts what --batch_size_from names in the place of the two flags, and warns where it was found for something else.

    Args:
        args: of the command.
        trains: whether this process is one of those that train; a trial before that has no others beside it.

    Raises DataError for a file of another kind, ConfigError where --grad_accum is given beside it.
    """
    if args.batch_size_from is None:
        return
    from gemma_metamon.training.batch_sizes import BatchSizes, device_type
    from gemma_metamon.training.processes import n_asked_for

    refuse_void(args, {"grad_accum": 1}, "--batch_size_from brings its own")
    found = BatchSizes.read(args.batch_size_from)
    args.batch_size_per_gpu, args.grad_accum = found.batch_size_per_gpu, found.grad_accum
    logger.info(
        "--batch_size_per_gpu %d and --grad_accum %d, of %s",
        *(args.batch_size_per_gpu, args.grad_accum, args.batch_size_from),
    )
    if os.environ.get("RANK", "0") != "0":  # of several processes one says it
        return
    if found.model_gin_config != args.model_gin_config:
        logger.warning("%s was measured with %s", args.batch_size_from, shown_path(found.model_gin_config))
    if found.device != (device := device_type()):
        logger.warning("%s was measured on %s, and this is %s", args.batch_size_from, shown(found.device), device)
    if trains and found.processes != (processes := n_asked_for()):
        logger.warning(
            "%s is for %d processes, whose update has %d battles; %d train here, and an update has %d: give "
            "--batch_size_per_gpu and --grad_accum, or run find-batch-size with --processes %d",
            *(args.batch_size_from, found.processes, found.global_batch, processes),
            *(found.batch_size_per_gpu * found.grad_accum * processes, processes),
        )


def plan_training(args: argparse.Namespace, run_dir: Path, start: "Checkpoint | None" = None) -> Plan:
    """Raises what is wrong with flags, configuration and data before anything slow or lasting is done."""
    from gemma_metamon.configs.names import EXPERIMENT, bound_value, configurable
    from gemma_metamon.nets.reader.weights import check_weights
    from gemma_metamon.runs import resolve, resuming
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.runs.experiment import Experiment, build_without_weights, returns_beyond_bins
    from gemma_metamon.runs.identity import RunIdentity
    from gemma_metamon.runs.loading import require_fit
    from gemma_metamon.runs.sizes import require_memory
    from gemma_metamon.training import processes, sharding, tracking

    view = load_view(args)
    resolved = resolve.load(args.model_gin_config, args.train_gin_config, args.gin_override, args.trust_config)
    if (args.init_from is not None or args.ckpt is not None) and resolve.forget_init_adapter() and args.ckpt is None:
        logger.warning("GemmaTstepEncoder.init_adapter is unused: --init_from brings an adapter of its own")
    experiment: Experiment = configurable(EXPERIMENT)()
    agent: Any = build_without_weights(view)
    resolved.require_used()  # what cannot work together says more, and has been refused
    require_memory(agent)
    if processes.asked_for_shards():
        sharding.require_shardable(agent)
    identity = RunIdentity.of(view, agent.tstep_encoder)
    if args.log:
        tracking.require_wandb()
    save_every, keeping = read_saving(args, experiment, agent)
    check_run_folder(args, run_dir, identity, start)
    if args.init_from is not None and start is None:
        require_fit(agent, Checkpoint.find_named(args.init_from))
    if start is not None and args.anew:
        require_fit(agent, start)
    elif start is not None:
        resuming.require_same_training(start, agent)
    check_evaluation(args)
    dataset, held_out = open_battles(args, view, run_dir, experiment.max_seq_len)
    check_weights(bound_value("GemmaTstepEncoder", "model_name"), bound_value("GemmaTstepEncoder", "pretrained"))
    return Plan(
        experiment=experiment,
        resolved=resolved,
        identity=identity,
        dataset=dataset,
        held_out=held_out,
        save_every=save_every,
        keeping=keeping,
        warning=returns_beyond_bins(agent, view.reward_function),
    )


def open_battles(
    args: argparse.Namespace, view: "BattleView", run_dir: Path, max_seq_len: int
) -> "tuple[BattleDataset, Battles]":
    from gemma_metamon.data.dataset import BattleDataset, split_held_out

    formats, battles = _list_battles(args, view)
    training, held_out = split_held_out(battles, args.holdout_share)
    if not training:
        raise ConfigError(f"--holdout_share {args.holdout_share} leaves none of {len(battles)} battles to train on")
    sources, weights = [training], [1.0]
    check_custom_share(args)
    if args.custom_replay_dir is not None:
        custom = [_find_battles(folder, formats, view) for folder in args.custom_replay_dir]
        share = args.custom_replay_sample_weight
        weights = [1 - share, *(share * len(source) / sum(map(len, custom)) for source in custom)]
        sources += custom
    logger.info("%d battles to train on, %d held out", sum(map(len, sources)), len(held_out))
    dataset = BattleDataset(
        sources,
        weights,
        view,
        max_seq_len=max_seq_len,
        seed=args.seed,
        max_set_aside=args.max_set_aside,
        set_aside_record=run_dir / "set_aside.jsonl",
    )
    return dataset, held_out


def _list_battles(args: argparse.Namespace, view: "BattleView") -> "tuple[list[str], Battles]":
    """The formats to train on, and their battles."""
    if args.parsed_replay_dir is None:
        from gemma_metamon import sample_battles
        from gemma_metamon.battle.replays import find_battles

        formats = args.formats or sample_battles.bundled_formats()
        return formats, [p for name in formats for p in find_battles(sample_battles.extract(name), [name])]
    formats = args.formats or _list_formats(args.parsed_replay_dir)
    if not formats:
        raise MissingFileError(f"{args.parsed_replay_dir} holds no battles; expected DIR/<format>/*.json.lz4")
    return formats, _find_battles(args.parsed_replay_dir, formats, view)


def _list_formats(root: Path) -> list[str]:
    from gemma_metamon.battle.replays import list_formats
    from gemma_metamon.data.store_files import is_store, read_plan

    return sorted(read_plan(root)[1]) if is_store(root) else list(list_formats(root))


def _find_battles(root: Path, formats: list[str], view: "BattleView") -> "Battles":
    """Of a folder of battle files, or of a prepared store of this view."""
    from gemma_metamon.battle.replays import find_battles
    from gemma_metamon.data.store import BattleStore
    from gemma_metamon.data.store_files import is_store

    if not is_store(root):
        return find_battles(root, formats)
    store = BattleStore(root)
    store.identity.require(view, root)
    return store.battles(formats)
