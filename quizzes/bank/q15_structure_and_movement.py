"""Lesson 15, structure and movement: its exercises and its questions."""

import torch

from lessons_lib.pruning import heads as attention_heads
from lessons_lib.pruning import importance, movement
from quizzes import case, exercise, question


@exercise(
    points=2,
    minutes=5,
    hint="One sentence says +0.4 about a head, another -0.4. Does the head matter to neither of them? abs() belongs "
    "before the sum over the first axis.",
)
def head_importance(gate_gradients: torch.Tensor) -> torch.Tensor:
    """Importance of every attention head: the absolute gradient of its gate in each sentence, summed over sentences.

    gate_gradients: FP32 (sentences, layers, heads), the derivative of each sentence's loss by the gate of each head.
    Returns FP32 (layers, heads): no mean, no scaling.

    >>> head_importance(torch.tensor([[[0.5, -0.25]], [[-0.5, -0.25]]]))     # 2 sentences, 1 layer, 2 heads
    tensor([[1.0000, 0.5000]])
    """
    return importance.from_gates(gate_gradients)


@head_importance.cases
def _(draw):
    yield case("the printed example", torch.tensor([[[0.5, -0.25]], [[-0.5, -0.25]]]), visible=True)
    yield case("random gradients", draw.normal((8, 3, 4)))
    yield case("random gradients", draw.normal((33, 2, 6), std=0.1))
    drawn = draw.normal((5, 2, 3))
    yield case("sentences that cancel", torch.cat([drawn, -drawn]))
    yield case("sentences that cancel", torch.tensor([[[3.0, 1.0]], [[-3.0, 0.5]], [[0.0, 1.0]]]), visible=True)
    yield case("strided", draw.strided((6, 4, 5)))


head_importance.close(
    rtol=1e-5,
    reason="a sum of n numbers of one sign errs by at most n · 2^-24 of itself, in any "
    "order; with at most 33 sentences that is 2e-6",
)


@head_importance.mistake("The absolute value comes after your sum, so sentences with opposite signs cancel.")
def _(gate_gradients):
    return gate_gradients.sum(dim=0).abs()


@head_importance.mistake("The signs are still in your sum, so a head can even come out below zero.")
def _(gate_gradients):
    return gate_gradients.sum(dim=0)


@head_importance.mistake("You took the mean over the sentences; the docstring asks for the sum.")
def _(gate_gradients):
    return gate_gradients.abs().mean(dim=0)


@head_importance.mistake("You squared the gradients. One sentence with a large gradient then outweighs many others.")
def _(gate_gradients):
    return gate_gradients.square().sum(dim=0)


@head_importance.alternative
def _(gate_gradients):
    total = torch.zeros(gate_gradients.shape[1:])
    for sentence in gate_gradients:
        total += sentence.where(sentence > 0, -sentence)
    return total


