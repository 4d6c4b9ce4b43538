"""Dynamic INT8: weights are quantized once, activations on the fly; and the one door to torch.ao and torchao.

A linear layer on integers, with a scale s for each row of x and a scale t for each row (output channel) of w:
    y[i, j] = (sum over k of codes_x[i, k] * codes_w[j, k]) * s[i] * t[j] + bias[j]
The sum is exact in int32 (torch._int_mm); the two scales are taken out of it. Both quantizers are symmetric, as in
`affine`, and there is no zero point.
Source: B. Jacob et al., 2018, arXiv 1712.05877; scales for each row as in T. Dettmers et al., LLM.int8(), 2022,
arXiv 2208.07339, section 3.1.
"""

import copy
import warnings
import weakref

import torch
from torch import nn

from lessons_lib import affine

MOST = 127                                      # codes -127 ... 127: the same reach to both sides
SMALLEST_SCALE = torch.finfo(torch.float32).tiny
# The break-even, measured in lesson 08: below it quantizing the activations costs more than the product saves.
FEWEST_ROWS = 64
FEWEST_WEIGHTS = 131_072
MOST_TERMS = affine.INT32_MAX // MOST**2        # of a sum that int32 holds whatever the codes are
# Work goes piece by piece, each small enough to stay in a core's cache from the first operation to the last. With whole
# matrices every operation fetches its input from memory again, and half of the gain over FP32 is lost.
PIECE = 196_608                                 # numbers quantized at a time
TILE_ROWS, TILE = 320, 61_440                   # of a product: rows at a time, and sums at a time

# What torch.ao says at every use: that it will move. The course knows, and this module is where it will be changed.
HARMLESS = ("torch.ao.quantization is deprecated", "torch.quantize_per_tensor, torch.quantize_per_channel and other")


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed 8-bit codes of each row with a scale of its own: int8 (rows, n) and FP32 (rows, 1).

    x: FP32 (rows, n). scale = max |row| / 127, or 1 for a row of zeros; code = round(x * (1 / scale)), halves to even.
    A row with NaN or infinity gets a scale of NaN or infinity, and so spoils its own outputs and no others.
    Raises TypeError when x is not FP32, ValueError when it is no matrix or has no columns.
    """
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
        kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"x is {kind}; rows of FP32 are needed. Convert it with .float().")
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"x has the shape {tuple(x.shape)}; a matrix (rows, n) is needed. Flatten its leading axes.")
    step = max(1, PIECE // x.shape[1])
    codes, scales = torch.empty(x.shape, dtype=torch.int8), x.new_empty(len(x), 1)
    scratch = x.new_empty(min(step, len(x)), x.shape[1])
    for start in range(0, len(x), step):
        rows, scale = x[start : start + step], scales[start : start + step]
        largest = torch.maximum(rows.amax(dim=1, keepdim=True), rows.amin(dim=1, keepdim=True).neg_())
        # scale = max |row| / 127
        torch.div(largest, MOST, out=scale).clamp_min_(SMALLEST_SCALE).masked_fill_(largest == 0, 1.0)
        # code = round(x / scale), by multiplication, as in affine
        codes[start : start + step] = torch.mul(rows, scale.reciprocal(), out=scratch[: len(rows)]).round_()
    return codes, scales


def int8_linear(x: torch.Tensor, w_codes: torch.Tensor, w_scales: torch.Tensor, bias: torch.Tensor | None = None):
    """x @ w.T + bias on 8-bit codes: FP32 (rows, n_out).

    x: FP32 (rows, n_in), quantized here, row by row. w_codes: int8 (n_out, n_in). w_scales: FP32 (n_out,).
    bias: FP32 (n_out,) or None. Raises TypeError or ValueError as `quantize_rows`, or when the shapes do not fit.
    """
    if w_codes.dtype != torch.int8 or w_codes.ndim != 2:
        raise TypeError(f"w_codes is {w_codes.dtype} {tuple(w_codes.shape)}; int8 (n_out, n_in) is needed.")
    n_out, n_in = w_codes.shape
    if x.shape[-1] != n_in or w_scales.shape != (n_out,) or (bias is not None and bias.shape != (n_out,)):
        raise ValueError(f"x {tuple(x.shape)}, w_codes {tuple(w_codes.shape)}, w_scales {tuple(w_scales.shape)} do not "
                         "fit: (rows, n_in), (n_out, n_in) and (n_out,) are needed, and a bias of (n_out,) or none.")
    if n_in > MOST_TERMS:
        raise ValueError(f"A sum of {n_in:,} products can leave int32; {MOST_TERMS:,} at most. Split the layer.")
    return _rescaled(*quantize_rows(x), w_codes, w_scales, bias)


def _rescaled(codes, scales, w_codes, w_scales, bias) -> torch.Tensor:
    n_out, height = len(w_codes), max(1, min(TILE_ROWS, len(codes)))
    width = min(n_out, TILE // height)
    out = scales.new_empty(len(codes), n_out)
    scratch = torch.empty(height * width, dtype=torch.int32)
    for row in range(0, len(codes), height):
        rows = slice(row, row + height)
        for column in range(0, n_out, width):
            columns = slice(column, column + width)
            tile = out[rows, columns]
            # y = sums * s * t + bias
            sums = torch._int_mm(codes[rows], w_codes[columns].t(), out=scratch[: tile.numel()].view(tile.shape))
            tile.copy_(sums).mul_(scales[rows]).mul_(w_scales[columns])
            if bias is not None:
                tile.add_(bias[columns])
    return out


def should_quantize(kind: str, n_in: int, n_out: int, rows: int) -> bool:
    """Whether dynamic INT8 is worth it for one operation: a linear layer, large enough, with enough rows at a time.

    kind: "linear", or anything else ("embedding", "layer norm", "softmax"), which stays as it is. n_in, n_out: of the
    layer. rows: tokens in a batch. True for a linear layer with at least FEWEST_WEIGHTS weights and FEWEST_ROWS rows.
    """
    return kind == "linear" and n_in * n_out >= FEWEST_WEIGHTS and rows >= FEWEST_ROWS


class SharedRows:
    """Quantizes a tensor once for all layers that read it one after the other, such as query, key and value."""

    def __init__(self):
        self.last = None

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of the rows of x (..., n); those of the last call, if x is the same, unchanged tensor."""
        version = None if x.is_inference() else x._version      # inference tensors do not count their changes
        last = self.last                        # read once: another thread may replace it
        if last is not None and last[0]() is x and last[1] == version and version is not None:
            return last[2]
        quantized = quantize_rows(x.reshape(-1, x.shape[-1]))
        self.last = (weakref.ref(x), version, quantized)
        return quantized


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, per output channel, that quantizes its activations row by row as they come."""

    def __init__(self, linear: nn.Linear, rows: SharedRows | None = None):
        super().__init__()
        codes, scales, _ = affine.quantize_per_channel(linear.weight.detach(), 8)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())
        self.rows = rows or SharedRows()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: FP32 (..., n_in). Returns FP32 (..., n_out)."""
        out = _rescaled(*self.rows(x), self.codes, self.scales, self.bias)
        return out.view(*x.shape[:-1], out.shape[-1])


