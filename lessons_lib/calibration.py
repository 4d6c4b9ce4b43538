"""What the inputs of linear layers look like over a few batches: all that GPTQ and AWQ ask of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lessons_lib import layers


@dataclass
class Moments:
    """Sums over the inputs x of a layer: count of rows, second (n, n) of x xᵀ, size (n,) of |x|, all in FP32."""

    count: int
    sum_second: Tensor
    sum_size: Tensor

    @property
    def second(self) -> Tensor:
        """The mean of x xᵀ, FP32 (n, n)."""
        return self.sum_second / self.count

    @property
    def size(self) -> Tensor:
        """The mean of |x|, FP32 (n,)."""
        return self.sum_size / self.count


def moments(model: nn.Module, batches: Iterable[layers.Batch], names: Sequence[str]) -> dict[str, Moments]:
    """Moments of the inputs of the named linear layers while the model reads the batches, in inference mode.

    batches: keyword arguments of the model, with an attention_mask (B, T) of 1 for real tokens; padding is not counted.
    Layers that read the very same tensor, such as query, key and value, share one Moments object.
    Raises ValueError when a layer saw nothing.
    """
    found: dict[str, Moments] = {}
    last: dict = {}

    def note(name: str, x: Tensor) -> None:
        if last.get("x") is not x:
            last.update(x=x, layer=name)
            rows = x.float()
            n = rows.shape[1]
            seen = found.setdefault(name, Moments(0, rows.new_zeros(n, n), rows.new_zeros(n)))
            seen.count += len(rows)
            # S += X Xᵀ
            seen.sum_second.addmm_(rows.t(), rows)
            seen.sum_size += rows.abs().sum(dim=0)
        found[name] = found[last["layer"]]

    layers.watch(model, batches, note, names)
    silent = [name for name in names if name not in found]
    if silent:
        raise ValueError(f"{silent[0]} saw no input: is it part of the forward pass, and are there batches?")
    return found
