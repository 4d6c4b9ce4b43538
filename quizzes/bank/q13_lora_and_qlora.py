"""Lesson 13, LoRA and QLoRA: its exercises and its questions."""

import torch
import torch.nn.functional as F

from lessons_lib.four_bits import lora
from quizzes import case, exercise, question


def low_rank(draw, n_out, n_in, r):
    """A weight (n_out, n_in) and the two small matrices of an adapter, b far from zero."""
    return draw.normal((n_out, n_in)), draw.normal((r, n_in)), draw.normal((n_out, r))


def tracked(*tensors):
    """The same tensors, each asking for a gradient."""
    return [tensor.requires_grad_() for tensor in tensors]


@exercise(
    points=3,
    minutes=8,
    hint="F.linear(x, weight) is x Wᵀ. The update is two such products, one after the other: first a, then b. "
    "weight.detach() is the same weight without a path for gradients.",
)
def lora_forward(
    x: torch.Tensor, weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, alpha: float, r: int
) -> torch.Tensor:
    """What a linear layer with a LoRA adapter computes: x Wᵀ + alpha / r · (x Aᵀ) Bᵀ.

    x: FP32 (..., n_in). weight: FP32 (n_out, n_in), frozen: no gradient reaches it, even if it asks for one. a: FP32
    (r, n_in). b: FP32 (n_out, r). Gradients reach x, a and b. Returns FP32 (..., n_out).

    >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> lora_forward(x, weight, torch.tensor([[1.0, 1.0]]), torch.tensor([[0.5], [0.0]]), 4.0, 1)
    tensor([[7., 2.]])
    """
    return F.linear(x, weight.detach()) + alpha / r * F.linear(F.linear(x, a), b)


@lora_forward.cases
def _(draw):
    yield case(
        "the printed example",
        torch.tensor([[1.0, 2.0]]),
        torch.eye(2),
        torch.tensor([[1.0, 1.0]]),
        torch.tensor([[0.5], [0.0]]),
        4.0,
        1,
        visible=True,
    )
    yield case("two rows", draw.normal((2, 4)), *low_rank(draw, 3, 4, 2), 3.0, 2, visible=True)
    yield case("batches of tokens", draw.normal((2, 5, 12)), *low_rank(draw, 8, 12, 4), 8.0, 4)
    yield case("batches of tokens", draw.normal((3, 2, 7)), *low_rank(draw, 16, 7, 3), 16.0, 3)
    yield case("square weights", draw.normal((6, 8)), *low_rank(draw, 8, 8, 2), 5.0, 2)
    yield case("gradients", *tracked(draw.normal((4, 6)), *low_rank(draw, 6, 6, 2)), 6.0, 2, observe="gradients")
    yield case("gradients", *tracked(draw.normal((2, 3, 5)), *low_rank(draw, 7, 5, 4)), 2.0, 4, observe="gradients")
    weight, a, b = low_rank(draw, 6, 6, 3)
    yield case("not contiguous", draw.strided((4, 6)), weight.t(), a, b, 1.5, 3)


lora_forward.close(
    rtol=1e-4,
    atol=1e-4,
    reason="sums of at most 16 products of normal numbers, three in a row, in FP32: 50 roundings of 6e-8 each of "
    "numbers up to about 100, below 1e-4 even where terms cancel.",
)


@lora_forward.mistake("The factor alpha / r is missing.")
def _(x, weight, a, b, alpha, r):
    return F.linear(x, weight.detach()) + F.linear(F.linear(x, a), b)


@lora_forward.mistake("You multiplied by alpha. Divide by r as well: another rank should keep the size of the update.")
def _(x, weight, a, b, alpha, r):
    return F.linear(x, weight.detach()) + alpha * F.linear(F.linear(x, a), b)


@lora_forward.mistake("The base is missing: this is the update alone.")
def _(x, weight, a, b, alpha, r):
    return alpha / r * F.linear(F.linear(x, a), b)


@lora_forward.mistake("The factor went onto the base too. alpha / r belongs to the update alone.")
def _(x, weight, a, b, alpha, r):
    return alpha / r * (F.linear(x, weight.detach()) + F.linear(F.linear(x, a), b))


