"""`gemma-metamon chat submit`: chat data to a service that tunes a model on it."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import at_least_one
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

SUBMIT_EXAMPLE = """example:
  gemma-metamon chat export --parsed_replay_dir battles --to gemini --val_share 0.05 --out duel.jsonl
  gemma-metamon chat submit --to vertex --data duel.jsonl --validation_data duel.validation.jsonl --project mine \\
      --bucket lessons --model gemini-2.5-flash --dry_run
The files are uploaded to Cloud Storage and a supervised tuning is begun on Vertex AI, which costs money: --dry_run
looks the data over and says what would be done. Credentials are those of `gcloud auth application-default login`."""


def add_submit(actions: "Subparsers") -> None:
    """Adds the action and its flags."""
    parser = actions.add_parser(
        "submit",
        help="upload chat data, and let a service tune a model on it",
        epilog=SUBMIT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--to", choices=("vertex",), required=True, help="vertex: Gemini models on Google Cloud")
    parser.add_argument("--data", type=Path, required=True, help="NAME.jsonl of `chat export --to gemini`")
    parser.add_argument("--validation_data", type=Path, help="what is measured on meanwhile (default: nothing)")
    parser.add_argument("--project", required=True, help="Google Cloud's, which pays")
    parser.add_argument("--bucket", required=True, help="of its Cloud Storage; with or without gs://")
    parser.add_argument("--model", required=True, help="which is tuned, such as gemini-2.5-flash")
    parser.add_argument("--location", default="us-central1", help="where (default: %(default)s)")
    parser.add_argument("--epochs", type=at_least_one, help="how often each chat is learned (default: Google's choice)")
    parser.add_argument("--name", help="of the tuned model (default: Google's choice)")
    parser.add_argument("--dry_run", action="store_true", help="only say what would be done")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_submit)


def run_submit(args: argparse.Namespace) -> int:
    """Looks the data over, uploads it and begins the tuning. Returns the exit status."""
    from gemma_metamon.language.data.vertex import TuningPlan, describe, look_over, submit

    bucket = args.bucket.removeprefix("gs://").rstrip("/")
    if "/" in bucket or not bucket:
        raise ConfigError(f"--bucket {args.bucket} is no bucket's name; give it without a folder")
    if not args.dry_run:
        require_extra("vertex", "chat submit")
    plan = TuningPlan(
        train=look_over(args.data),
        validation=None if args.validation_data is None else look_over(args.validation_data),
        project=args.project,
        bucket=bucket,
        model=args.model,
        location=args.location,
        epochs=args.epochs,
        display_name=args.name,
    )
    job = None if args.dry_run else submit(plan)
    if args.json:
        files = [{"file": str(file.path), "uri": plan.uri(file), "rows": file.rows} for file in plan.files]
        print(json.dumps({"files": files, "model": plan.model, "job": job}))
    else:
        print(f"would {describe(plan).replace(chr(10), chr(10) + 'would ')}" if job is None else f"began {job}")
    return 0
