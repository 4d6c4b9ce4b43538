"""Lesson 03, soft labels: its exercises and its questions."""

import torch
import torch.nn.functional as F

from lessons_lib.distillation import losses
from quizzes import case, exercise, question

NAN, INF = float("nan"), float("inf")

ROUNDING = (
    "log p and log q are each rounded three times (division, log-sum-exp, subtraction), in the answer and in the "
    "reference: 12 half steps of FP32. Logarithms stay below 16 at T = 1, 8 at T = 2 or 3, 4 at T = 4, where a half "
    "step is 4.8e-7, 2.4e-7 and 1.2e-7. Times T² that is 3e-5 at most; p, rounded in the last place, adds less than as "
    "much again. Large logits round by 6e-8 of themselves."
)


@exercise(points=1, minutes=4, hint="Divide first, then the softmax. Which axis holds the classes?")
def soften(logits: torch.Tensor, T: float) -> torch.Tensor:
    """Soft labels: the softmax of logits / T over the last axis.

    logits: FP32 tensor (..., classes), of any number of axes and any size of entries: 200 is a legal logit.
    T: the temperature, above zero.
    Returns an FP32 tensor of the same shape; every row over the last axis sums to 1.

    >>> soften(torch.tensor([2.0, 0.0, -2.0]), 2.0)
    tensor([0.6652, 0.2447, 0.0900])
    """
    return losses.soften(logits, T)


@soften.cases
def _(draw):
    yield case("the printed example", torch.tensor([2.0, 0.0, -2.0]), 2.0, visible=True)
    yield case("a batch: one label a row", torch.tensor([[3.0, 1.0], [0.0, 4.0], [1.0, 1.0]]), 4.0, visible=True)
    yield case("a batch: one label a row", draw.normal((7, 5), std=3), draw.number(0.5, 8))
    yield case("one label a token", draw.normal((2, 3, 11), std=3), draw.number(1.5, 8))
    yield case("not contiguous", draw.strided((6, 5)), 3.0)
    yield case("large logits", torch.tensor([200.0, 199.0, 190.0, -200.0]), 1.0)
    yield case("large logits", draw.tensor((4, 5), 120, 200), 1.5)


soften.close(
    rtol=5e-5,
    atol=1e-7,
    reason="|logits / T| stays at or below 200, where half a step of FP32 is 7.6e-6. The division and a log-sum-exp "
    "each round once, in the answer and in the reference: 4 x 7.6e-6 in the exponent is 3e-5 of the probability.",
)


@soften.mistake("You multiplied by T. A higher temperature must flatten the labels, so the logits are divided by it.")
def _(logits, T):
    return torch.softmax(logits * T, dim=-1)


@soften.mistake("You took the softmax over the first axis: columns sum to 1. Classes stand on the last axis, dim=-1.")
def _(logits, T):
    return torch.softmax(logits / T, dim=0)


@soften.mistake("T is not used: this is the softmax at T = 1.")
def _(logits, T):
    return torch.softmax(logits, dim=-1)


@soften.mistake("You divided the probabilities by T: a row then sums to 1 / T. Divide the logits, before the softmax.")
def _(logits, T):
    return torch.softmax(logits, dim=-1) / T


@soften.mistake(
    "exp(200) is infinite in FP32 and inf / inf is NaN. Subtract the largest logit of each row first, which changes "
    "nothing in exact arithmetic, or use torch.softmax, which does so."
)
def _(logits, T):
    powers = torch.exp(logits / T)
    return powers / powers.sum(-1, keepdim=True)


@soften.alternative
def _(logits, T):
    scaled = logits / T
    return (scaled - torch.logsumexp(scaled, dim=-1, keepdim=True)).exp()


@exercise(
    points=3,
    minutes=8,
    hint="Take log_softmax of both, the teacher's of teacher_logits.detach(). The sum of p (log p - log q) over the "
    "classes is one number a row. What is left is a mean and a factor.",
)
def soft_loss(student_logits: torch.Tensor, teacher_logits: torch.Tensor, T: float) -> torch.Tensor:
    """How far the student's soft labels are from the teacher's: T² · KL(teacher ‖ student), mean over the batch.

    student_logits, teacher_logits: FP32 tensors (batch, classes), with entries up to 200. T: above zero.
    p = softmax(teacher_logits / T), q = softmax(student_logits / T), KL(p ‖ q) = sum over classes of p (log p - log q),
    in nats. The mean is over the rows of the batch, not over the entries. No gradient reaches the teacher.
    Returns an FP32 tensor without axes.

    >>> soft_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]]), 2.0)
    tensor(1.3113)
    """
    return losses.soft_loss(student_logits, teacher_logits, T)


