"""All that the lessons share, made once on a machine: `course prepare`.

Training keeps two cores busy. Converting the language model and exporting the teachers each keep one busy. So a second
process does these meanwhile. Each part is built under a lock, by whoever comes first; the other waits for it.
"""

from collections.abc import Callable
from multiprocessing import get_context

import torch

from lessons_lib.capstone import pipeline
from lessons_lib.distillation import masked_language, translation_students
from lessons_lib.tasks import language_model, topic_classifier, translation

PARTS = (
    topic_classifier.prepare,
    masked_language.KEPT.prepare,
    translation.KEPT.prepare,
    translation_students.prepare,
    translation_students.KEPT.prepare,
    language_model.prepare,
    pipeline.prepare,
)


def prepare(report: Callable[[str], None] = print) -> None:
    """Verify what is installed and make what is missing. Safe to interrupt and to repeat.

    report: called with each line that a reader should see. Raises packaged.AssetError when something is missing.
    """
    beside = get_context("spawn").Process(target=convert, daemon=True)  # a daemon ends with this process
    if not language_model.is_ready():
        beside.start()
    for part in PARTS:
        part(report)
    if beside.pid:
        beside.join()


def convert() -> None:
    """The parts that keep one core busy; the teachers' files once the teachers stand."""
    torch.set_num_threads(1)
    language_model.prepare(_silent)
    pipeline.prepare(_silent, of=["teacher"])


def _silent(line: str) -> None:
    """The first process reports each part when it comes to it."""
