"""The study of lesson 18: how good the topic teacher and the translator stay under each step alone, and under all.

A cell takes the teacher of its task through steps of `pipeline`, in their order. Without "distil" nothing is drawn, and
one run says all; with it there are three seeds. `origin` is where the weights come from that "distil" begins with: the
"teacher", or "scratch", random ones of the same shape. `learn` says from what it learns: the "teacher"'s answers; the
"labels" of the same data, those of all sentences, but for the translator a few hundred pairs; or "all labels", the
translator's 40,000 pairs. All take equally many steps of equally many texts. The translator's controls had their
learning rates chosen on validation data; those runs are cells of the grid too.
Quality is accuracy for the classifier, BLEU as a share of 100 for the translator.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from lessons_lib.capstone import pipeline
from lessons_lib.capstone.compressors import compressor_of
from lessons_lib.capstone.pipeline import Made
from lessons_lib.distillation import students, translation_students
from lessons_lib.measure import intervals
from lessons_lib.studies.runs import Row, Table, digest
from lessons_lib.studies.study import Study
from lessons_lib.tasks import topic_classifier, translation
from lessons_lib.tasks.task import load
from lessons_lib.training import loop

SETTINGS = {
    "layers": {task: [list(side) for side in usual.layers] for task, usual in pipeline.USUAL.items()},
    "neurons": {task: usual.neurons for task, usual in pipeline.USUAL.items()},
    "heads": {task: usual.heads for task, usual in pipeline.USUAL.items()},
    "steps": {task: usual.training.steps for task, usual in pipeline.USUAL.items()},
    "batch_size": {task: compressor_of(task).batch_size for task in pipeline.USUAL},
    "alpha": students.ALPHA,
    "T": students.T,
    "sentences": students.MANY,
    "data": {"classifier": students.SETTINGS, "translator": translation_students.SETTINGS},
}
SEEDS = (0, 1, 2)
TUNING_SEED = 100  # of the runs that choose a learning rate; no reported run shares it

TAUGHT = {task: steps[: steps.index("distil") + 1] for task, steps in pipeline.REFERENCE.items()}
ALONE = {"classifier": ("heads", "neurons", "layers", "vocabulary"), "translator": ("neurons", "layers")}
CONTROLS = {"classifier": (("scratch", "labels"),), "translator": (("scratch", "labels"), ("scratch", "all labels"))}
RATES = {
    ("translator", "scratch", "labels"): (1e-3, 2e-3, 4e-3, 8e-3),
    ("translator", "scratch", "all labels"): (2e-3, 4e-3, 8e-3),
}

# By task, origin and learn. For the translator's controls what did best on validation data in the cells of TUNING_SEED;
# its student took the larger of lesson 07's rates for shallow ones. For the classifier what did best in lesson 06 for
# some layers of a teacher, and in lesson 04 for random weights and all labels.
CHOSEN = {
    ("classifier", "teacher", "teacher"): 5e-4,
    ("classifier", "scratch", "labels"): 2e-3,
    ("translator", "teacher", "teacher"): 2e-3,
    ("translator", "scratch", "labels"): 2e-3,
    ("translator", "scratch", "all labels"): 4e-3,
}


def cell(
    task: str, steps: tuple[str, ...], seed: int = 0, origin: str = "teacher", learn: str = "teacher", **changes: Any
) -> dict[str, Any]:
    """One declared run. origin and learn are for runs in which "distil" is a step."""
    usual = {"task": task, "steps": " ".join(steps), "split": "test"}
    if "distil" in steps:
        usual |= {"origin": origin, "learn": learn, "lr": CHOSEN[task, origin, learn]}
    return usual | changes | {"seed": seed}


def _cells() -> list[dict[str, Any]]:
    cells = [
        cell(task, TAUGHT[task], TUNING_SEED, origin, learn, lr=lr, split="validation")
        for (task, origin, learn), rates in RATES.items()
        for lr in rates
    ]
    for task, together in pipeline.REFERENCE.items():
        cells += [cell(task, together, seed) for seed in SEEDS]
        cells += [cell(task, TAUGHT[task], seed, *control) for control in CONTROLS[task] for seed in SEEDS]
        untaught = {TAUGHT[task][:count] for count in range(len(TAUGHT[task]))} | {(step,) for step in ALONE[task]}
        cells += [cell(task, steps) for steps in sorted(untaught | {("export", "int8")})]
    return cells


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Take the steps of a cell, anew, and judge the model after "distil" and after every later step that can change an
    answer, and at the end. `quality` is that of the end, `after` holds all of them by step."""
    stage, after, names = pipeline.start(cell["task"]), {}, cell["steps"].split()
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(names):
            stage = _taken(name, stage, cell, Path(folder, name))
            if place == len(names) - 1 or ("distil" in stage.steps and name != "export"):
                after[name] = judged(stage, cell["split"])
        after = after or {"": judged(stage, cell["split"])}
    return {"quality": list(after.values())[-1]["quality"], "after": after}


