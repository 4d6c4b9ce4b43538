"""A translator as two ONNX files: an encoder that reads the source once, a decoder that writes one piece at a time.

The loop over pieces stays outside, in `generation.greedy`: each of its turns is one call of the decoder. What the
encoder gives is the state: the keys and values of the source, where the source is real, and an empty cache. The decoder
gives the longer cache as `next_past`, which takes the place of `past` in the next call, as in lesson 16.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from lessons_lib import export
from lessons_lib.translation import PAD
from lessons_lib.translator import MAX_LENGTH, Translator

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
STATE = ("memory", "real", "past")
STACK = "(layers, 2, B, heads, T, size of a head): keys and values of every layer in one tensor"


class _Encoder(nn.Module):
    """source, int64 (B, S), to the state: memory and past as STACK says, real bool (B, 1, 1, S)."""

    def __init__(self, model: Translator):
        super().__init__()
        self.model = model

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The state after nothing was written."""
        encoded, real = self.model.encode(source)
        memory = torch.stack([torch.stack(pair) for pair in self.model.memory(encoded[-1])])
        return memory, real, memory[..., :0, :].clone()


class _Decoder(nn.Module):
    """One more piece, int64 (B, 1), and the state to FP32 logits (B, 1, pieces) and the longer cache."""

    def __init__(self, model: Translator):
        super().__init__()
        self.model = model

    def forward(self, piece: Tensor, memory: Tensor, real: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """What follows the piece, and the cache with it."""
        memory, past = ([tuple(pair) for pair in stack] for stack in (memory, past))
        logits, _, present = self.model.decode(piece, memory, real, past)
        return logits, torch.stack([torch.stack(pair) for pair in present])


def to_onnx(model: Translator, folder: str | os.PathLike) -> Path:
    """Write a translator as ENCODER and DECODER into a folder, for any number and length of phrases; returns it.

    Standard operators alone, as in `export.to_onnx`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    batch, written = torch.export.Dim("batch"), torch.export.Dim("written", max=MAX_LENGTH)
    # As many places as the model has: without them torch traces twice, the second time with the bound that it found.
    length = torch.export.Dim("length", max=MAX_LENGTH + 1)
    source = torch.full((2, 7), PAD + 1)
    sizes = (model.shape.decoder_layers, 2, 2, model.shape.heads)
    memory, past = (torch.zeros(*sizes, places, model.shape.width // model.shape.heads) for places in (7, 3))
    state = dict(zip(STATE, (memory, (source != PAD)[:, None, None], past), strict=True))
    export.traced(_Encoder(model), folder / ENCODER, {"source": source}, list(STATE), [{0: batch, 1: length}])
    export.traced(_Decoder(model), folder / DECODER, {"piece": source[:, :1]} | state, ["logits", "next_past"],
                  [{0: batch}, {2: batch, 4: length}, {0: batch, 3: length}, {2: batch, 4: written}])
    return folder


def dynamic_int8(folder: str | os.PathLike, out: str | os.PathLike) -> Path:
    """Both files with 8-bit weights, as `export.dynamic_int8` makes them; returns the folder `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name in (ENCODER, DECODER):
        export.dynamic_int8(Path(folder) / name, out / name)
    return out


class OnnxTranslator(nn.Module):
    """The two files in the clothes of a Translator, as far as `generation.greedy` needs them."""

    def __init__(self, folder: str | os.PathLike, threads: int | None = None):
        super().__init__()
        threads = threads or torch.get_num_threads()
        self.encoder, self.decoder = (export.session(Path(folder) / name, threads) for name in (ENCODER, DECODER))

    def encode(self, source: Tensor) -> tuple[list[dict], None]:
        """source: int64 (B, S), padded with PAD. Returns the state in place of hidden states; the mask is part of it.
        """
        return [dict(zip(STATE, self.encoder.run(STATE, {"source": source.numpy()}), strict=True))], None

    def memory(self, encoded: dict) -> dict:
        """The state: the file has computed the keys and values."""
        return encoded

    def decode(self, target: Tensor, memory: dict, mask: None, past=None):
        """FP32 logits (B, 1, pieces) that follow one more piece, target int64 (B, 1); no hidden states; the cache."""
        given = memory | {"piece": target.numpy()} | ({} if past is None else {"past": past})
        logits, past = self.decoder.run(("logits", "next_past"), given)
        return torch.from_numpy(logits), None, past
