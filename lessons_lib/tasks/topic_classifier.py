"""The topic classifier: the pretrained sentence encoder, the teacher built on it, and the task that both are for."""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor, nn

from lessons_lib import quiet
from lessons_lib.files import packaged
from lessons_lib.files.cache import KeptModel
from lessons_lib.files.progress import over
from lessons_lib.tasks import bbc
from lessons_lib.tasks.layers import evaluating
from lessons_lib.tasks.task import Task
from lessons_lib.training import checkpoints, loop

if TYPE_CHECKING:
    from datasets import Dataset

MAX_LENGTH = 32  # tokens; 9 in 10 sentences are shorter
DROPOUT = 0.0  # no sentence is seen twice in the teacher's steps, and drawing masks takes a fifth of a step
TEACHER = {"steps": 400, "batch_size": 32, "lr": 1e-4, "seed": 0}  # two minutes on two cores; lr by short trials
# What smaller models train on and are judged by, in the lessons: so many sentences, drawn once; every so manieth
# held-out sentence; and so many tokens of a sentence while training. All are judged at the usual length.
TRANSFER = {"transfer_sentences": 4000, "transfer_seed": 4, "max_length": 24, "every": 2}
RECIPE = 1  # raised when a change of the code changes the teacher


def _load(load: Callable, source: Path | str):
    """Loads from Hugging Face files, in silence, or says in one line why not."""
    try:
        with quiet.loading():
            return load(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise packaged.AssetError(f"{source} cannot be loaded: {str(error).splitlines()[0]}") from error


@lru_cache(maxsize=1)
def _tokenizer(source: Path | str):
    from transformers import AutoTokenizer

    return _load(AutoTokenizer.from_pretrained, source)


def tokenizer():
    """The encoder's tokenizer."""
    return _tokenizer(packaged.encoder_folder())


@lru_cache(maxsize=1)
def _config(source: Path | str):
    from transformers import AutoConfig

    dropout = {"hidden_dropout_prob": DROPOUT, "attention_probs_dropout_prob": DROPOUT}
    config = _load(partial(AutoConfig.from_pretrained, **dropout), source)
    if config.model_type != "bert":
        raise ValueError(
            f"COURSE_ENCODER must be a BERT model, because students take its layers; {source} is {config.model_type}."
        )
    return config


def encoder_config():
    """The encoder's transformers config, without dropout."""
    return _config(packaged.encoder_folder())


def sentence_encoder() -> nn.Module:
    """The pretrained encoder: a transformers BertModel without pooler, FP32, in eval mode; a new copy at each call."""
    from transformers import BertModel

    source = packaged.encoder_folder()
    load = partial(
        BertModel.from_pretrained,
        config=copy.deepcopy(encoder_config()),
        add_pooling_layer=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    encoder, report = _load(load, source)
    if report["missing_keys"]:
        raise packaged.AssetError(f"{source} lacks weights, {sorted(report['missing_keys'])[0]} among them.")
    return encoder.eval()


class TopicClassifier(nn.Module):
    """An encoder, the mean of its last hidden states over the real tokens, and a linear head over the topics."""

    def __init__(self, encoder: nn.Module, topics: int = len(bbc.TOPICS)):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, topics)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask: int64 (B, T). Returns FP32 logits (B, topics)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):  # the little that follows stays in FP32
            return self.head(mean_pool(hidden.float(), attention_mask))


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over the real tokens: hidden (B, T, H) and mask (B, T) to (B, H)."""
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)


def tokenize(texts: Sequence[str], max_length: int = MAX_LENGTH) -> dict[str, Tensor]:
    """input_ids and attention_mask, int64 (N, T): right-padded to the longest text, cut at max_length tokens."""
    texts = list(texts)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("texts must be a non-empty list of strings.")
    encoded = tokenizer()(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def predict_logits(
    model: nn.Module, texts: Sequence[str], batch_size: int = 64, max_length: int = MAX_LENGTH
) -> Tensor:
    """FP32 logits (N, topics) in the order of the texts, computed in eval mode; the model's mode is put back."""
    data = tokenize(texts, max_length)
    by_length = data["attention_mask"].sum(dim=1).argsort(stable=True)  # batches of like lengths need little padding
    logits = []
    with evaluating(model), torch.inference_mode():
        for rows in over(by_length.split(batch_size), "reading", "batch"):
            batch = loop.trim_padding({name: tensor[rows] for name, tensor in data.items()})
            logits.append(model(**batch).float())
    return torch.cat(logits)[by_length.argsort()]  # outside inference mode, so that a loss may be built on the result


def encoder_sha256() -> list[str]:
    """What the encoder and its tokenizer are: the verified hashes of the packaged files, else of what was read."""
    if packaged.uses_packaged_encoder():
        return [packaged.ENCODER_SHA256, packaged.TOKENIZER_SHA256]
    vocabulary = json.dumps(tokenizer().get_vocab(), sort_keys=True)
    weights = checkpoints.state_sha256(sentence_encoder().state_dict())
    return [weights, hashlib.sha256(vocabulary.encode()).hexdigest()]


def _teacher_shape() -> dict:
    return {
        "encoder": encoder_sha256(),
        "sentences": bbc.sentences_sha256("train"),
        "max_length": MAX_LENGTH,
        "training": TEACHER | loop.CONSTANTS | {"dropout": DROPOUT},
        "recipe": RECIPE,
    }