@soft_loss.cases
def _(draw):
    yield case("the printed example", torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]]), 2.0, visible=True)
    two = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    yield case("a batch", *two, 4.0, visible=True)
    yield case("a batch", draw.normal((6, 5), std=2), draw.normal((6, 5), std=2), draw.number(1.5, 4))
    yield case("a batch", draw.normal((3, 17), std=2), draw.normal((3, 17), std=2), 1.0)
    teacher = draw.normal((5, 5), std=3)
    yield case("a perfect student, and one nearly so", teacher.clone(), teacher, 3.0)
    yield case("a perfect student, and one nearly so", teacher + draw.normal((5, 5), std=0.3), teacher, 3.0)
    large = torch.tensor([[0.0, 200.0], [3.0, 0.0]]), torch.tensor([[200.0, 0.0], [150.0, 0.0]])
    yield case("large logits", *large, 1.0)
    yield case("not contiguous", draw.strided((6, 5)), draw.strided((6, 5)), 2.0)
    leaves = [draw.normal((4, 5), std=2).requires_grad_() for _ in range(2)]
    yield case("gradients: the student's, none for the teacher", *leaves, 3.0, observe="gradients")


soft_loss.close(
    rtol=1e-6,
    atol=5e-5,
    reason=ROUNDING,
)


@soft_loss.mistake(
    "This is KL(student ‖ teacher). The teacher's probabilities weigh the sum; F.kl_div takes the student's logarithms "
    "first and the teacher second."
)
def _(student_logits, teacher_logits, T):
    log_q = F.log_softmax(student_logits / T, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach() / T, dim=-1)
    return T**2 * (log_q.exp() * (log_q - log_p)).sum(-1).mean()


@soft_loss.mistake("The factor T² is missing: the gradient then fades as the temperature rises.")
def _(student_logits, teacher_logits, T):
    return losses.soft_loss(student_logits, teacher_logits, T) / T**2


@soft_loss.mistake("You multiplied by T instead of T². Both the division by T and the flatter labels cost a factor T.")
def _(student_logits, teacher_logits, T):
    return losses.soft_loss(student_logits, teacher_logits, T) / T


@soft_loss.mistake(
    'You averaged over the entries, as reduction="mean" does: the loss is too small by the number of classes. Sum over '
    "the classes, then average over the rows."
)
def _(student_logits, teacher_logits, T):
    return losses.soft_loss(student_logits, teacher_logits, T) / student_logits.shape[-1]


@soft_loss.mistake("You summed over the batch. A loss that grows with the batch changes the learning rate's meaning.")
def _(student_logits, teacher_logits, T):
    return losses.soft_loss(student_logits, teacher_logits, T) * len(student_logits)


@soft_loss.mistake("Only the teacher is softened here. Divide both by T, or a perfect student has a loss above zero.")
def _(student_logits, teacher_logits, T):
    log_q = F.log_softmax(student_logits, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach() / T, dim=-1)
    return T**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()


@soft_loss.mistake(
    "This is the cross-entropy against the soft labels: for a perfect student it gives their entropy, not zero. "
    "Subtract log p."
)
def _(student_logits, teacher_logits, T):
    return losses.soft_cross_entropy(student_logits, teacher_logits, T)


@soft_loss.mistake(
    "The logarithm of a softmax: a probability that underflows to 0 gives log 0 = -inf. Use F.log_softmax, which never "
    "leaves the logarithms."
)
def _(student_logits, teacher_logits, T):
    q, p = torch.softmax(student_logits / T, dim=-1), torch.softmax(teacher_logits.detach() / T, dim=-1)
    return T**2 * (p * (p.log() - q.log())).sum(-1).mean()


@soft_loss.mistake("A gradient reaches the teacher: both would move towards each other. Use teacher_logits.detach().")
def _(student_logits, teacher_logits, T):
    log_q, log_p = F.log_softmax(student_logits / T, dim=-1), F.log_softmax(teacher_logits / T, dim=-1)
    return T**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


