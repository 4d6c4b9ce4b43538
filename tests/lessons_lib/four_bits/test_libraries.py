"""The door to bitsandbytes: its codes in order, and its layer computes with the weight that it says it keeps."""

import torch
from torch import nn

from lessons_lib.arithmetic import nf4
from lessons_lib.four_bits import libraries


def test_codes_come_in_the_order_of_the_weights():
    values = nf4.nf4_codebook().repeat(4)
    packed, state = libraries.bitsandbytes_quantize(values, double=False)
    assert libraries.bitsandbytes_codes(packed).tolist() == list(range(16)) * 4
    assert torch.equal(libraries.bitsandbytes_dequantize(packed, state).flatten(), values)


def test_the_layer_computes_in_bf16_with_its_four_bit_weight():
    torch.manual_seed(0)
    layer, x = nn.Linear(128, 64), torch.randn(5, 128)
    made = libraries.bitsandbytes_layer(layer)
    weight = libraries.bitsandbytes_dequantize(*libraries.bitsandbytes_quantize(layer.weight.detach()))
    expected = x @ weight.t() + layer.bias
    with torch.inference_mode():
        assert (made(x) - expected).norm() <= 0.01 * expected.norm()  # BF16 has eight significant bits
    assert (made(x) - layer(x)).norm() > 0.02 * expected.norm()  # and four bits are fewer
