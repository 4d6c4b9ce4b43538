"""Files and folders that are replaced whole: whoever reads one finds the old content or the new, never a half.

What is written goes beside the old one first, under a name that no other process or thread has, and is then renamed,
which a file system does in one step.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """A path to write a file to; when the body ends, that file takes the place of `path`, whose folder is made first.

    When the body raises, the old file stays and the new one is gone. durable: on disk before the old one goes, so that
    even a power cut loses neither; it costs milliseconds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(path)
    try:
        yield aside
        if durable:
            with open(aside, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill; when the body ends, it takes the place of `folder`, which need not be there.

    When the body raises, the old folder stays and the new one is gone.
    """
    aside = _beside(folder)
    aside.mkdir(parents=True)
    try:
        yield aside
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str, durable: bool = False) -> None:
    """All of the text or none of it, in UTF-8, its ends of lines as they are; see `replacing`."""
    with replacing(path, durable) as aside:
        aside.write_text(text, encoding="utf-8", newline="")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