@soft_loss.alternative
def _(student_logits, teacher_logits, T):
    log_q = F.log_softmax(student_logits / T, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach() / T, dim=-1)
    # "batchmean" divides by the rows: right here, where a row is one example.
    return T**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


@exercise(
    points=2,
    minutes=5,
    hint="Two terms. Which of them sees the temperature? With alpha = 1 the labels must not matter at all.",
)
def distillation_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor, alpha: float, T: float
) -> torch.Tensor:
    """alpha · soft term + (1 - alpha) · hard term: alpha weighs the soft one.

    soft term: T² · KL(teacher ‖ student), both softened by T, mean over the batch, as in soft_loss; no gradient
    reaches the teacher. hard term: cross-entropy of the student's logits, at T = 1, with the labels; mean over the
    batch.
    student_logits, teacher_logits: FP32 tensors (batch, classes), with entries up to 200. labels: int64 (batch,).
    alpha: 0 ... 1. T: above zero. Returns an FP32 tensor without axes.

    >>> zeros, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    >>> distillation_loss(zeros, teacher, torch.tensor([1]), 0.75, 2.0)       # 0.75 · 1.3113 + 0.25 · log 2
    tensor(1.1567)
    """
    return losses.distillation_loss(student_logits, teacher_logits, labels, alpha, T)


@distillation_loss.cases
def _(draw):
    example = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]]), torch.tensor([1])
    yield case("the printed example", *example, 0.75, 2.0, visible=True)

    def batch(rows=6, classes=5):
        student, teacher = draw.normal((rows, classes), std=2), draw.normal((rows, classes), std=2)
        return student, teacher, draw.integers((rows,), 0, classes)

    yield case("alpha 0: labels alone", *batch(), 0.0, 4.0)
    yield case("alpha 1: teacher alone", *batch(), 1.0, 4.0)
    yield case("both", *batch(), draw.number(0.6, 0.9), draw.number(1.5, 4))
    yield case("both", *batch(3, 11), draw.number(0.1, 0.4), draw.number(1.5, 4))
    large = torch.tensor([[200.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 200.0], [1.0, 0.0]]), torch.tensor([1, 0])
    yield case("large logits", *large, 0.5, 1.0)
    student, teacher, labels = batch(4)
    yield case("gradients", student.requires_grad_(), teacher.requires_grad_(), labels, 0.7, 3.0, observe="gradients")


distillation_loss.close(
    rtol=1e-6,
    atol=5e-5,
    reason=ROUNDING + " The cross-entropy rounds by less, and the two weights sum to 1.",
)


@distillation_loss.mistake("alpha weighs the hard term here. It should be alpha · soft + (1 - alpha) · hard.")
def _(student_logits, teacher_logits, labels, alpha, T):
    return losses.distillation_loss(student_logits, teacher_logits, labels, 1 - alpha, T)


@distillation_loss.mistake("The soft term lacks T²: at T = 4 its gradient weighs a sixteenth of what alpha promises.")
def _(student_logits, teacher_logits, labels, alpha, T):
    soft = losses.soft_loss(student_logits, teacher_logits, T) / T**2
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


@distillation_loss.mistake("You scaled both terms by T². The hard term is not softened, so it needs no factor.")
def _(student_logits, teacher_logits, labels, alpha, T):
    soft = losses.soft_loss(student_logits, teacher_logits, T)
    return alpha * soft + (1 - alpha) * T**2 * F.cross_entropy(student_logits, labels)


@distillation_loss.mistake(
    "The hard term is softened too. Labels are compared with the student at T = 1, as it will be used."
)
def _(student_logits, teacher_logits, labels, alpha, T):
    soft = losses.soft_loss(student_logits, teacher_logits, T)
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits / T, labels)


@distillation_loss.mistake(
    "F.cross_entropy applies the softmax itself: give it logits. Here they went through two softmaxes."
)
def _(student_logits, teacher_logits, labels, alpha, T):
    soft = losses.soft_loss(student_logits, teacher_logits, T)
    return alpha * soft + (1 - alpha) * F.cross_entropy(torch.softmax(student_logits, dim=-1), labels)


@distillation_loss.mistake("This is alpha · soft + hard. Weigh the hard term by 1 - alpha: the weights then sum to 1.")
def _(student_logits, teacher_logits, labels, alpha, T):
    return alpha * losses.soft_loss(student_logits, teacher_logits, T) + F.cross_entropy(student_logits, labels)


