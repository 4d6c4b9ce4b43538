"""Compression as a list of steps: each takes what the step before it made, in an order that you choose.

    pipeline.make("classifier", ["heads", "neurons", "layers", "distil", "vocabulary", "export", "int8"])

Every pipeline begins with the teacher of a task: "classifier", "translator", or a Task of your own. "distil", "export"
and "int8" take a while, so what they make is kept in the cache under all that shaped it: a pipeline that begins as
another one did goes on from there. How a step is taken on the model of a task stands in `compressors`.
"""

import copy
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

from safetensors.torch import load_model, save_model
from torch import nn

from lessons_lib.capstone.compressors import Compressor, Options, compressor_of
from lessons_lib.files import cache
from lessons_lib.measure import model_size
from lessons_lib.tasks.task import MODULES, Task
from lessons_lib.training import checkpoints

STEPS = {
    "heads": "leave out attention heads",
    "neurons": "leave out feed-forward neurons",
    "layers": "leave out whole layers",
    "vocabulary": "leave out words that no training text has",
    "distil": "learn from the teacher what was lost",
    "export": "write the model as ONNX",
    "int8": "give the weights of the ONNX file 8 bits",
}
SLOW, ON_FILES = ("distil", "export", "int8"), ("export", "int8")
WEIGHTS, FOLDER = "model.safetensors", "onnx"
RECIPE = 2  # raised when a change of the code changes what a step makes

# Of the course's tasks: what the steps aim at, and the pipelines of lesson 18.
USUAL: dict[str, Options] = {name: compressor_of(name).usual for name in MODULES}
REFERENCE: dict[str, tuple[str, ...]] = {name: compressor_of(name).reference for name in MODULES}


@dataclass(frozen=True)
class Made:
    """What the steps so far made. compressor: that of its task. model: can be asked as the teacher can. path: of its
    ONNX file, or of the folder of a translator's two; None while it is a torch model."""

    compressor: Compressor
    steps: tuple[str, ...]
    model: nn.Module
    path: Path | None = None

    @property
    def task(self) -> Task:
        """The task that the model is for."""
        return self.compressor.task

    @property
    def bytes(self) -> int:
        """Bytes on disk: of the ONNX files, or of the weights as a safetensors file."""
        return model_size.size_on_disk(self.path or self.model)


def check(task: str | Task, steps: Sequence[str]) -> None:
    """Raise ValueError for an order that cannot work, and say why."""
    compressor = compressor_of(task)
    for place, name in enumerate(steps):
        before = steps[:place]
        if name not in STEPS:
            raise ValueError(f"there is no step {name!r}; there is {', '.join(STEPS)}.")
        if name in before:
            raise ValueError(f"{name!r} stands in the list twice; once is enough.")
        if name == "int8" and "export" not in before:
            raise ValueError("'int8' rewrites an ONNX file; put 'export' before it.")
        if name not in ON_FILES and "export" in before:
            raise ValueError(f"{name!r} changes a torch model, and an ONNX file is none; put it before 'export'.")
        if name in compressor.impossible:
            raise ValueError(f"the {compressor.task.name} {compressor.impossible[name]}: leave {name!r} out.")


def make(
    task: str | Task, steps: Sequence[str], options: Options | None = None, seed: int = 0, progress: bool = False
) -> Made:
    """Take the teacher of a task through these steps, in this order; no step at all gives the teacher itself.

    task: "classifier", "translator", or a Task of your own. options: the task's usual ones unless given. seed: of the
    training. Raises ValueError for an order that cannot work.
    """
    return chain(task, steps, options, seed, progress)[-1]


def chain(
    task: str | Task, steps: Sequence[str], options: Options | None = None, seed: int = 0, progress: bool = False
) -> list[Made]:
    """As `make`, but all that was made on the way: the teacher, and what stands after each of the steps."""
    check(task, steps)
    stages = [start(task)]
    options = options or stages[0].compressor.usual
    for name in steps:
        stages.append((_kept if name in SLOW else step)(name, stages[-1], options, seed, progress))
    return stages


