"""The cache: what this machine derives or trains once is kept in a folder named by all that shaped it, and read back.

`stored` keeps any artifact, `KeptModel` a trained model. torch and safetensors are loaded when a model is asked for.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lessons_lib.files import atomic

if TYPE_CHECKING:
    from torch import nn

CHECKSUMS = "checksums.json"
WEIGHTS = "model.safetensors"

Value = TypeVar("Value")


def cache_dir() -> Path:
    """Folder for everything derived: $COURSE_CACHE, else the user's cache folder here. Created if absent."""
    chosen = os.environ.get("COURSE_CACHE")
    if chosen:
        folder = Path(chosen).expanduser()
    else:
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("model-compression-measured", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_folder(name: str, shaped_by: dict[str, Any]) -> Path:
    """Folder in the cache for the artifact `name`, by a hash of all that shapes it."""
    try:
        declaration = json.dumps(shaped_by, sort_keys=True)
    except TypeError as error:
        raise TypeError(f"shaped_by must hold JSON values only, so that it can be hashed: {error}") from None
    return cache_dir() / f"{name}-{hashlib.sha256(declaration.encode()).hexdigest()[:16]}"


def is_intact(folder: Path) -> bool:
    """Whether a stored folder holds every file it was written with, bit for bit."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return bool(checksums) and all(file_sha256(folder / name) == sha for name, sha in checksums.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def stored(
    name: str,
    shaped_by: dict[str, Any],
    build: Callable[[], Value],
    load: Callable[[Path], Value],
    save: Callable[[Value, Path], None],
) -> Value:
    """An artifact from the cache; built and kept there when it is absent or damaged.

    shaped_by: JSON values, everything that shapes the artifact; a change of any of them makes another artifact.
    save(value, folder) writes files into an empty folder; load(folder) reads them back.
    The folder appears under its name only when complete, its checksums are verified before every load, and two
    processes that want the same artifact at the same time build it once.
    """
    from filelock import FileLock

    folder = stored_folder(name, shaped_by)
    if is_intact(folder):
        return load(folder)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if not is_intact(folder):  # another process may have built it while this one waited for the lock
            value = build()
            with atomic.replacing_folder(folder) as aside:
                save(value, aside)
                files = sorted(path for path in aside.rglob("*") if path.is_file())
                checksums = {path.relative_to(aside).as_posix(): file_sha256(path) for path in files}
                (aside / CHECKSUMS).write_text(json.dumps(checksums, indent=1), encoding="utf-8")
        return load(folder)


@dataclass(frozen=True)
class KeptModel:
    """How one model is made and what shapes it.

    name: of its folder in the cache. title, takes: what `prepare` calls it, and how long it says that training takes.
    shape(): JSON values, all that shapes the model; a change of any of them makes another model. train(checkpoint,
    progress): a trained model; the checkpoint is where an interrupted training may go on. blank(): the model untrained,
    to be filled with what was kept.
    """

    name: str
    title: str
    shape: Callable[[], dict]
    train: "Callable[[Path, bool], nn.Module]"
    blank: "Callable[[], nn.Module]"
    takes: str = "a few minutes; interrupt it whenever you like, it goes on from there"

    def get(self, progress: bool = False) -> "nn.Module":
        """A copy of its own at every call, in eval mode, its parameters frozen; trained first when it is not kept."""
        shape = self.shape()
        checkpoint = stored_folder(self.name, shape).with_suffix(".checkpoint")
        model = stored(self.name, shape, lambda: self.train(checkpoint, progress), self._load, self._save)
        return model.requires_grad_(False).eval()

    def prepare(self, report: Callable[[str], None]) -> None:
        """Train it unless it is there. Safe to interrupt and to repeat."""
        if not is_intact(stored_folder(self.name, self.shape())):
            report(f"{self.title}: training, once ({self.takes})")
            self.get(progress=True)
        report(f"{self.title}: ready")

    def _load(self, folder: Path) -> "nn.Module":
        from safetensors.torch import load_model

        model = self.blank()
        load_model(model, folder / WEIGHTS)
        return model

    def _save(self, model: "nn.Module", folder: Path) -> None:
        from safetensors.torch import save_model

        save_model(model, str(folder / WEIGHTS))
