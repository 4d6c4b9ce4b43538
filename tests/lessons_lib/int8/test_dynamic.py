"""Dynamic INT8 against its written definition, numpy and torch.ao; what is replaced, and what is refused."""

import copy
import math
import os
import subprocess
import sys

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessons_lib.int8 import dynamic, torch_ao
from lessons_lib.measure import benchmark, model_size


def written_definition(x: torch.Tensor):
    """Row by row in numpy's FP32, as the docstring of quantize_rows says it."""
    codes, scales = [], []
    for row in x.numpy():
        largest = numpy.abs(row).max()
        scale = max(largest / numpy.float32(127), numpy.finfo(numpy.float32).tiny) if largest else numpy.float32(1)
        codes.append(numpy.rint(row * (numpy.float32(1) / scale)))
        scales.append([scale])
    return torch.from_numpy(numpy.stack(codes)).to(torch.int8), torch.tensor(scales, dtype=torch.float32)


@st.composite
def activations(draw):
    """Matrices of many sizes and strides, with rows of zeros, outliers and exact half steps among them."""
    rows, n, seed = draw(st.integers(1, 400)), draw(st.integers(1, 60)), draw(st.integers(0, 2**32))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 2 * n, generator=generator) * 10.0 ** draw(st.integers(-20, 20))
    x[draw(st.integers(0, rows - 1))] = 0
    if draw(st.booleans()):
        x[:, 0] *= 1000
    if draw(st.booleans()):
        x = torch.randint(-254, 255, (rows, 2 * n), generator=generator) / 2
        x[:, :2] = 127
    return x[:, ::2] if draw(st.booleans()) else x[:, :n]


@settings(deadline=None, max_examples=60)
@given(activations())
def test_codes_are_those_of_the_written_definition(x):
    codes, scales = dynamic.quantize_rows(x)
    expected = written_definition(x)
    assert codes.dtype == torch.int8
    assert torch.equal(codes, expected[0])
    assert torch.equal(scales, expected[1])


def test_pieces_leave_no_seam(monkeypatch):
    x = torch.randn(1000, 70, generator=torch.Generator().manual_seed(0))
    whole = dynamic.quantize_rows(x)
    monkeypatch.setattr(dynamic, "PIECE", 300)
    assert all(torch.equal(a, b) for a, b in zip(dynamic.quantize_rows(x), whole, strict=True))


@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(1, 8, 1), (7, 40, 300), (321, 33, 200), (700, 384, 193)])
@pytest.mark.parametrize("biased", [True, False])
def test_the_product_is_exact_in_integers(rows, n_in, n_out, biased):
    """Tiles of every size, the last ones narrower, against one product in int64."""
    generator = torch.Generator().manual_seed(rows)
    x, bias = torch.randn(rows, n_in, generator=generator), torch.randn(n_out, generator=generator)
    w_codes = torch.randint(-127, 128, (n_out, n_in), generator=generator).to(torch.int8)
    w_scales = torch.rand(n_out, generator=generator) / 100
    codes, scales = dynamic.quantize_rows(x)
    expected = (codes.long() @ w_codes.long().t()).double() * scales.double() * w_scales.double()
    expected += bias.double() if biased else 0
    out = dynamic.int8_linear(x, w_codes, w_scales, bias if biased else None)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=1e-6)


def test_a_broken_row_spoils_no_other():
    x = torch.randn(5, 16)
    x[1, 3], x[3, 0] = math.nan, math.inf
    linear = dynamic.Int8Linear(nn.Linear(16, 4))
    out = linear(x)
    assert not out[1].isfinite().any()
    assert not out[3].isfinite().any()
    clean = x.clone()
    clean[[1, 3]] = 0
    assert torch.equal(out[[0, 2, 4]], linear(clean)[[0, 2, 4]])


