"""What was graded, in a database. A verdict is committed when it is formed, so a killed grader loses nothing."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from sqlalchemy import ForeignKey, UniqueConstraint, create_engine, event, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

FILE = "gradebook.sqlite"


class GradebookError(RuntimeError):
    """The gradebook cannot be used; the message says what to do."""


class Base(DeclarativeBase):
    """The tables below."""


class Setting(Base):
    """What holds for the whole gradebook, such as the secret seed of its cases."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Entry(Base):
    """One student's hand-in for one lesson. `status` stays empty until every verdict is formed."""

    __tablename__ = "submissions"
    __table_args__ = (UniqueConstraint("student", "lesson", "notebook"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    student: Mapped[str]
    lesson: Mapped[str]
    notebook: Mapped[str]
    sha256: Mapped[str]
    questions_count: Mapped[bool] = mapped_column(default=True)
    points: Mapped[float] = mapped_column(default=0.0)
    max_points: Mapped[float] = mapped_column(default=0.0)
    status: Mapped[str] = mapped_column(default="")
    seconds: Mapped[float] = mapped_column(default=0.0)
    verdicts: Mapped[list["Verdict"]] = relationship(cascade="all, delete-orphan", order_by="Verdict.id")


class Verdict(Base):
    """What one exercise or question earned, and why."""

    __tablename__ = "verdicts"
    __table_args__ = (UniqueConstraint("submission", "kind", "item"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    submission: Mapped[int] = mapped_column(ForeignKey("submissions.id"))
    kind: Mapped[str]                                            # exercise or question
    item: Mapped[str]
    points: Mapped[float]
    max_points: Mapped[float]
    status: Mapped[str]
    detail: Mapped[str] = mapped_column(default="")
    mistake: Mapped[str] = mapped_column(default="")
    groups_right: Mapped[int] = mapped_column(default=0)
    groups: Mapped[int] = mapped_column(default=0)
    seconds: Mapped[float] = mapped_column(default=0.0)


@dataclass(frozen=True)
class Row:
    """One line of grades.csv."""

    student: str
    lesson: str
    points: float
    max_points: float
    status: str


def text(value: str) -> str:
    """Text that every database and file can hold: names of files may carry bytes that are no characters."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


class Gradebook:
    """A database of hand-ins and verdicts."""

    def __init__(self, url: str):
        self.engine = create_engine(url)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _careful)
        try:
            Base.metadata.create_all(self.engine)
            self.session = Session(self.engine)
            self.seed = int(self._setting("seed", str(secrets.randbits(62))))
        except (DatabaseError, ValueError) as error:
            raise GradebookError(f"{url} is not a gradebook; move it away or choose another --out") from error

    @classmethod
    def in_folder(cls, folder: Path) -> "Gradebook":
        """The gradebook of an output folder; made when there is none, by one process at a time."""
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{FILE}.lock"):
            return cls(f"sqlite:///{folder / FILE}")

    def _setting(self, name: str, first: str) -> str:
        setting = self.session.get(Setting, name)
        if setting is None:
            setting = Setting(name=name, value=first)
            self.session.add(setting)
            self.session.commit()
        return setting.value

    def open(self, student: str, lesson: str, notebook: str, sha256: str, questions_count: bool) -> Entry:
        """The entry for a hand-in: as it was left when the content is the same, else a new one in its place."""
        student, lesson, notebook = text(student), text(lesson), text(notebook)
        query = select(Entry).filter_by(student=student, lesson=lesson, notebook=notebook)
        entry = self.session.scalars(query).one_or_none()
        if entry is not None and (entry.sha256, entry.questions_count) != (sha256, questions_count):
            self.session.delete(entry)
            self.session.flush()
            entry = None
        if entry is None:
            entry = Entry(
                student=student, lesson=lesson, notebook=notebook, sha256=sha256, questions_count=questions_count
            )
            self.session.add(entry)
        self.session.commit()
        return entry

    def add(self, entry: Entry, verdict: Verdict) -> None:
        """Commit a verdict."""
        verdict.detail, verdict.mistake = text(verdict.detail), text(verdict.mistake)
        entry.verdicts.append(verdict)
        self.session.commit()

    def finish(self, entry: Entry, status: str, max_points: float) -> None:
        """Commit the sum of the verdicts and the status: the hand-in is graded."""
        entry.points = round(sum(verdict.points for verdict in entry.verdicts), 2)
        entry.max_points = max_points
        entry.seconds = sum(verdict.seconds for verdict in entry.verdicts)
        entry.status = text(status)
        self.session.commit()

    def keep_only(self, notebooks: set[tuple[str, str]]) -> None:
        """Drop what stands for notebooks, (student, notebook), that are no longer handed in."""
        wanted = {(text(student), text(notebook)) for student, notebook in notebooks}
        for entry in self.session.scalars(select(Entry)):
            if (entry.student, entry.notebook) not in wanted:
                self.session.delete(entry)
        self.session.commit()

    def rows(self) -> list[Row]:
        """A row for every student and lesson, in that order."""
        query = select(Entry).order_by(Entry.student, Entry.lesson, Entry.notebook)
        return [
            Row(entry.student, entry.lesson, entry.points, entry.max_points, entry.status)
            for entry in self.session.scalars(query)
        ]

    def entries(self) -> list[Entry]:
        """Everything handed in, with its verdicts."""
        return list(self.session.scalars(select(Entry).order_by(Entry.student, Entry.lesson, Entry.notebook)))

    def close(self) -> None:
        """Let go of the database."""
        self.session.close()
        self.engine.dispose()


def _careful(connection, _record) -> None:
    """Write ahead, so that a kill in mid-write leaves the last commit whole, and let another reader wait."""
    connection.execute("PRAGMA busy_timeout=10000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")
