"""The translation teacher: trained once on all pairs, then kept in the cache."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from lessons_lib import assets, training, translation
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


def teacher(progress: bool = False) -> Translator:
    """The 6+6-layer translator in eval mode, without gradients; trained on all pairs once, then read from the cache."""
    from safetensors.torch import load_file, save_file

    def load(folder: Path) -> Translator:
        model = new_translator(SHAPE, SETTINGS["seed"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model

    def save(model: Translator, folder: Path) -> None:
        save_file(model.state_dict(), folder / "model.safetensors")

    shape = _declaration()
    checkpoint = assets.stored_folder("translator", shape).with_suffix(".checkpoint")
    model = assets.stored("translator", shape, lambda: _train_teacher(checkpoint, progress), load, save)
    return model.eval().requires_grad_(False)


def prepare(report: Callable[[str], None] = print) -> None:
    """What `course prepare` does for the translator: trains it once. Safe to interrupt and to repeat."""
    if not assets.is_intact(assets.stored_folder("translator", _declaration())):
        report("translator: training, once (a few minutes; interrupt it whenever you like, it goes on from there)")
        teacher(progress=True)
    report("translator: ready")
