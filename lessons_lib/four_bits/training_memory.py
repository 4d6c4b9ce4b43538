"""What fine-tuning a language model holds in memory, part by part: computed by one formula, measured by counting.

The language model is of the Llama kind: blocks of two norms, four projections for attention, three for the
feed-forward part. Bytes are those of this library's `loop.train`: FP32 weights, BF16 products where those are fast.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from lessons_lib.arithmetic import nf4
from lessons_lib.files import fresh_process
from lessons_lib.four_bits import libraries, lora
from lessons_lib.measure import memory, model_size
from lessons_lib.tasks import headlines
from lessons_lib.training import loop

FP32, BF16 = 4, 2
ADAMW = 2 * FP32  # bytes a trained number: two averages
ADAMW_8BIT = 2 * (1 + FP32 / 256)  # codes, and a scale for every 256; small tensors take as much as with ADAMW
# Linux's allocator keeps pieces of a few megabytes that were freed, in case they are asked for again. With this setting
# every tensor goes back to the system at once, and resident memory is what tensors take. Other systems do not know it.
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a language model: width, width of keys and of values, inner width, blocks, heads, vocabulary."""

    width: int
    keys: int
    inner: int
    blocks: int
    heads: int
    vocabulary: int

    @classmethod
    def of(cls, config) -> "ModelShape":
        """The sizes in the configuration of a Llama model of transformers."""
        keys = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
        return cls(
            config.hidden_size,
            keys,
            config.intermediate_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.vocab_size,
        )

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """(n_in, n_out) of the linear layers of one block."""
        d, k, f = self.width, self.keys, self.inner
        return {
            "q_proj": (d, d),
            "k_proj": (d, k),
            "v_proj": (d, k),
            "o_proj": (d, d),
            "gate_proj": (d, f),
            "up_proj": (d, f),
            "down_proj": (f, d),
        }


def block_activations(shape: ModelShape, tokens: int, method: str, r: int, compute: int) -> int:
    """Bytes that one block keeps from the forward pass for the backward pass, with an adapter at every linear layer.

    compute: bytes of a number in the products, FP32 or BF16. Weights that were copied to BF16 are not counted here.
    """
    d, k, f = shape.width, shape.keys, shape.inner
    # The norms compute in FP32. Both keep their input and a number a token; a trained one its normed input too.
    norms = FP32 * (2 * d * (2 if method == "full" else 1) + 2)
    # In FP32 q, k and v share one input, gate and up another. In BF16 every layer makes a copy of its own.
    inputs = 5 * d if compute == BF16 else 2 * d
    # Attention keeps query, key, value, its output, and a number a head; the output is what o_proj reads.
    attention = compute * (2 * d + 2 * k) + FP32 * shape.heads
    # silu(gate) * up: gate, silu(gate), up, and the product, which down_proj reads
    feed_forward = compute * 4 * f
    low_rank = 0 if method == "full" else compute * len(shape.linear) * r
    return tokens * (norms + compute * inputs + attention + feed_forward + low_rank)


def computed(
    shape: ModelShape,
    method: str,
    rows: int,
    length: int,
    written: int,
    r: int = 8,
    checkpointing: bool = False,
    compute: int = FP32,
    optimizer: float = ADAMW,
) -> dict[str, float]:
    """Bytes of every part of a training step, and of the peak.

    rows, length: of a batch. written: tokens of a row whose logits count. compute: bytes of a number in the products.
    optimizer: bytes a trained number. Raises ValueError for an unknown method, and for numbers below 1.
    """
    lora.check_method(method)
    if min(rows, length, written, r) < 1 or compute not in (FP32, BF16):
        raise ValueError(
            f"rows, length, written and r are {rows}, {length}, {written} and {r}, compute is {compute}; "
            f"whole numbers from 1 on are needed, and {FP32} or {BF16} bytes for compute."
        )
    inside = shape.blocks * sum(n_in * n_out for n_in, n_out in shape.linear.values())
    embedding, norms = shape.vocabulary * shape.width, (2 * shape.blocks + 1) * shape.width
    low_rank = 0 if method == "full" else r * shape.blocks * sum(map(sum, shape.linear.values()))
    trained = low_rank or inside + embedding + norms
    block = block_activations(shape, rows * length, method, r, compute)
    copied = 0 if compute == FP32 or method == "qlora" else inside  # Linear4bit reads its weight back once more
    others = 0 if compute == FP32 else embedding + low_rank
    # With checkpointing a block keeps its input, and all the rest is made again, one block at a time.
    each = FP32 * rows * length * shape.width if checkpointing else block
    last = shape.width * (2 if method == "full" else 1)  # what the last norm keeps of a token
    again = block + (BF16 * (copied + low_rank) / shape.blocks if compute == BF16 else 0)
    parts = {
        "weights": FP32 * (embedding + norms) + inside * (nf4.bits_per_weight() / 8 if method == "qlora" else FP32),
        "adapters": FP32 * low_rank,
        "gradients": FP32 * trained,
        "optimizer": optimizer * trained,
        "BF16 copies": BF16 * (embedding if checkpointing and compute == BF16 else copied + others),
        "activations": shape.blocks * each + FP32 * rows * (length * last + written * shape.vocabulary),
        "a block again": again if checkpointing else 0,
    }
    return parts | {"peak": peak(parts, FP32 * rows * written * shape.vocabulary)}


