"""Lesson 05, features, attention, relations: its exercises and its questions."""

import torch
import torch.nn.functional as F

from lessons_lib.distillation import features
from quizzes import case, exercise, question

NAN = float("nan")


def _mask(*lengths, width):
    """0/1 (batch, width): the first so many tokens of each row are real."""
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


@exercise(
    points=2,
    minutes=4,
    hint="With two student layers against six, the first stands for layers 0 to 2 of the teacher and imitates the last "
    "of them. What is (i + 1) · 6 // 2?",
)
def layer_map(n_student: int, n_teacher: int, strategy: str) -> list[int]:
    """For each student layer, from the first to the last, the teacher layer that it imitates; layers count from 0.

    "uniform": student layer i imitates teacher layer (i + 1) · n_teacher // n_student - 1.
    "last": the student's layers imitate the last n_student layers, in order. "first": the first n_student layers.
    n_student is at most n_teacher.

    >>> layer_map(2, 6, "uniform"), layer_map(2, 6, "last"), layer_map(4, 6, "uniform")
    ([2, 5], [4, 5], [0, 2, 3, 5])
    """
    return features.layer_map(n_student, n_teacher, strategy)


@layer_map.cases
def _(draw):
    yield case("uniform", 2, 6, "uniform", visible=True)
    yield case("uniform, where the division leaves a rest", 4, 6, "uniform", visible=True)
    yield case("uniform, where the division leaves a rest", 5, 12, "uniform")
    yield case("uniform", 3, 12, "uniform")
    yield case("last", 2, 6, "last")
    yield case("last", 3, draw.integer(7, 24), "last")
    yield case("first", 3, 12, "first")


layer_map.exact("layers are whole numbers")


@layer_map.mistake("Layers count from 0 here: you are one too high, and the last layer points past the teacher.")
def _(n_student, n_teacher, strategy):
    return [layer + 1 for layer in features.layer_map(n_student, n_teacher, strategy)]


@layer_map.mistake("You started from the first layer of each stretch: the last student layer then misses the last.")
def _(n_student, n_teacher, strategy):
    if strategy == "uniform":
        return [i * n_teacher // n_student for i in range(n_student)]
    return features.layer_map(n_student, n_teacher, strategy)


@layer_map.mistake("You divided before you multiplied: 6 // 4 is 1, so the rest is lost. Multiply by i + 1 first.")
def _(n_student, n_teacher, strategy):
    if strategy == "uniform":
        return [(i + 1) * (n_teacher // n_student) - 1 for i in range(n_student)]
    return features.layer_map(n_student, n_teacher, strategy)


@layer_map.alternative
def _(n_student, n_teacher, strategy):
    layers = list(range(n_teacher))
    if strategy == "first":
        return layers[:n_student]
    if strategy == "last":
        return layers[-n_student:]
    ends = []
    for i in range(1, n_student + 1):
        ends.append(max(layer for layer in layers if (layer + 1) * n_student <= i * n_teacher))
    return ends


@exercise(
    points=2,
    minutes=6,
    hint="F.linear(student_hidden, projection) brings the student to the teacher's width. Indexing with a bool mask, "
    "hidden[mask.bool()], keeps the real tokens and drops the rest.",
)
def hint_loss(
    student_hidden: torch.Tensor, teacher_hidden: torch.Tensor, mask: torch.Tensor, projection: torch.Tensor
) -> torch.Tensor:
    """Mean squared error between the projected student and the teacher, over real tokens and the teacher's channels.

    student_hidden: FP32 (batch, length, student width). teacher_hidden: FP32 (batch, length, teacher width).
    mask: int64 (batch, length), 1 for a real token; what stands at padding is never read, NaN included.
    projection: FP32 (teacher width, student width), as a linear layer keeps it; the student is multiplied by its
    transpose. The mean is over all real tokens of the batch together, not sentence by sentence. No gradient reaches
    the teacher. Returns an FP32 tensor without axes.

    >>> student, teacher = torch.tensor([[[1.0]]]), torch.tensor([[[3.0, 1.0]]])
    >>> hint_loss(student, teacher, torch.tensor([[1]]), torch.tensor([[1.0], [1.0]]))
    tensor(2.)
    """
    return features.hint_loss(student_hidden, teacher_hidden, mask, projection)


@hint_loss.cases
def _(draw):
    one = torch.tensor([[[1.0]]]), torch.tensor([[[3.0, 1.0]]])
    yield case("the printed example", *one, torch.tensor([[1]]), torch.tensor([[1.0], [1.0]]), visible=True)
    padded = torch.tensor([[[1.0], [9.0]], [[2.0], [1.0]]]), torch.tensor([[[2.0], [0.0]], [[2.0], [4.0]]])
    yield case("padding", *padded, torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1.0]]), visible=True)
    states = draw.normal((3, 6, 4)), draw.normal((3, 6, 7))
    yield case("padding", *states, _mask(6, 2, 1, width=6), draw.normal((7, 4)))
    states[0][2, 1:], states[1][1, 2:] = NAN, NAN
    yield case("NaN at padding", *states, _mask(6, 2, 1, width=6), draw.normal((7, 4)))
    yield case(
        "a square projection", draw.normal((2, 5, 6)), draw.normal((2, 5, 6)), _mask(5, 3, width=5), draw.normal((6, 6))
    )
    leaves = [draw.normal((2, 4, 3)).requires_grad_(), draw.normal((2, 4, 5)).requires_grad_()]
    yield case(
        "gradients: student and projection, not the teacher",
        *leaves,
        _mask(4, 2, width=4),
        draw.normal((5, 3)).requires_grad_(),
        observe="gradients",
    )


