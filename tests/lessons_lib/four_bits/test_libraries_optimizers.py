"""8-bit AdamW ends near where AdamW ends, with a quarter of its state; paging is refused where there is no GPU."""

import pytest
import torch
from torch import nn

from lessons_lib.four_bits import libraries


def trained(make, n, steps):
    draw = torch.Generator().manual_seed(0)
    target, parameter = torch.randn(n, generator=draw), nn.Parameter(torch.zeros(n))
    optimizer = make([parameter])
    for _ in range(steps):
        (0.5 * (parameter - target).square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (parameter - target).square().mean().item(), optimizer


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (20_000, 2 * (20_000 + 4 * 79)),  # codes, and a scale for each of 79 blocks, twice
        (4_096, 2 * (4_096 + 4 * 16)),
        (4_095, 8 * 4_095),  # below 4,096 numbers as AdamW
    ],
)
def test_state_takes_two_bytes_a_number_and_scales(n, expected):
    _, optimizer = trained(lambda found: libraries.adamw_8bit(found, lr=0.01), n, 1)
    assert libraries.state_bytes(optimizer) == expected


def test_state_of_adamw_takes_eight_bytes_a_number():
    _, optimizer = trained(lambda found: torch.optim.AdamW(found, lr=0.01), 5_000, 1)
    assert libraries.state_bytes(optimizer) == 8 * 5_000


def test_it_learns_as_adamw_does():
    start, _ = trained(lambda found: torch.optim.SGD(found, lr=0.0), 20_000, 1)
    (small, _), (plain, _) = (
        trained(lambda found, make=make: make(found, lr=0.05), 20_000, 60)
        for make in (libraries.adamw_8bit, torch.optim.AdamW)
    )
    assert plain < 0.2 * start
    assert small < 1.3 * plain


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to page from")
def test_paging_is_refused_without_a_gpu():
    with pytest.raises(RuntimeError, match="Paging moves optimizer state between a GPU .* there is no CUDA GPU here"):
        libraries.adamw_8bit([nn.Parameter(torch.zeros(5))], lr=0.1, paged=True)