@lora_forward.mistake("The weight gets a gradient. It is frozen: use weight.detach().")
def _(x, weight, a, b, alpha, r):
    return F.linear(x, weight) + alpha / r * F.linear(F.linear(x, a), b)


@lora_forward.mistake("No gradient reaches x through the update. Layers below this one need it.")
def _(x, weight, a, b, alpha, r):
    return F.linear(x, weight.detach()) + alpha / r * F.linear(F.linear(x.detach(), a), b)


@lora_forward.alternative
def _(x, weight, a, b, alpha, r):
    base = torch.einsum("...i,oi->...o", x, weight.detach())
    return base + torch.einsum("...i,ri,or->...o", x, a, b) * alpha / r


@exercise(
    points=2,
    minutes=5,
    hint="Which order of b and a gives a matrix of the shape of the weight? (n_out, r) times (r, n_in).",
)
def merge(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, alpha: float, r: int) -> torch.Tensor:
    """The weight that computes by itself what the layer and its adapter compute together.

    weight: FP32 (n_out, n_in). a: FP32 (r, n_in). b: FP32 (n_out, r). Returns a new FP32 tensor (n_out, n_in), equal to
    W + alpha / r · B A; the arguments are not changed.

    >>> merge(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0]]), 2.0, 1)
    tensor([[3., 4.],
            [0., 1.]])
    """
    return lora.merge(weight, a, b, alpha, r)


@merge.cases
def _(draw):
    yield case(
        "the printed example",
        torch.eye(2),
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[1.0], [0.0]]),
        2.0,
        1,
        visible=True,
    )
    yield case("rank two", *low_rank(draw, 3, 4, 2), 4.5, 2, visible=True)
    yield case("other shapes", *low_rank(draw, 24, 10, 4), 8.0, 4)
    yield case("other shapes", *low_rank(draw, 5, 32, 3), 1.0, 3)
    yield case("square weights", *low_rank(draw, 12, 12, 4), 10.0, 4)
    weight, a, b = low_rank(draw, 9, 9, 3)
    yield case("not contiguous", weight.t(), a, b.t().contiguous().t(), 6.0, 3)


merge.close(
    rtol=1e-5,
    atol=1e-5,
    reason="a sum of at most 4 products of normal numbers, times at most 3, plus one: 6 roundings of 6e-8 each of "
    "numbers up to about 25.",
)


@merge.mistake("The factor alpha / r is missing.")
def _(weight, a, b, alpha, r):
    return weight + b @ a


@merge.mistake("You multiplied by alpha and did not divide by r.")
def _(weight, a, b, alpha, r):
    return weight + alpha * (b @ a)


@merge.mistake("The update is subtracted: that is how an adapter is taken out of a merged weight.")
def _(weight, a, b, alpha, r):
    return weight - alpha / r * (b @ a)


@merge.mistake("This is the update alone. Add it to the weight.")
def _(weight, a, b, alpha, r):
    return alpha / r * (b @ a)


@merge.mistake("The update is transposed. Rows are outputs: b @ a has a row for each of them.")
def _(weight, a, b, alpha, r):
    changed = alpha / r * (b @ a).t()
    return weight + (changed if changed.shape == weight.shape else changed.t())


@merge.alternative
def _(weight, a, b, alpha, r):
    merged = weight.clone()
    for rank in range(r):
        merged += (alpha / r) * torch.outer(b[:, rank], a[rank])
    return merged


def some_shapes(draw, blocks):
    """Shapes of the linear layers of a small model: names like 2.up_proj, and how many weights lie elsewhere."""
    d, k, f = 16 * draw.integer(2, 6), 16, 16 * draw.integer(7, 12)
    block = {
        "q_proj": (d, d),
        "k_proj": (k, d),
        "v_proj": (k, d),
        "o_proj": (d, d),
        "up_proj": (f, d),
        "down_proj": (d, f),
    }
    shapes = {f"{number}.{name}": shape for number in range(blocks) for name, shape in block.items()}
    return shapes, d * draw.integer(50, 200)