hint_loss.close(
    rtol=2e-5,
    atol=1e-6,
    reason="each projected channel is a sum of at most 7 products, off by 7 half steps of FP32 (4e-7 of its size); the "
    "square doubles that, the mean of at most 90 squares adds as little, and both sides round: 2e-5 leaves ten times.",
)


@hint_loss.mistake("Padding counts: you averaged over every position. Sum and count belong to real tokens alone.")
def _(student_hidden, teacher_hidden, mask, projection):
    return (F.linear(student_hidden, projection) - teacher_hidden.detach()).square().mean()


@hint_loss.mistake(
    "You multiplied by the mask but still divided by all positions: the more padding, the smaller the loss. And at "
    "padding 0 · NaN is NaN: leave the padding out instead."
)
def _(student_hidden, teacher_hidden, mask, projection):
    squared = (F.linear(student_hidden, projection) - teacher_hidden.detach()).square()
    return (squared * mask[..., None]).mean()


@hint_loss.mistake("This is a sum over channels, averaged over tokens. The mean is over tokens and channels.")
def _(student_hidden, teacher_hidden, mask, projection):
    real = mask.bool()
    return (F.linear(student_hidden[real], projection) - teacher_hidden[real].detach()).square().sum(-1).mean()


@hint_loss.mistake("The gradient reaches the teacher: it would move towards its student. Detach the teacher's states.")
def _(student_hidden, teacher_hidden, mask, projection):
    real = mask.bool()
    return (F.linear(student_hidden[real], projection) - teacher_hidden[real]).square().mean()


@hint_loss.alternative
def _(student_hidden, teacher_hidden, mask, projection):
    rows = mask.flatten().nonzero().flatten()
    student = student_hidden.flatten(0, 1)[rows] @ projection.t()
    return F.mse_loss(student, teacher_hidden.detach().flatten(0, 1)[rows])