def test_a_layer_is_near_its_original_and_nearer_than_one_scale_for_all():
    torch.manual_seed(0)
    linear = nn.Linear(256, 64)
    x = torch.randn(2, 50, 256) * torch.logspace(-2, 1, 50)[:, None]
    exact = linear(x)
    error = (dynamic.Int8Linear(linear)(x) - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert error.max() < 0.02
    by_torch_ao = (torch_ao.torch_ao_dynamic(nn.Sequential(linear))(x) - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert by_torch_ao.max() > 0.1  # one range for the batch: the quiet rows vanish


def test_shared_rows_are_quantized_once(monkeypatch):
    calls = []
    original = dynamic.quantize_rows
    monkeypatch.setattr(dynamic, "quantize_rows", lambda x: calls.append(1) or original(x))
    rows, x = dynamic.SharedRows(), torch.randn(3, 4, 16)
    query, key = (dynamic.Int8Linear(nn.Linear(16, 8), rows) for _ in range(2))
    query(x)
    first = key(x)
    assert len(calls) == 1
    x.mul_(2)  # the same tensor, changed in place
    assert not torch.equal(key(x), first)
    key(x.clone())
    assert len(calls) == 3
    with torch.inference_mode():
        fresh = torch.randn(2, 16)
        query(fresh)
        key(fresh)
    assert len(calls) == 5  # changes of inference tensors are not counted: never shared


class Block(nn.Module):
    """Two layers that read one tensor, a small head, and a table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 512)
        self.query, self.key = nn.Linear(512, 512), nn.Linear(512, 512)
        self.norm, self.head = nn.LayerNorm(512), nn.Linear(512, 5)

    def forward(self, ids):
        hidden = self.table(ids)
        return self.head(self.norm(self.query(hidden) * self.key(hidden)))


def test_what_is_replaced():
    torch.manual_seed(0)
    block, ids = Block().eval(), torch.arange(40).reshape(4, 10)
    before = copy.deepcopy(block.state_dict())
    small, smaller = dynamic.dynamic_int8(block), dynamic.dynamic_int8(block, embeddings=True)
    assert isinstance(small.query, dynamic.Int8Linear) and small.query.rows is small.key.rows
    assert type(small.head) is nn.Linear and type(small.table) is nn.Embedding and type(small.norm) is nn.LayerNorm
    assert isinstance(smaller.table, dynamic.Int8Embedding)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    with torch.no_grad():
        exact = block(ids)
        for model in (small, smaller):
            assert (model(ids) - exact).norm() / exact.norm() < 0.03
    assert model_size.size_on_disk(smaller) < model_size.size_on_disk(small) < model_size.size_on_disk(block) / 2


def test_a_saved_model_comes_back(tmp_path):
    from safetensors.torch import load_model, save_model

    torch.manual_seed(0)
    small, other = (dynamic.dynamic_int8(Block().eval(), embeddings=True) for _ in range(2))
    ids = torch.arange(20)[None]
    assert not torch.equal(small(ids), other(ids))
    save_model(small, str(tmp_path / "model.safetensors"))
    load_model(other, tmp_path / "model.safetensors")
    assert torch.equal(small(ids), other(ids))


@pytest.mark.parametrize(
    ("kind", "n_in", "n_out", "rows", "worth"),
    [
        ("linear", 384, 384, 64, True),
        ("linear", 384, 384, 63, False),
        ("linear", 256, 512, 64, True),
        ("linear", 255, 512, 64, False),
        ("embedding", 30522, 384, 999, False),
    ],
)
def test_the_rule(kind, n_in, n_out, rows, worth):
    assert dynamic.should_quantize(kind, n_in, n_out, rows) is worth


CODES, SCALES = torch.ones(3, 4, dtype=torch.int8), torch.ones(3)
REFUSED = [
    ("rows of FP32", lambda: dynamic.quantize_rows(torch.ones(2, 2, dtype=torch.float16))),
    ("rows of FP32", lambda: dynamic.quantize_rows([1.0])),
    ("a matrix", lambda: dynamic.quantize_rows(torch.ones(2, 2, 2))),
    ("a matrix", lambda: dynamic.quantize_rows(torch.ones(2, 0))),
    ("w_codes is", lambda: dynamic.int8_linear(torch.ones(2, 4), CODES.float(), SCALES)),
    ("do not fit", lambda: dynamic.int8_linear(torch.ones(2, 5), CODES, SCALES)),
    ("do not fit", lambda: dynamic.int8_linear(torch.ones(2, 4), CODES, torch.ones(4))),
    ("do not fit", lambda: dynamic.int8_linear(torch.ones(2, 4), CODES, SCALES, torch.ones(4))),
    (
        "can leave int32",
        lambda: dynamic.int8_linear(torch.ones(1, 140_000), torch.ones(1, 140_000, dtype=torch.int8), torch.ones(1)),
    ),
    ("nothing to quantize", lambda: dynamic.dynamic_int8(nn.Sequential(nn.Linear(4, 4)))),
]


@pytest.mark.parametrize(("words", "call"), REFUSED, ids=[f"{i}-{words}" for i, (words, _) in enumerate(REFUSED)])
def test_bad_input_is_refused_with_words(words, call):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


@pytest.mark.needs("g++")
@pytest.mark.parametrize(("tiles", "called", "other"), [(True, "qlinear", "_int_mm"), (False, "_int_mm", "qlinear")])
def test_compiled_gives_the_same_with_packed_weights_where_they_are_fast(monkeypatch, tiles, called, other):
    from torch._inductor.utils import run_and_get_code

    monkeypatch.setattr(dynamic, "AMX", tiles)
    monkeypatch.setattr(dynamic, "VNNI", True)
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = dynamic.dynamic_int8(nn.Sequential(nn.Linear(512, 256), nn.GELU()))
    x = torch.randn(4, 10, 512)
    x[0, 0] = 0
    out, (code,) = run_and_get_code(dynamic.compiled(layer), x)
    torch.testing.assert_close(out, layer(x), rtol=1e-5, atol=1e-5)
    assert called in code and other not in code


@pytest.mark.parametrize("vnni", [dynamic.VNNI, False])
@pytest.mark.parametrize("given", [True, False])
def test_the_product_of_codes_is_exact_with_and_without_vnni(monkeypatch, vnni, given):
    _on_a_processor(monkeypatch, vnni)
    codes = torch.full((32, 3000), -128, dtype=torch.int8)
    codes[1] = torch.randint(-128, 128, (3000,), dtype=torch.int8)
    w_codes = codes[:24].clone()
    out = torch.empty(32, 24, dtype=torch.int32) if given else None
    sums = dynamic.product(codes, w_codes, out)
    assert torch.equal(sums, codes.int() @ w_codes.int().t()) and sums.dtype == torch.int32
    assert not given or sums.data_ptr() == out.data_ptr()


@pytest.mark.parametrize("vnni", [dynamic.VNNI, False])
def test_layers_are_never_left_to_a_plain_loop(monkeypatch, vnni):
    """A loop over single codes would take a hundred times as long as FP32."""
    _on_a_processor(monkeypatch, vnni)
    layer, x = nn.Linear(512, 512), torch.randn(256, 512)
    ours = dynamic.Int8Linear(layer)
    run = benchmark.compare({"FP32": lambda: layer(x), "INT8": lambda: ours(x)}, repeats=5, warmup=2)
    assert run.ratio("INT8", "FP32").value < 10


def _on_a_processor(monkeypatch, vnni):
    """With VNNI or without; without, torch._int_mm is refused."""
    monkeypatch.setattr(dynamic, "VNNI", vnni)
    if not vnni:
        monkeypatch.setattr(torch, "_int_mm", None)


@pytest.mark.needs("g++")
def test_without_a_compiler_nothing_can_be_compiled(tmp_path):
    assert dynamic.can_compile()
    code = "from lessons_lib.int8 import dynamic; print(dynamic.can_compile())"
    without = os.environ | {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=without, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.needs("g++")
def test_compiled_is_never_left_to_a_reference_loop():
    """Without AMX, weights that are packed for unsigned codes would take hundreds of times as long as FP32."""
    layer = nn.Sequential(nn.Linear(512, 512))
    x = torch.randn(256, 512)
    compiled = dynamic.compiled(dynamic.dynamic_int8(layer))
    turns = {"FP32": lambda: layer(x), "compiled": lambda: compiled(x)}
    assert benchmark.compare(turns, repeats=5, warmup=2).ratio("compiled", "FP32").value < 10


@pytest.mark.proof
@pytest.mark.needs("g++")
def test_compiled_is_twice_as_fast_as_fp32_and_faster_than_torch_ao():
    """The teacher at batch 32, length 40, in turns. Run on a quiet machine."""
    from lessons_lib.tasks import bbc, topic_classifier

    teacher = topic_classifier.topic_teacher()
    texts = bbc.sentences("test")["text"]
    batch = topic_classifier.tokenize([" ".join(texts[6 * i : 6 * i + 6]) for i in range(32)], 40)
    assert batch["input_ids"].shape == (32, 40)
    turns = {
        "FP32": teacher,
        "torch.ao": torch_ao.torch_ao_dynamic(teacher),
        "ours": dynamic.compiled(dynamic.dynamic_int8(teacher)),
    }
    run = benchmark.compare({name: lambda model=model: model(**batch) for name, model in turns.items()}, 15, 3)
    print({name: timing.p50 for name, timing in run.timings.items()})
    assert run.ratio("FP32", "ours").low >= 2
    assert run.ratio("torch.ao", "ours").low >= 1
