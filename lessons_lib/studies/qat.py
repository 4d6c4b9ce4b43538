"""The study of lesson 10: quantization while training against quantization after it, at 8, 4, 3 and 2 bits.

Every student starts as the one of lesson 04 that learned from all labels, and then takes SETTINGS["steps"] further
steps. "qat" quantizes first and takes them on fake-quantized weights (and inputs). "ptq" takes them in floating point
and quantizes afterwards, with steps of least squared error. "absmax" is "ptq" with one step for a whole matrix, and
"none" is not quantized at all. The further steps follow the labels, or mostly the teacher's soft labels. Widths are
written W4 for weights of 4 bits, W4A4 for inputs of 4 bits too; only the linear layers of the encoder are quantized.

Learning rates were chosen on validation sentences, with the labels: for "ptq" and "none" at each width by itself, for
"qat" once with inputs and once without. Those runs are cells of the grid too. Soft labels take the same rates.
"""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lessons_lib.distillation import students
from lessons_lib.int8 import qat
from lessons_lib.measure import intervals
from lessons_lib.studies import distil_classifier as classifier
from lessons_lib.studies.runs import Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import bbc, topic_classifier

SETTINGS = {
    "n_layers": classifier.SETTINGS["n_layers"],
    "start_steps": classifier.SETTINGS["steps"],
    "steps": 50,
    "alpha": {"labels": 0.0, "teacher": students.ALPHA},
    "T": students.T,
    "calibration_sentences": 64,
    "candidates": qat.CANDIDATES,
    "sample": qat.SAMPLE,
}
BITS = (8, 4, 3, 2)
WIDTHS = tuple(f"W{bits}" for bits in BITS) + tuple(f"W{bits}A{bits}" for bits in BITS)
FLOAT = "float"
DISTILLED = (FLOAT, "W2", "W2A2")  # where the soft labels are tried as well
SEEDS = (0, 1, 2)
TUNING_SEED = 100  # of the runs that choose a learning rate; no reported run shares it
PTQ_TRIED, QAT_TRIED = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3), (2e-4, 5e-4, 1e-3)
TUNED_AT = {"weights": "W2", "inputs": "W4A4"}
SECOND_PASS = 1000  # added to the seed, so that the further steps draw the sentences in another order

# The ones that did best on validation sentences in the cells of TUNING_SEED.
PTQ_RATES = {
    FLOAT: 2e-4,
    "W8": 2e-4,
    "W4": 2e-4,
    "W3": 5e-5,
    "W2": 5e-5,
    "W8A8": 1e-4,
    "W4A4": 5e-5,
    "W3A3": 2e-4,
    "W2A2": 2e-4,
}
QAT_RATES = {"weights": 5e-4, "inputs": 5e-4}


def kind(width: str) -> str:
    """What a width quantizes: "weights" alone, or "inputs" too."""
    return "inputs" if "A" in width else "weights"


def bits(width: str) -> tuple[int, int | None]:
    """Bits of the weights and of the inputs, the second None where they stay: "W4A4" -> (4, 4), "W4" -> (4, None)."""
    weights, _, inputs = width.removeprefix("W").partition("A")
    return int(weights), int(inputs) if inputs else None


def cell(width: str, method: str, seed: int, **changes: Any) -> dict[str, Any]:
    """One declared run: a width of WIDTHS, or "float" with method "none"; the usual rate, with changes."""
    lr = QAT_RATES[kind(width)] if method == "qat" else PTQ_RATES[width]
    usual = {"width": width, "method": method, "objective": "labels", "lr": lr, "split": "test"}
    return usual | changes | {"seed": seed}