@exercise(
    points=3,
    minutes=8,
    hint="A map has a row for each query and a column for each key; both can be padding. real[:, None, :, None] & "
    "real[:, None, None, :] is True where neither is. How many entries does it hold, over all heads?",
)
def attention_loss(student_maps: torch.Tensor, teacher_maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared error between attention maps, over heads and over pairs of real tokens.

    student_maps, teacher_maps: FP32 (batch, heads, length, length), a row for each query, a column for each key.
    mask: int64 (batch, length), 1 for a real token. A pair counts when query and key are both real; whatever stands
    in other places, NaN included, is never read. The mean is over all such pairs of the batch together and all heads.
    No gradient reaches the teacher. Returns an FP32 tensor without axes.

    With one head, two real tokens of three and every student entry 0.1 above the teacher's there: four pairs count, and
    attention_loss(student_maps, teacher_maps, mask) -> 0.01
    """
    return features.attention_loss(student_maps, teacher_maps, mask)


@attention_loss.cases
def _(draw):
    teacher = torch.tensor([[[[0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]]]])
    student = teacher + torch.tensor([[0.1, 0.1, 5.0], [0.1, 0.1, 5.0], [5.0, 5.0, 5.0]])
    yield case("the example of the text", student, teacher, torch.tensor([[1, 1, 0]]), visible=True)
    maps = [draw.normal((3, 2, 5, 5), std=2).softmax(-1) for _ in range(2)]
    yield case("sentences of different lengths", *maps, _mask(5, 3, 1, width=5))
    yield case("sentences of different lengths", *(layer.flip(1) for layer in maps), _mask(2, 5, 4, width=5))
    spoiled = [layer.clone() for layer in maps]
    spoiled[0][1, :, 3:], spoiled[1][2, :, :, 1:] = NAN, NAN
    yield case("NaN at padding", *spoiled, _mask(5, 3, 1, width=5))
    leaves = [draw.normal((2, 3, 4, 4)).softmax(-1).requires_grad_() for _ in range(2)]
    yield case("gradients: the student's, none for the teacher", *leaves, _mask(4, 2, width=4), observe="gradients")


attention_loss.close(
    rtol=2e-5,
    atol=1e-8,
    reason="entries lie in 0 ... 1, so a difference is off by half a step, 6e-8, its square by 1.2e-7 of itself, and a "
    "mean of at most 150 squares in any order by 150 half steps, 9e-6 of it.",
)


@attention_loss.mistake("Padded queries count: their rows are no sentence's attention. Mask rows as well as columns.")
def _(student_maps, teacher_maps, mask):
    pairs = mask.bool()[:, None, None, :].expand_as(student_maps)
    return (student_maps[pairs] - teacher_maps[pairs].detach()).square().mean()


@attention_loss.mistake("Padded keys count: mask columns as well as rows.")
def _(student_maps, teacher_maps, mask):
    pairs = mask.bool()[:, None, :, None].expand_as(student_maps)
    return (student_maps[pairs] - teacher_maps[pairs].detach()).square().mean()


@attention_loss.mistake("You added up the heads instead of averaging over them.")
def _(student_maps, teacher_maps, mask):
    real = mask.bool()
    pairs = (real[:, None, :, None] & real[:, None, None, :]).expand_as(student_maps)
    return student_maps.shape[1] * (student_maps[pairs] - teacher_maps[pairs].detach()).square().mean()


@attention_loss.mistake(
    "You averaged each sentence first and then the sentences: a sentence of one word weighs as much as one of twenty. "
    "The mean is over all pairs of the batch together."
)
def _(student_maps, teacher_maps, mask):
    means = []
    for student, teacher, real in zip(student_maps, teacher_maps.detach(), mask.bool(), strict=True):
        means.append((student[:, real][:, :, real] - teacher[:, real][:, :, real]).square().mean())
    return torch.stack(means).mean()


@attention_loss.alternative
def _(student_maps, teacher_maps, mask):
    total, count = 0.0, 0
    for student, teacher, length in zip(student_maps, teacher_maps.detach(), mask.sum(-1).tolist(), strict=True):
        gaps = student[:, :length, :length] - teacher[:, :length, :length]  # real tokens come first in every row
        total, count = total + gaps.square().sum(), count + gaps.numel()
    return total / count


@exercise(
    points=3,
    minutes=8,
    hint="torch.pdist gives the distances of all pairs once. Divide the student's by their mean and the teacher's by "
    "theirs; F.huber_loss compares what is left.",
)
def relation_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How differently teacher and student space their examples: Huber loss between scaled pairwise distances.

    student: FP32 (batch, student width). teacher: FP32 (batch, teacher width); one embedding an example, all different.
    For each model: the Euclidean distances of all pairs of two different examples, divided by their mean over these
    pairs. The loss is the mean over the pairs of huber(a - b) with a from the student, b from the teacher:
    0.5 x² where |x| < 1, else |x| - 0.5. No gradient reaches the teacher. Returns an FP32 tensor without axes.

    >>> relation_loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [2.0], [4.0]]))
    tensor(0.0208)
    """
    return features.relation_loss(student, teacher)


@relation_loss.cases
def _(draw):
    lines = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [2.0], [4.0]])
    yield case("the printed example", *lines, visible=True)
    teacher = draw.normal((6, 5))
    yield case("free of scale", 10 * teacher + 3 + 2 * draw.normal((6, 5)), teacher)
    yield case("free of scale", 0.01 * draw.normal((6, 5)), teacher)
    yield case("different widths", draw.normal((8, 3)), draw.normal((8, 9)))
    far = draw.normal((7, 4))
    far[0] += 40  # one example far away: the straight part of the Huber loss
    yield case("an example far from the rest", draw.normal((7, 4)), far)
    leaves = [draw.normal((5, 3)).requires_grad_(), draw.normal((5, 4)).requires_grad_()]
    yield case("gradients: the student's, none for the teacher", *leaves, observe="gradients")


