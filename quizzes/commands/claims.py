"""Every claim about compression beside what this machine measured, as JSON and as a page; nothing is left blank."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from lessons_lib.measure import benchmark
from lessons_lib.show import claims
from lessons_lib.show.claims import VERDICTS, Claim, ClaimRow
from quizzes.learner import standing as overview

NOT_MEASURED = "not measured"
# How a box is drawn on the page, else as "partly"; the word stands in it too.
KINDS = {"yes": "right", "no": "wrong"}


@dataclass(frozen=True)
class ClaimFinding:
    """What one lesson measured of a claim."""

    lesson: str
    measured: str
    agrees: str
    why: str
    when: str


@dataclass(frozen=True)
class ClaimStanding:
    """A claim, what lessons measured of it, and which lessons have not: what it would take there."""

    id: str
    claim: str
    lessons: tuple[str, ...]
    findings: tuple[ClaimFinding, ...]
    missing: tuple[str, ...]
    needs: str

    @property
    def verdict(self) -> str:
        """The verdicts as words; "not measured" when there is none."""
        return ", ".join(dict.fromkeys(finding.agrees for finding in self.findings)) or NOT_MEASURED

    @property
    def kind(self) -> str:
        """How its box is drawn."""
        return KINDS.get(self.verdict, "partly")


def standings() -> list[ClaimStanding]:
    """Every claim of data/claims.toml, in its order."""
    rows = claims.load_all()
    ran = {row.lesson for row in rows if row.measured}
    return [_standing(claim, [row for row in rows if row.claim == claim], ran) for claim in claims.declared().values()]


def _standing(claim: Claim, rows: list[ClaimRow], ran: set[str | None]) -> ClaimStanding:
    findings = tuple(
        ClaimFinding(row.lesson, row.measured.measured, row.measured.verdict, row.measured.why, row.when)
        for row in rows
        if row.measured
    )
    missing = tuple(lesson for lesson in claim.lessons if lesson not in {item.lesson for item in findings})
    return ClaimStanding(claim.id, claim.claim, claim.lessons, findings, missing, _needs(claim, missing, ran))


def _needs(claim: Claim, missing: tuple[str, ...], ran: set[str | None]) -> str:
    """What keeps some lessons from having measured a claim; empty when all have."""
    ready = {entry["name"][:2]: entry["name"] for entry in overview.ready()}
    parts = []
    for lesson in missing:
        if lesson not in ready:
            parts.append(f"Lesson {lesson} is not written yet.")
        elif lesson not in ran:
            parts.append(
                f"Lesson {lesson} has not been run on this machine: open notebooks/{ready[lesson]}.ipynb and "
                "run all its cells."
            )
        elif not claim.needs:
            parts.append(f"Lesson {lesson} was run without it: run it again.")
    return " ".join([*parts, claim.needs] if missing and claim.needs else parts)


def summary(claim_standings: list[ClaimStanding]) -> dict[str, int]:
    """How many measurements gave each verdict, and how many claims have none."""
    counts = Counter(item.agrees for standing in claim_standings for item in standing.findings)
    words = {word: counts[word] for word in VERDICTS.values()}
    return words | {NOT_MEASURED: sum(not standing.findings for standing in claim_standings)}


def as_table():
    """The whole for a terminal: a row for each lesson that measured a claim, and one for what is missing."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("lesson", "claim", "measured here", "agrees?", "why", title="Claimed and measured", show_lines=True)
    for item in standings():
        for finding in item.findings:
            table.add_row(finding.lesson, *map(escape, (item.claim, finding.measured, finding.agrees, finding.why)))
        if item.missing:
            table.add_row(", ".join(item.missing), escape(item.claim), NOT_MEASURED, "", escape(item.needs))
    return table


def as_json() -> str:
    """The whole as JSON: machine, when it was written, summary, claims."""
    claim_standings = standings()
    timestamp = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {"written": timestamp, "machine": benchmark.machine(), "summary": summary(claim_standings)}
    return (
        json.dumps(whole | {"claims": [asdict(item) | {"verdict": item.verdict} for item in claim_standings]}, indent=1)
        + "\n"
    )


def as_html() -> str:
    """The whole as one page that needs nothing else."""
    from quizzes.grading.reports import feedback

    claim_standings = standings()
    return (
        feedback.pages()
        .get_template("claims.html")
        .render(
            claims=claim_standings,
            summary=summary(claim_standings),
            machine=benchmark.machine(),
            written=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )
