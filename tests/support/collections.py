"""What a folder of collected battles holds."""

from pathlib import Path

import lz4.frame

from gemma_metamon.battle.replays import BattleFileName


def contents(folder: Path) -> dict[tuple[str, str, str], bytes]:
    """Of every recorded battle, by all of its name but the time."""
    found = {}
    for path in sorted(folder.rglob("*.json.lz4")):
        name = BattleFileName.parse(path.name)
        found[name.battle_id, name.player, name.opponent] = lz4.frame.decompress(path.read_bytes())
    return found
