"""The class file: who is in the class, what each lesson is worth, when it is due, and what lateness costs.

TOML holds all of it; CSV holds the roster alone, for example a gradebook that Canvas or Moodle exported.
"""

import csv
import io
import json
import math
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime, time
from functools import cached_property
from pathlib import Path

from quizzes import lessons
from quizzes.grading.intake.names import Place, clean, folded

# A roster's headings, folded, and the field they fill. Those of Canvas and Moodle are among them.
HEADINGS = {
    "name": "name",
    "student": "name",
    "fullname": "name",
    "studentname": "name",
    "firstname": "first",
    "surname": "last",
    "lastname": "last",
    "id": "id",
    "canvasid": "id",
    "sisuserid": "sis_id",
    "sisid": "sis_id",
    "login": "login",
    "sisloginid": "login",
    "username": "login",
    "email": "email",
    "emailaddress": "email",
    "number": "number",
    "idnumber": "number",
    "section": "section",
    "extradays": "extra_days",
}
NOBODY = ("points possible", "student, test", "test student")  # rows that Canvas adds


class ClassFileError(ValueError):
    """A class file that cannot be used; the message says where and what to do."""


@dataclass(frozen=True)
class Person:
    """Somebody on the roster, by all the names that Canvas and Moodle know them by. extra_days: an extension."""

    name: str
    id: str = ""
    sis_id: str = ""
    login: str = ""
    email: str = ""
    number: str = ""
    section: str = ""
    extra_days: float = 0.0


@dataclass(frozen=True)
class Late:
    """What lateness costs: percent of the points for each day begun after the grace period, and the most it can."""

    grace_minutes: float = 0.0
    per_day: float = 0.0
    at_most: float = 100.0


@dataclass(frozen=True)
class Rule:
    """What holds for one lesson. points: what a full score is worth, None for the lesson's own points.

    column: what the lesson is called in the gradebook of Canvas or Moodle.
    """

    points: float | None = None
    counts: bool = True
    deadline: str = ""
    column: str = ""


@dataclass(frozen=True)
class ClassFile:
    """A class. Empty, it changes nothing."""

    students: tuple[Person, ...] = ()
    lessons: dict[str, Rule] = field(default_factory=dict)
    deadline: str = ""
    late: Late = Late()

    def rule(self, lesson: str) -> Rule:
        """What holds for a lesson. Where the file names lessons, others do not count."""
        return self.lessons.get(lesson, Rule(counts=not self.lessons))

    def due(self, lesson: str) -> datetime | None:
        """When a lesson is due."""
        text = self.rule(lesson).deadline or self.deadline
        return datetime.fromisoformat(text) if text else None

    @cached_property
    def by_name(self) -> dict[str, Person]:
        """Everybody on the roster by the roster's name."""
        return {person.name: person for person in self.students}

    @cached_property
    def _by_id(self) -> dict[str, Person]:
        return {person.id: person for person in self.students if person.id}

    @cached_property
    def _by_key(self) -> dict[str, Person | None]:
        by_key: dict[str, Person | None] = {}
        for person in self.students:
            for key in set(filter(None, map(folded, _known_as(person)))):
                by_key[key] = None if key in by_key else person  # two people of one name: neither
        return by_key

    def person(self, place: Place) -> Person | None:
        """Who on the roster a hand-in is from, None when nobody or more than one fits."""
        if place.canvas_id in self._by_id:
            return self._by_id[place.canvas_id]
        name = place.student.removesuffix(f"_{place.canvas_id}") if place.canvas_id else place.student
        return self._by_key.get(folded(name))

    def kept_as(self, name: str, canvas_id: str = "") -> Person | None:
        """Who on the roster a gradebook keeps under a name: the roster's own, or one from before there was a roster."""
        return self.by_name.get(name) or self.person(Place(name, "", canvas_id=canvas_id))

    def name_of(self, place: Place) -> str:
        """The name under which a hand-in is kept."""
        person = self.person(place)
        return person.name if person else place.student

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def loads(text: str) -> ClassFile:
    """What `dumps` gave; an empty class for an empty text."""
    held = json.loads(text) if text else {}
    return ClassFile(
        tuple(Person(**item) for item in held.get("students", ())),
        {number: Rule(**rule) for number, rule in held.get("lessons", {}).items()},
        held.get("deadline", ""),
        Late(**held.get("late", {})),
    )


