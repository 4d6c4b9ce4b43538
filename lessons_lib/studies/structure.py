"""The study of lesson 15 on structure: how good the topic teacher stays as its heads and neurons go.

"importance" removes what matters least by the gradients of the gates, over sentences drawn from the seed; "random" what
the seed draws. Heads of all layers compete; of the neurons every layer loses equally many, because a config has one
number for all. What is left may be trained for a few steps, on the labels or on what the unpruned teacher says, each
with a learning rate of its own, chosen on validation data. The cells "exact" compare the importance of each head with
what the loss becomes without it. Accuracy is asked for as in lesson 14, of the same sentences.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.distillation import students
from lessons_lib.pruning import heads, importance, structured
from lessons_lib.studies import distil_classifier as classifier
from lessons_lib.studies import magnitude
from lessons_lib.studies.runs import Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import bbc, layers, topic_classifier
from lessons_lib.training import loop

SETTINGS = {
    "sentences": {"importance": 256, "exact": 64},  # drawn from the training sentences
    "batch_size": 32,
    "steps": 30,  # of what is left
    "alpha": {"labels": 0.0, "teacher": 1.0},
    "T": students.T,
    "transfer": {
        name: classifier.SETTINGS[name]
        for name in ("max_length", "transfer_sentences", "transfer_seed", "every", "batch_size")
    },
    "asked": magnitude.SETTINGS["asked"],
}
SEEDS = (0, 1, 2)
TUNING_SEED = classifier.TUNING_SEED
WAYS = ("importance", "random")
HEADS = (24, 36, 54)  # of the teacher's 72
NEURONS = 768  # of the 1,536 in each layer
BOTH = {"heads": 24, "neurons": NEURONS}  # a third of the heads, half of the neurons
DEEP = {"heads": 36, "neurons": 1152}  # half of the heads, three quarters of the neurons
RATES = (3e-5, 1e-4, 3e-4)
CHOSEN = {"labels": 1e-4, "teacher": 1e-4}  # did best on validation data in the cells of TUNING_SEED


def cell(way: str, seed: int, gone: dict[str, int], recovery: str | None = None, **changes: Any) -> dict[str, Any]:
    """One declared run. gone: how many "heads" of all and how many "neurons" of each layer go. recovery: what the rest
    is trained on, "labels" or "teacher"."""
    usual = {
        "model": "classifier",
        "way": way,
        "heads": gone.get("heads", 0),
        "neurons": gone.get("neurons", 0),
        "recovery": recovery,
        "lr": CHOSEN.get(recovery),
        "split": "test",
    }
    return usual | changes | {"seed": seed}


def _cells() -> list[dict[str, Any]]:
    cells = [cell("exact", seed, {}, split="train") for seed in SEEDS] + [cell("importance", SEEDS[0], {})]
    removed = [{"heads": count} for count in HEADS] + [{"neurons": NEURONS}, BOTH]
    cells += [cell(way, seed, gone) for way in WAYS for gone in removed for seed in SEEDS]
    cells += [
        cell("importance", TUNING_SEED, DEEP, recovery, lr=lr, split="validation")
        for recovery in CHOSEN
        for lr in RATES
    ]
    return cells + [cell("importance", seed, DEEP, recovery) for recovery in (None, *CHOSEN) for seed in SEEDS]


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Prune the teacher as a cell says, train what is left if it says so, and judge it; or compare two measures of the
    heads. "quality" is the accuracy, and in the cells "exact" the rank correlation."""
    if cell["way"] == "exact":
        return compared(cell["seed"])
    model = pruned(cell)
    if cell["recovery"] is not None:
        recover(model, cell["recovery"], cell["lr"], cell["seed"])
    return magnitude.judged("classifier", model, cell["split"])


