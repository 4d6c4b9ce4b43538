"""GPTQ: quantize a weight matrix column by column, and let the columns that are left make good the error.

A layer computes W x. Over inputs x with the mean S of x xᵀ, an error dW of the weights costs the mean of |dW x|², the
sum of (dW S) * dW. Every row of W pays for itself, and 2 S is its Hessian. When one weight of a row is rounded by an
amount e, the rest can be moved so that the cost is least again; the formula is that of the optimal brain surgeon.
Source: E. Frantar et al., GPTQ, 2022, arXiv 2210.17323, equations 2 and 3 and algorithm 1.
"""

import torch
from torch import Tensor

from lessons_lib.arithmetic import affine
from lessons_lib.four_bits import groupwise
from lessons_lib.four_bits.groupwise import GROUP, Grouped

DAMPING = 0.01  # share of the mean of S's diagonal that is added to it
BLOCK = 128  # columns after which the rest of the matrix is updated in one product


def inverse(second: Tensor, damping: float = DAMPING) -> Tensor:
    """The inverse of the damped second moment, FP64 (n, n).

    second: FP32 (n, n), symmetric, the mean of x xᵀ. damping * mean(diagonal) is added to the diagonal, so that inputs
    that never occur, or occur only together, leave it invertible. Raises ValueError when it is not, or no such matrix.
    """
    if second.ndim != 2 or second.shape[0] != second.shape[1] or not second.isfinite().all():
        raise ValueError(f"second has the shape {tuple(second.shape)}; a square matrix of finite numbers is needed.")
    if damping < 0:
        raise ValueError(f"damping is {damping}; it is a share of the mean diagonal, 0 or more.")
    second = second.double()
    strength = damping * second.diagonal().mean()
    factor, failed = torch.linalg.cholesky_ex(second + strength * torch.eye(len(second), dtype=torch.float64))
    if failed:
        raise ValueError(
            "The second moment cannot be inverted: too few inputs for as many columns. Use more inputs, "
            f"or a damping above {damping}."
        )
    return torch.cholesky_inverse(factor)


def gptq_column(weight: Tensor, h_inv: Tensor, scale: Tensor, zero_point: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Quantize the first column of what is left of a weight, and move the others so that the output changes least.

    weight: FP32 (rows, n), the columns not yet quantized. h_inv: (n, n), the inverse of the second moment of their
    inputs. scale, zero_point: (rows,), of the group that the column belongs to.
    Returns the column as it reads back, FP32 (rows,), and the updated others, FP32 (rows, n - 1).
    """
    column = weight[:, 0]
    quantized = affine.fake_quantize(column, scale, zero_point, bits, axis=0)
    # w_rest -= (w_0 - q_0) / h_inv[0, 0] * h_inv[0, rest]
    step = (column - quantized) / h_inv[0, 0].float()
    return quantized, weight[:, 1:] - torch.outer(step, h_inv[0, 1:].float())


def gptq(weight: Tensor, second: Tensor, bits: int, group_size: int = GROUP, damping: float = DAMPING) -> Grouped:
    """A weight matrix on few bits, its columns quantized one after the other as in `gptq_column`.

    weight: float (rows, n). second: FP32 (n, n), the mean of x xᵀ over inputs of the layer. A group's scale and zero
    point are set when its first column is reached, from the weights as they are by then.
    Removing a column from S changes the inverse; the rows of the upper Cholesky factor U of S⁻¹ hold what is needed of
    all these inverses at once: U[j, j:] / U[j, j] is the first row of the j-th, over its first entry.
    Returns what `groupwise.quantize_groups` returns. Raises ValueError when the shapes do not fit, and as that does.
    """
    groupwise.check_groups(weight, bits, group_size)
    rows, n = weight.shape
    if second.shape != (n, n):
        raise ValueError(f"second has the shape {tuple(second.shape)}; ({n}, {n}) is needed for {n} inputs.")
    upper = torch.linalg.cholesky(inverse(second, damping), upper=True)
    # Columns are rows here: each lies in one piece of memory.
    left, factor = weight.detach().float().t().contiguous(), (upper / upper.diagonal()[:, None]).float()
    codes = torch.empty(n, rows, dtype=torch.uint8)
    scales, zero_points = left.new_empty(n // group_size, rows), codes.new_empty(n // group_size, rows)
    step = max(group_size, BLOCK // group_size * group_size)
    for start in range(0, n, step):
        end = min(start + step, n)
        errors = left.new_empty(end - start, rows)
        for j in range(start, end):
            group = j // group_size
            if j % group_size == 0:
                scales[group], zero_points[group] = groupwise.group_qparams(left[j : j + group_size].t(), bits)
                scale, zero = scales[group], zero_points[group].float()
            # code = clamp(round(w / scale) + zero_point), as affine.quantize does it
            code = (left[j] * (1 / scale)).round_().add_(zero).clamp_(0, 2**bits - 1)
            codes[j] = code
            # w_k -= (w_j - q_j) * U[j, k] / U[j, j], within this block
            errors[j - start] = left[j] - (code - zero) * scale
            left[j + 1 : end].addr_(factor[j, j + 1 : end], errors[j - start], alpha=-1)
        # and the same for all columns behind the block
        left[end:].addmm_(factor[start:end, end:].t(), errors, alpha=-1)
    return Grouped(codes.t().contiguous(), scales.t().contiguous(), zero_points.t().contiguous())
