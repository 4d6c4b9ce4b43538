"""The cache keeps each row's own tokens, shows nothing else, and takes the bytes that were counted."""

import pytest
import torch

from lessons_lib.inference.kv_cache import KVCache, cache_bytes


def step(cache, counts, width, fill):
    """A step whose keys are `fill` plus the column, and the values minus that; padding is NaN."""
    numbers = (fill + torch.arange(width).float()).expand(len(counts), width).clone()
    numbers[torch.arange(width) >= torch.tensor(counts)[:, None]] = torch.nan
    new = numbers[:, None, :, None].expand(-1, cache.keys.shape[2], -1, cache.keys.shape[4])
    slots = cache.reserve(torch.tensor(counts), width)
    return slots, *cache.put(0, new, -new, slots)


def test_every_row_is_written_where_it_ends():
    cache = KVCache(1, 3, 2, 6, 4)
    step(cache, [2, 0, 3], 3, 10)
    slots, keys, values = step(cache, [1, 2, 1], 2, 20)
    assert cache.lengths.tolist() == [3, 2, 4]
    assert slots.longest == keys.shape[2] == 4
    assert keys[:, 0, :, 0].tolist() == [[10, 11, 20, 0], [20, 21, 0, 0], [10, 11, 12, 20]]
    assert torch.equal(values, -keys)
    assert keys.isfinite().all()  # padding was not written
    assert keys.data_ptr() == cache.keys.data_ptr()


def test_the_mask_shows_a_token_its_own_row_up_to_itself():
    cache = KVCache(1, 2, 1, 6, 4)
    step(cache, [3, 1], 3, 0)
    slots, *_ = step(cache, [2, 2], 2, 0)
    assert slots.positions.tolist() == [[3, 4], [1, 2]]
    assert slots.mask[:, 0].int().tolist() == [[[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]]


def test_rows_that_go_in_step_are_written_as_one_slice_and_a_single_token_needs_no_mask():
    cache = KVCache(1, 2, 1, 6, 4)
    slots, *_ = step(cache, [3, 3], 3, 10)
    assert slots.rows is None
    assert slots.mask[:, 0].int().tolist() == [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]] * 2
    slots, keys, _ = step(cache, [1, 1], 1, 50)
    assert slots.rows is None
    assert slots.mask is None
    assert keys[:, 0, :, 0].tolist() == [[10, 11, 12, 50]] * 2
    slots, keys, _ = step(cache, [1, 0], 1, 70)  # equally long before, not in step
    assert slots.mask[:, 0, 0].int().tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert keys[:, 0, :, 0].tolist() == [[10, 11, 12, 50, 70], [10, 11, 12, 50, 0]]


def test_a_row_can_be_set_back_alone():
    cache = KVCache(1, 2, 1, 6, 4)
    step(cache, [4, 4], 4, 10)
    cache.rewind(torch.tensor([1, 4]))
    _, keys, _ = step(cache, [2, 1], 2, 50)
    assert keys[0, 0, :3, 0].tolist() == [10, 50, 51]
    assert keys[1, 0, :5, 0].tolist() == [10, 11, 12, 13, 50]
    for lengths in ([4, 5], [3, 6], [-1, 0]):
        with pytest.raises(ValueError, match="go back"):
            cache.rewind(torch.tensor(lengths))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_counted_are_bytes_taken(dtype):
    cache = KVCache(3, 2, 4, 10, 8, dtype)
    assert cache.nbytes == cache_bytes(3, 4, 8, 2, 10, dtype) == 2 * 3 * 4 * 8 * 2 * 10 * dtype.itemsize
    assert cache.capacity == 10
    assert cache_bytes(3, 4, 8, 2, 0, dtype) == 0


def test_bad_input_is_refused():
    cache = KVCache(1, 2, 1, 4, 4)
    with pytest.raises(ValueError, match="make the cache larger"):
        cache.reserve(torch.tensor([5, 1]), 5)
    with pytest.raises(ValueError, match="room for 4"):
        cache.reserve(torch.tensor([3, 1]), 2)
    for counts in (torch.tensor([1.0, 1.0]), torch.tensor([1]), torch.tensor([-1, 1])):
        with pytest.raises(ValueError, match="counts must be int64"):
            cache.reserve(counts, 2)
    assert cache.lengths.tolist() == [0, 0]
    with pytest.raises(ValueError, match="batch must be a whole number of at least 1"):
        KVCache(1, 0, 1, 4, 4)
    with pytest.raises(ValueError, match="length must be a whole number of at least 0"):
        cache_bytes(1, 1, 1, 1, -1, torch.float32)
