"""What the pinned simulator itself makes of tests/support/team_files.py: `python scripts/build_team_goldens.py`."""

import json
import subprocess
import sys
from pathlib import Path

from gemma_metamon.showdown.simulator.installation import ensure_installed, find_node

TESTS = Path(__file__).parent.parent / "tests"
SIMULATOR = """
const { Teams } = require('./dist/sim/teams.js');
const texts = JSON.parse(require('fs').readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify(texts.map(text => Teams.pack(Teams.import(text)))));
"""


def packed_by_simulator(texts: list[str]) -> list[str]:
    """`Teams.pack(Teams.import(text))` of each text, by nothing of gemma_metamon's."""
    done = subprocess.run(
        [find_node(), "-e", SIMULATOR],
        cwd=ensure_installed(),
        input=json.dumps(texts),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    answers: list[str] = json.loads(done.stdout)
    return answers


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    from support.team_files import TEXTS

    packed = dict(zip(TEXTS, packed_by_simulator(list(TEXTS.values())), strict=True))
    golden = json.dumps(packed, ensure_ascii=False, indent=0)
    (TESTS / "goldens" / "packed_teams.json").write_text(f"{golden}\n", encoding="utf-8")
    print(f"{len(packed)} teams")
