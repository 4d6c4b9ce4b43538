"""What models are handed in for: their files, the data they are judged on, and how an answer becomes a quality.

The data holds its labels; only `inputs` ever leave this process.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy

from lessons_lib.files import cache
from lessons_lib.measure import bleu, intervals
from lessons_lib.tasks import bbc, decoding, phrase_pairs
from quizzes.exercises.hand_ins import BATCH, HandIn, MeasuredModel
from quizzes.models import held_out
from quizzes.models.held_out import Pair, Sentence

Arrays = dict[str, numpy.ndarray]
SCORE = "score.json"


@dataclass(frozen=True)
class HeldOut:
    """Rows to judge on: what goes to the model, and the teacher's quality on the same rows."""

    rows: tuple[Sentence, ...] | tuple[Pair, ...]
    inputs: Arrays
    teacher: float


class TopicModels:
    """Sentences to topics, by accuracy."""

    name = "topics"
    files = ("18_topics.onnx",)
    most_bytes = 32 * 2**20  # of each file
    public, secret = 400, 1_000  # rows: in a notebook, for a grade

    def rows(self, seed: int, texts: Sequence[Sentence] | None = None) -> list[Sentence]:
        """What a grade is judged on: an instructor's texts, else the honour split."""
        return list(texts) if texts else held_out.honour_sentences(self.secret, seed)

    def public_rows(self, seed: int) -> list[Sentence]:
        """What a notebook judges on."""
        return held_out.public_sentences(self.public, seed)

    def sample(self) -> Arrays:
        """What every model is tried on first: no secret, so that whatever it raises can be shown."""
        return self.inputs([Sentence("A short one.", 0, 0), Sentence("This sentence has a few words more.", 0, 1)])

    def settings(self) -> dict:
        """What whoever runs the model must know."""
        return {"topics": len(bbc.TOPICS), "batch": BATCH}

    def inputs(self, rows: Sequence[Sentence]) -> Arrays:
        """input_ids and attention_mask, int64 (N, T)."""
        from lessons_lib.tasks import topic_classifier

        return {name: held.numpy() for name, held in topic_classifier.tokenize([row.text for row in rows]).items()}

    def quality(self, answers: Arrays, rows: Sequence[Sentence]) -> intervals.Interval:
        """Accuracy, its interval bootstrapped over documents. answers: logits (N, topics). Raises ValueError."""
        logits = _checked(answers, "logits", numpy.float32, (len(rows), len(bbc.TOPICS)))
        if not numpy.isfinite(logits).all():
            raise ValueError("some logits are not finite numbers")
        right = logits.argmax(axis=1) == [row.topic for row in rows]
        return intervals.accuracy(right, [row.document for row in rows])

    def teacher(self, rows: Sequence[Sentence]) -> float:
        """The topic teacher's accuracy."""
        from lessons_lib.tasks import topic_classifier

        logits = topic_classifier.predict_logits(
            topic_classifier.topic_teacher(progress=False), [row.text for row in rows]
        )
        return self.quality({"logits": logits.numpy()}, rows).value

    def teacher_sha256(self) -> str:
        """What the teacher is."""
        from lessons_lib.tasks import topic_classifier

        return hashlib.sha256(json.dumps(topic_classifier.KEPT.shape(), sort_keys=True).encode()).hexdigest()

    def kept(self, quality: float, teacher: float) -> float:
        """The share of the teacher's accuracy."""
        return quality / teacher if teacher else 0.0


