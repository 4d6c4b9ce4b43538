"""The study of lesson 04: students of two layers, with few labels and with all, distilled and not.

All students are as wide as the teacher, train for equally many steps of equally many sentences, and see the same texts:
the transfer set. "few" means that 20 sentences of each topic are labelled, "full" that all are. With alpha = 0 there is
no teacher, and only labelled sentences are of use. The learning rates were chosen on validation sentences, for each way
of learning by itself, among TUNED_RATES; those runs are cells of the grid too.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from lessons_lib import assets, corpora, distillation, intervals, models, training
from lessons_lib.runs import Row, Table
from lessons_lib.study import Study

SETTINGS = {
    "n_layers": 2,
    "steps": 120,
    "batch_size": 32,
    "max_length": 24,  # tokens of a sentence while training; all students and teachers are judged at the usual length
    "transfer_sentences": 4000,
    "transfer_seed": 4,
    "few_per_topic": 20,
    "weak_per_topic": 3,  # labels of the weak teacher
    "weak_decay": 1e-3,
    "every": 2,  # every second sentence of a held-out document is asked about
}
ASKED = ("transfer_sentences", "transfer_seed", "every", "weak_per_topic", "weak_decay")  # what shapes the logits
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = 100  # of the runs that choose a learning rate; no reported run shares it
TUNED_RATES = {"alternate": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3), "scratch": (5e-4, 1e-3, 2e-3)}
ALPHA, T = 0.9, 2.0  # of every distilled cell outside the sweep
SWEEP = {"alpha": (0.5, 0.9, 1.0), "T": (1.0, 2.0, 5.0, 10.0)}


# The one that did best on validation sentences in the cells of TUNING_SEED, by (init, labels, distilled).
RATES = {
    ("alternate", "few", False): 2e-4,
    ("alternate", "few", True): 1e-3,
    ("alternate", "full", False): 1e-3,
    ("alternate", "full", True): 1e-3,
    ("scratch", "few", False): 5e-4,
    ("scratch", "few", True): 2e-3,
    ("scratch", "full", False): 2e-3,
    ("scratch", "full", True): 2e-3,
}


def cell(labels: str, distilled: bool, seed: int, **changes: Any) -> dict[str, Any]:
    """One declared run: the usual settings for these labels, with changes."""
    init = changes.get("init", "alternate")
    tuned = "scratch" if init == "scratch" else "alternate"  # copied layers share their rates
    usual = {
        "labels": labels,
        "init": "alternate",
        "source": "none" if init == "scratch" else "encoder",
        "teacher": "topic" if distilled else "none",
        "alpha": ALPHA if distilled else 0.0,
        "T": T if distilled else 1.0,
        "lr": RATES[tuned, labels, distilled],
        "split": "test",
    }
    return usual | changes | {"seed": seed}


def _cells() -> list[dict[str, Any]]:
    ways = [(labels, distilled) for labels in ("few", "full") for distilled in (False, True)]
    some = SEEDS[:3]
    cells = [cell(*way, seed) for way in ways for seed in SEEDS]
    cells += [
        cell("few", True, seed, alpha=alpha, T=T) for alpha in SWEEP["alpha"] for T in SWEEP["T"] for seed in some
    ]
    cells += [cell(*way, seed, init=init) for init in ("first", "scratch") for way in ways for seed in some]
    cells += [cell(labels, True, seed, teacher="weak") for labels in ("few", "full") for seed in some]
    cells += [cell(*way, seed, source="teacher") for way in ways for seed in some]
    cells += [
        cell(*way, TUNING_SEED, init=init, lr=lr, split="validation")
        for init, rates in TUNED_RATES.items()
        for way in ways
        for lr in rates
    ]
    return list({tuple(one.items()): one for one in cells}.values())  # the sweep holds the usual setting once more


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Train the student of a cell and ask it about held-out sentences: its accuracy, and how many it got right in each
    document of the split, in the order of the documents' numbers."""
    student = models.topic_student(
        SETTINGS["n_layers"],
        cell["init"],
        cell["seed"],
        source="teacher" if cell["source"] == "teacher" else "encoder",
        freeze_embeddings=cell["init"] != "scratch",
    )
    data = transfer_data(cell["labels"], cell["teacher"], cell["alpha"], cell["seed"])
    distil(student, data, alpha=cell["alpha"], T=cell["T"], lr=cell["lr"], seed=cell["seed"])
    return judged(student, cell["split"])


