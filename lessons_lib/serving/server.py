"""A small server around a model: batches, limits, health, metrics, and a shutdown that answers all it accepted.

    POST /predict   {"text": "..."} -> {"topic": "sport", "probabilities": {...}}
    GET  /health    200 while it runs, 503 on its way out
    GET  /metrics   counts and times, in the text format of Prometheus

What it refuses, it refuses in plain words, {"error": "..."}: 413 too long, 422 malformed, 408 sent too slowly, 429 too
many wait, 503 about to stop, 504 not done in time. Accepted is a request that has a place in the queue.
"""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lessons_lib.serving.batching import Batcher, Closed, Full

HUNG_UP = 499  # nobody reads it; the number that nginx counts such requests under
DISCARDED = 1_000_000  # bytes of a body that are read at most; whoever sends more is cut off
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)  # borders of the histograms of times
WANTED = 'Send one JSON object, {"text": "..."}, with a text that is not empty.'


@dataclass(frozen=True)
class Limits:
    """What one request may cost, and how many may wait. Times in seconds."""

    max_batch: int = 16  # texts computed together
    max_wait: float = 0.005  # that a text waits for others while the model is idle
    capacity: int = 64  # texts that may wait
    timeout: float = 2.0  # for a request's body to arrive, and again for its answer to be ready
    max_bytes: int = 10_000  # of a request's body
    max_tokens: int = 128  # of a text

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "max_wait"):
                raise ValueError(f"{name} is {value}; it must be above 0.")


class RequestRefused(Exception):
    """A request that gets a status and a reason in place of an answer; close: its connection ends with it."""

    def __init__(self, status: int, reason: str, close: bool = False):
        super().__init__(reason)
        self.status, self.close = status, close


class Metrics:
    """What the server counts. Every application has its own registry."""

    def __init__(self):
        self.registry = own = CollectorRegistry()
        self.requests = Counter("requests", "Requests to /predict, by status.", ["status"], registry=own)
        self.seconds = Histogram(
            "request_seconds", "From a request's start to its answer, if it was 200.", buckets=SECONDS, registry=own
        )
        self.waited = Histogram("waited_seconds", "In the queue, until the batch left.", buckets=SECONDS, registry=own)
        self.batches = Histogram("batch_size", "Texts computed together.", buckets=(1, 2, 4, 8, 16, 32), registry=own)
        self.waiting = Gauge("waiting", "Texts in the queue now.", registry=own)
        self.topics = Counter("answers", "Answers by topic.", ["topic"], registry=own)

    def batch_left(self, waited: list[float]) -> None:
        """A batch is about to be computed; waited: the seconds of each of its texts in the queue."""
        self.batches.observe(len(waited))
        for seconds in waited:
            self.waited.observe(seconds)


def application(
    encode: Callable[[str], list[int]], compute: Callable[[list[list[int]]], list[dict]], limits: Limits
) -> Starlette:
    """The server as an ASGI application, which uvicorn runs.

    encode: a text to its ids, in well under a millisecond. compute: the ids of several texts to as many answers, each
    a dict with a "topic"; called in a thread of its own. While it runs, `state.batcher` is the queue.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.batcher = batcher = Batcher(
            compute, limits.max_batch, limits.max_wait, limits.capacity, metrics.batch_left
        )
        metrics.waiting.set_function(lambda: len(batcher.waiting))
        yield
        await batcher.close()

    async def answer(request: Request) -> dict:
        ids = encode(_text(await _body(request, limits)))
        if len(ids) > limits.max_tokens:
            raise RequestRefused(
                413, f"The text has {len(ids)} tokens; at most {limits.max_tokens} are read. Shorten it."
            )
        try:
            async with asyncio.timeout(limits.timeout):
                return await _unless_hung_up(request, request.app.state.batcher.submit(ids))
        except Full:
            raise RequestRefused(429, f"{limits.capacity} texts wait already. Try again in a second.") from None
        except Closed:
            raise RequestRefused(503, "The server is about to stop. Ask another one.") from None
        except TimeoutError:
            raise RequestRefused(504, f"There was no answer within {limits.timeout:g} s. Try again later.") from None

    async def predict(request: Request) -> Response:
        start, headers = time.perf_counter(), {}
        try:
            status, content = 200, await answer(request)
            metrics.topics.labels(content["topic"]).inc()
            metrics.seconds.observe(time.perf_counter() - start)
        except RequestRefused as refused:
            status, content = refused.status, {"error": str(refused)}
            headers = {"Connection": "close"} if refused.close else {"Retry-After": "1"} if status == 429 else {}
        except ClientDisconnect:
            status, content = HUNG_UP, {}
        except Exception:  # of the model: this caller is told, the others are answered
            logging.getLogger(__name__).exception("a request failed")
            status, content = 500, {"error": "The model failed on this request. The server's log says more."}
        metrics.requests.labels(status).inc()
        return JSONResponse(content, status, headers)

    async def health(request: Request) -> Response:
        stopping = request.app.state.batcher.closing
        return PlainTextResponse("about to stop" if stopping else "ok", 503 if stopping else 200)

    async def show_metrics(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health),
            Route("/metrics", show_metrics),
        ],
    )


class Server(uvicorn.Server):
    """uvicorn's server, which on its way out first answers what waits, and turns the rest away in plain words.

    uvicorn alone would close the door at once, and the queue only after the last connection: batches would go on
    waiting for others who cannot come any more.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Everything accepted has its answer; then the door is closed."""
        await self.config.app.state.batcher.close()
        await super().shutdown(sockets)


async def _body(request: Request, limits: Limits) -> bytes:
    """The body, kept no further than the limit. A little more is read, so that its sender hears why it is refused."""
    body, size = b"", 0
    try:
        async with asyncio.timeout(limits.timeout):
            async for part in request.stream():
                size += len(part)
                if size <= limits.max_bytes:
                    body += part
                elif size > DISCARDED:
                    break
    except TimeoutError:
        raise RequestRefused(408, f"The body did not arrive within {limits.timeout:g} s.", close=True) from None
    if size > limits.max_bytes:
        raise RequestRefused(
            413, f"The body has more than {limits.max_bytes:,} bytes. Send a shorter text.", size > DISCARDED
        )
    return body


def _text(body: bytes) -> str:
    """The text in a body, or RequestRefused with what is wrong about it."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestRefused(422, f"The body is not JSON. {WANTED}") from None
    if not isinstance(given, dict) or set(given) != {"text"}:
        raise RequestRefused(422, f"The body is JSON, but not an object with `text` and nothing else. {WANTED}")
    text = given["text"]
    if not isinstance(text, str) or not text.strip():
        raise RequestRefused(422, f"`text` is empty or no string. {WANTED}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestRefused(422, f"`text` holds half of a character (a lone surrogate). {WANTED}") from None
    return text


async def _unless_hung_up(request: Request, answer: Coroutine) -> dict:
    """The answer; ClientDisconnect as soon as the client hangs up, and then nobody works on the answer any more."""

    async def hung_up():
        while (await request.receive())["type"] != "http.disconnect":
            pass

    wanted, gone = asyncio.ensure_future(answer), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({wanted, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise ClientDisconnect
        return wanted.result()
    finally:
        wanted.cancel()
        gone.cancel()
