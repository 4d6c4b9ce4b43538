"""Lesson 06, DistilBERT, start to finish: its exercises and its questions."""

import math

import torch
import torch.nn.functional as F

from lessons_lib.distillation import general, masked_language
from quizzes import case, exercise, question

NAN = float("nan")
SPECIAL = torch.tensor([0, 1, 2])  # of the cases: padding, start, end
MASK_ID = 3


@exercise(
    points=3,
    minutes=10,
    hint="Build one bool tensor, chosen, first: the first uniform below p, and not torch.isin(ids, special). Then two "
    "torch.where on top of each other for what the model sees, and one for the labels.",
)
def mask_tokens(
    ids: torch.Tensor, special: torch.Tensor, mask_id: int, vocab: int, p: float, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide tokens for a masked language model: what it sees, and what it has to say.

    ids: int64 (batch, length). special: int64 (n,), ids that are never chosen, padding among them. mask_id: the id of
    [MASK]. vocab: number of ids. p: share of the other tokens to choose. uniforms: FP32 (3, batch, length) in [0, 1).
    A token that is not special is chosen where uniforms[0] < p. What the model sees of a chosen token depends on u =
    uniforms[1] there: u < 0.8 the id mask_id; 0.8 <= u < 0.9 the random id floor(uniforms[2] * vocab); else the token
    itself. Tokens that are not chosen stay.
    Returns (masked, labels), both int64 (batch, length): labels hold the original id of every chosen token, -100
    elsewhere. ids is left as it was.

    >>> ids, special = torch.tensor([[1, 7, 8, 9, 7]]), torch.tensor([0, 1, 2])
    >>> choose, fate, draw = [0.0, 0.1, 0.1, 0.1, 0.9], [0.0, 0.5, 0.85, 0.95, 0.0], [0.0, 0.0, 0.5, 0.0, 0.0]
    >>> mask_tokens(ids, special, 3, 20, 0.15, torch.tensor([[choose], [fate], [draw]]))
    (tensor([[ 1,  3, 10,  9,  7]]), tensor([[-100,    7,    8,    9, -100]]))
    """
    return masked_language.mask_tokens(ids, special, mask_id, vocab, p, uniforms)


def _sentences(draw, rows, length, vocab):
    """Ids with a start, an end and padding after it."""
    ids = draw.integers((rows, length), 4, vocab)
    ends = draw.integers((rows,), 3, length)
    ends[0] = length - 1
    place = torch.arange(length)
    ids = ids.where(place != 0, 1).where(place != ends[:, None], 2).where(place <= ends[:, None], 0)
    return ids, SPECIAL, MASK_ID, vocab


@mask_tokens.cases
def _(draw):
    printed = torch.tensor([[[0.0, 0.1, 0.1, 0.1, 0.9]], [[0.0, 0.5, 0.85, 0.95, 0.0]], [[0.0, 0.0, 0.5, 0.0, 0.0]]])
    yield case("the printed example", torch.tensor([[1, 7, 8, 9, 7]]), SPECIAL, 3, 20, 0.15, printed, visible=True)
    yield case("usual shares", *_sentences(draw, 6, 25, 100), 0.15, draw.tensor((3, 6, 25), 0, 1))
    yield case("usual shares", *_sentences(draw, 4, 40, 30522), 0.4, draw.tensor((3, 4, 40), 0, 1))
    every = draw.tensor((3, 5, 30), 0, 1)
    yield case("special tokens and padding", *_sentences(draw, 5, 30, 50), 1.0, every)
    ids, _, _, vocab = _sentences(draw, 3, 30, 12)
    yield case("another tokenizer's ids", ids, torch.tensor([11, 5]), 7, vocab, 0.9, draw.tensor((3, 3, 30), 0, 1))
    edge = torch.full((3, 1, 6), 0.5)
    edge[0, 0, :3] = 0.25
    edge[1, 0, 1] = 0.96875
    yield case("a uniform that equals p", torch.tensor([[4, 5, 6, 7, 8, 9]]), SPECIAL, 3, 10, 0.5, edge)
    least = torch.zeros(3, 2, 5)
    least[1] = 0.85
    yield case("the ends of the vocabulary", torch.full((2, 5), 9), SPECIAL, 3, 10, 0.15, least)
    most = least.clone()
    most[2] = 1 - 2**-24
    yield case("the ends of the vocabulary", torch.full((2, 5), 8), SPECIAL, 3, 10, 0.15, most)


mask_tokens.exact("ids are whole numbers, and the cases keep every uniform of the second row away from 0.8 and 0.9")


def _by_hand(ids, special, mask_id, vocab, p, uniforms, *, shares=(0.8, 0.1)):
    """The rule, with shares of the chosen tokens to play with."""
    chosen = (uniforms[0] < p) & ~torch.isin(ids, special)
    random = chosen & (uniforms[1] >= shares[0]) & (uniforms[1] < sum(shares))
    masked = ids.masked_fill(chosen & (uniforms[1] < shares[0]), mask_id)
    return masked.where(~random, (uniforms[2] * vocab).long()), chosen


@mask_tokens.mistake("Special tokens or padding were chosen too. Leave out every id that stands in special.")
def _(ids, special, mask_id, vocab, p, uniforms):
    return masked_language.mask_tokens(ids, torch.tensor([], dtype=torch.int64), mask_id, vocab, p, uniforms)


@mask_tokens.mistake(
    "Every chosen token became [MASK]. A tenth turns into a random token and a tenth stays: later the model meets text "
    "without any [MASK], and must have learned not to trust what it sees."
)
def _(ids, special, mask_id, vocab, p, uniforms):
    masked, chosen = _by_hand(ids, special, mask_id, vocab, p, uniforms, shares=(1.0, 0.0))
    return masked, ids.where(chosen, -100)


@mask_tokens.mistake(
    "The labels are asked for at [MASK] alone. Chosen tokens that were replaced, or kept, are guessed as well."
)
def _(ids, special, mask_id, vocab, p, uniforms):
    masked, chosen = _by_hand(ids, special, mask_id, vocab, p, uniforms)
    return masked, ids.where(chosen & (uniforms[1] < 0.8), -100)


@mask_tokens.mistake("The labels hold what the model sees. They must hold the token that stood there before.")
def _(ids, special, mask_id, vocab, p, uniforms):
    masked, chosen = _by_hand(ids, special, mask_id, vocab, p, uniforms)
    return masked, masked.where(chosen, -100)


@mask_tokens.mistake("Every token has a label. Where nothing was chosen the label is -100, which the loss skips.")
def _(ids, special, mask_id, vocab, p, uniforms):
    return masked_language.mask_tokens(ids, special, mask_id, vocab, p, uniforms)[0], ids.clone()


@mask_tokens.mistake(
    "Kept and replaced have changed places with masked: u below 0.8 gives [MASK], the largest share by far."
)
def _(ids, special, mask_id, vocab, p, uniforms):
    turned = torch.stack([uniforms[0], 1 - uniforms[1], uniforms[2]])
    masked, chosen = _by_hand(ids, special, mask_id, vocab, p, turned)
    return masked, ids.where(chosen, -100)


@mask_tokens.mistake("A token is chosen where the uniform lies below p, not where it equals p: use <.")
def _(ids, special, mask_id, vocab, p, uniforms):
    return masked_language.mask_tokens(ids, special, mask_id, vocab, math.nextafter(p, 2) + 1e-7, uniforms)


@mask_tokens.alternative
def _(ids, special, mask_id, vocab, p, uniforms):
    masked, labels = ids.clone(), torch.full_like(ids, -100)
    for row in range(ids.shape[0]):
        for column in range(ids.shape[1]):
            token = int(ids[row, column])
            if token in special.tolist() or not float(uniforms[0, row, column]) < p:
                continue
            labels[row, column] = token
            fate = float(uniforms[1, row, column])
            if fate < 0.8:
                masked[row, column] = mask_id
            elif fate < 0.9:
                masked[row, column] = int(float(uniforms[2, row, column]) * vocab)
    return masked, labels


COSINE_ROUNDING = (
    "a cosine is a sum of at most 16 products over two norms, each off by 16 half steps of FP32, 3 x 16 x 6e-8 = 3e-6, "
    "in the answer and in the reference; a mean does not make that larger."
)


@exercise(
    points=2,
    minutes=6,
    hint="F.cosine_similarity(a, b, dim=-1) gives one number a token. Index with mask.bool() before, so that padding "
    "never enters.",
)
def cosine_loss(student_hidden: torch.Tensor, teacher_hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """How far the student's hidden states point away from the teacher's: mean over real tokens of 1 - cosine.

    student_hidden, teacher_hidden: FP32 (batch, length, width), no row of a real token all zero. mask: int64 (batch,
    length), 1 for a real token; what stands at padding is never read, NaN included. The mean is over all real tokens of
    the batch together. No gradient reaches the teacher. Returns an FP32 tensor without axes.

    >>> student, teacher = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    >>> cosine_loss(student, teacher, torch.tensor([[1, 1]]))         # cosines 1 and 0
    tensor(0.5000)
    """
    return general.cosine_loss(student_hidden, teacher_hidden, mask)


def _mask(*lengths, width):
    """0/1 (batch, width): the first so many tokens of each row are real."""
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


@cosine_loss.cases
def _(draw):
    two = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    yield case("the printed example", *two, torch.tensor([[1, 1]]), visible=True)
    yield case("padding", two[0], two[1], torch.tensor([[0, 1]]), visible=True)
    yield case("padding", draw.normal((3, 7, 8)), draw.normal((3, 7, 8)), _mask(7, 2, 1, width=7))
    states = [draw.normal((2, 5, 6)), draw.normal((2, 5, 6))]
    states[0][1, 2:], states[1][1, 3:] = NAN, NAN
    yield case("NaN at padding", *states, _mask(5, 2, width=5))
    long = draw.normal((2, 4, 16))
    yield case("lengths do not matter", 50 * long + draw.normal((2, 4, 16)), long, _mask(4, 3, width=4))
    yield case("lengths do not matter", 0.02 * draw.normal((2, 4, 16)), long, _mask(4, 3, width=4))
    leaves = [draw.normal((2, 4, 5)).requires_grad_() for _ in range(2)]
    yield case("gradients: the student's, none for the teacher", *leaves, _mask(4, 2, width=4), observe="gradients")


cosine_loss.close(rtol=1e-4, atol=1e-5, reason=COSINE_ROUNDING)


@cosine_loss.mistake("This is the mean cosine. A loss falls as the student gets better: 1 minus it.")
def _(student_hidden, teacher_hidden, mask):
    return 1 - general.cosine_loss(student_hidden, teacher_hidden, mask)


@cosine_loss.mistake("Padding counts: you averaged over every position. Index both tensors with mask.bool() first.")
def _(student_hidden, teacher_hidden, mask):
    return (1 - F.cosine_similarity(student_hidden, teacher_hidden.detach(), dim=-1)).mean()


@cosine_loss.mistake("You averaged each sentence first: a sentence of one word then weighs as much as one of thirty.")
def _(student_hidden, teacher_hidden, mask):
    pairs = zip(student_hidden, teacher_hidden.detach(), mask.bool(), strict=True)
    return torch.stack([(1 - F.cosine_similarity(s[real], t[real], dim=-1)).mean() for s, t, real in pairs]).mean()


@cosine_loss.mistake("This is the scalar product without the two lengths: a longer vector would seem a better one.")
def _(student_hidden, teacher_hidden, mask):
    real = mask.bool()
    return (1 - (student_hidden[real] * teacher_hidden[real].detach()).sum(-1)).mean()


@cosine_loss.mistake("The cosine runs over tokens, dim=1 or 0. Compare two vectors of one token: over the last axis.")
def _(student_hidden, teacher_hidden, mask):
    real = mask.bool()
    return (1 - F.cosine_similarity(student_hidden[real], teacher_hidden[real].detach(), dim=0)).mean()


@cosine_loss.alternative
def _(student_hidden, teacher_hidden, mask):
    rows, columns = torch.nonzero(mask, as_tuple=True)
    student, teacher = student_hidden[rows, columns], teacher_hidden[rows, columns].detach()
    student = student / student.norm(dim=-1, keepdim=True)
    teacher = teacher / teacher.norm(dim=-1, keepdim=True)
    # |s - t|² = 2 - 2 cos for vectors of length 1
    return (student - teacher).square().sum(-1).mean() / 2


@exercise(
    points=3,
    minutes=10,
    hint="Three numbers, each times its weight. The first is lesson 03's soft loss, T² included. The second is the "
    "cross-entropy at T = 1. The third you have written above.",
)
def triple_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    student_hidden: torch.Tensor,
    teacher_hidden: torch.Tensor,
    mask: torch.Tensor,
    weights: tuple,
    T: float,
) -> torch.Tensor:
    """The loss of DistilBERT: soft targets, masked-language loss and cosine, each times its weight, added up.

    student_logits, teacher_logits: FP32 (M, vocabulary), at the M >= 1 chosen positions alone. labels: int64 (M,), the
    tokens that stood there. student_hidden, teacher_hidden: FP32 (batch, length, width). mask: int64 (batch, length), 1
    for a real token. weights: three numbers, for
      1. T² times KL(teacher ‖ student), both softened by T, mean over the M positions;
      2. the cross-entropy of the student's logits with the labels, at T = 1, mean over the M positions;
      3. 1 - cosine of the hidden states, mean over the real tokens of the batch.
    No gradient reaches the teacher. Returns the weighted sum, an FP32 tensor without axes; it is not divided by the
    weights.

    >>> logits, hidden = torch.tensor([[2.0, 0.0]]), torch.tensor([[[1.0, 0.0]]])
    >>> one = torch.ones(1, 1).long()
    >>> triple_loss(logits, logits, torch.tensor([1]), hidden, -hidden, one, (5.0, 2.0, 1.0), 2.0)   # 2 · 2.127 + 2
    tensor(6.2539)
    """
    return general.triple_loss(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T)


def _guesses(draw, rows, vocab, shape=(2, 4, 6), lengths=(4, 2)):
    """Everything that triple_loss takes before weights and T."""
    logits = draw.normal((rows, vocab), std=2), draw.normal((rows, vocab), std=2)
    hidden = draw.normal(shape), draw.normal(shape)
    return [*logits, draw.integers((rows,), 0, vocab), *hidden, _mask(*lengths, width=shape[1])]


@triple_loss.cases
def _(draw):
    logits, hidden = torch.tensor([[2.0, 0.0]]), torch.tensor([[[1.0, 0.0]]])
    one = torch.ones(1, 1).long()
    yield case(
        "the printed example",
        logits,
        logits,
        torch.tensor([1]),
        hidden,
        -hidden,
        one,
        (5.0, 2.0, 1.0),
        2.0,
        visible=True,
    )
    yield case("soft targets alone", *_guesses(draw, 4, 7), (1.0, 0.0, 0.0), 3.0, visible=True)
    yield case("masked-language loss alone", *_guesses(draw, 5, 9), (0.0, 1.0, 0.0), 4.0)
    yield case("cosine alone", *_guesses(draw, 3, 5), (0.0, 0.0, 1.0), 2.0)
    yield case("all three", *_guesses(draw, 6, 11), (5.0, 2.0, 1.0), 2.0)
    yield case(
        "all three",
        *_guesses(draw, 12, 30),
        (draw.number(0.5, 6), draw.number(0.5, 6), draw.number(0.5, 6)),
        draw.number(1.5, 4),
    )
    padded = _guesses(draw, 4, 6, lengths=(4, 1))
    padded[3][1, 1:], padded[4][1, 2:] = NAN, NAN
    yield case("NaN at padding", *padded, (5.0, 2.0, 1.0), 2.0)
    leaves = _guesses(draw, 4, 6)
    for place in (0, 1, 3, 4):
        leaves[place].requires_grad_()
    yield case("gradients: the student's, none for the teacher", *leaves, (3.0, 2.0, 4.0), 2.0, observe="gradients")


triple_loss.close(
    rtol=1e-4,
    atol=3e-4,
    reason="logarithms of the softmax stay below 16, where half a step of FP32 is 4.8e-7; each is rounded three times "
    "in the answer and in the reference: 6 x 4.8e-7 = 3e-6. Probabilities sum to 1, T² times a weight is 96 at most: "
    "3e-4. Every mistake is off by 1e-2 and more. The third term: " + COSINE_ROUNDING,
)


@triple_loss.mistake("T² is missing before the soft term: at a high temperature its gradient fades away.")
def _(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T):
    soft, masked, cosine = weights
    return general.triple_loss(
        student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, (soft / T**2, masked, cosine), T
    )


@triple_loss.mistake("The divergence is turned round. The teacher's probabilities weigh it: KL(teacher ‖ student).")
def _(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T):
    log_q = F.log_softmax(student_logits / T, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach() / T, dim=-1)
    soft = T**2 * F.kl_div(log_p, log_q, log_target=True, reduction="batchmean")
    rest = general.triple_loss(
        student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, (0.0, *weights[1:]), T
    )
    return weights[0] * soft + rest


@triple_loss.mistake("The labels are hard: their cross-entropy is taken at T = 1. Soften the soft term alone.")
def _(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T):
    rest = general.triple_loss(
        student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, (weights[0], 0.0, weights[2]), T
    )
    return rest + weights[1] * F.cross_entropy(student_logits / T, labels)


@triple_loss.mistake("The weights of two terms have changed places: the soft one comes first, then the hard one.")
def _(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T):
    turned = (weights[1], weights[0], weights[2])
    return general.triple_loss(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, turned, T)


@triple_loss.mistake("The cosine is missing: nothing ties the student's hidden states to the teacher's.")
def _(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T):
    return general.triple_loss(
        student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, (*weights[:2], 0.0), T
    )


@triple_loss.mistake("You divided by the sum of the weights. The docstring asks for the plain weighted sum.")
def _(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T):
    return general.triple_loss(
        student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T
    ) / sum(weights)


@triple_loss.alternative
def _(student_logits, teacher_logits, labels, student_hidden, teacher_hidden, mask, weights, T):
    teacher_logits, teacher_hidden = teacher_logits.detach(), teacher_hidden.detach()
    p = torch.softmax(teacher_logits / T, dim=-1)
    gaps = torch.log_softmax(teacher_logits / T, dim=-1) - torch.log_softmax(student_logits / T, dim=-1)
    soft = T**2 * (p * gaps).sum(-1).mean()
    named = torch.log_softmax(student_logits, dim=-1).gather(1, labels[:, None])
    rows, columns = torch.nonzero(mask, as_tuple=True)
    student, teacher = student_hidden[rows, columns], teacher_hidden[rows, columns]
    cosines = (student * teacher).sum(-1) / (student.norm(dim=-1) * teacher.norm(dim=-1))
    return weights[0] * soft - weights[1] * named.mean() + weights[2] * (1 - cosines).mean()


@exercise(
    points=2,
    minutes=8,
    hint="Go through student_layers with enumerate. For each teacher layer collect the names that begin with its "
    'prefix, dot included: "encoder.layer.1" is also how "encoder.layer.11" begins.',
)
def init_from_teacher(student_layers: list[int], teacher_state: dict) -> dict:
    """The state of a student whose layer k starts as a copy of the teacher's layer student_layers[k].

    student_layers: positions in the teacher, counted from 0, in the student's order. teacher_state: name -> tensor. The
    names of layer i have the form "encoder.layer.<i>.<rest>", such as "encoder.layer.10.output.dense.weight"; all other
    names, such as "embeddings.word_embeddings.weight" or "head.bias", belong to no layer.
    Returns a dict name -> tensor: the taken layers under their new numbers 0, 1, ..., everything that belongs to no
    layer under its own name, and nothing else. The order of the names does not matter.

    >>> state = {"embeddings.weight": torch.ones(1)}
    >>> state |= {"encoder.layer.0.bias": torch.zeros(1), "encoder.layer.1.bias": torch.full((1,), 2.0)}
    >>> init_from_teacher([1], state)
    {'embeddings.weight': tensor([1.]), 'encoder.layer.0.bias': tensor([2.])}
    """
    return general.init_from_teacher(student_layers, teacher_state)


def _state(draw, layers, width=2):
    """A teacher's state with two tensors a layer, names of the pattern, and something before and after the layers."""
    state = {"embeddings.word_embeddings.weight": draw.normal((3, width))}
    for layer in range(layers):
        state[f"encoder.layer.{layer}.attention.self.query.weight"] = draw.normal((width, width))
        state[f"encoder.layer.{layer}.output.dense.bias"] = draw.normal((width,))
    return state | {"head.weight": draw.normal((2, width)), "head.bias": draw.normal((2,))}


@init_from_teacher.cases
def _(draw):
    printed = {
        "embeddings.weight": torch.ones(1),
        "encoder.layer.0.bias": torch.zeros(1),
        "encoder.layer.1.bias": torch.full((1,), 2.0),
    }
    yield case("the printed example", [1], printed, visible=True)
    yield case("six layers to three", [1, 3, 5], _state(draw, 6), visible=True)
    yield case("twelve layers to six", [1, 3, 5, 7, 9, 11], _state(draw, 12))
    yield case("numbers of two digits", [1, 10, 12], _state(draw, 14))
    yield case("the first layers, and all of them", [0, 1], _state(draw, 4))
    yield case("the first layers, and all of them", list(range(4)), _state(draw, 4))
    yield case("the order of the student", [4, 0, 2], _state(draw, 5))


init_from_teacher.exact("the tensors are copied")


def _taken(student_layers, teacher_state, number):
    """The state with layer numbers of one's own choice: number(k, layer) for student layer k."""
    state = {name: tensor for name, tensor in teacher_state.items() if ".layer." not in name}
    for k, layer in enumerate(student_layers):
        for name, tensor in teacher_state.items():
            if name.startswith(f"encoder.layer.{layer}."):
                state[name.replace(f".{layer}.", f".{number(k, layer)}.", 1)] = tensor
    return state


@init_from_teacher.mistake(
    "The layers keep the teacher's numbers. A student of three layers looks for 0, 1 and 2 and would find one of them."
)
def _(student_layers, teacher_state):
    return _taken(student_layers, teacher_state, lambda k, layer: layer)


@init_from_teacher.mistake("The student's layers count from 0: yours begin with 1.")
def _(student_layers, teacher_state):
    return _taken(student_layers, teacher_state, lambda k, layer: k + 1)


@init_from_teacher.mistake(
    "Embeddings and head are missing. What belongs to no layer is copied too: a student with random embeddings has to "
    "learn the vocabulary anew."
)
def _(student_layers, teacher_state):
    state = general.init_from_teacher(student_layers, teacher_state)
    return {name: tensor for name, tensor in state.items() if ".layer." in name}


@init_from_teacher.mistake("These are the first layers. Take the ones that student_layers names.")
def _(student_layers, teacher_state):
    return general.init_from_teacher(list(range(len(student_layers))), teacher_state)


@init_from_teacher.mistake(
    '"encoder.layer.1" is also how the names of layers 10 to 19 begin, and the last of them won. Ask for the dot after '
    "the number."
)
def _(student_layers, teacher_state):
    state = {name: tensor for name, tensor in teacher_state.items() if ".layer." not in name}
    for k, layer in enumerate(student_layers):
        for name, tensor in teacher_state.items():
            if name.startswith(f"encoder.layer.{layer}"):
                state[f"encoder.layer.{k}." + name.split(".", 3)[3]] = tensor
    return state


@init_from_teacher.mistake("Your student has its layers in ascending order. Layer k takes student_layers[k], in order.")
def _(student_layers, teacher_state):
    return general.init_from_teacher(sorted(student_layers), teacher_state)


@init_from_teacher.alternative
def _(student_layers, teacher_state):
    state = {}
    for name, tensor in teacher_state.items():
        parts = name.split(".")
        if parts[:2] != ["encoder", "layer"]:
            state[name] = tensor.clone()
            continue
        for position, layer in enumerate(student_layers):
            if layer == int(parts[2]):
                state[".".join([*parts[:2], str(position), *parts[3:]])] = tensor.clone()
    return state


question(
    "1",
    "A masked language model chooses 15 % of the tokens. Why do 10 % of these keep the token that stood there?",
    A=("To save the time of replacing them.", "Replacing a number costs nothing beside a pass through the encoder."),
    B=(
        "So that a hidden state stays useful where no [MASK] stands: any visible token may be asked about.",
        "Real text has no [MASK]. A model asked at [MASK] alone could ignore every other position.",
        True,
    ),
    C=(
        "Because 10 % of the tokens are special tokens.",
        "Special tokens are never chosen; the 10 % are a share of the chosen ordinary ones.",
    ),
    D=("So that the loss is smaller.", "It is, a little, but a smaller loss is not the aim."),
    hint="What does text look like when the encoder is used later?",
    steps=[
        "In training most of the chosen positions show [MASK].",
        "Later there is none.",
        "A few that are random or kept make the model build a useful state at every position.",
    ],
)

question(
    "2",
    "100,000 ordinary tokens, 15 % chosen, 80/10/10. About how many does the model see as [MASK], and how many guesses "
    "enter the loss?",
    A=("12,000 and 15,000", "80 % of 15,000 show [MASK]; the loss asks about all 15,000.", True),
    B=("15,000 and 15,000", "Only 80 % of the chosen ones become [MASK]."),
    C=("12,000 and 12,000", "The random and the kept tokens are asked about as well."),
    D=("80,000 and 15,000", "The 80 % are a share of the chosen tokens, not of all."),
    hint="The shares are taken one after the other.",
    steps=[
        "Chosen: 0.15 x 100,000 = 15,000.",
        "[MASK]: 0.8 x 15,000 = 12,000.",
        "Every chosen position has a label, whatever stands there.",
    ],
)

question(
    "3",
    "You put a masked-language head on a pretrained encoder, freeze the encoder and train the head. The loss stops "
    "near that of naming tokens by their frequency. What is the likely reason?",
    A=("The learning rate is too high.", "Then the loss would jump or grow. It stands still at one particular level."),
    B=("The vocabulary is too large.", "It is as large where the encoder is trained along, and that one gets further."),
    C=(
        "At a masked position the frozen encoder's state says too little about the missing word; it was trained for "
        "something else.",
        "This encoder was last trained to compare sentences. What the head needs is no longer there to be read.",
        True,
    ),
    D=("The head has no temperature.", "A temperature rescales logits; it adds no knowledge about the word."),
    hint="What was the encoder asked for in its last training?",
    steps=[
        "The head sees the hidden state of the masked position and nothing else.",
        "An encoder of sentence embeddings need not keep which word is missing there.",
        "So encoder and head have to be trained together.",
    ],
)

question(
    "4",
    "A student equals its teacher in every weight. Which of the three losses of general distillation is not zero?",
    A=("The soft targets (KL)", "Equal logits give equal soft labels: the divergence is 0."),
    B=("The cosine of the hidden states", "Equal vectors have the cosine 1, and 1 - 1 = 0."),
    C=("None: all three are zero", "The teacher does not guess every hidden word, so one of them cannot be."),
    D=("The masked-language loss", "It compares with the words that stood there, and the teacher misses many.", True),
    hint="Which of the three does not look at the teacher?",
    steps=[
        "Two terms measure a distance from the teacher: 0 for its copy.",
        "The third measures the distance from the text.",
        "It is zero for a model that names every hidden word.",
    ],
)

question(
    "5",
    "One batch: 32 sentences of 32 tokens, vocabulary 30,522, width 384, about 4 tokens a sentence chosen. Why gather "
    "the chosen hidden states before the output layer instead of after it?",
    A=("The result would be wrong otherwise.", "It would be the same; only more would be computed and thrown away."),
    B=(
        "Otherwise 8 times as many logits are computed as are used, by a layer as dear as several of the encoder.",
        "128 of 1,024 positions are needed. The output layer multiplies by 30,522 x 384 numbers at each.",
        True,
    ),
    C=("Otherwise padding would be masked.", "Padding is never chosen, whatever the order of the two."),
    D=("A gradient cannot flow through an index.", "It can: the gradient of what was not taken is zero."),
    hint="Count the positions, then the multiplications of the output layer at one of them.",
    steps=[
        "32 x 32 = 1,024 positions, 32 x 4 = 128 of them chosen: an eighth.",
        "384 x 30,522 = 11.7 million products a position; one encoder layer has about 1.8 million weights.",
        "So the output layer costs as much as six layers at each position where it is computed.",
    ],
)

question(
    "6",
    "An encoder of 22 million parameters has 12 million of them in its embeddings and 1.8 million in each of its 6 "
    "layers. Half of the layers are taken away. How much smaller is it?",
    A=("50 %", "The layers are half as many, but the embeddings stay."),
    B=("25 %", "3 x 1.8 = 5.4 of 22 million is a quarter.", True),
    C=("75 %", "That is what is left, about."),
    D=("40 %", "That is the published figure for a wider encoder, in which the embeddings weigh less."),
    hint="How many parameters go away, and out of how many?",
    steps=[
        "Three layers: 3 x 1.8 = 5.4 million.",
        "5.4 / 22 = 0.25.",
        "The time falls by about half all the same: looking up embeddings costs next to nothing.",
    ],
)

question(
    "7",
    "Two students of three layers are fine-tuned in equal steps on the same labels. One went through general "
    "distillation first, the other did not. What must you say when you report that the first is better?",
    A=(
        "That it took more training in all: the general steps come on top, though they use no label.",
        "Equal steps on the task, but more steps in all. A control with equally many general steps and no teacher "
        "tells the teacher's share from that of the text.",
        True,
    ),
    B=(
        "Nothing: the steps on the labels are equal.",
        "They are, but the general steps are work that the other student did not get.",
    ),
    C=("That it has more parameters.", "Both have three layers and one shape."),
    D=("That it saw the test documents.", "General distillation uses the text of the training documents alone."),
    hint="Add up all the steps of both.",
    steps=[
        "On the task: equal.",
        "Before it: some hundred steps on plain text against none.",
        "So part of the gain may come from the text alone. Training on it without a teacher measures that.",
    ],
)
