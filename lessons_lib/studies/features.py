"""The study of lesson 05: what hints, attention maps and relations add to the output loss of lesson 04.

The same students, texts, few labels, steps and learning rate as in `distil_classifier`, which chose that rate for
the output loss among five. "output" is that lesson's distilled student. A feature loss stands beside it, as in
"output + hint", or in its place, with the few labels alone to train the head, as in "hint". The weight of each feature
loss was chosen on validation sentences among three, beside the output loss; those runs are cells of the grid.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.distillation import features, losses, students
from lessons_lib.distillation.features import Insides
from lessons_lib.studies import distil_classifier
from lessons_lib.studies.runs import Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import topic_classifier
from lessons_lib.training import loop

BASE = distil_classifier.SETTINGS
FEATURES = ("hint", "attention", "tokens", "examples")
WEIGHTS = {
    "hint": (10.0, 100.0, 1000.0),
    "attention": (10.0, 100.0, 1000.0),
    "tokens": (0.1, 1.0, 10.0),
    "examples": (10.0, 100.0, 1000.0),
}
CHOSEN = {"hint": 100.0, "attention": 100.0, "tokens": 0.1, "examples": 100.0}
SEEDS = (0, 1, 2)
TUNING_SEED = distil_classifier.TUNING_SEED
RELATION_HEADS = 12
SETTINGS = BASE | {
    "alpha": students.ALPHA,
    "T": students.T,
    "heads": RELATION_HEADS,
    "map": "uniform",
    "label_copies": 12,
    "lr": distil_classifier.RATES["alternate", "few", True],
}


def cell(seed: int, output: bool, split: str = "test", **weights: float) -> dict[str, Any]:
    """One declared run: the output loss or not, a weight for each feature loss that takes part, a seed."""
    return {"output": output, "weights": weights, "split": split, "seed": seed}


def settings() -> dict[str, tuple[bool, dict[str, float]]]:
    """The compared settings by name: whether the output loss takes part, and the weights of the feature losses."""
    single = {name: {name: CHOSEN[name]} for name in FEATURES}
    objectives = {"output": (True, {})}
    objectives |= {name: (False, weights) for name, weights in single.items()}
    objectives |= {f"output + {name}": (True, weights) for name, weights in single.items()}
    return objectives | {"all four": (True, {name: CHOSEN[name] / len(FEATURES) for name in FEATURES})}


def _cells() -> list[dict[str, Any]]:
    cells = [cell(seed, output, **weights) for output, weights in settings().values() for seed in SEEDS]
    return cells + [
        cell(TUNING_SEED, True, "validation", **{name: weight}) for name in FEATURES for weight in WEIGHTS[name]
    ]


def feature_loss(name: str, student: Insides, teacher: Insides, mask: Tensor) -> Tensor:
    """One feature loss between two forward passes; hints and attention over the layers of a uniform map."""
    imitated = features.layer_map(len(student.hidden) - 1, len(teacher.hidden) - 1, SETTINGS["map"])
    if name == "hint":
        layers = zip(student.hidden[1:], [teacher.hidden[layer + 1] for layer in imitated], strict=True)
        return sum(features.hint_loss(own, taught, mask) for own, taught in layers) / len(imitated)
    if name == "attention":
        layers = zip(student.attention, [teacher.attention[layer] for layer in imitated], strict=True)
        return sum(features.attention_loss(own, taught, mask) for own, taught in layers) / len(imitated)
    if name == "tokens":
        return features.token_relation_loss(student.values, teacher.values, mask, RELATION_HEADS)
    if name == "examples":
        relations = features.relation_loss(student.pooled, teacher.pooled)
        return relations + features.angle_loss(student.pooled, teacher.pooled)
    raise ValueError(f"there is no feature loss {name!r}; there is {', '.join(FEATURES)}")


def combined(teacher: nn.Module, output: bool, weights: dict[str, float]) -> Callable[[nn.Module, dict], Tensor]:
    """The loss of a setting: lesson 04's on the output, or its hard part alone, plus the weighted feature losses.

    The teacher runs beside the student: its hidden states and maps of all texts would take more than a gigabyte.
    """
    maps, alpha = "attention" in weights, SETTINGS["alpha"] if output else 0.0

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        tokens = batch["input_ids"], batch["attention_mask"]
        seen = features.look_inside(model, *tokens, maps) if weights else None
        logits = seen.logits if seen else model(*tokens)
        total = losses.distillation_loss(logits, batch["teacher_logits"], batch["topic"], alpha, SETTINGS["T"])
        if weights:
            with torch.no_grad():
                taught = features.look_inside(teacher, *tokens, maps)
            total = total + sum(w * feature_loss(name, seen, taught, tokens[1]) for name, w in weights.items())
        return total

    return loss


def distil(
    student: nn.Module,
    teacher: nn.Module,
    data: dict[str, Tensor],
    *,
    output: bool,
    weights: dict[str, float],
    seed: int,
    steps: int = BASE["steps"],
    progress: bool = False,
) -> loop.History:
    """Train a student in place on the transfer data of lesson 04, with a setting's `combined` loss.

    Without the output loss only labelled sentences teach the head, and a batch would hold one at most: they come
    several times.
    """
    if not output:
        labelled = (data["topic"] != losses.UNLABELLED).long()
        copies = 1 + labelled * (SETTINGS["label_copies"] - 1)
        data = {name: tensor.repeat_interleave(copies, dim=0) for name, tensor in data.items()}
    settings = {"steps": steps, "batch_size": BASE["batch_size"], "lr": SETTINGS["lr"], "seed": seed}
    return loop.train(student, data, combined(teacher, output, weights), **settings, progress=progress)


@lru_cache(maxsize=1)
def _teacher() -> nn.Module:
    return topic_classifier.topic_teacher()


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Train the student of a cell; its accuracy and right answers by document, as in lesson 04's study."""
    student = students.topic_student(BASE["n_layers"], seed=cell["seed"], source="encoder", freeze_embeddings=True)
    data = students.transfer_data("few", "topic", SETTINGS["alpha"], cell["seed"])
    distil(student, _teacher(), data, output=cell["output"], weights=cell["weights"], seed=cell["seed"])
    return distil_classifier.judged(student, cell["split"])


def rows(table: Table, name: str) -> list[Row]:
    """The test rows of a setting by its name in `settings`, one a seed."""
    output, weights = settings()[name]
    return table.where(output=output, weights=weights, split="test")


def tuning(table: Table, name: str) -> dict[float, float]:
    """Accuracy on validation sentences of each weight that was tried for a feature loss."""
    tuning_runs = [row for row in table.where(seed=TUNING_SEED) if list(row["weights"]) == [name]]
    return {row["weights"][name]: row["accuracy"] for row in tuning_runs}


CHEAP = cell(SEEDS[0], True, hint=CHOSEN["hint"])
STUDY = Study(Path(__file__).stem, _cells(), run, CHEAP, settings=SETTINGS, inputs=distil_classifier.inputs)
