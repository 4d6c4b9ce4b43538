"""Attention heads removed for real. A transformers config has one number of heads for all layers, and takes the size of
a head from it; so a layer that lost some needs an attention class of its own, and the config a field of its own.

Source: P. Michel, O. Levy and G. Neubig, Are Sixteen Heads Really Better than One?, 2019, arXiv:1905.10650, section 2.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertSelfAttention

from lessons_lib.tasks.layers import narrow, positions

FIELD = "kept_heads"  # of the config: for each layer the original numbers of its heads


class SomeHeads(BertSelfAttention):
    """BERT's self-attention with the heads that are left, each as wide as before; there may be none.

    Head h owns rows h · size to (h + 1) · size of query, key and value, and those columns of the layer after them.
    """

    def __init__(self, whole: BertSelfAttention, head_positions: Tensor):
        """whole: the attention to take the heads from, left as it is. head_positions: int64, positions of its heads."""
        super().__init__(whole.config, layer_idx=whole.layer_idx)
        self.num_attention_heads = len(head_positions)
        self.all_head_size = len(head_positions) * self.attention_head_size
        for name in ("query", "key", "value"):
            linear = copy.deepcopy(getattr(whole, name))
            narrow(linear, rows=channels(head_positions, self.attention_head_size))
            setattr(self, name, linear)
        self.train(whole.training)

    def forward(self, hidden_states: Tensor, *others, **named) -> tuple[Tensor, Tensor | None]:
        """hidden_states (B, T, width). Returns what the heads say, (B, T, heads · size), and their maps when asked."""
        if not self.num_attention_heads:
            return hidden_states[..., :0], None
        return super().forward(hidden_states, *others, **named)


def channels(head_positions: Tensor, size: int) -> Tensor:
    """The rows of query, key and value of the heads at head_positions (n,), `size` rows each: int64 (n · size,)."""
    return (head_positions[:, None] * size + torch.arange(size)).flatten()


def count(model: nn.Module) -> list[int]:
    """How many heads each layer of a classifier has."""
    return [block.attention.self.num_attention_heads for block in model.encoder.encoder.layer]


def keep(attention: nn.Module, head_positions: Sequence[int]) -> None:
    """Leave a BertAttention, in place, only the heads at these positions, in this order."""
    whole = attention.self
    places = (
        positions(head_positions, whole.num_attention_heads, "heads")
        if len(head_positions)
        else torch.empty(0, dtype=torch.int64)
    )
    attention.self = SomeHeads(whole, places)
    narrow(attention.output.dense, columns=channels(places, whole.attention_head_size))


def prune_heads(model: nn.Module, keep_in: Sequence[Sequence[int]]) -> nn.Module:
    """A copy of a classifier that has these heads only; it computes what the model computes with the others at zero.

    keep_in: for each layer the positions of its heads that stay, among those it has; a layer may lose them all. Raises
    ValueError when keep_in does not fit. Saved and reloaded by `structured.save` and `structured.load`.
    """
    if len(keep_in) != len(model.encoder.encoder.layer):
        raise ValueError(
            f"keep_in needs a list of heads for each of the {len(model.encoder.encoder.layer)} layers; it "
            f"has {len(keep_in)}."
        )
    numbers = getattr(model.encoder.config, FIELD, [list(range(heads)) for heads in count(model)])
    smaller = copy.deepcopy(model)
    for block, head_positions in zip(smaller.encoder.encoder.layer, keep_in, strict=True):
        keep(block.attention, head_positions)
    left = [[old[place] for place in head_positions] for old, head_positions in zip(numbers, keep_in, strict=True)]
    setattr(smaller.encoder.config, FIELD, left)
    return smaller
