"""The gradebook in other databases, the class file, overrides, and the grades that come of them."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_mock_engine
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateTable

from quizzes import lesson
from quizzes.exercises.hand_ins import MeasuredModel
from quizzes.grading.gradebook import class_file as classfile
from quizzes.grading.gradebook.class_file import ClassFile, ClassFileError, Late, Person, Rule
from quizzes.grading.gradebook.gradebook import FILE, Gradebook, GradebookError
from quizzes.grading.gradebook.grades import MISSING, grades
from quizzes.grading.gradebook.tables import Base
from quizzes.grading.intake.names import Place
from quizzes.grading.judging.grader import Judgement
from quizzes.grading.judging.verdicts import verdict_of
from quizzes.grading.reports import class_page, leaderboard, publish
from tests.quizzes.grading.graded_class import LESSON, hand_in, right, small_class

MOST = lesson(LESSON).max_points
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def book(tmp_path):
    gradebook = Gradebook(f"sqlite:///{tmp_path / 'book.db'}")
    yield gradebook
    gradebook.close()


def of(gradebook, student: str, number: str = LESSON):
    """Somebody's grade."""
    return next(item for item in grades(gradebook) if (item.student, item.lesson) == (student, number))


def everything(name: str = "first") -> list:
    """Verdicts that earn the points of one exercise."""
    return [right(list(lesson(LESSON).exercises)[0])]


# Any database.


@pytest.mark.parametrize("dialect", [postgresql.dialect(), mysql.dialect()], ids=["PostgreSQL", "MySQL"])
def test_the_tables_fit_other_databases(dialect):
    statements = [str(CreateTable(table).compile(dialect=dialect)) for table in Base.metadata.sorted_tables]
    assert len(statements) == 6
    assert not [line for line in statements if "TEXT(" in line]  # PostgreSQL takes no length there
    for table in Base.metadata.sorted_tables:
        for column in [*table.primary_key, *(column for index in table.constraints for column in index.columns)]:
            assert getattr(column.type, "length", 0) is not None, f"{table.name}.{column.name} cannot be an index"
    keys = [
        sum(4 * (getattr(column.type, "length", 0) or 2) for column in index.columns)
        for table in Base.metadata.sorted_tables
        for index in table.constraints
    ]
    assert max(keys) <= 3072  # what MySQL takes in one index, in bytes of utf8mb4


def test_the_tables_hold_no_words_of_one_database():
    said = []
    engine = create_mock_engine("sqlite://", lambda statement, *_, **__: said.append(str(statement)))
    Base.metadata.create_all(engine, checkfirst=False)
    assert not [line for line in said if "AUTOINCREMENT" in line or "WITHOUT ROWID" in line]


def test_what_nobody_can_reach_is_said_without_its_password(tmp_path):
    with pytest.raises(GradebookError, match="cannot be used as a database"):
        Gradebook("nosuch://x")
    with pytest.raises(GradebookError) as error:
        Gradebook(f"sqlite:///{tmp_path}/no/such/folder/x.db")
    assert "is not a gradebook" in str(error.value)
    with pytest.raises(GradebookError) as error:
        Gradebook("postgresql+nosuch://me:secret@localhost/x")
    assert "secret" not in str(error.value)