class TranslatorModels:
    """English phrases to French ones, by BLEU."""

    name = "translator"
    files = ("18_translator_encoder.onnx", "18_translator_decoder.onnx")
    most_bytes = 8 * 2**20
    public, secret = 200, 500

    def rows(self, seed: int, texts: Sequence[Sentence] | None = None) -> list[Pair]:
        """What a grade is judged on: new pairs, drawn from the seed."""
        return held_out.new_pairs(self.secret, seed)

    def public_rows(self, seed: int) -> list[Pair]:
        """What a notebook judges on."""
        return held_out.public_pairs(self.public, seed)

    def sample(self) -> Arrays:
        """What every model is tried on first: no secret, so that whatever it raises can be shown."""
        return self.inputs([Pair("seven", ""), Pair("the first of March twenty", "")])

    def settings(self) -> dict:
        """What whoever runs the model must know."""
        special = {"pad": phrase_pairs.PAD, "begin": phrase_pairs.BEGIN, "end": phrase_pairs.END}
        return special | {"pieces": len(phrase_pairs.vocabularies()[1]), "steps": decoding.MAX_NEW, "batch": BATCH}

    def inputs(self, rows: Sequence[Pair]) -> Arrays:
        """source: int64 (N, S)."""
        return {"source": phrase_pairs.vocabularies()[0].encode([row.english for row in rows]).numpy()}

    def quality(self, answers: Arrays, rows: Sequence[Pair]) -> intervals.Interval:
        """BLEU, its interval bootstrapped over phrases. answers: written, int64 (N, steps). Raises ValueError."""
        settings = self.settings()
        written = _checked(answers, "written", numpy.int64, (len(rows), settings["steps"]))
        if written.min() < 0 or written.max() >= settings["pieces"]:
            raise ValueError("it wrote pieces that are not in the vocabulary")
        french = phrase_pairs.vocabularies()[1].decode(written)
        return bleu.interval(bleu.statistics(french, [row.french for row in rows]))

    def teacher(self, rows: Sequence[Pair]) -> float:
        """The translation teacher's BLEU, decoding greedily."""
        from lessons_lib.tasks import translation

        french = decoding.translate(translation.teacher(), [row.english for row in rows])
        return bleu.corpus_bleu(french, [row.french for row in rows])

    def teacher_sha256(self) -> str:
        """What the teacher is."""
        from lessons_lib.tasks import translation

        return translation.teacher_sha256()

    def kept(self, quality: float, teacher: float) -> float:
        """BLEU more than the teacher's; below zero, less."""
        return quality - teacher


TASKS = {task.name: task for task in (TopicModels(), TranslatorModels())}


def held_out_for(task: TopicModels | TranslatorModels, rows: Sequence) -> HeldOut:
    """Rows made ready, with the teacher's quality on them: computed once on this machine, then read from the cache."""
    shape = {"task": task.name, "teacher": task.teacher_sha256(), "rows": rows_sha256(rows)}
    score = cache.stored(
        "hand-in-teacher",
        shape,
        build=lambda: task.teacher(rows),
        load=lambda folder: json.loads((folder / SCORE).read_text(encoding="utf-8")),
        save=lambda value, folder: (folder / SCORE).write_text(json.dumps(value), encoding="utf-8"),
    )
    return HeldOut(tuple(rows), task.inputs(rows), score)


@lru_cache(maxsize=len(TASKS))
def public(name: str, seed: int) -> HeldOut:
    """What a notebook judges a task's model on."""
    return held_out_for(TASKS[name], TASKS[name].public_rows(seed))


def rows_sha256(rows: Sequence) -> str:
    """Hash of what is judged on."""
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()


def measured(hand_in: HandIn, held: HeldOut, answers: Arrays, size: int, seconds: float) -> MeasuredModel:
    """What the answers show of a model of this size that gave them in so many seconds. Raises ValueError."""
    task = TASKS[hand_in.task]
    quality = task.quality(answers, held.rows)
    relative_quality = task.kept(quality.value, held.teacher)
    ends = (quality.value, quality.low, quality.high)
    return MeasuredModel(
        size, *map(float, ends), held.teacher, float(relative_quality), len(held.rows) / max(seconds, 1e-9)
    )


def is_of(task: TopicModels | TranslatorModels, file: str) -> str:
    """Which of a task's files a name stands for, also when a browser or Canvas has numbered a copy; "" for none."""
    for wanted in task.files:
        stem = re.escape(Path(wanted).stem)
        if re.fullmatch(rf"{stem}([ _-]?\(?\d{{1,3}}\)?)?\.onnx", file.strip(), re.IGNORECASE):
            return wanted
    return ""


def _checked(answers: Arrays, name: str, kind: type, shape: tuple[int, ...]) -> numpy.ndarray:
    """What came back, as it must be: nothing else, of this type and shape."""
    array = answers.get(name)
    if set(answers) != {name} or not isinstance(array, numpy.ndarray) or (array.dtype, array.shape) != (kind, shape):
        raise ValueError(f"there must be {name} alone, {numpy.dtype(kind)} of shape {shape}")
    return array