@exercise(
    points=3,
    minutes=10,
    hint="view(n_heads, size, -1) puts the rows of each head of wq under one index. In wo the same numbers are "
    "columns.",
)
def prune_head_weights(
    wq: torch.Tensor, wk: torch.Tensor, wv: torch.Tensor, wo: torch.Tensor, heads: list[int], n_heads: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The four matrices of an attention layer without some of its heads.

    wq, wk, wv: FP32 (n_heads · size, width), as torch.nn.Linear keeps them: a row for each output. Head h owns the rows
    h · size to (h + 1) · size - 1. wo: FP32 (width, n_heads · size); head h owns the columns with these numbers.
    heads: the heads that go, at least one and not all, in any order, none twice.
    Returns (wq, wk, wv, wo) with the remaining heads in their old order.

    >>> w = torch.tensor([[1.0, 1.0], [2.0, 2.0]])          # 2 heads of size 1, width 2
    >>> prune_head_weights(w, w, w, w, [0], 2)
    (tensor([[2., 2.]]), tensor([[2., 2.]]), tensor([[2., 2.]]), tensor([[1.],
            [2.]]))
    """
    kept = torch.tensor([head for head in range(n_heads) if head not in heads])
    rows = attention_heads.channels(kept, len(wq) // n_heads)
    return wq[rows], wk[rows], wv[rows], wo[:, rows]


def _attention(draw, n_heads, size, width):
    return (*(draw.normal((n_heads * size, width)) for _ in range(3)), draw.normal((width, n_heads * size)))


@prune_head_weights.cases
def _(draw):
    both = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    yield case("the printed example", both, both, both, both, [0], 2, visible=True)
    yield case("heads of several rows", *_attention(draw, 4, 3, 12), [1], 4)
    yield case("heads of several rows", *_attention(draw, 6, 4, 24), [4, 2], 6)
    yield case("most heads go", *_attention(draw, 5, 2, 10), [4, 0, 2, 1], 5)
    yield case("most heads go", *_attention(draw, 3, 2, 6), [0, 1], 3, visible=True)
    yield case("pruned before: not square", *_attention(draw, 3, 4, 10), [1], 3)
    yield case("strided", *(draw.strided((12, 12)) for _ in range(4)), [3, 1], 4)


prune_head_weights.exact("numbers are copied, none is computed")


def _owned(kept, size):
    return attention_heads.channels(torch.tensor(kept), size)


@prune_head_weights.mistake("You kept the heads that were to go.")
def _(wq, wk, wv, wo, heads, n_heads):
    rows = _owned(sorted(heads), len(wq) // n_heads)
    return wq[rows], wk[rows], wv[rows], wo[:, rows]


@prune_head_weights.mistake("You took rows out of wo. What the heads say goes into wo, so there a head owns columns.")
def _(wq, wk, wv, wo, heads, n_heads):
    size = len(wq) // n_heads
    rows = _owned([head for head in range(n_heads) if head not in heads], size)
    return wq[rows], wk[rows], wv[rows], wo[rows[rows < len(wo)]]


@prune_head_weights.mistake(
    "Your heads are interleaved: row i belongs to head i // size, so that the rows of a head stand together."
)
def _(wq, wk, wv, wo, heads, n_heads):
    rows = torch.tensor([row for row in range(len(wq)) if row % n_heads not in heads])
    return wq[rows], wk[rows], wv[rows], wo[:, rows]


@prune_head_weights.mistake("The heads are set to zero, not removed: the matrices are as large as before.")
def _(wq, wk, wv, wo, heads, n_heads):
    gone = _owned(heads, len(wq) // n_heads)
    zeroed = [matrix.clone() for matrix in (wq, wk, wv, wo)]
    for matrix in zeroed[:3]:
        matrix[gone] = 0
    zeroed[3][:, gone] = 0
    return tuple(zeroed)


@prune_head_weights.mistake("One row a head is gone. A head has len(wq) // n_heads rows, and all of them go.")
def _(wq, wk, wv, wo, heads, n_heads):
    size = len(wq) // n_heads
    rows = torch.tensor([row for row in range(len(wq)) if row not in {head * size for head in heads}])
    return wq[rows], wk[rows], wv[rows], wo[:, rows]


@prune_head_weights.mistake("wo still has the columns of the heads that went, and nothing will multiply them.")
def _(wq, wk, wv, wo, heads, n_heads):
    rows = _owned([head for head in range(n_heads) if head not in heads], len(wq) // n_heads)
    return wq[rows], wk[rows], wv[rows], wo


@prune_head_weights.alternative
def _(wq, wk, wv, wo, heads, n_heads):
    stays = torch.ones(n_heads, dtype=torch.bool)
    stays[heads] = False
    width = wq.shape[1]
    narrow = [matrix.reshape(n_heads, -1, width)[stays].reshape(-1, width) for matrix in (wq, wk, wv)]
    return (*narrow, wo.reshape(wo.shape[0], n_heads, -1)[:, stays].reshape(wo.shape[0], -1))


@exercise(
    points=2,
    minutes=5,
    hint="Neuron i is an output of the first layer and an input of the second. Where does each of the three tensors "
    "count neurons: along its rows, or along its columns?",
)
def prune_neurons(
    w_in: torch.Tensor, b_in: torch.Tensor, w_out: torch.Tensor, keep: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The weights around the feed-forward neurons, with some of the neurons only.

    w_in: FP32 (neurons, width), b_in: FP32 (neurons,), weight and bias of the layer before the neurons, as in
    torch.nn.Linear. w_out: FP32 (width, neurons), weight of the layer after them. keep: int64 (kept,), the positions of
    the neurons that stay; they stand in the result in this order.
    Returns (w_in, b_in, w_out).

    >>> prune_neurons(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0.1, 0.2, 0.3]),
    ...               torch.tensor([[4.0, 5.0, 6.0]]), torch.tensor([2, 0]))
    (tensor([[3.],
            [1.]]), tensor([0.3000, 0.1000]), tensor([[6., 4.]]))
    """
    return w_in[keep], b_in[keep], w_out[:, keep]


def _feed_forward(draw, neurons, width):
    return draw.normal((neurons, width)), draw.normal((neurons,)), draw.normal((width, neurons))


@prune_neurons.cases
def _(draw):
    yield case(
        "the printed example",
        torch.tensor([[1.0], [2.0], [3.0]]),
        torch.tensor([0.1, 0.2, 0.3]),
        torch.tensor([[4.0, 5.0, 6.0]]),
        torch.tensor([2, 0]),
        visible=True,
    )
    yield case("a layer", *_feed_forward(draw, 12, 5), torch.tensor([10, 3, 7]))
    yield case("a layer", *_feed_forward(draw, 16, 4), draw.tensor((16,)).argsort()[:9])
    yield case("as many neurons as width", *_feed_forward(draw, 6, 6), torch.tensor([4, 1]))
    yield case("one stays", *_feed_forward(draw, 4, 3), torch.tensor([2]), visible=True)
    yield case("strided", draw.strided((8, 5)), draw.normal((8,)), draw.strided((5, 8)), torch.tensor([6, 0, 5, 2]))


prune_neurons.exact("numbers are copied, none is computed")


@prune_neurons.mistake("You took rows of w_out. It reads the neurons, so there a neuron is a column.")
def _(w_in, b_in, w_out, keep):
    return w_in[keep], b_in[keep], w_out[keep[keep < len(w_out)]]


@prune_neurons.mistake("You removed the neurons of keep; they are the ones that stay.")
def _(w_in, b_in, w_out, keep):
    stays = torch.ones(len(b_in), dtype=torch.bool)
    stays[keep] = False
    return w_in[stays], b_in[stays], w_out[:, stays]


@prune_neurons.mistake("b_in still has the biases of the neurons that went.")
def _(w_in, b_in, w_out, keep):
    return w_in[keep], b_in, w_out[:, keep]


@prune_neurons.mistake("Your neurons are in ascending order. The docstring asks for the order of keep.")
def _(w_in, b_in, w_out, keep):
    keep = keep.sort().values
    return w_in[keep], b_in[keep], w_out[:, keep]


@prune_neurons.mistake(
    "Each layer keeps an order of its own: w_in that of keep, w_out an ascending one. Their neurons "
    "then no longer fit together."
)
def _(w_in, b_in, w_out, keep):
    return w_in[keep], b_in[keep], w_out[:, keep.sort().values]


@prune_neurons.alternative
def _(w_in, b_in, w_out, keep):
    chosen = torch.nn.functional.one_hot(keep, len(b_in)).to(w_in.dtype)  # (kept, neurons): one 1 in each row
    return chosen @ w_in, chosen @ b_in, w_out @ chosen.t()


@exercise(
    points=3,
    minutes=8,
    hint="Gradient descent moves a weight against its gradient. When is that away from zero: when weight and gradient "
    "have the same sign, or opposite ones? Such steps have to raise the score.",
)
def movement_scores(weights: list[torch.Tensor], grads: list[torch.Tensor]) -> torch.Tensor:
    """Movement scores after some steps: for each weight minus the sum over the steps of weight times gradient.

    weights: for each step the weights before it, FP32 tensors of one shape. grads: for each step the gradient of the
    loss by these weights, the same shapes. At least one step. No learning rate: it would not change the order.
    Returns FP32 of that shape. The weights with the lowest scores are the ones that go.

    >>> movement_scores([torch.tensor([0.5, 0.5]), torch.tensor([0.4, 0.6])],
    ...                 [torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0])])
    tensor([-0.9000,  1.1000])
    """
    return movement.movement_scores(weights, grads)


@movement_scores.cases
def _(draw):
    yield case(
        "the printed example",
        [torch.tensor([0.5, 0.5]), torch.tensor([0.4, 0.6])],
        [torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0])],
        visible=True,
    )
    yield case("one step", [draw.normal((4, 6))], [draw.normal((4, 6))])
    yield case("one step", [torch.tensor([[0.3, -0.3]])], [torch.tensor([[-0.2, -0.2]])], visible=True)
    yield case("several steps", [draw.normal((5, 3)) for _ in range(4)], [draw.normal((5, 3)) for _ in range(4)])
    yield case("several steps", [draw.normal((7,)) for _ in range(6)], [draw.normal((7,)) for _ in range(6)])
    start = draw.normal((3, 8))
    pulls = [draw.normal((3, 8), std=0.5) for _ in range(5)]
    path = [start - 0.1 * sum(pulls[:step], torch.zeros(3, 8)) for step in range(5)]
    yield case("a training by gradient descent", path, pulls)


