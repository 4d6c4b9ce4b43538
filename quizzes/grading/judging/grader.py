"""Asks a submission about every exercise and judges what comes back. The reference runs here, never in the sandbox."""

import math
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

from quizzes import lessons
from quizzes.exercises import judging
from quizzes.exercises.exercises import Case, Exercise
from quizzes.exercises.hand_ins import HandIn, MeasuredModel
from quizzes.exercises.judging import Answer, AnswerKey, CheckResult
from quizzes.grading.intake.submission import Statement, Submission, Unreadable
from quizzes.grading.judging.model_judge import Judged, ModelJudge
from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.grading.sandbox.watched_process import EXITED, MALFORMED, MEMORY, TIME, Died
from quizzes.inside import wire
from quizzes.lessons import Lesson

LEFT_OUT = (
    "by running code; the grader takes only imports, functions, classes and literal constants. Make it inside "
    "the function."
)
MAX_FATAL_STATEMENTS = 5
UNPARSED = "cannot be parsed"
# What the worker may say of a call, and the word for it here; anything else it says is malformed.
WORDS = {
    "not attempted": judging.NOT_ATTEMPTED,
    "raised": judging.RAISED,
    "exited": EXITED,
    "out of memory": MEMORY,
}
UNSPOILT = (judging.ANSWERED, judging.NOT_ATTEMPTED)


@dataclass(frozen=True)
class Judgement:
    """The verdict on one exercise or question of a submission."""

    kind: str
    item: str
    points: float
    max_points: float
    status: str
    detail: str = ""
    result: CheckResult | None = None
    seconds: float = 0.0
    measured: MeasuredModel | None = None


