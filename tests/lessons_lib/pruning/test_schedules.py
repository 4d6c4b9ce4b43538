"""Masks hold through training with momentum and weight decay; without `held` they do not. Schedules and input norms."""

import pytest
import torch
from torch import nn

from lessons_lib.pruning import schedules, unstructured
from lessons_lib.training import loop

OPTIMIZERS = {
    "SGD with momentum": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Nesterov": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.01, weight_decay=0.1),
    "AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1),
    "fused AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1, fused=True),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3))


def step(model, optimizer, seed):
    draw = torch.Generator().manual_seed(seed)
    inputs, target = torch.randn(20, 12, generator=draw), torch.randint(0, 3, (20,), generator=draw)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), target).backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_stay_zero_with_momentum_and_weight_decay(name):
    model = network()
    optimizer, weights = OPTIMIZERS[name](model.parameters()), schedules.linear_weights(model)
    for seed in range(5):
        step(model, optimizer, seed)  # momentum is under way when weights go
    masks = unstructured.global_masks(weights, 0.6)
    with schedules.held(weights, masks):
        for seed in range(5, 15):
            before = model[0].weight.detach().clone()
            step(model, optimizer, seed)
            assert all((weights[key] == 0).equal(~mask) for key, mask in masks.items())
            assert not torch.equal(model[0].weight, before)  # the others train
    step(model, optimizer, 15)
    assert unstructured.sparsity(weights) < 0.1  # let go, they move again


def test_stopping_the_gradients_is_not_enough():
    model = network()
    optimizer, weights = OPTIMIZERS["SGD with momentum"](model.parameters()), schedules.linear_weights(model)
    step(model, optimizer, 0)
    masks = unstructured.global_masks(weights, 0.6)
    schedules.apply_masks(weights, masks)
    for key, mask in masks.items():
        weights[key].register_hook(lambda grad, mask=mask: grad * mask)
    step(model, optimizer, 1)
    assert unstructured.sparsity(weights) < 0.1


def loss(model, batch):
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


def test_zeros_hold_in_the_courses_training_loop_and_only_with_held():
    draw = torch.Generator().manual_seed(0)
    data = {"x": torch.randn(64, 12, generator=draw), "y": torch.randn(64, 3, generator=draw)}
    found = []
    for keep in (True, False):
        model = network()
        weights = schedules.linear_weights(model)
        masks = unstructured.global_masks(weights, 0.75)
        with schedules.held(weights, masks if keep else {}):
            schedules.apply_masks(weights, masks)
            loop.train(model, data, loss, steps=8, batch_size=16, lr=1e-2, seed=0, progress=False)
        found.append(unstructured.sparsity(weights))
    assert found == [0.75, 0.0]


def test_masks_of_later_rounds_hold_the_zeros_of_earlier_ones():
    model = network()
    weights, total, gone = schedules.linear_weights(model), 12 * 16 + 16 * 3, None
    for number in range(1, 5):
        share = schedules.cubic_schedule(number, 0, 4, 0.8)
        with schedules.held(weights, unstructured.global_masks(weights, share)):
            optimizer = OPTIMIZERS["AdamW"](model.parameters())
            for seed in range(3):
                step(model, optimizer, seed)
        zero = torch.cat([(weight == 0).flatten() for weight in weights.values()])
        assert int(zero.sum()) == round(share * total)
        assert gone is None or bool((zero | ~gone).all())
        gone = zero
    assert int(gone.sum()) == round(0.8 * total)


def test_the_hook_is_removed_when_the_block_fails():
    model = network()
    weights = schedules.linear_weights(model)
    with pytest.raises(KeyError), schedules.held(weights, unstructured.global_masks(weights, 0.5)):
        raise KeyError
    step(model, OPTIMIZERS["AdamW"](model.parameters()), 0)
    assert unstructured.sparsity(weights) < 0.1


def test_the_cubic_schedule_is_that_of_the_paper():
    found = [schedules.cubic_schedule(step, 10, 50, 0.9, 0.1) for step in (0, 10, 30, 50, 99)]
    assert found == pytest.approx([0.1, 0.1, 0.9 - 0.8 / 8, 0.9, 0.9])
    growth = torch.tensor([schedules.cubic_schedule(step, 0, 40, 0.9) for step in range(41)]).diff()
    assert (growth > 0).all() and (growth.diff() < 1e-6).all()  # fast at first, then slower


@pytest.mark.parametrize(
    ("begin", "end", "final", "said"),
    [(5, 5, 0.5, "0 <= begin < end"), (-1, 5, 0.5, "0 <= begin < end"), (0, 5, 1.5, "from 0 to 1")],
)
def test_a_schedule_that_makes_no_sense_is_refused(begin, end, final, said):
    with pytest.raises(ValueError, match=said):
        schedules.cubic_schedule(3, begin, end, final)


def test_linear_weights_are_the_matrices_of_linear_layers_alone():
    model = nn.ModuleDict(
        {"embed": nn.Embedding(5, 4), "norm": nn.LayerNorm(4), "feed": nn.Linear(4, 4), "head": nn.Linear(4, 2)}
    )
    assert list(schedules.linear_weights(model)) == ["feed.weight"]
    assert list(schedules.linear_weights(model, without=())) == ["feed.weight", "head.weight"]
    with pytest.raises(ValueError, match="no linear layer"):
        schedules.linear_weights(nn.LayerNorm(3))


def test_masks_of_other_weights_are_refused():
    weights = schedules.linear_weights(network())
    with pytest.raises(ValueError, match="fits no weight"):
        schedules.apply_masks(weights, {"0.weight": torch.ones(3, 3).bool()})
    with pytest.raises(ValueError, match="fits no weight"):
        schedules.apply_masks(weights, {"7.weight": torch.ones(16, 12).bool()})


def test_input_norms_are_those_of_the_inputs_over_all_calls():
    model = network()
    weights = schedules.linear_weights(model)
    batches = [torch.randn(2, 5, 12), torch.randn(1, 3, 12)]
    norms = schedules.input_norms(model, weights, [lambda batch=batch: model(batch) for batch in batches])
    inputs = torch.cat([batch.flatten(0, 1) for batch in batches])
    assert torch.allclose(norms["0.weight"], inputs.norm(dim=0))
    assert torch.allclose(norms["2.weight"], model[1](model[0](inputs)).norm(dim=0).detach(), rtol=1e-5)
    with pytest.raises(ValueError, match="no call ran the layer '0.weight'"):
        schedules.input_norms(model, weights, [])
    assert not model[0]._forward_pre_hooks
