"""Masks: exact to the last weight, ties included, and the same as torch.nn.utils.prune where it does the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from lessons_lib.pruning import unstructured


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_sorting(weight, count):
    """The mask by a stable sort of Python numbers: smallest first, of equal ones the lowest index."""
    flat = weight.flatten().tolist()
    gone = set(sorted(range(len(flat)), key=lambda place: (abs(flat[place]), place))[:count])
    return torch.tensor([place not in gone for place in range(len(flat))]).view(weight.shape)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.floats(0, 1))
def test_exactly_the_asked_number_goes_and_ties_go_by_lowest_index(values, sparsity):
    weight = torch.tensor(values, dtype=torch.float32)
    mask = unstructured.magnitude_mask(weight, sparsity)
    count = round(sparsity * len(values))
    assert int((~mask).sum()) == count
    assert torch.equal(mask, by_sorting(weight, count))


@pytest.mark.parametrize("sparsity", [0.0, 1 / 3, 0.5, 0.999, 1.0])
def test_a_constant_tensor_loses_its_first_weights(sparsity):
    mask = unstructured.magnitude_mask(torch.full((20, 50), -0.25), sparsity)
    assert mask.flatten().tolist() == [place >= round(1000 * sparsity) for place in range(1000)]


def test_more_weights_than_quantile_takes_are_cut_to_the_last_one():
    weight = draw(1 << 24 | 1)
    with pytest.raises(RuntimeError, match="too large"):
        weight.abs().quantile(0.7)
    weight = (weight * 64).round() / 64  # some hundred values: tens of thousands of ties
    mask = unstructured.magnitude_mask(weight, 0.7)
    assert int((~mask).sum()) == round(0.7 * len(weight))
    assert weight[mask].abs().min() >= weight[~mask].abs().max()
    edge = (weight.abs() == weight[~mask].abs().max()).nonzero().flatten()
    assert mask[edge].diff().sum() == 1  # gone, gone, ..., kept, kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_floating_point_type_is_cut_exactly(dtype):
    weight = draw(37, 11).to(dtype)
    mask = unstructured.magnitude_mask(weight, 0.6)
    assert torch.equal(mask, by_sorting(weight, round(0.6 * weight.numel())))


def test_strides_do_not_matter():
    weight = draw(30, 41)
    assert torch.equal(
        unstructured.magnitude_mask(weight.t().contiguous().t(), 0.5), unstructured.magnitude_mask(weight, 0.5)
    )


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.93])
def test_local_and_global_masks_are_those_of_torch(sparsity):
    model = nn.Sequential(nn.Linear(31, 17), nn.Linear(17, 23))
    weights = {name: model.get_parameter(name).detach().clone() for name in ("0.weight", "1.weight")}
    for layer in model:
        prune.l1_unstructured(layer, "weight", amount=sparsity)
    for name, mask in unstructured.local_masks(weights, sparsity).items():
        assert torch.equal(mask, model.get_submodule(name[0]).weight_mask.bool())
    model = nn.Sequential(nn.Linear(31, 17), nn.Linear(17, 23))
    weights = {name: model.get_parameter(name).detach().clone() for name in ("0.weight", "1.weight")}
    pairs = [(layer, "weight") for layer in model]
    prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=sparsity)
    for name, mask in unstructured.global_masks(weights, sparsity).items():
        assert torch.equal(mask, model.get_submodule(name[0]).weight_mask.bool())


def test_global_masks_share_one_threshold_and_count_all_weights_together():
    weights = {"large": 10 * draw(40, 10), "small": draw(60, 5, seed=1)}
    masks = unstructured.global_masks(weights, 0.37)
    gone = {name: weights[name][~mask].abs() for name, mask in masks.items()}
    assert sum(map(len, gone.values())) == round(0.37 * 700)
    assert len(gone["small"]) / 300 > 2 * len(gone["large"]) / 400
    least = min(weights[name][mask].abs().min() for name, mask in masks.items())
    assert least >= max(part.max() for part in gone.values() if len(part))
    shares = [(~mask).float().mean() for mask in unstructured.local_masks(weights, 0.37).values()]
    assert shares == pytest.approx([0.37, 0.37])


def test_global_ties_go_in_the_order_of_the_dict():
    masks = unstructured.global_masks({"b": torch.ones(4), "a": -torch.ones(2, 3)}, 0.5)
    assert masks["b"].tolist() == [False] * 4
    assert masks["a"].tolist() == [[False, True, True], [True, True, True]]


def test_each_type_of_layer_has_its_own_share():
    weights = {"0.attention": draw(10, 10), "0.feed": draw(10, 30), "1.attention": 3 * draw(10, 10), "1.feed": draw(90)}
    masks = unstructured.type_masks(weights, {"feed": 0.8, "attention": 0.25})
    assert list(masks) == list(weights)
    assert sum(int((~masks[name]).sum()) for name in ("0.attention", "1.attention")) == 50
    assert sum(int((~masks[name]).sum()) for name in ("0.feed", "1.feed")) == round(0.8 * 390)
    assert (~masks["0.attention"]).sum() > (~masks["1.attention"]).sum()  # global within a type


def test_the_first_word_that_a_name_holds_decides():
    weights = {"attention.output": draw(10, 10), "output": draw(10, 10)}
    masks = unstructured.type_masks(weights, {"attention": 0.2, "output": 0.7})
    assert [int((~mask).sum()) for mask in masks.values()] == [20, 70]


@pytest.mark.parametrize(
    ("sparsities", "said"),
    [
        ({"feed": 0.5}, "'0.attention' holds none of the words feed"),
        ({"feed": 0.5, "attention": 0.5, "head": 0.5}, "'head' decides for no tensor"),
        ({"0": 0.5, "attention": 0.5}, "'attention' decides for no tensor"),
    ],
)
def test_types_that_do_not_part_the_layers_are_refused(sparsities, said):
    with pytest.raises(ValueError, match=said):
        unstructured.type_masks({"0.feed": draw(3), "0.attention": draw(3)}, sparsities)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (3, 3), (1, 1)])
def test_of_every_m_neighbours_exactly_the_n_largest_stay(n, m):
    weight = draw(6, 4 * m)
    weight[2:4] = weight[2:4].sign()  # rows of ties
    groups, kept = weight.reshape(-1, m), unstructured.n_m_mask(weight, n, m).reshape(-1, m)
    for group, mask in zip(groups, kept, strict=True):
        assert torch.equal(mask, by_sorting(group, m - n))


def test_two_of_four_is_what_torchs_own_sparsifier_keeps():
    from torch.ao.pruning import WeightNormSparsifier

    model = nn.Sequential(nn.Linear(24, 10))
    weight = model[0].weight.detach().clone()
    sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2)
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    assert torch.equal(unstructured.n_m_mask(weight, 2, 4), model[0].parametrizations.weight[0].mask.bool())


def wanda_by_definition(weight, inputs, sparsity):
    """Score by score, row by row, from the inputs themselves."""
    kept = torch.ones_like(weight, dtype=torch.bool)
    for row in range(len(weight)):
        scores = [
            abs(float(weight[row, j])) * float(sum(float(x) ** 2 for x in inputs[:, j])) ** 0.5
            for j in range(weight.shape[1])
        ]
        order = sorted(range(len(scores)), key=lambda j: (scores[j], j))
        for j in order[: round(sparsity * len(scores))]:
            kept[row, j] = False
    return kept


def test_wanda_is_its_written_definition():
    weight, inputs = draw(7, 12), draw(40, 12, seed=1) * torch.linspace(0.1, 5, 12)
    mask = unstructured.wanda_mask(weight, inputs.norm(dim=0), 0.5)
    assert torch.equal(mask, wanda_by_definition(weight, inputs, 0.5))
    assert not torch.equal(mask, unstructured.row_mask(weight, 0.5))
    assert torch.equal(unstructured.wanda_mask(weight, torch.ones(12), 0.5), unstructured.row_mask(weight, 0.5))


def test_the_textbook_case_of_wanda():
    weight, act_norm = torch.tensor([[4.0, 1.0, -1.0], [3.0, -2.0, 0.5]]), torch.tensor([0.1, 1.0, 2.0])
    assert unstructured.wanda_mask(weight, act_norm, 1 / 3).tolist() == [[False, True, True], [False, True, True]]


def test_rows_lose_equally_many():
    weight = draw(9, 21) * torch.arange(1, 10)[:, None]
    assert (~unstructured.row_mask(weight, 0.4)).sum(dim=1).tolist() == [round(0.4 * 21)] * 9
    for row, mask in zip(weight, unstructured.row_mask(weight, 0.4), strict=True):
        assert torch.equal(mask, by_sorting(row, round(0.4 * 21)))


def test_sparsity_counts_zeros_of_all_tensors():
    assert unstructured.sparsity({"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([0.0, -0.0, 3.0, 1.0])}) == 0.5


@pytest.mark.parametrize("sparsity", [-0.1, 1.01, float("nan"), True])
def test_a_share_outside_0_to_1_is_refused(sparsity):
    with pytest.raises(ValueError, match="the share of weights that become zero, from 0 to 1"):
        unstructured.magnitude_mask(draw(3), sparsity)


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        (torch.tensor([1.0, float("nan")]), ValueError),
        (torch.tensor([1.0, float("inf")]), ValueError),
        (torch.empty(0), ValueError),
        (torch.tensor([1, 2]), TypeError),
        ([1.0, 2.0], TypeError),
    ],
)
def test_what_has_no_order_is_refused(weight, error):
    with pytest.raises(error):
        unstructured.magnitude_mask(weight, 0.5)
    with pytest.raises(error):
        unstructured.global_masks({"w": weight}, 0.5)


def test_other_bad_input_says_what_is_allowed():
    with pytest.raises(ValueError, match="one norm for each of the 4 inputs"):
        unstructured.wanda_mask(draw(2, 4), torch.ones(2), 0.5)
    with pytest.raises(ValueError, match="finite numbers of at least 0"):
        unstructured.wanda_mask(draw(2, 2), torch.tensor([1.0, -1.0]), 0.5)
    with pytest.raises(ValueError, match="a matrix"):
        unstructured.row_mask(draw(4), 0.5)
    with pytest.raises(ValueError, match="divide into groups of 4"):
        unstructured.n_m_mask(draw(2, 6), 2, 4)
    with pytest.raises(ValueError, match="give n <= m"):
        unstructured.n_m_mask(draw(2, 4), 5, 4)
    with pytest.raises(ValueError, match="n must be a whole number"):
        unstructured.n_m_mask(draw(2, 4), 0, 4)
    with pytest.raises(ValueError, match="dict of at least one tensor"):
        unstructured.local_masks({}, 0.5)


@pytest.mark.parametrize("edge", [-1.0, 0.0, 0.31, 0.6, 0.98, 2.0])
def test_the_search_finds_the_highest_sparsity_that_is_good_enough(edge):
    candidates = [place / 50 for place in range(50)]
    found, tried = unstructured.highest_sparsity(lambda sparsity: 0.9 if sparsity <= edge else 0.2, 0.9, candidates)
    assert found == max((s for s in candidates if s <= edge), default=None)
    assert len(tried) <= 6 and set(tried) <= set(candidates)


def test_a_search_over_nothing_or_in_disorder_is_refused():
    for candidates in ([], [0.5, 0.4], [0.5, 0.5]):
        with pytest.raises(ValueError, match="ascending order"):
            unstructured.highest_sparsity(float, 0.5, candidates)


def test_the_lowest_scores_go_with_their_signs():
    scores = torch.tensor([[0.5, -3.0, 2.0], [-0.1, 0.0, 0.0]])
    assert unstructured.score_mask(scores, 0.5).tolist() == [
        [True, False, True],
        [False, False, True],
    ]  # ties: the first
    assert unstructured.score_mask(torch.zeros(10), 0.3).tolist() == [False] * 3 + [True] * 7
    with pytest.raises(ValueError, match="NaN"):
        unstructured.score_mask(torch.tensor([float("nan"), 1.0]), 0.5)
