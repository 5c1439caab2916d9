"""Keep everything that this version leaves on a disk, so that later ones can show that they still go on with it.

    python scripts/build_kept_runs.py --out tests/goldens/before_the_house.tar.xz

Runs each command in an empty folder, on an agent of almost no width, with four recorded battles (needs Node.js; about
a minute), and packs that folder:

    battles/gen1ou/*.json.lz4   the recorded battles
    small.gin                   a user's own configuration, which includes a packaged one
    runs/first/                 `train`, two epochs: checkpoints to resume, metrics.jsonl, config.gin (resolved)
    store/                      `prepare`
    collected/                  `collect`
    evaluated/                  `evaluate --round_robin --out`
    ladder/                     `ladder --out`
    improved/                   `improve`, one round from runs/first@2
    expected.json               the commands as they were given, and what came of going on (see `what_comes_of_it`)

Charts and pages are left out (`report` makes them), and so are links to folders. The folder it ran in is called
ELSEWHERE in the archive. Run it in a checkout of the version that is to be kept; a file that is there stays as it is.
"""

import argparse
import contextlib
import hashlib
import io
import json
import lzma
import os
import shlex
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gemma_metamon.commands import main as gemma_metamon

BATTLES = Path(__file__).resolve().parents[1] / "tests" / "goldens" / "battles" / "gen1ou"
BATTLE_IDS = ("0477589297", "1029471672", "6295891611", "9729792622")
ELSEWHERE = "/kept-runs"
DERIVED = (".html", ".png")

SMALL_GIN = """\
include "gemma_tiny_entity.gin"

MetamonAMAGOExperiment.max_seq_len = 12
# Gemma itself stays as it began, and the adapters beside it are trained
GemmaTstepEncoder.use_lora = True
GemmaTstepEncoder.lora_r = 2
GemmaTstepEncoder.backbone_config = {
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "layer_types": ["full_attention"],
    "initializer_range": 0.5,
}
GemmaTstepEncoder.fusion_heads = 2
GemmaTstepEncoder.text_emb_dim = 8
GemmaTstepEncoder.summary_tokens = 2
GemmaTstepEncoder.numerical_emb_dim = 4
TformerTrajEncoder.d_model = 4
TformerTrajEncoder.d_ff = 4
TformerTrajEncoder.n_layers = 1
TformerTrajEncoder.n_heads = 2
MetamonMaskedActor.d_hidden = 8
MultiTaskAgent.num_critics = 2
NCriticsTwoHot.d_hidden = 4
NCriticsTwoHot.output_bins = 8
"""
OVERRIDES = (
    "--gin_override 'MetamonAMAGOExperiment.learning_rate = 0.01' "
    "--gin_override 'MetamonAMAGOExperiment.lr_warmup_steps = 4'"
)
TRAIN = "train --save_dir runs --formats gen1ou --batch_size_per_gpu 4 --steps_per_epoch 16 --log_interval 4"
COMMANDS = {
    "train": f"{TRAIN} --run_name first --model_gin_config small.gin --train_gin_config binary_rl.gin {OVERRIDES} "
    "--parsed_replay_dir battles --holdout_share 0.4 --epochs 2",
    "prepare": "prepare --parsed_replay_dir battles --out store --shard_battles 2 --workers 1",
    "collect": "collect --format gen1ou --battles 2 --players runs/first --opponents RandomPlayer --max_turns 12 "
    "--device cpu --out collected",
    "evaluate": "evaluate --players runs/first@1 runs/first@2 RandomPlayer --round_robin --format gen1ou --battles 2 "
    "--device cpu --out evaluated",
    "ladder": "ladder --server local --username Anna --run_dir runs/first --format gen1ou --battles 2 "
    "--sparring RandomPlayer --device cpu --out ladder",
    "improve": "improve --run_dir runs/first@2 --format gen1ou --rounds 1 --battles_per_round 2 --steps_per_round 4 "
    "--opponents RandomPlayer --eval_opponents RandomPlayer --eval_battles 2 --max_turns 12 --batch_size_per_gpu 2 "
    "--parsed_replay_dir store --device cpu --workers 1 --out improved",
}
GO_ON = {
    "resume": f"{COMMANDS['train']} --epochs 3 --ckpt 2",
    "from_store": f"{TRAIN} --run_name from_store --model_gin_config runs/first/config.gin --init_from runs/first@2 "
    "--parsed_replay_dir store --holdout_share 0 --epochs 1",
    "explain": "explain {battle} --run_dir runs/first --ckpt 2 --device cpu --json --out explained.html",
}


def run(command: str) -> str:
    """What `gemma-metamon` prints to stdout. Raises RuntimeError where it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = gemma_metamon(shlex.split(command))
    if status:
        raise RuntimeError(f"gemma-metamon {command} ended with {status}")
    return said.getvalue()


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """For the length of the block, relative paths are beneath this folder (contextlib.chdir needs Python 3.11)."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# what comes of going on ---------------------------------------------------------------------------------------------