@distillation_loss.alternative
def _(student_logits, teacher_logits, labels, alpha, T):
    log_q = torch.log_softmax(student_logits / T, dim=-1)
    log_p = torch.log_softmax(teacher_logits.detach() / T, dim=-1)
    soft = T**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    picked = torch.log_softmax(student_logits, dim=-1).gather(1, labels[:, None])
    return alpha * soft - (1 - alpha) * picked.mean()


@exercise(
    points=3,
    minutes=10,
    hint="student_logits[mask.bool()] has one row for each real token. What do you know that takes rows?",
)
def token_distillation_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, mask: torch.Tensor, T: float
) -> torch.Tensor:
    """T² · KL(teacher ‖ student) at every real token: the mean over all real tokens of the batch.

    student_logits, teacher_logits: FP32 tensors (batch, length, vocabulary). mask: int64 or bool (batch, length), 1 for
    a real token and 0 for padding. Every real token weighs the same, in a long sentence or a short one. Padding must
    not matter whatever stands there, NaN included. A row of padding alone adds nothing; a batch of padding alone gives
    0. No gradient reaches the teacher, nor any padding. Returns an FP32 tensor without axes.

    >>> student, teacher = torch.zeros(1, 3, 2), torch.tensor([[[4.0, 0.0], [0.0, 0.0], [9.0, 0.0]]])
    >>> token_distillation_loss(student, teacher, torch.tensor([[1, 1, 0]]), 2.0)      # (1.3113 + 0) / 2
    tensor(0.6556)
    """
    return losses.token_distillation_loss(student_logits, teacher_logits, mask, T)


@token_distillation_loss.cases
def _(draw):
    example = torch.zeros(1, 3, 2), torch.tensor([[[4.0, 0.0], [0.0, 0.0], [9.0, 0.0]]]), torch.tensor([[1, 1, 0]])
    yield case("the printed example", *example, 2.0, visible=True)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])

    def pair(rows=3):
        return draw.normal((rows, 4, 7), std=2), draw.normal((rows, 4, 7), std=2)

    yield case("no padding", *pair(), torch.ones(3, 4, dtype=torch.int64), draw.number(1.5, 4))
    yield case("sentences of unequal length", *pair(), mask, draw.number(1.5, 4))
    yield case("sentences of unequal length", *pair(), mask.bool(), 1.0)
    yield case("rows of padding: one, all", *pair(2), torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0]]), 2.0)
    yield case("rows of padding: one, all", *pair(2), torch.zeros(2, 4, dtype=torch.int64), 2.0)
    spoiled = [logits.masked_fill(mask[..., None] == 0, junk) for logits, junk in zip(pair(), (INF, NAN), strict=True)]
    yield case("infinity and NaN in the padding", *spoiled, mask, 2.0)
    leaves = [logits.requires_grad_() for logits in pair()]
    yield case("gradients: none for teacher and padding", *leaves, mask, 2.0, observe="gradients")


token_distillation_loss.close(
    rtol=1e-6,
    atol=5e-5,
    reason=ROUNDING + " A mean over tokens adds nothing to that.",
)


def _each_token(student_logits, teacher_logits, T):
    log_q = F.log_softmax(student_logits / T, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach() / T, dim=-1)
    return T**2 * (log_p.exp() * (log_p - log_q)).sum(-1)


def _real_only(student_logits, teacher_logits, mask, T):
    """Divergence of each token (batch, length); padding is made zero before any arithmetic, so NaN cannot spread."""
    padding = mask.bool().logical_not()[..., None]
    return _each_token(student_logits.masked_fill(padding, 0), teacher_logits.masked_fill(padding, 0), T)


@token_distillation_loss.mistake(
    "The sum is divided by the number of sentences, as `batchmean` does: the loss grows with the length. Divide by the "
    "number of real tokens."
)
def _(student_logits, teacher_logits, mask, T):
    return _real_only(student_logits, teacher_logits, mask, T).sum() / len(mask)


@token_distillation_loss.mistake(
    "Padding counts as if it were text. Leave it out of the sum and out of the number of tokens."
)
def _(student_logits, teacher_logits, mask, T):
    return _each_token(student_logits, teacher_logits, T).mean()