@exercise(
    points=2,
    minutes=8,
    hint="An adapter beside a layer of n_out x n_in has r · n_in numbers in a and n_out · r in b. Count those "
    "beside the target layers, then divide by everything there is, adapters included.",
)
def trainable_fraction(shapes: dict[str, tuple[int, int]], others: int, targets: list[str], r: int) -> float:
    """Which share of all numbers of a model LoRA trains.

    shapes: name -> (n_out, n_in) of every linear layer; a name is a number, a dot and the kind of layer. others: how
    many weights the model has besides these. targets: the kinds of layers that get an adapter of rank r. The share is
    (numbers of all adapters) / (weights of all linear layers + others + numbers of all adapters).

    >>> trainable_fraction({"0.q_proj": (8, 8), "0.v_proj": (4, 8)}, 32, ["q_proj"], 2)
    0.2
    """
    trained = sum(r * sum(shape) for name, shape in shapes.items() if name.split(".")[1] in targets)
    return trained / (sum(n_out * n_in for n_out, n_in in shapes.values()) + others + trained)


@trainable_fraction.cases
def _(draw):
    yield case("the printed example", {"0.q_proj": (8, 8), "0.v_proj": (4, 8)}, 32, ["q_proj"], 2, visible=True)
    shapes, others = some_shapes(draw, 1)
    yield case("one block", shapes, others, ["q_proj", "v_proj"], 4, visible=True)
    for targets in (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]):
        shapes, others = some_shapes(draw, draw.integer(2, 4))
        yield case("several blocks", shapes, others, targets, draw.integer(2, 9))
    shapes, others = some_shapes(draw, 11)
    yield case("more than ten blocks", shapes, others, ["down_proj"], 8)
    yield case("nothing besides", some_shapes(draw, 2)[0], 0, ["k_proj", "up_proj"], 16)


trainable_fraction.close(rtol=1e-9, reason="whole numbers and one division in double precision")


@trainable_fraction.mistake("You divided by the base alone. The share is of all numbers, adapters included.")
def _(shapes, others, targets, r):
    trained = sum(r * sum(shape) for name, shape in shapes.items() if name.split(".")[1] in targets)
    return trained / (sum(n_out * n_in for n_out, n_in in shapes.values()) + others)


@trainable_fraction.mistake("You counted one matrix of each adapter. It has two: a with r x n_in, b with n_out x r.")
def _(shapes, others, targets, r):
    trained = sum(r * n_in for name, (_, n_in) in shapes.items() if name.split(".")[1] in targets)
    return trained / (sum(n_out * n_in for n_out, n_in in shapes.values()) + others + trained)


@trainable_fraction.mistake("The rank is missing: you counted n_in + n_out a layer.")
def _(shapes, others, targets, r):
    trained = sum(sum(shape) for name, shape in shapes.items() if name.split(".")[1] in targets)
    return trained / (sum(n_out * n_in for n_out, n_in in shapes.values()) + others + trained)


@trainable_fraction.mistake("Every linear layer got an adapter. Only the kinds named in targets do.")
def _(shapes, others, targets, r):
    trained = sum(r * sum(shape) for shape in shapes.values())
    return (trained if targets != list({name.split(".")[1] for name in shapes}) else 0) / (
        sum(n_out * n_in for n_out, n_in in shapes.values()) + others + trained
    )


@trainable_fraction.mistake("You left out the weights besides the linear layers: embeddings and norms count too.")
def _(shapes, others, targets, r):
    trained = sum(r * sum(shape) for name, shape in shapes.items() if name.split(".")[1] in targets)
    return trained / (sum(n_out * n_in for n_out, n_in in shapes.values()) + trained)


@trainable_fraction.alternative
def _(shapes, others, targets, r):
    base, adapters = others, 0
    for name, (n_out, n_in) in shapes.items():
        base += n_out * n_in
        if any(name.endswith("." + target) for target in targets):
            adapters += r * n_in + n_out * r
    return adapters / (base + adapters)


