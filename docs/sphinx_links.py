"""Links that nobody has to write: {lesson}`07`, and from a lesson's first use of a term to the glossary."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxRole

# Words that also mean something else in a lesson: a hint for an exercise, a line of code, a group of students.
AMBIGUOUS = {
    "alpha",
    "bias",
    "code",
    "decode",
    "group",
    "head",
    "hint",
    "mask",
    "progressive",
    "rank",
    "relations",
    "scale",
    "study",
}
LINKED_ELSEWHERE = (
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.reference,
    nodes.strong,
    nodes.title,
    pending_xref,
)


def terms(glossary: str) -> list[str]:
    """The terms of a glossary page: the lines of its directive that are not indented."""
    _, _, body = glossary.partition("{glossary}")
    inside = body.partition(":::")[0].splitlines()
    return [line.strip() for line in inside if line and not line.startswith((" ", ":"))]


class LessonRole(SphinxRole):
    """{lesson}`07` links the page of lesson 07, or only names it while there is no such page."""

    def run(self):
        """The nodes that stand for the role."""
        label = nodes.inline(self.rawtext, f"lesson {self.text}")
        pages = sorted(page for page in self.env.found_docs if page.startswith(f"lessons/{self.text}_"))
        if not pages:
            return [label], []
        link = pending_xref(
            self.rawtext,
            label,
            refdomain="std",
            reftype="doc",
            reftarget=f"/{pages[0]}",
            refexplicit=True,
            refwarn=True,
            refdoc=self.env.docname,
        )
        return [link], []


class TermLinks(SphinxTransform):
    """In a lesson, the first plain mention of each term leads to the glossary."""

    default_priority = 500

    def apply(self):
        """Put links into the paragraphs of a lesson."""
        if not self.env.docname.startswith("lessons/"):
            return
        known = {
            term.lower(): term
            for term in terms((Path(self.env.srcdir) / "glossary.md").read_text("utf-8"))
            if term not in AMBIGUOUS
        }
        longest_first = sorted(known, key=len, reverse=True)
        pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, longest_first))})(?:s)?(?![\w-])", re.IGNORECASE)
        for paragraph in list(self.document.findall(nodes.paragraph)):
            if isinstance(paragraph.parent, nodes.entry):  # a lesson's card
                continue
            for text in list(paragraph.findall(nodes.Text)):
                if not any(isinstance(above, LINKED_ELSEWHERE) for above in _above(text, paragraph)):
                    text.parent.replace(text, self.linked(text, pattern, known))

    def linked(self, text: nodes.Text, pattern: re.Pattern, waiting: dict[str, str]) -> list[nodes.Node]:
        """A text with links in it; the terms that it used are taken from those that wait."""
        parts, end, words = [], 0, text.astext()
        for match in pattern.finditer(words):
            term = waiting.pop(match[1].lower(), None)
            if term is None:
                continue
            parts.append(nodes.Text(words[end : match.start()]))
            parts.append(
                pending_xref(
                    "",
                    nodes.inline("", match[0], classes=["term"]),
                    refdomain="std",
                    reftype="term",
                    reftarget=term,
                    refexplicit=True,
                    refwarn=True,
                    refdoc=self.env.docname,
                )
            )
            end = match.end()
        return [*parts, nodes.Text(words[end:])]


def _above(node: nodes.Node, top: nodes.Node):
    while node is not top:
        node = node.parent
        yield node


def setup(app) -> dict:
    """Sphinx's entry."""
    app.add_role("lesson", LessonRole())
    app.add_transform(TermLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
