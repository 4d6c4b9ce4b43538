"""What the commands print, and how one of them refuses. Shorter than other modules: three of them share it."""

from rich.console import Console

console = Console()


class Refused(RuntimeError):
    """The command cannot do what was asked; the message is one line and says what to do."""


def say(line: str) -> None:
    """One line as it is: no markup, no colour, no folding, so that other programs can read it."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
