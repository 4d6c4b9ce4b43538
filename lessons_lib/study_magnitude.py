"""The study of lesson 14: how good the topic teacher and the translator stay as their weights go.

All linear layers but the last are pruned. "global", "layer", "row" and "2:4" go by size, "wanda" by its score; none of
them trains, and only Wanda draws anything, the texts it looks at. "retrained" prunes globally at once and then trains,
"iterative" prunes and trains in rounds, by the cubic schedule: as many steps in all, of as many examples of the same
data. At sparsity 0 "retrained" is the training alone. Both had their learning rates chosen on validation data.
A cell without a sparsity searches the highest one that costs at most a tolerance on validation data; what it found is
then confirmed on test data, over seeds. Quality is accuracy for the classifier, BLEU as a share of 100 for the other.
"""

import base64
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from lessons_lib import (
    bleu,
    generation,
    intervals,
    models,
    pruning,
    sparse_training,
    training,
    translation,
    translation_teacher,
    translator,
)
from lessons_lib import study_distil_classifier as classifier
from lessons_lib.runs import Row, Table
from lessons_lib.study import Study

MODELS = ("classifier", "translator")
SETTINGS = {
    "steps": {"classifier": 96, "translator": 40},  # in all
    "rounds": 4,  # of "iterative", each a share of the steps with an optimizer of its own
    "batch_size": {"classifier": 16, "translator": 32},
    "pairs": 2000,
    "texts": 64,  # that Wanda looks at
    "asked": {"validation": 1, "test": 2},  # every so manieth held-out sentence or phrase
    "tolerance": 0.01,  # one point of accuracy, or one BLEU
    "candidates": {  # of the searches
        "still": dict.fromkeys(MODELS, [place / 50 for place in range(50)]),
        "trained": {
            "classifier": [place / 20 for place in range(6, 16)],
            "translator": [place / 20 for place in range(10, 20)],
        },
    },
}
STILL, TRAINED = ("global", "layer", "row", "wanda", "2:4"), ("retrained", "iterative")
SEARCHED = ("global", "row", "wanda", *TRAINED)  # the ways whose highest sparsity is searched
SEEDS = (0, 1, 2)
TUNING_SEED = 100  # no reported run shares it
SPARSITIES = {"classifier": (0.3, 0.5, 0.7), "translator": (0.3, 0.5, 0.6, 0.7, 0.8)}  # of the ways that do not train
TRAINED_SPARSITIES = {"classifier": (0.5, 0.7), "translator": (0.7, 0.9)}
TUNED_AT = {"classifier": 0.6, "translator": 0.8}
RATES = {"classifier": (3e-5, 1e-4, 3e-4), "translator": (1e-3, 2e-3, 4e-3)}

# What did best on validation data in the cells of TUNING_SEED: learning rates, then the sparsities of the searches.
CHOSEN = {
    ("classifier", "retrained"): 1e-4,
    ("classifier", "iterative"): 1e-4,
    ("translator", "retrained"): 0.002,
    ("translator", "iterative"): 0.002,
}
FOUND: dict[tuple[str, str], float] = {
    ("classifier", "global"): 0.28,
    ("classifier", "row"): 0.44,
    ("classifier", "wanda"): 0.42,
    ("classifier", "retrained"): 0.35,
    ("translator", "global"): 0.64,
    ("translator", "row"): 0.68,
    ("translator", "wanda"): 0.66,
    ("translator", "retrained"): 0.8,
}


def cell(model: str, way: str, sparsity: float | None, seed: int, **changes: Any) -> dict[str, Any]:
    """One declared run. sparsity: None searches the highest one on validation data."""
    usual = {
        "model": model,
        "way": way,
        "sparsity": sparsity,
        "lr": CHOSEN.get((model, way)),
        "split": "test" if sparsity is not None else "validation",
    }
    return usual | changes | {"seed": seed}


def _seeds(way: str) -> tuple[int, ...]:
    return SEEDS if way in ("wanda", *TRAINED) else SEEDS[:1]


