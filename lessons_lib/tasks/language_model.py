"""The small language model, SmolLM2-135M-Instruct: converted once, and its perplexity on texts of the course.

It is packaged as GGUF, a file format of 4-bit weights: the linear layers in Q4_1 (groups of 32 with a scale and a
lowest value), the embedding, which is also the output matrix, in Q8_0. Reading that takes 20 seconds, so it is done
once; the FP32 weights are kept in the cache. They still lie on the file's 4-bit grid.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib import quiet
from lessons_lib.files import packaged, progress
from lessons_lib.files.cache import cache_dir, is_intact, stored, stored_folder
from lessons_lib.tasks import bbc
from lessons_lib.tasks.layers import evaluating

RECIPE = 1  # raised when a change of the code changes what is kept


def _shape() -> dict:
    return {"gguf": packaged.LANGUAGE_MODEL_SHA256, "recipe": RECIPE}


def _convert() -> tuple[nn.Module, object]:
    """Model and tokenizer from the packaged GGUF file; the model with ordinary FP32 weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = packaged.language_model_file()
    # The progress bars of conversion and writing cannot be switched off.
    with quiet.loading(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # transformers takes it for quantized still, and would neither save nor train it.
    del model.hf_quantizer, model.config.quantization_config
    model.is_quantized = False
    return model, tokenizer


def _keep(model_and_tokenizer: tuple[nn.Module, object], folder: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # a bar once more
        for part in model_and_tokenizer:
            part.save_pretrained(folder)


@lru_cache(maxsize=1)
def _folder(cache: Path) -> Path:
    """Folder of the converted model, verified once a process."""
    return stored("language-model", _shape(), build=_convert, load=lambda folder: folder, save=_keep)


def language_model() -> nn.Module:
    """SmolLM2-135M-Instruct, a LlamaForCausalLM in FP32 and eval mode; a new copy at each call."""
    from transformers import AutoModelForCausalLM

    folder = _folder(cache_dir())
    with quiet.loading():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@lru_cache(maxsize=1)
def tokenizer():
    """The language model's tokenizer."""
    from transformers import AutoTokenizer

    with quiet.loading():
        return AutoTokenizer.from_pretrained(_folder(cache_dir()))


def texts(split: str) -> dict[int, str]:
    """The documents of a split by number, their sentences joined; of a held-out document at most eight sentences."""
    rows = bbc.sentences(split)
    joined = defaultdict(list)
    for document, text in zip(rows["document"], rows["text"], strict=True):
        joined[document].append(text)
    return {document: " ".join(parts) for document, parts in joined.items()}


def passages(split: str, count: int, length: int, start: int = 0) -> Tensor:
    """The first `length` tokens of count documents, int64 (count, length): evenly spaced among those long enough.

    start: which of the evenly spaced sets, 0 ... ; sets share no document while there are enough documents.
    Raises ValueError when the split has too few documents of that length.
    """
    known = tokenizer()
    ids = [ids[:length] for ids in known(list(texts(split).values()))["input_ids"] if len(ids) >= length]
    spacing = len(ids) // count if count else 0
    if count < 1 or not 0 <= start < spacing:
        raise ValueError(
            f"{count} passages of {length} tokens, set {start}, were asked for; the {split} split has "
            f"{len(ids)} documents as long, enough for {spacing} sets."
        )
    return torch.tensor(ids[start::spacing][:count])


def next_token_losses(model: nn.Module, ids: Tensor, batch_size: int = 4) -> tuple[Tensor, Tensor]:
    """For each token but the first: minus the logarithm of its probability, FP32 (n, T - 1), and whether it ranked
    first, bool (n, T - 1). ids: int64 (n, T), without padding. In eval mode; the model's mode is put back."""
    losses, hits = [], []
    with evaluating(model), torch.inference_mode():
        for part in progress.over(ids.split(batch_size), "reading", "batch"):
            logits = model(input_ids=part).logits[:, :-1].float()
            wanted = part[:, 1:]
            # -log p(next token | tokens before it)
            losses.append(F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none"))
            hits.append(logits.argmax(dim=-1) == wanted)
    return torch.cat(losses), torch.cat(hits)


def perplexity(losses: Tensor) -> float:
    """exp(mean loss): among how many equally likely tokens the model is as lost. losses: FP32, any shape, in nats."""
    return losses.double().mean().exp().item()


def is_ready() -> bool:
    """Whether it is converted already."""
    return is_intact(stored_folder("language-model", _shape()))


def prepare(report: Callable[[str], None] = print) -> None:
    """What `course prepare` does for the language model: converts it once. Safe to interrupt and to repeat."""
    if not is_ready():
        report("language model: converting from GGUF, once (about half a minute)")
        _folder(cache_dir())
    report("language model: ready")
