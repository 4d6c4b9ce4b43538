"""The study of lesson 13: full fine-tuning, LoRA and QLoRA at equal steps, on headlines for BBC articles.

The same language model, examples, steps and batch size for all three. Each method's learning rate was chosen on
validation documents, among as many for each; those runs are cells of the grid. A rate of 0 stands for the model as the
method finds it: as it came for "full" and "lora", in four bits for "qlora".

The score is accuracy: the share of a headline's tokens that the model ranks first, mean over documents.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
from torch import nn

from lessons_lib.files import packaged
from lessons_lib.four_bits import lora, training_memory
from lessons_lib.measure import intervals
from lessons_lib.measure.intervals import Difference, Interval
from lessons_lib.studies import runs
from lessons_lib.studies.runs import Live, Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import bbc, headlines
from lessons_lib.training import loop
from lessons_lib.training.loop import Batch, History

SETTINGS = {
    "steps": 24,
    "batch_size": 4,
    "examples": 480,  # training documents, from which the steps draw
    "judged": 48,
    "r": 4,
    "alpha": 8,
    "article_tokens": headlines.ARTICLE_TOKENS,
    "headline_tokens": headlines.HEADLINE_TOKENS,
} | loop.CONSTANTS
SEEDS = (0, 1, 2)
TUNING_SEED = 9
RATES = {"full": (3e-5, 1e-4, 3e-4), "lora": (1e-3, 3e-3, 1e-2), "qlora": (1e-3, 3e-3, 1e-2)}
CHECKPOINTING = {"all kept": False, "checkpointing": True}
CHOSEN = {"full": 1e-4, "lora": 3e-3, "qlora": 3e-3}


def cell(method: str, seed: int, lr: float | None = None, split: str = "test") -> dict[str, Any]:
    """One declared run; lr: 0 for the model before training, the method's chosen rate when it is left out."""
    return {"method": method, "lr": CHOSEN[method] if lr is None else lr, "split": split, "seed": seed}


def _cells() -> list[dict[str, Any]]:
    cells = [cell(method, SEEDS[0], 0.0) for method in ("full", "qlora")]
    cells += [cell(method, seed) for method in lora.METHODS for seed in SEEDS]
    return cells + [cell(method, TUNING_SEED, lr, "validation") for method in lora.METHODS for lr in RATES[method]]


@lru_cache(maxsize=2)
def examples(split: str) -> Batch:
    """Training examples, or the held-out ones that models are judged by, as `headlines.examples` makes them."""
    count = SETTINGS["examples"] if split == "train" else SETTINGS["judged"]
    return headlines.examples(headlines.documents(split, count))


def fine_tune(model: nn.Module, lr: float, seed: int, progress: bool = False) -> History:
    """Train a model that `lora.prepared` made ready, in place, for the steps of the study."""
    settings = {"steps": SETTINGS["steps"], "batch_size": SETTINGS["batch_size"], "lr": lr, "seed": seed}
    return loop.train(model, examples("train"), headlines.loss, **settings, progress=progress)


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Train the model of a cell; its accuracy and loss on its split. A method's first test run measures its memory too:
    bytes by part, without and with checkpointing."""
    model = lora.prepared(cell["method"], r=SETTINGS["r"], alpha=SETTINGS["alpha"], seed=cell["seed"])
    if cell["lr"]:
        fine_tune(model, cell["lr"], cell["seed"])
    result = judged(model, cell["split"])
    if cell["lr"] and cell["split"] == "test" and cell["seed"] == SEEDS[0]:
        result["memory"] = {name: memory(cell["method"], switch) for name, switch in CHECKPOINTING.items()}
    return result


def judged(model: nn.Module, split: str) -> dict[str, Any]:
    """Accuracy and loss of a model on the held-out documents of a split, and the loss of each."""
    losses, hits = headlines.judged(model, examples(split))
    return {
        "accuracy": round(hits.mean().item(), 5),
        "loss": round(losses.mean().item(), 5),
        "losses": [round(loss, 5) for loss in losses.tolist()],
    }


def memory(method: str, checkpointing: bool) -> dict[str, int]:
    """Bytes by part that a method's training takes in a fresh process, as `training_memory.measured` counts them."""
    return training_memory.measured(method, SETTINGS["batch_size"], SETTINGS["r"], checkpointing)


def inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the language model's file and the texts of each split."""
    return {
        "language model": packaged.LANGUAGE_MODEL_SHA256,
        "texts": {split: bbc.sentences_sha256(split) for split in bbc.SPLITS},
    }


def rows(table: Table, method: str, trained: bool = True) -> list[Row]:
    """The test rows of a method, one a seed; not trained: the one of the model before training."""
    if not trained:
        return table.where(method="qlora" if method == "qlora" else "full", lr=0.0, split="test")
    return table.where(method=method, lr=CHOSEN[method], split="test")


def tuning(table: Table, method: str) -> dict[float, float]:
    """Loss on validation documents of each learning rate that was tried for a method."""
    return {row["lr"]: row["loss"] for row in table.where(method=method, seed=TUNING_SEED)}


def losses(table: Table, method: str, trained: bool = True) -> numpy.ndarray:
    """Mean loss of each test document's headline: (runs, documents)."""
    return numpy.array([row["losses"] for row in rows(table, method, trained)])


def loss(table: Table, method: str, trained: bool = True) -> Interval:
    """Mean loss on test documents, nats a token, with its 95 % interval over them, and over seeds when trained."""
    document_losses = losses(table, method, trained)
    return intervals.paired_losses(document_losses, numpy.zeros_like(document_losses))


def difference(table: Table, method: str, other: str, other_trained: bool = True) -> Difference:
    """Loss of a trained method minus that of another, or of another's model before training, paired by document."""
    a, b = losses(table, method), losses(table, other, other_trained)
    return intervals.paired_losses(a, numpy.broadcast_to(b, a.shape))


def kept(table: Table, method: str) -> float:
    """Which share of what full fine-tuning takes off the loss a method takes off, both from the model as it came."""
    before = losses(table, "full", trained=False).mean()
    return float((before - losses(table, method).mean()) / (before - losses(table, "full").mean()))


def live(table: Table, cell: dict[str, Any], model: nn.Module, seconds: float) -> Live:
    """A model that was trained as a cell says, judged and placed beside the table's seeds of the same setting."""
    others = table.repeats(cell)
    return runs.beside(Row(cell, judged(model, cell["split"]), seconds), STUDY.score, others, STUDY.slack)


STUDY = Study(Path(__file__).stem, _cells(), run, cell("lora", SEEDS[1]), settings=SETTINGS, inputs=inputs)
