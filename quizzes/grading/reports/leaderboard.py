"""The models of a class, the best first: by tier, then by bytes, then by what they kept of the teacher's quality."""

from dataclasses import dataclass
from pathlib import Path

from lessons_lib.files import atomic
from quizzes import lessons
from quizzes.exercises.hand_ins import HandIn
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.grades import Grade, grades
from quizzes.grading.gradebook.tables import Verdict
from quizzes.grading.judging.verdicts import measured_of
from quizzes.grading.reports import feedback

PAGE = "leaderboard.html"
HEADINGS = ("Place", "Student", "Tier", "Bytes", "Quality", "95 % interval", "Kept", "Throughput")
NUMERIC = ("Place", "Bytes", "Throughput")


@dataclass(frozen=True)
class BoardRow:
    """One student's model, a text for each of HEADINGS."""

    cells: tuple[str, ...]

    def by_heading(self) -> list[tuple[str, str]]:
        """Each text with its heading."""
        return list(zip(HEADINGS, self.cells, strict=True))


@dataclass(frozen=True)
class Board:
    """All models of one hand-in."""

    title: str
    rows: tuple[BoardRow, ...]
    headings: tuple[str, ...] = HEADINGS
    numeric: tuple[str, ...] = NUMERIC


def boards(gradebook: Gradebook) -> list[Board]:
    """A board for each hand-in for which somebody's model could be measured."""
    by_hand_in: dict[tuple[str, str], list[tuple[Grade, Verdict]]] = {}
    for grade in grades(gradebook):  # where people have the names that they have everywhere else
        for verdict in grade.entry.verdicts if grade.entry else ():
            if verdict.model is not None:
                by_hand_in.setdefault((grade.lesson, verdict.item), []).append((grade, verdict))
    all_boards = []
    for (lesson, item), pairs in sorted(by_hand_in.items()):
        hand_in = lessons.lesson(lesson).hand_ins.get(item) if lesson in lessons.numbers() else None
        if hand_in is not None:
            all_boards.append(_board(hand_in, pairs))
    return all_boards


def _board(hand_in: HandIn, pairs: list[tuple[Grade, Verdict]]) -> Board:
    def merit(pair: tuple[Grade, Verdict]) -> tuple:
        model = pair[1].model
        return -pair[1].points, model.bytes, -model.kept

    ranked, rows = sorted(pairs, key=lambda pair: (merit(pair), pair[0].student)), []
    for grade, verdict in ranked:
        place = 1 + sum(merit(other) < merit((grade, verdict)) for other in ranked)  # equals share a place
        rows.append(_row(place, hand_in, grade, verdict))
    return Board(f"{hand_in.name} ({hand_in.quality.of})", tuple(rows))


def _row(place: int, hand_in: HandIn, grade: Grade, verdict: Verdict) -> BoardRow:
    measured = measured_of(verdict)
    value, low, high = map(hand_in.quality.value, (measured.quality, measured.low, measured.high))
    return BoardRow(
        (
            str(place),
            grade.student,
            verdict.status,
            f"{measured.bytes:,}",
            value,
            f"{low} to {high}",
            hand_in.quality.figure(measured.kept),
            f"{measured.throughput:,.0f}/s",
        )
    )


def write(gradebook: Gradebook, out: Path) -> Path | None:
    """Write OUT/leaderboard.html; without any model to show, remove an old one and return None."""
    all_boards, path = boards(gradebook), out / PAGE
    if not all_boards:
        path.unlink(missing_ok=True)
        return None
    atomic.write_text(path, feedback.pages().get_template("leaderboard.html").render(boards=all_boards))
    return path
