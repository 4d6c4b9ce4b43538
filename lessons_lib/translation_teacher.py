"""The translation teacher: trained once on all pairs, then kept in the cache."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from lessons_lib import training, translation
from lessons_lib.kept import KeptModel
from lessons_lib.translator import Shape, Translator, new_translator, translation_loss

SHAPE = Shape(dropout=0.0)  # six layers on either side
SETTINGS = {"steps": 600, "batch_size": 64, "lr": 1.5e-3, "seed": 0}
RECIPE = 1  # raised when a change of the code changes the teacher


def _train_teacher(checkpoint: Path, progress: bool) -> Translator:
    train = translation.pairs("train")
    data = translation.tensors(train["english"][:], train["french"][:])
    model = new_translator(SHAPE, SETTINGS["seed"])
    training.train(model, data, translation_loss, **SETTINGS, checkpoint=checkpoint, progress=progress)
    return model


def _declaration() -> dict:
    """All that shapes the teacher."""
    return {"shape": asdict(SHAPE), "training": SETTINGS, "recipe": RECIPE, "pairs": translation.pairs_sha256()}


def teacher_sha256() -> str:
    """Hash of the declaration of the teacher: what is made from its translations is shaped by it."""
    return hashlib.sha256(json.dumps(_declaration(), sort_keys=True).encode()).hexdigest()


KEPT = KeptModel(
    "translator",
    "translator",
    "a few minutes; interrupt it whenever you like, it goes on from there",
    shape=lambda: _declaration(),
    train=lambda *how: _train_teacher(*how),
    blank=lambda: new_translator(SHAPE, SETTINGS["seed"]),
)


def teacher(progress: bool = False) -> Translator:
    """The 6+6-layer translator in eval mode, without gradients; trained on all pairs once, then read from the cache."""
    return KEPT.get(progress)


def prepare(report: Callable[[str], None] = print) -> None:
    """What `course prepare` does for the translator: trains it once. Safe to interrupt and to repeat."""
    KEPT.prepare(report)
