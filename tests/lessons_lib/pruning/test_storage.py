"""Sparse storage: the counted bytes are those of the tensors and of the file, and what comes back is the matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lessons_lib.measure import model_size
from lessons_lib.pruning import storage, unstructured


def from_csr(stored: dict[str, Tensor], columns: int) -> Tensor:
    """The matrix (R, columns) that `to_csr` stored."""
    counts = stored["starts"].diff().long()
    weight = stored["values"].new_zeros(len(counts), columns)
    weight[torch.arange(len(counts)).repeat_interleave(counts), stored["columns"].long()] = stored["values"]
    return weight


def from_bitmask(stored: dict[str, Tensor], rows: int, columns: int) -> Tensor:
    """The matrix (rows, columns) that `to_bitmask` stored."""
    mask = (stored["bits"][:, None] & torch.tensor(storage._BITS, dtype=torch.uint8)).bool().flatten()[: rows * columns]
    weight = stored["values"].new_zeros(rows * columns)
    weight[mask] = stored["values"]
    return weight.view(rows, columns)


def pruned(rows, columns, sparsity, dtype=torch.float32, seed=0):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return weight * unstructured.magnitude_mask(weight, sparsity)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.sampled_from([torch.float32, torch.bfloat16]))
def test_both_ways_bring_the_matrix_back_and_hold_the_counted_bytes(rows, columns, sparsity, dtype):
    weight = pruned(rows, columns, sparsity, dtype)
    for index_bytes in storage.INDEX_DTYPES:
        stored = storage.to_csr(weight, index_bytes)
        assert model_size.state_bytes(stored) == storage.csr_bytes(weight, index_bytes)
        assert torch.equal(from_csr(stored, columns), weight)
    stored = storage.to_bitmask(weight)
    assert model_size.state_bytes(stored) == int(weight.count_nonzero()) * weight.element_size() + -(
        -weight.numel() // 8
    )
    assert torch.equal(from_bitmask(stored, rows, columns), weight)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_csr_is_that_of_torch():
    weight = pruned(30, 50, 0.8)
    stored, theirs = storage.to_csr(weight), weight.to_sparse_csr()
    assert torch.equal(stored["values"], theirs.values())
    assert torch.equal(stored["columns"].long(), theirs.col_indices())
    assert torch.equal(stored["starts"].long(), theirs.crow_indices())


@pytest.mark.parametrize("index_bytes", [2, 4, 8, None])
def test_from_the_break_even_on_the_file_is_smaller(index_bytes):
    rows, columns = 200, 300
    edge = storage.break_even(rows, columns, 4, index_bytes)
    sizes = {}
    for side in (-0.01, 0.01):
        weight = pruned(rows, columns, edge + side)
        stored = storage.to_bitmask(weight) if index_bytes is None else storage.to_csr(weight, index_bytes)
        sizes[side] = model_size.size_on_disk(stored) / model_size.size_on_disk(weight)
    assert sizes[-0.01] > 1 > sizes[0.01], sizes


def test_the_break_even_by_hand():
    assert storage.break_even(1000, 1000, 4, 4) == pytest.approx(0.5 + 1001 * 4 / 8e6)
    assert storage.break_even(1000, 1000, 4, None) == pytest.approx(1 / 32)
    assert storage.break_even(1000, 1000, 1, None) == pytest.approx(1 / 8)
    assert storage.break_even(1, 1, 1, 8) == 1.0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="300 columns cannot be told apart by 1-byte indices"):
        storage.csr_bytes(torch.ones(2, 300), 1)
    with pytest.raises(ValueError, match="index_bytes is one of 1, 2, 4, 8"):
        storage.csr_bytes(torch.ones(2, 3), 3)
    with pytest.raises(ValueError, match="a matrix"):
        storage.to_bitmask(torch.ones(3))
    with pytest.raises(ValueError, match="count from 1"):
        storage.break_even(0, 4, 4)