def compared(seed: int) -> dict[str, Any]:
    """The importance of all heads by gradients, beside what the loss becomes without each: rank correlations.

    quality: of the two measures, both with the absolute value in each sentence. signed: of the two with their signs,
    so that sentences cancel. mean: of the importance with the absolute change of the mean loss. halves: of the exact
    measure on one half of the sentences with itself on the other; of the importance likewise.
    """
    model, batches = (
        topic_classifier.topic_teacher(),
        topic_classifier.training_batches(SETTINGS["sentences"]["exact"], seed),
    )
    gradients = torch.cat(importance.gate_gradients(model, batches), dim=1)  # (sentences, heads of all layers)
    changes = torch.cat(importance.exact_changes(model, batches), dim=1)
    by_gradient, exact = importance.from_gates(gradients), importance.from_gates(changes)

    def halves(of: Tensor, measure) -> float:
        return round(importance.spearman(measure(of[::2]), measure(of[1::2])), 5)

    return {
        "quality": round(importance.spearman(by_gradient, exact), 5),
        "signed": round(importance.spearman(-gradients.sum(dim=0), changes.sum(dim=0)), 5),
        "mean": round(importance.spearman(by_gradient, changes.mean(dim=0).abs()), 5),
        "halves": {
            "exact": halves(changes, importance.from_gates),
            "gradient": halves(gradients, importance.from_gates),
            "signed": halves(changes, lambda half: half.sum(dim=0)),
            "mean": halves(changes, lambda half: half.mean(dim=0).abs()),
        },
        "gradient": [round(value, 6) for value in (by_gradient / len(gradients)).tolist()],
        "exact": [round(value, 6) for value in (exact / len(changes)).tolist()],
        "change": [round(value, 6) for value in changes.mean(dim=0).tolist()],
    }


@lru_cache(maxsize=2)
def scores(part: str, seed: int) -> tuple[Tensor, ...]:
    """Importance of the teacher's heads or neurons over sentences drawn from the seed: for each layer FP32 (units,)."""
    model, batches = (
        topic_classifier.topic_teacher(),
        topic_classifier.training_batches(SETTINGS["sentences"]["importance"], seed),
    )
    return tuple(importance.from_gates(block) for block in importance.gate_gradients(model, batches, part))


def pruned(cell: dict[str, Any]) -> nn.Module:
    """The teacher without the heads and neurons that a cell removes: smaller matrices, no gates."""
    model, draw = topic_classifier.topic_teacher(), torch.Generator().manual_seed(cell["seed"])

    def ranked(part: str) -> list[Tensor]:
        if cell["way"] == "importance":
            return list(scores(part, cell["seed"]))
        return [torch.rand(units, generator=draw) for _, units in importance.gated(model, part)]

    if cell["way"] not in WAYS:
        raise ValueError(f"heads and neurons go by {' or '.join(WAYS)}, not by {cell['way']!r}.")
    if cell["heads"]:
        model = heads.prune_heads(
            model, [positions.tolist() for positions in importance.least(ranked("heads"), cell["heads"])]
        )
    if cell["neurons"]:
        model = structured.prune_neurons(model, importance.least_in_each(ranked("neurons"), cell["neurons"]))
    return model


def recover(model: nn.Module, recovery: str, lr: float, seed: int, progress: bool = False) -> loop.History:
    """Train a pruned model in place, its embeddings left as they are: on the labels of the transfer set of lesson 04,
    or on what the unpruned teacher says of the same sentences."""
    model.requires_grad_(True).encoder.embeddings.requires_grad_(False)
    data = students.transfer_data("full", "topic", SETTINGS["alpha"][recovery], seed)
    with layers.attention_written_out(model):
        losses = {"alpha": SETTINGS["alpha"][recovery], "T": SETTINGS["T"]}
        return students.distil(model, data, **losses, lr=lr, seed=seed, steps=SETTINGS["steps"], progress=progress)


def rows(table: Table, way: str, gone: dict[str, int], recovery: str | None = None) -> list[Row]:
    """The rows of one setting, one a seed, as in `cell`."""
    return table.repeats(cell(way, SEEDS[0], gone, recovery))


def tuning(table: Table, recovery: str) -> dict[float, float]:
    """Accuracy on validation data by learning rate, of all that were tried."""
    return {row["lr"]: row["quality"] for row in table.where(recovery=recovery, seed=TUNING_SEED)}


def inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the teacher, and each test sentence's document."""
    return {
        "teacher": topic_classifier.teacher_sha256(),
        "sentences": bbc.sentences_sha256("train"),
        "documents": magnitude.documents(),
    }


CHEAP = cell("importance", SEEDS[0], {"heads": HEADS[0]})
STUDY = Study(Path(__file__).stem, _cells(), run, CHEAP, "quality", SETTINGS, inputs)
