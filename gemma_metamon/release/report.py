"""What a release found, as a file for programs and a page for people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gemma_metamon import __version__
from gemma_metamon.atomic_files import written_whole
from gemma_metamon.release.gates import GateRow

JSON, PAGE = "release.json", "release.html"


@dataclass(frozen=True, kw_only=True)
class ReleaseReport:
    """release.json.

    Attributes:
        source: the label of what was looked at: first@3.
        at: when, UTC.
        gates_file: the name of the file of gates.
        format: of the battles.
        seed: of all that was drawn.
        rows: the gates, in the order in which they were looked at.
        files: the model's files and their bytes.
        promoted: NAME@VERSION and the stage that it was promoted to; None where it was not, or is not yet.
        made_with: the version of this package.
    """

    source: str
    at: str
    gates_file: str
    format: str
    seed: int
    rows: list[GateRow]
    files: dict[str, int]
    promoted: str | None = None
    made_with: str = __version__

    @property
    def passed(self) -> bool:
        """Whether all gates were."""
        return all(row.passed for row in self.rows)

    def write(self, folder: Path) -> list[Path]:
        """Writes the file and the page, each whole or not at all; needs the extra `report`."""
        from gemma_metamon.reports.replay_page import TEMPLATES

        told = {"passed": self.passed, **asdict(self)}
        texts = {
            JSON: json.dumps(told, indent=1) + "\n",
            PAGE: TEMPLATES.get_template("release.html.j2").render(report=self),
        }
        for name, text in texts.items():
            with written_whole(folder / name) as staged:
                staged.write_text(text, encoding="utf-8")
        return [folder / name for name in texts]

    def as_table(self) -> str:
        """The gates, for people."""
        lines = []
        for row in self.rows:
            lines.append(f"{'passed' if row.passed else 'NOT PASSED':12}{row.name}: {row.found} (wanted: {row.wanted})")
        failed = sum(not row.passed for row in self.rows)
        lines.append(f"{failed} of {len(self.rows)} gates are not passed" if failed else f"all {len(lines)} are passed")
        return "\n".join(lines)