def _taken(name: str, stage: Made, cell: dict[str, Any], folder: Path) -> Made:
    """One step as a cell wants it; "scratch" puts random weights into the shape before "distil"."""
    folder.mkdir()
    usual = stage.compressor.usual
    if name != "distil":
        return pipeline.step(name, stage, usual, folder=folder)
    training = replace(usual.training, lr=cell["lr"], learn=cell["learn"])
    if cell["origin"] == "teacher":
        return pipeline.step(name, stage, replace(usual, training=training), cell["seed"])
    model = stage.compressor.from_scratch(stage.model, cell["seed"]).requires_grad_(True)
    stage.compressor.teach(model, training, cell["seed"])
    return replace(stage, steps=(*stage.steps, name), model=model)


def judged(stage: Made, split: str) -> dict[str, Any]:
    """Quality on a split, and what intervals need: right answers by document, or what each phrase adds to BLEU."""
    rows = stage.task.held_out(split)
    answers = stage.task.answers(stage.model, rows)
    return {"quality": round(stage.task.quality(answers), 5), "answers": stage.task.summary(answers, rows)}


def _inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: both teachers, what they told, and the size of each document."""
    return {
        "classifier": topic_classifier.teacher_sha256(),
        "sizes": topic_classifier.document_sizes(),
        "translator": loop.state_sha256(translation.teacher().state_dict()),
        "translations": digest(translation_students.teacher_translations()),
    }


def rows(table: Table, task: str, steps: tuple[str, ...], origin: str = "teacher", learn: str = "teacher") -> list[Row]:
    """The test rows of one setting, one a seed."""
    return table.repeats(cell(task, steps, 0, origin, learn))


def answers(table: Table, task: str, steps: tuple[str, ...], *way: str) -> list[Any]:
    """What the models that these steps make answered, one entry a seed. way: origin and learn of a control.

    "export" at the end changes no answer, so the answers before it are given. Raises ValueError for other steps after
    "distil" than those of the reference pipeline.
    """
    steps = steps[:-1] if steps[-1:] == ("export",) else steps
    if way or "distil" not in steps:
        return [list(row["after"].values())[-1]["answers"] for row in rows(table, task, steps, *way)]
    reference = pipeline.REFERENCE[task]
    if steps != reference[: len(steps)]:
        raise ValueError(
            f"with 'distil' the study has {', '.join(reference)} and what it begins with, not {', '.join(steps)}."
        )
    return [row["after"][steps[-1]]["answers"] for row in rows(table, task, reference)]


def score(table: Table, task: str, summaries: list[Any]) -> intervals.Interval:
    """Accuracy (0 to 100 %) or BLEU of some `answers`, with its 95 % interval over seeds and documents, or phrases."""
    return load(task).interval(*load(task).from_summaries(summaries, table.inputs["sizes"]))


def lost(table: Table, task: str, summaries: list[Any]) -> intervals.Difference:
    """Points of accuracy, or BLEU, of some `answers` minus the teacher's, paired by document or phrase."""
    whole = answers(table, task, ()) * len(summaries)
    (a, groups), (b, _) = (load(task).from_summaries(side, table.inputs["sizes"]) for side in (summaries, whole))
    return load(task).difference(a, b, groups)


def tuning(table: Table, task: str, origin: str, learn: str) -> dict[float, float]:
    """Quality on validation data by learning rate, of all that were tried."""
    tuning_runs = table.where(task=task, origin=origin, learn=learn, seed=TUNING_SEED)
    return {row["lr"]: row["quality"] for row in tuning_runs}


# Another processor rounds otherwise, and hundreds of steps make much of it: hence the slack.
CHEAP = cell("translator", TAUGHT["translator"], SEEDS[0], "scratch", "labels")
STUDY = Study("capstone", _cells(), run, CHEAP, "quality", SETTINGS, _inputs, slack=0.03)
