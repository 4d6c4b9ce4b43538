"""A lesson with a hand-in, and students with models, for the tests of what is around the judge of models."""

from pathlib import Path

from quizzes import bank
from quizzes.exercises import exercises, hand_ins, questions
from quizzes.models import tasks
from quizzes.models.held_out import Sentence
from tests.quizzes import onnx_models
from tests.quizzes.grading.class_of_tests import write

LESSON = "98"
BANK = '''
from quizzes import case, exercise, hand_in, question, tier

@exercise(points=2, minutes=1, hint="Twice.")
def twice(x):
    """2 * x"""
    return 2 * x

@twice.cases
def _(draw):
    yield case("one", draw.normal((3,)), visible=True)

twice.exact("doubling rounds nothing")
question("1", "One?", A=("yes", "yes", True), B=("no", "no"), hint="?", steps=[])
hand_in("topics_model", task="topics", points=6, minutes=1, hint="Fewer pieces.", tiers=[
    tier("gold", most_bytes=700_000, least=0.9, share=1), tier("bronze", most_bytes=1_000_000, least=0.5, share=0.5)])
'''
TEXTS = {
    "The striker scored twice in the final match.": 3,
    "Shares fell sharply on the stock market.": 0,
    "The singer wins an award for her album.": 1,
    "Parliament votes on the budget tomorrow.": 2,
}
ROWS = [Sentence(text, topic, number) for number, (text, topic) in enumerate(TEXTS.items())]
RIGHT = "def twice(x):\n    return 2 * x"


def install(monkeypatch, folder: Path) -> None:
    """The lesson in the bank, four rows to judge on, and a teacher that gets all of them right."""
    folder.mkdir(exist_ok=True)
    (folder / "q98_models.py").write_text(BANK)
    monkeypatch.setattr(bank, "__path__", [*bank.__path__, str(folder)])
    for banks in (exercises.BANKS, hand_ins.BANKS, questions.BANKS):
        monkeypatch.delitem(banks, "quizzes.bank.q98_models", raising=False)
    import sys

    monkeypatch.delitem(sys.modules, "quizzes.bank.q98_models", raising=False)
    monkeypatch.setattr(tasks.TopicModels, "rows", lambda self, seed, texts=None: list(texts or ROWS))
    monkeypatch.setattr(tasks.TopicModels, "public_rows", lambda self, seed: ROWS)
    monkeypatch.setattr(tasks.TopicModels, "teacher", lambda self, rows: 1.0)
    monkeypatch.setattr(tasks.TopicModels, "teacher_sha256", lambda self: "")
    tasks.public.cache_clear()


def good(ballast: int = 0) -> bytes:
    """A model that is right on every row, with so many bytes more than it needs."""
    made = onnx_models.knows(TEXTS)
    made.doc_string = "x" * ballast
    return made.SerializeToString()


def student(folder: Path, name: str, model: bytes | None = None, file: str = "18_topics.onnx") -> Path:
    """Somebody's folder with a solved notebook and perhaps a model beside it."""
    notebook = write(folder / name / "98_models.ipynb", RIGHT, 'quiz.ask("1", answer="A")', lesson=LESSON)
    if model is not None:
        (folder / name / file).write_bytes(model)
    return notebook
