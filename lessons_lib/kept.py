"""A model that is trained once on this machine, kept in the cache, and read back ever after."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_model, save_model
from torch import nn

from lessons_lib import assets

WEIGHTS = "model.safetensors"


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
    takes: str
    shape: Callable[[], dict]
    train: Callable[[Path, bool], nn.Module]
    blank: Callable[[], nn.Module]

    def get(self, progress: bool = False) -> nn.Module:
        """A copy of its own at every call, in eval mode, its parameters frozen; trained first when it is not kept."""
        shape = self.shape()
        checkpoint = assets.stored_folder(self.name, shape).with_suffix(".checkpoint")
        model = assets.stored(self.name, shape, lambda: self.train(checkpoint, progress), self._load, self._save)
        return model.requires_grad_(False).eval()

    def prepare(self, report: Callable[[str], None]) -> None:
        """Train it unless it is there. Safe to interrupt and to repeat."""
        if not assets.is_intact(assets.stored_folder(self.name, self.shape())):
            report(f"{self.title}: training, once ({self.takes})")
            self.get(progress=True)
        report(f"{self.title}: ready")

    def _load(self, folder: Path) -> nn.Module:
        model = self.blank()
        load_model(model, folder / WEIGHTS)
        return model

    def _save(self, model: nn.Module, folder: Path) -> None:
        save_model(model, str(folder / WEIGHTS))
