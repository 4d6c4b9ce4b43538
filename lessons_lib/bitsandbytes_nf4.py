"""NF4 as bitsandbytes does it, to be compared with. (Its 8-bit optimizer is in `optimizers`.)"""

import bitsandbytes
import torch
from bitsandbytes import functional
from torch import Tensor, nn


def quantize(weight: Tensor, block_size: int = 64, double: bool = True) -> tuple[Tensor, functional.QuantState]:
    """Packed codes, uint8 (n / 2, 1), and what it takes to read them back. weight: float, any shape."""
    return functional.quantize_4bit(weight, blocksize=block_size, quant_type="nf4", compress_statistics=double)


def codes(packed: Tensor) -> Tensor:
    """The codes one by one, uint8 (n,): bitsandbytes keeps the first of a pair in the high half of a byte."""
    packed = packed.flatten()
    return torch.stack([packed >> 4, packed & 15], dim=1).flatten()


def dequantize(packed: Tensor, state: functional.QuantState) -> Tensor:
    """The weight that codes stand for, of the shape and dtype that `quantize` was given."""
    return functional.dequantize_4bit(packed, state)


def nf4_layer(layer: nn.Linear, double: bool = True) -> nn.Module:
    """A linear layer with its weight in NF4, in eval mode, where bitsandbytes has a BF16 kernel of its own."""
    made = bitsandbytes.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=torch.float32,
        compress_statistics=double,
        quant_type="nf4",
    )
    made.load_state_dict(layer.state_dict())
    return made.to("cpu").eval()  # `to` is what quantizes