class Int8Embedding(nn.Module):
    """A table of vectors with 8-bit codes and a scale for each vector; what is looked up is read back to FP32."""

    def __init__(self, table: nn.Embedding):
        super().__init__()
        codes, scales, _ = affine.quantize_per_channel(table.weight.detach(), 8)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: int64, any shape. Returns FP32 (*ids.shape, n)."""
        return self.codes[ids].float().mul_(self.scales[ids][..., None])


def dynamic_int8(model: nn.Module, embeddings: bool = False) -> nn.Module:
    """A copy of the model whose large linear layers are `Int8Linear`; with embeddings, its embeddings 8-bit tables too.

    A layer of fewer than FEWEST_WEIGHTS weights stays in FP32, as do layer norms and the products inside attention.
    Raises ValueError when nothing in the model is large enough.
    """
    rows = SharedRows()

    def smaller(module: nn.Module) -> nn.Module | None:
        if isinstance(module, nn.Linear) and should_quantize("linear", module.in_features, module.out_features,
                                                             FEWEST_ROWS):
            return Int8Linear(module, rows)
        return Int8Embedding(module) if embeddings and isinstance(module, nn.Embedding) else None

    copied = copy.deepcopy(model)
    replaced = 0
    for parent in list(copied.modules()):
        for name, module in parent.named_children():
            made = smaller(module)
            if made is not None:
                setattr(parent, name, made)
                replaced += 1
    if not replaced:
        raise ValueError(f"No linear layer of the model has {FEWEST_WEIGHTS:,} weights: there is nothing to quantize.")
    return copied


def torch_ao_dynamic(model: nn.Module) -> nn.Module:
    """The same by torch.ao: a copy with DynamicQuantizedLinear layers, per-channel weights, a range for each batch."""
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

        return quantize_dynamic(model, {nn.Linear: per_channel_dynamic_qconfig}, dtype=torch.qint8)


def torchao_dynamic(model: nn.Module) -> nn.Module:
    """The same by torchao: a copy with 8-bit weights per channel and activations quantized row by row."""
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        copied = copy.deepcopy(model)
        quantize_(copied, Int8DynamicActivationInt8WeightConfig())
        return copied
