"""The study of lesson 06: students of one to four layers, distilled on plain text first or not, then taught the topics.

Every student starts from layers, embeddings and head of the masked-language teacher. `general` says what comes before
the topics: "none"; or "triple", SETTINGS["general_steps"] steps of DistilBERT's loss on training sentences, topics
unseen. Then all of them take SHORT steps on labelled sentences. Three layers that are not distilled also take LONG, as
many as their teacher had.
The learning rates were chosen on validation sentences, at TUNED_DEPTH and SHORT steps, for each way by itself from the
same list; those runs are cells of the grid too.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lessons_lib.distillation import general as general_distillation
from lessons_lib.distillation import masked_language
from lessons_lib.measure import intervals, model_size
from lessons_lib.studies import distil_classifier as topics
from lessons_lib.studies.runs import Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import bbc, topic_classifier
from lessons_lib.training import loop

SETTINGS = {
    "general_steps": 100,
    "batch_size": 32,
    "max_length": 24,  # tokens of a sentence while training; all models are judged at the usual length
    "weights": list(general_distillation.WEIGHTS),
    "T": general_distillation.TEMPERATURE,
    "guessed_sentences": 200,  # on which the masked-language loss is measured
}
WAYS = {"none": None, "triple": SETTINGS["weights"]}
DEPTHS = (1, 2, 3, 4)
SHORT, LONG = 120, topic_classifier.TEACHER["steps"]
SEEDS = (0, 1, 2)
TUNING_SEED = 100  # of the runs that choose a learning rate; no reported run shares it
TUNED_DEPTH = 3
TUNED = {"general_lr": (2.5e-4, 5e-4, 1e-3, 2e-3), "lr": (2.5e-4, 5e-4, 1e-3)}

# The ones that did best on validation sentences in the cells of TUNING_SEED, by way: (general_lr, lr).
RATES = {"none": (0.0, 5e-4), "triple": (2.5e-4, 5e-4)}


def cell(n_layers: int, general: str, seed: int, **changes: Any) -> dict[str, Any]:
    """One declared run: the usual rates of its way, with changes."""
    general_lr, lr = RATES[general]
    usual = {
        "n_layers": n_layers,
        "general": general,
        "general_lr": general_lr,
        "lr": lr,
        "topic_steps": SHORT,
        "split": "test",
    }
    return usual | changes | {"seed": seed}


def _cells() -> list[dict[str, Any]]:
    cells = [cell(depth, way, seed) for depth in DEPTHS for way in WAYS for seed in SEEDS]
    cells += [cell(TUNED_DEPTH, "none", seed, topic_steps=LONG) for seed in SEEDS]
    for way in WAYS:
        rates = [{"lr": lr} for lr in TUNED["lr"]]
        rates += [{"general_lr": lr} for lr in TUNED["general_lr"] if way != "none"]
        cells += [cell(TUNED_DEPTH, way, TUNING_SEED, split="validation", **each) for each in rates]
    return list({tuple(one.items()): one for one in cells}.values())  # the usual rates stand in both lists


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Make the student of a cell, teach it the topics, and judge it: accuracy, right answers by document, the loss of
    its guesses before the topics, parameters and bytes of the classifier."""
    student = general_student(cell["n_layers"], cell["general"], cell["general_lr"], cell["seed"])
    masked_loss = masked_language.held_out_loss(student, cell["split"], SETTINGS["guessed_sentences"])
    classifier = taught(student, cell["topic_steps"], cell["lr"], cell["seed"])
    return topics.judged(classifier, cell["split"]) | {
        "masked_loss": round(masked_loss, 4),
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "bytes": model_size.size_on_disk(classifier),
    }


@lru_cache(maxsize=1)
def teacher() -> masked_language.MaskedLanguageModel:
    """The masked-language teacher, loaded once a process."""
    return masked_language.teacher()


@lru_cache(maxsize=1)
def tokens() -> dict[str, Tensor]:
    """Tokens of all training sentences, cut at max_length, and their topics, which general distillation never sees."""
    data = {name: tensor[:, : SETTINGS["max_length"]] for name, tensor in masked_language.training_tokens().items()}
    return data | {"topic": torch.tensor(bbc.sentences("train")["topic"])}


