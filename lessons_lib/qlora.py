"""The language model made ready for one of three ways of fine-tuning: all of it, LoRA, or LoRA over 4-bit weights."""

from collections.abc import Sequence

from torch import nn

from lessons_lib import language_model, layers, linear4bit, lora

METHODS = ("full", "lora", "qlora")
BLOCKS = "model.layers"  # the linear layers inside are quantized; embedding, norms and head stay as they are


def four_bit(model: nn.Module) -> nn.Module:
    """A copy of a language model with the linear layers of its blocks in NF4, scales quantized as well; in eval mode.

    Source: T. Dettmers et al., QLoRA, 2023, arXiv 2305.14314, section 3.
    """
    return layers.replaced(model, layers.linear_layers(model, BLOCKS), lambda _, layer: linear4bit.nf4_layer(layer))


def check_method(method: str) -> None:
    """Raises ValueError for another name than those in METHODS."""
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there is {', '.join(METHODS)}.")


def prepared(
    method: str,
    targets: Sequence[str] = lora.EVERY,
    r: int = 8,
    alpha: float = 16,
    seed: int = 0,
    checkpointing: bool = False,
) -> nn.Module:
    """The language model as a method trains it; with "full", every weight, and targets, r, alpha and seed are idle.

    checkpointing: blocks keep their input alone and compute the rest once more for the gradient. Raises ValueError for
    an unknown method, and as `lora.add`.
    """
    check_method(method)
    model = language_model.language_model()
    if method == "qlora":
        model = four_bit(model)
    if method != "full":
        lora.add(model, targets, r, alpha, seed)
    return with_checkpointing(model) if checkpointing else model


def with_checkpointing(model: nn.Module) -> nn.Module:
    """The same language model, told that its blocks keep their input alone and compute the rest again for the gradient.

    Source: T. Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv 1604.06174.
    """
    model.activation_checkpointing_enable({"use_reentrant": False})
    return model