def _train_teacher(checkpoint: Path, progress: bool) -> TopicClassifier:
    train = bbc.sentences("train")
    data = tokenize(train["text"]) | {"topic": torch.tensor(train["topic"])}
    with torch.random.fork_rng():
        torch.manual_seed(TEACHER["seed"])
        teacher = TopicClassifier(sentence_encoder())
    teacher.encoder.embeddings.requires_grad_(False)  # half of the weights: a step costs less
    loop.train(teacher, data, TASK.loss, checkpoint=checkpoint, progress=progress, **TEACHER)
    return teacher


def _blank_teacher() -> TopicClassifier:
    with torch.random.fork_rng():  # the random weights that are about to be replaced leave no trace
        return TopicClassifier(untrained_encoder())


KEPT = KeptModel("topic-teacher", "topic teacher", _teacher_shape, _train_teacher, _blank_teacher)


def topic_teacher(progress: bool = True) -> TopicClassifier:
    """The encoder fine-tuned on the topics of the training sentences, in eval mode, its parameters frozen.

    Trained once (see `course prepare`), then kept in the cache. Every call returns a copy of its own.
    """
    return KEPT.get(progress)


def untrained_encoder(n_layers: int | None = None) -> nn.Module:
    """An encoder of the same shape with untrained weights; n_layers deep instead, if given."""
    from transformers import BertModel

    config = copy.deepcopy(encoder_config())
    if n_layers is not None:
        config.num_hidden_layers = n_layers
    return BertModel(config, add_pooling_layer=False)


@lru_cache(maxsize=1)
def transfer_sentences() -> "Dataset":
    """The texts that smaller models are trained on: drawn once from the training sentences."""
    train = bbc.sentences("train").shuffle(seed=TRANSFER["transfer_seed"], keep_in_memory=True)
    return train.select(range(TRANSFER["transfer_sentences"]))


@lru_cache(maxsize=1)
def transfer_tokens() -> dict[str, Tensor]:
    """Tokens of the transfer sentences, cut at TRANSFER["max_length"]: int64 (N, T) each."""
    return tokenize(transfer_sentences()["text"], TRANSFER["max_length"])


@lru_cache(maxsize=2)
def held_out(split: str) -> "Dataset":
    """The sentences that models are judged by: every second one of the split's documents."""
    sentences = bbc.sentences(split)
    return sentences.select(range(0, len(sentences), TRANSFER["every"]))


def document_sizes() -> list[int]:
    """How many held-out test sentences each document has, by the documents' numbers."""
    return numpy.bincount(TASK.groups(held_out("test"))).tolist()


@lru_cache(maxsize=1)
def teacher_sha256() -> str:
    """Fingerprint of the teacher's weights, so that a table says which teacher it was computed with."""
    return checkpoints.state_sha256(topic_teacher().state_dict())


def training_batches(count: int, seed: int, batch_size: int = 32) -> list[dict[str, Tensor]]:
    """So many training sentences, drawn from the seed, in batches of like lengths: tokens and topics."""
    sentences = bbc.sentences("train").shuffle(seed=seed, keep_in_memory=True).select(range(count))
    data = tokenize(sentences["text"], TRANSFER["max_length"])
    data["topic"] = torch.tensor(sentences["topic"])
    by_length = data["attention_mask"].sum(dim=1).argsort(stable=True)
    return [
        loop.trim_padding({name: tensor[rows] for name, tensor in data.items()}) for rows in by_length.split(batch_size)
    ]


@lru_cache(maxsize=1)
def seen_tokens() -> Tensor:
    """Every id that occurs in the training sentences, int64 (n,)."""
    return tokenize(bbc.sentences("train")["text"])["input_ids"].unique()


class TopicClassification(Task):
    """Sentences to their topics, by accuracy; sentences of one document are alike."""

    name = "classifier"
    label = "topic"
    teacher, held_out = staticmethod(topic_teacher), staticmethod(held_out)

    def train_data(self) -> dict[str, Tensor]:
        """Tokens and topics of the transfer sentences."""
        return transfer_tokens() | {"topic": torch.tensor(transfer_sentences()["topic"])}

    def trainable(self, model: nn.Module) -> nn.Module:
        """All but the embeddings, which are most of the weights: they stay as they are."""
        model.requires_grad_(True).encoder.embeddings.requires_grad_(False)
        return model

    def batch(self, rows: "Dataset") -> dict[str, Tensor]:
        """Tokens of some sentences."""
        return tokenize(rows["text"][:])

    def predict(self, model: nn.Module, rows: "Dataset") -> Tensor:
        """FP32 logits (N, topics)."""
        return predict_logits(model, rows["text"][:])

    def groups(self, rows: "Dataset") -> numpy.ndarray:
        """The document of each sentence, as numbers from 0."""
        return numpy.unique(rows["document"][:], return_inverse=True)[1]

    def single(self, data: dict[str, Tensor], row: int) -> dict[str, Tensor]:
        """One sentence without padding."""
        return loop.trim_padding(super().single(data, row))

    def question(self, model: nn.Module, count: int) -> Callable[[], object]:
        """A call that has a model classify the first `count` validation sentences as one batch."""
        batch = self.batch(bbc.sentences("validation").select(range(count)))
        return torch.inference_mode()(lambda: model(**batch))


TASK = TopicClassification()


def prepare(report: Callable[[str], None] = print) -> None:
    """All that `course prepare` does for the models: verifies what is installed, trains and keeps the topic teacher.

    Safe to interrupt and to repeat; repeated, it verifies. Raises packaged.AssetError when something is missing.
    """
    for what, right, detail in packaged.verify():
        if not right:
            raise packaged.AssetError(f"{what}: {detail}")
        report(f"{what}: {detail}")
    counts = ", ".join(f"{bbc.sentence_count(split):,} for {split}" for split in bbc.SPLITS)
    report(f"sentences: {counts}")
    KEPT.prepare(report)