def test_a_gradebook_of_another_version_is_not_taken(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    book.keep("format", "1")
    book.close()
    with pytest.raises(GradebookError, match="another version of the course"):
        Gradebook.in_folder(tmp_path)


def test_a_gradebook_of_before_is_not_taken(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("CREATE TABLE submissions (id INTEGER PRIMARY KEY, student TEXT)")
        database.execute("CREATE TABLE settings (name VARCHAR PRIMARY KEY, value VARCHAR)")
        database.execute("INSERT INTO settings VALUES ('seed', '5')")
    with pytest.raises(GradebookError, match="another version|is not a gradebook"):
        Gradebook.in_folder(tmp_path)


def test_text_of_any_kind_is_kept(book):
    name, notebook = "Zoë 🙂 \ud800 \0", "x" * 20_000
    entry = book.open(name, LESSON, notebook, "status", True, canvas_id="5")
    book.finish(entry, "y" * 40_000 + "\0", 3.0)
    assert book.open(name, LESSON, notebook, "status", True) is entry
    assert book.rows()[0].student == "Zoë 🙂 \\ud800 \\0"


def test_people_who_differ_in_case_and_accents_are_two(book):
    for name in ("ann", "Ann", "änn", "ann "):
        book.finish(book.open(name, LESSON, "x", "0" * 64, True), "graded", 1.0)
    assert len(book.rows()) == 4


def test_the_same_content_never_becomes_later(book):
    entry = book.open("ann", LESSON, "x", "0" * 64, True, handed_in=NOON)
    assert book.open("ann", LESSON, "x", "0" * 64, True, handed_in=NOON + timedelta(days=9)) is entry
    assert entry.handed_in == "2026-11-20T12:00:00+00:00"
    again = book.open("ann", LESSON, "x", "1" * 64, True, handed_in=NOON + timedelta(days=9))
    assert again.handed_in == "2026-11-29T12:00:00+00:00"


def test_what_was_handed_in_elsewhere_stays_unless_it_is_handed_in_again(book):
    for student, number, notebook, source in [
        ("ann", "03", "old", "a"),
        ("ann", "04", "other", "b"),
        ("bob", "03", "gone", "a"),
        ("ann", "03", "new", "b"),
    ]:
        book.finish(book.open(student, number, notebook, "0" * 64, True, source=source), "graded", 1.0)
    book.keep_only({("ann", "new"), ("ann", "other")}, "b")
    assert [item.notebook for item in book.entries()] == ["new", "other", "gone"]
    book.keep_only({("ann", "new")}, "b")
    assert [item.notebook for item in book.entries()] == ["new", "gone"]


# Verdicts.


def test_a_verdict_keeps_counts_and_the_first_visible_example(tmp_path):
    book = small_class(tmp_path)
    verdicts = {item.item: item for entry in book.entries() if entry.student == "Bob" for item in entry.verdicts}
    first, second, *_ = lesson(LESSON).exercises.values()
    known = verdicts[first.name]
    assert known.mistake == first.mistakes[0].text
    assert (known.groups_right, known.groups) == (0, 5)
    assert known.call.startswith(f"{first.name}(tensor(")
    assert known.expected.startswith("tensor(")
    assert "entries differ" in known.got
    assert verdicts[second.name].got == "raised: AttributeError: 'Tensor' object has no attribute 'nothing'"
    assert len(known.parts_wrong.splitlines()) == 5
    book.close()


# The class file.


TOML = """
deadline = 2026-11-20T10:00:00Z
late = { grace_minutes = 60, per_day = 10, at_most = 50 }
[lessons.03]
points = 10
column = "Soft labels (815)"
[lessons.04]
deadline = 2026-12-01
[lessons.00]
counts = false
[[students]]
name = "Ann Lee"
id = 4711
email = "ann@example.org"
[[students]]
name = "Bob"
extra_days = 1.5
"""


def class_file(tmp_path, text: str, name: str = "class.toml") -> ClassFile:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return classfile.read(path)


def test_a_class_file_is_read_and_kept(tmp_path):
    group = class_file(tmp_path, TOML)
    assert classfile.loads(group.dumps()) == group
    assert classfile.loads("") == ClassFile()
    assert group.students == (Person("Ann Lee", id="4711", email="ann@example.org"), Person("Bob", extra_days=1.5))
    assert group.late == Late(60, 10, 50)
    assert group.rule("03") == Rule(10.0, column="Soft labels (815)")
    assert not group.rule("00").counts
    assert not group.rule("01").counts  # the file names lessons, and this is none of them
    assert ClassFile().rule("01").counts
    assert group.due("03") == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert (group.due("04").hour, group.due("04").minute) == (23, 59)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "the file has 'x'; it can have students, lessons, deadline, late"),
        ("[lessons.77]", "lessons has '77'; it can have 00, 01"),
        ("[lessons.03]\npoint = 3", "lesson 03 has 'point'; it can have points"),
        ("[lessons.03]\npoints = -3", "must be a number of 0 or more, not -3"),
        ("[lessons.03]\npoints = 0", "counts = false"),
        ("lessons = 3", "must be a table"),
        ("late = { per_day = nan }", "must be a number"),
        ("deadline = 'tomorrow'", "without quotes"),
        ("[[students]]\nid = 3", "a student has no name"),
        ("[[students]]\nname = 'A'\n[[students]]\nname = 'A'", "'A' is there twice"),
        ("[[students]", "class.toml: "),
    ],
)
def test_a_class_file_that_cannot_be_used_says_why(tmp_path, text, words):
    with pytest.raises(ClassFileError) as error:
        class_file(tmp_path, text)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "name,email,ID\nAnn Lee,ann@example.org,7\n",
        "\ufeffStudent;ID;SIS User ID;SIS Login ID;Section\n    Points Possible;;;;\nAnn Lee;7;;;\n"
        '"Student, Test";9;;;\n',
        "First name\tSurname\tID number\tEmail address\nAnn\tLee\t7\tann@example.org\n",
    ],
    ids=["plain", "Canvas", "Moodle"],
)
def test_a_roster_may_be_a_csv(tmp_path, text):
    group = class_file(tmp_path, text, "class.csv")
    assert [person.name for person in group.students] == ["Ann Lee"]
    assert "7" in (group.students[0].id, group.students[0].number)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "name,extra days\nAnn,many\n"])