relation_loss.close(
    rtol=1e-4,
    atol=1e-6,
    reason="distances and their mean round at 28 pairs or fewer, 2e-6 of a scaled distance; those reach 4, so a "
    "difference is off by 1e-5 at most, and where it is small its square by twice that times the difference.",
)


@relation_loss.mistake("The distances are not divided by their mean: a student is then punished for its scale.")
def _(student, teacher):
    return F.huber_loss(torch.pdist(student), torch.pdist(teacher.detach()))


@relation_loss.mistake(
    "The zeros of each example's distance to itself are in the mean: it comes out smaller by a factor (B - 1) / B. "
    "Count pairs of two different examples alone."
)
def _(student, teacher):
    gaps = [(states[:, None] - states[None] + 1e-12).square().sum(-1).sqrt() for states in (student, teacher.detach())]
    return F.huber_loss(*(distances / distances.mean() for distances in gaps))


@relation_loss.mistake("This is the squared error. The Huber loss is 0.5 x² for small gaps and straight for large.")
def _(student, teacher):
    scaled = [distances / distances.mean() for distances in (torch.pdist(student), torch.pdist(teacher.detach()))]
    return F.mse_loss(*scaled)


@relation_loss.mistake("You divided both by the teacher's mean distance. Each model is scaled by its own.")
def _(student, teacher):
    theirs = torch.pdist(teacher.detach())
    return F.huber_loss(torch.pdist(student) / theirs.mean(), theirs / theirs.mean())


@relation_loss.alternative
def _(student, teacher):
    rows, columns = torch.triu_indices(len(student), len(student), offset=1)
    scaled = []
    for states in (student, teacher.detach()):
        distances = torch.linalg.vector_norm(states[rows] - states[columns], dim=-1)
        scaled.append(distances / distances.mean())
    gap = (scaled[0] - scaled[1]).abs()
    return torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean()


question(
    "1",
    "A student is 128 wide, its teacher 384. Which of these losses needs a projection between the two?",
    A=("The output loss on the logits", "Logits have one entry a class in both models, whatever their width."),
    B=("The hint loss on hidden states", "It subtracts the two tensors, so the widths must be made equal first.", True),
    C=("The loss on attention maps", "Maps are length x length in both; it is the number of heads that must agree."),
    D=("The loss on pairwise distances", "A distance is one number, whatever the width it was computed in."),
    hint="Which of them subtracts a tensor of the student's width from one of the teacher's?",
    steps=[
        "Logits: (batch, classes). Maps: (batch, heads, length, length). Distances: (batch, batch).",
        "Hidden states: (batch, length, width), and only here does the width stand in the shape.",
    ],
)

