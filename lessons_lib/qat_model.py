"""A model on its way to few bits: starting steps of least squared error, layers that train on them, integer codes.

`prepare` replaces the linear layers of a model's encoder by `qat.QatLinear`. Used as it comes, the result is the model
quantized after training; trained further, it is quantization-aware training; `convert` then turns its layers into
products of 8-bit integers.
"""

import torch
from torch import Tensor, nn

from lessons_lib import affine, dynamic_int8, layers
from lessons_lib.qat import QatLinear

CANDIDATES = 50  # ranges that are tried, equal shares of the full one
SAMPLE = 100_000  # numbers of an input that its range is chosen from
STARTS = ("least error", "absmax")


def least_error_steps(weight: Tensor, bits: int, candidates: int = CANDIDATES) -> Tensor:
    """For each row the step of signed symmetric codes with the least squared error: FP32 (rows,).

    weight: FP32 (rows, n). What `affine.best_clip` finds row by row, for all rows at once: `candidates` equal shares
    of a row's largest absolute value are tried, of equal errors the wider wins. A row of zeros gets 1.
    """
    lowest, highest = affine.code_range(bits, signed=True)
    rows = weight.detach().float()
    widest = absmax_steps(rows, bits)
    best, least = widest.clone(), torch.full_like(widest, torch.inf)
    for share in range(candidates, 0, -1):
        step = widest * (share / candidates)
        codes = (rows * (1 / step)[:, None]).round_().clamp_(lowest, highest)
        error = codes.mul_(step[:, None]).sub_(rows).square_().sum(1)
        better = error < least
        best, least = torch.where(better, step, best), torch.where(better, error, least)
    return best


def absmax_steps(weight: Tensor, bits: int) -> Tensor:
    """For each row the step at which its largest absolute value has the highest code: FP32 (rows,)."""
    rows = weight.detach().float()
    return affine.choose_qparams(rows.amin(1), rows.amax(1), bits, signed=True, symmetric=True)[0]


def linear_inputs(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What each linear layer of the encoder reads at the real tokens of a batch: name -> FP32 (tokens, n_in)."""
    seen = {}
    layers.watch(model, [batch], seen.__setitem__, layers.linear_layers(model, "encoder"))
    return seen


def input_range(x: Tensor, bits: int, start: str = "least error") -> tuple[float, int]:
    """Step and zero point of unsigned codes for an input x (tokens, n): of least squared error, or over all of x."""
    if start == "absmax":
        return affine.choose_qparams(x.min().item(), x.max().item(), bits)
    some = x[:: max(1, x.numel() // SAMPLE)]
    return affine.choose_qparams(*affine.best_clip(some, bits, signed=False, symmetric=False, steps=CANDIDATES), bits)


def prepare(
    model: nn.Module,
    weight_bits: int,
    input_bits: int | None = None,
    batch: dict[str, Tensor] | None = None,
    start: str = "least error",
) -> nn.Module:
    """A copy of the model whose encoder computes its linear layers on few bits, as `qat.QatLinear`; the head stays.

    input_bits: None leaves activations as they are; else batch, tokens of some sentences, gives their ranges.
    start: the steps to begin with. "least error" has one for each output channel, chosen by squared error, and ranges
    of inputs chosen likewise; "absmax" has one for a whole weight matrix, and ranges that hold everything seen.
    Raises ValueError for another start, or for input_bits without a batch.
    """
    if start not in STARTS:
        raise ValueError(f"start is {start!r}; it is one of {', '.join(STARTS)}.")
    if input_bits is not None and batch is None:
        raise ValueError("the ranges of inputs come from data: give a batch, as models.tokenize makes it.")
    inputs = linear_inputs(model, batch) if input_bits is not None else {}

    def prepared(name: str, layer: nn.Linear) -> QatLinear:
        if start == "absmax":
            step = absmax_steps(layer.weight.reshape(1, -1), weight_bits).repeat(layer.out_features)
        else:
            step = least_error_steps(layer.weight, weight_bits)
        ranges = () if input_bits is None else (input_bits, *input_range(inputs[name], input_bits, start))
        return QatLinear(layer, weight_bits, step, *ranges)

    return layers.replaced(model, layers.linear_layers(model, "encoder"), prepared)


def convert(model: nn.Module) -> nn.Module:
    """A copy of a prepared model whose `qat.QatLinear` layers are `Int8Linear`. Raises ValueError as that does."""
    names = [name for name, layer in layers.linear_layers(model).items() if isinstance(layer, QatLinear)]
    if not names:
        raise ValueError("this model has no QatLinear to convert; make it with `prepare`.")
    return layers.replaced(model, names, lambda name, layer: Int8Linear(layer))


class Int8Linear(nn.Module):
    """A `QatLinear` of at most 8 bits as integers: y = (codes_x codes_w^T) s t + bias, with everything fixed folded in.

    Inputs have unsigned codes with a zero point z; int8 wants signed ones, so both are shifted by 128. The zero point
    is taken out of the sum: sum (q_x - z) q_w = sum q_x q_w - z sum q_w. The second part does not depend on x and goes
    into the bias: B. Jacob and others, 2018, arXiv 1712.05877, section 2.3.
    Raises ValueError for a layer whose inputs are not quantized, or with codes of more than 8 bits.
    """

    def __init__(self, layer: QatLinear):
        super().__init__()
        if layer.input_codes is None or layer.input_codes[1] > 255 or layer.weight_codes[1] > 127:
            raise ValueError(
                "an integer product needs weights and inputs of at most 8 bits each; prepare the model with input_bits."
            )
        weight_step, input_step = (step.detach() for step in layer.steps())
        self.highest, self.zero, self.input_step = layer.input_codes[1], layer.input_zero, input_step.item()
        codes = affine.quantize(
            layer.weight.detach(),
            weight_step.flatten(),
            torch.zeros(len(weight_step)),
            layer.weight_codes[1].bit_length() + 1,
            signed=True,
            axis=0,
        )
        self.register_buffer("codes", codes)
        self.register_buffer("scales", weight_step.flatten())
        # bias' = bias - (z - 128) s t sum q_w
        folded = (self.zero - 128) * input_step * self.scales * codes.sum(1, dtype=torch.int64)
        self.register_buffer("bias", -folded if layer.bias is None else layer.bias.detach() - folded)

    def input_codes(self, x: Tensor) -> Tensor:
        """x as codes that the product takes: int8, shaped like x, 128 below the unsigned ones.

        x must be finite; that is not checked.
        """
        codes = (x * (1 / torch.tensor(self.input_step))).round_().add_(self.zero).clamp_(0, self.highest)
        return codes.sub_(128).to(torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """x: FP32 (..., n_in). Returns FP32 (..., n_out)."""
        codes = self.input_codes(x).flatten(0, -2)
        rows = torch.full((len(codes), 1), self.input_step)
        out = dynamic_int8.rescaled(codes, rows, self.codes, self.scales, self.bias)
        return out.view(*x.shape[:-1], out.shape[-1])