def test_a_csv_that_is_no_roster_says_so(tmp_path, text):
    with pytest.raises(ClassFileError, match="class.csv: "):
        class_file(tmp_path, text, "class.csv")


@pytest.mark.parametrize("written", ["Ann Lee", "ann lee", "Lee, Ann", "leeann", "ANN-LEE", "ann@example.org", "ann"])
def test_people_are_found_by_any_of_their_names(written):
    group = ClassFile((Person("Ann Lee", email="ann@example.org"), Person("Bob")))
    assert group.name_of(Place(written, "x")) == "Ann Lee"


def test_nobody_is_found_by_a_name_that_two_have():
    group = ClassFile((Person("Ann Lee"), Person("Lee, Ann", id="7")))
    assert group.name_of(Place("annlee", "x")) == "annlee"
    assert group.name_of(Place("annlee_7", "x", canvas_id="7")) == "Lee, Ann"


# Grades.


@pytest.mark.parametrize(
    ("hours", "days", "share"), [(-5, 0, 1.0), (0.9, 0, 1.0), (1.1, 1, 0.9), (25.1, 2, 0.8), (1000, 42, 0.5)]
)
def test_lateness_costs_what_the_class_file_says(book, tmp_path, hours, days, share):
    book.keep("class", class_file(tmp_path, TOML).dumps())
    due = datetime(2026, 11, 20, 10, tzinfo=UTC)
    entry = hand_in(book, "Ann Lee", everything(), handed_in=due + timedelta(hours=hours))
    grade = of(book, "Ann Lee")
    assert grade.days_late == days
    assert grade.points == round(entry.points * 10 / MOST * share, 2)
    assert (f"{days} day" in grade.status) == bool(days)


def test_an_extension_moves_the_deadline(book, tmp_path):
    book.keep("class", class_file(tmp_path, TOML).dumps())
    for student in ("Ann Lee", "Bob"):
        hand_in(book, student, everything(), handed_in=datetime(2026, 11, 21, 12, tzinfo=UTC))
    assert (of(book, "Ann Lee").days_late, of(book, "Bob").days_late) == (2, 0)


def test_late_without_a_time_is_one_day(book, tmp_path):
    book.keep("class", class_file(tmp_path, TOML).dumps())
    hand_in(book, "Ann Lee", everything(), late=True)
    assert of(book, "Ann Lee").days_late == 1


@pytest.mark.parametrize(("extra", "days"), [(0, 1), (0.5, 1), (1, 0), (3, 0)])
def test_an_extra_day_covers_late_without_a_time(book, extra, days):
    people, due = (Person("Ann Lee", extra_days=extra),), NOON.isoformat()
    book.keep("class", ClassFile(people, deadline=due, late=Late(per_day=10)).dumps())
    hand_in(book, "Ann Lee", everything(), late=True)
    assert (of(book, "Ann Lee").days_late, of(book, "Ann Lee").penalty) == (days, days / 10)


