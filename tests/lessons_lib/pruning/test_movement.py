"""Movement scores against their formula, step by step; masks that close, reopen and last; not the choice by size."""

import pytest
import torch
from torch import nn

from lessons_lib.pruning import movement, schedules, unstructured
from lessons_lib.training import loop


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def data():
    draw = torch.Generator().manual_seed(1)
    return {"x": torch.randn(64, 6, generator=draw), "y": torch.randn(64, 3, generator=draw)}


def loss(model, batch):
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


def names(model):
    return schedules.linear_weights(model, without=())


def masked(model, at):
    return model[at].parametrizations.weight


def test_scores_are_the_formula():
    scores = movement.movement_scores(
        [torch.tensor([0.5, 0.5]), torch.tensor([0.4, 0.6])], [torch.tensor([1.0, -1.0])] * 2
    )
    assert torch.allclose(scores, torch.tensor([-0.9, 1.1]))  # towards zero: low; away from it: high


def test_scores_trained_by_gradient_descent_are_those_of_the_lists():
    """Plain SGD, four steps, half of the weights masked from the second on: the gradient is that by W · M."""
    model, batch = network(), data()
    weights, grads = [], []
    with movement.pruned_while_training(model, names(model), "movement", lambda step: 0.5 if step >= 1 else 0.0):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            first = masked(model, 0)
            weights.append(first.original.detach().clone())
            seen = (first.original * first[0].mask).detach().requires_grad_()  # what the layer sees
            hidden = torch.tanh(batch["x"] @ seen.t() + model[0].bias.detach())
            nn.functional.mse_loss(
                hidden @ model[2].weight.detach().t() + model[2].bias.detach(), batch["y"]
            ).backward()
            grads.append(seen.grad)
            optimizer.zero_grad()
            loss(model, batch).backward()
            assert torch.allclose(first.original.grad, seen.grad * first[0].mask, atol=1e-6)
            optimizer.step()
        expected = 0.1 * movement.movement_scores(weights, grads)  # the scores follow at the optimizer's rate
        assert torch.allclose(masked(model, 0)[0].scores, expected, atol=1e-6)
        assert (expected[~masked(model, 0)[0].mask] != 0).any()


def test_a_weight_that_is_masked_can_come_back():
    model = network()
    seen = []
    with movement.pruned_while_training(model, names(model), "movement", lambda step: 0.5):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(30):
            optimizer.zero_grad()
            loss(model, {name: rows[2 * step : 2 * step + 2] for name, rows in data().items()}).backward()
            optimizer.step()
            seen.append(masked(model, 0)[0].mask.clone())
    assert any((~before & after).any() for before, after in zip(seen, seen[1:], strict=False))
    assert all(int((~mask).sum()) == 24 for mask in seen)


@pytest.mark.parametrize("way", movement.WAYS)
def test_the_zeros_are_exact_in_every_layer_and_last(way):
    model = network()
    with movement.pruned_while_training(model, names(model), way, lambda step: min(step / 8, 0.75), every=2):
        loop.train(model, data(), loss, steps=8, batch_size=16, lr=1e-2, seed=0, progress=False)
    weights = schedules.linear_weights(model, without=())
    assert [int((weight == 0).sum()) for weight in weights.values()] == [36, 18]
    assert set(dict(model.named_parameters())) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert model[0].weight.requires_grad
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # and nothing is chosen any more
    loss(model, data()).backward()
    optimizer.step()
    assert unstructured.sparsity(weights) < 0.3  # units without a way out have no gradient


def test_magnitude_and_movement_close_different_weights():
    left = {}
    for way in movement.WAYS:
        model = network()
        start = model[0].weight.detach().clone()
        with movement.pruned_while_training(model, names(model), way, lambda step: 0.5):
            loop.train(model, data(), loss, steps=8, batch_size=16, lr=1e-3, seed=0, progress=False)
        left[way] = model[0].weight.detach() != 0
        small = start.abs() < start.abs().median()
        share = (~left[way] & small).sum() / 24
        assert share > 0.95 if way == "magnitude" else share < 0.9  # small steps: size is decided at the start
    assert not left["magnitude"].equal(left["movement"])


def test_without_sparsity_nothing_changes():
    trained = []
    for pruned in (False, True):
        model = network()
        with movement.pruned_while_training(model, names(model) if pruned else {}, "movement", lambda step: 0.0):
            loop.train(model, data(), loss, steps=4, batch_size=16, lr=1e-2, seed=0, progress=False)
        trained.append(model[0].weight.detach())
    assert torch.allclose(*trained, atol=1e-6)


def test_after_an_error_the_model_is_a_plain_one_again():
    model = network()
    with pytest.raises(KeyError), movement.pruned_while_training(model, names(model), "movement", lambda step: 0.5):
        raise KeyError
    assert not torch.nn.utils.parametrize.is_parametrized(model)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="go by magnitude or movement, not by 'luck'"):
        movement.Masked(torch.zeros(2), "luck")
    for weights, grads in (([], []), ([torch.zeros(2)], []), ([torch.zeros(2)], [torch.zeros(3)])):
        with pytest.raises(ValueError, match="one gradient for each of at least one step's weights"):
            movement.movement_scores(weights, grads)
