"""OpenVINO gives the logits of torch; what is missing is said in one line; TensorRT is run where it is."""

import pytest
import torch

from lessons_lib.serving import onnx_export, runtimes
from tests.lessons_lib.tiny_classifier import Tiny


@pytest.fixture(scope="module")
def tiny():
    return Tiny(50, 8, 3)


@pytest.fixture(scope="module")
def path(tiny, tmp_path_factory):
    return onnx_export.to_onnx(tiny, tmp_path_factory.mktemp("runtimes") / "tiny.onnx")


def near(model, tiny):
    for shape in ((1, 1), (3, 9), (5, 4)):
        ids = torch.arange(shape[0] * shape[1]).reshape(shape) % 50
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        torch.testing.assert_close(model(**batch), tiny(**batch))


@pytest.mark.skipif(bool(runtimes.openvino_missing()), reason=str(runtimes.openvino_missing()))
def test_openvino_gives_the_logits_of_torch(path, tiny):
    near(runtimes.OpenVinoModel(path, threads=1), tiny)


@pytest.mark.skipif(bool(runtimes.tensorrt_missing()), reason=str(runtimes.tensorrt_missing()))
def test_tensorrt_gives_the_logits_of_torch(path, tiny):
    near(runtimes.TensorRTModel(path), tiny)


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtimes.openvino_missing() == "OpenVINO is not installed: pip install openvino."
    said = runtimes.tensorrt_missing()
    assert "GPU" in said
    assert "pip install tensorrt" in said
    assert "\n" not in said


def test_nothing_is_missing_where_all_is_there(monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtimes.openvino_missing() is runtimes.tensorrt_missing() is None
