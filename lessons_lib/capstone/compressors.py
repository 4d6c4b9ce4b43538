"""How each step of a pipeline is taken on the model of a task: what goes and stays, how it is taught, its files.

`Compressor` does what any classification allows: its model is taught by its teacher's softened logits (lesson 04),
exported and given 8 bits. The two of the course's tasks know more about their models; `compressor_of` finds the one.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from lessons_lib.distillation import losses, students, translation_losses, translation_students
from lessons_lib.pruning import heads, importance, schedules, structured
from lessons_lib.serving import onnx_export, onnx_translator
from lessons_lib.tasks import topic_classifier, translation, translator
from lessons_lib.tasks.task import Batch, Task, load
from lessons_lib.training import loop

LEARN = ("teacher", "labels", "all labels")
SCORED_SENTENCES, SCORED_PHRASES = 256, 64  # training texts by which heads and neurons are scored
ASKED_AT_ONCE = 64  # examples that a teacher answers as one batch


@dataclass(frozen=True)
class Training:
    """How a model is taught.

    learn: the "teacher"'s answers; or, without a teacher, the "labels" that the same data has: those of all sentences,
    but of the phrases only a few hundred pairs of lesson 07; or, for the translator, "all labels" of the course.
    """

    steps: int
    lr: float
    learn: str = "teacher"


@dataclass(frozen=True)
class Options:
    """What the steps aim at.

    layers: those that stay, numbered from 0, of the encoder and, in a translator, of the decoder. neurons, heads: how
    many stay in each block; a translator keeps all heads. training: how "distil" teaches.
    """

    layers: tuple[tuple[int, ...], ...]
    neurons: int
    training: Training
    heads: int | None = None


class Compressor:
    """How each step is taken on the model of a classification.

    usual: what the steps aim at unless told otherwise. reference: the pipeline that is made by `course prepare`.
    impossible: steps that its model does not allow, and why. A subclass has a method for each other step, called with
    the model and the options. If heads or neurons go, it has `scores(model, part)` too: how much each of the "heads" or
    "neurons" of a block matters, FP32 (units,), one tensor a block.
    onnx: the module that exports, and rewrites with 8 bits, into `file` of a folder.
    opened(path): the model of what was exported, on as many threads as torch has now.
    hand_in: the names under which the files are handed in.
    """

    usual = Options(layers=(), neurons=0, training=Training(100, 1e-3))
    reference: tuple[str, ...] = ("distil", "export", "int8")
    impossible: Mapping[str, str] = dict.fromkeys(("heads", "neurons", "layers", "vocabulary"), "knows no such step")
    onnx, opened, file = onnx_export, staticmethod(onnx_export.OnnxModel), "model.onnx"
    hand_in: Mapping[str, str] = {"model.onnx": "model.onnx"}
    batch_size = 32

    def __init__(self, task: Task):
        self.task = task

    def neurons(self, model: nn.Module, options: Options) -> nn.Module:
        """A copy with the feed-forward neurons that matter most."""
        return structured.prune_neurons(model, strongest(self.scores(model, "neurons"), "neurons", options.neurons))

    def distil(self, model: nn.Module, options: Options, seed: int = 0, progress: bool = False) -> nn.Module:
        """A copy that was taught as options say."""
        model = self.trainable(model)
        self.teach(model, options.training, seed, progress)
        return model

    def trainable(self, model: nn.Module) -> nn.Module:
        """A copy with gradients wherever the task trains any."""
        return self.task.trainable(copy.deepcopy(model))

    def teach(self, model: nn.Module, how: Training, seed: int, progress: bool = False) -> loop.History:
        """Train a model in place as `how` says, and leave it in eval mode. Weights that are frozen stay as they are."""
        if how.learn not in LEARN:
            raise ValueError(f"a model learns from {', '.join(map(repr, LEARN))}, not from {how.learn!r}.")
        trained, data, loss = self.lesson(model, how.learn, seed)
        return loop.train(
            trained, data, loss, steps=how.steps, batch_size=self.batch_size, lr=how.lr, seed=seed, progress=progress
        )

    def lesson(self, model: nn.Module, learn: str, seed: int):
        """What is trained, on which data, by which loss: here the model, by its teacher's softened logits."""
        alpha = students.ALPHA if learn == "teacher" else 0.0

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            logits = self.task.logits(model, batch)
            return losses.distillation_loss(logits, batch["teacher_logits"], batch[self.task.label], alpha, students.T)

        return model, self.taught_data(), loss

    def taught_data(self) -> Batch:
        """What a student is taught: the task's training data with its teacher's logits."""
        data = self.task.train_data()
        parts = zip(*(data[name].split(ASKED_AT_ONCE) for name in self.task.inputs), strict=True)
        batches = (dict(zip(self.task.inputs, part, strict=True)) for part in parts)
        return data | {"teacher_logits": students.transfer_logits(self.task.teacher(), batches)}

    def export(self, model: nn.Module, folder: Path) -> Path:
        """Write the model as ONNX into a folder; the path of what was written."""
        return self.onnx.to_onnx(self.trainable(model), folder / self.file)

    def int8(self, path: Path, folder: Path) -> Path:
        """Write an exported model again, its weights with 8 bits."""
        return self.onnx.dynamic_int8(path, folder / self.file)


