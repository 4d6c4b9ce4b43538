"""OpenVINO gives the logits of torch; what is missing is said in one line; TensorRT is run where it is."""

import pytest
import torch
from torch import nn

from lessons_lib import export, other_runtimes


class Tiny(nn.Module):
    """The smallest classifier: a table, a mean, a layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[..., None].float()
        return self.head((self.table(input_ids) * mask).sum(1) / mask.sum(1))


@pytest.fixture(scope="module")
def tiny():
    return Tiny().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def path(tiny, tmp_path_factory):
    return export.to_onnx(tiny, tmp_path_factory.mktemp("runtimes") / "tiny.onnx")


def near(model, tiny):
    for shape in ((1, 1), (3, 9), (5, 4)):
        ids = torch.arange(shape[0] * shape[1]).reshape(shape) % 50
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        torch.testing.assert_close(model(**batch), tiny(**batch))


@pytest.mark.skipif(bool(other_runtimes.openvino_missing()), reason=str(other_runtimes.openvino_missing()))
def test_openvino_gives_the_logits_of_torch(path, tiny):
    near(other_runtimes.OpenVinoModel(path, threads=1), tiny)


@pytest.mark.skipif(bool(other_runtimes.tensorrt_missing()), reason=str(other_runtimes.tensorrt_missing()))
def test_tensorrt_gives_the_logits_of_torch(path, tiny):
    near(other_runtimes.TensorRTModel(path), tiny)


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(other_runtimes, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert other_runtimes.openvino_missing() == "OpenVINO is not installed: pip install openvino."
    said = other_runtimes.tensorrt_missing()
    assert "GPU" in said
    assert "pip install tensorrt" in said
    assert "\n" not in said


def test_nothing_is_missing_where_all_is_there(monkeypatch):
    monkeypatch.setattr(other_runtimes, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert other_runtimes.openvino_missing() is other_runtimes.tensorrt_missing() is None
