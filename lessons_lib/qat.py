"""Quantization-aware training: the model trains on the values that its codes will stand for.

Forward, a tensor goes to codes and back (`affine.fake_quantize`). Backward, rounding counts as if it were not there:
the straight-through estimator (Y. Bengio, N. Léonard, A. Courville, 2013, arXiv 1308.3432). The step between two codes
can be learned as well: LSQ, S. Esser and others, "Learned Step Size Quantization", 2020, arXiv 1902.08153.

Both functions here let a gradient through where v = x / step (plus the zero point, if there is one) lies strictly
between the lowest and the highest code, as equations 3 and 5 of LSQ do. torch's own fake quantization asks for the
rounded v instead, so there it passes for half a step more at either end.
"""

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from lessons_lib import affine


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