def judged(model: nn.Module, split: str) -> dict[str, Any]:
    """The result of a cell: a model's accuracy on a split's held-out sentences, and its right answers by document."""
    correct = correct_by_document(models.predict_logits(model, held_out(split)["text"]), split)
    return {"accuracy": round(sum(correct) / len(held_out(split)), 5), "correct": correct}


def distil(
    student: nn.Module,
    data: dict[str, Tensor],
    *,
    alpha: float,
    T: float,
    lr: float,
    seed: int,
    steps: int = SETTINGS["steps"],
    progress: bool = False,
) -> training.History:
    """Train a student in place on transfer_data. Sentences without a label count in the soft term alone."""

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = model(batch["input_ids"], batch["attention_mask"])
        return distillation.distillation_loss(logits, batch["teacher_logits"], batch["topic"], alpha, T)

    return training.train(
        student, data, loss, steps=steps, batch_size=SETTINGS["batch_size"], lr=lr, seed=seed, progress=progress
    )


def transfer_data(labels: str, teacher: str, alpha: float, seed: int) -> dict[str, Tensor]:
    """Tokens, topics and teacher logits of the sentences that a student trains on.

    labels: "full", or "few" for SETTINGS["few_per_topic"] a topic, drawn from the seed; the others are UNLABELLED.
    teacher: "topic", "weak", or "none" (logits of zero). With alpha = 0 unlabelled sentences teach nothing and are left
    out, so that every batch is a full batch of labelled ones.
    """
    sentences = transfer_sentences()
    topic = torch.tensor(sentences["topic"])
    if labels == "few":
        texts = set(corpora.few_labels(sentences, SETTINGS["few_per_topic"], seed)["text"])
        labelled = torch.tensor([text in texts for text in sentences["text"]])
        topic = topic.where(labelled, distillation.UNLABELLED)
    logits = torch.zeros(len(topic), len(corpora.TOPICS)) if teacher == "none" else teacher_logits(teacher)
    data = _transfer_tokens() | {"topic": topic, "teacher_logits": logits}
    useful = topic != distillation.UNLABELLED if alpha == 0 else torch.ones(len(topic), dtype=torch.bool)
    return {name: tensor[useful] for name, tensor in data.items()}


@lru_cache(maxsize=1)
def transfer_sentences():
    """The texts that every student sees: drawn once from the training sentences. A datasets.Dataset."""
    train = corpora.sentences("train").shuffle(seed=SETTINGS["transfer_seed"], keep_in_memory=True)
    return train.select(range(SETTINGS["transfer_sentences"]))


@lru_cache(maxsize=1)
def _transfer_tokens() -> dict[str, Tensor]:
    return models.tokenize(transfer_sentences()["text"], SETTINGS["max_length"])


@lru_cache(maxsize=2)
def held_out(split: str):
    """The sentences that students are judged by: every second one of the split's documents. A datasets.Dataset."""
    sentences = corpora.sentences(split)
    return sentences.select(range(0, len(sentences), SETTINGS["every"]))


def document_sizes() -> list[int]:
    """How many held-out test sentences each document has, by the documents' numbers."""
    return numpy.unique(held_out("test")["document"], return_counts=True)[1].tolist()


@lru_cache(maxsize=4)
def teacher_logits(teacher: str, texts: str = "transfer") -> Tensor:
    """FP32 logits (sentences, 5) of a teacher, asked once and kept in the cache.

    teacher: "topic", or "weak", a linear head over the untuned encoder that saw a handful of labels. texts: "transfer"
    for the transfer set, "test" for the held-out sentences of the test split.
    """
    from safetensors.torch import load_file, save_file

    shape = {
        "asked": [teacher, texts],
        "teacher": teacher_sha256(),
        "settings": {name: SETTINGS[name] for name in ASKED},
        "sentences": [corpora.sentences_sha256(split) for split in ("train", "test")],
    }
    name = "logits.safetensors"
    return assets.stored(
        "distil-classifier-logits",
        shape,
        lambda: {"logits": _ask(teacher, texts)},
        lambda folder: load_file(folder / name),
        lambda logits, folder: save_file(logits, folder / name),
    )["logits"]


