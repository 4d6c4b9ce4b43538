"""The masked language model: which tokens are hidden, an encoder that guesses them, and the teacher trained to here.

Sources: BERT, Devlin et al. 2019, arXiv:1810.04805, section 3.1 (15 % chosen; 80 % masked, 10 % random, 10 % kept);
RoBERTa, Liu et al. 2019, arXiv:1907.11692, section 4.1 (dynamic masking: new masks whenever a sentence is seen).
The packaged encoder was published without its masked-language head; head and encoder are trained together on the
sentences of the training split, whose topics nobody looks at.
"""

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.distillation.losses import UNLABELLED
from lessons_lib.files.cache import KeptModel
from lessons_lib.files.progress import over
from lessons_lib.tasks import bbc, topic_classifier
from lessons_lib.tasks.layers import evaluating
from lessons_lib.training import checkpoints, loop

TEACHER = {"steps": 250, "batch_size": 32, "lr": 5e-4, "seed": 0}
MAX_LENGTH = 32  # tokens
RECIPE = 1  # raised when a change of the code changes the teacher
CHOSEN = 0.15  # share of the ordinary tokens that are to be guessed
MASKED, RANDOM = 0.8, 0.1  # shares of the chosen ones that become [MASK], and a random token; the rest stays


class MaskedLanguageModel(nn.Module):
    """An encoder and a head that turns a hidden state into one logit for every token of the vocabulary.

    The head is BERT's: a linear layer, GELU, LayerNorm, then the product with the transposed word embeddings plus a
    bias. That last matrix is not a second one: it is **tied** to the embeddings.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits where they are asked for, and all hidden states.

        input_ids, attention_mask: int64 (B, T). chosen: bool (B, T), the M positions to guess. Returns FP32 logits
        (M, vocabulary), row by row, and the last hidden states, FP32 (B, T, H). Logits at all positions would cost
        more than the encoder: the vocabulary is eighty times as wide as a hidden state.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        # h' = LayerNorm(GELU(W h + b)),  logits = E h' + c,  with E the word embeddings
        guess = self.norm(F.gelu(self.transform(hidden[chosen])))
        logits = F.linear(guess, self.encoder.embeddings.word_embeddings.weight, self.bias)
        return logits.float(), hidden.float()


def new_model(encoder: nn.Module, seed: int = 0) -> MaskedLanguageModel:
    """This encoder under a new head, whose weights are drawn from the seed. The embeddings are frozen.

    The embeddings, which are also the output matrix, stay as published: half of the weights need no optimizer, and
    teacher and students speak of one and the same vocabulary.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MaskedLanguageModel(encoder)
    model.encoder.embeddings.requires_grad_(False)
    # Written-out attention: on processors torch's fused kernel is slow to train in BF16.
    model.encoder.set_attn_implementation("eager")
    return model.eval()


def know_frequencies(model: MaskedLanguageModel, data: dict[str, Tensor]) -> None:
    """Set the bias to the logarithm of how often each token occurs, so that training starts where guessing ends."""
    counts = data["input_ids"][data["attention_mask"].bool()].bincount(minlength=len(model.bias)).float()
    counts[special_ids()] = 0
    with torch.no_grad():
        model.bias.copy_(((counts + 0.1) / (counts + 0.1).sum()).log())


def special_ids() -> Tensor:
    """Ids of the tokenizer that are never masked, int64 (n,): [CLS], [SEP], [PAD] and the like."""
    return torch.tensor(sorted(topic_classifier.tokenizer().all_special_ids))


def masked_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy at the chosen positions of a batch that is masked anew at every call (dynamic masking)."""
    masked, labels = masked_batch(batch["input_ids"])
    chosen = labels != UNLABELLED
    logits, _ = model(masked, batch["attention_mask"], chosen)
    return F.cross_entropy(logits, labels[chosen], reduction="sum") / chosen.sum().clamp_min(1)


def masked_batch(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Masked ids and labels, both int64 (B, T), for ids of the course's tokenizer; drawn from torch's random state."""
    tokenizer = topic_classifier.tokenizer()
    return draw_masks(ids, special_ids(), tokenizer.mask_token_id, len(tokenizer))


def held_out_loss(model: nn.Module, split: str = "validation", sentences: int = 400, seed: int = 0) -> float:
    """Mean cross-entropy, in nats a guess, on evenly spaced sentences of a split; the masks come from the seed."""
    data = _held_out(split, sentences, seed)
    total, guesses = 0.0, 0
    with evaluating(model), torch.inference_mode():
        for rows in over(torch.arange(len(data["input_ids"])).split(64), "reading", "batch"):
            part = loop.trim_padding({name: tensor[rows] for name, tensor in data.items()})
            chosen = part["labels"] != UNLABELLED
            logits, _ = model(part["input_ids"], part["attention_mask"], chosen)
            total += F.cross_entropy(logits, part["labels"][chosen], reduction="sum").item()
            guesses += int(chosen.sum())
    return total / guesses


