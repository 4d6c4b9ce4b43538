"""The one door to torch.ao and torchao: what they give is near the original, and they say nothing to a reader."""

import ast
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lessons_lib.int8 import torch_ao
from lessons_lib.measure import model_size


class Block(nn.Module):
    """Two layers around a layer norm, which a qconfig on the whole would convert and break."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(512, 512), nn.LayerNorm(512), nn.Linear(512, 64)

    def forward(self, x):
        return self.outer(self.norm(self.inner(x)))


@pytest.fixture(scope="module")
def block():
    torch.manual_seed(0)
    return Block().eval()


@pytest.fixture(scope="module")
def batches():
    return [{"x": torch.randn(rows, 7, 512, generator=torch.Generator().manual_seed(rows))} for rows in (40, 12)]


def distance(model, block, x):
    with torch.no_grad():
        return ((model(x=x) - block(x)).norm() / block(x).norm()).item()


@pytest.mark.parametrize("convert", [torch_ao.torch_ao_dynamic, torch_ao.torchao_dynamic], ids=["torch.ao", "torchao"])
def test_the_libraries_dynamic_paths_give_nearly_the_same(convert, block, batches):
    assert distance(convert(block), block, batches[0]["x"]) < 0.1  # torch.ao: 7 bits on x86
    assert type(block.inner) is nn.Linear


@pytest.mark.parametrize(
    ("convert", "bound"), [(torch_ao.torch_ao_static, 0.1), (torch_ao.pt2e_static, 0.03)], ids=["torch.ao", "PT2E"]
)
def test_the_libraries_static_paths_give_nearly_the_same(convert, bound, block, batches):
    made = convert(block, batches)
    for x in (batches[0]["x"], batches[1]["x"][:3, :5]):  # other sizes than the first batch's
        assert 0.001 < distance(made, block, x) < bound
    far = 20 * batches[0]["x"]
    assert distance(made, block, far) > distance(convert(block, [{"x": far}]), block, far)  # its range was fixed
    assert type(block.inner) is nn.Linear
    made.eval()  # which an exported graph refuses unless told


def test_layer_norms_stay_in_float(block, batches):
    made = torch_ao.torch_ao_static(block, batches)
    assert type(made.norm) is nn.LayerNorm
    assert "Quantized" in repr(made.inner)


def test_bytes_are_those_of_the_packed_weights(block, batches):
    packed = 512 * 512 + 512 * 64
    for bytes_ in (
        torch_ao.saved_bytes(torch_ao.torch_ao_static(block, batches)),
        torch_ao.saved_bytes(torch_ao.torch_ao_dynamic(block)),
        model_size.size_on_disk(torch_ao.pt2e_static(block, batches)),
    ):
        assert packed < bytes_ < 1.2 * packed


def test_no_warning_reaches_a_reader():
    code = (
        "import torch; from torch import nn; from lessons_lib.int8 import torch_ao;"
        " m = nn.Sequential(nn.Linear(64, 64));"
        " x = torch.ones(2, 3, 64); torch_ao.torch_ao_dynamic(m)(x); torch_ao.torchao_dynamic(m)(x);"
        " d = [{'input': x}]; s = torch_ao.torch_ao_static(m, d); s(x); torch_ao.saved_bytes(s);"
        " torch_ao.pt2e_static(m, d)(x)"
    )
    run = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""


@pytest.mark.parametrize("outlier", [1.0, 40.0])
def test_observers_of_torch_ao_can_be_asked(outlier):
    data = [torch.linspace(-1, 3, 1001), torch.tensor([outlier])]
    scale, zero_point = torch_ao.torch_ao_qparams("MinMaxObserver", data)
    assert (scale, zero_point) == (pytest.approx((max(3, outlier) + 1) / 255), round(255 / (max(3, outlier) + 1)))
    follows = torch_ao.torch_ao_qparams("MovingAverageMinMaxObserver", data, averaging_constant=0.5)[0]
    assert follows < scale


@pytest.mark.parametrize(("engine", "chosen"), [("none", "qnnpack"), ("x86", "x86")])
def test_an_engine_is_chosen_where_torch_has_none_switched_on(monkeypatch, block, engine, chosen):
    """As torch for macOS comes; here it cannot be switched off, so the test stands in for its settings."""
    settings = SimpleNamespace(engine=engine, supported_engines=["none", "qnnpack", "x86"])
    monkeypatch.setattr(torch.backends, "quantized", settings)
    torch_ao.torch_ao_dynamic(block)
    assert settings.engine == chosen


@pytest.mark.parametrize(
    ("found", "may"),
    [
        ({"architecture": "x86_64", "avx2": True}, True),
        ({"architecture": "x86_64", "avx_vnni": True}, False),
        ({"architecture": "x86_64", "avx512_vnni": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_codes_have_seven_bits_where_sums_may_overflow(monkeypatch, block, batches, found, may):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    graph = torch_ao.pt2e_static(block, batches)
    steps = [node.args for node in graph.graph.nodes if "quantize_per_tensor" in str(node.target)]
    assert {args[4] for args in steps} == {127 if may else 255}


@pytest.mark.needs("c++")
def test_a_compiled_graph_gives_the_same(block, batches):
    graph = torch_ao.pt2e_static(block, batches)
    fused = torch_ao.compiled(graph, batches[0])
    with torch.no_grad():
        torch.testing.assert_close(fused(**batches[0]), graph(**batches[0]), rtol=0.02, atol=0.02)


def reached(source: str) -> set[str]:
    """Dotted names that a module imports, reads as attributes, or names in a string alone, as importlib takes them."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            names.add(node.value)
    return names


def knows_them(source: str) -> bool:
    return any(f"{name}.".startswith(("torch.ao.", "torch.quantization.", "torchao.")) for name in reached(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torchao",
        "from torchao.quantization import quantize_",
        "import torch\nq = torch.ao.quantization.quantize",
        "from torch import ao",
        "def f():\n    from torch.ao import nn",
        "import importlib\nimportlib.import_module('torchao')",
    ],
)
def test_every_way_to_reach_them_is_seen(source):
    assert knows_them(source)


def test_no_other_module_reaches_them(root):
    modules = [path for package in ("lessons_lib", "quizzes") for path in (root / package).rglob("*.py")]
    found = {path.name for path in modules if knows_them(path.read_text(encoding="utf-8"))}
    assert found <= {"torch_ao.py", "quiet.py"}  # quiet names the logger whose harmless lines it drops


def test_other_warnings_pass():
    class Loud(nn.Linear):
        def __deepcopy__(self, memo):
            warnings.warn("something else", UserWarning, stacklevel=1)
            return nn.Linear(4, 4)

    with pytest.warns(UserWarning, match="something else"):
        torch_ao.torchao_dynamic(nn.Sequential(Loud(64, 64)))
