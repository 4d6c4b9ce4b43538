"""An inference engine: a model that is fed new tokens and keeps the keys and values of all earlier ones.

Reading a prompt in one step is called prefill, writing on token by token is called decoding; here both are `feed`. The
rows of a batch may hold prompts of different lengths, padded at the end. The weights are those of the model, which is
not changed; what is written here is how they are used.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lessons_lib.inference.attention import naive
from lessons_lib.inference.kv_cache import KVCache, Slots
from lessons_lib.tasks.translator import Translator


class Engine:
    """What the engines share. Subclasses have a `cache`, and compute a step's last hidden states and its logits."""

    cache: KVCache

    def states(self, ids: Tensor, slots: Slots) -> Tensor:
        """Last hidden states (B, T, width) of a step's tokens; their keys and values go to the cache."""
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocabulary) of hidden states (..., width)."""
        raise NotImplementedError

    @torch.inference_mode()
    def feed(self, ids: Tensor, counts: Tensor | None = None, last: bool = False) -> Tensor:
        """FP32 logits of what follows each of the new tokens, (B, T, vocabulary); what stands at padding means nothing.

        ids: int64 (B, T). counts: int64 (B,), real tokens of each row, which come first; None: all T.
        last=True computes the logits of each row's last real token alone, (B, vocabulary).
        Raises ValueError when the rows do not fit the cache.
        """
        if ids.ndim != 2 or ids.dtype != torch.int64 or ids.shape[0] != len(self.cache.lengths) or not ids.numel():
            raise ValueError(
                f"ids must be int64 ({len(self.cache.lengths)}, T), a row for each of the cache, not "
                f"{ids.dtype} {tuple(ids.shape)}"
            )
        if counts is None:
            counts = torch.full((len(ids),), ids.shape[1])
        hidden = self.states(ids, self.cache.reserve(counts, ids.shape[1]))
        if last:
            hidden = hidden[torch.arange(len(ids)), (counts - 1).clamp_min(0)]
        return self.logits(hidden).float()


class TranslatorEngine(Engine):
    """The decoder of a translator. The sources are read at once, at the start, and their keys and values kept too.

    source: int64 (B, S), padded with PAD. capacity: French pieces a row can hold; at most the model's places.
    """

    def __init__(self, model: Translator, source: Tensor, capacity: int | None = None):
        room = len(model.places)
        _without_dropout(model)
        if capacity is not None and capacity > room:
            raise ValueError(f"the model has places for {room} pieces; a cache of {capacity} would outgrow them")
        self.model, shape = model, model.shape
        self.cache = KVCache(
            shape.decoder_layers,
            len(source),
            shape.heads,
            capacity or room,
            shape.width // shape.heads,
            model.head.weight.dtype,
        )
        with torch.inference_mode():
            encoded, self.mask = model.encode(source)
            self.memory = model.memory(encoded[-1])

    def states(self, ids: Tensor, slots: Slots) -> Tensor:
        """Of French pieces (B, T), BEGIN at place 0."""
        model = self.model
        places = model.places[slots.positions.clamp_max(len(model.places) - 1)]  # padding may lie beyond the last place
        hidden = model.target(ids) * model.shape.width**0.5 + places
        for number, layer in enumerate(model.decoder):
            normed = layer.attention_norm(hidden)
            keys, values = self.cache.put(number, *layer.attention.keys_values(normed), slots)
            hidden = hidden + self._mix(layer.attention, normed, keys, values, slots.mask)
            hidden = hidden + self._mix(layer.cross, layer.cross_norm(hidden), *self.memory[number], self.mask)
            hidden = layer.feed(hidden)
        return model.decoder_norm(hidden)

    @staticmethod
    def _mix(attention: nn.Module, hidden: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        return attention.out(
            naive(attention.split(attention.query(hidden)), keys, values, mask).transpose(1, 2).flatten(2)
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Over French pieces."""
        return self.model.head(hidden)


class LanguageEngine(Engine):
    """A language model of the Llama kind, such as the course's SmolLM2, with its rotary positions.

    model: a transformers LlamaForCausalLM. batch: rows. capacity: tokens a row can hold.
    Positions: J. Su et al., RoFormer, 2021, arXiv:2104.09864, equation 15; the pairs are (i, i + d/2).
    """

    def __init__(self, model: nn.Module, batch: int, capacity: int):
        self.model, sizes = model, model.config
        _without_dropout(model)
        if capacity > sizes.max_position_embeddings or sizes.rope_parameters["rope_type"] != "default":
            raise ValueError(
                f"the cache may hold at most the model's {sizes.max_position_embeddings} places, not "
                f"{capacity}, and rotary positions must be of the default kind, not "
                f"{sizes.rope_parameters['rope_type']!r}"
            )
        self.cache = KVCache(
            sizes.num_hidden_layers,
            batch,
            sizes.num_key_value_heads,
            capacity,
            sizes.head_dim,
            model.lm_head.weight.dtype,
        )
        # θ_i = base^(-2i/d), and the angle at place p is p θ_i
        rates = sizes.rope_parameters["rope_theta"] ** (-torch.arange(0, sizes.head_dim, 2).float() / sizes.head_dim)
        self.angles = torch.outer(torch.arange(capacity).float(), rates)

    def states(self, ids: Tensor, slots: Slots) -> Tensor:
        """Of tokens (B, T)."""
        body = self.model.model
        hidden = body.embed_tokens(ids)
        angles = self.angles[slots.positions.clamp_max(len(self.angles) - 1)][:, None]  # (B, 1, T, d/2)
        turn = angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
        for number, layer in enumerate(body.layers):
            normed, attention = layer.input_layernorm(hidden), layer.self_attn
            query, key, value = (
                part(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
                for part in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            keys, values = self.cache.put(number, _rotated(key, *turn), value, slots)
            mixed = naive(_rotated(query, *turn), keys, values, slots.mask)
            hidden = hidden + attention.o_proj(mixed.transpose(1, 2).flatten(2))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return body.norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Over the tokens of the vocabulary."""
        return self.model.lm_head(hidden)


def _without_dropout(model: nn.Module) -> None:
    if model.training:
        raise ValueError("the model is in training mode, where dropout changes its answers: call model.eval() first.")


def _rotated(hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Every pair (x, y) = (hidden[i], hidden[i + d/2]) turned by its angle: (x cos - y sin, y cos + x sin)."""
    x, y = hidden.chunk(2, dim=-1)
    return torch.cat([x * cosine - y * sine, y * cosine + x * sine], dim=-1)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Prompts as a batch: ids int64 (B, longest), zeros behind the shorter ones, and counts int64 (B,) of real tokens.

    Raises ValueError when a prompt has no token.
    """
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    if not len(rows) or not counts.all():
        raise ValueError("padded needs at least one prompt, and at least one token in each.")
    ids = torch.zeros(len(rows), int(counts.max()), dtype=torch.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return ids, counts


def write(engine: Engine, ids: Tensor, counts: Tensor | None, new: int) -> Tensor:
    """Prefill with the prompts, then the likeliest token again and again: int64 (B, new), `new` tokens for every row.

    ids, counts: as `Engine.feed` takes them. ValueError when the cache has no room for prompts and new tokens.
    """
    tokens = [engine.feed(ids, counts, last=True).argmax(dim=-1)]
    while len(tokens) < new:
        tokens.append(engine.feed(tokens[-1][:, None], last=True).argmax(dim=-1))
    return torch.stack(tokens, dim=1)