def start(task: str | Task) -> Made:
    """The teacher of a task, a copy of its own."""
    compressor = compressor_of(task)
    return Made(compressor, (), compressor.task.teacher())


def step(
    name: str, stage: Made, options: Options, seed: int = 0, progress: bool = False, folder: Path | None = None
) -> Made:
    """Take one step, anew. folder: where "export" and "int8" write; the others need none."""
    compressor, steps = stage.compressor, (*stage.steps, name)
    if name in ON_FILES:
        path = compressor.export(stage.model, folder) if name == "export" else compressor.int8(stage.path, folder)
        return Made(compressor, steps, compressor.opened(path), path)
    if name == "distil":
        model = compressor.distil(stage.model, options, seed, progress)
    else:
        model = getattr(compressor, name)(stage.model, options)
    return Made(compressor, steps, model.requires_grad_(False).eval())


@lru_cache(maxsize=2)
def _teacher_sha256(task: Task) -> str:
    return checkpoints.state_sha256(start(task).model.state_dict())


def _shape(compressor: Compressor, steps: Sequence[str], options: Options, seed: int) -> dict:
    """All that shapes what the last of these steps makes."""
    return {
        "steps": list(steps),
        "options": asdict(options),
        "seed": seed,
        "teacher": _teacher_sha256(compressor.task),
        "recipe": RECIPE,
    }


def _kept(name: str, stage: Made, options: Options, seed: int, progress: bool) -> Made:
    """What a slow step makes: from the cache, or taken now and put there."""
    compressor, steps = stage.compressor, (*stage.steps, name)

    def save(_: None, folder: Path) -> None:
        (folder / FOLDER).mkdir()
        done = step(name, stage, options, seed, progress, folder / FOLDER)
        if done.path is None:
            save_model(done.model, str(folder / WEIGHTS))

    shape = _shape(compressor, steps, options, seed)
    folder = cache.stored(f"pipeline-{compressor.task.name}", shape, lambda: None, lambda at: at, save)
    if name in ON_FILES:
        path = folder / FOLDER / compressor.file
        return Made(compressor, steps, compressor.opened(path), path)
    model = copy.deepcopy(stage.model)
    load_model(model, folder / WEIGHTS)
    return Made(compressor, steps, model.requires_grad_(False).eval())


def prepare(report: Callable[[str], None] = print, of: Sequence[str] = ("teacher", "student")) -> None:
    """What `course prepare` does for lesson 18: exports both teachers, teaches the reference students, exports them.

    of: which of the two it makes. Safe to interrupt and to repeat.
    """
    for task, what in product(REFERENCE, of):
        steps = REFERENCE[task] if what == "student" else ON_FILES
        shape = _shape(compressor_of(task), steps, USUAL[task], seed=0)
        if not cache.is_intact(cache.stored_folder(f"pipeline-{task}", shape)):
            report(f"pipeline, {task} {what}: made once (about a minute)")
            make(task, steps, USUAL[task])
        report(f"pipeline, {task} {what}: ready")


def question(stage: Made, count: int) -> Callable[[], object]:
    """A call that has a model answer `count` validation texts as one batch; the translator decodes greedily."""
    return stage.task.question(stage.model, count)


def hand_in(stage: Made, folder: Path | str = ".") -> list[Path]:
    """Copy the ONNX files to a folder under the names under which they are handed in; returns where they lie.

    Raises ValueError when the pipeline has no "export".
    """
    if stage.path is None:
        raise ValueError("only ONNX files are handed in: end the pipeline with 'export', or with 'int8' after it.")
    source = stage.path if stage.path.is_dir() else stage.path.parent
    return [Path(shutil.copy(source / own, Path(folder) / name)) for own, name in stage.compressor.hand_in.items()]
