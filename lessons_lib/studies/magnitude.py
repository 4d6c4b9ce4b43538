"""The study of lesson 14: how good the topic teacher and the translator stay as their weights go.

All linear layers but the last are pruned. "global", "layer", "row" and "2:4" go by size, "wanda" by its score; none of
them trains, and only Wanda draws anything, the texts it looks at. "retrained" prunes globally at once and then trains,
"iterative" prunes and trains in rounds, by the cubic schedule: as many steps in all, of as many examples of the same
data. At sparsity 0 "retrained" is the training alone. Both had their learning rates chosen on validation data.
A cell without a sparsity searches the highest one that costs at most a tolerance on validation data; what it found is
then confirmed on test data, over seeds. Quality is accuracy for the classifier, BLEU as a share of 100 for the other.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy
from torch import nn

from lessons_lib.measure import intervals
from lessons_lib.pruning import schedules, unstructured
from lessons_lib.studies.runs import Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import phrase_pairs, task, topic_classifier, translation
from lessons_lib.training import loop

MODELS = ("classifier", "translator")
SETTINGS = {
    "steps": {"classifier": 96, "translator": 40},  # in all
    "rounds": 4,  # of "iterative", each a share of the steps with an optimizer of its own
    "batch_size": {"classifier": 16, "translator": 32},
    "pairs": translation.LABELLED,
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
    highest_sparsity, tried = unstructured.highest_sparsity(quality, unpruned - SETTINGS["tolerance"], candidates)
    return {
        "quality": tried.get(highest_sparsity, unpruned),
        "found": highest_sparsity,
        "unpruned": unpruned,
        "tried": sorted(tried.items()),
    }


def dense(model: str) -> nn.Module:
    """The unpruned model, a copy of its own."""
    return task.load(model).teacher()


def calls(kind: str, model: nn.Module, seed: int) -> list[Callable[[], object]]:
    """Runs of the model on some training texts, drawn from the seed, one at a time so that none is padded."""
    return task.load(kind).calls(model, SETTINGS["texts"], seed)


def still_masks(kind: str, model: nn.Module, way: str, sparsity: float, seed: int) -> unstructured.Masks:
    """The masks of a way without training."""
    weights = schedules.linear_weights(model)
    if way == "global":
        return unstructured.global_masks(weights, sparsity)
    if way == "layer":
        return unstructured.local_masks(weights, sparsity)
    if way == "row":
        return {name: unstructured.row_mask(weight, sparsity) for name, weight in weights.items()}
    if way == "2:4":
        return {name: unstructured.n_m_mask(weight, 2, 4) for name, weight in weights.items()}
    if way == "wanda":
        norms = schedules.input_norms(model, weights, calls(kind, model, seed))
        return {name: unstructured.wanda_mask(weight, norms[name], sparsity) for name, weight in weights.items()}
    raise ValueError(f"there is no way {way!r}; there is {', '.join(STILL + TRAINED)}.")


def pruned(cell: dict[str, Any], sparsity: float, progress: bool = False) -> nn.Module:
    """The model of a cell, pruned to a sparsity the cell's way, trained if that way trains; its linear layers hold
    exactly the asked number of zeros."""
    kind, model = cell["model"], dense(cell["model"])
    weights = schedules.linear_weights(model)
    if cell["way"] not in TRAINED:
        schedules.apply_masks(weights, still_masks(kind, model, cell["way"], sparsity, cell["seed"]))
        return model
    course_task = task.load(kind)
    course_task.trainable(model)
    data = course_task.train_data()
    rounds = SETTINGS["rounds"] if cell["way"] == "iterative" else 1
    settings = {"steps": SETTINGS["steps"][kind] // rounds, "batch_size": SETTINGS["batch_size"][kind]}
    for number in range(1, rounds + 1):
        share = schedules.cubic_schedule(number, 0, rounds, sparsity)
        with schedules.held(weights, unstructured.global_masks(weights, share)):
            seed = cell["seed"] + 1000 * (number - 1)
            loop.train(model, data, course_task.loss, **settings, lr=cell["lr"], seed=seed, progress=progress)
    return model.requires_grad_(False)


@lru_cache(maxsize=4)
def asked(kind: str, split: str):
    """The held-out sentences, or phrases, that a split's figures rest on. A datasets.Dataset."""
    held_out = task.load(kind).held_out(split)
    return held_out.select(range(0, len(held_out), SETTINGS["asked"][split]))


def judged(kind: str, model: nn.Module, split: str) -> dict[str, Any]:
    """Quality on a split, and what each sentence or phrase adds to it, for intervals. What is answered in one pass is
    asked in the precision that it trains in."""
    course_task = task.load(kind)
    with nullcontext() if course_task.autoregressive else loop.bfloat16_where_fast():
        answers = course_task.answers(model, asked(kind, split))
    return {"quality": round(course_task.quality(answers), 5), "answers": course_task.pack(answers)}


def documents() -> list[int]:
    """The document of each test sentence that the classifier is asked about, as a number from 0."""
    return task.load("classifier").groups(asked("classifier", "test")).tolist()


def _inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the two models, the pairs, and each test sentence's document."""
    return {
        "classifier": topic_classifier.teacher_sha256(),
        "pairs": phrase_pairs.pairs_sha256(),
        "translator": loop.state_sha256(translation.teacher().state_dict()),
        "documents": documents(),
    }


def rows(table: Table, model: str, way: str, sparsity: float | None) -> list[Row]:
    """The rows of one setting, one a seed: test rows, or the search when there is no sparsity."""
    return table.repeats(cell(model, way, sparsity, 0))


def score(table: Table, rows: list[Row]) -> intervals.Interval:
    """Accuracy (0 to 100 %) or BLEU of some test rows, with its interval over seeds and documents, or phrases."""
    return task.load(rows[0]["model"]).interval(_answers(table, rows), table.inputs["documents"])


def difference(table: Table, rows: list[Row], others: list[Row]) -> intervals.Difference:
    """Points of accuracy, or BLEU, of some rows minus others, paired by seed; a single row stands for all seeds."""
    runs = max(len(rows), len(others))
    pair = [_answers(table, side * runs if len(side) == 1 else side) for side in (rows, others)]
    return task.load(rows[0]["model"]).difference(*pair, table.inputs["documents"])


def _answers(table: Table, rows: list[Row]) -> numpy.ndarray:
    """What each sentence or phrase adds to the quality: (runs, sentences) or (runs, phrases, counts)."""
    return task.load(rows[0]["model"]).unpack([row["answers"] for row in rows], len(table.inputs["documents"]))


def tuning(table: Table, model: str, way: str) -> dict[float, float]:
    """Quality on validation data by learning rate, of all that were tried for a way that trains."""
    tuning_runs = table.where(model=model, way=way, sparsity=TUNED_AT[model], seed=TUNING_SEED)
    return {row["lr"]: row["quality"] for row in tuning_runs}


# Another processor rounds otherwise, and near the brink a little less is much less: hence the slack.
CHEAP = cell("translator", "wanda", 0.5, SEEDS[0])
STUDY = Study("magnitude", _cells(), run, CHEAP, "quality", SETTINGS, _inputs, slack=0.03)
