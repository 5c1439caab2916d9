"""Plays the battles that come with the package and packs them: gemma_metamon/sample_battles/<format>.tar.xz.

    python scripts/collect_sample_battles.py                  # both formats; about 5 minutes on two cores
    python scripts/collect_sample_battles.py --formats gen1ou --share 0.1 --out archives

Mostly the best of the scripted players, against itself and against the others, so that copying the actions teaches to
play. Battles longer than 200 turns (two frozen or endlessly healing sides) are left out. A seed gives the same battles
again, but not those that are bundled: the dice of their simulator were not seeded.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from tqdm import tqdm

from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.sample_battles import pack
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.teams import load_teams

BEST, STRONG, RANDOM = "SimpleHeuristicsPlayer", "MaxBasePowerPlayer", "RandomPlayer"
SHARES = {(BEST, BEST): 0.5, (BEST, STRONG): 0.33, (BEST, RANDOM): 0.07, (STRONG, RANDOM): 0.05, (STRONG, STRONG): 0.05}
BATTLES = {"gen1ou": 1500, "gen9ou": 600}
MAX_TURNS = 200
PACKAGE = Path(__file__).resolve().parents[1] / "gemma_metamon" / "sample_battles"


def collect_format(battle_format: str, battles: int, out: Path, seed: int) -> None:
    matchups = [
        Matchup(player=scripted(player), opponent=scripted(opponent), battles=round(share * battles))
        for (player, opponent), share in SHARES.items()
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(
            total=sum(matchup.battles for matchup in matchups), desc=battle_format, unit="battle", mininterval=5
        ) as bar,
    ):
        collection = asyncio.run(
            collect(
                matchups,
                battle_format=battle_format,
                teams=load_teams(battle_format),
                out=Path(folder),
                seed=seed,
                max_turns=MAX_TURNS,
                on_battle=bar.update,
            )
        )
        decided = [path for path in find_battles(Path(folder), [battle_format]) if is_decided(path)]
        archive = out / f"{battle_format}.tar.xz"
        pack(decided, archive)
    print(
        f"{archive}: {len(decided) // 2} battles, {len(decided)} views, {archive.stat().st_size:,} bytes; "
        f"{collection.battles_per_s:.1f} battles/s, {(collection.files - len(decided)) // 2} battles left out"
    )


def is_decided(path: Path) -> bool:
    terminal = load_battle(path).states[-1]
    return terminal.battle_won or terminal.battle_lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", choices=sorted(BATTLES), default=sorted(BATTLES))
    parser.add_argument("--out", type=Path, default=PACKAGE)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of battles")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for battle_format in args.formats:
        collect_format(battle_format, round(BATTLES[battle_format] * args.share), args.out, args.seed)


if __name__ == "__main__":
    main()
