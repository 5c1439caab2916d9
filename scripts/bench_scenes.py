"""How many scenes and grids one core draws in a second, and what their files take: `python scripts/bench_scenes.py`.

Decisions of bundled battles, each drawn once, after one battle that fills what is kept of words and figures. Times are
of the processor.
"""

import io
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.language.prompts import Decision
from gemma_metamon.language.recorded import recorded_decisions
from gemma_metamon.sample_battles import extract
from gemma_metamon.vision.drawing import Painter
from gemma_metamon.vision.grid import GridPainter, pictures_of
from gemma_metamon.vision.scene import scene_of

FORMATS, BATTLES = ("gen1ou", "gen9ou"), 6


def battles_of(battle_format: str) -> list[list[Decision]]:
    paths = sorted((extract(battle_format) / battle_format).iterdir())[: BATTLES + 1]
    return [list(recorded_decisions(load_battle(path))) for path in paths]


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


def main() -> None:
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


if __name__ == "__main__":
    main()
