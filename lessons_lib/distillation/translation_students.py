"""Small and shallow translators taught by the large one: what they learn from, how they train, the one that is kept.

A small student has few narrow layers with random weights. A shallow one keeps the teacher's width and some of its
layers, in one step or in several. Both have a few translated pairs, and many English phrases that the teacher
translates by beam search, once.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from lessons_lib.distillation import translation_losses
from lessons_lib.files import cache
from lessons_lib.files.cache import KeptModel
from lessons_lib.tasks import phrase_pairs, translation, translator
from lessons_lib.tasks.translator import Shape, Translator
from lessons_lib.training import loop

# Everything that shapes a student and its data. The studies' declarations and the kept student's folder name hold it.
SETTINGS = {
    "small": {"encoder_layers": 2, "decoder_layers": 2, "width": 64, "heads": 2, "inner": 256},
    "pairs": 300,
    "sources": 4000,
    "sources_seed": 7,
    "beams": 4,
    "steps": 300,
    "batch_size": 64,
    "word_alpha": translation_losses.WORD_ALPHA,
    "hidden_weight": translation_losses.HIDDEN_WEIGHT,
}
# The run that is kept and that lesson 07 repeats live: a cell of the study distil_translator, which a test holds.
CELL = {
    "way": "small",
    "data": "few",
    "method": "sequence",
    "steps": SETTINGS["steps"],
    "lr": 8e-3,
    "dropout": 0.0,
    "split": "test",
    "seed": 0,
}
RECIPE = 1  # raised when a change of the code changes the kept student


def small_student(cell: dict[str, Any], progress: bool = False) -> Translator:
    """A small translator, trained as the cell says."""
    student = translator.new_translator(Shape(**SETTINGS["small"], dropout=cell["dropout"]), cell["seed"])
    data = student_data(cell["data"], cell["method"].startswith("sequence"), cell["seed"])
    return _taught(student, translation.teacher, data, cell, cell["steps"], progress)


def shallow_student(cell: dict[str, Any], progress: bool = False) -> Translator:
    """A translator as wide as its teacher with fewer layers, taught in the stages that the cell's way names; the
    student of a stage is the teacher of the next."""
    depths = [int(depth) for depth in cell["way"].split("-")]
    model, steps = translation.teacher(), cell["steps"] // (len(depths) - 1)
    data = student_data(cell["data"], True, cell["seed"])
    for before, after in zip(depths, depths[1:], strict=False):
        teacher = model.requires_grad_(False)
        student = translation_losses.shallower(
            teacher, translation_losses.stage_plan(before, after, before - after)[0], cell["dropout"]
        )
        model = _taught(student, lambda teacher=teacher: teacher, data, cell, steps, progress)
    return model


def _taught(
    student: Translator,
    teacher: Callable[[], Translator],
    data: dict[str, Tensor],
    cell: dict[str, Any],
    steps: int,
    progress: bool,
) -> Translator:
    """The student, trained in place by the method of the cell; teacher() is asked only when its outputs are needed."""
    model, loss = student, translator.translation_loss
    if cell["method"].endswith(("word", "hidden")):
        large = teacher()
        data = translation_losses.teacher_outputs(large, data)
        loss = translation_losses.word_loss
        if cell["method"].endswith("hidden"):
            model, loss = (
                translation_losses.projected(student, large.shape.width, cell["seed"]),
                translation_losses.hidden_loss,
            )
    settings = {"steps": steps, "batch_size": SETTINGS["batch_size"], "lr": cell["lr"], "seed": cell["seed"]}
    loop.train(model, data, loss, **settings, progress=progress)
    return student


def student_data(data: str, translated: bool, seed: int) -> dict[str, Tensor]:
    """What a student trains on. data: "all" pairs, or "few", drawn from the seed. translated: the phrases without
    French come too, with the teacher's translations."""
    train = phrase_pairs.pairs("train")
    if data == "all":
        return phrase_pairs.tensors(train["english"][:], train["french"][:])
    few = few_pairs(seed)
    english, french = few["english"][:], few["french"][:]
    if translated:
        english, french = english + untranslated(), french + teacher_translations()
    return phrase_pairs.tensors(english, french)


@lru_cache(maxsize=1)
def _parted():
    """The training pairs in random order: those whose English is the transfer set, and those that pairs come from."""
    train = phrase_pairs.pairs("train").shuffle(seed=SETTINGS["sources_seed"], keep_in_memory=True)
    return train.select(range(SETTINGS["sources"])), train.select(range(SETTINGS["sources"], len(train)))


def few_pairs(seed: int):
    """The translated pairs of this seed, a datasets.Dataset; none of them has its English in the transfer set."""
    return _parted()[1].shuffle(seed=seed, keep_in_memory=True).select(range(SETTINGS["pairs"]))


def untranslated() -> list[str]:
    """The English phrases without French: the transfer set."""
    return _parted()[0]["english"][:]


def _asked() -> dict[str, Any]:
    """All that shapes the teacher's translations."""
    return {name: SETTINGS[name] for name in ("sources", "sources_seed", "beams")} | {
        "teacher": translation.teacher_sha256()
    }


@lru_cache(maxsize=1)
def teacher_translations() -> list[str]:
    """The teacher's French for the transfer set, by beam search; asked once and kept in the cache."""
    name = "translations.json"
    return cache.stored(
        "translations",
        _asked(),
        lambda: translation_losses.sequence_level_data(translation.teacher(), untranslated(), SETTINGS["beams"]),
        lambda folder: json.loads((folder / name).read_text(encoding="utf-8")),
        lambda texts, folder: (folder / name).write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8"),
    )


def prepare(report: Callable[[str], None] = print) -> None:
    """What `course prepare` does for lesson 07, once its teacher stands: asks it for its translations."""
    if not cache.is_intact(cache.stored_folder("translations", _asked())):
        report(f"translations: the translator writes {SETTINGS['sources']:,}, once (less than a minute)")
        teacher_translations()
    report("translations: ready")


def _declaration() -> dict:
    """All that shapes the kept student."""
    return {
        "cell": CELL,
        "settings": SETTINGS,
        "teacher": translation.teacher_sha256(),
        "pairs": phrase_pairs.pairs_sha256(),
        "recipe": RECIPE,
    }


def _blank() -> Translator:
    return translator.new_translator(Shape(**SETTINGS["small"], dropout=CELL["dropout"]), CELL["seed"])


def _train(_: Path, progress: bool) -> Translator:
    return small_student(CELL, progress)


KEPT = KeptModel("translator-student", "small translator", _declaration, _train, _blank, "less than a minute")


def student(progress: bool = False) -> Translator:
    """The small translator distilled at sequence level, in eval mode and without gradients; trained once, then read
    from the cache."""
    return KEPT.get(progress)
