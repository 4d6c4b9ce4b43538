"""The door to bitsandbytes: its codes in order, and its layer computes with the weight that it says it keeps."""

import torch
from torch import nn

from lessons_lib import bitsandbytes_nf4, formats


def test_codes_come_in_the_order_of_the_weights():
    values = formats.nf4_codebook().repeat(4)
    packed, state = bitsandbytes_nf4.quantize(values, double=False)
    assert bitsandbytes_nf4.codes(packed).tolist() == list(range(16)) * 4
    assert torch.equal(bitsandbytes_nf4.dequantize(packed, state).flatten(), values)


def test_the_layer_computes_in_bf16_with_its_four_bit_weight():
    torch.manual_seed(0)
    layer, x = nn.Linear(128, 64), torch.randn(5, 128)
    made = bitsandbytes_nf4.nf4_layer(layer)
    weight = bitsandbytes_nf4.dequantize(*bitsandbytes_nf4.quantize(layer.weight.detach()))
    expected = x @ weight.t() + layer.bias
    with torch.inference_mode():
        assert (made(x) - expected).norm() <= 0.01 * expected.norm()  # BF16 has eight significant bits
    assert (made(x) - layer(x)).norm() > 0.02 * expected.norm()  # and four bits are fewer
