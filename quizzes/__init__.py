"""Questions, exercises, and everything that judges an answer.

Importing this package is instant: torch is loaded when one of the names below is first used.
"""

import importlib

_HOME = {
    "exercise": "exercises",
    "case": "exercises",
    "question": "questions",
    "lesson": "lessons",
    "CheckResult": "checks",
}

__all__ = ["CheckResult", "case", "exercise", "lesson", "question"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"quizzes has no {name!r}; it has {', '.join(sorted(_HOME))}.")
    return getattr(importlib.import_module(f"quizzes.{_HOME[name]}"), name)
