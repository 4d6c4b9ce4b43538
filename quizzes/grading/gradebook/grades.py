"""From verdicts to grades: a person's overrides, the class's points, deadlines, and who handed in nothing."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from quizzes import lessons
from quizzes.grading.gradebook import class_file
from quizzes.grading.gradebook.class_file import ClassFile, Person
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.tables import Entry, Override, Student, Verdict

WHOLE = "lesson"  # an override of this item stands for the whole lesson
MISSING = "nothing handed in"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Item:
    """One exercise or question: the machine's verdict, and beside it what a person said, if anything."""

    kind: str
    name: str
    max_points: float
    verdict: Verdict | None = None
    override: Override | None = None

    @property
    def points(self) -> float:
        """What counts: the person's word before the machine's."""
        if self.override is not None:
            return self.override.points
        return self.verdict.points if self.verdict else 0.0


@dataclass(frozen=True)
class Grade:
    """What one student gets for one lesson. `points` is of `max_points`, after scale and lateness."""

    student: str
    lesson: str
    points: float
    max_points: float
    status: str
    counts: bool = True
    days_late: int = 0
    penalty: float = 0.0  # the share taken off for it
    items: tuple[Item, ...] = ()
    override: Override | None = None  # of the whole lesson
    entry: Entry | None = None
    person: Person | None = None
    canvas_id: str = ""

    @property
    def missing(self) -> bool:
        """Whether nothing was handed in that could be graded."""
        return self.entry is None or not self.entry.verdicts

    @property
    def share(self) -> float:
        """Points as a share of what could be had."""
        return self.points / self.max_points if self.max_points else 0.0


def the_class(gradebook: Gradebook) -> ClassFile:
    """The class file that a gradebook keeps; an empty one when it keeps none."""
    return class_file.loads(gradebook.setting("class"))


def item_name(kind: str, item: str) -> str:
    """How an exercise or a question is called in files and on the command line."""
    return item if kind == "exercise" else f"question {item}"


def name_of(student: Student, group: ClassFile) -> str:
    """What somebody in the gradebook is called: as on the roster, also where that came after the grading."""
    person = group.kept_as(student.name, student.canvas_id)
    return person.name if person else student.name


def grades(gradebook: Gradebook) -> list[Grade]:
    """A grade for every student and lesson, in that order; with a roster also for those who handed in nothing."""
    group, entries = the_class(gradebook), gradebook.entries()
    people = group.by_name
    overrides: dict[tuple[str, str], dict[str, Override]] = {}
    for item in gradebook.overrides():  # oldest first: of two for one item, under two names, the later counts
        overrides.setdefault((name_of(item.person, group), item.lesson), {})[item.item] = item
    given = {entry.lesson for entry in entries} | set(group.lessons)
    worth = {lesson: _worth(lesson, entries) for lesson in given | {lesson for _, lesson in overrides}}
    all_grades = [
        _grade(entry, group, overrides.get(whose, {}), others)
        for whose, mine in _by_person(entries, group).items()
        for entry, others in _counting(mine)
    ]
    there = {(grade.student, grade.lesson) for grade in all_grades}
    wanted = [lesson for lesson in worth if lesson and group.rule(lesson).counts]
    for name in [*people, *{name for name, _ in overrides} - set(people)]:
        for lesson in wanted:
            by_hand = overrides.get((name, lesson), {})
            # Points by hand in a lesson that nobody was given are one person's; nobody else missed anything.
            if (name, lesson) not in there and (by_hand or (name in people and lesson in given)):
                all_grades.append(_absent(name, lesson, worth[lesson], group, people.get(name), by_hand))
    return sorted(
        all_grades, key=lambda grade: (grade.student, grade.lesson, grade.entry.notebook if grade.entry else "")
    )


def _by_person(entries: list[Entry], group: ClassFile) -> dict[tuple[str, str], list[Entry]]:
    """Hand-ins by whose they are and for which lesson, whatever names the gradebook keeps them under."""
    by_person: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_person.setdefault((name_of(entry.person, group), entry.lesson), []).append(entry)
    return by_person


def _counting(mine: list[Entry]) -> list[tuple[Entry, list[Entry]]]:
    """Of one person's hand-ins for one lesson the one that counts, and the others; every one that is for no lesson.

    Several are there when a person was graded under two names. One that is graded counts before one that could not be,
    then the latest, as when somebody hands in again.
    """
    if not mine[0].lesson:
        return [(entry, []) for entry in mine]
    first = max(mine, key=lambda entry: (bool(entry.status), bool(entry.verdicts), entry.id))
    return [(first, [entry for entry in mine if entry is not first])]