movement_scores.close(
    rtol=1e-5,
    atol=1e-5,
    reason="each product errs by 2^-24 of itself and a sum of at most 6 by "
    "6 · 2^-24 of their sizes, which stay below 20 together: 1e-5 even where they cancel",
)


@movement_scores.mistake("Your sign is the other way round: weights on their way to zero get the highest scores.")
def _(weights, grads):
    return sum(weight * grad for weight, grad in zip(weights, grads, strict=True))


@movement_scores.mistake("Absolute values lose the direction. What counts is whether a step leads away from zero.")
def _(weights, grads):
    return sum((weight * grad).abs() for weight, grad in zip(weights, grads, strict=True))


@movement_scores.mistake(
    "You summed the gradients alone. The same gradient moves a positive weight towards zero and a "
    "negative one away from it."
)
def _(weights, grads):
    return -sum(grads)


@movement_scores.mistake(
    "You multiplied the last weights with the sum of all gradients. Every step has weights of its own."
)
def _(weights, grads):
    return -weights[-1] * sum(grads)


@movement_scores.mistake("Only your last step counts; the scores collect all of them.")
def _(weights, grads):
    return -weights[-1] * grads[-1]


@movement_scores.alternative
def _(weights, grads):
    return torch.einsum("s...,s...->...", torch.stack(list(weights)), -torch.stack(list(grads)))


