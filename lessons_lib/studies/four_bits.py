"""The study of lesson 12: the encoder at 8, 4, 3 and 2 bits, the language model at 4 and 3, by four ways of rounding.

"rtn" rounds to nearest, "nf4" takes NF4 values, "gptq" and "awq" look at what the layers read. All linear layers inside
the transformer are quantized; embeddings, norms and heads stay. The encoder is that of the topic teacher, whose weights
are true FP32. The language model's lie on a grid of groups of 32 already, so it is quantized in groups of 64, which
that grid does not fit.

A seed draws the calibration texts of "gptq" and "awq". Rounding and NF4 draw nothing: one run of each. The score is
accuracy: of topics for the encoder, of the next token for the language model.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from lessons_lib.arithmetic import nf4
from lessons_lib.four_bits import awq, gptq, groupwise
from lessons_lib.measure import intervals
from lessons_lib.studies import distil_classifier as topics
from lessons_lib.studies.runs import Row, Table
from lessons_lib.studies.study import Study
from lessons_lib.tasks import bbc, language_model, layers, topic_classifier
from lessons_lib.tasks.layers import Moments

SETTINGS = {
    "group_size": 64,
    "calibration_sentences": 128,  # of the encoder
    "calibration_passages": 16,  # of the language model
    "judged_passages": 16,
    "passage_tokens": 128,
    "awq_steps": 5,
    "damping": gptq.DAMPING,
}
SEEDS = (0, 1, 2)
INSIDE = {"encoder": "encoder.encoder", "language model": "model.layers"}
BITS = {"encoder": (8, 4, 3, 2), "language model": (4, 3)}
DRAWN = ("gptq", "awq")  # the ways that look at calibration texts
WAYS = ("rtn", "nf4", *DRAWN)


def cell(model: str, way: str, bits: int, seed: int = 0) -> dict[str, Any]:
    """One declared run; way "none" and 32 bits is the model as it is."""
    return {"model": model, "way": way, "bits": bits, "seed": seed}


def seeds(model: str, bits: int) -> tuple[int, ...]:
    """Draws of calibration texts: several for the encoder, one where they cost most or matter least (at 8 bits)."""
    return SEEDS if model == "encoder" and bits < 8 else SEEDS[:1]


def _cells() -> list[dict[str, Any]]:
    cells = []
    for model, widths in BITS.items():
        cells += [cell(model, "none", 32)] + [cell(model, "rtn", bits) for bits in widths] + [cell(model, "nf4", 4)]
        cells += [cell(model, way, bits, seed) for way in DRAWN for bits in widths for seed in seeds(model, bits)]
    return cells


def approximate(weight: Tensor, way: str, bits: int, seen: Moments | None) -> Tensor:
    """A weight (rows, n) as it reads back after quantization in one of WAYS: FP32 (rows, n).

    seen: of the layer's inputs, for the ways that look at them. Raises ValueError for an unknown way, or for NF4 at
    another width than 4 bits.
    """
    group = SETTINGS["group_size"]
    if way == "rtn":
        return groupwise.dequantize_groups(groupwise.quantize_groups(weight, bits, group))
    if way == "gptq":
        return groupwise.dequantize_groups(gptq.gptq(weight, seen.second, bits, group, SETTINGS["damping"]))
    if way == "awq":
        return awq.dequantize(awq.awq(weight, seen.second, seen.size, bits, group, SETTINGS["awq_steps"]))
    if way == "nf4" and bits == 4:
        return nf4.round_trip(weight, group)
    raise ValueError(f"there is no way {way!r} at {bits} bits; there is {', '.join(WAYS)}, NF4 at 4 bits alone.")


def sentence_batches(split: str, seed: int) -> list[dict[str, Tensor]]:
    """Sentences of a split for the encoder, drawn from the seed, as tokens in batches of 32."""
    drawn = bbc.sentences(split).shuffle(seed=seed, keep_in_memory=True)
    texts = drawn.select(range(SETTINGS["calibration_sentences"]))["text"]
    return [topic_classifier.tokenize(texts[start : start + 32]) for start in range(0, len(texts), 32)]


def passage_batches(seed: int) -> list[dict[str, Tensor]]:
    """Passages of training documents for the language model, another set for every seed, in batches of 4."""
    ids = language_model.passages("train", SETTINGS["calibration_passages"], SETTINGS["passage_tokens"], seed)
    return [{"input_ids": part, "attention_mask": torch.ones_like(part)} for part in ids.split(4)]


def quantize_model(model: nn.Module, kind: str, way: str, bits: int, seed: int) -> None:
    """Replace the weights of a model's linear layers, in place, by what they read back as. kind: a key of INSIDE."""
    names, seen = list(layers.linear_layers(model, INSIDE[kind])), {}
    if way in DRAWN:
        batches = sentence_batches("train", seed) if kind == "encoder" else passage_batches(seed)
        seen = layers.moments(model, batches, names)
    for name in names:
        layer = model.get_submodule(name)
        layer.weight.data.copy_(approximate(layer.weight.detach(), way, bits, seen.get(name)))


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Quantize the model of a cell and judge it: the encoder by topics, the language model by next tokens."""
    model = topic_classifier.topic_teacher() if cell["model"] == "encoder" else language_model.language_model()
    if cell["way"] != "none":
        quantize_model(model, cell["model"], cell["way"], cell["bits"], cell["seed"])
    if cell["model"] == "encoder":
        return topics.judged(model, "test")
    losses, hits = language_model.next_token_losses(model, judged_passages())
    return {
        "accuracy": round(hits.float().mean().item(), 5),
        "perplexity": round(language_model.perplexity(losses), 4),
        "losses": [round(loss, 5) for loss in losses.mean(dim=1).tolist()],
    }


@lru_cache(maxsize=1)
def judged_passages() -> Tensor:
    """The held-out passages that language models are judged by, int64 (passages, tokens)."""
    return language_model.passages("test", SETTINGS["judged_passages"], SETTINGS["passage_tokens"])


def inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the teacher of this machine, and the size of each document."""
    return {
        "teacher": topic_classifier.teacher_sha256(),
        "sentences": bbc.sentences_sha256("test"),
        "sizes": topic_classifier.document_sizes(),
    }


