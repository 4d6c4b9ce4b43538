"""The program: its answers are the model's, it ends with whoever started it, and a signal loses no request."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import torch

from lessons_lib.serving import onnx_export, topic_server
from lessons_lib.serving.server import Limits
from lessons_lib.tasks import bbc, topic_classifier
from tests.lessons_lib.tiny_classifier import Tiny


@pytest.fixture(scope="module")
def tiny():
    return Tiny(len(topic_classifier.tokenizer()), 4, len(bbc.TOPICS))


@pytest.fixture(scope="module")
def path(tiny, tmp_path_factory):
    return onnx_export.to_onnx(tiny, tmp_path_factory.mktemp("served") / "tiny.onnx")


TEXTS = ["Shares fell.", "The final was won in the last minute of extra time, to everyone's surprise."]


def test_probabilities_are_those_of_torch(tiny, path):
    model = topic_server.TopicModel(path)
    wanted = topic_classifier.predict_logits(tiny, TEXTS).softmax(1)
    found = model.compute([model.encode(text) for text in TEXTS])
    assert [answer["topic"] for answer in found] == [bbc.TOPICS[i] for i in wanted.argmax(1)]
    torch.testing.assert_close(torch.tensor([list(answer["probabilities"].values()) for answer in found]), wanted)
    assert list(found[0]["probabilities"]) == list(bbc.TOPICS)


def test_a_long_text_is_not_cut_off_in_silence(path):
    assert len(topic_server.TopicModel(path).encode("word " * 400)) > 400


def children():
    return [child for child in psutil.Process().children() if "lessons_lib.serving.topic_server" in child.cmdline()]


def test_it_serves_and_leaves_nothing_running(path, tiny):
    with topic_server.running(path) as address:
        answer = httpx.post(f"{address}/predict", json={"text": TEXTS[1]}, trust_env=False, timeout=20)
        assert len(children()) == 1
    best = int(topic_classifier.predict_logits(tiny, TEXTS[1:]).argmax())
    assert answer.json()["topic"] == bbc.TOPICS[best]
    assert not children()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health", trust_env=False)


def test_it_ends_when_the_body_fails(path):
    with pytest.raises(KeyError), topic_server.running(path):
        raise KeyError
    assert not children()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_signal_under_load_loses_no_accepted_request(path):
    limits = Limits(max_batch=50, max_wait=60.0, timeout=60.0)
    with topic_server.running(path, limits) as address, ThreadPoolExecutor(10) as people:

        def ask(_):
            return httpx.post(f"{address}/predict", json={"text": TEXTS[0]}, trust_env=False, timeout=60).status_code

        answers = [people.submit(ask, number) for number in range(10)]
        deadline = time.monotonic() + 30
        while "\nwaiting 10.0" not in httpx.get(f"{address}/metrics", trust_env=False, timeout=20).text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (server,) = children()
        os.kill(server.pid, signal.SIGTERM)
        assert [answer.result(60) for answer in answers] == [200] * 10
        server.wait(30)


def test_it_says_why_it_does_not_start(tmp_path):
    with (
        pytest.raises(RuntimeError, match="did not start: ValueError: there is no file"),
        topic_server.running(tmp_path / "none.onnx"),
    ):
        pass


def test_it_needs_neither_torch_nor_transformers():
    code = "import sys, lessons_lib.serving.topic_server"
    code += "; print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
