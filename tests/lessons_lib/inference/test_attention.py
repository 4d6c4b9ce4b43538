"""Three ways to attend, one result: against float64 and torch, for any block size, with masks and shared heads."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.inference import attention
from lessons_lib.measure import memory


def drawn(seed, *shape, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exact(query, keys, values, mask=None):
    """By the formula in float64, head by head."""
    shared = query.shape[1] // keys.shape[1]
    out = torch.empty(query.shape, dtype=torch.float64)
    for b in range(query.shape[0]):
        for h in range(query.shape[1]):
            scores = query[b, h].double() @ keys[b, h // shared].double().T / query.shape[-1] ** 0.5
            if mask is not None:
                scores[~mask.expand(query.shape[0], 1, *scores.shape)[b, 0]] = -torch.inf
            out[b, h] = scores.softmax(-1) @ values[b, h // shared].double()
    return out.float()


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_naive_is_the_formula_with_shared_heads_and_a_mask(kv_heads):
    query, keys, values = drawn(0, 2, 6, 5, 8), drawn(1, 2, kv_heads, 7, 8), drawn(2, 2, kv_heads, 7, 8)
    mask = drawn(3, 2, 1, 5, 7) > 0
    mask[..., 2] = True
    for used in (None, mask):
        assert torch.allclose(attention.naive(query, keys, values, used), exact(query, keys, values, used), atol=1e-6)
    grouped = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)
    assert torch.allclose(attention.naive(query, keys, values, mask), grouped, atol=1e-6)


def test_naive_leaves_its_inputs_alone_and_keeps_their_dtype():
    tensors = [drawn(seed, 1, 2, 4, 8).bfloat16() for seed in range(3)]
    before = [tensor.clone() for tensor in tensors]
    mixed = attention.naive(*tensors, torch.ones(1, 1, 4, 4, dtype=torch.bool).tril())
    assert mixed.dtype == torch.bfloat16
    assert all(map(torch.equal, tensors, before))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.sampled_from([0.1, 5.0, 100.0]), st.integers(0, 10**6))
def test_online_softmax_is_softmax_for_any_blocks(sizes, scale, seed):
    scores, values = drawn(seed, 4, sum(sizes), scale=scale), drawn(seed + 1, sum(sizes), 3)
    scores[0, : sizes[0]] = -torch.inf  # a whole block that a row may not see, unless it is the only one
    if len(sizes) == 1:
        scores[0, 0] = 1.0
    scores[1, -1] = -torch.inf if scores.shape[1] > 1 else 0.0
    blocks = iter(zip(scores.split(sizes, dim=1), values.split(sizes), strict=True))
    maximum, total, output = attention.online_softmax(blocks)
    wide = scores.double()
    assert torch.equal(maximum, scores.amax(1))
    assert torch.allclose(total.double(), (wide - wide.amax(1, keepdim=True)).exp().sum(1), rtol=1e-5)
    assert (output - (wide.softmax(1) @ values.double())).abs().max() <= 1e-5 * values.abs().max()


def test_online_softmax_does_not_overflow_and_says_nan_where_softmax_does():
    scores = torch.tensor([[1000.0, 0.0, 1001.0], [-torch.inf] * 3])
    blocks = zip(scores.split([1, 2], dim=1), torch.eye(3).split([1, 2]), strict=True)
    maximum, total, output = attention.online_softmax(blocks)
    assert torch.allclose(output[0], scores[0].softmax(0))
    assert output[1].isnan().all()
    assert maximum[1] == -torch.inf
    assert total[1] == 0
    with pytest.raises(ValueError, match="at least one block"):
        attention.online_softmax([])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 45), st.booleans(), st.integers(0, 10**6))
def test_blockwise_equals_naive_and_torch_for_any_block_size(length, block, causal, seed):
    query, keys, values = (drawn(seed + place, 2, 3, length, 4, scale=2.0) for place in range(3))
    mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril() if causal else None
    blocked = attention.blockwise(query, keys, values, causal, block)
    assert torch.allclose(blocked, attention.naive(query, keys, values, mask), atol=1e-5)
    assert torch.allclose(blocked, attention.fused(query, keys, values, causal), atol=1e-5)


def test_blockwise_reads_other_numbers_of_keys_than_queries():
    query, keys, values = drawn(0, 1, 2, 5, 4), drawn(1, 1, 2, 11, 4), drawn(2, 1, 2, 11, 4)
    assert torch.allclose(attention.blockwise(query, keys, values, block=3), exact(query, keys, values), atol=1e-6)


def test_blocks_in_the_future_are_never_computed():
    query, keys, values = (drawn(seed, 1, 1, 12, 4) for seed in range(3))
    keys[:, :, 8:], values[:, :, 8:] = torch.nan, torch.nan
    assert attention.blockwise(query, keys, values, causal=True, block=4)[:, :, :8].isfinite().all()


def test_blockwise_needs_less_memory_than_the_table_of_scores():
    query, keys, values = (drawn(seed, 1, 4, 2048, 16) for seed in range(3))
    counted = attention.score_bytes(1, 4, 2048)
    attention.blockwise(query[:, :, :256], keys[:, :, :256], values[:, :, :256], block=128)
    assert memory.peak_memory(lambda: attention.blockwise(query, keys, values, block=128)) < counted / 2
    assert memory.peak_memory(lambda: attention.naive(query, keys, values)) > counted


def test_bad_input_is_refused():
    good = drawn(0, 1, 4, 3, 8)
    with pytest.raises(ValueError, match="K dividing H"):
        attention.naive(good, good[:, :3], good[:, :3])
    with pytest.raises(ValueError, match="K dividing H"):
        attention.naive(good, good[..., :4], good[..., :4])
    for mask in (torch.ones(good.shape[2], good.shape[2], dtype=torch.bool), torch.ones(1, 1, 1, 1)):
        with pytest.raises(ValueError, match="mask must be bool"):
            attention.naive(good, good, good, mask)
    with pytest.raises(ValueError, match="as many heads"):
        attention.blockwise(good, good[:, :2], good[:, :2])
    with pytest.raises(ValueError, match="as many positions"):
        attention.blockwise(good, good[:, :, :2], good[:, :, :2], causal=True)
    with pytest.raises(ValueError, match="whole number of at least 1"):
        attention.blockwise(good, good, good, block=0)