question(
    "1",
    "A layer has 12 heads of 32 channels and is 384 wide. You remove 4 heads. What shape has the weight of its query "
    "afterwards, as torch.nn.Linear keeps it, and what shape the weight after the heads, wo?",
    A=("query 256 x 256, wo 256 x 256", "The width of the model stays 384: all other layers count on it."),
    B=("query 256 x 384, wo 384 x 256", "8 heads of 32 channels are left: rows of query and columns of wo.", True),
    C=("query 384 x 256, wo 256 x 384", "A Linear keeps a row for each output, and the heads are query's outputs."),
    D=("both stay 384 x 384", "That is what a mask leaves: zeros, stored and multiplied like other numbers."),
    hint="How many channels do the remaining heads have together?",
    steps=[
        "12 - 4 = 8 heads are left, 8 x 32 = 256 channels.",
        "Query makes them from 384 inputs: 256 rows.",
        "wo reads them and writes 384 outputs: 256 columns.",
    ],
)

question(
    "2",
    "Two sentences give the gate of a head the gradients +2 and -2, and that of another head +0.1 and +0.1. Which head "
    "matters more by the measure of this lesson?",
    A=(
        "The first: 4 against 0.2",
        "Each sentence loses or gains a lot with that head; the absolute values add up.",
        True,
    ),
    B=("The second: 0.2 against 0", "That is the sum with signs. It says that the first head matters to nobody."),
    C=("Both alike", "Neither with signs nor without do the two sums agree."),
    D=("It cannot be said without the number of heads", "The measure looks at one head at a time."),
    hint="Absolute value first, then the sum.",
    steps=["First head: |+2| + |-2| = 4.", "Second head: 0.1 + 0.1 = 0.2.", "With signs the first would have had 0."],
)

