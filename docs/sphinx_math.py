"""Formulas as MathML, which browsers draw and screen readers read by themselves: no script, no font to fetch."""

import re

from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError

# What docutils does not know: brackets in MathML fit their content without being told how big to be.
SIZES = re.compile(r"\\[bB]ig+[lrm]?(?![A-Za-z])")
DOTS = re.compile(r"\\dots(?![A-Za-z])")


def mathml(formula: str, as_block: bool = False) -> str:
    """A formula of TeX as a <math> element. Raises MathError for a command that it does not know."""
    return tex2mathml(DOTS.sub(r"\\ldots", SIZES.sub("", formula)), as_block=as_block)


def _inline(translator, node) -> None:
    translator.body.append(_drawn(node, as_block=False))
    _skip()


def _block(translator, node) -> None:
    # The theme lets the keyboard scroll what has this class, where a formula is wider than the page.
    translator.body.append(f'<div class="formula pst-scrollable-table-container">{_drawn(node, as_block=True)}</div>')
    _skip()


def _drawn(node, as_block: bool) -> str:
    try:
        return mathml(node.astext(), as_block)
    except MathError as error:
        raise ExtensionError(f"the formula {node.astext()!r} cannot be drawn: {error}") from None


def _skip() -> None:
    from docutils.nodes import SkipNode

    raise SkipNode


def setup(app) -> dict:
    """Sphinx's entry."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
