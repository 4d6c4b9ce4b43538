"""The study of lesson 15 on movement: magnitude and movement pruning while the encoder learns the topics.

Two layers of the pretrained encoder, which has not seen the topics, are fine-tuned on them as in lesson 04, and their
linear layers lose weights on the way, each the same share, by the cubic schedule. "dense" is the same training without
pruning. All see the same sentences in the same order for the same number of steps. Learning rates were chosen on
validation data, for each way by itself; that of "dense" is the one of lesson 04. Accuracy is asked for as in lesson 14,
of the same sentences.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lessons_lib.distillation import students
from lessons_lib.pruning import movement, schedules
from lessons_lib.studies import distil_classifier as classifier
from lessons_lib.studies import magnitude, structure
from lessons_lib.studies.runs import Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import layers, topic_classifier
from lessons_lib.training import loop

SETTINGS = {
    "n_layers": classifier.SETTINGS["n_layers"],
    "batch_size": 16,
    "max_length": 16,  # tokens of a sentence while training; all are judged at the usual length
    "pruned_from": 0.1,  # share of the steps after which pruning begins
    "pruned_by": 0.5,  # and after which the final sparsity is reached: the rest repairs
    "every": 4,  # steps from one choice of masks to the next
    "sentences": {name: classifier.SETTINGS[name] for name in ("transfer_sentences", "transfer_seed", "every")},
    "asked": magnitude.SETTINGS["asked"],
}
SEEDS = (0, 1, 2)
TUNING_SEED = classifier.TUNING_SEED
SPARSITIES = (0.5, 0.7, 0.9)
TUNED_AT = 0.7
STEPS, LONG = 80, 320
RATES = (1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)
# Did best on validation data in the cells of TUNING_SEED; without pruning it is the training of lesson 04.
CHOSEN = {"dense": classifier.RATES["alternate", "full", False], "magnitude": 1e-3, "movement": 2.5e-4}


def cell(way: str, sparsity: float, seed: int, **changes: Any) -> dict[str, Any]:
    """One declared run: the way weights go, and the final share of zeros."""
    usual = {
        "model": "classifier",
        "way": way,
        "sparsity": sparsity,
        "steps": STEPS,
        "lr": CHOSEN[way],
        "split": "test",
    }
    return usual | changes | {"seed": seed}


def _cells() -> list[dict[str, Any]]:
    cells = [cell(way, TUNED_AT, TUNING_SEED, lr=lr, split="validation") for way in movement.WAYS for lr in RATES]
    cells += [cell("dense", 0.0, seed) for seed in SEEDS]
    cells += [cell(way, sparsity, seed) for way in movement.WAYS for sparsity in SPARSITIES for seed in SEEDS]
    return cells + [cell(way, TUNED_AT, seed, steps=LONG) for seed in SEEDS for way in movement.WAYS]


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune and prune as a cell says, and judge what came out; "quality" is the accuracy."""
    return magnitude.judged("classifier", fine_tuned(cell), cell["split"])


def sparsity_at(step: int, steps: int, final: float) -> float:
    """The share of weights that is closed after step of so many: none, then the cubic rise, then the final one."""
    begin, end = (round(SETTINGS[when] * steps) for when in ("pruned_from", "pruned_by"))
    return schedules.cubic_schedule(step, begin, end, final)


@lru_cache(maxsize=1)
def train_data() -> dict[str, torch.Tensor]:
    """Tokens and topics of the transfer set of lesson 04, cut shorter."""
    sentences = topic_classifier.transfer_sentences()
    return topic_classifier.tokenize(sentences["text"], SETTINGS["max_length"]) | {
        "topic": torch.tensor(sentences["topic"])
    }


def fine_tuned(cell: dict[str, Any], progress: bool = False) -> nn.Module:
    """A classifier on the pretrained encoder, trained on the topics, with the asked share of zeros in each layer."""
    model = students.topic_student(SETTINGS["n_layers"], seed=cell["seed"], source="encoder", freeze_embeddings=True)
    weights = schedules.linear_weights(model) if cell["sparsity"] else {}
    steps, final = cell["steps"], cell["sparsity"]
    masks = movement.pruned_while_training(
        model, weights, cell["way"], lambda step: sparsity_at(step, steps, final), SETTINGS["every"]
    )
    with layers.attention_written_out(model), masks:
        settings = {"steps": steps, "lr": cell["lr"], "batch_size": SETTINGS["batch_size"], "seed": cell["seed"]}
        loop.train(model, train_data(), topic_classifier.TASK.loss, **settings, progress=progress)
    return model.requires_grad_(False)


def rows(table: Table, way: str, sparsity: float, steps: int = STEPS) -> list[Row]:
    """The test rows of one setting, one a seed."""
    return table.repeats(cell(way, sparsity, SEEDS[0], steps=steps))


def tuning(table: Table, way: str) -> dict[float, float]:
    """Accuracy on validation data by learning rate, of all that were tried."""
    return {row["lr"]: row["quality"] for row in table.where(way=way, seed=TUNING_SEED)}


# Another processor rounds otherwise, and then other weights go: hence the slack.
CHEAP = cell("movement", SPARSITIES[-1], SEEDS[0])
STUDY = Study(Path(__file__).stem, _cells(), run, CHEAP, "quality", SETTINGS, structure.inputs, slack=0.02)
