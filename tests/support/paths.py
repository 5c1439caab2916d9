"""Where things lie in a checkout."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
SCRIPTS = ROOT / "scripts"
GOLDENS = TESTS / "goldens"
BATTLE_FILES = sorted((GOLDENS / "battles").rglob("*.json.lz4"))


def observation_golden(battle_file: Path) -> Path:
    """The observations that metamon makes of a recorded battle of the goldens."""
    folder = GOLDENS / "observations" / battle_file.relative_to(GOLDENS / "battles").parent
    return folder / f"{battle_file.name.removesuffix('.json.lz4')}.npz"