def _cells() -> list[dict[str, Any]]:
    cells = [
        cell(model, way, TUNED_AT[model], TUNING_SEED, lr=lr, split="validation")
        for model in MODELS
        for way in TRAINED
        for lr in RATES[model]
    ]
    cells += [cell(model, way, None, TUNING_SEED) for model in MODELS for way in SEARCHED]
    for model in MODELS:
        settings = [("global", 0.0), ("layer", 0.5), ("2:4", 0.5), ("retrained", 0.0)]
        settings += [
            (way, sparsity)
            for way in SEARCHED
            for sparsity in (TRAINED_SPARSITIES if way in TRAINED else SPARSITIES)[model]
        ]
        settings += [(way, FOUND[model, way]) for way in SEARCHED if (model, way) in FOUND]
        cells += [cell(model, way, sparsity, seed) for way, sparsity in settings for seed in _seeds(way)]
    return list({tuple(one.items()): one for one in cells}.values())  # what was found may be on the grid already


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Prune the model of a cell and judge it; or search, judging on validation data, and report all that was tried."""
    if cell["sparsity"] is not None:
        return judged(cell["model"], pruned(cell, cell["sparsity"]), cell["split"])

    def quality(sparsity: float) -> float:
        return judged(cell["model"], pruned(cell, sparsity), cell["split"])["quality"]

    unpruned = judged(cell["model"], dense(cell["model"]), cell["split"])["quality"]
    candidates = SETTINGS["candidates"]["trained" if cell["way"] in TRAINED else "still"][cell["model"]]
    found, tried = pruning.highest_sparsity(quality, unpruned - SETTINGS["tolerance"], candidates)
    return {"quality": tried.get(found, unpruned), "found": found, "unpruned": unpruned, "tried": sorted(tried.items())}


def train_data(kind: str) -> dict[str, Tensor]:
    """What "retrained" and "iterative" train on: the labelled sentences of lesson 04, or pairs of lesson 07."""
    if kind == "classifier":
        return classifier.transfer_data("full", "none", 0.0, seed=0)
    pairs = translation.pairs("train").select(range(SETTINGS["pairs"]))
    return translation.tensors(pairs["english"][:], pairs["french"][:])


def dense(kind: str) -> nn.Module:
    """The unpruned model, a copy of its own."""
    return models.topic_teacher() if kind == "classifier" else translation_teacher.teacher()


def calls(kind: str, model: nn.Module, seed: int) -> list[Callable[[], object]]:
    """Runs of the model on some training texts, drawn from the seed, one at a time so that none is padded."""
    draw = torch.Generator().manual_seed(seed)
    data = train_data(kind)
    rows = torch.randperm(len(next(iter(data.values()))), generator=draw)[: SETTINGS["texts"]]
    if kind == "classifier":
        texts = [
            training.trim_padding({name: data[name][[row]] for name in ("input_ids", "attention_mask")})
            for row in rows.tolist()
        ]
        return [lambda text=text: model(**text) for text in texts]
    pairs = [[translator.trimmed(data[name][[row]]) for name in ("source", "target")] for row in rows.tolist()]
    return [lambda pair=pair: model(pair[0], pair[1][:, :-1]) for pair in pairs]


def still_masks(kind: str, model: nn.Module, way: str, sparsity: float, seed: int) -> pruning.Masks:
    """The masks of a way without training."""
    weights = sparse_training.linear_weights(model)
    if way == "global":
        return pruning.global_masks(weights, sparsity)
    if way == "layer":
        return pruning.local_masks(weights, sparsity)
    if way == "row":
        return {name: pruning.row_mask(weight, sparsity) for name, weight in weights.items()}
    if way == "2:4":
        return {name: pruning.n_m_mask(weight, 2, 4) for name, weight in weights.items()}
    if way == "wanda":
        norms = sparse_training.input_norms(model, weights, calls(kind, model, seed))
        return {name: pruning.wanda_mask(weight, norms[name], sparsity) for name, weight in weights.items()}
    raise ValueError(f"there is no way {way!r}; there is {', '.join(STILL + TRAINED)}.")


def pruned(cell: dict[str, Any], sparsity: float, progress: bool = False) -> nn.Module:
    """The model of a cell, pruned to a sparsity the cell's way, trained if that way trains; its linear layers hold
    exactly the asked number of zeros."""
    kind, model = cell["model"], dense(cell["model"])
    weights = sparse_training.linear_weights(model)
    if cell["way"] not in TRAINED:
        sparse_training.apply_masks(weights, still_masks(kind, model, cell["way"], sparsity, cell["seed"]))
        return model
    model.requires_grad_(True)
    if kind == "classifier":
        model.encoder.embeddings.requires_grad_(False)
    data, loss = train_data(kind), models.topic_loss if kind == "classifier" else translator.translation_loss
    rounds = SETTINGS["rounds"] if cell["way"] == "iterative" else 1
    for number in range(1, rounds + 1):
        share = sparse_training.cubic_schedule(number, 0, rounds, sparsity)
        with sparse_training.held(weights, pruning.global_masks(weights, share)):
            training.train(
                model,
                data,
                loss,
                steps=SETTINGS["steps"][kind] // rounds,
                lr=cell["lr"],
                batch_size=SETTINGS["batch_size"][kind],
                seed=cell["seed"] + 1000 * (number - 1),
                progress=progress,
            )
    return model.requires_grad_(False)


@lru_cache(maxsize=4)
def asked(kind: str, split: str):
    """The held-out sentences, or phrases, that a split's figures rest on. A datasets.Dataset."""
    held_out = classifier.held_out(split) if kind == "classifier" else translation.pairs(split)
    return held_out.select(range(0, len(held_out), SETTINGS["asked"][split]))


