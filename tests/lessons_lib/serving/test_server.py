"""The server over real connections, with a model that answers when the test lets it: nothing here depends on speed."""

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from lessons_lib.serving.server import Limits, Server, application

LIMITS = {"max_batch": 2, "max_wait": 0.0, "capacity": 3, "timeout": 20.0, "max_bytes": 1000, "max_tokens": 5}


class Model:
    """A token is a word, its id the word's length. Answers when it is free to, and remembers the batches."""

    def __init__(self, held=False):
        self.free, self.called, self.batches, self.broken = threading.Event(), threading.Event(), [], False
        if not held:
            self.free.set()

    def encode(self, text):
        return [len(word) for word in text.split()]

    def compute(self, rows):
        self.batches.append(rows)
        self.called.set()
        assert self.free.wait(20)
        if self.broken:
            raise RuntimeError("no such weights")
        return [{"topic": "sport", "tokens": row} for row in rows]


class Served:
    """An application in a thread of its own, as uvicorn runs it."""

    def __init__(self, model, **limits):
        self.model, limits = model, Limits(**(LIMITS | limits))
        self.app = application(model.encode, model.compute, limits)
        listening = socket.create_server(("127.0.0.1", 0))
        self.place = listening.getsockname()
        self.server = Server(uvicorn.Config(self.app, log_config=None, http="h11", ws="none"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]})
        self.thread.start()
        until(lambda: self.server.started)
        self.client = httpx.Client(base_url="http://{}:{}".format(*self.place), timeout=30, trust_env=False)

    def post(self, text):
        return self.client.post("/predict", json={"text": text})

    def waiting(self):
        return len(self.app.state.batcher.waiting)

    def metrics(self):
        page = self.client.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
        }

    def connect(self, content):
        """A connection that has sent these bytes."""
        connection = socket.create_connection(self.place, timeout=20)
        connection.sendall(content)
        return connection


