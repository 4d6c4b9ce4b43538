"""Quantization-aware training: the model trains on the values that its codes will stand for.

Forward, a tensor goes to codes and back (`affine.fake_quantize`). Backward, rounding counts as if it were not there:
the straight-through estimator (Y. Bengio, N. Léonard, A. Courville, 2013, arXiv 1308.3432). The step between two codes
can be learned as well: LSQ, S. Esser and others, "Learned Step Size Quantization", 2020, arXiv 1902.08153.

Both functions here let a gradient through where v = x / step (plus the zero point, if there is one) lies strictly
between the lowest and the highest code, as equations 3 and 5 of LSQ do. torch's own fake quantization asks for the
rounded v instead, so there it passes for half a step more at either end.

`prepare` replaces the linear layers of a model's encoder by `QatLinear`. Used as it comes, the result is the model
quantized after training; trained further, it is quantization-aware training; `convert` then turns its layers into
products of 8-bit integers.
"""

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import dynamic
from lessons_lib.tasks import layers

CANDIDATES = 50  # ranges that are tried, equal shares of the full one
SAMPLE = 100_000  # numbers of an input that its range is chosen from
STARTS = ("least error", "absmax")


class FakeQuantize(Function):
    """FakeQuantize.apply(x, scale, zero_point, lowest, highest): to codes and back, with a straight-through gradient.

    x: FP32, any shape. scale, zero_point: numbers. lowest, highest: the first and the last code. Returns FP32, to the
    bit what `affine.fake_quantize` gives. x gets the upstream gradient where lowest < x / scale + zero_point < highest,
    and zero elsewhere; scale and zero point get none.
    """

    @staticmethod
    def forward(ctx, x: Tensor, scale: float, zero_point: int, lowest: int, highest: int) -> Tensor:
        """Codes, clamped, and back."""
        v = x * (1 / torch.tensor(scale, dtype=torch.float32))
        ctx.save_for_backward((v + zero_point > lowest) & (v + zero_point < highest))
        # x' = (clamp(round(x / scale) + zero_point) - zero_point) * scale
        return ((v.round() + zero_point).clamp(lowest, highest) - zero_point) * scale

    @staticmethod
    def backward(ctx, upstream: Tensor):
        """The upstream gradient inside the range, zero outside."""
        (inside,) = ctx.saved_tensors
        return upstream * inside, None, None, None, None


class LearnedStep(Function):
    """LearnedStep.apply(x, step, lowest, highest): clamp(round(x / step)) * step, with gradients for x and the step.

    x: FP32, any shape. step: FP32, of a shape that broadcasts over x: () for one step, (rows, 1) for one a row.
    lowest, highest: the first and the last code; an affine quantizer with zero point z has those of its codes minus z.
    x gets the upstream gradient where lowest < x / step < highest, the step what `lsq_gradient` says.
    """

    @staticmethod
    def forward(ctx, x: Tensor, step: Tensor, lowest: int, highest: int) -> Tensor:
        """Codes, clamped, and back."""
        ctx.save_for_backward(x, step)
        ctx.ends = lowest, highest
        return (x * (1 / step)).round_().clamp_(lowest, highest).mul_(step)

    @staticmethod
    def backward(ctx, upstream: Tensor):
        """The gradients of x and of the step."""
        x, step = ctx.saved_tensors
        return *_gradients(x, step, *ctx.ends, upstream), None, None


def lsq_gradient(x: Tensor, step: Tensor, lowest: int, highest: int, upstream: Tensor) -> Tensor:
    """Gradient of the loss for the step of `LearnedStep`, shaped like step, with LSQ's factor 1 / sqrt(N Qp).

    upstream: gradient of the loss for the quantized values, shaped like x. For v = x / step each value adds upstream
    times round(v) - v where lowest < v < highest, times lowest where v is not above it, times highest where v is not
    below it (equation 3). N: numbers of x that share a step. Qp: highest, or 1 if it is less. The factor makes the
    gradient of a step as large, beside the step, as that of a weight beside the weight (section 2.2).
    For inputs this N counts the whole batch, where the paper counts the numbers of one example: the gradient is smaller
    by the square root of the examples in the batch. An optimizer such as Adam divides that out again.
    """
    return _gradients(x, step, lowest, highest, upstream)[1]


def _gradients(x, step, lowest, highest, upstream) -> tuple[Tensor, Tensor]:
    """Gradients for x and for the step, in as few passes over x as the operations of torch allow."""
    v = x * (1 / step)
    codes = v.round().clamp_(lowest, highest)
    # dx = upstream where lowest < v < highest, else 0: what the backward pass of a clamp does
    passed = torch.ops.aten.hardtanh_backward(upstream, v, lowest, highest)
    # upstream (round(v) - v) inside, upstream lowest or upstream highest outside
    slopes = codes.mul_(upstream).addcmul_(v, passed, value=-1)
    shared = x.numel() // step.numel()
    return passed, slopes.sum_to_size(step.shape) * (shared * max(highest, 1)) ** -0.5


