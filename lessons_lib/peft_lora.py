"""LoRA as peft does it, to be compared with: the one place in the library that knows that package."""

import torch
from torch import nn

from lessons_lib import lora


def like(own: nn.Module, base: nn.Module) -> nn.Module:
    """A base model with peft's adapters in place of ours: at the same layers, with the same numbers; base is changed.

    own: a model with adapters of one rank, as `lora.add` makes it. base: of the same names, ordinary or with
    bitsandbytes' 4-bit layers. The result is called as the base is. Raises ValueError when own has no adapters.
    """
    import peft

    found = lora.adapters(own)
    if not found:
        raise ValueError("The model has no adapters that peft could have like it; `lora.add` makes them.")
    first = next(iter(found.values()))
    made = peft.get_peft_model(base, peft.LoraConfig(r=first.r, lora_alpha=first.alpha, target_modules=list(found)))
    with torch.no_grad():
        for name, adapter in found.items():
            theirs = made.base_model.model.get_submodule(name)
            theirs.lora_A["default"].weight.copy_(adapter.a)
            theirs.lora_B["default"].weight.copy_(adapter.b)
    return made