def test_a_class_file_that_comes_after_the_grading_doubles_nobody(book, tmp_path):
    for student, id in (("leeann_4711", "4711"), ("eve_5", "5")):
        hand_in(book, student, everything(), canvas_id=id)
    hand_in(book, "bob", everything(), handed_in=datetime(2026, 11, 21, 12, tzinfo=UTC))
    book.keep("class", class_file(tmp_path, TOML).dumps())
    found = grades(book)
    assert [(item.student, item.lesson, item.missing) for item in found] == [
        ("Ann Lee", "03", False),
        ("Ann Lee", "04", True),
        ("Bob", "03", False),
        ("Bob", "04", True),
        ("eve_5", "03", False),
    ]
    assert of(book, "Bob").days_late == 0  # the extension is the person's, whatever the folder was called
    page = class_page.page(book)
    assert "Not on the roster</h2><ul><li>eve_5</li></ul>" in page
    assert "<dt>Missing</dt><dd>2 in lesson 04</dd>" in page


def test_of_one_person_under_two_names_the_latest_that_could_be_graded_counts(book, tmp_path):
    hand_in(book, "leeann_4711", everything(), canvas_id="4711")
    hand_in(book, "Lee, Ann", [])
    for name in ("ann", "Ann@example.org"):  # and two that belong to no lesson
        book.finish(book.open(name, LESSON, f"{name}/x", "x is empty", True), "x is empty", MOST)
        book.finish(book.open(name, "", f"{name}/y", "y is empty", True), "y is empty", 0)
    book.keep("class", class_file(tmp_path, TOML).dumps())
    assert [(item.student, item.lesson) for item in grades(book)][:4] == [
        ("Ann Lee", ""),
        ("Ann Lee", ""),
        ("Ann Lee", "03"),
        ("Ann Lee", "04"),
    ]
    grade = of(book, "Ann Lee")
    assert (grade.entry.student, grade.points) == ("Lee, Ann", 0)
    others = "Ann@example.org/x, ann/x, leeann_4711/03_soft_labels.ipynb"
    assert f"not counted, for the same lesson: {others}" in grade.status


def test_the_leaderboard_calls_people_as_the_class_file_does(book):
    name, measured = next(iter(lesson("18").hand_ins)), MeasuredModel(500, 0.9, 0.8, 0.95, 0.9, 1.0, 100.0)
    for student, id in (("leeann_4711", "4711"), ("Bob", "")):
        entry = book.open(student, "18", "x", "0" * 64, True, canvas_id=id)
        book.add(entry, verdict_of(Judgement("exercise", name, 4.0, 4.0, "gold", measured=measured)))
        book.finish(entry, "graded", 4.0)
    book.keep("class", ClassFile((Person("Ann Lee", id="4711"),)).dumps())
    (board,) = leaderboard.boards(book)
    assert [row.cells[1] for row in board.rows] == ["Ann Lee", "Bob"]


def test_who_is_missing_has_a_row_for_every_lesson_that_counts(book, tmp_path):
    book.keep("class", class_file(tmp_path, TOML).dumps())
    hand_in(book, "Ann Lee", everything(), handed_in=NOON)
    hand_in(book, "Eve", everything(), handed_in=NOON)
    found = {(item.student, item.lesson): item for item in grades(book)}
    assert set(found) == {("Ann Lee", "03"), ("Ann Lee", "04"), ("Bob", "03"), ("Bob", "04"), ("Eve", "03")}
    assert (found["Bob", "03"].status, found["Bob", "03"].max_points) == (MISSING, 10)
    assert found["Bob", "04"].max_points == lesson("04").max_points


def test_without_a_class_file_grades_are_as_graded(book):
    entry = hand_in(book, "Ann", everything(), handed_in=NOON, late=True)
    grade = of(book, "Ann")
    assert (grade.points, grade.max_points, grade.status) == (entry.points, MOST, "graded")


# By hand.


