"""Compression as a list of steps: each takes what the step before it made, in an order that you choose.

    pipeline.make("classifier", ["heads", "neurons", "layers", "distil", "vocabulary", "export", "int8"])

Every pipeline begins with a teacher of the course. "distil", "export" and "int8" take a while, so what they make is
kept in the cache under all that shaped it: a pipeline that begins as another one did goes on from there.
"""

import copy
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from lessons_lib import (
    assets,
    checkpoints,
    corpora,
    export,
    generation,
    heads,
    measure,
    models,
    onnx_translator,
    selection,
    structured,
    teaching,
    translation,
    translation_teacher,
    translator,
)

STEPS = {
    "heads": "leave out attention heads",
    "neurons": "leave out feed-forward neurons",
    "layers": "leave out whole layers",
    "vocabulary": "leave out words that no training text has",
    "distil": "learn from the teacher what was lost",
    "export": "write the model as ONNX",
    "int8": "give the weights of the ONNX file 8 bits",
}
ONLY_CLASSIFIER = {
    "heads": "has four heads a layer, and keeps them",
    "vocabulary": "has no word that its training texts do not have",
}
SLOW, ON_FILES = ("distil", "export", "int8"), ("export", "int8")
WEIGHTS, FILE, FOLDER = "model.safetensors", "model.onnx", "onnx"
HAND_IN = {
    "classifier": {FILE: "18_topics.onnx"},
    "translator": {
        onnx_translator.ENCODER: "18_translator_encoder.onnx",
        onnx_translator.DECODER: "18_translator_decoder.onnx",
    },
}
RECIPE = 2  # raised when a change of the code changes what a step makes


@dataclass(frozen=True)
class Options:
    """What the steps aim at.

    layers: those that stay, numbered from 0, of the encoder and, in a translator, of the decoder. neurons, heads: how
    many stay in each block; a translator keeps all heads. training: how "distil" teaches.
    """

    layers: tuple[tuple[int, ...], ...]
    neurons: int
    training: teaching.Training
    heads: int | None = None


USUAL = {
    "classifier": Options(((0, 1, 3, 5),), 768, teaching.USUAL["classifier"], heads=4),
    "translator": Options(((2, 5), (5,)), 256, teaching.USUAL["translator"]),
}

# The pipelines of lesson 18.
REFERENCE = {
    "classifier": ("heads", "neurons", "layers", "distil", "vocabulary", "export", "int8"),
    "translator": ("neurons", "layers", "distil", "export", "int8"),
}


@dataclass(frozen=True)
class Made:
    """What the steps so far made. model: can be asked as the teacher can. path: of its ONNX file, or of the folder of a
    translator's two; None while it is a torch model."""

    task: str
    steps: tuple[str, ...]
    model: nn.Module
    path: Path | None = None

    @property
    def bytes(self) -> int:
        """Bytes on disk: of the ONNX files, or of the weights as a safetensors file."""
        return measure.size_on_disk(self.path or self.model)


def check(task: str, steps: Sequence[str]) -> None:
    """Raise ValueError for an order that cannot work, and say why."""
    teaching.check(task)
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
        if name in ONLY_CLASSIFIER and task == "translator":
            raise ValueError(f"the translator {ONLY_CLASSIFIER[name]}: leave {name!r} out.")


def make(
    task: str, steps: Sequence[str], options: Options | None = None, seed: int = 0, progress: bool = False
) -> Made:
    """Take the teacher of a task through these steps, in this order; no step at all gives the teacher itself.

    task: "classifier" or "translator". options: USUAL[task] unless given. seed: of the training. Raises ValueError for
    an order that cannot work.
    """
    return chain(task, steps, options, seed, progress)[-1]


def chain(
    task: str, steps: Sequence[str], options: Options | None = None, seed: int = 0, progress: bool = False
) -> list[Made]:
    """As `make`, but all that was made on the way: the teacher, and what stands after each of the steps."""
    check(task, steps)
    options, made = options or USUAL[task], [start(task)]
    for name in steps:
        made.append((_kept if name in SLOW else step)(name, made[-1], options, seed, progress))
    return made


def start(task: str) -> Made:
    """The teacher of a task, a copy of its own."""
    return Made(task, (), models.topic_teacher() if task == "classifier" else translation_teacher.teacher())


