"""Recipes and the wire: what goes in comes out, on the other side of bytes too."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quizzes.inside import recipes, wire


def across(value):
    tree, tensors = recipes.encode(value)
    return recipes.build(*wire.unpack(wire.pack(tree, tensors)))


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(plain)
def test_plain_values_cross_unchanged(value):
    assert across(value) == value


def test_a_strided_tensor_keeps_its_strides():
    tensor = torch.arange(24.0).reshape(4, 6).t()[::2]
    there = across([tensor])[0]
    assert torch.equal(there, tensor)
    assert there.stride() == tensor.stride()


def test_shared_storage_stays_shared():
    weight = torch.arange(6.0)
    one, other = across((weight, weight[2:]))
    one[2] = 100
    assert other[0] == 100


def test_every_build_is_fresh():
    tree, tensors = recipes.encode([torch.zeros(3)])
    recipes.build(tree, tensors)[0].fill_(1)
    assert recipes.build(tree, tensors)[0].sum() == 0


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.bool])
def test_dtypes_cross(dtype):
    tensor = torch.tensor([0, 1, 1]).to(dtype)
    there, name = across((tensor, dtype))
    assert torch.equal(there, tensor)
    assert there.dtype is name is dtype


def test_empty_tensors_and_what_json_has_no_word_for():
    there = across([torch.empty(0, 3), float("inf"), float("nan")])
    assert there[0].shape == (0, 3)
    assert there[1] == float("inf")
    assert there[2] != there[2]


def test_an_unknown_kind_is_refused():
    with pytest.raises(TypeError, match="a case cannot carry set"):
        recipes.encode({1, 2})


def test_a_model_is_the_same_every_time_and_in_training_mode():
    recipe = recipes.tiny_encoder(seed=3)
    ids = torch.randint(0, 50, (4, 6))
    one, other = across(recipe), across(recipe)
    assert one.training
    assert torch.equal(one.eval()(ids, torch.ones_like(ids)), other.eval()(ids, torch.ones_like(ids)))


def test_a_model_ignores_padding():
    model = across(recipes.tiny_encoder(seed=3)).eval()
    ids, mask = torch.randint(0, 50, (1, 6)), torch.tensor([[1, 1, 1, 1, 0, 0]])
    other = ids.clone()
    other[0, 4:] = 7
    assert torch.allclose(model(ids, mask), model(other, mask))


def test_making_a_model_leaves_the_random_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    across(recipes.tiny_encoder(seed=3))
    assert torch.equal(torch.rand(1), expected)


def test_a_stream_can_be_walked_once():
    stream = across(recipes.stream([1, 2]))
    assert list(stream) == [1, 2]
    assert list(stream) == []


def test_calls_of_a_lookup_are_observed_in_order():
    def search(evaluate):
        return max([4, 2, 8], key=evaluate)

    seen = recipes.observe(search, across((recipes.lookup({2: 0.1, 4: 0.7, 8: 0.3}),)), "calls")
    assert seen["value"] == 4
    assert [seen[f"calls.0.{place}"] for place in range(3)] == [4, 2, 8]


def test_a_lookup_names_what_it_was_wrongly_asked():
    with pytest.raises(KeyError, match="asked for 5"):
        across(recipes.lookup({2: 0.1}))(5)


def test_gradients_are_observed_under_uneven_upstream_gradients():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    seen = recipes.observe(lambda x: x**2, across((x,)), "gradients")
    assert torch.allclose(seen["gradient.0"], 2 * x.detach() * torch.tensor([0.5, 1.0, 1.5]))


def test_a_function_class_is_called_through_apply():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return 2 * x

        @staticmethod
        def backward(context, upstream):
            return 3 * upstream  # wrong on purpose: the observed gradient must be this one

    x = torch.ones(1, requires_grad=True)
    assert recipes.observe(Double, (x,), "gradients")["gradient.0"] == 1.5


def test_a_result_outside_autograd_is_said_to_be_so():
    with pytest.raises(TypeError, match="carries no gradient"):
        recipes.observe(lambda x: x.detach(), (torch.ones(2, requires_grad=True),), "gradients")


def test_parameters_are_observed_after_the_call():
    def zero(model):
        with torch.no_grad():
            model.head.weight.zero_()

    seen = recipes.observe(zero, across((recipes.tiny_encoder(seed=1),)), "parameters")
    assert seen["parameters.0.'head.weight'"].abs().sum() == 0
    assert seen["parameters.0.'embedding.weight'"].abs().sum() > 0


def test_observed_values_cross():
    values = recipes.flatten({"a": (torch.eye(3).t(), 1.5, float("nan")), "b": None})
    there = wire.unpack_values(wire.pack_values(values))
    assert there.keys() == values.keys()
    assert torch.equal(there["value.'a'.0"], torch.eye(3))
    assert there["value.'a'.2"] != there["value.'a'.2"]


def test_shared_outputs_cross():
    x = torch.ones(3)
    assert torch.equal(wire.unpack_values(wire.pack_values(recipes.flatten((x, x))))["value.1"], x)


def test_what_is_no_value_is_refused():
    with pytest.raises(TypeError, match="return tensors, numbers"):
        recipes.flatten(object())
    endless = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested more than"):
        recipes.flatten(endless)


@given(st.binary(max_size=200))
def test_malformed_bytes_are_a_value_error(data):
    with pytest.raises(ValueError, match="malformed"):
        wire.unpack_values(data)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_damaged_messages_are_a_value_error_or_values(position, damage):
    message = bytearray(wire.pack_values({"value": torch.ones(4), "n": 3}))
    position %= len(message)
    message[position : position + len(damage)] = damage
    try:
        values = wire.unpack_values(bytes(message))
    except ValueError:
        return
    assert all(item is None or isinstance(item, (bool, int, float, str, torch.Tensor)) for item in values.values())


def test_traces_tell_whether_a_graph_is_left_and_in_which_mode_a_model_is():
    def answer(model, x, keep):
        logits = model(x, torch.ones_like(x))
        return logits if keep else logits.detach()

    def arguments(keep):
        return recipes.build(*recipes.encode((recipes.tiny_encoder(0), torch.ones(1, 3, dtype=torch.int64), keep)))

    for keep in (True, False):
        seen = recipes.observe(answer, arguments(keep), "traces")
        assert seen["carries a graph"] is keep
        assert seen["left in training mode.0"] is True
    seen = recipes.observe(lambda model, x, keep: model.eval()(x, x), arguments(False), "traces")
    assert seen["left in training mode.0"] is False
