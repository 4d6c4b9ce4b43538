"""Runs inside the sandbox: takes a learner's statements and cases, gives back values. It judges nothing.

Loaded by `fork_server` with an interpreter that sees the standard library alone; numpy, torch, `frames`, `recipes`
and `wire` are the only other things it loads. Whatever the learner's code does to this process, it can spoil only its
own answers: the reference and the comparison are in the grader, in another process.
"""

import __future__

import builtins
import os
import random
import sys
import types

try:
    from . import frames
except ImportError:  # in the sandbox, where there is no package
    import frames

LOADED = ("torch", "numpy")
MESSAGE_CHARACTERS = 500


class Placeholder(types.ModuleType):
    """Stands for a package that exercises may not use: it can be imported, and raises when something is taken of it."""

    __all__ = ()

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Refusal(f"{self.__name__}.{name}", self.__name__.split(".")[0])


class _Refusal:
    """A name taken from a placeholder: `from package import name` works, the first use raises."""

    def __init__(self, name: str, package: str):
        self._why = (
            f"{name} cannot be used here: exercises are judged with the standard library, numpy and torch alone, "
            f"without {package}. Write it out."
        )

    def _raise(self, *_, **__):
        raise ImportError(self._why)

    __call__ = __getitem__ = __iter__ = __len__ = __bool__ = __enter__ = __mro_entries__ = _raise
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _raise

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        self._raise()


class Inert:
    """Stands for what a notebook has and the grader has not, such as `quiz`: anything goes, nothing happens."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_, **__):
        return self


class LearnerNamespace:
    """A learner's namespace, and what can be asked of it."""

    def __init__(self, recipes, wire, answer_bytes: int):
        self.recipes, self.wire, self.answer_bytes = recipes, wire, answer_bytes
        self.flags = 0
        # The learner's functions get builtins of their own, so that torch and the rest import as ever.
        own = vars(builtins) | {"__import__": self._import}
        inert = dict.fromkeys(("quiz", "display", "get_ipython"), Inert())
        self.namespace = {"__name__": "notebook", "__builtins__": own} | inert

    def _import(self, name, globals=None, locals=None, fromlist=(), level=0):
        """`import` as the learner's code sees it."""
        package = name.split(".")[0]
        if level or package in LOADED or package in sys.stdlib_module_names:
            return __import__(name, globals, locals, fromlist, level)
        if name == "quizzes.inside.recipes" and fromlist:
            return self.recipes
        if name == "quizzes.inside" and "recipes" in (fromlist or ()):
            inside = Placeholder(name)
            inside.recipes = self.recipes
            return inside
        return Placeholder(name if fromlist else package)

    def run(self, source: str) -> dict:
        """Execute one statement. What it raises is reported; the statements after it still run."""
        try:
            # Whatever stands in the notebook from __future__ holds for the statements after it, as in the notebook.
            code = compile(source, "<notebook>", "exec", flags=self.flags, dont_inherit=True)
            self.flags |= code.co_flags & _FUTURE
            exec(code, self.namespace)
        except BaseException as error:
            return _raised(error, self.recipes)
        return {"status": "done"}

    def ask_all(self, function: str, sizes: list[int], body: bytes) -> tuple[list[dict], list[bytes]]:
        """Call a function with every case. Once it says that it is not written yet, nothing more is asked."""
        replies, values, start, room = [], [], 0, self.answer_bytes
        for size in sizes:
            if replies and replies[0]["status"] == "not attempted":
                replies.append(replies[0])
                continue
            reply, answer = self.ask(function, body[start : start + size], room)
            start, room = start + size, room - len(answer)
            replies.append(reply | {"size": len(answer)})
            values.append(answer)
        return replies, values

    def ask(self, function: str, body: bytes, room: int) -> tuple[dict, bytes]:
        """Call a function with one case and return what was observed, as bytes."""
        torch = sys.modules["torch"]
        # One exercise's settings must not reach into the next.
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        torch.default_generator.manual_seed(0)  # torch.manual_seed asks for every other device too
        random.seed(0)
        sys.modules["numpy"].random.seed(0)
        before = os.getpid()
        try:
            if function not in self.namespace:
                raise NameError(f"name {function!r} is not defined")
            header, tensors = self.wire.unpack(body)
            arguments = self.recipes.build(header["arguments"], tensors)
            values = self.recipes.observe(self.namespace[function], arguments, header["observe"])
            answer = self.wire.pack_values(values)
            if len(answer) > room:
                raise ValueError(f"the answer has {len(answer):,} bytes; {self.answer_bytes:,} are taken in all")
            reply = {"status": "answered"}
        except BaseException as error:
            reply, answer = _raised(error, self.recipes), b""
        if os.getpid() != before:  # a fork that came back here would answer a second time
            os._exit(1)
        return reply, answer


_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag


def _raised(error: BaseException, recipes) -> dict:
    """An exception as text. Its own code may run while it is read, and may raise again."""
    try:
        message, not_written = str(error)[:MESSAGE_CHARACTERS], recipes.not_written(error)
    except BaseException:
        message, not_written = "its message cannot be read", False
    kind = "exited" if isinstance(error, SystemExit | KeyboardInterrupt) else "raised"
    if not_written:
        kind = "not attempted"
    if isinstance(error, MemoryError) or "can't allocate memory" in message or "not enough memory" in message:
        kind = "out of memory"
    return {"status": kind, "error": type(error).__name__, "message": message}


def warm() -> None:
    """Import what exercises use, and do once what is slow the first time: torch loads half of itself when first used.

    A process that is forked afterwards finds all of it done.
    """
    import numpy
    import numpy.ctypeslib
    import torch

    torch.set_num_threads(1)
    import recipes
    import wire  # noqa: F401

    numpy.random.seed(0)
    model = recipes.build(*recipes.encode(recipes.tiny_encoder(0)))
    tokens = torch.ones(2, 3, dtype=torch.int64)
    loss = torch.nn.functional.cross_entropy(model(tokens, tokens), tokens[:, 0])
    loss.backward()
    torch.optim.Adam(model.parameters()).step()
    torch.func.vmap(torch.sin)(torch.ones(2))
    repr(loss)


def serve(requests, answers, answer_bytes: int) -> None:
    """Answer what comes in through one stream by the other until the grader hangs up."""
    worker = LearnerNamespace(sys.modules["recipes"], sys.modules["wire"], answer_bytes)
    frames.send(answers, {"status": "ready"})
    while (message := frames.receive(requests)) is not None:
        request, body = frames.split(message)
        if "run" in request:
            replies, values = [worker.run(source) for source in request["run"]], []
        else:
            replies, values = worker.ask_all(request["ask"], request["sizes"], body)
        frames.send(answers, {"status": "done", "replies": replies, "id": request["id"]}, b"".join(values))
