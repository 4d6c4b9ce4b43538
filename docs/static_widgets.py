"""Sliders, menus and buttons need a kernel, which a page has not: what they offer is written out in words instead."""

import re
from html import escape

SCRIPT = "application/javascript"
VIEW = "application/vnd.jupyter.widget-view+json"
STATES = "application/vnd.jupyter.widget-state+json"
PROGRESS = {"FloatProgressModel", "IntProgressModel"}
BOXES = {"BoxModel", "HBoxModel", "VBoxModel", "GridBoxModel"}
CHOICES = {"SelectionSliderModel", "DropdownModel", "RadioButtonsModel", "SelectModel", "ToggleButtonsModel"}
TEXTS = {"HTMLModel", "LabelModel"}
NOT_SHOWN = re.compile(r"<style>.*?</style>|<[^>]*>|\s", re.DOTALL)
INTRODUCTION = "In the notebook you can move these, and what follows is drawn anew:"


class Unknown(ValueError):
    """A widget that has no form in words yet."""


def write_out(notebook) -> None:
    """Put words in the place of every widget of an executed notebook. Raises Unknown for a kind it does not know."""
    states = notebook.metadata.pop("widgets", {}).get(STATES, {}).get("state", {})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                text_output for output in cell.outputs if (text_output := _shown(output, states)) is not None
            ]


def _shown(output, states: dict):
    data = output.get("data", {})
    view = data.get(VIEW)
    if view is None:
        return None if SCRIPT in data else output  # a script serves the widgets, which are not here
    page = in_words(view["model_id"], states)
    if not page:
        return None
    output.data = {"text/html": page}
    return output


def in_words(model: str, states: dict) -> str:
    """A widget as HTML: its choices, the one that is shown said to be so. Empty for buttons and finished progress."""
    rows, texts = [], []
    for kind, state in _leaves(model, states):
        if kind in CHOICES:
            rows.append((state["description"], state["_options_labels"], state["index"]))
        elif kind == "CheckboxModel":
            rows.append((state["description"], ["no", "yes"], int(state["value"])))
        elif kind in TEXTS:
            texts += [state["value"]] if NOT_SHOWN.sub("", state["value"]) else []
        elif kind != "ButtonModel":
            raise Unknown(f"{kind} has no form in words; give it one in docs/static_widgets.py")
    if rows:
        items = "".join(f"<li>{_row(*row)}</li>" for row in rows)
        texts.insert(0, f'<div class="controls"><p>{INTRODUCTION}</p><ul>{items}</ul></div>')
    return "".join(texts)


def _leaves(model: str, states: dict) -> list[tuple[str, dict]]:
    """The widgets inside a widget, in order; none of a progress bar, whose labels say nothing once it is done."""
    entry = states.get(model)
    if entry is None:  # closed before the notebook ended
        return []
    if entry["model_name"] not in BOXES:
        return [(entry["model_name"], entry["state"])]
    children = [child.removeprefix("IPY_MODEL_") for child in entry["state"]["children"]]
    leaves = [leaf for child in children for leaf in _leaves(child, states)]
    return [] if any(kind in PROGRESS for kind, _ in leaves) else leaves


def _row(name: str, labels: list[str], index: int) -> str:
    offered = [
        f"<strong>{escape(label)}</strong> (shown here)" if place == index else escape(label)
        for place, label in enumerate(labels)
    ]
    return f"{escape(name)}: {', '.join(offered)}"