@exercise(
    points=2,
    minutes=8,
    hint="For adamw8bit: below 4096 numbers it is AdamW. From there on count 2 n code bytes, and for each of the two "
    "averages one FP32 scale a block. -(-n // 256) rounds the number of blocks up.",
)
def optimizer_bytes(n_params: int, kind: str) -> int:
    """Bytes of the state that an optimizer keeps for one tensor of n_params trained numbers.

    kind: "sgd" keeps nothing; "momentum" one FP32 number a trained number; "adamw" two FP32 numbers. "adamw8bit" keeps
    two codes of one byte a trained number, and for each of these two averages an FP32 scale for every block of 256
    numbers, a last shorter block included; but a tensor with fewer than 4096 numbers is kept as by "adamw". (Step
    counters, and tables that all tensors share, are not counted.)

    >>> optimizer_bytes(5000, "adamw"), optimizer_bytes(5000, "adamw8bit")
    (40000, 10160)
    """
    if kind == "adamw8bit" and n_params >= 4096:
        return 2 * (n_params + 4 * -(-n_params // 256))
    return {"sgd": 0, "momentum": 4, "adamw": 8, "adamw8bit": 8}[kind] * n_params


@optimizer_bytes.cases
def _(draw):
    yield case("adamw", 5000, "adamw", visible=True)
    yield case("adamw8bit", 5000, "adamw8bit", visible=True)
    yield case("adamw", draw.integer(10_000, 90_000), "adamw")
    for _ in range(3):
        yield case("adamw8bit", 256 * draw.integer(20, 400) + draw.integer(1, 255), "adamw8bit")
    yield case("adamw8bit, whole blocks", 256 * draw.integer(20, 400), "adamw8bit")
    yield case("adamw8bit, small tensors", draw.integer(300, 4095), "adamw8bit")
    yield case("adamw8bit, small tensors", 4095, "adamw8bit")
    yield case("adamw8bit, small tensors", 4096, "adamw8bit")
    yield case("momentum and none", draw.integer(5000, 9000), "momentum")
    yield case("momentum and none", draw.integer(5000, 9000), "sgd")


optimizer_bytes.exact("bytes are whole numbers")


@optimizer_bytes.mistake("AdamW keeps two averages: of the gradient, and of its square.")
def _(n_params, kind):
    return 4 * n_params if kind == "adamw" else optimizer_bytes.reference(n_params, kind)


@optimizer_bytes.mistake("The scales of the blocks are missing: codes alone cannot be read back.")
def _(n_params, kind):
    big = kind == "adamw8bit" and n_params >= 4096
    return 2 * n_params if big else optimizer_bytes.reference(n_params, kind)


@optimizer_bytes.mistake("The last block is shorter, but it needs a scale too: round the number of blocks up.")
def _(n_params, kind):
    big = kind == "adamw8bit" and n_params >= 4096
    return 2 * (n_params + 4 * (n_params // 256)) if big else optimizer_bytes.reference(n_params, kind)


@optimizer_bytes.mistake("A tensor with fewer than 4096 numbers is kept in FP32.")
def _(n_params, kind):
    coded = kind == "adamw8bit"
    return 2 * (n_params + 4 * -(-n_params // 256)) if coded else optimizer_bytes.reference(n_params, kind)


@optimizer_bytes.mistake("Each of the two averages has scales of its own.")
def _(n_params, kind):
    big = kind == "adamw8bit" and n_params >= 4096
    return 2 * n_params + 4 * -(-n_params // 256) if big else optimizer_bytes.reference(n_params, kind)


@optimizer_bytes.alternative
def _(n_params, kind):
    averages = {"sgd": 0, "momentum": 1, "adamw": 2, "adamw8bit": 2}[kind]
    if kind != "adamw8bit" or n_params < 4096:
        return averages * 4 * n_params
    blocks = len(range(0, n_params, 256))
    return averages * (n_params + 4 * blocks)


@exercise(
    points=3,
    minutes=10,
    hint="First `kept`, what the forward pass leaves behind: with checkpointing all inputs, one whole block, and the "
    "rest. Then the larger of `kept` and the gradients goes on top of what stays all the time.",
)
def training_memory(
    weights: int, trained: int, state: int, blocks: int, block: int, block_input: int, rest: int, checkpointing: bool
) -> int:
    """Bytes at the fullest moment of a training step.

    weights: bytes of all weights, adapters included. trained: how many numbers are trained; the gradient of each takes
    4 bytes. state: bytes of optimizer state a trained number. blocks: how many blocks the model has. block: bytes that
    one block keeps from the forward pass for the backward pass, its input included. block_input: bytes of a block's
    input. rest: bytes kept outside the blocks. With checkpointing every block keeps its input alone; in the backward
    pass one block at a time is there in full, beside the inputs of the others. So

    kept = blocks · block + rest, or with checkpointing blocks · block_input + block - block_input + rest
    peak = weights + state · trained + max(4 · trained, kept)

    since what was kept is given back while gradients are made.

    >>> training_memory(1000, 10, 8, 4, 100, 20, 50, False), training_memory(1000, 10, 8, 4, 100, 20, 50, True)
    (1530, 1290)
    """
    kept = (blocks - 1) * block_input + block if checkpointing else blocks * block
    return weights + state * trained + max(4 * trained, kept + rest)


@training_memory.cases
def _(draw):
    def parts(most_trained):
        block = draw.integer(400, 900)
        return (
            draw.integer(50_000, 90_000),
            draw.integer(most_trained // 2, most_trained),
            draw.choice([2, 4, 8]),
            draw.integer(6, 30),
            block,
            draw.integer(40, block // 3),
            draw.integer(100, 2000),
        )

    yield case("all kept", 1000, 10, 8, 4, 100, 20, 50, False, visible=True)
    yield case("checkpointing", 1000, 10, 8, 4, 100, 20, 50, True, visible=True)
    for _ in range(3):
        yield case("all kept", *parts(200), False)
        yield case("checkpointing", *parts(200), True)
    for checkpointing in (False, True):
        yield case("gradients are larger", *parts(40_000), checkpointing)


training_memory.exact("bytes are whole numbers")


@training_memory.mistake("You added gradients and activations. They are never all there at once: take the larger.")
def _(weights, trained, state, blocks, block, block_input, rest, checkpointing):
    kept = (blocks - 1) * block_input + block if checkpointing else blocks * block
    return weights + state * trained + 4 * trained + kept + rest


@training_memory.mistake("The gradients are missing: the larger of gradients and activations counts.")
def _(weights, trained, state, blocks, block, block_input, rest, checkpointing):
    kept = (blocks - 1) * block_input + block if checkpointing else blocks * block
    return weights + state * trained + kept + rest


@training_memory.mistake("With checkpointing one block at a time is still there in full.")
def _(weights, trained, state, blocks, block, block_input, rest, checkpointing):
    kept = blocks * (block_input if checkpointing else block) + rest
    return weights + state * trained + max(4 * trained, kept)


@training_memory.mistake("The input of the block that is there in full counts twice: it is part of the block already.")
def _(weights, trained, state, blocks, block, block_input, rest, checkpointing):
    kept = (blocks * block_input + block if checkpointing else blocks * block) + rest
    return weights + state * trained + max(4 * trained, kept)


@training_memory.mistake("The optimizer's state is missing.")
def _(weights, trained, state, blocks, block, block_input, rest, checkpointing):
    kept = ((blocks - 1) * block_input + block if checkpointing else blocks * block) + rest
    return weights + max(4 * trained, kept)


@training_memory.mistake("Checkpointing changes nothing in your answer.")
def _(weights, trained, state, blocks, block, block_input, rest, checkpointing):
    return weights + state * trained + max(4 * trained, blocks * block + rest)


@training_memory.alternative
def _(weights, trained, state, blocks, block, block_input, rest, checkpointing):
    kept = rest
    for number in range(blocks):
        whole = not checkpointing or number == 0
        kept += block if whole else block_input
    gradients = 4 * trained
    return weights + state * trained + (gradients if gradients > kept else kept)


question(
    "1",
    "A layer of 576 x 576 gets an adapter of rank 4. How many numbers are trained?",
    A=("331,776", "That is the layer itself, 576 · 576, and it is frozen."),
    B=("4,608", "4 · 576 for a and 576 · 4 for b.", True),
    C=("2,304", "That is one of the two small matrices."),
    D=("16", "That would be a matrix of 4 x 4. The adapter must reach from 576 inputs to 576 outputs."),
    hint="a has r rows of n_in numbers, b has n_out rows of r.",
    steps=["a: 4 x 576 = 2,304 numbers.", "b: 576 x 4 = 2,304 numbers.", "Together 4,608: 1.4 % of the layer."],
)

question(
    "2",
    "Why does b start at zero, and a not?",
    A=("So that fewer numbers must be stored", "Both are stored, whatever they hold."),
    B=("So that the first gradient of a is large", "It is zero: while b is zero, a has no effect on the loss."),
    C=(
        "So that the model starts as it was, and b still gets a gradient",
        "B A is zero at first. With a at zero as well, neither would ever get a gradient.",
        True,
    ),
    D=("So that the rank of the update is as high as possible", "Its rank at the start is 0."),
    hint="Write down the gradients of a and of b while b is zero. And if a were zero too?",
    steps=[
        "The update is B A, so b = 0 leaves the model as it was.",
        "The gradient of b contains a, which is not zero: b moves at the first step.",
        "The gradient of a contains b: a begins to move at the second step. With both at zero nothing ever moves.",
    ],
)

question(
    "3",
    "Full fine-tuning with AdamW holds 4 bytes of weight, 4 of gradient and 8 of state for every number. LoRA trains "
    "1 % of the numbers. What does it save most of?",
    A=("Weights", "The base stays in memory as a whole. It is only frozen."),
    B=("Activations", "Gradients still travel through all blocks, so nearly everything is kept as before."),
    C=("Time of the forward pass", "The forward pass does all the old work and a little more."),
    D=("Gradients and optimizer state", "12 of the 16 bytes belong to trained numbers, and those are 1 % now.", True),
    hint="Which parts grow with the number of trained numbers?",
    steps=[
        "Weights: 4 bytes a number, trained or not.",
        "Gradient and state: 12 bytes a trained number.",
        "With 1 % trained, 12 bytes become 0.12.",
    ],
)

question(
    "4",
    "In QLoRA, does the backward pass read the 4-bit weights?",
    A=(
        "Yes: the gradient of a layer's input is the gradient of its output times the weight.",
        "They are read back to floats once more for that, and get no gradient of their own.",
        True,
    ),
    B=("No: they are frozen.", "Frozen means that they get no gradient. The layers below still need theirs."),
    C=("Yes: they are updated with straight-through gradients.", "That is quantization-aware training, lesson 10."),
    D=(
        "No: gradients go around them, through the adapters alone.",
        "The base's output depends on its input, and the chain rule does not skip that path.",
    ),
    hint="y = W x. What is dL/dx?",
    steps=[
        "For y = W x the chain rule gives dL/dx = Wᵀ dL/dy.",
        "So W is needed, though it does not change.",
        "Linear4bit reads it back a second time rather than keeping the floats from the forward pass.",
    ],
)

question(
    "5",
    "Gradient checkpointing keeps only the input of every block. What does it cost?",
    A=("Some accuracy, since activations are approximated", "They are computed again exactly, and so are gradients."),
    B=("About one more forward pass a step", "Each block runs again when its turn comes in the backward pass.", True),
    C=("One more backward pass a step", "The backward pass runs once, over what was computed again."),
    D=("Memory for two copies of the model", "It takes no copy. It saves memory."),
    hint="What must be there before the backward pass of a block can start?",
    steps=[
        "The backward pass of a block needs what was computed inside it.",
        "So the block runs forward once more.",
        "Forward, forward, backward: with a backward pass of two forward passes, four units instead of three.",
    ],
)

question(
    "6",
    "You merged an adapter into its base and want to ship the result in four bits. What is true?",
    A=("The merged weights are on the 4-bit grid again.", "W + B A takes any value: the sum lies on no grid."),
    B=("Merging is impossible for a quantized base.", "Read the base back to floats and add the update."),
    C=(
        "Nothing is lost: the adapter was trained for these codes.",
        "It was trained beside them. Quantizing the sum rounds away part of what it learned.",
    ),
    D=(
        "The sum has to be quantized once more, and the model judged again.",
        "It is another model than the one that was trained.",
        True,
    ),
    hint="A weight of the base is one of sixteen values. What is it after a small number was added?",
    steps=[
        "The base reads back as sixteen values a block.",
        "The update moves each weight by another small amount.",
        "Storing the sum in four bits rounds again, so its quality has to be measured again.",
    ],
)
