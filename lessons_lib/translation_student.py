"""The distilled translator of lesson 07, trained once and kept: the small model that later lessons use."""

from collections.abc import Callable

from lessons_lib import study_distil_translator as grid
from lessons_lib import translation, translation_teacher, translator
from lessons_lib.kept import KeptModel
from lessons_lib.translator import Shape, Translator

CELL = grid.cell("sequence", seed=0)  # the run that lesson 07 repeats live
RECIPE = 1  # raised when a change of the code changes the student


def _declaration() -> dict:
    """All that shapes the student."""
    return {
        "cell": CELL,
        "settings": grid.SETTINGS,
        "teacher": translation_teacher.teacher_sha256(),
        "pairs": translation.pairs_sha256(),
        "recipe": RECIPE,
    }


def _blank() -> Translator:
    return translator.new_translator(Shape(**grid.SETTINGS["small"], dropout=CELL["dropout"]), CELL["seed"])


KEPT = KeptModel(
    "translator-student",
    "small translator",
    "less than a minute",
    shape=_declaration,
    train=lambda _, progress: grid.small_student(CELL, progress),
    blank=_blank,
)


def student(progress: bool = False) -> Translator:
    """The small translator distilled at sequence level, in eval mode and without gradients; trained once, then read
    from the cache."""
    return KEPT.get(progress)


def prepare(report: Callable[[str], None] = print) -> None:
    """What `course prepare` does for the small translator: trains it once, after its teacher has translated."""
    KEPT.prepare(report)
