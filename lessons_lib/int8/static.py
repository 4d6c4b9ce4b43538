"""Static INT8: the range of every linear layer's input is fixed beforehand, from calibration data.

With one scale s and zero point z for the input, one scale t[j] for each output channel of the weights:
    y[i, j] = s t[j] (sum over k of q_x[i, k] q_w[j, k]  -  z sum over k of q_w[j, k]) + b[j]
The first sum is exact in int32; the second is known beforehand and goes into the bias.
Source: B. Jacob et al., 2018, arXiv 1712.05877, section 2.3.
"""

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import dynamic
from lessons_lib.tasks import layers

Range = tuple[float, float]


def calibrate(model: nn.Module, batches: Iterable[layers.Batch], make: Callable) -> dict:
    """An observer for the input of every linear layer, by name, after it saw these batches.

    make: makes a new observer, such as `observers.Histogram`. Raises ValueError when there is no batch.
    """
    batches = list(batches)
    if not batches:
        raise ValueError("there is no batch to calibrate with; give some, as topic_classifier.tokenize makes them.")
    seen = {name: make() for name in layers.linear_layers(model)}
    layers.watch(model, batches, lambda name, x: seen[name].observe(x))
    return seen


class StaticLinear(nn.Module):
    """A linear layer on codes whose input range is fixed: what lies outside is clipped. FP32 in and out.

    low, high: the range. bits: of the input, affine codes; weight_bits: of the weights, symmetric codes; 2 to 8 each,
    kept in int8. per: what shares a weight scale, an output "channel" or the whole "tensor".
    """

    def __init__(
        self, layer: nn.Linear, low: float, high: float, bits: int = 8, weight_bits: int = 8, per: str = "channel"
    ):
        super().__init__()
        if per not in ("channel", "tensor") or max(bits, weight_bits) > 8:
            raise ValueError(
                f"per is {per!r} with {bits} and {weight_bits} bits; a scale is shared per channel or "
                "tensor, and int8 holds codes of 2 to 8 bits."
            )
        weight = layer.weight.detach()
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().clone()
        rows = weight if per == "channel" else weight.reshape(1, -1)
        codes, scales, _ = affine.quantize_per_channel(rows, weight_bits)
        self.register_buffer("codes", codes.reshape(weight.shape))
        self.register_buffer("scales", scales.expand(len(weight)).clone())
        self.register_buffer("bias", bias)
        for name in ("scale", "zero_point", "offset"):
            self.register_buffer(name, None)
        self.fix(low, high, bits)

    def fix(self, low: float, high: float, bits: int) -> None:
        """Fix another range, or another number of bits for the input; the weights stay."""
        scale, zero_point = affine.choose_qparams(low, high, bits, signed=True)
        self.ends = affine.code_range(bits, signed=True)
        self.scale, self.zero_point = torch.tensor(scale), torch.tensor(zero_point)
        # b[j] - s t[j] z sum over k of q_w[j, k]
        self.offset = self.bias - scale * zero_point * self.scales * self.codes.sum(1)

    def quantize(self, x: Tensor) -> Tensor:
        """Codes of the input: int8, shaped like x (rows, n_in). The same as `affine.quantize`, piece by piece.

        x must be finite, which is not checked: to look would cost the pass over x that a fixed range saves.
        """
        codes = torch.empty(x.shape, dtype=torch.int8)
        step = max(1, dynamic.PIECE // x.shape[1])
        for start in range(0, len(x), step):
            # q = clamp(round(x / scale) + zero_point)
            piece = torch.mul(x[start : start + step], 1 / self.scale).round_().add_(self.zero_point)
            codes[start : start + step] = piece.clamp_(*self.ends)
        return codes

    def forward(self, x: Tensor) -> Tensor:
        """x: FP32 (..., n_in). Returns FP32 (..., n_out)."""
        codes = self.quantize(x.reshape(-1, x.shape[-1]))
        out = dynamic.rescaled(codes, self.scale.expand(len(codes), 1), self.codes, self.scales, self.offset)
        return out.view(*x.shape[:-1], out.shape[-1])


def quantize_static(
    model: nn.Module, ranges: Mapping[str, Range], bits: int = 8, weight_bits: int = 8, per: str = "channel"
) -> nn.Module:
    """A copy of the model, in eval mode, whose linear layers are `StaticLinear`.

    ranges: (low, high) of the layers' inputs by name; a layer that is not named stays as it is. The other arguments
    are those of StaticLinear. Raises ValueError for a name that is no linear layer.
    """

    def made(name, layer):
        return StaticLinear(layer, *ranges[name], bits, weight_bits, per)

    return layers.replaced(model, ranges, made)


def fix_ranges(quantized: nn.Module, ranges: Mapping[str, Range], bits: int) -> nn.Module:
    """Give the static layers of a quantized model other ranges and bits, in place; returns the model."""
    for name, (low, high) in ranges.items():
        quantized.get_submodule(name).fix(low, high, bits)
    return quantized


def layer_errors(model: nn.Module, quantized: nn.Module, batch: layers.Batch) -> dict[str, float]:
    """How far each quantized layer is off, given what the float model's layer gets: |y' - y| / |y|, without padding."""
    exact_of, errors = layers.linear_layers(model), {}

    def compare(name, x):
        exact = nn.functional.linear(x, exact_of[name].weight, exact_of[name].bias)  # past the layer's own hook
        errors[name] = ((quantized.get_submodule(name)(x) - exact).norm() / exact.norm()).item()

    layers.watch(model, [batch], compare)
    return errors


def smooth_scales(act_max: Tensor, w_max: Tensor, alpha: float = 0.5) -> Tensor:
    """A divisor for each input channel that moves difficulty from activations into weights.

    act_max: FP32 (n_in,), the largest absolute activation of each channel; w_max: FP32 (n_in,), the largest absolute
    weight of each column. Activations are divided by the result, weight columns multiplied: the product stays.
    A channel with a zero in either keeps 1. Source: SmoothQuant, Xiao et al., 2023, arXiv 2211.10438, equation 4.
    """
    if act_max.shape != w_max.shape or act_max.dim() != 1:
        shapes = f"{tuple(act_max.shape)} and {tuple(w_max.shape)}"
        raise ValueError(f"act_max and w_max have the shapes {shapes}; one number for each input channel is needed.")
    if not 0 <= alpha <= 1 or (act_max < 0).any() or (w_max < 0).any():
        raise ValueError(f"alpha is {alpha}, to lie in 0 ... 1; the maxima are of absolute values, never negative.")
    # s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)
    scales = act_max**alpha / w_max ** (1 - alpha)
    return scales.where((act_max > 0) & (w_max > 0), 1.0)


class Smoothed(nn.Module):
    """A linear layer on divided inputs and multiplied weights: the same function, with another range to quantize.

    In a served model the division costs nothing: it is folded into the layer norm before it, or into the step to codes.
    """

    def __init__(self, layer: nn.Linear, scales: Tensor):
        super().__init__()
        self.register_buffer("scales", scales)
        self.linear = copy.deepcopy(layer)
        self.linear.weight.data *= scales

    def forward(self, x: Tensor) -> Tensor:
        """x: FP32 (..., n_in). Returns FP32 (..., n_out)."""
        return self.linear(x / self.scales)


def smooth(model: nn.Module, channels: Mapping[str, tuple[Tensor, Tensor]], alpha: float = 0.5) -> nn.Module:
    """A copy of the model whose named linear layers are `Smoothed`; it gives the same outputs, up to FP32 rounding.

    channels: name -> (low, high), FP32 (n_in,) each, as `observers.MinMax(axis=-1)` gives them.
    """

    def made(name, layer):
        low, high = channels[name]
        return Smoothed(layer, smooth_scales(torch.maximum(-low, high), layer.weight.detach().abs().amax(0), alpha))

    return layers.replaced(model, channels, made)
