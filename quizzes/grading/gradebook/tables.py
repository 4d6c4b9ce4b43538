"""The tables of a gradebook, for any database that SQLAlchemy knows.

Lengths are bounded, and what must be unique is compared by hash, because databases differ in how they compare text.
"""

from sqlalchemy import Double, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Key, Word, Number = String(64), String(200), Double()
Long = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")  # a roster may have more than 64 KB


class Base(DeclarativeBase):
    """The tables below."""

    type_annotation_map = {str: Text, float: Number}


class Setting(Base):
    """What holds for the whole gradebook: the secret seed of its cases, and the class file."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(Key, primary_key=True)
    value: Mapped[str] = mapped_column(Long)


class Student(Base):
    """Somebody who handed something in, by the name of their folder or as the class file calls them."""

    __tablename__ = "students"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Key, unique=True)
    name: Mapped[str]
    canvas_id: Mapped[str] = mapped_column(Key, default="")


class Entry(Base):
    """One student's hand-in for one lesson. `status` stays empty until every verdict is formed."""

    __tablename__ = "submissions"
    __table_args__ = (UniqueConstraint("student_id", "key"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    student_id: Mapped[int] = mapped_column(ForeignKey("students.id"))
    key: Mapped[str] = mapped_column(Key)  # of lesson and notebook
    lesson: Mapped[str] = mapped_column(Key)
    notebook: Mapped[str]
    sha256: Mapped[str] = mapped_column(Key)
    source: Mapped[str] = mapped_column(Key, default="")  # of the folder or zip it came from
    handed_in: Mapped[str] = mapped_column(Key, default="")  # UTC, ISO 8601; empty when nobody knows
    late: Mapped[bool] = mapped_column(default=False)  # said by the system that collected it
    questions_count: Mapped[bool] = mapped_column(default=True)
    points: Mapped[float] = mapped_column(default=0.0)
    max_points: Mapped[float] = mapped_column(default=0.0)
    status: Mapped[str] = mapped_column(default="")
    seconds: Mapped[float] = mapped_column(default=0.0)
    person: Mapped[Student] = relationship()
    verdicts: Mapped[list["Verdict"]] = relationship(cascade="all, delete-orphan", order_by="Verdict.id")

    @property
    def student(self) -> str:
        """The student's name."""
        return self.person.name


class Verdict(Base):
    """What one exercise or question earned, and why; for feedback the first visible example that went wrong."""

    __tablename__ = "verdicts"
    __table_args__ = (UniqueConstraint("submission", "kind", "item"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    submission: Mapped[int] = mapped_column(ForeignKey("submissions.id"))
    kind: Mapped[str] = mapped_column(Key)  # exercise or question
    item: Mapped[str] = mapped_column(Word)
    points: Mapped[float]
    max_points: Mapped[float]
    status: Mapped[str] = mapped_column(Word)
    detail: Mapped[str] = mapped_column(default="")  # for the instructor: may tell of hidden inputs
    mistake: Mapped[str] = mapped_column(default="")
    groups_right: Mapped[int] = mapped_column(default=0)
    groups: Mapped[int] = mapped_column(default=0)
    parts_wrong: Mapped[str] = mapped_column(default="")  # names of the groups, a line each
    call: Mapped[str] = mapped_column(default="")
    expected: Mapped[str] = mapped_column(default="")
    got: Mapped[str] = mapped_column(default="")
    seconds: Mapped[float] = mapped_column(default=0.0)
    model: Mapped["Model | None"] = relationship(cascade="all, delete-orphan")


class Model(Base):
    """What was measured of a model that was handed in, see hand_ins.Measured; few verdicts have one."""

    __tablename__ = "models"
    verdict: Mapped[int] = mapped_column(ForeignKey("verdicts.id"), primary_key=True)
    bytes: Mapped[int]
    quality: Mapped[float]
    low: Mapped[float]
    high: Mapped[float]
    teacher: Mapped[float]
    kept: Mapped[float]
    throughput: Mapped[float]


class Override(Base):
    """Points that a person gave in the machine's place, and why. It stands whatever is graded again."""

    __tablename__ = "overrides"
    __table_args__ = (UniqueConstraint("student_id", "lesson", "item"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    student_id: Mapped[int] = mapped_column(ForeignKey("students.id"))
    lesson: Mapped[str] = mapped_column(Key)
    item: Mapped[str] = mapped_column(Word)
    points: Mapped[float]
    comment: Mapped[str]
    made: Mapped[str] = mapped_column(Key)
    person: Mapped[Student] = relationship()
