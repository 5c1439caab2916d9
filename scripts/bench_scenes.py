"""How many scenes and grids one core draws in a second, and what their files take: `python scripts/bench_scenes.py`.

Decisions of bundled battles, each drawn once, after one battle that fills what is kept of words and figures. Times are
of the processor.

    python scripts/bench_scenes.py --training [--tokenizer DIR]

shows what a decision of one picture, of a grid or of four pictures costs the tiny model of `vlm train` instead, each in
processes of their own: pictures a second drawn by `vlm export`, tokens of an example with its answer, examples and
pictures a second of training in batches of 8, and the most memory that the training takes, libraries included. With the
folder of Gemma 3's tokenizer, the tokens there: 256 for each picture, and its own subwords.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.telling.prompts import Decision
from gemma_metamon.sample_battles import extract
from gemma_metamon.vision.scenes.drawing import Painter
from gemma_metamon.vision.scenes.grid import GridPainter, Layout, Picture, pictures_of
from gemma_metamon.vision.scenes.scene import scene_of

FORMATS, BATTLES = ("gen1ou", "gen9ou"), 6
KINDS: Final[tuple[Layout, ...]] = ("single", "grid", "four")
FEW, MORE = 2, 10
"""Updates of two trainings, whose difference is free of what comes before the first one."""
BATCH: Final = 8
GEMMA_TOKENS: Final = 256
"""That Gemma 3 spends on a picture of 896 pixels."""


@cache
def battles_of(battle_format: str) -> list[list[Decision]]:
    return [list(recorded_decisions(load_battle(path))) for path in paths_of(battle_format)]


def paths_of(battle_format: str) -> list[Path]:
    return sorted((extract(battle_format) / battle_format).iterdir())[: BATTLES + 1]


def rate(draw: Callable[[Any], Any], things: Iterable[Any]) -> tuple[float, int]:
    """Things per second of the processor, and how many there were."""
    begun, count = time.process_time(), 0
    for thing in things:
        draw(thing)
        count += 1
    return count / (time.process_time() - begun), count


def as_png(image: Any) -> int:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.tell()


def show_drawing() -> None:
    found: dict[str, dict[str, float]] = {}
    print(f"{'':<8}{'size':>6}{'scenes/s':>10}{'grids/s':>10}{'grids/s to PNG':>16}{'KB a grid':>11}{'decisions':>11}")
    for battle_format in FORMATS:
        warm, *battles = battles_of(battle_format)
        decisions = [decision for battle in battles for decision in battle]
        windows = [battle[max(0, t - 3) : t + 1] for battle in battles for t in range(len(battle))]
        for size in (224, 448, 896):
            painter, grids = Painter(size), GridPainter(size)
            rate(lambda d, p=painter: p.draw(scene_of(d)), warm)
            scenes_per_s, count = rate(lambda d, p=painter: p.draw(scene_of(d)), decisions)
            drawn_per_s, _ = rate(lambda w, p=grids: p.draw(pictures_of(w, "grid")[0]), windows)
            sizes: list[int] = []
            saved_per_s, _ = rate(
                lambda w, p=grids, kept=sizes: kept.append(as_png(p.draw(pictures_of(w, "grid")[0]))), windows
            )
            kilobytes = sum(sizes) / len(sizes) / 1000
            found[f"{battle_format} {size}"] = {
                "scenes_per_s": round(scenes_per_s),
                "grids_per_s": round(drawn_per_s),
                "grid_files_per_s": round(saved_per_s),
                "kilobytes_a_grid": round(kilobytes, 1),
            }
            print(
                f"{battle_format:<8}{size:>6}{scenes_per_s:>10.0f}{drawn_per_s:>10.0f}{saved_per_s:>16.0f}"
                f"{kilobytes:>11.1f}{count:>11}"
            )
    print(json.dumps(found))


def show_training(sizes: list[int], tokenizer: Path | None) -> None:
    from gemma_metamon.vision.chats import read_seen
    from gemma_metamon.vision.tiny import build_processor

    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        print("| | pixels | drawn/s | tokens of pictures | tokens in all |")
        print(f"|{'---|' * 5}")
        for size in (*sizes, *([896] if tokenizer else [])):
            for kind in KINDS:
                data = export(kind, size, Path(folder))
                if tokenizer and size == 896:
                    processor = gemma_processor(tokenizer)
                else:
                    texts = [text for each in read_seen(data) for text in each.texts]
                    processor = build_processor(texts, size)
                pictures, tokens = tokens_of(data, processor)
                drawn = drawn_per_s(kind, size)
                found[f"{kind} {size}"] = {"drawn_per_s": drawn, "picture_tokens": pictures, "tokens": tokens}
                print(f"| {kind} | {size} | {drawn:.0f} | {pictures:.0f} | {tokens:.0f} |", flush=True)
        print("\n| | pixels | examples/s | pictures/s | peak MB |")
        print(f"|{'---|' * 5}", flush=True)
        for size in sizes:
            for kind in KINDS:
                row = trained_by(kind, size, Path(folder))
                found[f"{kind} {size}"] |= row
                rates = f"{row['examples_per_s']:.1f} | {row['pictures_per_s']:.1f} | {row['peak_mb']:.0f}"
                print(f"| {kind} | {size} | {rates} |", flush=True)
    libraries = spent_by([sys.executable, "-c", "import trl, gemma_metamon.vision.training; trl.SFTTrainer"])[1]
    print(f"before a model is there, the libraries take {libraries / 1e6:.0f} MB")
    print(json.dumps(found))


def drawn_per_s(kind: Layout, size: int) -> float:
    """Pictures into files, on one core."""
    painter, to_draw = GridPainter(size), pictures_to_draw(kind)
    painter.draw(to_draw[0])  # fonts are read
    return rate(lambda picture: as_png(painter.draw(picture)), to_draw)[0]


def trained_by(kind: Layout, size: int, folder: Path) -> dict[str, float]:
    """What examples of a kind cost."""
    times, peaks = [], []
    for updates in (FEW, MORE):
        train = ["vlm", "train", "--data", folder / f"{kind}_{size}/dataset.jsonl", "--max_updates", updates]
        train += ["--epochs", 9, "--batch_size", BATCH, "--device", "cpu", "--out", folder / f"{kind}_{size}_{updates}"]
        seconds, peak = spent_by([sys.executable, "-m", "gemma_metamon", *map(str, train)])
        times.append(seconds)
        peaks.append(peak)
    examples_per_s = (MORE - FEW) * BATCH / (times[1] - times[0])
    return {
        "examples_per_s": examples_per_s,
        "pictures_per_s": examples_per_s * (4 if kind == "four" else 1),
        "peak_mb": max(peaks) / 1e6,
    }


def export(kind: Layout, size: int, folder: Path) -> Path:
    """Data of a few bundled battles."""
    from gemma_metamon.commands import main as gemma_metamon

    battles, out = folder / "battles" / FORMATS[0], folder / f"{kind}_{size}"
    battles.mkdir(parents=True, exist_ok=True)
    for path in paths_of(FORMATS[0])[:3]:
        shutil.copy(path, battles)
    made = ["vlm", "export", "--parsed_replay_dir", battles.parent, "--frames", kind, "--size", size, "--workers", 1]
    made += ["--subset", MORE * BATCH, "--reasoning", "seen", "--out", out]
    with contextlib.redirect_stdout(io.StringIO()):
        if status := gemma_metamon([str(part) for part in made]):
            sys.exit(status)
    return out / "dataset.jsonl"


def pictures_to_draw(kind: Layout) -> list[Picture]:
    """Each once, of one battle."""
    battle = battles_of(FORMATS[0])[1]
    shown = (pictures_of(battle[: t + 1], kind) for t in range(len(battle)))
    return list({picture.mark: picture for pictures in shown for picture in pictures}.values())


def tokens_of(data: Path, processor: Any) -> tuple[float, float]:
    """Tokens of an example's pictures, and of all of it, on average."""
    from gemma_metamon.vision.chats import encode, read_seen
    from gemma_metamon.vision.models import SeeingModel, SeeingPlan

    model = SeeingModel(None, processor.tokenizer, SeeingPlan(), None, processor)
    examples, _ = encode(model, read_seen(data), 1 << 20)
    pictures = sum(each.prompt.count(processor.tokenizer.image_token_id) for each in examples)
    return pictures / len(examples), sum(map(len, examples)) / len(examples)


def gemma_processor(tokenizer: Path) -> Any:
    from transformers import AutoTokenizer, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    from gemma_metamon.vision.tiny import build_processor

    template = build_processor(["a"], 28).chat_template  # Gemma's own, with marks for a trainer
    made: Any = Gemma3Processor
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    return made(Gemma3ImageProcessorPil(), loaded, chat_template=template, image_seq_length=GEMMA_TOKENS)


def spent_by(parts: list[str]) -> tuple[float, int]:
    """Seconds of the processor, and bytes of memory at most, of a process of one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(parts, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(said)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", action="store_true", help="what a decision costs in training")
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 224], help="of --training (default: 112 224)")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="of Gemma 3, for its tokens as well")
    args = parser.parse_args()
    if args.training:
        show_training(args.sizes, args.tokenizer)
    else:
        show_drawing()


if __name__ == "__main__":
    main()
