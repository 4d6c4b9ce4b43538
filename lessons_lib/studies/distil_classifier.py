"""The study of lesson 04: students of two layers, with few labels and with all, distilled and not.

All students are as wide as the teacher, train for equally many steps of equally many sentences, and see the same texts:
the transfer set. "few" means that 20 sentences of each topic are labelled, "full" that all are. With alpha = 0 there is
no teacher, and only labelled sentences are of use. The learning rates were chosen on validation sentences, for each way
of learning by itself, among TUNED_RATES; those runs are cells of the grid too.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.distillation import students
from lessons_lib.measure import intervals
from lessons_lib.studies.runs import Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import bbc, topic_classifier
from lessons_lib.tasks.topic_classifier import TASK

SETTINGS = students.SETTINGS
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = students.WEAK_SEED  # of the runs that choose a learning rate; no reported run shares it
TUNED_RATES = {"alternate": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3), "scratch": (5e-4, 1e-3, 2e-3)}
ALPHA, T = students.ALPHA, students.T  # of every distilled cell outside the sweep
SWEEP = {"alpha": (0.5, 0.9, 1.0), "T": (1.0, 2.0, 5.0, 10.0)}


# The one that did best on validation sentences in the cells of TUNING_SEED, by (init, labels, distilled).
RATES = {
    ("alternate", "few", False): 2e-4,
    ("alternate", "few", True): 1e-3,
    ("alternate", "full", False): 1e-3,
    ("alternate", "full", True): 1e-3,
    ("scratch", "few", False): 5e-4,
    ("scratch", "few", True): 2e-3,
    ("scratch", "full", False): 2e-3,
    ("scratch", "full", True): 2e-3,
}


def cell(labels: str, distilled: bool, seed: int, **changes: Any) -> dict[str, Any]:
    """One declared run: the usual settings for these labels, with changes."""
    init = changes.get("init", "alternate")
    tuned = "scratch" if init == "scratch" else "alternate"  # copied layers share their rates
    usual = {
        "labels": labels,
        "init": "alternate",
        "source": "none" if init == "scratch" else "encoder",
        "teacher": "topic" if distilled else "none",
        "alpha": ALPHA if distilled else 0.0,
        "T": T if distilled else 1.0,
        "lr": RATES[tuned, labels, distilled],
        "split": "test",
    }
    return usual | changes | {"seed": seed}


def _cells() -> list[dict[str, Any]]:
    ways = [(labels, distilled) for labels in ("few", "full") for distilled in (False, True)]
    some = SEEDS[:3]
    cells = [cell(*way, seed) for way in ways for seed in SEEDS]
    cells += [
        cell("few", True, seed, alpha=alpha, T=T) for alpha in SWEEP["alpha"] for T in SWEEP["T"] for seed in some
    ]
    cells += [cell(*way, seed, init=init) for init in ("first", "scratch") for way in ways for seed in some]
    cells += [cell(labels, True, seed, teacher="weak") for labels in ("few", "full") for seed in some]
    cells += [cell(*way, seed, source="teacher") for way in ways for seed in some]
    cells += [
        cell(*way, TUNING_SEED, init=init, lr=lr, split="validation")
        for init, rates in TUNED_RATES.items()
        for way in ways
        for lr in rates
    ]
    return list({tuple(one.items()): one for one in cells}.values())  # the sweep holds the usual setting once more


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Train the student of a cell and ask it about held-out sentences: its accuracy, and how many it got right in each
    document of the split, in the order of the documents' numbers."""
    student = students.topic_student(
        SETTINGS["n_layers"],
        cell["init"],
        cell["seed"],
        source="teacher" if cell["source"] == "teacher" else "encoder",
        freeze_embeddings=cell["init"] != "scratch",
    )
    data = students.transfer_data(cell["labels"], cell["teacher"], cell["alpha"], cell["seed"])
    students.distil(student, data, alpha=cell["alpha"], T=cell["T"], lr=cell["lr"], seed=cell["seed"])
    return judged(student, cell["split"])


def judged(model: nn.Module, split: str) -> dict[str, Any]:
    """The result of a cell: a model's accuracy on a split's held-out sentences, and its right answers by document."""
    rows = TASK.held_out(split)
    answers = TASK.answers(model, rows)
    return {"accuracy": round(TASK.quality(answers), 5), "correct": TASK.summary(answers, rows)}


def correct_by_document(logits: Tensor, split: str = "test") -> list[int]:
    """How many held-out sentences of each document these logits (sentences, 5) get right, in order of the documents."""
    rows = TASK.held_out(split)
    return TASK.summary((logits.argmax(dim=1) == torch.tensor(rows["topic"])).numpy(), rows)


def inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the teachers of this machine, and the size of each document."""
    topic = torch.tensor(topic_classifier.transfer_sentences()["topic"])
    teachers = ("topic", "weak")
    right = {name: students.teacher_logits(name).argmax(1) == topic for name in teachers}
    return {
        "teacher": topic_classifier.teacher_sha256(),
        "sentences": bbc.sentences_sha256("train"),
        "on_transfer": {name: round(float(each.float().mean()), 5) for name, each in right.items()},
        "sizes": topic_classifier.document_sizes(),
        "correct": {name: correct_by_document(students.teacher_logits(name, "test")) for name in teachers},
    }


def rows(table: Table, labels: str, distilled: bool, **changes: Any) -> list[Row]:
    """The test rows of one setting, one a seed: the usual one for these labels, with changes, as in `cell`."""
    return table.repeats(cell(labels, distilled, SEEDS[0], **changes))


def accuracy(table: Table, rows: list[Row]) -> intervals.Interval:
    """Test accuracy of these rows, with its 95 % interval over seeds and documents."""
    return intervals.accuracy(*TASK.from_summaries([row["correct"] for row in rows], table.inputs["sizes"]))


def teacher_accuracy(table: Table, teacher: str = "topic") -> intervals.Interval:
    """Test accuracy of the teacher, with its 95 % interval over documents."""
    return intervals.accuracy(*TASK.from_summaries([table.inputs["correct"][teacher]], table.inputs["sizes"]))


def difference(table: Table, rows: list[Row], others: list[Row]) -> intervals.Difference:
    """Test accuracy of rows minus that of others, paired by seed: as many seeds as both have."""
    seeds = sorted({row["seed"] for row in rows} & {row["seed"] for row in others})
    pair = [[next(row["correct"] for row in side if row["seed"] == seed) for seed in seeds] for side in (rows, others)]
    (a, documents), (b, _) = (TASK.from_summaries(counts, table.inputs["sizes"]) for counts in pair)
    return intervals.paired_difference(a, b, documents)


STUDY = Study(Path(__file__).stem, _cells(), run, cell("few", False, SEEDS[0]), settings=SETTINGS, inputs=inputs)
