"""Lesson 04, distil a classifier: its exercises and its questions."""

import torch

from lessons_lib.distillation import losses, students
from quizzes import case, exercise, question
from quizzes.inside import recipes


@exercise(
    points=1,
    minutes=6,
    hint="Divide the teacher into n_student stretches. Which layer stands at the end of stretch i, counted from 0?",
)
def take_layers(n_teacher: int, n_student: int) -> list[int]:
    """Positions of the teacher's layers that a student starts from: evenly spaced, the last one always taken.

    n_teacher, n_student: numbers of layers, 1 <= n_student <= n_teacher. Layers count from 0.
    Student layer i takes teacher layer floor((i + 1) * n_teacher / n_student) - 1, for i = 0 ... n_student - 1.
    Returns a list of n_student ints, ascending.

    >>> take_layers(6, 2), take_layers(7, 3)
    ([2, 5], [1, 3, 6])
    """
    return students.take_layers(n_teacher, n_student)


@take_layers.cases
def _(draw):
    yield case("6 layers to 2", 6, 2, visible=True)
    yield case("6 layers to 2", 12, 6)
    yield case("depths that do not divide", 7, 3, visible=True)
    yield case("depths that do not divide", 12, 5)
    small = draw.integer(4, 9)
    yield case("depths that do not divide", 2 * small + 1, small)
    yield case("one layer, and all of them", draw.integer(3, 24), 1)
    deep = draw.integer(5, 24)
    yield case("one layer, and all of them", deep, deep)
    yield case("deep teachers", 10 * draw.integer(15, 60) + 7, 10)


take_layers.exact("the answer is a list of whole numbers")


@take_layers.mistake(
    "These are the first layers of the teacher. Its later layers hold what its head reads; space them evenly."
)
def _(n_teacher, n_student):
    return list(range(n_student))


