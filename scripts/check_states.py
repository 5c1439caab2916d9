"""Holds the states of which parts are kept from decision to decision to states that are read anew at each.

    python scripts/check_states.py --battles 20

Plays so many battles of each of 20 formats of the nine generations in an arena (needs Node), with random choices, and
compares at every decision of both sides. Prints how many Pokémon of the states were kept, and exits with 1 where a
state differs.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from gemma_metamon.showdown.arena.arena import Arena

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.kept_states import Compared, compare_states

FORMATS = [f"gen{gen}{rules}" for gen in range(1, 10) for rules in ("randombattle", "customgame")]
FORMATS += ["gen1ou", "gen9ou"]


async def compare_all(formats: Sequence[str], battles: int, seed: int, player: str) -> list[Compared]:
    """Each format's, printed as it is done."""
    results = []
    with Arena() as arena:
        for battle_format in formats:
            found = await compare_states(arena, battle_format, battles, seed=seed, player=player)
            kept = 100 * found.kept / max(found.pokemon, 1)
            print(f"{battle_format}: {found.states} states, {len(found.different)} different; {kept:.0f} % kept")
            print(*found.different[:3], sep="\n", end="\n" if found.different else "", flush=True)
            results.append(found)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battles", type=int, default=20, help="of each format (default: %(default)s)")
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--player", default="RandomPlayer", help="a scripted one (default: %(default)s)")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)  # poke-env's, of messages that it does not know
    results = asyncio.run(compare_all(args.formats, args.battles, args.seed, args.player))
    different = sum(len(each.different) for each in results)
    print(
        f"{args.battles * len(args.formats)} battles, {sum(each.states for each in results)} states: {different} differ"
    )
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
