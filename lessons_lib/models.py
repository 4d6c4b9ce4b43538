"""The sentence encoder, and the topic teacher and its students built on it."""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lessons_lib import assets, bars, checkpoints, corpora, startup, training
from lessons_lib.distillation import take_layers
from lessons_lib.kept import KeptModel

MAX_LENGTH = 32  # tokens; 9 in 10 sentences are shorter
DROPOUT = 0.0  # no sentence is seen twice in the teacher's steps, and drawing masks takes a fifth of a step
TEACHER = {"steps": 400, "batch_size": 32, "lr": 1e-4, "seed": 0}  # two minutes on two cores; lr by short trials
INITS = ("alternate", "first", "scratch")
SOURCES = ("teacher", "encoder")
RECIPE = 1  # raised when a change of the code changes the teacher


def _load(load: Callable, source: Path | str):
    """Loads from Hugging Face files, in silence, or says in one line why not."""
    try:
        with startup.loading():
            return load(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise assets.AssetError(f"{source} cannot be loaded: {str(error).splitlines()[0]}") from error


@lru_cache(maxsize=1)
def _tokenizer(source: Path | str):
    from transformers import AutoTokenizer

    return _load(AutoTokenizer.from_pretrained, source)


def tokenizer():
    """The encoder's tokenizer."""
    return _tokenizer(assets.encoder_folder())


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


def _encoder_config():
    return _config(assets.encoder_folder())


def sentence_encoder() -> nn.Module:
    """The pretrained encoder: a transformers BertModel without pooler, FP32, in eval mode; a new copy at each call."""
    from transformers import BertModel

    source = assets.encoder_folder()
    load = partial(
        BertModel.from_pretrained,
        config=copy.deepcopy(_encoder_config()),
        add_pooling_layer=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    encoder, report = _load(load, source)
    if report["missing_keys"]:
        raise assets.AssetError(f"{source} lacks weights, {sorted(report['missing_keys'])[0]} among them.")
    return encoder.eval()


class TopicClassifier(nn.Module):
    """An encoder, the mean of its last hidden states over the real tokens, and a linear head over the topics."""

    def __init__(self, encoder: nn.Module, topics: int = len(corpora.TOPICS)):
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
    was_training, logits = model.training, []
    model.eval()
    try:
        with torch.inference_mode():
            for rows in bars.over(by_length.split(batch_size), "reading", "batch"):
                batch = training.trim_padding({name: tensor[rows] for name, tensor in data.items()})
                logits.append(model(**batch).float())
    finally:
        model.train(was_training)
    return torch.cat(logits)[by_length.argsort()]  # outside inference mode, so that a loss may be built on the result


def topic_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of the logits against the topics."""
    return nn.functional.cross_entropy(model(batch["input_ids"], batch["attention_mask"]), batch["topic"])


def encoder_sha256() -> list[str]:
    """What the encoder and its tokenizer are: the verified hashes of the packaged files, else of what was read."""
    if assets.uses_packaged_encoder():
        return [assets.ENCODER_SHA256, assets.TOKENIZER_SHA256]
    vocabulary = json.dumps(tokenizer().get_vocab(), sort_keys=True)
    weights = checkpoints.state_sha256(sentence_encoder().state_dict())
    return [weights, hashlib.sha256(vocabulary.encode()).hexdigest()]


def _teacher_shape() -> dict:
    return {
        "encoder": encoder_sha256(),
        "sentences": corpora.sentences_sha256("train"),
        "max_length": MAX_LENGTH,
        "training": TEACHER | training.CONSTANTS | {"dropout": DROPOUT},
        "recipe": RECIPE,
    }


def _train_teacher(checkpoint: Path, progress: bool) -> TopicClassifier:
    train = corpora.sentences("train")
    data = tokenize(train["text"]) | {"topic": torch.tensor(train["topic"])}
    with torch.random.fork_rng():
        torch.manual_seed(TEACHER["seed"])
        teacher = TopicClassifier(sentence_encoder())
    teacher.encoder.embeddings.requires_grad_(False)  # half of the weights: a step costs less
    training.train(teacher, data, topic_loss, checkpoint=checkpoint, progress=progress, **TEACHER)
    return teacher


def _blank_teacher() -> TopicClassifier:
    with torch.random.fork_rng():  # the random weights that are about to be replaced leave no trace
        return TopicClassifier(_random_encoder())


KEPT = KeptModel(
    "topic-teacher",
    "topic teacher",
    "a few minutes; interrupt it whenever you like, it goes on from there",
    shape=lambda: _teacher_shape(),
    train=lambda *how: _train_teacher(*how),
    blank=_blank_teacher,
)


def topic_teacher(progress: bool = True) -> TopicClassifier:
    """The encoder fine-tuned on the topics of the training sentences, in eval mode, its parameters frozen.

    Trained once (see `course prepare`), then kept in the cache. Every call returns a copy of its own.
    """
    return KEPT.get(progress)


def _random_encoder(n_layers: int | None = None) -> nn.Module:
    """An encoder of the same shape with untrained weights; n_layers deep instead, if given."""
    from transformers import BertModel

    config = copy.deepcopy(_encoder_config())
    if n_layers is not None:
        config.num_hidden_layers = n_layers
    return BertModel(config, add_pooling_layer=False)


def topic_student(
    n_layers: int = 2,
    init: str = "alternate",
    seed: int = 0,
    source: str = "teacher",
    freeze_embeddings: bool = False,
) -> TopicClassifier:
    """A classifier as wide as the teacher and n_layers deep; its head is always new, drawn from the seed.

    init: "alternate" or "first" copies embeddings and layers (see distillation.take_layers); "scratch" copies nothing,
    all its weights are random. source: copy from the "teacher", which has seen the topics of all training sentences,
    or from the pretrained "encoder", which has seen none: a student that stands for "few labels alone" starts there.
    freeze_embeddings: leave the embeddings, half of the weights, as copied; a step of training then costs less.
    """
    if init not in INITS or source not in SOURCES:
        raise ValueError(f"init is one of {INITS} and source one of {SOURCES}, not {init!r} and {source!r}.")
    depth = _encoder_config().num_hidden_layers
    if isinstance(n_layers, bool) or not isinstance(n_layers, int) or not 1 <= n_layers <= depth:
        raise ValueError(f"n_layers must be a whole number from 1 to the teacher's {depth}, not {n_layers!r}.")
    if freeze_embeddings and init == "scratch":
        raise ValueError('freeze_embeddings with init="scratch" would keep random embeddings for good.')
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = TopicClassifier(_random_encoder(n_layers))
    if init != "scratch":
        origin = topic_teacher().encoder if source == "teacher" else sentence_encoder()
        student.encoder.embeddings.load_state_dict(origin.embeddings.state_dict())
        for layer, position in zip(student.encoder.encoder.layer, take_layers(depth, n_layers, init), strict=True):
            layer.load_state_dict(origin.encoder.layer[position].state_dict())
    student.encoder.embeddings.requires_grad_(not freeze_embeddings)
    return student.eval()


def prepare(report: Callable[[str], None] = print) -> None:
    """All that `course prepare` does for the models: verifies what is installed, trains and keeps the topic teacher.

    Safe to interrupt and to repeat; repeated, it verifies. Raises assets.AssetError when something is missing.
    """
    for what, right, detail in assets.verify():
        if not right:
            raise assets.AssetError(f"{what}: {detail}")
        report(f"{what}: {detail}")
    counts = ", ".join(f"{corpora.sentence_count(split):,} for {split}" for split in corpora.SPLITS)
    report(f"sentences: {counts}")
    KEPT.prepare(report)
