"""What a smaller model learns from, and how: a teacher's answers, or right answers alone.

The classifier matches its teacher's softened logits (lesson 04). The translator learns its teacher's translations and,
being as wide, its last hidden states (lesson 07).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lessons_lib import assets, corpora, models, training, translation_teacher, translator
from lessons_lib import study_distil_classifier as topics
from lessons_lib import study_distil_translator as phrases
from lessons_lib import translation_distillation as levels

TASKS = ("classifier", "translator")
ALPHA, T = topics.ALPHA, topics.T  # of the classifier's loss, chosen in lesson 04
SENTENCES = 8000  # that the classifier's student learns from; lesson 04 has the first half of them
BATCH_SIZE = {"classifier": topics.SETTINGS["batch_size"], "translator": phrases.SETTINGS["batch_size"]}
LEARN = ("teacher", "labels", "all labels")


@dataclass(frozen=True)
class Training:
    """How a model is taught.

    learn: the "teacher"'s answers; or, without a teacher, the "labels" that the same data has: those of all sentences,
    but of the phrases only a few hundred pairs of lesson 07; or, for the translator, "all labels" of the course.
    """

    steps: int
    lr: float
    learn: str = "teacher"


USUAL = {"classifier": Training(160, 5e-4), "translator": Training(200, 2e-3)}


def check(task: str) -> None:
    """Raise ValueError for a task that there is not."""
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}; there is {' and '.join(TASKS)}.")


def teach(task: str, model: nn.Module, how: Training, seed: int, progress: bool = False) -> training.History:
    """Train a model in place as `how` says, and leave it in eval mode. Weights that are frozen stay as they are."""
    check(task)
    if how.learn not in LEARN:
        raise ValueError(f"a model learns from {', '.join(map(repr, LEARN))}, not from {how.learn!r}.")
    if task == "classifier":
        return topics.distil(
            model,
            sentences(),
            alpha=ALPHA if how.learn == "teacher" else 0.0,
            T=T,
            lr=how.lr,
            seed=seed,
            steps=how.steps,
            progress=progress,
        )
    told = how.learn == "teacher"
    data = (
        teacher_outputs(seed) if told else phrases.student_data("few" if how.learn == "labels" else "all", False, seed)
    )
    return training.train(
        levels.Direct(model) if told else model,
        data,
        levels.hidden_loss if told else translator.translation_loss,
        steps=how.steps,
        batch_size=BATCH_SIZE[task],
        lr=how.lr,
        seed=seed,
        progress=progress,
    )


@lru_cache(maxsize=1)
def sentences() -> dict[str, Tensor]:
    """What the classifier's student is taught: tokens and topics of SENTENCES sentences, with the teacher's logits."""
    train = corpora.sentences("train").shuffle(seed=topics.SETTINGS["transfer_seed"], keep_in_memory=True)
    train = train.select(range(SENTENCES))
    shape = {
        "teacher": topics.teacher_sha256(),
        "sentences": corpora.sentences_sha256("train"),
        "count": SENTENCES,
        "seed": topics.SETTINGS["transfer_seed"],
        "bfloat16": training.fast_bfloat16(),
    }
    name = "logits.safetensors"
    logits = assets.stored(
        "teaching-logits",
        shape,
        lambda: {"logits": _ask(train["text"][:])},
        lambda folder: load_file(folder / name),
        lambda said, folder: save_file(said, folder / name),
    )
    tokens = models.tokenize(train["text"][:], topics.SETTINGS["max_length"])
    return tokens | {"topic": torch.tensor(train["topic"][:]), "teacher_logits": logits["logits"]}


def _ask(texts: list[str]) -> Tensor:
    """The teacher's logits in the precision that it was trained in."""
    with training.bfloat16_where_fast():
        return models.predict_logits(models.topic_teacher(), texts)


@lru_cache(maxsize=1)
def teacher_outputs(seed: int) -> dict[str, Tensor]:
    """What the translator's student is taught: pairs of this seed and the teacher's translations, with its outputs."""
    return levels.teacher_outputs(translation_teacher.teacher(), phrases.student_data("few", True, seed))
