"""Dynamic INT8: weights are quantized once, activations on the fly.

A linear layer on integers, with a scale s for each row of x and a scale t for each row (output channel) of w:
    y[i, j] = (sum over k of codes_x[i, k] * codes_w[j, k]) * s[i] * t[j] + bias[j]
The sum is exact in int32 (`product`); the two scales are taken out of it. Both quantizers are symmetric, as in
`affine`, and there is no zero point.
Source: B. Jacob et al., 2018, arXiv 1712.05877; scales for each row as in T. Dettmers et al., LLM.int8(), 2022,
arXiv 2208.07339, section 3.1.
"""

import copy
import weakref
from functools import lru_cache

import torch
from torch import nn

from lessons_lib.arithmetic import affine

MOST = 127  # codes -127 ... 127: the same reach to both sides
SMALLEST_SCALE = torch.finfo(torch.float32).tiny
# The break-even, measured in lesson 08: below it quantizing the activations costs more than the product saves.
FEWEST_ROWS = 64
FEWEST_WEIGHTS = 131_072
MOST_TERMS = affine.INT32_MAX // MOST**2  # of a sum that int32 holds whatever the codes are
# Work goes piece by piece, each small enough to stay in a core's cache from the first operation to the last. With whole
# matrices every operation fetches its input from memory again, and half of the gain over FP32 is lost.
PIECE = 196_608  # numbers quantized at a time
TILE = 98_304  # sums of a product at a time, for each thread
# torch._int_mm is fast with the vector instructions AVX-512 VNNI. Without them torch 2.13 has a plain loop, a hundred
# times as slow as a product in FP32.
VNNI = bool(torch.cpu.get_capabilities().get("avx512_vnni"))
# With the tile instructions AMX, oneDNN also multiplies signed codes by weights that were packed once. Without them it
# takes its reference loop: seconds for what takes torch._int_mm a millisecond.
AMX = bool(torch.cpu.get_capabilities().get("amx_int8"))
EXACT_TERMS = 2**24 // 128**2  # products of two codes whose sum FP32 holds exactly


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
        raise ValueError(
            f"x {tuple(x.shape)}, w_codes {tuple(w_codes.shape)}, w_scales {tuple(w_scales.shape)} do not "
            "fit: (rows, n_in), (n_out, n_in) and (n_out,) are needed, and a bias of (n_out,) or none."
        )
    if n_in > MOST_TERMS:
        raise ValueError(f"A sum of {n_in:,} products can leave int32; {MOST_TERMS:,} at most. Split the layer.")
    return rescaled(*quantize_rows(x), w_codes, w_scales, bias)


def rescaled(
    codes: torch.Tensor, scales: torch.Tensor, w_codes: torch.Tensor, w_scales: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """codes (rows, n_in) @ w_codes (n_out, n_in).T in int32, times scales (rows, 1) and w_scales (n_out,), and bias."""
    n_out = len(w_codes)
    height = max(1, min(len(codes), TILE * torch.get_num_threads() // n_out))
    out = scales.new_empty(len(codes), n_out)
    scratch = torch.empty(height, n_out, dtype=torch.int32)
    for start in range(0, len(codes), height):
        rows = slice(start, start + height)
        tile = out[rows]
        sums = product(codes[rows], w_codes, out=scratch[: len(tile)])
        # y = sums * s * t + bias
        tile.copy_(sums).mul_(scales[rows])
        if bias is None:
            tile.mul_(w_scales)
        else:
            torch.addcmul(bias, tile, w_scales, out=tile)
    return out


def product(codes: torch.Tensor, w_codes: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """codes (rows, n) @ w_codes (n_out, n).T, both int8: the exact sums, int32 (rows, n_out).

    By torch._int_mm where that is fast. Elsewhere codes are multiplied as FP32 numbers, a stretch of columns at a time
    so short that every sum is exact. That is slower than FP32, because codes become FP32 numbers first.
    """
    if VNNI:
        return torch._int_mm(codes, w_codes.t(), out=out)
    stretches = zip(codes.split(EXACT_TERMS, dim=1), w_codes.split(EXACT_TERMS, dim=1), strict=True)
    sums = sum((some.float() @ w_some.float().t()).int() for some, w_some in stretches)
    return sums if out is None else out.copy_(sums)


def _formula(x, w_codes, w_scales, bias) -> torch.Tensor:
    """`int8_linear` in the plainest words: a compiler makes its own pieces, and knows this form of the product."""
    rows = x.reshape(-1, x.shape[-1])
    largest = rows.abs().amax(1, keepdim=True)
    scales = torch.where(largest == 0, 1.0, (largest / MOST).clamp_min(SMALLEST_SCALE))
    codes = (rows * scales.reciprocal()).round().to(torch.int8)
    out = product(codes, w_codes).float() * scales * w_scales
    return (out if bias is None else out + bias).reshape(*x.shape[:-1], len(w_codes))


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
        version = None if x.is_inference() else x._version  # inference tensors do not count their changes
        last = self.last  # read once: another thread may replace it
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
        if torch.compiler.is_compiling():
            return _formula(x, self.codes, self.scales, self.bias)
        out = rescaled(*self.rows(x), self.codes, self.scales, self.bias)
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
        if isinstance(module, nn.Linear) and should_quantize(
            "linear", module.in_features, module.out_features, FEWEST_ROWS
        ):
            return Int8Linear(module, rows)
        return Int8Embedding(module) if embeddings and isinstance(module, nn.Embedding) else None

    copied = copy.deepcopy(model)
    replaced = 0
    for parent in list(copied.modules()):
        for name, module in parent.named_children():
            replacement = smaller(module)
            if replacement is not None:
                setattr(parent, name, replacement)
                replaced += 1
    if not replaced:
        raise ValueError(f"No linear layer of the model has {FEWEST_WEIGHTS:,} weights: there is nothing to quantize.")
    return copied


@lru_cache(maxsize=1)
def can_compile() -> bool:
    """Whether `compiled` works here, found out by compiling an addition: that takes a C++ compiler, OpenMP, and the
    header files of Python."""
    try:
        return torch.compile(lambda x: x + 1)(torch.ones(8)).sum().item() == 16
    except RuntimeError:  # what all of torch's own errors are
        return False


def compiled(model: nn.Module):
    """The model as one program for inputs of one shape: a function that is compiled at its first call, for inference.

    Quantizing is merged with whatever comes before it. "Freezing" makes constants of the weights: they are packed once
    for the processor's INT8 instructions, and the product of codes becomes one operation of oneDNN. A model with layers
    of `Int8Linear` is frozen only with AMX. A new shape of the input is compiled anew, which takes seconds. Needs a C++
    compiler: see `can_compile`.
    """
    from torch._inductor import config

    program = torch.compile(model, dynamic=False)
    frozen = AMX or not any(isinstance(module, Int8Linear) for module in model.modules())

    def run(*args, **kwargs):
        with torch.no_grad(), config.patch(freezing=frozen):
            return program(*args, **kwargs)

    return run