@token_distillation_loss.mistake(
    "Padding adds nothing to the sum, but you divide by all positions, padding included: the more padding, the smaller "
    "the loss."
)
def _(student_logits, teacher_logits, mask, T):
    return _real_only(student_logits, teacher_logits, mask, T).mean()


@token_distillation_loss.mistake(
    "You averaged within each sentence first, so a token of a short sentence weighs more. Take one mean over all real "
    "tokens."
)
def _(student_logits, teacher_logits, mask, T):
    sums = _real_only(student_logits, teacher_logits, mask, T).sum(-1)
    return (sums / mask.sum(-1).clamp_min(1)).mean()


@token_distillation_loss.mistake(
    "You multiplied padding by zero. 0 · NaN is NaN: select the real tokens, student_logits[mask.bool()], before any "
    "arithmetic."
)
def _(student_logits, teacher_logits, mask, T):
    return (_each_token(student_logits, teacher_logits, T) * mask).sum() / mask.sum().clamp_min(1)


@token_distillation_loss.mistake("A batch without real tokens divides 0 by 0, which is NaN. It must give 0.")
def _(student_logits, teacher_logits, mask, T):
    return _real_only(student_logits, teacher_logits, mask, T).sum() / mask.sum()


@token_distillation_loss.mistake("The factor T² is missing.")
def _(student_logits, teacher_logits, mask, T):
    return losses.token_distillation_loss(student_logits, teacher_logits, mask, T) / T**2


@token_distillation_loss.alternative
def _(student_logits, teacher_logits, mask, T):
    padding = mask.unsqueeze(-1) == 0
    log_q = F.log_softmax(student_logits.masked_fill(padding, 0) / T, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach().masked_fill(padding, 0) / T, dim=-1)
    # Both are uniform at padding now, so it adds zero to the sum.
    total = F.kl_div(log_q, log_p, log_target=True, reduction="sum")
    return T**2 * total / mask.sum().clamp_min(1)


question(
    "1",
    "The teacher's logits for business and politics are 4 apart. At T = 2, how many times as probable is business?",
    A=("About 55 times", "That is exp(4), the ratio at T = 1. Dividing the logits by 2 halves their distance."),
    B=("About 27 times", "That halves the ratio exp(4). The temperature divides the logits, not the probabilities."),
    C=("About 7 times", "The logits are 4 / 2 = 2 apart, and exp(2) is 7.4.", True),
    D=("About 3,000 times", "That is exp(8): the logits multiplied by 2. A temperature above 1 flattens."),
    hint="A ratio of two softmax probabilities is the exponential of the distance of their logits.",
    steps=["Dividing by T = 2 leaves a distance of 4 / 2 = 2.", "The ratio is exp(2), about 7.4."],
)

question(
    "2",
    "A student gives exactly its teacher's logits. What are the KL divergence and the cross-entropy against the soft "
    "labels?",
    A=("Both are 0", "True of the divergence. The cross-entropy still pays for the teacher's own uncertainty."),
    B=(
        "The divergence is 0, the cross-entropy is the entropy of the soft labels",
        "Cross-entropy is entropy plus divergence; a perfect student removes the divergence alone.",
        True,
    ),
    C=("Both are the entropy of the soft labels", "The divergence subtracts that entropy; log p - log q is 0."),
    D=(
        "The divergence is 0, the cross-entropy is log(classes)",
        "log(classes) is the entropy of a uniform label, the highest there is. The teacher is seldom that unsure.",
    ),
    hint="Write - sum p log q as - sum p log p plus something.",
    steps=[
        "- sum p log q = - sum p log p + sum p (log p - log q).",
        "With q = p the last sum is 0.",
        "What remains, - sum p log p, is the entropy of the soft labels.",
    ],
)

question(
    "3",
    "A training mixes both terms with alpha = 0.5 at T = 4, and somebody deletes the factor T². What happens?",
    A=(
        "Nothing: Adam rescales the gradient anyway",
        "Adam rescales the sum of both terms. Their proportion, which is what alpha sets, has changed.",
    ),
    B=(
        "The soft term's gradient becomes 4 times smaller",
        "The factor that went is T squared, 16. T is the part that comes from dividing the logits; the flatter labels "
        "cost the other.",
    ),
    C=("The soft term takes over", "The factor is 16 at T = 4. Without it the term shrinks."),
    D=(
        "The soft term's gradient becomes 16 times smaller, so the labels decide almost everything",
        "1/16 of a soft gradient beside a whole hard one: as if alpha were 1/17.",
        True,
    ),
    hint="The factor T² stands before the loss, and so before its gradient.",
    steps=[
        "Without T² the soft gradient is 1/16 of what it was.",
        "The hard one stays.",
        "0.5/16 to 0.5 is the proportion that alpha = 1/17, about 0.06, would have set.",
    ],
)

