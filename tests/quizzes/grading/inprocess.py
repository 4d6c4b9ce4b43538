"""A sandbox that is none: the learner's code runs in the grader's own process. For tests of what is around it."""

import time

from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.inside import recipes, wire
from quizzes.inside.code_worker import LearnerNamespace


class InProcess:
    """Starts at once. seconds: how long each call takes besides, so that a kill finds something under way."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds

    def start(self, limits: SandboxLimits) -> "Talk":
        """A worker that is ready to be asked."""
        return Talk(LearnerNamespace(recipes, wire, limits.answer_bytes), self.seconds)

    def close(self) -> None:
        """Nothing is open."""


class Talk:
    """The conversation with it."""

    def __init__(self, worker: LearnerNamespace, seconds: float):
        self.worker, self.seconds = worker, seconds

    def renew(self) -> None:
        """Nothing is limited."""

    def run(self, *sources: str) -> list[dict]:
        """Execute statements of the notebook."""
        return [self.worker.run(source) for source in sources]

    def ask(self, function: str, *cases: bytes) -> list[tuple[dict, bytes]]:
        """Call the function with packed cases."""
        time.sleep(self.seconds)
        replies, values = self.worker.ask_all(function, [len(case) for case in cases], b"".join(cases))
        return list(zip(replies, values + [b""] * (len(replies) - len(values)), strict=True))

    def is_clean(self) -> bool:
        """Nothing is looked at."""
        return True

    def close(self) -> None:
        """Nothing is open."""
