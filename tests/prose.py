"""What the course's prose does without."""

import re

HYPE = (
    "amazing",
    "awesome",
    "blazing",
    "crucial",
    "cutting-edge",
    "delve",
    "dive into",
    "easily",
    "easy",
    "effortless",
    "exciting",
    "game-changer",
    "incredible",
    "just",
    "leverage",
    "magic",
    "obviously",
    "powerful",
    "revolutionary",
    "seamless",
    "seamlessly",
    "simply",
    "supercharge",
    "trivial",
    "trivially",
    "unlock",
    "unleash",
)
HYPE_WORD = re.compile(r"\b(" + "|".join(map(re.escape, HYPE)) + r")\b", re.IGNORECASE)
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]")
# Code, formulas, pictures and the targets of links follow rules of their own.
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|<!--.*?-->", re.DOTALL
)


def offences(text: str) -> list[str]:
    """Words and signs in a Markdown text that have no place in the course."""
    prose = NOT_PROSE.sub(" ", text)
    found = [f"the word {word!r}" for word in HYPE_WORD.findall(prose)]
    found += [f"the sign {sign!r}" for sign in EMOJI.findall(text)]
    return found + ["an exclamation mark"] * prose.count("!")