def peak(parts: dict[str, float], logits: float) -> float:
    """Bytes at the fullest moment: what a step keeps for its gradients is given back while the gradients are made.

    logits: bytes of the logits. When the loss is differentiated there are two more tensors of their size for a moment.
    """
    lasting = parts["weights"] + parts["adapters"] + parts["optimizer"]
    saved_bytes = parts["activations"] + parts["BF16 copies"]
    # peak = weights + adapters + optimizer + max(gradients, activations + copies + max(2 logits, a block again))
    return lasting + max(parts["gradients"], saved_bytes + max(2 * logits, parts["a block again"]))


def measured(method: str, rows: int, r: int = 8, checkpointing: bool = False) -> dict[str, float]:
    """The same parts counted in a fresh process that trains on headlines: tensors for the parts, and for the peak the
    resident memory of the process beyond what its libraries take."""
    return fresh_process.call(_measure, method, rows, r, checkpointing, environment=GIVEN_BACK, steps=4)


def _measure(method: str, rows: int, r: int, checkpointing: bool) -> dict[str, float]:
    data = headlines.examples(headlines.documents("train", 2 * rows))
    _warm_up(data)
    print("kernels and libraries loaded")  # a line a step, for the bar in the other process
    before = _resident()
    model = lora.prepared(method, r=r, checkpointing=checkpointing)
    built = _resident() - before
    print("model built")
    peak_bytes = built + memory.peak_memory(
        lambda: loop.train(model, data, headlines.loss, steps=2, batch_size=rows, lr=1e-6, seed=0, progress=False)
    )
    print("trained")
    batch = {name: tensor[:rows] for name, tensor in data.items()}
    counted = count(model, batch)
    print("counted")
    return counted | {"peak": peak_bytes}


def count(model: nn.Module, batch: loop.Batch) -> dict[str, int]:
    """Bytes of the tensors of one step: of the model, of what autograd keeps, of gradients and of AdamW's state."""
    adapters = sum(adapter.a.nbytes + adapter.b.nbytes for adapter in lora.adapters(model).values())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    called = {}
    block = model.get_submodule(lora.BLOCKS)[0]
    hook = block.register_forward_pre_hook(lambda _, *inputs: called.update(inputs=inputs), with_kwargs=True)
    model.train()
    saved, loss = _kept(model, lambda: headlines.loss(model, batch))
    hook.remove()
    loss.backward()
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)
    optimizer.step()
    again = 0
    if model.is_activation_checkpointing:
        (hidden, *rest), named = called["inputs"]
        # In eval mode nothing is checkpointed; the block's input is kept already.
        alone = _kept(model, lambda: block.eval()(hidden.detach().requires_grad_(), *rest, **named))[0]
        again = sum(alone.values()) - hidden.nbytes
    return {
        "weights": model_size.state_bytes(model) - adapters,
        "adapters": adapters,
        "gradients": sum(parameter.grad.nbytes for parameter in trained),
        "optimizer": libraries.state_bytes(optimizer),
        **saved,
        "a block again": again,
    }


def _kept(model: nn.Module, forward: Callable[[], Any]) -> tuple[dict[str, int], Any]:
    """Bytes that a forward pass keeps for its backward pass, parameters themselves left out, and what it gave back."""
    shapes = {frozenset(parameter.shape) for parameter in model.parameters() if parameter.ndim == 2}
    saved_tensors, own = {}, {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            copy = tensor.dtype == torch.bfloat16 and tensor.ndim == 2 and frozenset(tensor.shape) in shapes
            saved_tensors[storage.data_ptr()] = "BF16 copies" if copy else "activations", storage.nbytes(), tensor
        return tensor

    with loop.bfloat16_where_fast(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    return {
        part: sum(size for kind, size, _ in saved_tensors.values() if kind == part)
        for part in ("BF16 copies", "activations")
    }, output


def _resident() -> int:
    """Resident bytes of this process after handing back what it no longer uses."""
    memory.peak_memory(gc.collect)
    return psutil.Process().memory_info().rss


def _warm_up(data: loop.Batch) -> None:
    """One step with a very small model of the same kind, so that kernels and libraries are loaded already."""
    from transformers import LlamaConfig, LlamaForCausalLM

    small = LlamaConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    small.vocab_size = int(data["input_ids"].max()) + 1
    batch = {name: tensor[:2] for name, tensor in data.items()}
    loop.train(LlamaForCausalLM(small), batch, headlines.loss, steps=1, batch_size=2, lr=1e-6, seed=0, progress=False)