question(
    "3",
    "The ranks of heads by gradient and by exact change correlate at 0.6. The exact measure, taken on one half of the "
    "sentences and then on the other, correlates with itself at 0.65. What follows?",
    A=(
        "The gradients are a poor measure: 0.6 is far from 1.",
        "No measure can be expected to agree with these figures much better than they agree with themselves.",
    ),
    B=("The exact measure is wrong.", "It is exact for the sentences it saw; others rank the heads otherwise."),
    C=("The two measures are independent.", "Then their ranks would correlate at about 0."),
    D=(
        "The gradients come close to what these sentences can tell at all.",
        "0.65 is about the ceiling: more sentences would be needed to see a difference.",
        True,
    ),
    hint="How well does the exact measure agree with itself?",
    steps=[
        "Its two halves agree at 0.65: the rest is the choice of sentences.",
        "0.6 is nearly that, so what is missing is mostly noise.",
        "More sentences would raise the ceiling.",
    ],
)

question(
    "4",
    "Why do all layers lose equally many neurons here, while each loses as many heads as it likes?",
    A=("Neurons matter equally in all layers.", "They do not, and nothing in the method says so."),
    B=(
        "A transformers config has one number of neurons for all layers; the heads got an attention class of "
        "their own.",
        "The rule buys a model that any plain transformers installation can load.",
        True,
    ),
    C=(
        "Otherwise the hidden states would not fit together.",
        "Neurons live inside a block: between blocks there is the width, which never changes.",
    ),
    D=("Heads are cheaper than neurons.", "Costs do not explain which numbers may differ between layers."),
    hint="Where does a reloaded model learn how large its matrices are?",
    steps=[
        "intermediate_size is one number in config.json.",
        "num_attention_heads is one number too.",
        "For the heads the lesson wrote a class and a field of the config; for neurons it kept the plain config.",
    ],
)

question(
    "5",
    "Of the 30,522 word embeddings a model keeps the 10,000 that its texts use. What gets better?",
    A=(
        "The file gets smaller; the time of a sentence hardly changes.",
        "A sentence looks up as many rows as before. The rows that went were never read.",
        True,
    ),
    B=("Both file and time shrink to a third.", "Only what is multiplied costs time, and embeddings are looked up."),
    C=("The time shrinks, the file does not.", "The rows that went are not written any more."),
    D=(
        "Nothing: the ids of the words have to be kept instead.",
        "An id takes four bytes, a row of 384 numbers takes 1,536.",
    ),
    hint="How many rows of the table does a sentence of 20 words read, before and after?",
    steps=[
        "Bytes: 20,522 rows fewer, each of 384 x 4 bytes.",
        "Time: 20 rows are read, before and after.",
        "The table of old ids costs four bytes a row that stays.",
    ],
)

question(
    "6",
    "A weight of 0.9 has moved to 0.6 while training, another from 0.01 to 0.2. One has to go. Which one by magnitude, "
    "which one by movement?",
    A=("The first by both", "By magnitude the smaller one goes, and 0.2 is smaller than 0.6."),
    B=("The second by both", "By movement the second one stays: it grows."),
    C=(
        "By magnitude the second, by movement the first",
        "0.2 is smaller; but 0.9 to 0.6 is the way towards zero.",
        True,
    ),
    D=("By magnitude the first, by movement the second", "It is the other way round for both."),
    hint="Magnitude looks at where a weight is, movement at where it goes.",
    steps=[
        "Sizes now: 0.6 and 0.2. The second is smaller.",
        "Directions: the first shrinks, the second grows.",
        "Movement removes the one that shrinks.",
    ],
)

question(
    "7",
    "A weight is under a closed mask, so that the layer sees zero. How can its movement score still change?",
    A=(
        "It cannot: what is zero has no gradient.",
        "The masked weight has one: how would the loss change if the layer saw a little of it?",
    ),
    B=("By weight decay alone", "Decay changes the weight, and stands in no formula of the score."),
    C=("The score changes at random, so that every weight gets a chance.", "Nothing in the method is drawn at random."),
    D=(
        "The straight-through estimator takes the gradient at the masked weight, and hands it to the score.",
        "So a weight that training would let grow can come back.",
        True,
    ),
    hint="At which place is the gradient in the formula of the score taken?",
    steps=[
        "The layer computes with W' = W · M.",
        "dL/dW' exists wherever the layer is used, also where W' is 0.",
        "The score collects -W · dL/dW', under open and closed masks alike.",
    ],
)
