"""What the commands print, and how one of them refuses."""

from rich.console import Console

# Short: the modules of the commands share it, and it must not load what any one of them needs.
console = Console()


class CommandRefused(RuntimeError):
    """The command cannot do what was asked; the message is one line and says what to do."""


def say(line: str) -> None:
    """One line as it is: no markup, no colour, no folding, so that other programs can read it."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