@take_layers.mistake(
    "Each stretch gives its first layer here, so the teacher's last layer is never taken. Take the last of each."
)
def _(n_teacher, n_student):
    return [i * n_teacher // n_student for i in range(n_student)]


@take_layers.mistake("These positions count from 1. The last layer of a teacher of 6 is number 5.")
def _(n_teacher, n_student):
    return [(i + 1) * n_teacher // n_student for i in range(n_student)]


@take_layers.mistake(
    "A fixed step of n_teacher // n_student loses the remainder: 7 layers to 3 would end at layer 5. Multiply before "
    "you divide: (i + 1) * n_teacher // n_student - 1."
)
def _(n_teacher, n_student):
    return [(i + 1) * (n_teacher // n_student) - 1 for i in range(n_student)]


@take_layers.mistake("You rounded to the nearest layer. The rule rounds down: 7 * 2 / 3 = 4.67 gives 4, less one is 3.")
def _(n_teacher, n_student):
    return [int((i + 1) * n_teacher / n_student + 0.5) - 1 for i in range(n_student)]


@take_layers.alternative
def _(n_teacher, n_student):
    # The last layer k of which k + 1 layers are no larger a share of the teacher than i + 1 layers of the student.
    fits = [[k for k in range(n_teacher) if (k + 1) * n_student <= (i + 1) * n_teacher] for i in range(n_student)]
    return [layers[-1] for layers in fits]


@exercise(
    points=3,
    minutes=12,
    hint="Four things around one loop: remember the mode, model.eval(), torch.no_grad(), put the mode back. Then one "
    "torch.cat over the batches, because they differ in size.",
)
def transfer_logits(model: torch.nn.Module, batches) -> torch.Tensor:
    """The teacher's logits for all sentences of the batches, in their order, to be kept for training.

    model: model(input_ids, attention_mask) returns FP32 logits (batch, classes). It may come in training mode, where
    dropout makes every answer different: ask it in eval mode, and leave it in the mode in which it came.
    batches: an iterator of dicts with input_ids and attention_mask, int64 (batch, length); batch and length differ from
    one to the next. Like a data loader's it can be walked once. There is at least one batch.
    Returns FP32 (sentences, classes), batch after batch, not softened, and detached: it carries no graph.

    >>> transfer_logits(model, iter([{"input_ids": ids, "attention_mask": mask}])).shape    # ids: (3, 7), five classes
    torch.Size([3, 5])
    """
    return students.transfer_logits(model, batches)


def _batches(draw, sizes, vocab=50):
    """Right-padded batches; some rows are full, some hold a single token."""
    made = []
    for rows, length in sizes:
        real = draw.integers((rows,), 1, length + 1)
        real[0] = length
        mask = (torch.arange(length) < real[:, None]).long()
        made.append({"input_ids": draw.integers((rows, length), 0, vocab) * mask, "attention_mask": mask})
    return recipes.stream(made)


@transfer_logits.cases
def _(draw):
    # Dropout of 1 drops everything, every time: forgetting eval mode then gives the same wrong answer on both sides.
    def teacher(**sizes):
        return recipes.tiny_encoder(draw.integer(0, 10**6), dropout=1.0, **sizes)

    small = {"layers": 1, "width": 8, "vocab": 9, "topics": 3}
    yield case("the logits", teacher(**small), _batches(draw, [(2, 3), (1, 2)], vocab=9), visible=True)
    yield case("the logits", teacher(), _batches(draw, [(5, 9)]))
    yield case("batches of unequal size, in order", teacher(), _batches(draw, [(4, 3), (1, 11), (6, 7), (2, 5)]))
    yield case(
        "nothing is left behind",
        teacher(**small),
        _batches(draw, [(3, 4), (2, 6)], vocab=9),
        observe="traces",
        visible=True,
    )
    yield case("nothing is left behind", teacher(), _batches(draw, [(2, 5), (3, 2)]), observe="traces")


transfer_logits.close(
    atol=2e-5,
    rtol=2e-5,
    reason="The same FP32 sums in another order: torch takes fused kernels without a graph and separate ones with it. "
    "About 20 operations follow one another on values below 4, where half a step is 2.4e-7, in sums of up to 32 terms: "
    "20 x 2.4e-7 x sqrt(32) = 2.7e-5 if all errors point one way. Forgotten dropout moves logits by 1e-2 and more.",
)


@transfer_logits.mistake(
    "The model was asked in training mode: dropout is on, and the kept logits are those of a damaged teacher. Call "
    "model.eval() first."
)
def _(model, batches):
    with torch.no_grad():
        return torch.cat([model(**batch) for batch in batches])


@transfer_logits.mistake(
    "The logits carry a graph, and with it the activations of every sentence: memory grows with the transfer set. Ask "
    "under torch.no_grad()."
)
def _(model, batches):
    was_training = model.training
    model.eval()
    logits = torch.cat([model(**batch) for batch in batches])
    model.train(was_training)
    return logits


@transfer_logits.mistake(
    "The values are right, but the model stays in eval mode. Whoever goes on training it would do so without dropout. "
    "Put the mode back."
)
def _(model, batches):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(**batch) for batch in batches])


@transfer_logits.mistake(
    "These are probabilities. Keep the logits: the temperature is chosen later, and a softmax cannot be undone exactly."
)
def _(model, batches):
    return torch.softmax(students.transfer_logits(model, batches), dim=-1)


@transfer_logits.mistake("These are hard labels. What the teacher knows about other topics is lost with the argmax.")
def _(model, batches):
    return students.transfer_logits(model, batches).argmax(dim=-1)


@transfer_logits.mistake(
    "Batches were sorted by length, and the logits were not put back in order: they stand beside other sentences."
)
def _(model, batches):
    return students.transfer_logits(model, sorted(batches, key=lambda batch: batch["input_ids"].shape[1]))


@transfer_logits.mistake("The attention mask is not used: padding takes part in the attention and in the mean.")
def _(model, batches):
    every = [batch | {"attention_mask": torch.ones_like(batch["attention_mask"])} for batch in batches]
    return students.transfer_logits(model, every)


@transfer_logits.alternative
def _(model, batches):
    was_training = model.training
    logits = torch.empty(0)
    for batch in batches:
        answer = model.eval()(batch["input_ids"], batch["attention_mask"]).detach()
        logits = torch.cat([logits, answer]) if len(logits) else answer
    model.train(was_training)
    return logits


@exercise(
    points=1,
    minutes=5,
    hint="Somebody who guesses has learned nothing, so guessing is the zero of the scale. Where is its one?",
)
def retention(student_score: float, teacher_score: float, chance: float) -> float:
    """Share of what the teacher knows that the student kept, counted from guessing.

    student_score, teacher_score, chance: scores on one scale, such as accuracies; chance is what guessing scores, and
    the teacher is always above it. A student that guesses keeps 0, one as good as the teacher keeps 1; a student below
    chance keeps less than 0, one above its teacher more than 1: nothing is cut off.
    Returns a float.

    >>> retention(0.8, 0.9, 0.2)       # 0.6 of 0.7
    0.8571428571428572
    """
    return losses.retention(student_score, teacher_score, chance)


@retention.cases
def _(draw):
    yield case("the printed example", 0.8, 0.9, 0.2, visible=True)
    yield case("five topics", draw.number(0.3, 0.6), draw.number(0.7, 0.95), 0.2)
    yield case("other scales of chance", draw.number(0.6, 0.7), draw.number(0.8, 0.95), draw.number(0.3, 0.5))
    yield case("other scales of chance", draw.number(30.0, 60.0), draw.number(70.0, 95.0), 20.0)
    yield case("below chance, above the teacher", draw.number(0.02, 0.1), draw.number(0.7, 0.9), 0.2)
    yield case("below chance, above the teacher", draw.number(0.91, 0.97), draw.number(0.7, 0.9), 0.2)


retention.close(
    rtol=1e-12,
    atol=1e-14,
    reason="Float64: two subtractions and a division, each right to 1.1e-16 of its result. The teacher stands at least "
    "0.1 above chance, so the subtraction loses one digit; a thousand times that is allowed.",
)


@retention.mistake("Student divided by teacher: a student that guesses among five topics would seem to keep a fifth.")
def _(student_score, teacher_score, chance):
    return student_score / teacher_score


@retention.mistake("You divided by the room above chance, 1 - chance. The teacher is the measure here, not perfection.")
def _(student_score, teacher_score, chance):
    return (student_score - chance) / (1 - chance)


@retention.mistake(
    "This is the loss in points, turned round. Ask for a share: divide by what the teacher has above chance."
)
def _(student_score, teacher_score, chance):
    return 1 - (teacher_score - student_score)


@retention.mistake(
    "The share is cut to 0 ... 1. A student below chance or above its teacher is news, and should be seen."
)
def _(student_score, teacher_score, chance):
    return min(1.0, max(0.0, (student_score - chance) / (teacher_score - chance)))


@retention.alternative
def _(student_score, teacher_score, chance):
    return 1 - (teacher_score - student_score) / (teacher_score - chance)


question(
    "1",
    "What is a transfer set?",
    A=(
        "The labelled sentences that the teacher was trained on.",
        "It may contain them, but it need not: nothing about it asks for labels.",
    ),
    B=(
        "The weights that the student copies from its teacher.",
        "Those are its initialisation. A student from scratch copies none, and still needs a transfer set.",
    ),
    C=(
        "The sentences on which the student imitates its teacher; they need no labels.",
        "The teacher supplies an answer for any text, so plain text of the right kind will do.",
        True,
    ),
    D=(
        "The held-out sentences on which teacher and student are compared.",
        "That is the test set. A student that trained on it could not be judged by it.",
    ),
    hint="Who answers the questions while the student learns?",
    steps=[
        "The soft term compares the student's logits with the teacher's.",
        "Both are computed from the text alone; no label enters.",
        "So the transfer set is any text of the kind that the student will meet.",
    ],
)

question(
    "2",
    "In alpha · soft + (1 - alpha) · hard you set alpha = 0 and leave the teacher in place. What changes when the "
    "teacher is replaced by a better one?",
    A=("The student gets better, a little.", "The soft term is multiplied by zero, and so is its gradient."),
    B=(
        "Nothing at all: the weights come out the same to the bit.",
        "The teacher's logits enter through a term that weighs nothing. That makes alpha = 0 the control.",
        True,
    ),
    C=("The loss becomes infinite.", "It is the plain cross-entropy with the labels, which is finite."),
    D=(
        "Training takes as long, but the student needs fewer labels.",
        "Fewer labels are what the soft term would buy, and it is switched off.",
    ),
    hint="Which gradient is left when one of the two terms is multiplied by zero?",
    steps=[
        "The loss is 0 · soft + 1 · hard = hard.",
        "Its gradient does not contain the teacher's logits.",
        "So every step, and the final student, are the same whatever the teacher says.",
    ],
)

question(
    "3",
    "100 sentences are labelled, thousands are not. Student A learns from the labels; student B, of the same shape and "
    "start, for equally many steps, from a good teacher's logits on all sentences. Why may B win?",
    A=("B takes more steps.", "Both take equally many; a comparison at unequal steps would show nothing."),
    B=("B has more parameters.", "They have the same shape. Distillation changes what is learned, not the size."),
    C=("B sees the test sentences.", "The transfer set comes from other documents than the test set."),
    D=(
        "B gets an answer, and a graded one, for thousands of sentences where A has 100 hard ones.",
        "More texts and more information on each: that is what the teacher adds.",
        True,
    ),
    hint="Count the sentences on which each student is told something.",
    steps=[
        "A sees 400 texts again and again and is told one topic for each.",
        "B sees each of thousands of texts with five graded numbers.",
        "Steps, batch size, start and shape are the same, so this is all that differs.",
    ],
)

question(
    "4",
    "Now all sentences carry correct labels, and the student starts from pretrained layers. What should you expect of "
    "the soft labels?",
    A=(
        "Perhaps nothing: measure it, with an interval. The labels already answer every sentence.",
        "What the teacher added was mostly answers where there were none.",
        True,
    ),
    B=(
        "The same gain as with few labels, because the teacher is the same.",
        "The gain depends on what the student lacks, and it no longer lacks answers.",
    ),
    C=(
        "A loss, always: the teacher makes mistakes, and the labels do not.",
        "Soft labels can still help a little or do nothing. The direction is a matter for measurement.",
    ),
    D=(
        "A gain as large as the teacher's lead over the student.",
        "Part of that lead is depth that the student does not have.",
    ),
    hint="What did the teacher supply in the first place?",
    steps=[
        "With few labels the teacher answers thousands of sentences that nobody labelled.",
        "With all labels there is nothing left to answer; only the grading of the answers is new.",
        "Whether that is worth anything is a small difference, so it takes seeds and an interval.",
    ],
)

question(
    "5",
    "A teacher scores 90 %, its student 76 %, and there are five equally frequent topics. How much of what the teacher "
    "knows did the student keep?",
    A=("84 %", "That is 76 / 90. By this measure a student that guesses keeps 22 %."),
    B=("86 %", "100 less the 14 points that were lost. Points are not shares."),
    C=("80 %", "(76 - 20) / (90 - 20) = 56 / 70 = 0.8.", True),
    D=("70 %", "(76 - 20) / (100 - 20) = 0.7 measures against perfection, which the teacher does not reach."),
    hint="Guessing is the zero of the scale.",
    steps=[
        "Guessing among five topics scores 20 %.",
        "Above guessing the teacher has 70 points and the student 56.",
        "56 / 70 = 80 %.",
    ],
)

question(
    "6",
    "A colleague compares two students by one training run each: 81.9 % with soft labels, 81.3 % without. What now?",
    A=("Soft labels gain 0.6 points.", "Another seed may turn it round; one run of each shows no spread."),
    B=(
        "Not much: repeat both with several seeds and give the paired difference with an interval.",
        "The documents of the test set and the seeds of the training both move an accuracy by more than half a point.",
        True,
    ),
    C=("Soft labels do nothing.", "That does not follow either. An interval might lie wholly above zero, or not."),
    D=("The test set is too easy.", "At 81 % there is room above. The trouble is the number of runs."),
    hint="By how much would each number move if it were trained again from another seed?",
    steps=[
        "A training run depends on its seed, and the score on the documents that happen to be in the test set.",
        "Both together move an accuracy by a point or so in this lesson.",
        "0.6 points from one run each cannot be told from zero. Paired seeds and documents narrow the interval.",
    ],
)

question(
    "7",
    "Few labels alone are to be compared with few labels and a teacher. The students take their first weights from the "
    "layers of the teacher, which was trained on all labels. What is wrong with that?",
    A=(
        "Nothing: both students start from the same weights.",
        "They do, but the student of few labels alone then starts from what all labels taught.",
    ),
    B=("The layers are too wide for a student.", "Student and teacher have the same width; only the depth differs."),
    C=(
        "Copying layers is not distillation, so the comparison is void.",
        "It is a usual way to start a student, and it is fair where the teacher may be used at all.",
    ),
    D=(
        "The labels that the first student should not have are in the weights that it starts from.",
        "A student that stands for few labels alone must start from weights that have seen no labels.",
        True,
    ),
    hint="What has shaped the teacher's layers?",
    steps=[
        "The teacher's layers were trained with the topics of all training sentences.",
        "A student that copies them inherits part of that, before its first label.",
        "For a fair baseline both students start from the pretrained encoder instead.",
    ],
)
