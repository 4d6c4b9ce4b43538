"""What bitsandbytes and peft do, to be compared with: NF4 layers, LoRA, and AdamW whose state has eight bits.

Sources of the optimizer: T. Dettmers et al., 8-bit Optimizers via Block-wise Quantization, 2021, arXiv 2110.02861;
paging: QLoRA, 2023, arXiv 2305.14314, section 3. The one place in the library that knows the two packages.
"""

from collections.abc import Iterable

import bitsandbytes
import torch
from bitsandbytes import functional
from torch import Tensor, nn

from lessons_lib.four_bits import lora


def bitsandbytes_quantize(
    weight: Tensor, block_size: int = 64, double: bool = True
) -> tuple[Tensor, functional.QuantState]:
    """Packed codes, uint8 (n / 2, 1), and what it takes to read them back. weight: float, any shape."""
    return functional.quantize_4bit(weight, blocksize=block_size, quant_type="nf4", compress_statistics=double)


def bitsandbytes_codes(packed: Tensor) -> Tensor:
    """The codes one by one, uint8 (n,): bitsandbytes keeps the first of a pair in the high half of a byte."""
    packed = packed.flatten()
    return torch.stack([packed >> 4, packed & 15], dim=1).flatten()


def bitsandbytes_dequantize(packed: Tensor, state: functional.QuantState) -> Tensor:
    """The weight that codes stand for, of the shape and dtype that `bitsandbytes_quantize` was given."""
    return functional.dequantize_4bit(packed, state)


def bitsandbytes_layer(layer: nn.Linear, double: bool = True) -> nn.Module:
    """A linear layer with its weight in NF4, in eval mode, where bitsandbytes has a BF16 kernel of its own."""
    quantized_layer = bitsandbytes.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=torch.float32,
        compress_statistics=double,
        quant_type="nf4",
    )
    quantized_layer.load_state_dict(layer.state_dict())
    return quantized_layer.to("cpu").eval()  # `to` is what quantizes


def peft_like(own: nn.Module, base: nn.Module) -> nn.Module:
    """A base model with peft's adapters in place of ours: at the same layers, with the same numbers; base is changed.

    own: a model with adapters of one rank, as `lora.add` makes it. base: of the same names, ordinary or with
    bitsandbytes' 4-bit layers. The result is called as the base is. Raises ValueError when own has no adapters.
    """
    import peft

    adapters = lora.adapters(own)
    if not adapters:
        raise ValueError("The model has no adapters that peft could have like it; `lora.add` makes them.")
    first = next(iter(adapters.values()))
    peft_model = peft.get_peft_model(
        base, peft.LoraConfig(r=first.r, lora_alpha=first.alpha, target_modules=list(adapters))
    )
    with torch.no_grad():
        for name, adapter in adapters.items():
            theirs = peft_model.base_model.model.get_submodule(name)
            theirs.lora_A["default"].weight.copy_(adapter.a)
            theirs.lora_B["default"].weight.copy_(adapter.b)
    return peft_model


SHARED = ("step", "qmap1", "qmap2")  # a counter, and tables that are the same for every tensor


def adamw_8bit(parameters: Iterable[nn.Parameter], lr: float, paged: bool = False) -> torch.optim.Optimizer:
    """AdamW that keeps its two averages as 8-bit codes with a scale for every 256; tensors below 4,096 numbers in FP32.

    paged: let the state move to the computer's own memory while a GPU has no room for it. Raises RuntimeError where
    there is no CUDA GPU to page from.
    """
    if not paged:
        return bitsandbytes.optim.AdamW8bit(parameters, lr=lr)
    if not torch.cuda.is_available():
        raise RuntimeError(
            "Paging moves optimizer state between a GPU and the computer's memory, and there is no CUDA "
            "GPU here. Leave paged out: without a GPU the state is in that memory anyway."
        )
    return bitsandbytes.optim.PagedAdamW8bit(parameters, lr=lr)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the state an optimizer keeps for its parameters, after its first step; what all share is not counted."""
    return sum(
        value.nbytes
        for state in optimizer.state.values()
        for name, value in state.items()
        if name not in SHARED and isinstance(value, torch.Tensor)
    )
