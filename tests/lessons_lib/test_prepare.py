"""`course prepare`: every part, in an order that gives each what it needs; a second process only when needed."""

import pytest

from lessons_lib import prepare
from lessons_lib.capstone import pipeline
from lessons_lib.distillation import masked_language, translation_students
from lessons_lib.tasks import language_model, topic_classifier, translation


class Process:
    """A process that is never started for real."""

    pid = None

    def __init__(self, target, daemon):
        self.target, self.daemon, self.calls = target, daemon, []

    def start(self):
        self.calls.append("start")
        self.pid = 1

    def join(self):
        self.calls.append("join")


@pytest.fixture
def beside(monkeypatch):
    """The second processes that were set up."""
    made = []
    context = type("Context", (), {"Process": lambda self, **how: made.append(Process(**how)) or made[-1]})
    monkeypatch.setattr(prepare, "get_context", lambda name: context())
    return made


def test_these_are_the_parts_each_after_what_it_needs():
    parts = (
        topic_classifier.prepare,
        masked_language.KEPT.prepare,
        translation.KEPT.prepare,
        translation_students.prepare,
        translation_students.KEPT.prepare,
        language_model.prepare,
        pipeline.prepare,
    )
    assert parts == prepare.PARTS


def test_all_parts_are_ready_here_and_need_no_second_process(beside):
    said = []
    prepare.prepare(said.append)
    assert len(said) >= len(prepare.PARTS) and said[-1].endswith("ready")
    assert beside[0].calls == []


def test_where_the_language_model_is_missing_the_conversions_run_beside(beside, monkeypatch):
    monkeypatch.setattr(language_model, "is_ready", lambda: False)
    monkeypatch.setattr(prepare, "PARTS", [lambda report: report(f"{beside[0].calls}")])
    said = []
    prepare.prepare(said.append)
    assert said == ["['start']"] and beside[0].calls == ["start", "join"]
    assert beside[0].target is prepare.convert and beside[0].daemon


def test_the_conversions_are_the_language_model_and_the_teachers_files(monkeypatch):
    made = []
    monkeypatch.setattr(prepare.torch, "set_num_threads", made.append)
    monkeypatch.setattr(language_model, "prepare", lambda report: made.append(report("ready")))
    monkeypatch.setattr(pipeline, "prepare", lambda report, of: made.append(of))
    prepare.convert()
    assert made == [1, None, ["teacher"]]
