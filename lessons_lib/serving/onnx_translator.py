"""A translator as two ONNX files: an encoder that reads the source once, a decoder that writes one piece at a time.

The loop over pieces stays outside, in `decoding.greedy`: each of its turns is one call of the decoder. What the
encoder gives is the state: where the source is real, the keys and values of the source, and an empty cache. The decoder
gives the longer cache as `next_past_...`, which takes the place of `past_...` in the next call, as in lesson 16.
Each layer's keys and values are tensors of their own: packed into one, they would be copied at every piece.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from lessons_lib.serving import onnx_export
from lessons_lib.tasks.phrase_pairs import PAD
from lessons_lib.tasks.translator import MAX_LENGTH, Translator

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
REAL = "real"  # bool (B, 1, 1, S): where the source is no padding


def state_names(layers: int) -> list[str]:
    """What the encoder gives, in order: REAL, then keys and values of the source for each decoder layer, FP32
    (B, heads, S, size of a head), then those of what was written, (B, heads, T, size of a head)."""
    return [
        REAL,
        *(
            f"{part}_{layer}_{what}"
            for part in ("memory", "past")
            for layer in range(layers)
            for what in ("key", "value")
        ),
    ]


class _Encoder(nn.Module):
    """source, int64 (B, S), to the state after nothing was written, as state_names says."""

    def __init__(self, model: Translator):
        super().__init__()
        self.model = model

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        """The state after nothing was written."""
        encoded, real = self.model.encode(source)
        memory = [part for pair in self.model.memory(encoded[-1]) for part in pair]
        return real, *memory, *(part[:, :, :0].clone() for part in memory)


class _Decoder(nn.Module):
    """One more piece, int64 (B, 1), and the state to FP32 logits (B, 1, pieces) and the longer cache."""

    def __init__(self, model: Translator):
        super().__init__()
        self.model = model

    def forward(self, piece: Tensor, real: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """What follows the piece, and the cache with it."""
        pairs = list(zip(state[::2], state[1::2], strict=True))
        layers = len(pairs) // 2
        logits, _, present = self.model.decode(piece, pairs[:layers], real, pairs[layers:])
        return logits, *(part for pair in present for part in pair)


def to_onnx(model: Translator, folder: str | os.PathLike) -> Path:
    """Write a translator as ENCODER and DECODER into a folder, for any number and length of phrases; returns it.

    Standard operators alone, as in `onnx_export.to_onnx`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    batch, written = torch.export.Dim("batch"), torch.export.Dim("written", max=MAX_LENGTH)
    # As many places as the model has: without them torch traces twice, the second time with the bound that it found.
    length = torch.export.Dim("length", max=MAX_LENGTH + 1)
    source, shape = torch.full((2, 7), PAD + 1), model.shape
    names, parts = state_names(shape.decoder_layers), 2 * shape.decoder_layers
    # A tensor for each: one that came twice would be traced as one input.
    memory, past = (
        [torch.zeros(2, shape.heads, places, shape.width // shape.heads) for _ in range(parts)] for places in (7, 3)
    )
    sample = dict(zip(names, [(source != PAD)[:, None, None], *memory, *past], strict=True))
    axes = (*[{0: batch, 2: length}] * parts, *[{0: batch, 2: written}] * parts)
    onnx_export.traced(_Encoder(model), folder / ENCODER, {"source": source}, names, [{0: batch, 1: length}])
    onnx_export.traced(
        _Decoder(model),
        folder / DECODER,
        {"piece": source[:, :1]} | sample,
        ["logits", *(f"next_{name}" for name in names[1 + parts :])],
        [{0: batch}, {0: batch, 3: length}, axes],
    )
    return folder


def dynamic_int8(folder: str | os.PathLike, out: str | os.PathLike) -> Path:
    """Both files with 8-bit weights, as `onnx_export.dynamic_int8` makes them; returns the folder `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name in (ENCODER, DECODER):
        onnx_export.dynamic_int8(Path(folder) / name, out / name)
    return out


class OnnxTranslator(nn.Module):
    """The two files in the clothes of a Translator, as far as `decoding.greedy` needs them."""

    def __init__(self, folder: str | os.PathLike, threads: int | None = None):
        super().__init__()
        threads = threads or torch.get_num_threads()
        self.encoder, self.decoder = (onnx_export.session(Path(folder) / name, threads) for name in (ENCODER, DECODER))
        self.state = [output.name for output in self.encoder.get_outputs()]
        self.longer = [output.name.removeprefix("next_") for output in self.decoder.get_outputs()[1:]]

    def encode(self, source: Tensor) -> tuple[list[dict], None]:
        """source: int64 (B, S), padded with PAD. Returns the state in place of hidden states, the mask in it."""
        return [dict(zip(self.state, self.encoder.run(None, {"source": source.numpy()}), strict=True))], None

    def memory(self, encoded: dict) -> dict:
        """The state: the file has computed the keys and values."""
        return encoded

    def decode(self, target: Tensor, memory: dict, mask: None, past: dict | None = None):
        """FP32 logits (B, 1, pieces) that follow one more piece, target int64 (B, 1); no hidden states; the cache."""
        logits, *longer = self.decoder.run(None, memory | (past or {}) | {"piece": target.numpy()})
        return torch.from_numpy(logits), None, dict(zip(self.longer, longer, strict=True))
