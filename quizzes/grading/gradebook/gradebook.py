"""What was graded, in a database. A verdict is committed when it is formed, so a killed grader loses nothing."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from sqlalchemy import create_engine, event, select
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
from sqlalchemy.orm import Session, selectinload

from quizzes.grading.gradebook.tables import Base, Entry, Override, Setting, Student, Verdict

FILE = "gradebook.sqlite"
FORMAT = "2"
MAX_TEXT = 15_000  # characters; the smallest text column of the common databases holds 64 KB


class GradebookError(RuntimeError):
    """The gradebook cannot be used; the message says what to do."""


@dataclass(frozen=True)
class GradebookRow:
    """What one student earned in one lesson, as the machine sees it."""

    student: str
    lesson: str
    points: float
    max_points: float
    status: str


def text(value: str) -> str:
    """Text that every database and file can hold: names of files may carry bytes that are no characters."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:MAX_TEXT]


def digest(*values: str) -> str:
    """A key for text of any length and any letters."""
    return hashlib.sha256("\0".join(map(text, values)).encode()).hexdigest()


class Gradebook:
    """A database of hand-ins and verdicts."""

    def __init__(self, url: str):
        try:
            self.engine = create_engine(url)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            kind = url.partition(":")[0]  # what follows may hold a password
            raise GradebookError(f"{kind}: cannot be used as a database: {error}") from error
        safe_url = self.engine.url.render_as_string(hide_password=True)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _careful)
        try:
            Base.metadata.create_all(self.engine)
            self.session = Session(self.engine, expire_on_commit=False)
            if not self.setting("seed"):
                self.keep("format", FORMAT)
                self.keep("seed", str(secrets.randbits(62)))
            self.seed, version = int(self.setting("seed")), self.setting("format")
        except (DatabaseError, ValueError) as error:
            if self.engine.dialect.name == "sqlite":
                raise GradebookError(f"{safe_url} is not a gradebook; move it away or choose another --out") from error
            raise GradebookError(f"{safe_url} cannot be used: {error}") from error
        if version != FORMAT:
            raise GradebookError(f"{safe_url} is a gradebook of another version of the course; choose another --out")

    @classmethod
    def in_folder(cls, folder: Path, url: str | None = None) -> "Gradebook":
        """The gradebook of an output folder, or of a database elsewhere; made when there is none, by one at a time."""
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{FILE}.lock"):
            return cls(url or f"sqlite:///{folder / FILE}")

    def setting(self, name: str) -> str:
        """A setting, empty when there is none."""
        setting = self.session.get(Setting, name)
        return setting.value if setting else ""

    def keep(self, name: str, value: str) -> None:
        """Keep a setting."""
        self.session.merge(Setting(name=name, value=value))
        self.session.commit()

    def student(self, name: str, canvas_id: str = "") -> Student:
        """The student of that name, made when there is none; whoever asks commits."""
        person = self.session.scalars(select(Student).filter_by(key=digest(name))).one_or_none()
        if person is None:
            person = Student(key=digest(name), name=text(name), canvas_id=canvas_id)
            self.session.add(person)
        elif canvas_id:
            person.canvas_id = canvas_id
        self.session.flush()
        return person

    def open(self, student: str, lesson: str, notebook: str, sha256: str, questions_count: bool, **known) -> Entry:
        """The entry for a hand-in: as it was left when the content is the same, else a new one in its place.

        known: canvas_id, source, handed_in (a datetime or None), late. The same content never becomes later.
        """
        person = self.student(student, known.pop("canvas_id", ""))
        moment = known.pop("handed_in", None)
        moment = moment.astimezone(UTC).isoformat(timespec="seconds") if isinstance(moment, datetime) else ""
        key, content = digest(lesson, notebook), sha256 if len(sha256) == 64 else digest(sha256)
        entry = self.session.scalars(select(Entry).filter_by(student_id=person.id, key=key)).one_or_none()
        if entry is not None and (entry.sha256, entry.questions_count) != (content, questions_count):
            self.session.delete(entry)
            self.session.flush()
            entry = None
        if entry is None:
            entry = Entry(
                person=person,
                key=key,
                lesson=text(lesson),
                notebook=text(notebook),
                sha256=content,
                questions_count=questions_count,
                handed_in=moment,
                **known,
            )
            self.session.add(entry)
        else:
            entry.handed_in = min(filter(None, (entry.handed_in, moment)), default="")
        self.session.commit()
        return entry

    def add(self, entry: Entry, *verdicts: Verdict) -> None:
        """Commit verdicts."""
        for verdict in verdicts:
            for name in ("detail", "mistake", "parts_wrong", "call", "expected", "got"):
                setattr(verdict, name, text(getattr(verdict, name) or ""))
            entry.verdicts.append(verdict)
        self.session.commit()

    def finish(self, entry: Entry, status: str, max_points: float) -> None:
        """Commit the sum of the verdicts and the status: the hand-in is graded."""
        entry.points = round(sum(verdict.points for verdict in entry.verdicts), 2)
        entry.max_points = max_points
        entry.seconds = sum(verdict.seconds for verdict in entry.verdicts)
        entry.status = text(status)
        self.session.commit()

    def keep_only(self, notebooks: set[tuple[str, str]], source: str = "") -> None:
        """Drop what was handed in before, but no longer: (student, notebook) missing from the same source, and other
        hand-ins of a student for a lesson that is handed in again. What came from elsewhere stays."""
        wanted = {(text(student), text(notebook)) for student, notebook in notebooks}
        entries = list(self.session.scalars(select(Entry).options(selectinload(Entry.person))))
        again = {(entry.student, entry.lesson) for entry in entries if (entry.student, entry.notebook) in wanted}
        for entry in entries:
            here = entry.source == source or (entry.student, entry.lesson) in again
            if here and (entry.student, entry.notebook) not in wanted:
                self.session.delete(entry)
        self.session.commit()

    def rows(self) -> list[GradebookRow]:
        """A row for every student and lesson, in that order."""
        return [
            GradebookRow(item.student, item.lesson, item.points, item.max_points, item.status)
            for item in self.entries()
        ]

    def entries(self) -> list[Entry]:
        """Everything handed in, with its verdicts, by student and lesson."""
        verdicts = selectinload(Entry.verdicts).selectinload(Verdict.model)
        query = select(Entry).options(verdicts, selectinload(Entry.person))
        return sorted(self.session.scalars(query), key=lambda entry: (entry.student, entry.lesson, entry.notebook))

    def overrides(self) -> list[Override]:
        """Every override, oldest first."""
        return list(self.session.scalars(select(Override).options(selectinload(Override.person)).order_by(Override.id)))

    def override(self, student: str, lesson: str, item: str, points: float | None, comment: str) -> None:
        """Give points in the machine's place, or take that back with points=None."""
        person = self.student(student)
        where = {"student_id": person.id, "lesson": lesson, "item": item}
        old_override = self.session.scalars(select(Override).filter_by(**where)).one_or_none()
        if old_override is not None:
            self.session.delete(old_override)
            self.session.flush()
        if points is not None:
            timestamp = datetime.now(UTC).isoformat(timespec="seconds")
            self.session.add(Override(**where, points=points, comment=text(comment), made=timestamp))
        self.session.commit()

    def close(self) -> None:
        """Let go of the database."""
        self.session.close()
        self.engine.dispose()


def _careful(connection, _record) -> None:
    """Write ahead, so that a kill in mid-write leaves the last commit whole, and let another reader wait."""
    connection.execute("PRAGMA busy_timeout=10000")
    connection.execute("PRAGMA journal_mode=WAL")
    # A commit outlives this process however that ends; only a power cut may take the last ones, and leaves the rest.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
