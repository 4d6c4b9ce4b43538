"""The load is open, bounded, and counts from the planned time; what has no answer is counted as such."""

import asyncio
import http.server
import math
import socket
import threading
import time

import pytest

from lessons_lib.serving import load_test

TEXTS = ["one", "two"]


@pytest.fixture
def slow():
    """A server that takes 50 ms for each request, one after the other, and answers every third with 429."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(0.05)
            self.server.seen += 1
            self.send_response(429 if self.server.seen % 3 == 0 else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.request_queue_size = 0, 100
    server.socket.listen(100)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def address(server):
    return "http://{}:{}".format(*server.server_address)


def test_requests_are_sent_at_their_time_and_waits_count_from_then(slow):
    load = load_test.drive(address(slow), TEXTS, rate=60, seconds=0.5)
    assert slow.seen == 30
    assert load.statuses == {200: 20, 429: 10}
    assert load.offered == 60
    assert load.refused == pytest.approx(1 / 3)
    # 30 requests of 50 ms take 1.5 s, the last was planned at 0.5 s: it has waited for a second. A sender that waits
    # for each answer would have measured 50 ms.
    assert load.p(100) > 900
    assert load.seconds >= 1.5
    assert load.answered == pytest.approx(20 / load.seconds)


def test_it_works_where_a_loop_is_running_as_in_a_notebook(slow):
    async def cell():
        return load_test.drive(address(slow), TEXTS, rate=10, seconds=0.3)

    assert sum(asyncio.run(cell()).statuses.values()) == 3


def test_the_same_seed_sends_at_the_same_times_and_at_the_rate_asked_for(monkeypatch):
    seen = []

    async def send_nothing(where, texts, planned):
        seen.append(planned)
        return [(200, moment, moment) for moment in planned]

    monkeypatch.setattr(load_test, "_send_all", send_nothing)
    for seed in (1, 1, 2):
        load_test.drive("nowhere", TEXTS, rate=100, seconds=4, seed=seed)
    assert (seen[0] == seen[1]).all()
    assert (seen[0] != seen[2]).any()
    assert len(seen[0]) == 400
    assert seen[0][-1] == pytest.approx(4)
    gaps = seen[0][1:] - seen[0][:-1]
    assert 0.8 < gaps.std() / gaps.mean() < 1.2  # exponential: the spread is the mean


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    load = load_test.drive(f"http://127.0.0.1:{port}", TEXTS, rate=20, seconds=0.2)
    assert load.statuses == {"failed": 4}
    assert load.answered == 0
    assert math.isnan(load.p(50))


def test_a_server_that_never_answers_does_not_hold_it_up(monkeypatch):
    monkeypatch.setattr(load_test, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        load = load_test.drive("http://{}:{}".format(*silent.getsockname()), TEXTS, rate=20, seconds=0.2)
    assert load.statuses == {"failed": 4}
    assert time.monotonic() - start < 10


def test_one_that_hangs_does_not_count_into_the_time_of_the_others(monkeypatch):
    async def one_hangs(where, texts, planned):
        return [(200, moment, moment + 0.01) for moment in planned[:-1]] + [("failed", planned[-1], planned[-1] + 10)]

    monkeypatch.setattr(load_test, "_send_all", one_hangs)
    load = load_test.drive("nowhere", TEXTS, rate=100, seconds=1)
    assert load.statuses == {200: 99, "failed": 1}
    assert 90 < load.answered < 110


def test_a_server_that_stops_is_not_credited_with_the_rate_it_began_with(monkeypatch):
    async def stops(where, texts, planned):
        return [(200 if moment < 0.1 else "failed", moment, moment + 0.01) for moment in planned]

    monkeypatch.setattr(load_test, "_send_all", stops)
    load = load_test.drive("nowhere", TEXTS, rate=100, seconds=10)
    assert load.answered == pytest.approx(load.statuses[200] / 10)


@pytest.mark.parametrize("wrong", [{"rate": 10_000, "seconds": 1}, {"rate": 1, "seconds": 0.1}, {"texts": []}])
def test_runs_without_bounds_or_without_requests_are_refused(wrong):
    with pytest.raises(ValueError, match="are allowed"):
        load_test.drive("http://127.0.0.1:1", **({"texts": TEXTS, "rate": 10, "seconds": 1} | wrong))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((0.999, 10_000, 5), (10.0, 0.5)),
        ((0.99, 100, 3), (1.0, 3.0)),
        ((1.0, 10, 0), (0.0, 0.0)),
        ((1.0, 10, 1), (0.0, math.inf)),
    ],
)
def test_error_budgets(given, wanted):
    assert load_test.error_budget(*given) == pytest.approx(wanted)


@pytest.mark.parametrize("wrong", [(1.5, 10, 1), (0.9, 10, 11), (0.9, 10, -1)])
def test_budgets_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="within 0"):
        load_test.error_budget(*wrong)
