"""The distilled translator of lesson 07, trained once and kept: the small model that later lessons use."""

from collections.abc import Callable
from pathlib import Path

from lessons_lib import assets, translation, translation_teacher, translator
from lessons_lib import study_distil_translator as grid
from lessons_lib.translator import Shape, Translator

CELL = grid.cell("sequence", seed=0)  # the run that lesson 07 repeats live
RECIPE = 1  # raised when a change of the code changes the student


def _declaration() -> dict:
    """All that shapes the student."""
    return {"cell": CELL, "settings": grid.SETTINGS, "teacher": translation_teacher.teacher_sha256(),
            "pairs": translation.pairs_sha256(), "recipe": RECIPE}


def student(progress: bool = False) -> Translator:
    """The small translator distilled at sequence level, in eval mode and without gradients; trained once, then read
    from the cache."""
    from safetensors.torch import load_file, save_file

    def load(folder: Path) -> Translator:
        model = translator.new_translator(Shape(**grid.SETTINGS["small"], dropout=CELL["dropout"]), CELL["seed"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model

    def save(model: Translator, folder: Path) -> None:
        save_file(model.state_dict(), folder / "model.safetensors")

    model = assets.stored("translator-student", _declaration(), lambda: grid.small_student(CELL, progress), load, save)
    return model.eval().requires_grad_(False)


def prepare(report: Callable[[str], None] = print) -> None:
    """What `course prepare` does for the small translator: trains it once, after its teacher has translated."""
    if not assets.is_intact(assets.stored_folder("translator-student", _declaration())):
        report("small translator: training, once (less than a minute)")
        student(progress=True)
    report("small translator: ready")
