"""What is claimed about compression, and what this machine measured of it.

data/claims.toml holds every claim. A lesson shows its own with `show`, which also keeps the figures in the cache, so
that `course claims` can print all of them with `load_all`.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from lessons_lib.files import atomic
from lessons_lib.files.cache import cache_dir
from lessons_lib.show.tables import TableView

CLAIMS_FILE = Path(__file__).resolve().parents[2] / "data" / "claims.toml"
VERDICTS = {True: "yes", False: "no", "partly": "partly", None: "open"}


@dataclass(frozen=True)
class Claim:
    """One claim: its text, the lessons that measure it, and what it would need where this course cannot test it."""

    id: str
    claim: str
    lessons: tuple[str, ...]
    needs: str = ""


@dataclass(frozen=True)
class Measured:
    """What a lesson found: the figures in words, whether they agree with the claim, and why they do or do not.

    agrees: True, False, "partly", or None where the measurement cannot settle it.
    """

    measured: str
    agrees: bool | str | None
    why: str

    def __post_init__(self):
        if self.agrees not in VERDICTS:
            raise ValueError(f"agrees must be True, False, 'partly' or None, not {self.agrees!r}")
        if not self.measured.strip() or not self.why.strip():
            raise ValueError("say what was measured and, in a sentence, why it agrees with the claim or does not")

    @property
    def verdict(self) -> str:
        """The verdict as a word."""
        return VERDICTS[self.agrees]


@dataclass(frozen=True)
class ClaimRow:
    """A claim as `course claims` prints it; without `lesson` it is not measured on this machine yet."""

    claim: Claim
    lesson: str | None = None
    measured: Measured | None = None
    when: str = ""


@lru_cache(maxsize=1)
def declared() -> dict[str, Claim]:
    """Every claim of data/claims.toml by id, in the order of the file."""
    entries = tomllib.loads(CLAIMS_FILE.read_text(encoding="utf-8"))
    return {
        name: Claim(name, entry["claim"], tuple(entry["lessons"]), entry.get("needs", ""))
        for name, entry in entries.items()
    }


def of_lesson(lesson: str) -> dict[str, Claim]:
    """The claims that a lesson measures. Raises ValueError for a lesson without any."""
    claims = {name: claim for name, claim in declared().items() if lesson in claim.lessons}
    if not claims:
        raise ValueError(f"no claim in data/claims.toml names lesson {lesson!r}; write two digits, such as '00'")
    return claims


def show(lesson: str, measured: Mapping[str, Measured]) -> TableView:
    """The lesson's claims beside what was measured just now; the figures are kept for `course claims`.

    Every claim of the lesson must be there, except one that names what this machine lacks (`needs`).
    Raises ValueError for a claim that is not the lesson's, or one of the lesson's that is missing.
    """
    claims = of_lesson(lesson)
    foreign = sorted(set(measured) - set(claims))
    if foreign:
        raise ValueError(f"{', '.join(foreign)} is not a claim of lesson {lesson}; it has {', '.join(claims)}")
    missing = [name for name, claim in claims.items() if name not in measured and not claim.needs]
    if missing:
        raise ValueError(f"lesson {lesson} must also say what it found on {', '.join(missing)}")
    _record(lesson, measured)
    return TableView([_shown(claim, measured.get(name)) for name, claim in claims.items()], "Claimed and measured")


def load_all() -> list[ClaimRow]:
    """Every claim with what this machine measured: one row for each lesson that did, one without figures else."""
    rows = []
    for name, claim in declared().items():
        entries = [_recorded(lesson).get(name) for lesson in claim.lessons]
        measured = [
            ClaimRow(claim, lesson, Measured(**entry["found"]), entry["when"])
            for lesson, entry in zip(claim.lessons, entries, strict=True)
            if entry
        ]
        rows += measured or [ClaimRow(claim)]
    return rows


def _shown(claim: Claim, measured: Measured | None) -> dict[str, str]:
    columns = {"claim": f"{claim.id}: {claim.claim}"}
    if measured is None:
        return columns | {"measured here": "not on this machine", "agrees?": VERDICTS[None], "why": claim.needs}
    return columns | {"measured here": measured.measured, "agrees?": measured.verdict, "why": measured.why}


def _file(lesson: str) -> Path:
    # A file a lesson: notebooks that run side by side never write the same one.
    return cache_dir() / "claims" / f"{lesson}.json"


def _record(lesson: str, measured: Mapping[str, Measured]) -> None:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    entries = {name: {"found": asdict(measurement), "when": when} for name, measurement in measured.items()}
    atomic.write_text(_file(lesson), json.dumps(entries, indent=1))


def _recorded(lesson: str) -> dict[str, dict]:
    """What a lesson recorded; nothing when it never ran or its file is damaged, since running it again mends that."""
    try:
        entries = json.loads(_file(lesson).read_text(encoding="utf-8"))
        return {name: entry for name, entry in entries.items() if Measured(**entry["found"]) and entry["when"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
