"""What the outputs of a lesson must hold, beyond that no cell raised. Read by `make lessons` and by `make site`."""

import html
import re

SHORTEST_ALT = 20
WARNING = re.compile(r"\b\w*Warning\b")
IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
ALT = re.compile(r"""\balt=(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)


def complaints(outputs: list) -> list[str]:
    """What is wrong with a cell's outputs, as sentences."""
    problems = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                problems.append(f"it writes to the error stream: {output.text.strip()}")
            elif WARNING.search(output.text):
                problems.append(f"it prints a warning: {output.text.strip()}")
        elif output.output_type in ("display_data", "execute_result"):
            problems += picture_complaints(output.data)
    return problems


def picture_complaints(data: dict) -> list[str]:
    """A picture must come as an <img> with words for those who cannot see it."""
    page = data.get("text/html", "")
    images = IMAGE.findall(page)
    if not images and any(kind.startswith("image/") for kind in data):
        return ["it shows a picture without alternative text; use lessons_lib.show.plots"]
    texts = ["".join(ALT.search(image).groups("")) if ALT.search(image) else "" for image in images]
    return [
        f"a picture has no alternative text worth the name: {text!r}"
        for text in texts
        if len(html.unescape(text).strip()) < SHORTEST_ALT
    ]
