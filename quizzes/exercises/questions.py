"""A question: a stem, choices that each explain themselves, a hint, and the worked steps."""

import string
import sys
from dataclasses import dataclass

BANKS: dict[str, dict[str, "Question"]] = {}  # bank module -> questions by id, in the order of the file


@dataclass(frozen=True)
class Choice:
    """What a learner can choose, why it is right or wrong, and whether it is right."""

    text: str
    explanation: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """One question with one right choice; worth a point."""

    id: str
    stem: str
    choices: dict[str, Choice]
    hint: str
    steps: tuple[str, ...]

    @property
    def right(self) -> str:
        """The letter of the right choice."""
        return next(letter for letter, choice in self.choices.items() if choice.right)

    def letter(self, answer: object) -> str | None:
        """The letter meant by an answer, None for `...`. Raises ValueError for anything that is not a choice."""
        if answer is None or answer is ...:
            return None
        letter = answer.strip().upper() if isinstance(answer, str) else answer
        if not isinstance(letter, str) or letter not in self.choices:
            raise ValueError(
                f"{answer!r} is not a choice of question {self.id}. Answer with one of {', '.join(self.choices)} in "
                f'quotes, for example answer="{next(iter(self.choices))}".'
            )
        return letter


def question(id: str, stem: str, *, hint: str, steps: list[str], **choices: tuple) -> Question:
    """Add a question to the bank module that calls this.

    choices: A=("text", "its explanation"), and ("text", "its explanation", True) for the one that is right.
    Raises ValueError for a second question of that id, fewer than two choices, letters out of order, a choice without
    an explanation, or not exactly one right choice.
    """
    # The caller's module, found as collections.namedtuple finds it: a bank then needs no registration of its own.
    bank = BANKS.setdefault(sys._getframe(1).f_globals["__name__"], {})
    entry = Question(id, stem, {letter: Choice(*choice) for letter, choice in choices.items()}, hint, tuple(steps))
    if id in bank:
        raise ValueError(f"there are two questions {id!r}; give one another id.")
    if len(choices) < 2 or list(choices) != list(string.ascii_uppercase[: len(choices)]):
        raise ValueError(f"question {id!r} has the choices {list(choices)}; name two or more A, B, C ... in order.")
    silent = [letter for letter, choice in entry.choices.items() if not choice.explanation.strip()]
    if silent:
        raise ValueError(f"choice {silent[0]} of question {id!r} explains nothing; say why it is right or wrong.")
    if sum(choice.right for choice in entry.choices.values()) != 1:
        raise ValueError(f"question {id!r} needs exactly one right choice; mark it with True.")
    bank[id] = entry
    return entry
