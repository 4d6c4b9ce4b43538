"""Lesson 08's solution is the library's layer."""

import torch

from lessons_lib.int8 import dynamic
from quizzes.bank import q08_dynamic_int8 as bank


def test_the_published_layer_is_the_library_s():
    torch.manual_seed(0)
    linear = torch.nn.Linear(384, 100)
    layer, x = dynamic.Int8Linear(linear), torch.randn(500, 384)
    with torch.no_grad():
        got = bank.int8_linear.right(x, layer.codes, layer.scales, layer.bias)
        # Where x / scale lies on a half step, dividing and multiplying by 1 / scale may part by one code.
        torch.testing.assert_close(got, layer(x), rtol=0, atol=2e-3)
