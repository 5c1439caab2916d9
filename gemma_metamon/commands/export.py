"""`gemma-metamon export`: a checkpoint, or the Gemma in it, in the form that other programs load."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import add_shared_argument, require_place
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example:
  gemma-metamon export --run_dir runs/first --ckpt 1 --to amago --out metamon_runs"""

ELSEWHERE = ("gguf", "mlx")
FORMS = {
    "amago": "OUT/<run>/ckpts/policy_weights/policy_epoch_<N>.pt for metamon, with the configuration beside it",
    "peft": "OUT, a folder with the adapter alone, for peft's PeftModel.from_pretrained",
    "merged": "OUT, a folder with Gemma and the adapter merged into it, for transformers' AutoModel.from_pretrained;\n"
    "          of a run of `sft` with its head and whole vocabulary, for AutoModelForCausalLM",
    "gguf": "OUT, one file for llama.cpp, of a run of `sft` over a pretrained Gemma",
    "mlx": "OUT, a folder for mlx-lm, of a run of `sft` with six layers or more",
}


def add_parser(subparsers: "Subparsers") -> None:
    """Adds `gemma-metamon export` with its flags."""
    parser = subparsers.add_parser(
        "export",
        help="write a checkpoint for metamon, peft, transformers, llama.cpp or MLX",
        epilog="forms:\n" + "\n".join(f"  {form:8}{what}" for form, what in FORMS.items()) + f"\n\n{EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run_dir", type=Path, required=True, help="RUN or RUN@EPOCH: of `train` (save_dir/run_name) or `sft`"
    )
    add_shared_argument(parser, "ckpt")
    parser.add_argument("--to", choices=tuple(FORMS), required=True, help="the form; see below")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes a checkpoint in the form that was asked for. Returns the exit status."""
    from gemma_metamon.runs.checkpoints import Checkpoint, split_epoch
    from gemma_metamon.runs.loading import load_agent

    args.run_dir, epoch = split_epoch(str(args.run_dir))
    args.ckpt = args.ckpt if epoch is None else epoch
    if (args.run_dir / "run.json").is_file() or (args.run_dir / "config.json").is_file():
        return _export_words(args)
    if args.to in ELSEWHERE:
        raise ConfigError(
            f"--to {args.to} is of chat models, which answer in words; {args.run_dir} holds an agent, whose critics "
            "and actor no other program computes; give --to merged for the Gemma in it"
        )
    checkpoint = Checkpoint.find(args.run_dir, args.ckpt)
    if args.to == "amago":
        from gemma_metamon.upstream.interchange import export_policy

        written = export_policy(checkpoint, args.out)
        print(f"wrote {written}")
        return 0
    _require_new(args.out)
    from gemma_metamon.runs.gemma_export import export_merged, export_peft

    agent, _ = load_agent(checkpoint, "cpu")
    encoder: Any = agent.get_submodule("tstep_encoder")
    caveats = export_peft(encoder, args.out) if args.to == "peft" else export_merged(encoder, args.out)
    print("\n".join([f"wrote {args.out}", *caveats]))
    return 0


def _export_words(args: argparse.Namespace) -> int:
    """The chat model of a run of `sft`."""
    if args.to not in ("merged", *ELSEWHERE):
        raise ConfigError(f"--to {args.to} is of agents, and {args.run_dir} holds a chat model; give --to merged")
    if args.to in ELSEWHERE:
        require_extra(args.to, f"--to {args.to}")
    from gemma_metamon.language.models.chat_model import SEEING_DESCRIPTION, export_whole, load
    from gemma_metamon.language.models.conversion import export_gguf, export_mlx
    from gemma_metamon.language.training.fine_tuning import find_model

    folder = find_model(args.run_dir, args.ckpt)
    if args.to in ELSEWHERE and (folder / SEEING_DESCRIPTION).is_file():
        raise ConfigError(
            f"{args.run_dir} holds a model that sees, and what programs read of --to {args.to} gives other answers to "
            "pictures; use gemma-metamon vlm merge"
        )
    _require_new(args.out)
    export = {"merged": export_whole, "gguf": export_gguf, "mlx": export_mlx}[args.to]
    print("\n".join([f"wrote {args.out}", *export(load(folder), args.out)]))
    return 0


def _require_new(out: Path) -> None:
    if out.exists():
        raise ConfigError(f"--out {out} exists; delete it, or choose another")
    require_place(out, "out")