def _cells() -> list[dict[str, Any]]:
    after = [(FLOAT, "none"), *[(width, "ptq") for width in WIDTHS]]
    tuned = [cell(*way, TUNING_SEED, lr=lr, split="validation") for lr in PTQ_TRIED for way in after]
    tuned += [
        cell(width, "qat", TUNING_SEED, lr=lr, split="validation") for lr in QAT_TRIED for width in TUNED_AT.values()
    ]
    test_cells = []
    for seed in SEEDS:  # runs of one seed stand together: they share the student that they start from
        test_cells += [cell(*way, seed) for way in after]
        test_cells += [cell("W4", "absmax", seed)]
        test_cells += [cell(*way, seed, objective="teacher") for way in after if way[0] in DISTILLED]
        test_cells += [cell(width, "qat", seed) for width in WIDTHS]
        test_cells += [cell(width, "qat", seed, objective="teacher") for width in WIDTHS if width in DISTILLED]
    return tuned + test_cells


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Make the student of a cell and ask it about held-out sentences: accuracy, and right answers by document."""
    if cell["method"] == "qat":
        student = prepared(start(cell["seed"]), cell["width"])
        further(student, cell["objective"], cell["lr"], cell["seed"])
        return classifier.judged(student, cell["split"])
    student = trained(cell["objective"], cell["lr"], cell["seed"])
    if cell["method"] != "none":
        student = prepared(student, cell["width"], "absmax" if cell["method"] == "absmax" else "least error")
    return classifier.judged(student, cell["split"])


@lru_cache(maxsize=1)
def start(seed: int) -> nn.Module:
    """The student that every run of a seed starts from; not to be changed. Its attention is the plain kind, whose
    backward pass takes a fifth of the time of the fused one on these short sentences in BF16."""
    student = students.topic_student(SETTINGS["n_layers"], seed=seed, source="encoder", freeze_embeddings=True)
    student.encoder.set_attn_implementation("eager")
    lr = classifier.RATES["alternate", "full", False]
    students.distil(student, _data(), alpha=0.0, T=1.0, lr=lr, seed=seed, steps=SETTINGS["start_steps"])
    return student


@lru_cache(maxsize=2)
def trained(objective: str, lr: float, seed: int) -> nn.Module:
    """The student after the further steps in floating point; not to be changed."""
    student = copy.deepcopy(start(seed))
    further(student, objective, lr, seed)
    return student


def further(student: nn.Module, objective: str, lr: float, seed: int, progress: bool = False):
    """Take the further steps, in place, on the labels or on the teacher's soft labels. Returns a loop.History."""
    losses = {"alpha": SETTINGS["alpha"][objective], "T": SETTINGS["T"]}
    settings = {"lr": lr, "seed": seed + SECOND_PASS, "steps": SETTINGS["steps"]}
    return students.distil(student, _data(), **losses, **settings, progress=progress)


def prepared(student: nn.Module, width: str, start: str = "least error") -> nn.Module:
    """A copy of a student with layers of this width; see `qat.prepare`."""
    return qat.prepare(student, *bits(width), calibration(), start)


@lru_cache(maxsize=1)
def calibration() -> dict[str, Tensor]:
    """Tokens of the training sentences that ranges of inputs are chosen from."""
    some = slice(SETTINGS["calibration_sentences"])
    return {name: _data()[name][some] for name in ("input_ids", "attention_mask")}


@lru_cache(maxsize=1)
def _data() -> dict[str, Tensor]:
    return students.transfer_data("full", "topic", students.ALPHA, seed=0)  # with all labels no seed plays a part


def inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the teacher of this machine, and the size of each document."""
    return {
        "teacher": topic_classifier.teacher_sha256(),
        "sentences": bbc.sentences_sha256("train"),
        "sizes": topic_classifier.document_sizes(),
    }


def rows(table: Table, width: str, method: str, objective: str = "labels") -> list[Row]:
    """The test rows of one setting, one a seed."""
    return table.repeats(cell(width, method, SEEDS[0], objective=objective))


def gain(
    table: Table,
    width: str,
    method: str = "qat",
    than: str = "ptq",
    objective: str = "labels",
    than_objective: str = "labels",
) -> intervals.Difference:
    """Test accuracy of one method minus that of another at the same width, paired by seed and document."""
    return classifier.difference(table, rows(table, width, method, objective), rows(table, width, than, than_objective))


def tuning(table: Table, width: str, method: str) -> dict[float, float]:
    """Accuracy on validation sentences of each learning rate that was tried."""
    tuning_runs = table.where(width=width, method=method, seed=TUNING_SEED)
    return {row["lr"]: row["accuracy"] for row in tuning_runs}


STUDY = Study(Path(__file__).stem, _cells(), run, cell("W4", "absmax", SEEDS[0]), settings=SETTINGS, inputs=inputs)