def read(path: Path) -> ClassFile:
    """Read a class file, TOML or, with the ending .csv, a roster. Raises ClassFileError."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return _roster(text) if path.suffix.lower() == ".csv" else _toml(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, csv.Error, ClassFileError) as error:
        raise ClassFileError(f"{path}: {error}") from error


def _toml(held: dict) -> ClassFile:
    _known(held, ("students", "lessons", "deadline", "late"), "the file")
    _known(held.get("lessons", {}), lessons.numbers(), "lessons")
    rules = {}
    for number, rule in held.get("lessons", {}).items():
        _known(rule, [item.name for item in fields(Rule)], f"lesson {number}")
        points = rule.get("points")
        if points is not None:
            points = _number(points, f"points of lesson {number}")
            if points == 0:
                raise ClassFileError(f"lesson {number} is worth 0 points; say counts = false instead")
        column = clean(str(rule["column"])) if "column" in rule else ""
        rules[number] = Rule(points, bool(rule.get("counts", True)), _moment(rule.get("deadline", "")), column)
    late = held.get("late", {})
    _known(late, [item.name for item in fields(Late)], "late")
    rule = Late(**{name: _number(value, f"late.{name}") for name, value in late.items()})
    return ClassFile(_people(held.get("students", [])), rules, _moment(held.get("deadline", "")), rule)


def _known(table: dict, names, where: str) -> None:
    if not isinstance(table, dict):
        raise ClassFileError(f"{where} must be a table")
    for name in table:
        if name not in names:
            raise ClassFileError(f"{where} has {name!r}; it can have {', '.join(names)}")


def _number(value, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ClassFileError(f"{what} must be a number of 0 or more, not {value!r}")
    return float(value)


def _moment(value) -> str:
    """A deadline as ISO 8601 with its zone. A date means the end of that day; without a zone, this machine's."""
    if value == "":
        return ""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(23, 59, 59))
    if not isinstance(value, datetime):
        raise ClassFileError(f"deadline must be a date or a time as TOML writes them, without quotes, not {value!r}")
    return value.astimezone().isoformat() if value.tzinfo is None else value.isoformat()


def _people(rows: list[dict]) -> tuple[Person, ...]:
    people = []
    for row in rows:
        _known(row, [item.name for item in fields(Person)], "a student")
        extra = _number(row.get("extra_days") or 0, "extra_days")
        texts = {name: clean(str(value)) for name, value in row.items() if name != "extra_days" and str(value).strip()}
        if "name" not in texts:
            raise ClassFileError("a student has no name")
        people.append(Person(**texts, extra_days=extra))
    names = [person.name for person in people]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ClassFileError(f"{twice!r} is there twice; add something to one of the names")
    return tuple(people)


def _roster(text: str) -> ClassFile:
    """The people in a CSV: `name`, or first and last name, and whatever else of HEADINGS it has."""
    header = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=header.count), strict=True)
    people = []
    for row in rows:
        known = {
            HEADINGS[folded(name)]: (value or "").strip()
            for name, value in row.items()
            if isinstance(name, str) and isinstance(value, str | None) and folded(name) in HEADINGS
        }
        both = " ".join(filter(None, (known.pop("first", ""), known.pop("last", ""))))
        known["name"] = known.get("name") or both
        if known["name"] and known["name"].lower() not in NOBODY:
            try:
                known["extra_days"] = float(known.get("extra_days") or 0)
            except ValueError as error:
                raise ClassFileError(f"extra days of {known['name']}: {known['extra_days']!r} is no number") from error
            people.append(known)
    if not people:
        raise ClassFileError("no students found; the first line must name the columns, one of them `name`")
    return ClassFile(_people(people))


def _known_as(person: Person) -> Iterator[str]:
    """What somebody's folder may be called: also last name first, as Canvas sorts, and first name first."""
    yield from (person.name, person.sis_id, person.login, person.email, person.number, person.email.split("@")[0])
    last, comma, first = person.name.partition(",")
    if comma:
        yield f"{first} {last}"
    else:
        words = person.name.split()
        yield " ".join([words[-1], *words[:-1]])
