"""The one training loop of the course: accelerate underneath, seeds, a progress bar, resumes after an interrupt."""

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lessons_lib.training.checkpoints import Checkpoint, interrupt_between_steps, state_sha256

WARMUP = 0.1  # share of the steps over which the learning rate rises from zero to lr; then it falls to zero
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
CONSTANTS = {"warmup": WARMUP, "weight_decay": WEIGHT_DECAY, "clip_norm": CLIP_NORM}

Batch = dict[str, Tensor]
_watched: ContextVar[bool] = ContextVar("watched", default=False)


@dataclass
class History:
    """losses: one number a step. seconds: time spent training, pauses after an interrupt not counted."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def watched() -> Iterator[None]:
    """Inside, every training shows its progress bar: somebody waits for it, whatever `progress` says."""
    before = _watched.set(True)
    try:
        yield
    finally:
        _watched.reset(before)


def device_type() -> str:
    """Where `train` computes: "cuda" if there is a GPU and `accelerate launch` started this process, not told --cpu;
    else "cpu".

    A lesson keeps its teachers and tables in the processor's memory, where a loss that needs them must find them.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ  # which the launcher always sets
    refused = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")
    return "cuda" if launched and not refused and torch.cuda.is_available() else "cpu"


@lru_cache(maxsize=2)
def fast_bfloat16(device: str = "cpu") -> bool:
    """Whether a device multiplies BF16 matrices faster than FP32 ones: by AMX or AVX-512 BF16, or on a GPU.

    Elsewhere BF16 is emulated and slower than FP32, so training stays in FP32.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def bfloat16_where_fast(device: str = "cpu") -> torch.autocast:
    """What a forward pass of training runs in: BF16 autocast where `fast_bfloat16` says so, else nothing."""
    return torch.autocast(device, torch.bfloat16, enabled=fast_bfloat16(device))


def trim_padding(batch: Batch) -> Batch:
    """Cuts the columns that are padding in every row of the batch, by `attention_mask` (B, T).

    Cut are tensors (B, T) of integers or booleans and all tensors (B, T, ...); a float tensor (B, C) never is.
    """
    mask = batch.get("attention_mask")
    if mask is None:
        return batch
    real = mask.any(dim=0).nonzero()
    width = int(real[-1]) + 1 if len(real) else 1

    def cut(tensor: Tensor) -> Tensor:
        per_token = tensor.shape[:2] == mask.shape and (tensor.ndim > 2 or not tensor.is_floating_point())
        return tensor[:, :width] if per_token else tensor

    return {name: cut(tensor) for name, tensor in batch.items()}


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up to 1 over the first WARMUP of the steps, then linear decay towards 0."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / max(1, steps - warmup)


class _Rows(Dataset):
    """Tensors with a common first dimension, read a whole batch at a time."""

    def __init__(self, data: Batch):
        self.data = data

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    def __getitem__(self, index: int) -> Batch:
        return {name: tensor[index] for name, tensor in self.data.items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        return {name: tensor[indices] for name, tensor in self.data.items()}


class _Batches(Sampler[list[int]]):
    """`steps` batches of row numbers: one shuffled pass over the rows after another, the order fixed by the seed."""

    def __init__(self, rows: int, batch_size: int, steps: int, seed: int, start: int = 0):
        self.batch_size, self.drop_last, self.remaining = batch_size, False, steps - start
        draw = torch.Generator().manual_seed(seed)
        passes = -(-steps * batch_size // rows)
        order = torch.cat([torch.randperm(rows, generator=draw) for _ in range(passes)])
        self.batches = order[: steps * batch_size].view(steps, batch_size)[start:]

    def __len__(self) -> int:
        return self.remaining

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches.tolist())


def _check(data: Batch, steps: int, batch_size: int, lr: float) -> None:
    if not data or not all(isinstance(tensor, Tensor) and tensor.ndim for tensor in data.values()):
        raise TypeError("data must be a non-empty dict of tensors whose first dimension counts the examples.")
    lengths = {name: len(tensor) for name, tensor in data.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"All tensors of data must have the same, non-zero number of examples; they have {lengths}.")
    for name, number in {"steps": steps, "batch_size": batch_size}.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {number!r}.")
    if not 0 < lr < float("inf"):
        raise ValueError(f"lr must be a positive number, not {lr!r}.")


def _fingerprint(model: nn.Module, data: Batch, settings: dict) -> str:
    """What a checkpoint must share with the run that resumes it: the starting weights, the data, the settings."""
    shapers = f"{state_sha256(model.state_dict())} {state_sha256(data)} {sorted(settings.items())}"
    return hashlib.sha256(shapers.encode()).hexdigest()


def train(
    model: nn.Module,
    data: Batch,
    loss: Callable[[nn.Module, Batch], Tensor],
    *,
    steps: int,
    batch_size: int = 32,
    lr: float,
    seed: int,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> History:
    """Trains the parameters that require gradients, in place, with AdamW; leaves the model in eval mode.

    data: tensors with a common first dimension; padding is trimmed batch by batch (see trim_padding).
    loss(model, batch): a scalar. lr: the peak of a linear warm-up and decay. seed: order of the examples, and dropout;
    torch's own random state is put back afterwards.
    checkpoint: a file kept while the training is under way. Interrupted or killed, the same call goes on from it and
    ends with the losses and weights of an undisturbed run. It knows the starting weights, the data and the settings,
    not the loss: give every loss a file of its own.
    Where BF16 is fast (see fast_bfloat16) the forward pass runs under BF16 autocast; weights and optimizer stay FP32.
    Under `accelerate launch` with n processes each takes 1/n of every batch.
    Raises ValueError or TypeError for bad input, FloatingPointError when the loss is not finite.
    """
    _check(data, steps, batch_size, lr)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("No parameter of the model requires a gradient, so there is nothing to train.")
    device = trained[0].device
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "bfloat16": fast_bfloat16(device_type()),
    }
    checkpointer = Checkpoint(checkpoint, _fingerprint(model, data, settings)) if checkpoint is not None else None
    state = checkpointer.load() if checkpointer else None
    history = History(state["losses"], state["seconds"]) if state else History()
    batches = _Batches(len(next(iter(data.values()))), batch_size, steps, seed, start=len(history.losses))
    with torch.random.fork_rng():
        try:
            _loop(
                model,
                trained,
                DataLoader(_Rows(data), batch_sampler=batches, collate_fn=trim_padding),
                loss,
                steps=steps,
                lr=lr,
                seed=seed,
                history=history,
                state=state,
                checkpointer=checkpointer,
                progress=progress,
            )
        finally:
            model.zero_grad(set_to_none=True)
            model.to(device).eval()
    if checkpointer:
        checkpointer.path.unlink(missing_ok=True)
    return history


def _loop(model, trained, loader, loss, *, steps, lr, seed, history, state, checkpointer, progress) -> None:
    from accelerate import Accelerator, DataLoaderConfiguration
    from tqdm.auto import tqdm

    accelerator = Accelerator(
        cpu=device_type() == "cpu",
        mixed_precision="no",  # autocast below, because accelerate fixes its own for the whole process
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=WEIGHT_DECAY, fused=True)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    prepared.train()

    def snapshot() -> dict:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "losses": history.losses,
            "seconds": history.seconds,
        }

    done = len(history.losses)
    show_bar = (progress or _watched.get()) and accelerator.is_main_process
    bar = tqdm(total=steps, initial=done, desc="training", unit="step", leave=False, disable=not show_bar)
    with bar, interrupt_between_steps() if checkpointer else nullcontext([]) as interrupted:
        for step, batch in enumerate(loader, start=done):
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = lr * learning_rate_factor(step, steps)
            torch.manual_seed(seed + 1_000_003 * (step * accelerator.num_processes + accelerator.process_index))
            with bfloat16_where_fast(accelerator.device.type):
                value = loss(prepared, batch)
            if value.ndim:
                raise ValueError(f"loss must return a scalar; it returned a tensor of shape {tuple(value.shape)}.")
            mean = accelerator.reduce(value.detach().float(), reduction="mean").item()
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"The loss became {mean} at step {step + 1} of {steps}. Lower lr (it peaks at {lr:g}), "
                    "or look for NaN and infinite values in the data and in the loss."
                )
            accelerator.backward(value)
            accelerator.clip_grad_norm_(trained, CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad()
            history.losses.append(mean)
            history.seconds += time.perf_counter() - started
            bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
            bar.update()
            if checkpointer and accelerator.is_main_process and (interrupted or checkpointer.is_due()):
                checkpointer.save(snapshot())
            if interrupted:
                raise KeyboardInterrupt
    accelerator.free_memory()