class ClassifierCompressor(Compressor):
    """The steps on the topic teacher, which is cut as in lesson 15 and taught on more sentences than in lesson 04."""

    usual = Options(((0, 1, 3, 5),), 768, Training(160, 5e-4), heads=4)
    reference = ("heads", "neurons", "layers", "distil", "vocabulary", "export", "int8")
    impossible = {}
    hand_in = {"model.onnx": "18_topics.onnx"}
    batch_size = students.SETTINGS["batch_size"]

    def heads(self, model: nn.Module, options: Options) -> nn.Module:
        """A copy with the heads that matter most."""
        positions = strongest(self.scores(model, "heads"), "heads", options.heads)
        return heads.prune_heads(model, [one.tolist() for one in positions])

    def layers(self, model: nn.Module, options: Options) -> nn.Module:
        """A copy with the layers that options name."""
        return structured.keep_layers(model, *map(list, options.layers))

    def vocabulary(self, model: nn.Module, options: Options) -> nn.Module:
        """A copy without the words that no training text has."""
        return structured.trim_vocabulary(model, topic_classifier.seen_tokens())

    def scores(self, model: nn.Module, part: str) -> list[Tensor]:
        """Importance by the gradients of gates, as in lesson 15."""
        batches = topic_classifier.training_batches(SCORED_SENTENCES, seed=0)
        return [importance.from_gates(block) for block in importance.gate_gradients(model, batches, part)]

    def trainable(self, model: nn.Module) -> nn.Module:
        """A copy with gradients; the embeddings, most of its weights, stay as the teacher has them.

        Its attention is written out: that is faster to train on short texts, and its ONNX graph is shorter.
        """
        model = super().trainable(model)
        model.encoder.set_attn_implementation("eager")
        return model

    def taught_data(self) -> Batch:
        """Twice the sentences of lesson 04, with the teacher's logits."""
        return students.many_sentences()

    def from_scratch(self, model: nn.Module, seed: int) -> nn.Module:
        """A classifier with as many layers, heads and neurons, its weights random."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            config = copy.deepcopy(model.encoder.config)
            encoder = type(model.encoder)(config, add_pooling_layer=False)
            for block, head_numbers in zip(encoder.encoder.layer, getattr(config, heads.FIELD, ()), strict=False):
                heads.keep(block.attention, head_numbers)
            encoder.set_attn_implementation("eager")  # as `trainable` does
            return topic_classifier.TopicClassifier(encoder)


class TranslatorCompressor(Compressor):
    """The steps on the translator. A student learns its teacher's translations and, as it is as wide, hidden states."""

    usual = Options(((2, 5), (5,)), 256, Training(200, 2e-3))
    reference = ("neurons", "layers", "distil", "export", "int8")
    impossible = {
        "heads": "has four heads a layer, and keeps them",
        "vocabulary": "has no word that its training texts do not have",
    }
    onnx, opened, file = onnx_translator, staticmethod(onnx_translator.OnnxTranslator), "."  # the folder: two files
    hand_in = {
        onnx_translator.ENCODER: "18_translator_encoder.onnx",
        onnx_translator.DECODER: "18_translator_decoder.onnx",
    }
    batch_size = translation_students.SETTINGS["batch_size"]

    def layers(self, model: nn.Module, options: Options) -> nn.Module:
        """A copy with the layers of encoder and decoder that options name."""
        return translator.keep_layers(model, *map(list, options.layers))

    def scores(self, model: nn.Module, part: str) -> list[Tensor]:
        """Neuron j by what it says: its values over the pieces of some training texts, times its weights into the next
        layer, ||X_j||_2 · ||W_:j||_2."""
        names = {layer: name for name, layer in model.named_modules()}
        weights = {f"{names[second]}.weight": second.weight for _, second in structured.neuron_layers(model)}
        norms = schedules.input_norms(model, weights, self.task.calls(model, SCORED_PHRASES, seed=0))
        return [norms[name] * weight.detach().norm(dim=0) for name, weight in weights.items()]

    def lesson(self, model: nn.Module, learn: str, seed: int):
        """With the teacher its translations and last hidden states, else the pairs alone."""
        if learn == "teacher":
            return translation_losses.Direct(model), _taught_phrases(seed), translation_losses.hidden_loss
        return (
            model,
            translation_students.student_data("few" if learn == "labels" else "all", False, seed),
            self.task.loss,
        )

    def from_scratch(self, model: nn.Module, seed: int) -> nn.Module:
        """A translator of the same shape, its weights random."""
        return translator.new_translator(model.shape, seed)


@lru_cache(maxsize=1)
def _taught_phrases(seed: int) -> Batch:
    """Pairs of this seed and the teacher's translations, with the teacher's logits and hidden states."""
    data = translation_students.student_data("few", True, seed)
    return translation_losses.teacher_outputs(translation.teacher(), data)


COMPRESSORS: dict[type[Task], type[Compressor]] = {
    topic_classifier.TopicClassification: ClassifierCompressor,
    translation.Translation: TranslatorCompressor,
}


def compressor_of(task: str | Task) -> Compressor:
    """Of a task, or of the course's task of this name. Raises ValueError for a name that there is not."""
    task = load(task) if isinstance(task, str) else task
    return COMPRESSORS.get(type(task), Compressor)(task)


def strongest(scores: Sequence[Tensor], part: str, count: int) -> list[Tensor]:
    """The `count` units of each block that score highest: int64 (count,), ascending, for each block.

    scores: FP32 (units,), one a block. Raises ValueError unless every block has so many.
    """
    fewest = min(map(len, scores))
    if not 1 <= count <= fewest:
        raise ValueError(f"{count} {part} cannot stay: a block has {fewest}, and one must stay.")
    return [one.argsort(descending=True, stable=True)[:count].sort().values for one in scores]