def _worth(lesson: str, entries: list[Entry]) -> float:
    """Points of a lesson: as it was graded, else as the bank has it."""
    graded = max((entry.max_points for entry in entries if entry.lesson == lesson), default=0.0)
    return graded or (float(lessons.lesson(lesson).max_points) if lesson in lessons.numbers() else 0.0)


def _items(entry: Entry, by_hand: dict[str, Override]) -> tuple[Item, ...]:
    items = [
        Item(
            verdict.kind, verdict.item, verdict.max_points, verdict, by_hand.get(item_name(verdict.kind, verdict.item))
        )
        for verdict in entry.verdicts
    ]
    there = {item_name(item.kind, item.name) for item in items} | {WHOLE}
    # A person may give points for what the machine never saw, such as an exercise of an unreadable notebook.
    return (*items, *_by_hand_alone(entry.lesson, by_hand, there))


def _by_hand_alone(lesson: str, by_hand: dict[str, Override], there: set[str]) -> list[Item]:
    return [
        Item(
            "question" if name.startswith("question ") else "exercise",
            name.removeprefix("question "),
            item_worth(lesson, name),
            None,
            item,
        )
        for name, item in by_hand.items()
        if name not in there
    ]


def item_worth(lesson: str, name: str) -> float:
    """What an exercise or question of a lesson is worth. Raises LookupError when there is none of that name."""
    quiz = lessons.lesson(lesson)
    if name in quiz.work:
        return float(quiz.work[name].points)
    if name.startswith("question ") and name.removeprefix("question ") in quiz.questions:
        return 1.0
    known = [*quiz.work, *(f"question {id}" for id in quiz.questions)]
    raise LookupError(f"lesson {lesson} has no {name!r}; it has {', '.join(known)}, and {WHOLE!r} for the whole of it")


def _grade(entry: Entry, group: ClassFile, by_hand: dict[str, Override], others: list[Entry]) -> Grade:
    items, rule = _items(entry, by_hand), group.rule(entry.lesson)
    person = group.kept_as(entry.student, entry.person.canvas_id)
    raw = sum(item.points for item in items)
    most = entry.max_points if rule.points is None or not entry.max_points else rule.points
    scaled = raw * most / entry.max_points if entry.max_points else 0.0
    days, penalty = _lateness(entry, group, person)
    whole = by_hand.get(WHOLE)
    points = whole.points if whole else scaled * (1 - penalty)
    notes = [entry.status]
    if others:
        notes.append(f"not counted, for the same lesson: {', '.join(other.notebook for other in others)}")
    if days:
        notes.append(f"{days} {'day' if days == 1 else 'days'} late" + (f", {penalty:.0%} off" if penalty else ""))
    if by_hand:
        notes.append(f"changed by hand: {', '.join(by_hand)}")
    if not rule.counts and entry.lesson:
        notes.append("does not count")
    return Grade(
        person.name if person else entry.student,
        entry.lesson,
        round(points, 2),
        most,
        "; ".join(filter(None, notes)),
        rule.counts,
        days,
        penalty,
        items,
        whole,
        entry,
        person,
        next((item.person.canvas_id for item in (entry, *others) if item.person.canvas_id), ""),
    )


def _absent(
    name: str, lesson: str, worth: float, group: ClassFile, person: Person | None, by_hand: dict[str, Override]
) -> Grade:
    most = group.rule(lesson).points or worth
    whole, items = by_hand.get(WHOLE), tuple(_by_hand_alone(lesson, by_hand, {WHOLE}))
    points = whole.points if whole else sum(item.points for item in items) * most / worth if worth else 0.0
    status = f"{MISSING}; changed by hand: {', '.join(by_hand)}" if by_hand else MISSING
    return Grade(
        name,
        lesson,
        round(points, 2),
        most,
        status,
        True,
        0,
        0.0,
        items,
        whole,
        None,
        person,
        person.id if person else "",
    )


def _lateness(entry: Entry, group: ClassFile, person: Person | None) -> tuple[int, float]:
    """Days late, each begun day counted, and the share of the points that they cost."""
    due = group.due(entry.lesson)
    if due is None:
        return 0, 0.0
    days, extra = 0, person.extra_days if person else 0.0
    if entry.handed_in:
        allowed = timedelta(days=extra, minutes=group.late.grace_minutes)
        over = datetime.fromisoformat(entry.handed_in).astimezone(UTC) - due.astimezone(UTC) - allowed
        days = max(0, math.ceil(over / DAY))
    elif entry.late and extra < 1:  # Canvas says late and not by how much: one day, which an extra day covers
        days = 1
    return days, min(days * group.late.per_day, group.late.at_most, 100.0) / 100
