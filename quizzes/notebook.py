"""What a quiz looks like in a notebook. The one module of this package that knows ipywidgets."""

from quizzes import display
from quizzes.questions import Question


class QuestionView:
    """A question with the verdict on an answer; in Jupyter also with buttons to practise on."""

    def __init__(self, question: Question, letter: str | None):
        self.question = question
        self.letter = letter

    @property
    def right(self) -> bool:
        """Whether the answer is the right one."""
        return self.letter == self.question.right

    def __repr__(self) -> str:
        return display.question_text(self.question, self.letter)

    def _repr_html_(self) -> str:
        return display.question_html(self.question, self.letter)

    def _ipython_display_(self) -> None:
        from IPython.display import display as show

        show({"text/html": self._repr_html_(), "text/plain": repr(self)}, raw=True)
        if self.letter is None:
            show(practice_buttons(self.question))


def practice_buttons(question: Question):
    """A row of labelled buttons; pressing one shows what that choice's explanation says. Nothing is recorded."""
    import ipywidgets

    verdict = ipywidgets.HTML()

    def press(button) -> None:
        verdict.value = display.verdict_html(question, button.description)

    buttons = []
    for letter in question.choices:
        button = ipywidgets.Button(description=letter, tooltip=f"Practise: answer {letter} to question {question.id}")
        button.layout.width = "3.5em"
        button.on_click(press)
        buttons.append(button)
    return ipywidgets.VBox([ipywidgets.HBox(buttons), verdict])


class Note:
    """A short text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


class Code(Note):
    """Python source, shown as such."""

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}\n```"


class ProgressView:
    """What was earned in a lesson: a row for each exercise and question, and the sum."""

    def __init__(self, lesson: str, rows: list[tuple[str, float | None, int]]):
        self.lesson = lesson
        self.rows = rows

    def __repr__(self) -> str:
        lines = [f"{name:<28} {self._earned(points):>13} of {most}" for name, points, most in self.rows]
        return "\n".join([*lines, self._total()])

    def _repr_markdown_(self) -> str:
        lines = [f"| {name} | {self._earned(points)} | {most} |" for name, points, most in self.rows]
        return "\n".join([f"**{self._total()}**", "", "| | earned | of |", "|---|---:|---:|", *lines])

    def _total(self) -> str:
        earned = sum(points or 0 for _, points, _ in self.rows)
        return f"Lesson {self.lesson}: {earned:g} of {sum(most for _, _, most in self.rows)} points"

    @staticmethod
    def _earned(points: float | None) -> str:
        return "not attempted" if points is None else f"{points:g}"