class QatLinear(nn.Linear):
    """A linear layer that computes with fake-quantized weights and, if asked, inputs: y = fq(x) fq(W)^T + b.

    linear: gives weight and bias, which are copied. weight_bits: signed symmetric codes. weight_step: FP32 (n_out,),
    one step an output channel. input_bits: unsigned codes of the input, with the step input_step and the zero point
    input_zero; None leaves the input as it is.
    The steps are learned by LSQ. What is kept and trained is the logarithm of a step (S. Jain and others, 2019,
    arXiv 1903.08066): a step stays positive, and an optimizer that moves every number by about its learning rate moves
    it by that share of its size, be it 8 bits wide or 2.
    """

    def __init__(
        self,
        linear: nn.Linear,
        weight_bits: int,
        weight_step: Tensor,
        input_bits: int | None = None,
        input_step: float = 1.0,
        input_zero: int = 0,
    ):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight_codes = affine.code_range(weight_bits, signed=True)
        self.input_codes = None if input_bits is None else affine.code_range(input_bits)
        if weight_step.shape != (linear.out_features,) or not (weight_step >= affine.SMALLEST_SCALE).all():
            raise ValueError(
                f"weight_step has the shape {tuple(weight_step.shape)}; a positive step is needed for "
                f"each of {linear.out_features} output channels."
            )
        self.weight = nn.Parameter(linear.weight.detach().clone())
        if linear.bias is not None:
            self.bias = nn.Parameter(linear.bias.detach().clone())
        self.log_weight_step = nn.Parameter(weight_step.detach().float()[:, None].log())
        if self.input_codes:
            if not self.input_codes[0] <= input_zero <= self.input_codes[1] or not input_step > 0:
                raise ValueError(
                    f"input_step {input_step} must be positive, and input_zero {input_zero} one of the "
                    f"codes {self.input_codes[0]} ... {self.input_codes[1]}."
                )
            self.input_zero = int(input_zero)
            self.log_input_step = nn.Parameter(torch.tensor(float(input_step)).log())

    def steps(self) -> tuple[Tensor, Tensor | None]:
        """The steps as they are now: FP32 (n_out, 1) of the weights; () of the inputs, or None."""
        return self.log_weight_step.exp(), self.log_input_step.exp() if self.input_codes else None

    def quantized_weight(self) -> Tensor:
        """The weights that the layer computes with: FP32 (n_out, n_in)."""
        return LearnedStep.apply(self.weight, self.steps()[0], *self.weight_codes)

    def quantized_input(self, x: Tensor) -> Tensor:
        """The input that the layer computes with: FP32, shaped like x."""
        if self.input_codes is None:
            return x
        lowest, highest = (end - self.input_zero for end in self.input_codes)
        return LearnedStep.apply(x.float(), self.steps()[1], lowest, highest)

    def forward(self, x: Tensor) -> Tensor:
        """x: FP32 (..., n_in), or what autocast makes of it. Returns (..., n_out)."""
        return functional.linear(self.quantized_input(x), self.quantized_weight(), self.bias)


def fold_batch_norm(linear: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    """One linear layer that computes what linear followed by norm computes in eval mode.

    W' = diag(g) W, b' = g (b - mean) + beta, with g = gamma / sqrt(variance + eps): section 3.2 of B. Jacob and others,
    2018, arXiv 1712.05877. A layer that will be folded must be folded before its weights are quantized.
    Raises ValueError when norm keeps no running statistics or has another number of channels.
    """
    if norm.running_var is None or norm.num_features != linear.out_features:
        raise ValueError(
            f"a norm over {linear.out_features} channels with running statistics is needed; this one has "
            f"{norm.num_features} and {'none' if norm.running_var is None else 'keeps them'}."
        )
    folded = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        gain = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        shift = 0 if norm.bias is None else norm.bias
        bias = 0 if linear.bias is None else linear.bias
        folded.weight.copy_(gain[:, None] * linear.weight)
        folded.bias.copy_(gain * (bias - norm.running_mean) + shift)
    return folded


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
        raise ValueError("the ranges of inputs come from data: give a batch, as topic_classifier.tokenize makes it.")
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
    """A copy of a prepared model whose `qat.QatLinear` layers are `IntegerLinear`. Raises ValueError as that does."""
    names = [name for name, layer in layers.linear_layers(model).items() if isinstance(layer, QatLinear)]
    if not names:
        raise ValueError("this model has no QatLinear to convert; make it with `prepare`.")
    return layers.replaced(model, names, lambda name, layer: IntegerLinear(layer))


class IntegerLinear(nn.Module):
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
        out = dynamic.rescaled(codes, rows, self.codes, self.scales, self.bias)
        return out.view(*x.shape[:-1], out.shape[-1])
