"""Models that a class hands in: found beside the notebook, graded once, shown on the pages and on the leaderboard."""

import io
import json
import zipfile

import pytest
from typer.testing import CliRunner

from quizzes import lesson, progress
from quizzes.commands import main
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.grades import grades
from quizzes.grading.intake import layouts
from quizzes.grading.intake.hand_in import hand_ins
from quizzes.grading.judging import folder
from quizzes.grading.judging.grader import Grader
from quizzes.grading.reports.leaderboard import boards
from quizzes.grading.reports.publish import publish
from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.models import tasks
from tests.quizzes import onnx_models
from tests.quizzes.grading.class_of_models import LESSON, RIGHT, ROWS, good, install, student
from tests.quizzes.grading.class_of_tests import data, write

run = CliRunner()
LIMITS = SandboxLimits(cpu_seconds=0.2, wall_seconds=4)


@pytest.fixture(autouse=True)
def lesson_98(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    install(monkeypatch, tmp_path / "bank")


def graded(place, out, sandbox, texts=()) -> tuple[Gradebook, list[str]]:
    """The gradebook after a run, and who was graded anew."""
    gradebook, fresh = Gradebook.in_folder(out), []
    grader = Grader(gradebook.seed, sandbox, LIMITS, texts=texts)
    folder.grade(place, gradebook, grader, lambda entry, new: fresh.append(entry.student) if new else None)
    return gradebook, fresh


def verdicts(gradebook) -> dict[str, tuple]:
    """By student: the hand-in's status and points, and the lesson's points."""
    return {
        entry.student: next(
            (item.status, item.points, entry.points) for item in entry.verdicts if item.item == "topics_model"
        )
        for entry in gradebook.entries()
    }


@pytest.mark.needs("bwrap")
def test_a_class_is_graded_and_a_bad_model_costs_only_its_own_points(walls, tmp_path):
    place = tmp_path / "class"
    knows_nothing = onnx_models.classifier().SerializeToString()
    for name, model in (
        ("ann", good()),
        ("bob", good(200_000)),
        ("cyd", onnx_models.endless()),
        ("dan", None),
        ("eve", onnx_models.bad("external_data")),
        ("fay", knows_nothing),
        ("gus", None),
    ):
        student(place, name, model)
    (place / "gus" / "18_topics.onnx").symlink_to(place / "ann" / "18_topics.onnx")
    gradebook, _ = graded(place, tmp_path / "out", walls)
    assert verdicts(gradebook) == {
        "ann": ("gold", 6, 9),
        "bob": ("bronze", 3, 6),
        "cyd": ("ran out of time", 0, 3),
        "dan": ("not attempted", 0, 3),
        "eve": ("refused", 0, 3),
        "fay": ("no tier", 0, 3),
        "gus": ("refused", 0, 3),
    }
    statuses = {entry.student: entry.status for entry in gradebook.entries()}
    assert statuses["ann"] == "graded; topics_model gold"
    assert statuses["dan"] == "graded"
    gradebook.close()


def test_resume_grades_anew_what_changed_and_nothing_else(plain, tmp_path):
    place = tmp_path / "class"
    for name in ("ann", "bob"):
        student(place, name, good())
    assert graded(place, tmp_path / "out", plain)[1] == ["ann", "bob"]
    assert graded(place, tmp_path / "out", plain)[1] == []
    student(place, "bob", good(200_000))
    gradebook, fresh = graded(place, tmp_path / "out", plain)
    assert fresh == ["bob"]
    assert verdicts(gradebook)["bob"] == ("bronze", 3, 6)
    # Other texts to judge on make another verdict of every model.
    assert graded(place, tmp_path / "out", plain, tuple(ROWS[:3]))[1] == ["ann", "bob"]


def test_a_verdict_that_was_committed_is_not_formed_again(plain, tmp_path, monkeypatch):
    """As after a kill between two verdicts."""
    student(tmp_path / "class", "ann", good())
    gradebook, _ = graded(tmp_path / "class", tmp_path / "out", plain)
    entry = gradebook.entries()[0]
    entry.verdicts = [item for item in entry.verdicts if item.item != "twice"]
    entry.status = ""
    gradebook.session.commit()
    gradebook.close()
    monkeypatch.setattr("quizzes.grading.judging.model_judge.ModelJudge.judge", lambda *_: pytest.fail("judged again"))
    again, fresh = graded(tmp_path / "class", tmp_path / "out", plain)
    assert fresh == ["ann"]
    assert verdicts(again)["ann"] == ("gold", 6, 9)
    assert [item.model.bytes for item in again.entries()[0].verdicts if item.model] == [len(good())]


# Where models lie.


def models_of(root, **options) -> dict[str, dict]:
    found = layouts.students(root, **options)
    return {name: hand_ins(name, files)[0].submission.models for name, files in found.items()}


def test_a_model_is_found_wherever_its_notebook_came_from(tmp_path):
    student(tmp_path / "plain", "ann", b"1")
    student(tmp_path / "numbered", "ann", b"2", "18_topics (1).onnx")
    student(tmp_path / "nbgrader" / "submitted" / "ann", "98_models", b"3", "18_Topics.ONNX")
    write(tmp_path / "deep/ann/course/98_models.ipynb", RIGHT, lesson=LESSON)
    (tmp_path / "deep/ann/18_topics.onnx").write_bytes(b"4")
    (tmp_path / "canvas").mkdir()
    for name, content in (("98_models.ipynb", data(RIGHT, lesson=LESSON)), ("18_topics-2.onnx", b"5")):
        (tmp_path / "canvas" / f"leeann_4711_815_{name}").write_bytes(content)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("mine/98_models.ipynb", data(RIGHT, lesson=LESSON))
        archive.writestr("mine/18_topics.onnx", b"6")
        archive.writestr("mine/other.onnx", b"7")
    (tmp_path / "zipped/ann").mkdir(parents=True)
    (tmp_path / "zipped/ann/mine.zip").write_bytes(packed.getvalue())
    found = {
        path.name: next(iter(models_of(path).values()))
        for path in tmp_path.iterdir()
        if path.name not in ("bank", "cache", "course-data")
    }
    assert found == {
        name: {"18_topics.onnx": content}
        for name, content in (
            ("plain", b"1"),
            ("numbered", b"2"),
            ("nbgrader", b"3"),
            ("deep", b"4"),
            ("canvas", b"5"),
            ("zipped", b"6"),
        )
    }


def test_of_several_the_one_beside_the_notebook_counts_then_the_shortest_name(tmp_path):
    place = tmp_path / "class"
    student(place, "ann", b"copy", "18_topics (1).onnx")
    (place / "ann/old").mkdir()
    (place / "ann/old/18_topics.onnx").write_bytes(b"old")
    assert models_of(place)["ann"] == {"18_topics.onnx": b"copy"}
    student(place, "ann", b"right")
    assert models_of(place)["ann"] == {"18_topics.onnx": b"right"}


OTHERS = ("18_topics.onnx.zip", "topics.onnx", "18_topics_final.onnx", "118_topics.onnx", "18_topics.pkl")


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_not_models(name, tmp_path):
    student(tmp_path, "ann", b"x", name)
    assert not any(
        hand_in.submission and hand_in.submission.models
        for hand_in in hand_ins("ann", layouts.students(tmp_path)["ann"])
    )


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    (tmp_path / "class/ann").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "class/ann/mine.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("98_models.ipynb", data(RIGHT, lesson=LESSON))
        archive.writestr("18_topics.onnx", bytes(60 * 2**20))
    assert (tmp_path / "class/ann/mine.zip").stat().st_size < 10**5
    assert models_of(tmp_path / "class")["ann"] == {"18_topics.onnx": "has more than 50 MB; at most that much is read"}


def test_a_model_without_a_notebook_is_named(tmp_path):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/18_topics.onnx").write_bytes(b"x")
    assert hand_ins("ann", layouts.students(tmp_path)["ann"])[0].problem == (
        "no notebook handed in; there is 18_topics.onnx"
    )


# What people read.


@pytest.fixture
def published(plain, tmp_path):
    """Ann and Abe have the same model, Bob a larger one, Cyd a bad one."""
    place = tmp_path / "class"
    for name, model in (("ann", good()), ("abe", good()), ("bob", good(200_000)), ("cyd", onnx_models.bad("pickle"))):
        student(place, name, model)
    gradebook, _ = graded(place, tmp_path / "out", plain)
    publish(gradebook, tmp_path / "out")
    yield gradebook, tmp_path / "out"
    gradebook.close()


def test_the_feedback_page_shows_tier_bytes_quality_and_throughput(published):
    _, out = published
    ann, bob, cyd = ((out / f"feedback/{name}/98.html").read_text() for name in ("ann", "bob", "cyd"))
    assert f"<dt>Bytes</dt><dd>{len(good()):,}</dd>" in ann
    assert "<dt>Quality</dt><dd>100.0%, 95 % interval from 100.0% to 100.0%</dd>" in ann
    assert "100.0% of the teacher&#39;s accuracy" in ann
    assert "a second, batches of 32, one thread; shown, not graded" in ann
    assert '<span class="mark">Gold</span>, 6 of 6' in ann
    assert '<span class="mark">Bronze</span>, 3 of 6' in bob
    size = len(good(200_000))
    assert f"<dt>For gold</dt><dd>{size:,} bytes are {size - 700_000:,} too many</dd>" in bob
    assert "The model was not run. (is a pickle, which could hold code" in cyd
    assert "<dt>Gold</dt><dd>at most 700,000 bytes, at least 90.0% of the teacher&#39;s accuracy; points: 6</dd>" in cyd
    for page in (ann, bob, cyd):
        assert not any(row.text.split()[1] in page for row in ROWS)


def test_what_a_model_says_of_hidden_data_is_not_shown(plain, tmp_path, monkeypatch):
    student(tmp_path / "class", "ann", onnx_models.bad("small_vocabulary_for_rare_words"))
    monkeypatch.setattr(
        tasks.TopicModels,
        "sample",
        lambda self: {name: onnx_models.numpy.ones((2, 3), int) for name in ("input_ids", "attention_mask")},
    )
    gradebook, _ = graded(tmp_path / "class", tmp_path / "out", plain)
    publish(gradebook, tmp_path / "out")
    assert "out of data bounds" in gradebook.entries()[0].verdicts[0].detail + gradebook.entries()[0].verdicts[1].detail
    assert "out of data bounds" not in (tmp_path / "out/feedback/ann/98.html").read_text()


def test_the_leaderboard_ranks_by_tier_then_bytes_and_equals_share_a_place(published):
    gradebook, out = published
    (board,) = boards(gradebook)
    assert [row.cells[:4] for row in board.rows] == [
        ("1", "abe", "gold", f"{len(good()):,}"),
        ("1", "ann", "gold", f"{len(good()):,}"),
        ("3", "bob", "bronze", f"{len(good(200_000)):,}"),
    ]
    page, report = (out / "leaderboard.html").read_text(), (out / "report.html").read_text()
    for shown in (page, report):
        assert shown.index("abe") < shown.index("ann") < shown.index("bob")
        assert f'<td class="n">{len(good()):,}</td>' in shown
    assert "cyd" not in page
    assert 'href="leaderboard.html"' in report
    assert "gold: 2" not in report  # a tier is nothing that went wrong
    assert "refused: 1" in report
    shown = run.invoke(main.app, ["leaderboard", str(out)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.index("abe") < shown.output.index("bob")
    assert "leaderboard.html" in shown.output


def test_without_models_there_is_no_leaderboard(plain, tmp_path):
    student(tmp_path / "class", "dan")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/leaderboard.html").write_text("of last year")
    gradebook, _ = graded(tmp_path / "class", tmp_path / "out", plain)
    publish(gradebook, tmp_path / "out")
    assert not (tmp_path / "out/leaderboard.html").exists()
    assert "Leaderboard" not in (tmp_path / "out/report.html").read_text()
    refused = run.invoke(main.app, ["leaderboard", str(tmp_path / "out")])
    assert isinstance(refused.exception, ValueError) and "no model that could be judged" in str(refused.exception)


def test_a_person_can_give_points_for_a_hand_in(published):
    _, out = published
    command = ["override", str(out), "cyd", LESSON, "topics_model", "4", "--comment", "shown in class"]
    assert run.invoke(main.app, command).exit_code == 0
    again = Gradebook.in_folder(out)
    assert next(grade.points for grade in grades(again) if grade.student == "cyd") == 7
    again.close()


# One's own model.


def test_check_judges_the_model_beside_the_notebook(tmp_path, monkeypatch, plain):
    monkeypatch.setattr("quizzes.grading.sandbox.bubblewrap.Best", lambda: plain)
    right = run.invoke(main.app, ["check", str(student(tmp_path, "ann", good()))])
    assert right.exit_code == 0, right.output
    assert "topics_model: gold" in right.output and "Kept: 100.0% of the teacher's accuracy" in right.output
    missing = run.invoke(main.app, ["check", str(student(tmp_path, "bob"))])
    assert missing.exit_code == 1 and "not attempted" in missing.output
    refused = run.invoke(main.app, ["check", str(student(tmp_path, "cyd", onnx_models.bad("other_domain")))])
    assert refused.exit_code == 1 and "only standard operators are run" in refused.output


def test_a_notebook_judges_its_own_file_and_keeps_the_points(tmp_path):
    quiz = lesson(LESSON)
    assert quiz.max_points == 9
    nothing = quiz.hand_in("topics_model", folder=str(tmp_path))
    assert "not attempted yet. There is no 18_topics.onnx" in repr(nothing) and nothing.points == 0
    assert "Gold: at most 700,000 bytes" in repr(nothing)
    assert progress.earned(LESSON) == {}
    (tmp_path / "18_topics.onnx").write_bytes(good(200_000))
    found = quiz.hand_in("topics_model", folder=str(tmp_path))
    assert (found.tier.name, found.points, found.quality.value) == ("bronze", 3, 1.0)
    assert "topics_model: bronze, 3 of 6 points, on public data." in repr(found)
    assert "For gold" in found._repr_html_() and "<script" not in found._repr_html_()
    assert progress.earned(LESSON) == {"topics_model": 3}
    assert "topics_model" in repr(quiz.progress()) and "Fewer pieces." in repr(quiz.hint("topics_model"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (onnx_models.bad("own_function"), "not judged. The model holds functions of its own"),
        (onnx_models.bad("not_numbers"), "not judged. It cannot be run: some logits are not finite numbers"),
        (bytes(32 * 2**20 + 1), "18_topics.onnx is too large: 33,554,432 bytes at most."),
    ],
)
def test_what_cannot_be_judged_says_why(tmp_path, content, words):
    (tmp_path / "18_topics.onnx").write_bytes(content)
    assert words in repr(lesson(LESSON).hand_in("topics_model", folder=str(tmp_path)))


def test_a_hand_in_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="lesson 98 has no hand-in 'poems'; it has topics_model"):
        lesson(LESSON).hand_in("poems")


def test_the_notebook_and_the_grader_give_one_verdict(tmp_path, plain):
    """The same file, on the same rows."""
    student(tmp_path / "class", "ann", good())
    gradebook, _ = graded(tmp_path / "class", tmp_path / "out", plain)
    theirs = next(item.model for item in gradebook.entries()[0].verdicts if item.model)
    mine = lesson(LESSON).hand_in("topics_model", folder=str(tmp_path / "class/ann")).measured
    assert (mine.bytes, mine.quality, mine.low, mine.high, mine.kept) == (
        theirs.bytes,
        theirs.quality,
        theirs.low,
        theirs.high,
        theirs.kept,
    )


def test_texts_of_the_instructor_take_the_place_of_the_honour_split(tmp_path):
    for topic, text in (
        ("sport", "The striker scored twice in the final match."),
        ("business", "Shares fell sharply on the stock market today."),
    ):
        (tmp_path / "texts" / topic).mkdir(parents=True)
        (tmp_path / "texts" / topic / "one.txt").write_text(text)
    student(tmp_path / "class", "ann", good())
    command = ["grade", str(tmp_path / "class"), "--out", str(tmp_path / "out"), "--unsafe-no-sandbox", "--texts"]
    found = run.invoke(main.app, [*command, str(tmp_path / "texts")])
    assert found.exit_code == 0, found.output
    gradebook = Gradebook.in_folder(tmp_path / "out")
    model = next(item.model for item in gradebook.entries()[0].verdicts if item.model)
    assert model.quality == 1.0
    gradebook.close()
    assert json.loads(json.dumps(found.output)).count("topics_model gold") == 1
    refused = run.invoke(main.app, [*command, str(tmp_path / "nothing"), "--resume"])
    assert "is not a folder; give one that holds a folder for each topic" in str(refused.exception)
