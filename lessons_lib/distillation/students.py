"""Students of the topic teacher: which layers they start from, and what the teacher says of their texts."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.distillation import losses
from lessons_lib.files import cache
from lessons_lib.tasks import bbc, topic_classifier
from lessons_lib.tasks.layers import evaluating
from lessons_lib.tasks.topic_classifier import TopicClassifier
from lessons_lib.training import loop

# What shapes a student and its data, beside the layers it starts from; the study of lesson 04 declares it.
SETTINGS = {
    "n_layers": 2,
    "steps": 120,
    "batch_size": 32,
    "few_per_topic": 20,
    "weak_per_topic": 3,  # labels of the weak teacher
    "weak_decay": 1e-3,
    **topic_classifier.TRANSFER,
}
ASKED = ("transfer_sentences", "transfer_seed", "every", "weak_per_topic", "weak_decay")  # what shapes the logits
ALPHA, T = 0.9, 2.0  # chosen in lesson 04
WEAK_SEED = 100  # of the weak teacher's labels and head
MANY = 8000
INITS = ("alternate", "first", "scratch")
SOURCES = ("teacher", "encoder")


def take_layers(n_teacher: int, n_student: int, strategy: str = "alternate") -> list[int]:
    """Positions, from 0, of the teacher's layers that a student starts from, in ascending order.

    "alternate": layer floor((i + 1) · n_teacher / n_student) - 1 for i = 0 ... n_student - 1: evenly spaced, and the
    last one always taken, because what a head reads comes out of it. "first": the first n_student layers.
    Raises ValueError for a student deeper than its teacher.
    """
    if not 1 <= n_student <= n_teacher:
        raise ValueError(f"a student has 1 ... {n_teacher} of its teacher's {n_teacher} layers, not {n_student}")
    if strategy == "first":
        return list(range(n_student))
    if strategy != "alternate":
        raise ValueError(f'strategy is "alternate" or "first", not {strategy!r}')
    return [(i + 1) * n_teacher // n_student - 1 for i in range(n_student)]


def transfer_logits(model: torch.nn.Module, batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """The teacher's logits for a transfer set, FP32 (sentences, classes) in the order of the batches: asked once, kept.

    batches: dicts of the model's keyword arguments, walked once. Computed in eval mode and without a graph; afterwards
    the model is in the mode in which it came. Raises ValueError when there is no batch.
    """
    with evaluating(model), torch.no_grad():
        logits = [model(**batch).float() for batch in batches]
    if not logits:
        raise ValueError("there is no batch to ask the teacher about; an iterator that was walked before is empty")
    return torch.cat(logits)


def topic_student(
    n_layers: int = 2, init: str = "alternate", seed: int = 0, source: str = "teacher", freeze_embeddings: bool = False
) -> TopicClassifier:
    """A classifier as wide as the teacher and n_layers deep; its head is always new, drawn from the seed.

    init: "alternate" or "first" copies embeddings and layers (see take_layers); "scratch" copies nothing,
    all its weights are random. source: copy from the "teacher", which has seen the topics of all training sentences,
    or from the pretrained "encoder", which has seen none: a student that stands for "few labels alone" starts there.
    freeze_embeddings: leave the embeddings, half of the weights, as copied; a step of training then costs less.
    """
    if init not in INITS or source not in SOURCES:
        raise ValueError(f"init is one of {INITS} and source one of {SOURCES}, not {init!r} and {source!r}.")
    depth = topic_classifier.encoder_config().num_hidden_layers
    if isinstance(n_layers, bool) or not isinstance(n_layers, int) or not 1 <= n_layers <= depth:
        raise ValueError(f"n_layers must be a whole number from 1 to the teacher's {depth}, not {n_layers!r}.")
    if freeze_embeddings and init == "scratch":
        raise ValueError('freeze_embeddings with init="scratch" would keep random embeddings for good.')
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = TopicClassifier(topic_classifier.untrained_encoder(n_layers))
    if init != "scratch":
        origin = (
            topic_classifier.topic_teacher().encoder if source == "teacher" else topic_classifier.sentence_encoder()
        )
        student.encoder.embeddings.load_state_dict(origin.embeddings.state_dict())
        for layer, position in zip(student.encoder.encoder.layer, take_layers(depth, n_layers, init), strict=True):
            layer.load_state_dict(origin.encoder.layer[position].state_dict())
    student.encoder.embeddings.requires_grad_(not freeze_embeddings)
    return student.eval()


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
) -> loop.History:
    """Train a student in place on transfer_data. Sentences without a label count in the soft term alone."""

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = model(batch["input_ids"], batch["attention_mask"])
        return losses.distillation_loss(logits, batch["teacher_logits"], batch["topic"], alpha, T)

    return loop.train(
        student, data, loss, steps=steps, batch_size=SETTINGS["batch_size"], lr=lr, seed=seed, progress=progress
    )


def transfer_data(labels: str, teacher: str, alpha: float, seed: int) -> dict[str, Tensor]:
    """Tokens, topics and teacher logits of the sentences that a student trains on.

    labels: "full", or "few" for SETTINGS["few_per_topic"] a topic, drawn from the seed; the others are UNLABELLED.
    teacher: "topic", "weak", or "none" (logits of zero). With alpha = 0 unlabelled sentences teach nothing and are left
    out, so that every batch is a full batch of labelled ones.
    """
    sentences = topic_classifier.transfer_sentences()
    topic = torch.tensor(sentences["topic"])
    if labels == "few":
        texts = set(bbc.few_labels(sentences, SETTINGS["few_per_topic"], seed)["text"])
        labelled = torch.tensor([text in texts for text in sentences["text"]])
        topic = topic.where(labelled, losses.UNLABELLED)
    logits = torch.zeros(len(topic), len(bbc.TOPICS)) if teacher == "none" else teacher_logits(teacher)
    data = topic_classifier.transfer_tokens() | {"topic": topic, "teacher_logits": logits}
    useful = topic != losses.UNLABELLED if alpha == 0 else torch.ones(len(topic), dtype=torch.bool)
    return {name: tensor[useful] for name, tensor in data.items()}


@lru_cache(maxsize=4)
def teacher_logits(teacher: str, texts: str = "transfer") -> Tensor:
    """FP32 logits (sentences, 5) of a teacher, asked once and kept in the cache.

    teacher: "topic", or "weak", a linear head over the untuned encoder that saw a handful of labels. texts: "transfer"
    for the transfer set, "test" for the held-out sentences of the test split.
    """
    shape = {
        "asked": [teacher, texts],
        "teacher": topic_classifier.teacher_sha256(),
        "settings": {name: SETTINGS[name] for name in ASKED},
        "sentences": [bbc.sentences_sha256(split) for split in ("train", "test")],
    }
    return _stored("distil-classifier-logits", shape, lambda: _ask(teacher, texts))


def _ask(teacher: str, texts: str) -> Tensor:
    rows = topic_classifier.transfer_sentences() if texts == "transfer" else topic_classifier.held_out("test")
    sentences = rows["text"]
    if teacher == "topic":
        return topic_classifier.predict_logits(topic_classifier.topic_teacher(), sentences)
    encoder = topic_classifier.TopicClassifier(topic_classifier.sentence_encoder())
    encoder.head = nn.Identity()  # what is left gives the mean hidden state
    labelled = bbc.few_labels(topic_classifier.transfer_sentences(), SETTINGS["weak_per_topic"], WEAK_SEED)
    # The copy is made outside inference mode, so that autograd takes it.
    features = topic_classifier.predict_logits(encoder, labelled["text"]).clone()
    head = _weak_head(features, torch.tensor(labelled["topic"]))
    return head(topic_classifier.predict_logits(encoder, sentences))


def _weak_head(features: Tensor, topic: Tensor) -> nn.Linear:
    """A linear head fitted on these mean hidden states (N, width) and topics (N,)."""
    with torch.random.fork_rng():
        torch.manual_seed(WEAK_SEED)
        head = nn.Linear(features.shape[1], len(bbc.TOPICS))
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
def many_sentences() -> dict[str, Tensor]:
    """Tokens and topics of MANY training sentences with the topic teacher's logits: what the capstone's student learns
    from. The first half of them is the transfer set."""
    train = bbc.sentences("train").shuffle(seed=SETTINGS["transfer_seed"], keep_in_memory=True).select(range(MANY))
    shape = {
        "teacher": topic_classifier.teacher_sha256(),
        "sentences": bbc.sentences_sha256("train"),
        "count": MANY,
        "seed": SETTINGS["transfer_seed"],
        "bfloat16": loop.fast_bfloat16(),
    }

    def ask() -> Tensor:
        with loop.bfloat16_where_fast():  # the precision that the teacher was trained in
            return topic_classifier.predict_logits(topic_classifier.topic_teacher(), train["text"][:])

    tokens = topic_classifier.tokenize(train["text"][:], SETTINGS["max_length"])
    return tokens | {"topic": torch.tensor(train["topic"][:]), "teacher_logits": _stored("teaching-logits", shape, ask)}


def _stored(name: str, shape: dict[str, Any], ask: Callable[[], Tensor]) -> Tensor:
    """A teacher's logits: asked once, then read from the cache."""
    from safetensors.torch import load_file, save_file

    file = "logits.safetensors"
    return cache.stored(
        name,
        shape,
        lambda: {"logits": ask()},
        lambda folder: load_file(folder / file),
        lambda logits, folder: save_file(logits, folder / file),
    )["logits"]
