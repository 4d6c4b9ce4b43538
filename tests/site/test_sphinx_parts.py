"""Formulas, docstrings and links as the site's own extensions make them."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import jupytext
import pytest
from docutils import nodes
from docutils.core import publish_doctree
from docutils.utils.math import MathError
from sphinx.addnodes import pending_xref

from docs.sphinx_docstrings import restructured
from docs.sphinx_links import AMBIGUOUS, TermLinks, terms
from docs.sphinx_math import mathml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))
MODULES = sorted((ROOT / "lessons_lib").rglob("*.py"))
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$([^$\n]+)\$", re.DOTALL)


def test_a_formula_becomes_mathml():
    made = mathml(r"\frac{a}{\text{scale}}", as_block=True)
    assert made.startswith("<math")
    assert 'display="block"' in made
    assert "<mfrac>" in made
    assert "<mtext>scale</mtext>" in made


def test_sizes_of_brackets_and_dots_are_understood():
    assert mathml(r"\big(a\Big) + \dots + \bigl\lVert b \bigr\rVert") == mathml(r"(a) + \ldots + \lVert b \rVert")
    assert mathml(r"\bar z")


def test_an_unknown_command_is_refused():
    with pytest.raises(MathError):
        mathml(r"\nosuchcommand{x}")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_every_formula_of_a_lesson_can_be_drawn(source):
    cells = jupytext.read(source, fmt="py:percent").cells
    prose = [
        re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL) for cell in cells if cell.cell_type == "markdown"
    ]
    for found in FORMULA.finditer("\n\n".join(prose)):
        mathml(found[1] or found[2], as_block=bool(found[1]))


def said(text: str) -> tuple[str, list[str]]:
    """What a docstring reads like on the site, and what docutils says against it."""
    settings = {"report_level": 1, "halt_level": 5, "warning_stream": False}
    tree = publish_doctree("\n".join(restructured(text.splitlines())), settings_overrides=settings)
    complaints = [node.astext() for node in tree.findall(lambda node: node.tagname == "system_message")]
    return tree.astext(), complaints


def test_a_docstring_reads_on_the_site_as_in_the_source():
    text = (
        "Codes of x, 2**bits of them: *not* bold, a_b no link, |x| a value.\n\n"
        "x: numbers, `(n,)`.\nbits: 2 to 8,\n  no more.\n\n>>> code(1)\n2\n\n    indented  as it is"
    )
    shown, complaints = said(text)
    assert not complaints
    assert "2**bits of them: *not* bold, a_b no link, |x| a value." in shown
    assert "x: numbers, (n,).\n\nbits: 2 to 8,\nno more." in shown
    assert ">>> code(1)\n2" in shown
    assert "indented  as it is" in shown


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_every_docstring_of_the_library_can_be_shown(module):
    tree = ast.parse(module.read_text(encoding="utf-8"))
    documented = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    for text in filter(None, map(ast.get_docstring, documented)):
        assert said(text)[1] == [], text


def test_terms_are_read_from_the_glossary():
    page = "# G\n\n:::{glossary}\n:sorted:\n\nmedian\np50\n  The middle.\n\nstate dict\n  Tensors.\n:::\n\nafter\n"
    assert terms(page) == ["median", "p50", "state dict"]


def test_words_with_two_meanings_are_not_linked():
    known = terms((ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))
    assert set(known) >= AMBIGUOUS, "take what is no longer a term out of AMBIGUOUS"


def test_the_first_mention_of_a_term_is_linked_and_no_other():
    made = publish_doctree("")
    transform = TermLinks(made)
    made.settings.env = SimpleNamespace(docname="lessons/00_a")
    waiting = {"latency": "latency", "soft label": "soft label"}
    pattern = re.compile(r"\b(soft label|latency)s?\b", re.IGNORECASE)
    parts = transform.linked(nodes.Text("Latency, latency and soft labels."), pattern, waiting)
    assert "".join(part.astext() for part in parts) == "Latency, latency and soft labels."
    assert [(part.astext(), part["reftarget"]) for part in parts if isinstance(part, pending_xref)] == [
        ("Latency", "latency"),
        ("soft labels", "soft label"),
    ]
    assert not waiting
