"""Runs inside a sandbox of its own: takes a model that was handed in and inputs, gives back what it computes.

It executes no learner's code, but reads files that anybody may have written, with libraries that may have faults. So it
stands behind the same walls and under the same limits as code does, and no label and no other hand-in is in reach.
"""

import sys

try:
    from . import frames
except ImportError:  # in the sandbox, where there is no package
    import frames

MESSAGE_CHARACTERS = 500
REFUSED, ANSWERED = "refused", "answered"


def warm() -> None:
    """Import what is slow to import, once; a process that is forked afterwards finds it done."""
    import onnx_check  # noqa: F401
    import onnx_run  # noqa: F401
    import safetensors.numpy  # noqa: F401


class Runner:
    """One hand-in, once its files have come."""

    def __init__(self, answer_bytes: int):
        self.answer_bytes, self.model = answer_bytes, None

    def open(self, task: str, settings: dict, sizes: list[int], body: bytes) -> bytes:
        """Look into the files and open them."""
        files, start = [], 0
        for size in sizes:
            files.append(body[start : start + size])
            start += size
        self.model = sys.modules["onnx_run"].TASKS[task](files, settings)
        return b""

    def run(self, body: bytes) -> bytes:
        """What the model computes of arrays, packed by safetensors as they come."""
        from safetensors import numpy

        answer = numpy.save(self.model.run(numpy.load(body)))
        if len(answer) > self.answer_bytes:
            raise ValueError(f"the answer has {len(answer):,} bytes; {self.answer_bytes:,} are taken")
        return answer


def serve(requests, answers, answer_bytes: int) -> None:
    """Answer what comes in through one stream by the other until the grader hangs up."""
    runner = Runner(answer_bytes)
    frames.send(answers, {"status": "ready"})
    while (message := frames.receive(requests)) is not None:
        request, body = frames.split(message)
        try:
            if "open" in request:
                answer = runner.open(request["open"], request["settings"], request["sizes"], body)
            else:
                answer = runner.run(body)
            reply = {"status": ANSWERED}
        except BaseException as error:
            reply, answer = _failed(error), b""
        frames.send(answers, reply | {"id": request["id"]}, answer)


def _failed(error: BaseException) -> dict:
    """An exception as text. What ONNX Runtime says may name a file and a line of its own source: that is left out."""
    refused = isinstance(error, sys.modules["onnx_check"].ModelRefused | sys.modules["onnx_run"].Unusable)
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    message = lines[0][:MESSAGE_CHARACTERS]
    short = isinstance(error, MemoryError) or "allocat" in message or "bad_alloc" in message
    kind = "out of memory" if short else REFUSED if refused else "raised"
    return {"status": kind, "message": message if refused else message.rpartition(" : ")[2] or message}