def rows(table: Table, model: str, way: str, bits: int) -> list[Row]:
    """The rows of one setting, one a seed."""
    return table.repeats(cell(model, way, bits))


def accuracy(table: Table, way: str, bits: int) -> intervals.Interval:
    """The encoder's test accuracy, with its 95 % interval over documents, and over seeds where a way has several."""
    return topics.accuracy(table, rows(table, "encoder", way, bits))


def difference(table: Table, way: str, other: str, bits: int, other_bits: int | None = None) -> intervals.Difference:
    """Accuracy of the encoder in one way minus that in another, paired by document.

    A way that draws nothing gives the same answers under every seed, and stands beside every seed of the other.
    other_bits: of the other way, if they differ.
    """
    sides = [
        [row["correct"] for row in rows(table, "encoder", *setting)]
        for setting in ((way, bits), (other, other_bits or bits))
    ]
    most = max(len(side) for side in sides)
    (a, documents), (b, _) = (
        topic_classifier.TASK.from_summaries(side * (most // len(side)), table.inputs["sizes"]) for side in sides
    )
    return intervals.paired_difference(a, b, documents)


def perplexity(table: Table, way: str, bits: int) -> float:
    """The language model's perplexity on held-out passages."""
    return rows(table, "language model", way, bits)[0]["perplexity"]


def loss_added(table: Table, way: str, bits: int, other: str = "none", other_bits: int = 32) -> intervals.Interval:
    """Mean loss of the language model in one way minus that in another, nats a token, with its interval over passages.

    The factor between the two perplexities is its exponential.
    """
    a, b = (
        numpy.array(rows(table, "language model", *setting)[0]["losses"])
        for setting in ((way, bits), (other, other_bits))
    )
    return intervals.over_seeds(a - b)  # one figure a passage in place of one a seed


CHEAP = cell("encoder", "gptq", 4, SEEDS[0])
STUDY = Study(Path(__file__).stem, _cells(), run, CHEAP, settings=SETTINGS, inputs=inputs)