def test_points_by_hand_stand_beside_the_machines_and_outlive_a_regrade(tmp_path):
    book = small_class(tmp_path)
    first = list(lesson(LESSON).exercises)[0]
    before = of(book, "Bob").points
    publish.override(book, "Bob", LESSON, first, 1.0, "The idea was right.")
    publish.override(book, "Cyd", LESSON, "question 1", 1.0, "Told me in person.")
    publish.override(book, "Ann Lee", LESSON, "lesson", 3.5, "Copied <everything>.")
    assert of(book, "Bob").points == before + 1
    item = next(item for item in of(book, "Bob").items if item.name == first)
    assert (item.points, item.verdict.points, item.override.comment) == (1.0, 0.0, "The idea was right.")
    assert f"changed by hand: {first}" in of(book, "Bob").status
    assert (of(book, "Cyd").points, of(book, "Ann Lee").points) == (1, 3.5)
    again = book.open("Bob", LESSON, "Bob/03_soft_labels.ipynb", "f" * 64, True)  # handed in anew
    assert again.verdicts == []
    book.finish(again, "not attempted", MOST)
    assert of(book, "Bob").points == 1
    publish.override(book, "Ann Lee", LESSON, "lesson", None, "")
    assert of(book, "Ann Lee").points == MOST
    book.close()


def test_points_by_hand_stay_with_a_person_whose_name_a_class_file_changes(book):
    first = list(lesson(LESSON).exercises)[0]
    hand_in(book, "leeann_4711", [], canvas_id="4711")
    publish.override(book, "leeann_4711", LESSON, first, 1.0, "The idea was right.")
    book.keep("class", ClassFile((Person("Ann Lee", id="4711"), Person("Bob"))).dumps())
    assert (of(book, "Ann Lee").points, len(grades(book))) == (1, 2)
    assert '<th scope="row" class="text">Ann Lee</th>' in class_page.page(book).partition("Changed by hand")[2]
    for name, points in (("Ann Lee", 0.5), ("leeann_4711", 0.75)):  # the last word counts, under either name
        publish.override(book, name, LESSON, first, points, "Looked again.")
        assert of(book, "Ann Lee").points == points
        assert [item.points for item in book.overrides()] == [points]
    publish.override(book, "Ann Lee", LESSON, first, None, "")
    assert (of(book, "Ann Lee").points, book.overrides()) == (0, [])


def test_points_by_hand_in_a_lesson_that_nobody_was_given_are_one_persons(book):
    """They count, and make nobody else a person who handed in nothing."""
    hand_in(book, "Ann Lee", [])
    book.keep("class", ClassFile((Person("Ann Lee"), Person("Bob"))).dumps())
    publish.override(book, "Bob", "05", "lesson", 1.0, "In the oral examination.")
    in_it = {grade.student: grade.points for grade in grades(book) if grade.lesson == "05"}
    assert in_it == {"Bob": 1.0}


def test_a_name_from_before_the_class_file_has_the_same_limits(book):
    entry = book.open("leeann_4711", LESSON, "x", "0" * 64, False, canvas_id="4711")
    book.finish(entry, "not attempted", 5.0)  # graded without the questions
    book.keep("class", ClassFile((Person("Ann Lee", id="4711"),)).dumps())
    with pytest.raises(ValueError, match="it is worth from 0 to 5"):
        publish.override(book, "leeann_4711", LESSON, "lesson", 5.5, "x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Bop", LESSON, "lesson", 1.0, "x"), "there is no student 'Bop'; did you mean Bob?"),
        (("Bob", "77", "lesson", 1.0, "x"), "there is no lesson '77'"),
        (("Bob", LESSON, "nothing", 1.0, "x"), "has no 'nothing'; it has"),
        (("Bob", LESSON, "question 1", 2.0, "x"), "it is worth from 0 to 1"),
        (("Bob", LESSON, "lesson", -1.0, "x"), f"it is worth from 0 to {MOST}"),
        (("Bob", LESSON, "lesson", float("nan"), "x"), "it is worth from 0"),
        (("Bob", LESSON, "lesson", 1.0, " "), "say why, with --comment"),
    ],
)
def test_points_that_cannot_be_given_say_why(tmp_path, arguments, words):
    book = small_class(tmp_path)
    with pytest.raises((LookupError, ValueError)) as error:
        publish.override(book, *arguments)
    assert words in str(error.value)
    assert book.overrides() == []
    book.close()