def step(
    name: str, made: Made, options: Options, seed: int = 0, progress: bool = False, folder: Path | None = None
) -> Made:
    """Take one step, anew. folder: where "export" and "int8" write; the others need none."""
    task, model, path = made.task, made.model, None
    if name == "layers":
        keep = structured.keep_layers if task == "classifier" else translator.keep_layers
        model = keep(model, *map(list, options.layers))
    elif name == "heads":
        kept = selection.strongest(task, model, "heads", options.heads)
        model = heads.prune_heads(model, [one.tolist() for one in kept])
    elif name == "neurons":
        model = structured.prune_neurons(model, selection.strongest(task, model, "neurons", options.neurons))
    elif name == "vocabulary":
        model = structured.trim_vocabulary(model, selection.seen_tokens())
    elif name == "distil":
        model = trainable(task, model)
        teaching.teach(task, model, options.training, seed, progress)
    elif name == "export":
        model = trainable(task, model)
        path = (export if task == "classifier" else onnx_translator).to_onnx(model, _place(task, folder))
    elif name == "int8":
        path = (export if task == "classifier" else onnx_translator).dynamic_int8(made.path, _place(task, folder))
    return Made(task, (*made.steps, name), opened(task, path) if path else model.requires_grad_(False).eval(), path)


def trainable(task: str, model: nn.Module) -> nn.Module:
    """A copy with gradients; the embeddings of a classifier, most of its weights, stay as the teacher has them.

    Its attention is written out: that is faster to train on short texts, and its ONNX graph is shorter.
    """
    model = copy.deepcopy(model).requires_grad_(True)
    if task == "classifier":
        model.encoder.embeddings.requires_grad_(False)
        model.encoder.set_attn_implementation("eager")
    return model


def opened(task: str, path: Path) -> nn.Module:
    """The model of an ONNX file, or of a translator's folder, on as many threads as torch has now."""
    return export.OnnxModel(path) if task == "classifier" else onnx_translator.OnnxTranslator(path)


def _place(task: str, folder: Path) -> Path:
    return folder / FILE if task == "classifier" else folder


@lru_cache(maxsize=2)
def _teacher_sha256(task: str) -> str:
    return checkpoints.state_sha256(start(task).model.state_dict())


def _shape(task: str, steps: Sequence[str], options: Options, seed: int) -> dict:
    """All that shapes what the last of these steps makes."""
    return {
        "steps": list(steps),
        "options": asdict(options),
        "seed": seed,
        "teacher": _teacher_sha256(task),
        "recipe": RECIPE,
    }


def _kept(name: str, made: Made, options: Options, seed: int, progress: bool) -> Made:
    """What a slow step makes: from the cache, or taken now and put there."""
    task, steps = made.task, (*made.steps, name)

    def save(_: None, folder: Path) -> None:
        (folder / FOLDER).mkdir()
        done = step(name, made, options, seed, progress, folder / FOLDER)
        if done.path is None:
            save_model(done.model, str(folder / WEIGHTS))

    folder = assets.stored(f"pipeline-{task}", _shape(task, steps, options, seed), lambda: None, lambda at: at, save)
    if name in ON_FILES:
        path = _place(task, folder / FOLDER)
        return Made(task, steps, opened(task, path), path)
    model = copy.deepcopy(made.model)
    load_model(model, folder / WEIGHTS)
    return Made(task, steps, model.requires_grad_(False).eval())


def prepare(report: Callable[[str], None] = print, of: Sequence[str] = ("teacher", "student")) -> None:
    """What `course prepare` does for lesson 18: exports both teachers, teaches the reference students, exports them.

    of: which of the two it makes. Safe to interrupt and to repeat.
    """
    for task, what in product(REFERENCE, of):
        steps = REFERENCE[task] if what == "student" else ON_FILES
        if not assets.is_intact(assets.stored_folder(f"pipeline-{task}", _shape(task, steps, USUAL[task], seed=0))):
            report(f"pipeline, {task} {what}: made once (about a minute)")
            make(task, steps)
        report(f"pipeline, {task} {what}: ready")


def question(made: Made, count: int) -> Callable[[], object]:
    """A call that has a model answer `count` validation texts as one batch; the translator decodes greedily."""
    if made.task == "classifier":
        batch = models.tokenize(corpora.sentences("validation")["text"][:count])
        return torch.inference_mode()(lambda: made.model(**batch))
    source = translation.vocabularies()[0].encode(translation.pairs("validation")["english"][:count])
    return lambda: generation.greedy(made.model, source)


def hand_in(made: Made, folder: Path | str = ".") -> list[Path]:
    """Copy the ONNX files to a folder under the names under which they are handed in; returns where they lie.

    Raises ValueError when the pipeline has no "export".
    """
    if made.path is None:
        raise ValueError("only ONNX files are handed in: end the pipeline with 'export', or with 'int8' after it.")
    source = made.path.parent if made.task == "classifier" else made.path
    return [Path(shutil.copy(source / own, Path(folder) / name)) for own, name in HAND_IN[made.task].items()]