def until(condition):
    """Wait for what is sure to come."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


@contextlib.contextmanager
def serving(model, **limits):
    served = Served(model, **limits)
    try:
        yield served
    finally:
        model.free.set()
        served.server.should_exit = True
        served.thread.join(20)
        served.client.close()
        assert not served.thread.is_alive()


@contextlib.contextmanager
def occupied(served, texts):
    """The model computes one request and `texts` wait behind it; gives the answers to come."""
    with ThreadPoolExecutor(1 + len(texts)) as people:
        answers = [people.submit(served.post, "busy")]
        assert served.model.called.wait(20)
        for count, text in enumerate(texts, start=1):
            answers.append(people.submit(served.post, text))
            until(lambda count=count: served.waiting() == count)
        yield answers
        served.model.free.set()


def request(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % size + body


def test_answers_health_and_metrics():
    with serving(Model()) as served:
        assert served.client.get("/health").text == "ok"
        assert served.post("three little words").json() == {"topic": "sport", "tokens": [5, 6, 5]}
        assert served.post("").status_code == 422
        counts = served.metrics()
    assert counts["requests_total", "200"] == counts["requests_total", "422"] == 1
    assert counts["answers_total", "sport"] == 1
    assert counts["batch_size_count",] == counts["request_seconds_count",] == counts["waited_seconds_count",] == 1
    assert counts["waiting",] == 0


def test_waiting_requests_share_a_batch_and_each_gets_its_own_answer():
    with serving(Model(held=True)) as served:
        with occupied(served, ["a", "bb", "ccc"]) as answers:
            assert served.metrics()["waiting",] == 3
        assert [answer.result().json()["tokens"] for answer in answers] == [[4], [1], [2], [3]]
        assert served.model.batches == [[[4]], [[1], [2]], [[3]]]
        assert served.metrics()["batch_size_sum",] == 4


def test_overload_is_refused_at_once_and_nobody_who_was_accepted_is_lost():
    with serving(Model(held=True)) as served:
        with occupied(served, ["a", "b", "c"]) as answers:
            for _ in range(5):
                refused = served.post("too many")
                assert refused.status_code == 429
                assert refused.headers["retry-after"] == "1"
                assert refused.json() == {"error": "3 texts wait already. Try again in a second."}
        assert [answer.result().status_code for answer in answers] == [200] * 4
        assert served.post("room again").status_code == 200
        assert served.metrics()["requests_total", "429"] == 5


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 900, "not JSON"),
        (b"[1]", "not an object"),
        (b'"text"', "not an object"),
        (b"{}", "not an object"),
        (b'{"text": "a", "more": 1}', "not an object"),
        (b'{"text": 3}', "no string"),
        (b'{"text": null}', "no string"),
        (b'{"text": "  "}', "empty"),
        (b'{"text": "\\ud800"}', "half of a character"),
    ],
)
def test_malformed_requests_get_a_reason(body, reason, shared):
    answer = shared.client.post("/predict", content=body)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]
    assert '{"text": "..."}' in answer.json()["error"]


@pytest.fixture(scope="module")
def shared():
    with serving(Model()) as served:
        yield served


def test_too_long_is_refused_with_its_limit(shared):
    answer = shared.post("one two three four five six")
    assert answer.status_code == 413
    assert answer.json()["error"] == "The text has 6 tokens; at most 5 are read. Shorten it."
    body = json.dumps({"text": "x" * 1000}).encode()
    answer = shared.client.post("/predict", content=body)
    assert answer.status_code == 413
    assert "more than 1,000 bytes" in answer.json()["error"]
    streamed = shared.client.post("/predict", content=iter([body[:600], body[600:]]))  # without a length
    assert streamed.status_code == 413


def test_a_body_without_end_is_cut_off(shared):
    size = 10_000_000
    with shared.connect(request(b'{"text": "', length=size)) as connection:
        left = size
        with contextlib.suppress(OSError):  # the server hangs up
            while left:
                left -= connection.send(b"x" * min(left, 100_000))
    assert left
    assert shared.post("next").status_code == 200


def test_other_paths_and_methods_are_refused(shared):
    assert shared.client.get("/predict").status_code == 405
    assert shared.client.get("/elsewhere").status_code == 404


def test_a_body_that_does_not_arrive_is_not_waited_for():
    with serving(Model(), timeout=0.2) as served:
        with served.connect(request(b'{"text": ', length=50)) as slow:
            said = slow.recv(1000).decode()
        assert said.startswith("HTTP/1.1 408")
        assert served.post("quick").status_code == 200


def test_an_answer_that_comes_too_late_is_not_waited_for():
    with serving(Model(held=True), timeout=0.3) as served:
        late = served.post("slow")
        assert late.status_code == 504
        assert "within 0.3 s" in late.json()["error"]
        served.model.free.set()
        until(lambda: served.post("quick").status_code == 200)


def test_a_client_that_hangs_up_frees_its_place_and_is_not_computed():
    with serving(Model(held=True)) as served:
        with occupied(served, ["stays"]) as answers:
            gone = served.connect(request(b'{"text": "goneforever"}'))
            until(lambda: served.waiting() == 2)
            gone.close()
            until(lambda: served.waiting() == 1)
        assert [answer.result().status_code for answer in answers] == [200, 200]
        assert [11] not in [row for batch in served.model.batches for row in batch]
        assert served.metrics()["requests_total", "499"] == 1


def test_a_client_that_hangs_up_in_the_middle_of_its_body_harms_nobody():
    with serving(Model()) as served:
        served.connect(request(b'{"text": ', length=50)).close()
        until(lambda: served.metrics().get(("requests_total", "499")) == 1)
        assert served.post("next").status_code == 200


def test_a_shutdown_under_load_answers_all_that_it_accepted():
    threads = threading.active_count()
    with serving(Model(held=True)) as served:
        with occupied(served, ["a", "b", "c"]) as answers:
            served.server.should_exit = True
            until(lambda: served.client.get("/health").status_code == 503)
            turned_away = served.post("late")
            assert turned_away.status_code == 503
            assert turned_away.json() == {"error": "The server is about to stop. Ask another one."}
            assert not any(answer.done() for answer in answers)
            served.model.free.set()
            assert [answer.result(20).status_code for answer in answers] == [200] * 4
        served.thread.join(20)
        assert refuses(served.place)
        assert not served.thread.is_alive()
    assert threading.active_count() == threads


def test_a_shutdown_does_not_wait_for_batches_to_fill():
    with serving(Model(), max_wait=1000.0, max_batch=10) as served, ThreadPoolExecutor(3) as people:
        answers = [people.submit(served.post, "alone") for _ in range(3)]
        until(lambda: served.waiting() == 3)
        served.server.should_exit = True
        assert [answer.result(20).status_code for answer in answers] == [200] * 3


def refuses(place):
    try:
        socket.create_connection(place, timeout=5).close()
    except OSError:
        return True
    return False


def test_a_model_that_fails_fails_its_own_requests_alone(caplog):
    with serving(Model()) as served:
        served.model.broken = True
        answer = served.post("unlucky")
        assert answer.status_code == 500
        assert "no such weights" not in answer.text  # the log has it; a stranger need not know
        served.model.broken = False
        assert served.post("lucky").status_code == 200
    assert "no such weights" in caplog.text


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"timeout": 0.0}, {"max_wait": -0.1}])
def test_limits_that_allow_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        Limits(**wrong)
