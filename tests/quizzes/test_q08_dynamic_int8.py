"""Lesson 08's exercises: what their docstrings print is true, and the solution is the library's layer."""

import doctest

import pytest
import torch

from lessons_lib import dynamic_int8
from quizzes import lesson
from quizzes.bank import q08_dynamic_int8 as bank

EXERCISES = lesson("08").exercises


@pytest.mark.parametrize("name", EXERCISES)
def test_the_printed_example_is_true(name):
    exercise = EXERCISES[name]
    names = {name: exercise.reference, "torch": torch}
    example = doctest.DocTestParser().get_doctest(exercise.doc, names, name, None, 0)
    result = doctest.DocTestRunner(verbose=False).run(example)
    assert result.attempted >= 1
    assert result.failed == 0


def test_the_published_layer_is_the_library_s():
    torch.manual_seed(0)
    linear = torch.nn.Linear(384, 100)
    layer, x = dynamic_int8.Int8Linear(linear), torch.randn(500, 384)
    with torch.no_grad():
        got = bank.int8_linear.right(x, layer.codes, layer.scales, layer.bias)
        # Where x / scale lies on a half step, dividing and multiplying by 1 / scale may part by one code.
        torch.testing.assert_close(got, layer(x), rtol=0, atol=2e-3)
