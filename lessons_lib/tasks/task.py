"""A task: what a model is for. Its teacher, its data, and how answers are judged, with an interval and a difference.

The base class is a classification: a model is called with some columns of a batch and gives logits, one row an example,
and a column of labels says which is right. A task of another kind, such as translation, overrides what differs. Those
of the course are `load("classifier")` and `load("translator")`; your own is a subclass with a name, teacher and data.
"""

import base64
import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor, nn

from lessons_lib.measure import intervals
from lessons_lib.tasks.layers import evaluating

if TYPE_CHECKING:
    from datasets import Dataset

MODULES = {"classifier": "topic_classifier", "translator": "translation"}  # each holds a TASK
Batch = dict[str, Tensor]


class Task:
    """What a model is for.

    name: in tables, files and commands. unit: of its quality, in figures. inputs: the columns that a model is called
    with, by name. label: the column that says which class is right. autoregressive: whether answers are written piece
    by piece, as text is. A subclass gives at least teacher, train_data and held_out.
    """

    name: str
    unit: str = "accuracy (%)"
    inputs: Sequence[str] = ("input_ids", "attention_mask")
    label: str = "label"
    autoregressive: bool = False

    def teacher(self) -> nn.Module:
        """The large model, a copy of its own at each call: in eval mode, its parameters frozen."""
        raise NotImplementedError(f"the task {self.name!r} has no teacher; give its class a method teacher().")

    def train_data(self) -> Batch:
        """Labelled examples as tensors with a common first dimension: the inputs and the label."""
        raise NotImplementedError(f"the task {self.name!r} has no training data; give its class a method train_data().")

    def held_out(self, split: str) -> "Dataset":
        """The examples that models are judged by, of the split "validation" or "test"."""
        raise NotImplementedError(f"the task {self.name!r} has no held-out data; give its class a method held_out().")

    def trainable(self, model: nn.Module) -> nn.Module:
        """The model with gradients wherever the task trains any; in place."""
        return model.requires_grad_(True)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """What training on labels minimizes: the cross-entropy of the logits, in nats, a mean over examples."""
        return nn.functional.cross_entropy(self.logits(model, batch), batch[self.label])

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """FP32 logits (N, classes) of a batch of tensors."""
        return model(**{name: batch[name] for name in self.inputs}).float()

    def batch(self, rows: "Dataset") -> Batch:
        """The inputs of some examples as tensors."""
        return {name: torch.as_tensor(rows[name][:]) for name in self.inputs}

    def predict(self, model: nn.Module, rows: "Dataset") -> Tensor:
        """FP32 logits (N, classes) for some examples, in eval mode; the model's mode is put back."""
        with evaluating(model), torch.inference_mode():
            return self.logits(model, self.batch(rows))

    def answers(self, model: nn.Module, rows: "Dataset") -> numpy.ndarray:
        """What each example adds to the quality, (N,): 1 for a right class, 0 for a wrong one."""
        return (self.predict(model, rows).argmax(dim=1) == torch.as_tensor(rows[self.label][:])).numpy()

    def quality(self, answers: numpy.ndarray) -> float:
        """The quality that answers add up to, 0 to 1."""
        return float(answers.mean())

    def groups(self, rows: "Dataset") -> numpy.ndarray:
        """Which examples are alike, (N,) numbers from 0: intervals are bootstrapped over these. Each alone, here."""
        return numpy.arange(len(rows))

    def interval(self, runs: numpy.ndarray, groups: Sequence[int]) -> intervals.Interval:
        """Quality in the task's unit with its 95 % interval over runs and groups. runs: answers, (runs, N, ...)."""
        return intervals.accuracy(runs, groups).scaled(100)

    def difference(self, runs: numpy.ndarray, others: numpy.ndarray, groups: Sequence[int]) -> intervals.Difference:
        """Quality of some runs minus that of others, in the task's unit, paired by run and by example."""
        return intervals.paired_difference(runs, others, groups).scaled(100)

    def pack(self, answers: numpy.ndarray) -> str:
        """Answers as short text, for a table."""
        return base64.b85encode(numpy.packbits(answers)).decode()

    def unpack(self, texts: Sequence[str], count: int) -> numpy.ndarray:
        """Packed answers to `count` examples, one text a run: (runs, count, ...)."""
        packed = [numpy.frombuffer(base64.b85decode(text), dtype=numpy.uint8) for text in texts]
        return numpy.stack([numpy.unpackbits(one) for one in packed])[:, :count]

    def summary(self, answers: numpy.ndarray, rows: "Dataset") -> Any:
        """All that an interval needs of one run's answers, as JSON values: right answers by group, here."""
        return numpy.bincount(self.groups(rows), weights=answers).astype(int).tolist()

    def from_summaries(self, summaries: Sequence[Any], sizes: Sequence[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Answers (runs, N, ...) with the same intervals as those that were summed up, and each one's group.

        sizes: how many examples each group has. Which ones of a group were right is not kept, and does not matter to
        an interval over groups.
        """
        sizes = numpy.asarray(sizes)
        groups = numpy.repeat(numpy.arange(len(sizes)), sizes)
        place = numpy.arange(len(groups)) - numpy.repeat(sizes.cumsum() - sizes, sizes)
        return (place < numpy.asarray(summaries)[:, groups]).astype(int), groups

    def judge(self, model: nn.Module, split: str = "test") -> intervals.Interval:
        """A model's quality on held-out data, in the task's unit, with its 95 % interval."""
        rows = self.held_out(split)
        return self.interval(self.answers(model, rows)[None], self.groups(rows))

    def calls(self, model: nn.Module, count: int, seed: int) -> list[Callable[[], object]]:
        """Runs of a model on `count` training examples, drawn from the seed, one at a time so that none is padded."""
        data = self.train_data()
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(next(iter(data.values()))), generator=draw)[:count].tolist()
        return [partial(self.logits, model, self.single(data, row)) for row in rows]

    def single(self, data: Batch, row: int) -> Batch:
        """One training example as a batch."""
        return {name: data[name][[row]] for name in self.inputs}

    def question(self, model: nn.Module, count: int) -> Callable[[], object]:
        """A call that has a model answer `count` validation examples as one batch."""
        batch = self.batch(self.held_out("validation").select(range(count)))
        return torch.inference_mode()(lambda: model(**batch))


def load(name: str) -> Task:
    """The task of the course of this name. Raises ValueError for an unknown one."""
    if name not in MODULES:
        raise ValueError(f"there is no task {name!r}; there is {' and '.join(MODULES)}.")
    return importlib.import_module(f"lessons_lib.tasks.{MODULES[name]}").TASK
