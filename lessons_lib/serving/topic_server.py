"""The topic classifier behind `server`, as a program of its own. It loads neither torch nor transformers.

    python -m lessons_lib.serving.topic_server model.onnx --port 8000

prints its address and serves until it is interrupted (Ctrl-C, or SIGTERM): then it takes no more requests, answers all
that it accepted, and ends.
"""

import argparse
import contextlib
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy
import uvicorn

from lessons_lib.files import packaged
from lessons_lib.serving.onnx_session import session
from lessons_lib.serving.server import Limits, Server, application
from lessons_lib.tasks import bbc

HOST = "127.0.0.1"  # loopback: this machine alone


class TopicModel:
    """An ONNX file of a topic classifier, with the encoder's tokenizer. Probabilities by topic."""

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        from tokenizers import Tokenizer

        self.session = session(path, threads)
        folder = packaged.encoder_folder()
        local = Path(folder) / "tokenizer.json"
        self.tokenizer = Tokenizer.from_file(str(local)) if local.is_file() else Tokenizer.from_pretrained(str(folder))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()  # too long is refused, not cut off in silence

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self.tokenizer.encode(text).ids

    def compute(self, rows: list[list[int]]) -> list[dict]:
        """{"topic": str, "probabilities": {topic: float}} for the ids of each text, padded to the longest of them."""
        ids = numpy.zeros((len(rows), max(map(len, rows))), dtype=numpy.int64)
        mask = numpy.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)], mask[number, : len(row)] = row, 1
        logits = self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        # softmax: p = exp(z - max z) / sum
        weights = numpy.exp(logits - logits.max(axis=1, keepdims=True))
        return [
            {
                "topic": bbc.TOPICS[int(row.argmax())],
                "probabilities": dict(zip(bbc.TOPICS, map(float, row), strict=True)),
            }
            for row in weights / weights.sum(axis=1, keepdims=True)
        ]


@contextlib.contextmanager
def running(path: str | os.PathLike, limits: Limits | None = None, threads: int = 1) -> Iterator[str]:
    """A server in a process of its own while the body runs; gives its address, such as http://127.0.0.1:40123.

    It ends with the body, and with this process, whatever happens: its input is a pipe from here, and it stops when the
    pipe is closed. Raises RuntimeError when it does not start.
    """
    limits = limits or Limits()
    options = [part for name, value in asdict(limits).items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [
        sys.executable,
        "-m",
        "lessons_lib.serving.topic_server",
        str(path),
        "--threads",
        str(threads),
        "--until-closed",
        *options,
    ]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            address = process.stdout.readline().decode().strip()
            if not address:
                log.seek(0)
                log_lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing."]
                raise RuntimeError(f"The server did not start: {log_lines[-1]}")
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(_patience(limits) + 5)
            except subprocess.TimeoutExpired:
                process.kill()


def main(arguments: Sequence[str] | None = None) -> None:
    """The program; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m lessons_lib.serving.topic_server", description=main.__doc__)
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--threads", type=int, default=1, help="for the model")
    parser.add_argument("--until-closed", action="store_true", help="stop when the standard input is closed")
    for field in fields(Limits):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default)
    given = parser.parse_args(arguments)
    limits = Limits(**{field.name: getattr(given, field.name) for field in fields(Limits)})
    model = TopicModel(given.model, given.threads)
    config = uvicorn.Config(
        application(model.encode, model.compute, limits),
        log_level="warning",
        access_log=False,
        lifespan="on",
        http="h11",
        ws="none",
        timeout_graceful_shutdown=_patience(limits),
    )
    server = Server(config)
    if given.until_closed:
        threading.Thread(target=_stop_when_closed, args=[server], daemon=True).start()
    with socket.create_server((HOST, given.port)) as listening:
        print(f"http://{HOST}:{listening.getsockname()[1]}", flush=True)
        server.run(sockets=[listening])


def _stop_when_closed(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


def _patience(limits: Limits) -> int:
    """Seconds after which every accepted request has its answer, if only 504."""
    return math.ceil(2 * limits.timeout) + 1


if __name__ == "__main__":
    main()
