"""Where zeros could save bytes: two ways to store a sparse matrix, what each costs with its indices, and both written.

Compressed sparse rows (CSR) keep the values that are not zero, the column of each, and where each row begins. A bitmask
keeps the values and one bit for every place.
"""

import math

import torch
from torch import Tensor

INDEX_DTYPES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BITS = tuple(1 << place for place in range(8))


def _check(weight: Tensor, index_bytes: int = 4) -> None:
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.numel():
        raise ValueError("weight must be a matrix with at least one row and one column.")
    if index_bytes not in INDEX_DTYPES:
        raise ValueError(f"index_bytes is one of {', '.join(map(str, INDEX_DTYPES))}, not {index_bytes!r}.")
    if weight.shape[1] - 1 > torch.iinfo(INDEX_DTYPES[index_bytes]).max:
        raise ValueError(f"{weight.shape[1]} columns cannot be told apart by {index_bytes}-byte indices; take more.")


def csr_bytes(weight: Tensor, index_bytes: int = 4) -> int:
    """Bytes of a matrix (R, C) as CSR: values and columns of what is not zero, and R + 1 row starts of 4 bytes.

    index_bytes: of one column index. ValueError when they cannot count the columns.
    """
    _check(weight, index_bytes)
    nonzeros = int(weight.count_nonzero())
    return nonzeros * (weight.element_size() + index_bytes) + 4 * (len(weight) + 1)


def break_even(rows: int, columns: int, value_bytes: int, index_bytes: int | None = 4) -> float:
    """The sparsity of a matrix from which storing it sparsely takes fewer bytes than storing all its values.

    index_bytes: of a column index of CSR; None for the bitmask. 1.0 means that it never pays.
    """
    if min(rows, columns, value_bytes) < 1 or (index_bytes is not None and index_bytes not in INDEX_DTYPES):
        raise ValueError("rows, columns and value_bytes count from 1, index_bytes is 1, 2, 4, 8 or None for a bitmask.")
    places = rows * columns
    fixed, each = (4 * (rows + 1), value_bytes + index_bytes) if index_bytes else (math.ceil(places / 8), value_bytes)
    # (1 - s) n (value + index) + fixed = n value, solved for s
    return min(1.0, max(0.0, 1 - (places * value_bytes - fixed) / (places * each)))


def to_csr(weight: Tensor, index_bytes: int = 4) -> dict[str, Tensor]:
    """The tensors of CSR: values (kept,), columns (kept,), starts int32 (R + 1,). A file of them has `csr_bytes`."""
    _check(weight, index_bytes)
    rows, columns = weight.nonzero(as_tuple=True)
    starts = torch.zeros(len(weight) + 1, dtype=torch.int32)
    starts[1:] = rows.bincount(minlength=len(weight)).cumsum(0)
    return {"values": weight[rows, columns], "columns": columns.to(INDEX_DTYPES[index_bytes]), "starts": starts}


def to_bitmask(weight: Tensor) -> dict[str, Tensor]:
    """Values (kept,) in the order of the rows, and bits uint8: place i of the matrix is bit i % 8 of byte i // 8."""
    _check(weight)
    mask = (weight != 0).flatten()
    places = torch.nn.functional.pad(mask, (0, -mask.numel() % 8)).view(-1, 8)
    return {"values": weight.flatten()[mask], "bits": (places * torch.tensor(_BITS)).sum(dim=1).to(torch.uint8)}