question(
    "4",
    "Which call computes KL(teacher ‖ student)? log_p is the teacher's, log_q the student's, both (batch, classes).",
    A=(
        "`F.kl_div(log_p, log_q, log_target=True, reduction='batchmean')`",
        "The first argument is what is trained, the second the target. This is KL(student ‖ teacher).",
    ),
    B=(
        "`F.kl_div(log_q, log_p, reduction='batchmean')`",
        "Without log_target=True the second argument is read as probabilities. torch takes the logarithm of a negative "
        "number and returns NaN, without an error.",
    ),
    C=(
        "`F.kl_div(log_q, log_p, log_target=True, reduction='batchmean')`",
        "Student first, teacher second, both as logarithms, divided by the rows.",
        True,
    ),
    D=(
        "`F.kl_div(log_q, log_p, log_target=True)`",
        "The direction is right, but the default reduction divides by batch · classes; torch warns about it.",
    ),
    hint="kl_div(input, target) sums target · (log target - input).",
    steps=[
        "The weights of the sum must be the teacher's probabilities, so the teacher is the target.",
        "Both are logarithms: log_target=True.",
        "One number a row, averaged: batchmean.",
    ],
)

question(
    "5",
    "Token logits have shape (batch, length, vocabulary). You use `kl_div(..., reduction='batchmean')` and double the "
    "length of the sentences. What does the loss do?",
    A=("It doubles", "Twice as many tokens are summed, and the divisor, the batch, is the same.", True),
    B=("It stays as it was", "A mean over tokens would. batchmean divides by the first axis alone."),
    C=("It halves", "The divisor does not know the length, so nothing shrinks."),
    D=("It grows with the vocabulary", "Each token's divergence sums over the vocabulary, which did not change."),
    hint="By what is the sum divided?",
    steps=[
        "batchmean = sum over everything / batch.",
        "Twice the tokens, twice the sum, the same divisor.",
        "The same sentences padded to that length would add their padding too.",
    ],
)

question(
    "6",
    "At T = 1000 two teachers teach. The second's logits are the first's plus 3 in every class. How do the students "
    "that match them perfectly differ?",
    A=(
        "Their logits differ by 3 in every class",
        "They may, but no loss here would notice: see what the softmax does with a constant.",
    ),
    B=("The second is more certain", "Certainty comes from differences between classes; those are the same."),
    C=("The first learns faster", "Both give the same soft labels, hence the same gradients."),
    D=(
        "Not in any way that a prediction shows",
        "A softmax ignores a constant added to a row; at a high temperature "
        "the loss compares logits after their mean is taken off.",
        True,
    ),
    hint="What does softmax(z + 3) equal?",
    steps=[
        "softmax(z + c) = softmax(z): the factor exp(c) cancels.",
        "The limit of T² · KL is the mean squared distance of centred logits, over 2 · classes.",
        "Centring removes the 3.",
    ],
)

question(
    "7",
    "The loss is T² times the cross-entropy against soft labels at T = 4, without a hard term. It stops falling at "
    "20.9, and the mean entropy of the soft labels at T = 4 is 1.30. What do you do?",
    A=("Train longer: 20.9 is far from zero", "Zero cannot be reached. The floor is 16 · 1.30 = 20.8."),
    B=("Raise the learning rate", "A higher rate does not lower the floor, and the student is almost on it."),
    C=(
        "Stop: the student is nearly its teacher",
        "The floor is 16 · 1.30 = 20.8, so only 0.1 is left, a divergence of 0.006 nats.",
        True,
    ),
    D=("Lower T until the loss is near zero", "A lower T lowers the floor and the loss alike."),
    hint="How low can a cross-entropy go?",
    steps=[
        "The floor is T² times the entropy: 16 · 1.30 = 20.8.",
        "20.9 - 20.8 = 0.1 is T² · KL.",
        "KL = 0.1 / 16, about 0.006 nats.",
    ],
)