def losses_after(run_dir: Path, update: int) -> list[list[float]]:
    """[loss, norm of the gradients] of each later update that a run has logged."""
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    means = [line for line in lines if line["update"] > update and "loss/total" in line]
    return [[line["loss/total"], line["grad_norm"]] for line in means]


def option_probabilities(explained: str) -> list[list[float]]:
    """Of the actions at each decision, from what `explain --json` printed."""
    page = json.loads(explained)
    return [[option["probability"] for option in decision["options"]] for decision in page["decisions"]]


@contextlib.contextmanager
def batch_digests() -> Iterator[list[list[str]]]:
    """For the length of the block, the digests of the arrays of each batch that an agent is trained on.

    Knows no field by its name, only the shapes and values of all arrays: a digest is the same for 1, 1.0 and True.
    """
    found: list[list[str]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training and type(module).__name__ == "MultiTaskAgent":
            found.append(sorted(map(digest, arrays_in(inputs))))

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def arrays_in(value: Any) -> Iterator[Tensor]:
    """All arrays within mappings and sequences within one another."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from arrays_in([*value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays_in(part)


def digest(array: Tensor) -> str:
    values = array.detach().cpu().double().contiguous()
    return hashlib.sha256(f"{[*values.shape]}".encode() + values.numpy().tobytes()).hexdigest()[:16]


def what_comes_of_it(folder: Path, scratch: Path) -> dict[str, Any]:
    """The commands, and what GO_ON gives in a copy of the folder: numbers that a later version must give as well."""
    shutil.copytree(folder, scratch)
    battle = next(scratch.glob(f"battles/gen1ou/*{BATTLE_IDS[0]}*")).relative_to(scratch).as_posix()
    go_on = {name: command.format(battle=battle) for name, command in GO_ON.items()}
    with working_in(scratch), batch_digests() as digests:
        run(go_on["resume"])
        digests.clear()
        run(go_on["from_store"])
        probabilities = option_probabilities(run(go_on["explain"]))
    return {
        "commands": {**COMMANDS, **go_on},
        "losses": losses_after(scratch / "runs" / "first", 32),
        "batches": digests,
        "probabilities": probabilities,
    }


# the archive --------------------------------------------------------------------------------------------------------


def make_everything(folder: Path) -> None:
    """Runs COMMANDS in this empty folder."""
    battles = folder / "battles" / "gen1ou"
    battles.mkdir(parents=True)
    for battle in BATTLE_IDS:
        shutil.copy(next(BATTLES.glob(f"metamon-gen1ou-{battle}_*")), battles)
    (folder / "small.gin").write_text(SMALL_GIN, encoding="utf-8")
    with working_in(folder):
        for command in COMMANDS.values():
            print(f"$ gemma-metamon {command}", file=sys.stderr, flush=True)
            run(command)


def content_of(path: Path, folder: Path) -> bytes:
    """A file without the path of the folder that it was made in. Raises RuntimeError for a binary file that has it."""
    content, here = path.read_bytes(), str(folder).encode()
    if here not in content:
        return content
    if path.suffix not in (".json", ".jsonl", ".yaml", ".gin"):
        raise RuntimeError(f"{path} holds its own path")
    return content.replace(here, ELSEWHERE.encode())


def pack(folder: Path, out: Path) -> dict[str, list[int]]:
    """Top folder or file -> [how many files, their bytes before they were packed]."""
    packed: dict[str, list[int]] = {}
    with lzma.open(out, "wb", preset=9 | lzma.PRESET_EXTREME) as file, tarfile.open(fileobj=file, mode="w") as archive:
        # files of one name side by side: much of one checkpoint is in the next one as well
        for path in sorted(folder.rglob("*"), key=lambda path: (path.suffix, path.name, str(path))):
            if path.is_file() and path.suffix not in DERIVED:
                content = content_of(path, folder)
                entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                count = packed.setdefault(path.relative_to(folder).parts[0], [0, 0])
                count[:] = count[0] + 1, count[1] + len(content)
    return packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.tar.xz")
    out: Path = parser.parse_args().out.resolve()
    if out.exists():
        sys.exit(f"{out} is there already: it stands for a version that is past")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "kept"
        folder.mkdir()
        make_everything(folder)
        expected = what_comes_of_it(folder, Path(scratch) / "gone_on")
        (folder / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
        packed = pack(folder, out)
    for name, (files, size) in sorted(packed.items()):
        print(f"{name:<16}{files:>3} files {size:>9,} bytes")
    print(f"{out}: {out.stat().st_size} bytes, {len(expected['probabilities'])} decisions")


if __name__ == "__main__":
    main()
