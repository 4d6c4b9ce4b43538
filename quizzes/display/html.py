"""How verdicts and questions read, as plain text and as HTML that needs neither colour nor a front end."""

from html import escape

import torch

from quizzes.display import tensors

_BOX = (
    "border:1px solid var(--jp-border-color1,#767676);border-left-width:6px;padding:.5em .9em;margin:.3em 0;"
    "max-width:60em;color:var(--jp-ui-font-color1,inherit)"
)


def brief(value, limit: int = 300) -> str:
    """A value as one would write it, cut to `limit` characters; tensors with their shape and dtype."""
    if isinstance(value, torch.Tensor):
        with torch._tensor_str.printoptions(precision=5, threshold=40, edgeitems=3, linewidth=100):
            text = str(value.detach())
        plain = value.ndim < 2 and value.numel() <= 6
        text = text if plain else f"{text}  shape {tuple(value.shape)}, {value.dtype}".replace("torch.", "")
    elif isinstance(value, (list, tuple)):
        inner = ", ".join(brief(item, limit) for item in value)
        text = f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{key!r}: {brief(item, limit)}" for key, item in value.items()) + "}"
    elif hasattr(value, "kind") and hasattr(value, "parameters"):  # a recipe
        arguments = ", ".join(f"{key}={brief(item, 60)}" for key, item in value.parameters.items())
        text = f"{value.kind}({arguments})"
    else:
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def call(name: str, arguments: tuple) -> str:
    """A call as the learner would type it."""
    return f"{name}({', '.join(brief(argument) for argument in arguments)})"


def values(observed: dict | None) -> str:
    """Observed values, one a line when there are several."""
    if observed is None:
        return "nothing"
    if list(observed) == ["value"]:
        return brief(observed["value"])
    return "\n".join(f"{path}: {brief(item)}" for path, item in observed.items() if not path.endswith(".length"))


def _headline(result) -> str:
    if result.passed:
        return f"Right. {result.exercise}: {result.points:g} of {result.max_points} points."
    if result.status == "not attempted":
        return f"{result.exercise}: not attempted yet ({result.max_points} points)."
    right = sum(result.groups.values())
    parts = f"{right} of {len(result.groups)} parts right"
    return f"Not yet. {result.exercise}: {parts}, {result.points:g} of {result.max_points} points."


def _failure(name: str, failure) -> list[tuple[str, str]]:
    """What to say of one failing case, as rows of label and text."""
    rows = [("Part", failure.case.group), ("Call", call(name, failure.case.arguments))]
    rows.append(("Expected", values(failure.expected)))
    if failure.answer.values is None:
        return [*rows, ("It " + failure.answer.status, failure.answer.detail)]
    return [*rows, ("Got", values(failure.answer.values)), ("Difference", failure.difference)]


def feedback_text(result) -> str:
    """A CheckResult in plain text: verdict, recognised mistake, first failing call."""
    lines = [_headline(result)]
    if result.mistake:
        lines.append(f"Recognised: {result.mistake}")
    attempted = result.failures and result.status != "not attempted"
    for label, text in _failure(result.exercise, result.failures[0]) if attempted else []:
        lines.append(f"{label}: {text}" if "\n" not in text else f"{label}:\n{text}")
    return "\n".join(lines)


def feedback_html(result) -> str:
    """A CheckResult as HTML."""
    mistake = f"<p><strong>Recognised:</strong> {rich(result.mistake)}</p>" if result.mistake else ""
    attempted = result.failures and result.status != "not attempted"
    failure = failure_html(result.exercise, result.failures[0]) if attempted else ""
    headline = f"<p><strong>{escape(_headline(result))}</strong></p>"
    return f'<div role="status" style="{_BOX}">{headline}{mistake}{failure}</div>'


def failure_html(name: str, failure) -> str:
    """One failing case as a list of what was called and what came; tensors that differ as coloured grids."""
    facts = {
        label: f'<pre style="margin:0;white-space:pre-wrap">{escape(text)}</pre>'
        for label, text in _failure(name, failure)
    }
    if failure.parting is not None:
        difference = facts.pop("Difference")
        del facts["Expected"], facts["Got"]
        facts |= {"Values": tensors.beside(failure.parting), "Difference": difference}
    return _facts(facts.items())


def _facts(rows) -> str:
    """Labels beside what belongs to each, which is HTML already."""
    body = "".join(f'<dt style="margin:0">{escape(label)}</dt><dd style="margin:0">{text}</dd>' for label, text in rows)
    return f'<dl style="display:grid;grid-template-columns:max-content 1fr;gap:.3em 1em">{body}</dl>'


def model_html(headline: str, rows: list[tuple[str, str]]) -> str:
    """The verdict on a model as HTML: a sentence, and labels with their text."""
    facts = _facts((label, escape(text)) for label, text in rows)
    return f'<div role="status" style="{_BOX}"><p><strong>{escape(headline)}</strong></p>{facts}</div>'


def question_text(question, letter: str | None) -> str:
    """A question in plain text; with a letter, the verdict on it, its explanation and the worked steps."""
    lines = [f"Question {question.id}. {question.stem}"]
    lines += [f"  {name}. {choice.text}" for name, choice in question.choices.items()]
    return "\n".join([*lines, *verdict_lines(question, letter)])


def verdict_lines(question, letter: str | None) -> list[str]:
    """What to say to an answer: nothing but how to answer when there is none, the steps only when it is right."""
    if letter is None:
        return ["Answer by putting a letter in place of ... and running the cell again."]
    choice = question.choices[letter]
    if not choice.right:
        return [f"{letter} is not right. {choice.explanation}", f"Hint: {question.hint}"]
    others = [f"Why not {name}: {other.explanation}" for name, other in question.choices.items() if not other.right]
    return [f"{letter} is right. {choice.explanation}", *question.steps, *others]


def question_html(question, letter: str | None) -> str:
    """A question as HTML, with the verdict on a letter."""
    choices = "".join(f"<li>{rich(choice.text)}</li>" for choice in question.choices.values())
    verdict = verdict_html(question, letter)
    return (
        f'<div style="{_BOX}"><p><strong>Question {escape(question.id)}.</strong> {rich(question.stem)}</p>'
        f'<ol style="list-style-type:upper-alpha">{choices}</ol><div role="status">{verdict}</div></div>'
    )


def verdict_html(question, letter: str | None) -> str:
    """The verdict on a letter as HTML paragraphs."""
    return "".join(f"<p>{rich(line)}</p>" for line in verdict_lines(question, letter))


def rich(text: str) -> str:
    """Escaped text, with `code` in backticks set as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def course_html(rows: list, total: str, following: str) -> str:
    """Lessons with their points and minutes as a table; each title leads to the notebook."""
    left, right = ('style="text-align:left"', 'style="text-align:right"')
    heads = "".join(
        f'<th scope="col" {side}>{name}</th>'
        for name, side in (
            ("Lesson", left),
            ("Earned", left),
            ("Points", right),
            ("Minutes", right),
            ("Minutes left", right),
        )
    )
    body = "".join(
        f'<tr><th scope="row" {left}><a href="{row.name}.ipynb">{row.number} {escape(row.title)}</a></th>'
        f'<td {left}><progress max="{row.most}" value="{row.points:g}" aria-label="Points of lesson {row.number}">'
        f"</progress></td><td {right}>{row.points:g} of {row.most}</td><td {right}>{row.minutes}</td>"
        f"<td {right}>{row.minutes_left}</td></tr>"
        for row in rows
    )
    return (
        f'<div style="{_BOX}"><p><strong>{escape(total)}</strong></p><p>{escape(following)}</p>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
