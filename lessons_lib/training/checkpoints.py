"""The state of a training between two steps, kept in a file, so that an interrupt or a kill loses little."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from lessons_lib.files import atomic

SECONDS_BETWEEN = 15.0


def state_sha256(state: dict[str, Tensor]) -> str:
    """Hash over names, shapes, dtypes and values of tensors."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Checkpoint:
    """One file with the state between two steps; written to the side and renamed, so that it is always whole."""

    def __init__(self, path: str | os.PathLike, fingerprint: str):
        self.path, self.fingerprint, self.saved = Path(path), fingerprint, time.monotonic()

    def load(self) -> dict | None:
        """The state this very run left behind; None when there is none, or it is damaged, or of another run."""
        try:
            state = torch.load(self.path, weights_only=True)
        except FileNotFoundError:
            return None
        except Exception:  # a truncated file fails in many ways, and the answer to all is to start over
            return None
        return state if isinstance(state, dict) and state.get("fingerprint") == self.fingerprint else None

    def save(self, state: dict) -> None:
        """Write the state whole, beside the old one first, so that a crash leaves one or the other."""
        with atomic.replacing(self.path, durable=True) as aside:
            torch.save(state | {"fingerprint": self.fingerprint}, aside)
        self.saved = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last save is long enough ago for another."""
        return time.monotonic() - self.saved >= SECONDS_BETWEEN


@contextmanager
def interrupt_between_steps() -> Iterator[list[int]]:
    """Collects Ctrl-C in a list, so that the loop can stop between two steps; a second Ctrl-C stops at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def remember(signum: int, frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(signum)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)
