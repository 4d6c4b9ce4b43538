"""The pages that people read: what they show, what they must not, and what hostile text cannot do to them."""

import re
from html.parser import HTMLParser

import pytest
import torch

from quizzes import lesson, lessons
from quizzes.exercises import judging
from quizzes.grading.gradebook import class_file
from quizzes.grading.gradebook.class_file import ClassFile, Person, Rule
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.grades import grades
from quizzes.grading.judging.grader import Judgement
from quizzes.grading.judging.verdicts import verdict_of
from quizzes.grading.reports import class_page, feedback, publish
from quizzes.grading.reports.feedback import outline
from tests.quizzes.grading.graded_class import LESSON, answered, hand_in, judged, right, small_class

VOID = {"meta", "br", "img", "link", "input", "hr"}
SCRIPT = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"


class Page(HTMLParser):
    """Tags in order, the text, and whether every tag that opens is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.words, self.links = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        """Note a tag; nothing may load anything or run anything."""
        self.tags.append(tag)
        named = dict(attributes)
        assert not {name for name in named if name.startswith("on")}
        assert tag not in ("script", "iframe", "object", "embed", "form", "link", "img")
        assert "src" not in named
        self.links += [named["href"]] if "href" in named else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Tags close in the order in which they opened."""
        assert self.open.pop() == tag

    def handle_data(self, words):
        """The words."""
        if "style" not in self.open:
            self.words.append(words)

    @property
    def text(self) -> str:
        """All words, with single spaces."""
        return " ".join(" ".join(self.words).split())


def page_of(book, student: str) -> Page:
    """A student's page."""
    return Page(feedback.page(next(item for item in grades(book) if item.student == student)))


@pytest.fixture
def book(tmp_path):
    gradebook = small_class(tmp_path / "out")
    yield gradebook
    gradebook.close()


def test_a_page_says_what_was_earned_what_went_wrong_and_what_to_read(book):
    text = page_of(book, "Bob").text
    first, second, third, fourth = lesson(LESSON).exercises.values()
    assert f"Lesson {LESSON}: {outline(LESSON).title}" in text
    assert f"0 of {lesson(LESSON).max_points}" in text
    assert f"Recognised: {first.mistakes[0].text}" in text
    assert f"First example that went wrong {first.name}(tensor(" in text
    assert "Expected tensor(" in text
    assert "Got tensor(" in text
    assert "raised: AttributeError: 'Tensor' object has no attribute 'nothing'" in text
    assert "It took too long and was stopped." in text
    assert "Not attempted yet. (the stub is unchanged)" in text
    for exercise in (first, second, third, fourth):
        assert f"Hint: {exercise.hint}" in text
        assert f"Read again: lesson {LESSON}, section “{outline(LESSON).sections[exercise.name]}”" in text


def test_a_wrong_answer_to_a_question_is_explained_without_the_right_one(book):
    text = page_of(book, "Bob").text
    id, question = next(iter(lesson(LESSON).questions.items()))
    wrong = next(letter for letter in question.choices if letter != question.right)
    assert f"question {id} Not right , 0 of 1" in text
    assert f"{wrong}: {' '.join(question.choices[wrong].explanation.split())}" in text
    assert question.choices[question.right].explanation not in text


def test_what_is_right_needs_no_words(book):
    text = page_of(book, "Ann Lee").text
    assert "Hint" not in text
    assert "Read again" not in text
    assert text.count("Right , ") == len(lesson(LESSON).exercises) + len(lesson(LESSON).questions)


def test_what_could_not_be_graded_says_why(book):
    assert "03.ipynb is empty" in page_of(book, "Cyd").text


@pytest.mark.parametrize("number", lessons.numbers())
def test_every_exercise_of_every_lesson_stands_in_a_section(number):
    found = outline(number)
    if found.title:  # a bank whose notebook is still being written has none
        assert set(lesson(number).exercises) <= set(found.sections)


# What must stay out.


