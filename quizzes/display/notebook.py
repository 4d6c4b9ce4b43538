"""What a quiz looks like in a notebook. The one module of this package that knows ipywidgets.

What is shown is an ordinary output first, which stays in a printed or exported notebook; the widgets below it need a
front end. All of them work by keyboard: Tab reaches a button, the space bar or Enter presses it.
"""

from lessons_lib.show import widgets
from quizzes.display import html


class QuestionView:
    """A question with the verdict on an answer; in Jupyter also with buttons to practise on."""

    def __init__(self, question, letter: str | None):
        self.question = question
        self.letter = letter

    @property
    def right(self) -> bool:
        """Whether the answer is the right one."""
        return self.letter == self.question.right

    def __repr__(self) -> str:
        return html.question_text(self.question, self.letter)

    def _repr_html_(self) -> str:
        return html.question_html(self.question, self.letter)

    def _ipython_display_(self) -> None:
        _show(self)
        if self.letter is None:
            _show_widget(practice(self.question))


def practice(question):
    """A button for each choice; pressing one shows what that choice's explanation says. Nothing is recorded."""
    labels = {letter: f"Practise: answer {letter} to question {question.id}" for letter in question.choices}
    return _buttons(labels, lambda letter: html.verdict_html(question, letter))


def show_check(result) -> None:
    """Show a CheckResult; after a failure with buttons for the hint and for the other parts that failed."""
    _show(result)
    if not result.passed and result.status != "not attempted":
        _show_widget(helps(result))


def helps(result):
    """A button for the hint, and one for each failed part but the first, which the result itself shows."""
    parts = {f"Part: {failure.case.group}": failure for failure in result.first_of_each_part[1:]}
    labels = {"Hint": f"Show the hint for {result.exercise}"}
    labels |= dict.fromkeys(parts, f"Show the failing call of this part of {result.exercise}")

    def shown(label: str) -> str:
        if label == "Hint":
            return f"<p>{html.rich(result.hint)}</p>"
        return html.failure_html(result.exercise, parts[label])

    return _buttons(labels, shown)


def _buttons(labels: dict[str, str], html_for):
    """A row of buttons, {what it says: what it does}; pressing one shows the HTML that html_for(label) returns."""
    import ipywidgets

    below = ipywidgets.HTML()

    def press(button) -> None:
        # A screen reader speaks an alert that enters the page, while the focus stays where the reader is.
        below.value = f'<div role="alert">{html_for(button.description)}</div>'

    row = [
        ipywidgets.Button(description=label, tooltip=does, layout={"width": "auto", "min_width": "3.5em"})
        for label, does in labels.items()
    ]
    for button in row:
        button.on_click(press)
    return widgets.controls([ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}), below])


def _show(view) -> None:
    """The view as an output of its own, which stays in a printed notebook."""
    from IPython.display import display as send

    send({"text/html": view._repr_html_(), "text/plain": repr(view)}, raw=True)


def _show_widget(widget) -> None:
    from IPython.display import display as send

    send(widget)


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
        return "\n".join([f"**{self._total()}**", "", "| Exercise | earned | of |", "|---|---:|---:|", *lines])

    def _total(self) -> str:
        earned = sum(points or 0 for _, points, _ in self.rows)
        return f"Lesson {self.lesson}: {earned:g} of {sum(most for _, _, most in self.rows)} points"

    @staticmethod
    def _earned(points: float | None) -> str:
        return "not attempted" if points is None else f"{points:g}"


class CourseView:
    """The whole course: a row for each lesson with points and minutes, their sums, and what comes next."""

    def __init__(self, rows: list, following: tuple | None):
        self.rows = rows
        self.following = following

    def __repr__(self) -> str:
        lines = [
            f"{row.number} {row.title:<34} {row.points:>5g} of {row.most:>3} points, {row.minutes_left:>3} of "
            f"{row.minutes:>3} minutes left"
            for row in self.rows
        ]
        return "\n".join([*lines, self._total(), self._next()])

    def _repr_html_(self) -> str:
        return html.course_html(self.rows, self._total(), self._next())

    def _total(self) -> str:
        points, most = sum(row.points for row in self.rows), sum(row.most for row in self.rows)
        left = sum(row.minutes_left for row in self.rows)
        return f"The whole course: {points:g} of {most} points, about {left / 60:.0f} hours left"

    def _next(self) -> str:
        if self.following is None:
            return "Every exercise and every question is solved."
        row, item = self.following
        return f"Next: {item} in lesson {row.number}"