@lru_cache(maxsize=2)
def _held_out(split: str, sentences: int, seed: int) -> dict[str, Tensor]:
    texts = bbc.sentences(split)["text"]
    data = topic_classifier.tokenize(texts[:: max(1, len(texts) // sentences)], MAX_LENGTH)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        masked, labels = masked_batch(data["input_ids"])
    return {"input_ids": masked, "attention_mask": data["attention_mask"], "labels": labels}


@lru_cache(maxsize=1)
def training_tokens() -> dict[str, Tensor]:
    """Tokens of all training sentences, without their topics: the text that teacher and students learn from."""
    return topic_classifier.tokenize(bbc.sentences("train")["text"], MAX_LENGTH)


def _shape() -> dict:
    """All that shapes the teacher."""
    return {
        "encoder": topic_classifier.encoder_sha256(),
        "sentences": bbc.sentences_sha256("train"),
        "training": TEACHER | loop.CONSTANTS | {"max_length": MAX_LENGTH, "chosen": CHOSEN},
        "recipe": RECIPE,
    }


def _train_teacher(checkpoint: Path, progress: bool) -> MaskedLanguageModel:
    data = training_tokens()
    teacher = new_model(topic_classifier.sentence_encoder(), TEACHER["seed"])
    know_frequencies(teacher, data)
    loop.train(teacher, data, masked_loss, checkpoint=checkpoint, progress=progress, **TEACHER)
    return teacher


KEPT = KeptModel(
    "masked-language-teacher",
    "masked-language teacher",
    shape=lambda: _shape(),
    train=lambda *how: _train_teacher(*how),
    blank=lambda: new_model(topic_classifier.sentence_encoder()),
)


def teacher(progress: bool = False) -> MaskedLanguageModel:
    """The encoder and its head, trained together to guess hidden tokens; in eval mode, its parameters frozen.

    Trained once (see `course prepare`), then kept in the cache. Every call returns a copy of its own.
    """
    return KEPT.get(progress)


def teacher_sha256() -> str:
    """Hash of the teacher's weights on this machine."""
    return checkpoints.state_sha256(teacher().state_dict())


def mask_tokens(
    ids: Tensor, special: Tensor, mask_id: int, vocab: int, p: float, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """What the model sees, and what it has to say: masked ids and labels, both int64 (B, T); ids stay as they are.

    ids: int64 (B, T). special: int64 (n,), ids that are never chosen: those of [CLS], [SEP], [PAD] and their like.
    mask_id: the id of [MASK]. vocab: number of ids. p: share of the other tokens to choose, 0 to 1. uniforms: floats
    (3, B, T) in [0, 1): the first decides whether a token is chosen (below p), the second what becomes of it (below 0.8
    [MASK], below 0.9 a random token, else itself), the third which random token (the whole part of u · vocab).
    The label is the original id where a token was chosen, UNLABELLED elsewhere.
    """
    _check(ids, mask_id, vocab, p, uniforms)
    choose, fate, replacement = uniforms
    chosen = (choose < p) & ~torch.isin(ids, special)
    random = (replacement * vocab).long()
    masked = ids.masked_fill(chosen & (fate < MASKED), mask_id)
    masked = torch.where(chosen & (fate >= MASKED) & (fate < MASKED + RANDOM), random, masked)
    return masked, ids.where(chosen, UNLABELLED)


def draw_masks(ids: Tensor, special: Tensor, mask_id: int, vocab: int, p: float = CHOSEN) -> tuple[Tensor, Tensor]:
    """mask_tokens with uniforms from torch's random state, new ones at every call: dynamic masking."""
    return mask_tokens(ids, special, mask_id, vocab, p, torch.rand(3, *ids.shape, device=ids.device))


def _check(ids: Tensor, mask_id: int, vocab: int, p: float, uniforms: Tensor) -> None:
    if ids.dtype != torch.int64 or ids.dim() != 2 or not ids.numel():
        raise TypeError(f"ids must be int64 (batch, length), not {ids.dtype} of shape {tuple(ids.shape)}")
    if not 0 <= mask_id < vocab or not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
        raise ValueError(f"mask_id and all ids must lie in 0 ... vocab - 1 = {vocab - 1}")
    if not 0 <= p <= 1:
        raise ValueError(f"p is a share of the tokens and lies in 0 ... 1, not {p}")
    if uniforms.shape != (3, *ids.shape) or not ((uniforms >= 0) & (uniforms < 1)).all():
        raise ValueError(f"uniforms must have the shape {(3, *ids.shape)} and lie in [0, 1); see torch.rand")