def general_student(n_layers: int, general: str, general_lr: float, seed: int) -> masked_language.MaskedLanguageModel:
    """A student that took its teacher's layers and then, unless general is "none", learned on plain text."""
    student = general_distillation.new_student(teacher(), n_layers)
    if WAYS[general] is not None:
        text = {name: tokens()[name] for name in ("input_ids", "attention_mask")}
        settings = {"steps": SETTINGS["general_steps"], "batch_size": SETTINGS["batch_size"], "lr": general_lr}
        losses = {"weights": WAYS[general], "T": SETTINGS["T"]}
        general_distillation.distil(student, teacher(), text, **losses, **settings, seed=seed)
    return student


def taught(
    student: masked_language.MaskedLanguageModel, steps: int, lr: float, seed: int
) -> topic_classifier.TopicClassifier:
    """A classifier on the student's encoder, which it changes; its head is new, drawn from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = topic_classifier.TopicClassifier(student.encoder)
    settings = {"steps": steps, "batch_size": SETTINGS["batch_size"], "lr": lr, "seed": seed}
    loop.train(classifier, tokens(), topic_classifier.TASK.loss, **settings, progress=False)
    return classifier


def inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the teachers of this machine, and the size of each document."""
    counts = topics.inputs()
    return {
        "masked_teacher": masked_language.teacher_sha256(),
        "topic_teacher": counts["teacher"],
        "masked_loss": round(masked_language.held_out_loss(teacher(), "test", SETTINGS["guessed_sentences"]), 4),
        "sentences": counts["sentences"],
        "sizes": counts["sizes"],
        "correct": counts["correct"]["topic"],
    }


def rows(table: Table, n_layers: int, general: str, **changes: Any) -> list[Row]:
    """The rows of one setting, one a seed: the usual one, with changes, as in `cell`."""
    return table.repeats(cell(n_layers, general, SEEDS[0], **changes))


def accuracy(table: Table, n_layers: int, general: str, **changes: Any) -> intervals.Interval:
    """Test accuracy of a setting, with its 95 % interval over seeds and documents."""
    return topics.accuracy(table, rows(table, n_layers, general, **changes))


def teacher_accuracy(table: Table) -> intervals.Interval:
    """Test accuracy of the topic teacher of the course, with its 95 % interval over documents."""
    return intervals.accuracy(*topic_classifier.TASK.from_summaries([table.inputs["correct"]], table.inputs["sizes"]))


def gain(table: Table, n_layers: int, **changes: Any) -> intervals.Difference:
    """Test accuracy of the distilled students minus that of the others, paired by seed and document."""
    return topics.difference(table, *(rows(table, n_layers, way, **changes) for way in ("triple", "none")))


def retention(table: Table, n_layers: int, general: str, **changes: Any) -> intervals.Interval:
    """Share of the topic teacher's test accuracy that a setting keeps, student / teacher, with its 95 % interval.

    The interval is that of the difference, paired by document, over the teacher's accuracy, which is taken as it is.
    """
    counts = [row["correct"] for row in rows(table, n_layers, general, **changes)]
    student, documents = topic_classifier.TASK.from_summaries(counts, table.inputs["sizes"])
    teacher, _ = topic_classifier.TASK.from_summaries([table.inputs["correct"]] * len(counts), table.inputs["sizes"])
    gap, whole = intervals.paired_difference(student, teacher, documents), teacher.mean()
    return intervals.Interval(1 + gap.value / whole, 1 + gap.low / whole, 1 + gap.high / whole)


def masked_loss(table: Table, n_layers: int, general: str) -> intervals.Interval:
    """Masked-language loss on test sentences before the topics, nats a guess, with its interval over seeds."""
    losses = [row["masked_loss"] for row in rows(table, n_layers, general)]
    if len(set(losses)) == 1:  # without general steps nothing about the student is random
        return intervals.Interval(losses[0], losses[0], losses[0])
    return intervals.over_seeds(losses)


STUDY = Study(Path(__file__).stem, _cells(), run, cell(1, "none", SEEDS[0]), settings=SETTINGS, inputs=inputs)
