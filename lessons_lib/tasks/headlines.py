"""Headlines for BBC articles: the task that a language model is fine-tuned for.

The model reads the first tokens of an article, then a question, and writes the headline. Only the headline counts.
Every example begins with the same number of tokens, so logits are computed where a headline stands and nowhere else.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.files import progress
from lessons_lib.tasks import bbc, language_model
from lessons_lib.tasks.layers import evaluating
from lessons_lib.training.loop import Batch, bfloat16_where_fast

ARTICLE_TOKENS = 28
QUESTION = "\n\nHeadline:"
HEADLINE_TOKENS = 12  # the longest that are kept whole, the end token counted
IGNORED = -100


def documents(split: str, count: int) -> list[int]:
    """The numbers of count documents of a split, evenly spaced among all, so that every topic has its share.

    Raises ValueError when the split has fewer.
    """
    known = list(dict.fromkeys(bbc.sentences(split)["document"]))
    if not 1 <= count <= len(known):
        raise ValueError(f"{count} documents were asked for; the {split} split has {len(known)}.")
    return [known[i * len(known) // count] for i in range(count)]


def examples(numbers: list[int]) -> Batch:
    """Documents as training data: input_ids and attention_mask, int64 (n, tokens), padded after the headline.

    A row holds ARTICLE_TOKENS of the article, the question, and at most HEADLINE_TOKENS of the headline with its end.
    """
    tokenizer = language_model.tokenizer()
    question, rows = tokenizer(QUESTION)["input_ids"], []
    for number in numbers:
        headline, text = bbc.article(number)
        start = " ".join(text.split())[: 20 * ARTICLE_TOKENS]  # more characters than so many tokens have
        article = tokenizer(start)["input_ids"][:ARTICLE_TOKENS]
        written = [*tokenizer(" " + headline)["input_ids"], tokenizer.eos_token_id][:HEADLINE_TOKENS]
        rows.append(article + question + written)
    longest = prompt_tokens() + HEADLINE_TOKENS
    ids = torch.full((len(rows), longest), tokenizer.eos_token_id)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def prompt_tokens() -> int:
    """How many tokens stand before every headline."""
    return ARTICLE_TOKENS + len(language_model.tokenizer()(QUESTION)["input_ids"])


def logits_and_labels(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (n, T, vocabulary) of the headline's tokens, and the tokens themselves, int64 (n, T), IGNORED where none.

    The model is not told of the padding: it stands behind all real tokens, where a causal model never looks.
    """
    start = prompt_tokens()
    headline, real = batch["input_ids"][:, start:], batch["attention_mask"][:, start:].bool()
    # The logits after token t are about token t + 1: the ones that are wanted start one token early.
    logits = model(input_ids=batch["input_ids"], use_cache=False, logits_to_keep=headline.shape[1] + 1).logits[:, :-1]
    return logits.float(), headline.masked_fill(~real, IGNORED)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean over the headline tokens of a batch of -log p(token | everything before it): an FP32 scalar, in nats."""
    logits, labels = logits_and_labels(model, batch)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def judged(model: nn.Module, data: Batch, batch_size: int = 16) -> tuple[Tensor, Tensor]:
    """For each document: mean loss of its headline's tokens, in nats, and the share that ranked first; FP32 (n,).

    In eval mode, with the arithmetic of training (BF16 where it is fast); the model's mode is put back.
    """
    losses, hits = [], []
    with evaluating(model), torch.inference_mode(), bfloat16_where_fast():
        for start in progress.over(range(0, len(data["input_ids"]), batch_size), "reading", "batch"):
            part = {name: tensor[start : start + batch_size] for name, tensor in data.items()}
            logits, labels = logits_and_labels(model, part)
            real = labels != IGNORED
            each = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
            losses.append(each.sum(dim=1) / real.sum(dim=1))
            hits.append((logits.argmax(dim=-1) == labels).sum(dim=1) / real.sum(dim=1))
    return torch.cat(losses), torch.cat(hits)


def write(model: nn.Module, numbers: list[int]) -> list[str]:
    """A headline for each document, greedily, at most HEADLINE_TOKENS long; the first line of what the model writes."""
    tokenizer = language_model.tokenizer()
    prompts = examples(numbers)["input_ids"][:, : prompt_tokens()]
    with torch.inference_mode(), bfloat16_where_fast():
        written = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=HEADLINE_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
    texts = tokenizer.batch_decode(written[:, prompt_tokens() :], skip_special_tokens=True)
    return [text.strip().partition("\n")[0] for text in texts]
