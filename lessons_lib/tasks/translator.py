"""The translator: an encoder-decoder of the transformer kind.

Source: A. Vaswani et al., Attention Is All You Need, 2017, arXiv:1706.03762; layer norms stand before each block, as in
R. Xiong et al., On Layer Normalization in the Transformer Architecture, 2020, arXiv:2002.04745.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.tasks import phrase_pairs
from lessons_lib.tasks.phrase_pairs import PAD

MAX_LENGTH = 40  # pieces; the longest phrase has fewer


@dataclass(frozen=True)
class Shape:
    """Everything that fixes the matrices of a translator."""

    encoder_layers: int = 6
    decoder_layers: int = 6
    width: int = 128
    heads: int = 4
    inner: int = 512
    dropout: float = 0.1


class Attention(nn.Module):
    """Multi-head attention with its four projections as plain linear layers."""

    def __init__(self, shape: Shape):
        super().__init__()
        if shape.width % shape.heads:
            raise ValueError(f"the width {shape.width} must be a multiple of the {shape.heads} heads")
        self.heads = shape.heads
        self.query, self.key, self.value, self.out = (nn.Linear(shape.width, shape.width) for _ in range(4))

    def split(self, hidden: Tensor) -> Tensor:
        """(B, T, width) to (B, heads, T, width of a head)."""
        return hidden.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What other positions see of these, (B, heads, T, width of a head) each; a decoder keeps them in its cache."""
        return self.split(self.key(hidden)), self.split(self.value(hidden))

    def forward(
        self, hidden: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool = False
    ) -> Tensor:
        """hidden (B, T, width); keys and values as keys_values gives them; mask: bool, True where one may look.

        Written out, because torch's fused attention is slow to train in BF16 on a processor.
        """
        query = self.split(self.query(hidden))
        # softmax(Q K' / sqrt(d)) V
        scores = (query @ keys.transpose(-1, -2)).float() / query.shape[-1] ** 0.5
        if causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        mixed = scores.softmax(dim=-1).to(values.dtype) @ values
        return self.out(mixed.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Self-attention, then two linear layers with a ReLU, each added to what went in."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.attention_norm, self.feed_norm = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.attention = Attention(shape)
        self.up, self.down = nn.Linear(shape.width, shape.inner), nn.Linear(shape.inner, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def feed(self, hidden: Tensor) -> Tensor:
        """The feed-forward half: hidden (B, S, width) in and out."""
        return hidden + self.dropout(self.down(self.dropout(F.relu(self.up(self.feed_norm(hidden))))))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden (B, S, width), mask bool (B, 1, 1, S): True for real pieces."""
        normed = self.attention_norm(hidden)
        hidden = hidden + self.dropout(self.attention(normed, *self.attention.keys_values(normed), mask))
        return self.feed(hidden)


class DecoderLayer(EncoderLayer):
    """An encoder layer that looks back only, with attention to the source in between."""

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.cross_norm = nn.LayerNorm(shape.width)
        self.cross = Attention(shape)

    def forward(self, hidden: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor, past=None):
        """hidden (B, T, width). memory: keys and values of the source, mask (B, 1, 1, S) over them.

        past: keys and values of the pieces before these, when pieces come one at a time; then T is 1.
        Returns the new hidden states and the keys and values so far.
        """
        normed = self.attention_norm(hidden)
        present = self.attention.keys_values(normed)
        if past is not None:
            present = tuple(torch.cat(pair, dim=2) for pair in zip(past, present, strict=True))
        hidden = hidden + self.dropout(self.attention(normed, *present, None, causal=past is None))
        hidden = hidden + self.dropout(self.cross(self.cross_norm(hidden), *memory, mask))
        return self.feed(hidden), present


def positions(length: int, width: int) -> Tensor:
    """Sines and cosines of the place in the sequence (length, width): arXiv:1706.03762, section 3.5."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    return torch.stack([(place * rate).sin(), (place * rate).cos()], dim=-1).flatten(1)


class Translator(nn.Module):
    """English pieces in, logits over French pieces out."""

    def __init__(self, shape: Shape, source_pieces: int, target_pieces: int):
        super().__init__()
        self.shape = shape
        self.source = nn.Embedding(source_pieces, shape.width, padding_idx=PAD)
        self.target = nn.Embedding(target_pieces, shape.width, padding_idx=PAD)
        self.register_buffer("places", positions(MAX_LENGTH + 1, shape.width), persistent=False)
        self.encoder = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, target_pieces)
        self.dropout = nn.Dropout(shape.dropout)
        for table in (self.source, self.target):
            nn.init.normal_(table.weight, std=shape.width**-0.5)

    def embed(self, table: nn.Embedding, ids: Tensor, start: int = 0) -> Tensor:
        """Vectors of the pieces (B, T), their places added from `start` on. ValueError beyond the last place."""
        if start + ids.shape[1] > len(self.places):
            raise ValueError(f"a phrase may have at most {len(self.places)} pieces, not {start + ids.shape[1]}")
        scaled = table(ids) * self.shape.width**0.5
        return self.dropout(scaled + self.places[start : start + ids.shape[1]])

    def encode(self, source: Tensor) -> tuple[list[Tensor], Tensor]:
        """source: int64 (B, S), padded with PAD. Returns the hidden states (B, S, width) after every layer, the last
        one normalised, and the mask of real pieces (B, 1, 1, S)."""
        mask = (source != PAD)[:, None, None]
        hidden, states = self.embed(self.source, source), []
        for layer in self.encoder:
            hidden = layer(hidden, mask)
            states.append(hidden)
        return [*states[:-1], self.encoder_norm(states[-1])], mask

    def memory(self, encoded: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What each decoder layer sees of the source: keys and values."""
        return [layer.cross.keys_values(encoded) for layer in self.decoder]

    def decode(self, target: Tensor, memory: list, mask: Tensor, past: list | None = None):
        """Logits (B, T, pieces) that follow each of the target's pieces, the hidden states after every decoder layer,
        and the cache to hand in as `past` with the next piece."""
        start = past[0][0].shape[2] if past else 0
        hidden, states, present = self.embed(self.target, target, start), [], []
        for number, layer in enumerate(self.decoder):
            hidden, layer_cache = layer(hidden, memory[number], mask, past[number] if past else None)
            states.append(hidden)
            present.append(layer_cache)
        states[-1] = self.decoder_norm(states[-1])
        return self.head(states[-1]), states, present

    def forward(self, source: Tensor, target: Tensor, hidden: bool = False):
        """source (B, S), target (B, T) from BEGIN on, both int64. Returns FP32 logits (B, T, pieces): what follows each
        target piece. hidden=True returns also the states of all encoder and of all decoder layers, as two lists."""
        encoded, mask = self.encode(source)
        logits, decoded, _ = self.decode(target, self.memory(encoded[-1]), mask)
        return (logits.float(), encoded, decoded) if hidden else logits.float()


def translation_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of every next piece of the target, mean over real pieces."""
    source, target = trimmed(batch["source"]), trimmed(batch["target"])
    logits = model(source, target[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)


def trimmed(ids: Tensor) -> Tensor:
    """Without the columns that are padding in every row."""
    return ids[:, : int((ids != PAD).sum(dim=1).max())]


def new_translator(shape: Shape, seed: int) -> Translator:
    """A translator over the corpus's vocabularies with random weights; torch's own random state is put back."""
    source, target = phrase_pairs.vocabularies()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Translator(shape, len(source), len(target))


def keep_layers(model: Translator, encoder: list[int], decoder: list[int], dropout: float | None = None) -> Translator:
    """A copy with these layers only, numbered from 0; everything else is copied as it is.

    dropout: of the copy, when it is to differ. Raises ValueError when a layer is not there.
    """
    shape = replace(
        model.shape,
        encoder_layers=len(encoder),
        decoder_layers=len(decoder),
        dropout=model.shape.dropout if dropout is None else dropout,
    )
    for numbers, layers in ((encoder, model.encoder), (decoder, model.decoder)):
        if not numbers or not set(numbers) <= set(range(len(layers))):
            raise ValueError(f"layers {numbers} cannot be kept: there are 0 ... {len(layers) - 1}, and one must stay.")
    copied = Translator(shape, model.source.num_embeddings, model.target.num_embeddings)
    states = model.state_dict()
    for name in copied.state_dict():
        part, _, rest = name.partition(".")
        source = name
        if part in ("encoder", "decoder"):
            number, _, rest = rest.partition(".")
            source = f"{part}.{(encoder if part == 'encoder' else decoder)[int(number)]}.{rest}"
        copied.get_parameter(name).data.copy_(states[source])
    return copied.requires_grad_(True).train(model.training)