question(
    "2",
    "Why is the projection of a hint loss thrown away after training?",
    A=(
        "It was needed only to compare hidden states; the student's own forward pass never uses it.",
        "It stands beside the student, between its hidden states and the loss.",
        True,
    ),
    B=("It would overfit.", "It may, but that is not the reason: nothing in the student's forward pass reads it."),
    C=("It cannot be saved with safetensors.", "It is an ordinary matrix and could be saved like any other."),
    hint="Follow the student's forward pass from the tokens to the logits. Where does it meet the projection?",
    steps=["The loss is |W h_student - h_teacher|².", "The logits are computed from h_student, not from W h_student."],
)

question(
    "3",
    "Attention maps come back empty from a model that runs scaled_dot_product_attention. Why?",
    A=("The model was not in eval mode.", "The mode changes dropout, not what is returned."),
    B=("The batch was padded.", "Padded maps are returned like others; it is the loss that must leave them out."),
    C=(
        "The fused kernel never writes the maps to memory.",
        "It works on blocks and keeps running sums; that is why it is fast. The eager form writes the maps down.",
        True,
    ),
    D=("The maps have no gradient.", "They have one in the eager form, and the attention loss needs it."),
    hint="What does a fused kernel save, compared with one operation after the other?",
    steps=[
        "Eager attention: scores, softmax, product, three tensors in memory.",
        "The fused kernel: one pass over blocks; the length x length matrix never exists as a whole.",
    ],
)

question(
    "4",
    "A student's sentence embeddings are exactly its teacher's, rotated and ten times as large. Which loss is zero?",
    A=("The hint loss without projection", "It compares entry by entry; a rotation changes nearly every entry."),
    B=("The relation loss on scaled distances", "Rotating changes no distance, and the scale divides out.", True),
    C=("Both", "The hint loss sees the rotation and the factor ten."),
    D=("Neither", "The scaled distances are equal pair by pair."),
    hint="What happens to the distance between two points when both are rotated and stretched?",
    steps=["|10 R a - 10 R b| = 10 |a - b|.", "Divided by the mean distance, the factor 10 is gone."],
)

question(
    "5",
    "A batch holds one sentence of 30 tokens and thirty-one of 3 tokens, padded to 30. Your hint loss averages over "
    "all positions. What goes wrong?",
    A=("Nothing: padding has hidden states too.", "It has, but nobody reads them; matching them costs capacity."),
    B=("The loss is too large by a factor of 32.", "The number of sentences divides out; the padding does not."),
    C=(
        "Nine tenths of what is matched is padding.",
        "31 x 27 of 960 positions, 87 %, are padding, and they take their share of the gradient.",
        True,
    ),
    hint="Count the positions, then the real tokens.",
    steps=[
        "Positions: 32 x 30 = 960.",
        "Real tokens: 30 + 31 x 3 = 123.",
        "Padding: 960 - 123 = 837, which is 87 % of the mean.",
    ],
)

question(
    "6",
    "Three runs each: output loss alone 81.9 %, output and hint loss 82.4 %, 95 % interval of the paired difference "
    "[-0.3, 1.3] points. What can you say?",
    A=("Hints help.", "The interval holds zero: the same runs repeated could come out the other way."),
    B=("Hints do not help.", "The interval also holds a gain of a point. Not shown is not the same as absent."),
    C=(
        "The runs were too few for any statement.",
        "They do say something: an effect above 1.3 points or a loss of more than 0.3 is unlikely.",
    ),
    D=(
        "A gain is not shown; if there is one, it is likely below 1.3 points.",
        "That is what the interval says, no more and no less.",
        True,
    ),
    hint="Where does the interval begin and where does it end?",
    steps=["Zero lies inside: no difference is shown.", "The upper end, 1.3 points, bounds a likely gain."],
)