def _ask(teacher: str, texts: str) -> Tensor:
    sentences = (transfer_sentences() if texts == "transfer" else held_out("test"))["text"]
    if teacher == "topic":
        return models.predict_logits(models.topic_teacher(), sentences)
    encoder = models.TopicClassifier(models.sentence_encoder())
    encoder.head = nn.Identity()  # what is left gives the mean hidden state
    labelled = corpora.few_labels(transfer_sentences(), SETTINGS["weak_per_topic"], TUNING_SEED)
    # The copy is made outside inference mode, so that autograd takes it.
    features = models.predict_logits(encoder, labelled["text"]).clone()
    head = _weak_head(features, torch.tensor(labelled["topic"]))
    return head(models.predict_logits(encoder, sentences))


def _weak_head(features: Tensor, topic: Tensor) -> nn.Linear:
    """A linear head fitted on these mean hidden states (N, width) and topics (N,)."""
    with torch.random.fork_rng():
        torch.manual_seed(TUNING_SEED)
        head = nn.Linear(features.shape[1], len(corpora.TOPICS))
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        decay = SETTINGS["weak_decay"] * head.weight.square().sum()
        loss = nn.functional.cross_entropy(head(features), topic) + decay
        loss.backward()
        return loss

    optimizer.step(closure)
    return head.requires_grad_(False)


@lru_cache(maxsize=1)
def teacher_sha256() -> str:
    """Fingerprint of the teacher's weights, so that a table says which teacher it was computed with."""
    return training.state_sha256(models.topic_teacher().state_dict())


def correct_by_document(logits: Tensor, split: str = "test") -> list[int]:
    """How many held-out sentences of each document these logits (sentences, 5) get right, in order of the documents."""
    right = (logits.argmax(1) == torch.tensor(held_out(split)["topic"])).numpy()
    _, member = numpy.unique(held_out(split)["document"], return_inverse=True)
    return numpy.bincount(member, weights=right).astype(int).tolist()


def inputs() -> dict[str, Any]:
    """What the table rests on besides its declaration: the teachers of this machine, and the size of each document."""
    topic = torch.tensor(transfer_sentences()["topic"])
    teachers = ("topic", "weak")
    right = {name: teacher_logits(name).argmax(1) == topic for name in teachers}
    return {
        "teacher": teacher_sha256(),
        "sentences": corpora.sentences_sha256("train"),
        "on_transfer": {name: round(float(each.float().mean()), 5) for name, each in right.items()},
        "sizes": document_sizes(),
        "correct": {name: correct_by_document(teacher_logits(name, "test")) for name in teachers},
    }


def answers(counts: list[list[int]], sizes: list[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Counts of right answers by document, one list a run, as 0/1 of shape (runs, sentences), and each one's document.

    Which sentences of a document were right is not kept, and does not matter to an interval over documents.
    """
    sizes = numpy.asarray(sizes)
    documents = numpy.repeat(numpy.arange(len(sizes)), sizes)
    place = numpy.arange(len(documents)) - numpy.repeat(sizes.cumsum() - sizes, sizes)
    return (place < numpy.asarray(counts)[:, documents]).astype(int), documents


def rows(table: Table, labels: str, distilled: bool, **changes: Any) -> list[Row]:
    """The test rows of one setting, one a seed: the usual one for these labels, with changes, as in `cell`."""
    return table.repeats(cell(labels, distilled, SEEDS[0], **changes))


def accuracy(table: Table, rows: list[Row]) -> intervals.Interval:
    """Test accuracy of these rows, with its 95 % interval over seeds and documents."""
    return intervals.accuracy(*answers([row["correct"] for row in rows], table.inputs["sizes"]))


def teacher_accuracy(table: Table, teacher: str = "topic") -> intervals.Interval:
    """Test accuracy of the teacher, with its 95 % interval over documents."""
    return intervals.accuracy(*answers([table.inputs["correct"][teacher]], table.inputs["sizes"]))


def difference(table: Table, rows: list[Row], others: list[Row]) -> intervals.Difference:
    """Test accuracy of rows minus that of others, paired by seed: as many seeds as both have."""
    seeds = sorted({row["seed"] for row in rows} & {row["seed"] for row in others})
    pair = [[next(row["correct"] for row in side if row["seed"] == seed) for seed in seeds] for side in (rows, others)]
    (a, documents), (b, _) = (answers(counts, table.inputs["sizes"]) for counts in pair)
    return intervals.paired_difference(a, b, documents)


STUDY = Study(
    name=Path(__file__).stem.removeprefix("study_"),
    cells=_cells(),
    run=run,
    cheap=cell("few", False, SEEDS[0]),
    settings=SETTINGS,
    inputs=inputs,
)
