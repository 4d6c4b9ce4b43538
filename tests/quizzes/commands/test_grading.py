"""The commands for a class, from hand-ins to what others read: grade, report, export, override."""

import csv
import io
import sys
import zipfile

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from quizzes import lesson
from quizzes.commands import grading, main
from quizzes.grading.intake.names import folder_name
from tests.quizzes.grading.class_of_tests import data
from tests.quizzes.grading.graded_class import LESSON, small_class

run = CliRunner()
FIRST = next(iter(lesson(LESSON).questions.values()))


def course(*arguments) -> str:
    """What a command that must succeed prints."""
    result = run.invoke(main.app, [str(item) for item in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refusal(monkeypatch, capsys, *arguments) -> str:
    """What a command that must fail says; always one line."""
    monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main.main()
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def read(path) -> dict[tuple[str, str], dict]:
    """grades.csv by student and lesson."""
    with open(path, newline="", encoding="utf-8") as file:
        return {(row["student"], row["lesson"]): row for row in csv.DictReader(file)}


def download(path, names: dict[str, str]) -> None:
    """A zip as Canvas gives it; each notebook answers the first question with a letter, so nothing has to run."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, letter in names.items():
            archive.writestr(name, data(f'quiz.ask("{FIRST.id}", answer="{letter}")', lesson=LESSON))


@pytest.fixture
def out(tmp_path):
    """An output folder with a small class in it."""
    small_class(tmp_path / "out").close()
    return tmp_path / "out"


@pytest.mark.parametrize("command", ["report", "export", "override"])
def test_every_command_has_help(command):
    assert "Usage" in course(command, "--help")
    assert command in course("--help")


def test_a_download_becomes_grades_pages_and_a_report(tmp_path):
    wrong = next(letter for letter in FIRST.choices if letter != FIRST.right)
    download(tmp_path / "class.zip", {"leeann_11_1_03_x.ipynb": FIRST.right, "raybob_LATE_12_2_03_x.ipynb": wrong})
    (tmp_path / "class.toml").write_text(
        "deadline = 2026-11-20\nlate = { per_day = 50 }\n[lessons.03]\npoints = 100\n"
        "[[students]]\nname = 'Ann Lee'\nid = 11\n[[students]]\nname = 'Dee'\n"
    )
    out = tmp_path / "out"
    options = ["--out", out, "--unsafe-no-sandbox", "--class", tmp_path / "class.toml"]
    said = course("grade", tmp_path / "class.zip", *options)
    assert f"Ann Lee  03  1 of {lesson(LESSON).max_points}  graded" in said
    rows = read(out / "grades.csv")
    assert set(rows) == {("Ann Lee", "03"), ("raybob_12", "03"), ("Dee", "03")}
    assert float(rows["Ann Lee", "03"]["points"]) == round(100 / lesson(LESSON).max_points, 2)
    assert rows["raybob_12", "03"]["status"] == "graded; 1 day late, 50% off"
    assert rows["Dee", "03"]["status"] == "nothing handed in"
    assert (out / "feedback/Ann Lee/03.html").is_file()
    assert (out / "feedback/raybob_12/03.html").is_file()
    assert "Dee" in (out / "report.html").read_text(encoding="utf-8")
    # Another week, another download: what is there already stays, and a class file is kept.
    download(tmp_path / "next.zip", {"leeann_11_3_03_x.ipynb": wrong})
    course("grade", tmp_path / "next.zip", "--out", out, "--unsafe-no-sandbox", "--resume")
    rows = read(out / "grades.csv")
    assert set(rows) == {("Ann Lee", "03"), ("raybob_12", "03"), ("Dee", "03")}
    assert rows["Ann Lee", "03"]["points"] == "0"


def test_a_roster_may_come_after_the_grading(tmp_path):
    download(tmp_path / "class.zip", {f"{name}_03_x.ipynb": FIRST.right for name in ("leeann_11_1", "raybob_12_2")})
    out = tmp_path / "out"
    course("grade", tmp_path / "class.zip", "--out", out, "--unsafe-no-sandbox")
    assert set(read(out / "grades.csv")) == {("leeann_11", "03"), ("raybob_12", "03")}
    (tmp_path / "roster.csv").write_text('Student,ID\n"Lee, Ann",11\nDee,\n')
    said = course("export", out, "--to", "canvas", "--class", tmp_path / "roster.csv")
    assert "left out, because canvas would not know them: Dee" in said
    with open(out / "canvas.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[2:]
    assert [(name, id, points) for name, id, *_, points in rows] == [("Lee, Ann", "11", "1"), ("raybob_12", "12", "1")]
    course("report", out)
    rows = read(out / "grades.csv")
    assert set(rows) == {("Lee, Ann", "03"), ("raybob_12", "03"), ("Dee", "03")}
    assert (rows["Lee, Ann", "03"]["points"], rows["Dee", "03"]["status"]) == ("1", "nothing handed in")
    assert {path.name for path in (out / "feedback").iterdir()} == {folder_name("Lee, Ann"), "raybob_12"}


def test_a_gradebook_may_be_in_another_database(tmp_path, monkeypatch, capsys):
    download(tmp_path / "class.zip", {"leeann_11_1_03_x.ipynb": FIRST.right})
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    options = [tmp_path / "class.zip", "--out", tmp_path / "out", "--unsafe-no-sandbox", "--db", url]
    course("grade", *options)
    assert not (tmp_path / "out/gradebook.sqlite").exists()
    with create_engine(url).connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM verdicts WHERE points > 0")).scalar() == 1
    assert "add --resume" in refusal(monkeypatch, capsys, "grade", *options)
    assert "(as before)" in course("grade", *options, "--resume")
    assert "report.html" in course("report", tmp_path / "out", "--db", url)
    assert "canvas.csv" in course("export", tmp_path / "out", "--to", "canvas", "--db", url)
    course("override", tmp_path / "out", "leeann_11", LESSON, "lesson", 2, "--comment", "x", "--db", url)
    assert read(tmp_path / "out/grades.csv")["leeann_11", LESSON]["points"] == "2"


def test_going_on_without_a_gradebook_is_refused_and_replaces_nothing(tmp_path, monkeypatch, capsys):
    download(tmp_path / "class.zip", {"leeann_11_1_03_x.ipynb": FIRST.right})
    out, url = tmp_path / "out", f"sqlite:///{tmp_path / 'elsewhere.db'}"
    options = [tmp_path / "class.zip", "--unsafe-no-sandbox", "--resume", "--out"]
    course("grade", tmp_path / "class.zip", "--unsafe-no-sandbox", "--out", out, "--db", url)
    course("override", out, "leeann_11", LESSON, "lesson", 2, "--comment", "x", "--db", url)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    forgotten = refusal(monkeypatch, capsys, "grade", *options, out)
    assert "out holds no gradebook that --resume could go on with; give the --out or the --db of the run" in forgotten
    mistyped = refusal(monkeypatch, capsys, "grade", *options, out, "--db", f"sqlite:///{tmp_path / 'elsewhere.bd'}")
    assert "the database holds nothing that --resume could go on with; give the --db of the run before" in mistyped
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert "holds no gradebook that --resume" in refusal(monkeypatch, capsys, "grade", *options, tmp_path / "uot")
    assert not (tmp_path / "uot").exists()
    assert "(as before)" in course("grade", *options, out, "--db", url)


def test_points_by_hand_are_shown_everywhere_and_can_be_taken_back(out):
    first = next(iter(lesson(LESSON).exercises))
    said = course("override", out, "Bob", LESSON, first, 0.5, "--comment", "Half of it was right.")
    assert said == f"Bob, lesson {LESSON}, {first}: 0.5 points\n"
    assert "changed by hand" in read(out / "grades.csv")["Bob", LESSON]["status"]
    assert "Half of it was right." in (out / f"feedback/Bob/{LESSON}.html").read_text(encoding="utf-8")
    assert "Half of it was right." in (out / "report.html").read_text(encoding="utf-8")
    assert "as the machine has it" in course("override", out, "Bob", LESSON, first, "--undo")
    assert "by hand" not in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("system", ["csv", "canvas", "moodle"])
def test_grades_go_to_other_systems(out, system):
    path = course("export", out, "--to", system).strip()
    with open(path, newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) >= 4


def test_who_is_left_out_is_named(out, tmp_path):
    (tmp_path / "class.csv").write_text("name,email\nAnn Lee,ann@example.org\nBob,\n")
    said = course("export", out, "--to", "moodle", "--class", tmp_path / "class.csv")
    assert "left out, because moodle would not know them: Bob, Cyd" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "{empty}"], "holds no gradebook; if it was graded with --db, give the same --db here; if"),
        (["report", "{empty}"], "nothing was graded yet, run course grade first, with --out"),
        (["export", "{empty}", "--to", "csv"], "holds no gradebook"),
        (["override", "{out}", "Nobody", LESSON, "lesson", "1", "--comment", "x"], "there is no student 'Nobody'"),
        (["override", "{out}", "Bob", LESSON, "lesson", "1"], "say why, with --comment"),
        (["override", "{out}", "Bob", LESSON, "lesson"], "give POINTS, or --undo"),
        (["report", "{out}", "--class", "{empty}/none.toml"], "none.toml: No such file"),
        (["report", "{out}", "--db", "nosuch://x"], "nosuch: cannot be used as a database"),
        (["report", "{out}", "--db", "sqlite:///{out}/other.db"], "other.db; give the --db of the grading"),
        (["grade", "{broken}", "--out", "{empty}", "--unsafe-no-sandbox"], "broken.zip is not a zip"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(out, tmp_path, monkeypatch, capsys, arguments, words):
    (tmp_path / "broken.zip").write_bytes(b"PK")
    places = {"out": str(out), "empty": str(tmp_path / "empty"), "broken": str(tmp_path / "broken.zip")}
    assert words in refusal(monkeypatch, capsys, *(item.format(**places) for item in arguments))
    assert not (out / "other.db").exists()


def test_a_class_file_that_is_wrong_changes_nothing(out, tmp_path, monkeypatch, capsys):
    (tmp_path / "class.toml").write_text("[lessons.03]\npoints = -1")
    assert "points of lesson 03" in refusal(monkeypatch, capsys, "report", out, "--class", tmp_path / "class.toml")
    assert not (out / "report.html").exists()
    gradebook = grading.opened(out, None, None)
    assert gradebook.setting("class") == ""
    gradebook.close()


def test_a_student_may_send_a_zip_in_a_zip(tmp_path):
    inner = io.BytesIO()
    download(inner, {"03_x.ipynb": FIRST.right})
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        archive.writestr("leeann_11_1_work.zip", inner.getvalue())
    course("grade", tmp_path / "class.zip", "--out", tmp_path / "out", "--unsafe-no-sandbox")
    assert read(tmp_path / "out/grades.csv")["leeann_11", LESSON]["points"] == "1"
