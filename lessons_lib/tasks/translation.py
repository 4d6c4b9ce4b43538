"""The task of translating: English phrases to French ones. Its teacher, trained once and kept, its data, its judge."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from torch import Tensor, nn

from lessons_lib.files.cache import KeptModel
from lessons_lib.measure import bleu
from lessons_lib.measure.intervals import Difference, Interval
from lessons_lib.tasks import decoding, phrase_pairs
from lessons_lib.tasks.task import Task
from lessons_lib.tasks.translator import Shape, Translator, new_translator, translation_loss, trimmed
from lessons_lib.training import loop

if TYPE_CHECKING:
    from datasets import Dataset

SHAPE = Shape(dropout=0.0)  # six layers on either side
SETTINGS = {"steps": 600, "batch_size": 64, "lr": 1.5e-3, "seed": 0}
LABELLED = 2000  # pairs that a smaller model is trained on where it learns from labels
RECIPE = 1  # raised when a change of the code changes the teacher


def _train_teacher(checkpoint: Path, progress: bool) -> Translator:
    train = phrase_pairs.pairs("train")
    data = phrase_pairs.tensors(train["english"][:], train["french"][:])
    model = new_translator(SHAPE, SETTINGS["seed"])
    loop.train(model, data, translation_loss, **SETTINGS, checkpoint=checkpoint, progress=progress)
    return model


def _declaration() -> dict:
    """All that shapes the teacher."""
    return {"shape": asdict(SHAPE), "training": SETTINGS, "recipe": RECIPE, "pairs": phrase_pairs.pairs_sha256()}


def teacher_sha256() -> str:
    """Hash of the declaration of the teacher: what is made from its translations is shaped by it."""
    return hashlib.sha256(json.dumps(_declaration(), sort_keys=True).encode()).hexdigest()


def _blank() -> Translator:
    return new_translator(SHAPE, SETTINGS["seed"])


KEPT = KeptModel("translator", "translator", _declaration, _train_teacher, _blank)


def teacher(progress: bool = False) -> Translator:
    """The 6+6-layer translator in eval mode, without gradients; trained on all pairs once, then read from the cache."""
    return KEPT.get(progress)


class Translation(Task):
    """English phrases to French ones, by BLEU; every phrase stands alone."""

    name = "translator"
    unit = "BLEU"
    inputs = ("source", "target")
    autoregressive = True
    teacher, held_out = staticmethod(teacher), staticmethod(phrase_pairs.pairs)
    loss, pack = staticmethod(translation_loss), staticmethod(bleu.pack)

    def train_data(self) -> dict[str, Tensor]:
        """The first LABELLED training pairs."""
        pairs = phrase_pairs.pairs("train").select(range(LABELLED))
        return phrase_pairs.tensors(pairs["english"][:], pairs["french"][:])

    def answers(self, model: nn.Module, rows: "Dataset") -> numpy.ndarray:
        """What each greedy translation adds to BLEU's counts, (N, counts): see bleu.statistics."""
        return bleu.statistics(decoding.translate(model, rows["english"][:]), rows["french"][:])

    def quality(self, answers: numpy.ndarray) -> float:
        """BLEU as a share of 100."""
        return float(bleu.from_statistics(answers.sum(axis=0))) / 100

    def interval(self, runs: numpy.ndarray, groups: Sequence[int]) -> Interval:
        """BLEU, 0 to 100, with its interval over runs and phrases."""
        return bleu.interval(runs)

    def difference(self, runs: numpy.ndarray, others: numpy.ndarray, groups: Sequence[int]) -> Difference:
        """BLEU of some runs minus that of others, paired by run and by phrase."""
        return bleu.difference(runs, others)

    def unpack(self, texts: Sequence[str], count: int) -> numpy.ndarray:
        """The counts of several runs, one text a run: (runs, N, counts)."""
        return numpy.stack([bleu.unpack(text) for text in texts])

    def summary(self, answers: numpy.ndarray, rows: "Dataset") -> str:
        """The same as `pack`: BLEU's interval needs every phrase."""
        return self.pack(answers)

    def from_summaries(self, summaries: Sequence[str], sizes: Sequence[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """The counts of several runs, and each phrase's group: its own."""
        runs = self.unpack(summaries, 0)
        return runs, numpy.arange(runs.shape[1])

    def single(self, data: dict[str, Tensor], row: int) -> dict[str, Tensor]:
        """One pair without padding."""
        return {name: trimmed(data[name][[row]]) for name in self.inputs}

    def logits(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Logits of the pieces that follow those of the target."""
        return model(batch["source"], batch["target"][:, :-1])

    def question(self, model: nn.Module, count: int) -> Callable[[], object]:
        """A call that has a model translate the first `count` validation phrases as one batch, greedily."""
        source = phrase_pairs.vocabularies()[0].encode(self.held_out("validation")["english"][:count])
        return lambda: decoding.greedy(model, source)


TASK = Translation()