def judged(kind: str, model: nn.Module, split: str) -> dict[str, Any]:
    """Quality on a split, and what each sentence or phrase adds to it, for intervals. The classifier is asked in the
    precision that it trains in."""
    data = asked(kind, split)
    if kind == "classifier":
        with training.bfloat16_where_fast():
            logits = models.predict_logits(model, data["text"][:])
        right = (logits.argmax(dim=1) == torch.tensor(data["topic"][:])).numpy()
        return {"quality": round(float(right.mean()), 5), "answers": base64.b85encode(numpy.packbits(right)).decode()}
    counts = bleu.statistics(generation.translate(model, data["english"][:]), data["french"][:])
    quality = float(bleu.from_statistics(counts.sum(axis=0))) / 100
    return {"quality": round(quality, 5), "answers": bleu.pack(counts)}


def documents() -> list[int]:
    """The document of each test sentence that the classifier is asked about, as a number from 0."""
    return numpy.unique(asked("classifier", "test")["document"][:], return_inverse=True)[1].tolist()


def _inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the two models, the pairs, and each test sentence's document."""
    return {
        "classifier": classifier.teacher_sha256(),
        "pairs": translation.pairs_sha256(),
        "translator": training.state_sha256(translation_teacher.teacher().state_dict()),
        "documents": documents(),
    }


def rows(table: Table, model: str, way: str, sparsity: float | None) -> list[Row]:
    """The rows of one setting, one a seed: test rows, or the search when there is no sparsity."""
    return table.repeats(cell(model, way, sparsity, 0))


def score(table: Table, rows: list[Row]) -> intervals.Interval:
    """Accuracy (0 to 100 %) or BLEU of some test rows, with its interval over seeds and documents, or phrases."""
    if rows[0]["model"] == "translator":
        return bleu.interval(_counts(rows))
    return intervals.accuracy(_right(table, rows), table.inputs["documents"]).scaled(100)


def difference(table: Table, rows: list[Row], others: list[Row]) -> intervals.Difference:
    """Points of accuracy, or BLEU, of some rows minus others, paired by seed; a single row stands for all seeds."""
    runs = max(len(rows), len(others))
    rows, others = (side * runs if len(side) == 1 else side for side in (rows, others))
    if rows[0]["model"] == "translator":
        return bleu.difference(_counts(rows), _counts(others))
    return intervals.paired_difference(_right(table, rows), _right(table, others), table.inputs["documents"]).scaled(
        100
    )


def _counts(rows: list[Row]) -> numpy.ndarray:
    """What each phrase adds to BLEU: (runs, phrases, counts)."""
    return numpy.stack([bleu.unpack(row["answers"]) for row in rows])


def _right(table: Table, rows: list[Row]) -> numpy.ndarray:
    """Which sentences were right: 0/1 (runs, sentences)."""
    packed = [numpy.frombuffer(base64.b85decode(row["answers"]), dtype=numpy.uint8) for row in rows]
    return numpy.stack([numpy.unpackbits(one) for one in packed])[:, : len(table.inputs["documents"])]


def tuning(table: Table, model: str, way: str) -> dict[float, float]:
    """Quality on validation data by learning rate, of all that were tried for a way that trains."""
    found = table.where(model=model, way=way, sparsity=TUNED_AT[model], seed=TUNING_SEED)
    return {row["lr"]: row["quality"] for row in found}


STUDY = Study(
    name="magnitude",
    cells=_cells(),
    run=run,
    cheap=cell("translator", "wanda", 0.5, SEEDS[0]),
    score="quality",
    settings=SETTINGS,
    inputs=_inputs,
    slack=0.03,  # another processor rounds otherwise, and near the brink a little less is much less
)
