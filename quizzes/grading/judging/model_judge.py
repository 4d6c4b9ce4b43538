"""Judges a model that was handed in: bytes counted here, answers computed in the sandbox, quality measured here."""

import time
from dataclasses import dataclass, replace

import safetensors.numpy

from quizzes.exercises import judging
from quizzes.exercises.hand_ins import NO_TIER, HandIn, MeasuredModel
from quizzes.grading.intake.submission import Submission
from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.grading.sandbox.watched_process import MALFORMED, MEMORY, Died
from quizzes.models import tasks
from quizzes.models.tasks import HeldOut

REFUSED = "refused"  # it was looked into, and may not be run
UNUSABLE = "cannot be run"  # it failed on the public sample
CPU_FACTOR = 12  # a model computes a thousand answers, an exercise a few
MOST_MEMORY_BYTES = 2 * 2**30
ANSWER_BYTES = 8 * 2**20
# What the runner may say, and the word for it here, on the sample and on hidden data; anything else is malformed.
WORDS = {"refused": REFUSED, "raised": UNUSABLE, "out of memory": MEMORY}
HIDDEN_WORDS = {"refused": MALFORMED, "raised": judging.RAISED, "out of memory": MEMORY}


@dataclass(frozen=True)
class Judged:
    """What a hand-in earned: a status, its points, what was measured if anything was, and how long it took."""

    status: str
    points: float
    detail: str = ""
    measured: MeasuredModel | None = None
    seconds: float = 0.0


class Stopped(Exception):
    """There is nothing to measure, and why."""

    def __init__(self, status: str, detail: str):
        super().__init__(f"{status}: {detail}")
        self.status, self.detail = status, detail


class ModelJudge:
    """Judges hand-ins with one seed, or on an instructor's texts, in one kind of sandbox."""

    def __init__(self, seed: int, sandbox, limits: SandboxLimits, texts: tuple = ()):
        self.seed, self.sandbox, self.texts = seed, sandbox, texts
        self.limits = replace(
            limits,
            cpu_seconds=CPU_FACTOR * limits.cpu_seconds,
            answer_bytes=ANSWER_BYTES,
            wall_seconds=limits.wall_seconds and CPU_FACTOR * limits.wall_seconds,
            memory_bytes=min(2 * limits.memory_bytes, MOST_MEMORY_BYTES),
        )
        self._held: dict[str, HeldOut] = {}

    def held(self, task: str) -> HeldOut:
        """What a task is judged on: the same for every hand-in."""
        if task not in self._held:
            rows = tasks.TASKS[task].rows(self.seed, self.texts)
            self._held[task] = tasks.held_out_for(tasks.TASKS[task], rows)
        return self._held[task]

    def judge(self, hand_in: HandIn, submission: Submission) -> Judged:
        """The verdict on one hand-in. Nothing that it does can end the grader, or change another verdict."""
        begin = time.perf_counter()
        try:
            files = _files(hand_in, submission)
            answers, seconds = self._answers(hand_in, files)
            measured = self._measured(hand_in, files, answers, seconds)
        except Stopped as stop:
            return Judged(stop.status, 0.0, stop.detail, seconds=time.perf_counter() - begin)
        except Died as death:
            return Judged(death.status, 0.0, death.detail, seconds=time.perf_counter() - begin)
        tier = hand_in.tier(measured)
        return Judged(tier.name if tier else NO_TIER, hand_in.worth(tier), "", measured, time.perf_counter() - begin)

    def _answers(self, hand_in: HandIn, files: list[bytes]) -> tuple[dict, float]:
        """What the model gives for the held-out inputs, and the seconds that it took."""
        task = tasks.TASKS[hand_in.task]
        opening = {"open": task.name, "settings": task.settings(), "sizes": list(map(len, files))}
        inputs = safetensors.numpy.save(self.held(task.name).inputs)
        worker = self.sandbox.models.start(self.limits)
        try:
            worker.renew()
            _said(worker.exchange(opening, b"".join(files)), WORDS)
            # Tried on what everybody knows first: what it says of that can be shown.
            _said(worker.exchange({"run": True}, safetensors.numpy.save(task.sample())), WORDS)
            worker.renew()
            begin = time.perf_counter()
            answer = _said(worker.exchange({"run": True}, inputs), HIDDEN_WORDS)
            seconds = time.perf_counter() - begin
        finally:
            worker.close()
        try:
            return safetensors.numpy.load(answer), seconds
        except Exception as error:  # whatever the bytes are, they are no reason to stop
            raise Stopped(MALFORMED, f"{type(error).__name__} while it was read") from error

    def _measured(self, hand_in: HandIn, files: list[bytes], answers: dict, seconds: float) -> MeasuredModel:
        try:
            size = sum(map(len, files))
            return tasks.measured(hand_in, self.held(hand_in.task), answers, size, seconds)
        except Exception as error:
            raise Stopped(MALFORMED, str(error)[:200]) from error


def _files(hand_in: HandIn, submission: Submission) -> list[bytes]:
    """The hand-in's files. Raises Stopped when one is missing, unreadable or too large."""
    task = tasks.TASKS[hand_in.task]
    missing = [name for name in task.files if name not in submission.models]
    if missing:
        raise Stopped(judging.NOT_ATTEMPTED, f"there is no {' and no '.join(missing)} beside the notebook")
    files = [submission.models[name] for name in task.files]
    for name, data in zip(task.files, files, strict=True):
        if isinstance(data, str):
            raise Stopped(REFUSED, f"{name} {data}")
        if len(data) > task.most_bytes:
            raise Stopped(REFUSED, f"{name} has {len(data):,} bytes; at most {task.most_bytes:,} are taken")
    return files


def _said(reply: tuple[dict, bytes], words: dict[str, str]) -> bytes:
    """The body of an answer. Raises Stopped when there is none."""
    header, body = reply
    if header["status"] == judging.ANSWERED:
        return body
    raise Stopped(words.get(header["status"], MALFORMED), str(header.get("message", ""))[:500])