class Examination:
    """One submission in one worker, with a new worker whenever an exercise has ended the old one."""

    def __init__(self, submission: Submission, exercises: list[str], sandbox, limits: SandboxLimits):
        self.submission, self.sandbox, self.limits = submission, sandbox, limits
        self.program = submission.program(exercises)
        self.fatal: list[tuple[Statement, Died]] = []
        self.failed: list[tuple[Statement, str]] = []
        self.one_by_one = False
        self.worker, self.fresh = None, True

    def __enter__(self) -> "Examination":
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def _end(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def _ready(self) -> None:
        """A worker that holds the notebook's definitions. One that ends the worker is left out of the next attempt."""
        while self.worker is None:
            if len(self.fatal) > MAX_FATAL_STATEMENTS:
                raise Died(self.fatal[-1][1].status, "the notebook's definitions end the process again and again")
            left_out = [statement for statement, _ in self.fatal]
            wanted = [statement for statement in self.program if not any(statement is item for item in left_out)]
            self.worker, self.fresh = self.sandbox.start(self.limits), True
            self.worker.renew()
            self.failed = []
            # All at once; when that ends the worker, one by one, to learn which of them does.
            for chunk in [[item] for item in wanted] if self.one_by_one else [wanted]:
                try:
                    replies = self.worker.run(*(item.source for item in chunk))
                except Died as death:
                    self.fatal += [(item, death) for item in chunk if self.one_by_one]
                    self.one_by_one = True
                    self._end()
                    break
                for item, reply in zip(chunk, replies, strict=True):
                    if reply["status"] != "done":
                        self.failed.append((item, self._explained(reply)))

    def ask(self, exercise: str, cases: list[bytes]) -> list[Answer]:
        """An answer to every packed case. Raises Died when the exercise ends the worker or takes too long."""
        self._ready()
        answer = self.submission.answer_to(exercise)
        for statement, death in self.fatal:
            if statement is answer:
                raise death
        for statement, why in self.failed:
            if statement is answer:
                return [Answer(status=judging.RAISED, detail=f"while it was defined: {why}")] * len(cases)
        while True:
            self._ready()
            fresh, self.fresh = self.fresh, False
            self.worker.renew()
            try:
                answers = [self._answer(*pair) for pair in self.worker.ask(exercise, *cases)]
            except Died as death:
                self._end()
                if fresh or death.status == TIME:
                    raise
                continue
            spoilt = any(answer.status not in UNSPOILT for answer in answers)
            if not self.worker.is_clean() or spoilt:
                self._end()
            # What an exercise did to the worker is no fault of the next: that one gets a worker of its own.
            if fresh or not spoilt:
                return answers

    def _answer(self, reply: dict, body: bytes) -> Answer:
        if reply["status"] == "answered":
            try:
                return Answer(wire.unpack_values(body))
            except ValueError as error:
                return Answer(status=MALFORMED, detail=str(error)[:200])
        return Answer(status=WORDS.get(reply["status"], MALFORMED), detail=self._explained(reply))

    def _explained(self, reply: dict) -> str:
        """What was raised; and, for a name that the notebook makes by running code, why it is not there."""
        detail = f"{reply.get('error')}: {reply.get('message')}"
        # What is made from such a name is not there either: first = texts[0].
        made_of_it = {name for statement, why in self.failed if why.endswith(LEFT_OUT) for name in statement.binds}
        missing = [name for name in self.submission.left_out | made_of_it if f"name '{name}' is not defined" in detail]
        return f"{detail}. The notebook makes {missing[0]!r} {LEFT_OUT}" if missing else detail


class Grader:
    """Judges submissions with one seed, in one kind of sandbox; topic models on an instructor's texts, if any."""

    def __init__(
        self, seed: int, sandbox, limits: SandboxLimits | None = None, questions_count: bool = True, texts: tuple = ()
    ):
        self.seed, self.sandbox, self.questions_count, self.texts = seed, sandbox, questions_count, texts
        self.limits = limits or SandboxLimits()
        self.models = ModelJudge(seed, sandbox, self.limits, texts)
        self._keys: dict[int, tuple[AnswerKey, list[tuple[Case, bytes]]]] = {}

    def __reduce__(self):
        """To another process goes what this was made of: there it draws the same cases, and starts its own sandbox."""
        return Grader, (self.seed, self.sandbox, self.limits, self.questions_count, self.texts)

    def _key(self, exercise: Exercise) -> tuple[AnswerKey, list[tuple[Case, bytes]]]:
        """What to compare with, and each case with what is sent, visible ones first: the same for every submission."""
        if id(exercise) not in self._keys:
            cases = sorted(exercise.draw(self.seed), key=lambda case: not case.visible)
            self._keys[id(exercise)] = AnswerKey(exercise, cases), [(case, wire.pack(*case.encode())) for case in cases]
        return self._keys[id(exercise)]

    def max_points(self, lesson: Lesson) -> float:
        """What a perfect submission earns."""
        return lesson.max_points if self.questions_count else sum(item.points for item in lesson.work.values())

    def judge(self, submission: Submission, lesson: Lesson, known: Set = frozenset()) -> Iterator[Judgement]:
        """A Judgement of every question and exercise, one by one as it is formed; those in `known` are passed over."""
        if self.questions_count:
            for id in lesson.questions:
                if ("question", id) not in known:
                    yield self._question(submission, lesson.questions[id])
        for name, hand_in in lesson.hand_ins.items():
            if ("exercise", name) not in known:
                yield _of_model(hand_in, self.models.judge(hand_in, submission))
        todo = [item for name, item in lesson.exercises.items() if ("exercise", name) not in known]
        with Examination(submission, list(lesson.exercises), self.sandbox, self.limits) as examination:
            # What is answered to a visible example is shown to the student. All of those are asked before the first
            # hidden input reaches the worker, or an answer to the one could carry the other out.
            opened = [(exercise, *self._timed(examination, exercise, True)) for exercise in todo]
            for exercise, first, seconds in opened:
                second, more = ([], 0.0) if isinstance(first, Judgement) else self._timed(examination, exercise, False)
                judgement = next((part for part in (first, second) if isinstance(part, Judgement)), None)
                yield replace(judgement or self._compared(exercise, first + second), seconds=seconds + more)

    def _question(self, submission: Submission, question) -> Judgement:
        given = submission.answers.get(question.id)
        try:
            letter = question.letter(given)
        except ValueError:
            return Judgement("question", question.id, 0.0, 1.0, "wrong", "not one of the choices")
        if letter is None:
            return Judgement("question", question.id, 0.0, 1.0, judging.NOT_ATTEMPTED)
        right = letter == question.right
        return Judgement("question", question.id, float(right), 1.0, "passed" if right else "wrong", letter)

    def _timed(
        self, examination: Examination, exercise: Exercise, visible: bool
    ) -> tuple[list[Answer] | Judgement, float]:
        """Answers to the visible cases, or to the hidden ones, and the seconds that it took; or the verdict already."""
        start = time.perf_counter()
        return self._answers(examination, exercise, visible), time.perf_counter() - start

    def _answers(self, examination: Examination, exercise: Exercise, visible: bool) -> list[Answer] | Judgement:
        missing = examination.submission.missing(exercise.name)
        if missing:
            unparsed = exercise.name in examination.submission.broken
            return _zero(exercise, UNPARSED if unparsed else judging.NOT_ATTEMPTED, missing)
        cases = [packed for case, packed in self._key(exercise)[1] if case.visible == visible]
        try:
            return examination.ask(exercise.name, cases) if cases else []
        except Died as death:
            return _zero(exercise, death.status, death.detail)

    def _compared(self, exercise: Exercise, answers: list[Answer]) -> Judgement:
        """The verdict on answers to the visible cases, then the hidden ones."""
        # Whatever an answer does to the comparison, it is no reason to stop, and no reason to give points.
        try:
            result = self._key(exercise)[0].judge(answers)
            points, score = result.points, result.score
        except Exception as error:
            return _zero(exercise, MALFORMED, f"{type(error).__name__} while it was compared")
        if not (math.isfinite(score) and 0 <= score <= 1):
            return _zero(exercise, MALFORMED, "no score")
        detail = next((answer.detail for answer in answers if answer.detail), "")
        return Judgement("exercise", exercise.name, points, exercise.points, result.status, detail, result)


def _zero(exercise: Exercise, status: str, detail: str) -> Judgement:
    return Judgement("exercise", exercise.name, 0.0, exercise.points, status, detail)


def _of_model(hand_in: HandIn, judged: Judged) -> Judgement:
    return Judgement(
        "exercise",
        hand_in.name,
        judged.points,
        hand_in.points,
        judged.status,
        judged.detail,
        seconds=judged.seconds,
        measured=judged.measured,
    )


def status_of(judgements: list[tuple[str, str, str]]) -> str:
    """One line on a submission from (kind, item, status): "graded", "not attempted", or graded with what went wrong."""
    exercises = [(item, status) for kind, item, status in judgements if kind == "exercise"]
    if all(status == judging.NOT_ATTEMPTED for _, _, status in judgements):
        return judging.NOT_ATTEMPTED
    quiet = ("passed", "wrong", judging.NOT_ATTEMPTED)
    loud = [f"{item} {status}" for item, status in exercises if status not in quiet]
    return f"graded; {'; '.join(loud)}" if loud else "graded"


def lesson_of(submission: Submission) -> Lesson:
    """The lesson that a submission says it belongs to. Raises Unreadable when there is none of that number."""
    if submission.lesson is None:
        raise Unreadable("names no lesson: neither its metadata nor its file name, which should begin as 01_ does")
    if submission.lesson not in lessons.numbers():
        raise Unreadable(f"is for lesson {submission.lesson}, which has no exercises here")
    return lessons.lesson(submission.lesson)
