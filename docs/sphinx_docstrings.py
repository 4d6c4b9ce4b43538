"""The docstrings of lessons_lib are plain text, written to be read in the source; here they become reStructuredText."""

import re

SPECIAL = re.compile(r"([\\*_|<>])")
CODE = re.compile(r"``?([^`]+)``?")
FIELD = re.compile(r"^[\w\[\], *]{1,60}: ?\S")


def restructured(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText, line by line.

    `code` is set as code and every other sign stands for itself. Examples and indented blocks keep their shape, and
    the lines of a paragraph that describes arguments stay lines.
    """
    out, block = [], []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line.rstrip())
        elif block:
            out += [*_block(block), ""]
            block = []
    return out


def _block(block: list[str]) -> list[str]:
    if block[0].startswith(">>>"):
        return block
    if block[0].startswith(" "):
        return ["::", "", *(f"    {line}" for line in block)]
    if not any(map(FIELD.match, block)):
        return [_inline(line.strip()) for line in block]
    return [
        _row(line) if FIELD.match(line) or place == 0 or line.startswith("    ") else f"  {_inline(line.strip())}"
        for place, line in enumerate(block)
    ]


def _row(line: str) -> str:
    """A line that stays one; what was indented stays indented."""
    return f"| {'    ' if line.startswith(' ') else ''}{_inline(line.strip())}"


def _inline(text: str) -> str:
    """One line: code between double backticks, the rest escaped."""
    parts = CODE.split(text)
    return "".join(f"``{part}``" if place % 2 else SPECIAL.sub(r"\\\1", part) for place, part in enumerate(parts))


def _process(_app, _what, _name, _object, _options, lines: list[str]) -> None:
    lines[:] = restructured(lines)


def setup(app) -> dict:
    """Sphinx's entry."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
