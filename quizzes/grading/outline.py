"""Where in a lesson an exercise stands, so that feedback can say what to read again."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@dataclass(frozen=True)
class Outline:
    """A lesson's title, and the section each piece of work stands in; both empty where the notebook is not at hand."""

    title: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def outline(number: str, folder: Path = NOTEBOOKS) -> Outline:
    """The outline of a lesson's notebook."""
    path = next(iter(sorted(folder.glob(f"{number}_*.ipynb"))), None)
    if not number or path is None:
        return Outline()
    title, section, sections = "", "", {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        exercise = cell["metadata"].get("exercise") or cell["metadata"].get("hand_in")
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("# ") and not title:
                    title = line.removeprefix("# ").strip()
                if line.startswith("## "):
                    section = line.removeprefix("## ").strip()
        elif exercise and section:
            sections[exercise] = section
    return Outline(title, sections)
