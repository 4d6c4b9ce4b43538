"""Questions, exercises, and everything that judges an answer.

Importing this package is instant: torch is loaded when one of the names below is first used.
"""

import importlib

_HOME = {
    "exercise": "exercises.exercises",
    "case": "exercises.exercises",
    "question": "exercises.questions",
    "hand_in": "exercises.hand_ins",
    "tier": "exercises.hand_ins",
    "lesson": "lessons",
    "CheckResult": "exercises.judging",
    "course_progress": "learner.standing",
}

__all__ = ["CheckResult", "case", "course_progress", "exercise", "hand_in", "lesson", "question", "tier"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"quizzes has no {name!r}; it has {', '.join(sorted(_HOME))}.")
    return getattr(importlib.import_module(f"quizzes.{_HOME[name]}"), name)
