"""Optimizers whose state is smaller than AdamW's: bitsandbytes' AdamW with states of eight bits, and its paged form.

Source: T. Dettmers et al., 8-bit Optimizers via Block-wise Quantization, 2021, arXiv 2110.02861. Paging: QLoRA, 2023,
arXiv 2305.14314, section 3.
"""

from collections.abc import Iterable

import torch
from torch import nn

SHARED = ("step", "qmap1", "qmap2")  # a counter, and tables that are the same for every tensor


def adamw_8bit(parameters: Iterable[nn.Parameter], lr: float, paged: bool = False) -> torch.optim.Optimizer:
    """AdamW that keeps its two averages as 8-bit codes with a scale for every 256; tensors below 4,096 numbers in FP32.

    paged: let the state move to the computer's own memory while a GPU has no room for it. Raises RuntimeError where
    there is no CUDA GPU to page from.
    """
    import bitsandbytes

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