def test_hidden_inputs_and_the_reference_never_appear(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    name = list(lesson(LESSON).exercises)[0]
    exercise = lesson(LESSON).exercises[name]
    cases = exercise.draw(7)
    hidden = [case for case in cases if not case.visible]
    assert hidden

    def telling(*arguments):
        """Right on what is visible; on a hidden case it raises an error that holds the inputs, in type and message."""
        for case in cases:
            if case.visible and all(map(same, case.build(), arguments)):
                return exercise.reference(*arguments)
        secret = "SECRET" + repr(arguments)
        raise type(secret[:50], (ValueError,), {})(secret)

    judgement = judged(name, telling)
    assert "SECRET" in judgement.detail  # it is there to be shown by mistake
    hand_in(book, "Eve", [judgement])
    verdict = next(item for item in book.entries()[0].verdicts if item.item == name)
    assert (verdict.call, verdict.expected, verdict.got) == ("", "", "")
    html = feedback.page(grades(book)[0])
    assert "SECRET" not in html
    assert "It raised an exception." in html
    for case in hidden:
        for argument in case.build():
            if isinstance(argument, torch.Tensor) and argument.numel() > 1:
                number = f"{argument.flatten()[0].item():.4f}"
                assert number not in html
    assert exercise.solution().splitlines()[-1].strip() not in html
    book.close()


def same(left, right) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    return left == right


@pytest.mark.parametrize("status", ["malformed answer", "crashed", "exited", "raised", "not attempted"])
def test_the_details_of_a_case_that_nobody_may_see_are_not_shown(tmp_path, status):
    exercise = next(iter(lesson(LESSON).exercises.values()))
    cases = exercise.draw(7)
    answers = [
        judging.ask(exercise.reference, case) if case.visible else judging.Answer(None, status, "SECRET")
        for case in cases
    ]
    result = judging.judge(exercise, cases, answers)
    judgement = Judgement("exercise", exercise.name, result.points, exercise.points, status, "SECRET", result)
    book = Gradebook.in_folder(tmp_path)
    hand_in(book, "Eve", [judgement])
    assert "SECRET" not in feedback.page(grades(book)[0])
    book.close()


# Text that others chose.


def test_hostile_text_stays_text(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    name = list(lesson(LESSON).exercises)[0]

    def hostile(*arguments):
        raise ValueError(SCRIPT)

    hand_in(book, SCRIPT, [judged(name, hostile), answered("1", SCRIPT)], notebook=f"{SCRIPT}.ipynb")
    publish.override(book, SCRIPT, LESSON, name, 0.5, SCRIPT)
    book.keep("class", ClassFile((Person(f"{SCRIPT} too"),), {LESSON: Rule()}).dumps())
    for html in (feedback.page(grades(book)[0]), class_page.page(book)):
        page = Page(html)
        assert page.text.count(SCRIPT) >= 2
        assert "49" not in re.findall(r"\b49\b", page.text)
    report = publish.publish(book, tmp_path)
    for link in Page(report.read_text(encoding="utf-8")).links:
        assert ":" not in link
        assert not link.startswith("/")
    book.close()


def test_pages_stand_alone_and_fit_a_phone(book):
    for html in (feedback.page(grades(book)[0]), class_page.page(book)):
        page = Page(html)
        assert html.startswith("<!DOCTYPE html>")
        assert '<html lang="en">' in html
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
        assert "default-src 'none'" in html
        assert "url(" not in html
        assert "@import" not in html
        assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("title") == 1
        levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_tables_have_headings_for_rows_and_columns(book):
    html = class_page.page(book)
    assert html.count("<table") <= html.count('<th scope="col"')
    assert re.findall(r"<th(?! scope=)", html.replace("<thead", "")) == []


# Files.


def test_every_hand_in_has_its_page_and_no_other_stays(book, tmp_path):
    out = tmp_path / "out"
    publish.publish(book, out)
    assert {str(path.relative_to(out / "feedback")) for path in (out / "feedback").rglob("*.html")} == {
        f"Ann Lee/{LESSON}.html",
        f"Bob/{LESSON}.html",
        f"Cyd/{LESSON}.html",
    }
    entry = next(entry for entry in book.entries() if entry.student == "Bob")
    book.keep_only({(item.student, item.notebook) for item in book.entries() if item is not entry})
    publish.publish(book, out)
    assert not (out / "feedback/Bob").exists()
    links = Page((out / "report.html").read_text(encoding="utf-8")).links
    assert links == [f"feedback/Ann%20Lee/{LESSON}.html", f"feedback/Cyd/{LESSON}.html"]


@pytest.mark.parametrize("student", ["../../escape", "..", "a/b", ".hidden", "x" * 300, "C:\\x", "\x00"])
def test_pages_of_oddly_named_students_stay_in_their_folder(tmp_path, student):
    book = Gradebook.in_folder(tmp_path / "out")
    hand_in(book, student, [right(list(lesson(LESSON).exercises)[0])])
    publish.publish(book, tmp_path / "out")
    assert [path.parent.parent for path in tmp_path.rglob(f"{LESSON}.html")] == [tmp_path / "out" / "feedback"]
    book.close()


# The class.


def test_the_class_page_counts(book, tmp_path):
    group = ClassFile((Person("Ann Lee"), Person("Bob"), Person("Dee"), Person("Cyd")), {LESSON: Rule(points=20)})
    book.keep("class", group.dumps())
    text = Page(class_page.page(book)).text
    assert "Students 4 Hand-ins 3, of which 1 could not be graded Missing 1 in lesson 03" in text
    assert "2 graded; median 10 of 20 points, from 0 to 20." in text
    assert "0–10 % 1 10–20 % 0" in text
    assert "90–100 % 1" in text
    first, second, third, _ = lesson(LESSON).exercises.values()
    assert f"{first.name} 2 of 2 1 50 %" in text
    assert f"{second.name} 2 of 2 1 50 % raised: 1" in text
    assert f"{third.name} 2 of 2 1 50 % ran out of time: 1" in text
    assert f"1 {first.name} {' '.join(first.mistakes[0].text.split())}" in text
    assert "Missing: 1 Dee" in text
    assert "Handed in, not graded Student Why Cyd 03.ipynb is empty" in text
    assert "Not on the roster" not in text
    assert "Dee missing 0 of 20" in text


def test_the_class_page_names_who_is_not_on_the_roster(book):
    book.keep("class", ClassFile((Person("Ann Lee"),)).dumps())
    assert "Not on the roster Bob Cyd" in Page(class_page.page(book)).text


def test_an_empty_gradebook_makes_a_page(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    assert "Students 0" in Page(publish.publish(book, tmp_path).read_text(encoding="utf-8")).text
    book.close()


def test_a_question_and_a_verdict_without_a_bank_are_shown_all_the_same(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    entry = book.open("Ann", "97", "x.ipynb", "0" * 64, True)
    for kind, item in (("exercise", "gone"), ("question", "9")):
        book.add(entry, verdict_of(Judgement(kind, item, 0.0, 1.0, "wrong", "A")))
    book.finish(entry, "graded", 2.0)
    assert "gone Not right , 0 of 1" in page_of(book, "Ann").text
    assert class_file.loads(book.setting("class")) == ClassFile()
    book.close()
