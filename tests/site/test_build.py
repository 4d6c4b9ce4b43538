"""A site of one small lesson, from notebook to page: what must be there, and what must stop the build."""

import json
import re

import pytest

from docs import build
from docs.execute import Failed
from tests.site import small


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Executed once."""
    return small.site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def source(site):
    """The pages as Sphinx reads them, to be spoilt."""
    return build.write(site)


def test_the_site_holds_the_lesson_its_figures_and_no_fault(site, source):
    build.render(site, source)
    page = (site.html / "lessons" / "00_tiny.html").read_text(encoding="utf-8")
    assert "<h1>00 Tiny" in page
    assert page.count('href="../glossary.html#term-latency"') == 1, "the first mention is linked, the second is not"
    assert 'href="../glossary.html#term-throughput"' not in page, "what a lesson explains itself is not linked"
    assert 'href="../glossary.html#term-median"' in page
    assert page.count("<math") == 3
    assert 'alt="One bar, 4 bits long."' in page
    assert "<li>bits: 2, <strong>4</strong> (shown here), 8</li>" in page
    assert "Question 1." in page
    for name in (
        "index",
        "lessons",
        "claims",
        "glossary",
        "instructors",
        "library",
        "data",
        "times",
        "contributing",
        "search",
    ):
        assert (site.html / f"{name}.html").is_file(), name
    seconds = json.loads((site.executed / "run.json").read_text())["seconds"]["00_tiny"]
    assert f"<p>{seconds:.0f}</p>" in (site.html / "times.html").read_text(encoding="utf-8")
    assert "lessons/00_tiny.html" in (site.html / "lessons.html").read_text(encoding="utf-8")
    assert re.search(r"<p>processor</p></td>\s*<td><p>.+</p>", (site.html / "claims.html").read_text(encoding="utf-8"))
    # Search reads an index that comes as a script, and fetches nothing, which pages opened as files may not.
    assert (site.html / "searchindex.js").read_text(encoding="utf-8").startswith("Search.setIndex(")
    assert "lessons_lib.show.tables.table" in (site.html / "api" / "show.tables.html").read_text(encoding="utf-8")
    options = (site.html / "_static" / "documentation_options.js").read_text(encoding="utf-8")
    assert "SHOW_SEARCH_SUMMARY: false" in options


def spoil(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_faults_of_pages_stop_the_build(site, source):
    """One build with several faults, each of which must be named."""
    spoil(source / "glossary.md", "\nalpha\n", "\nAWQ\n  Once more.\n\nalpha\n")
    spoil(source / "index.md", "(lessons.md)", "(nowhere.md)")
    spoil(source / "times.md", "# Run times\n", "# Run times\n\n{term}`no such term` and $\\\\nosuch{x}$\n")
    with pytest.raises(Failed) as failure:
        build.render(site, source)
    for said in ("duplicate term description of AWQ", "nowhere.md", "no such term"):
        assert said in str(failure.value), said


def test_a_formula_that_cannot_be_drawn_stops_the_build(site, source):
    spoil(source / "times.md", "# Run times\n", "# Run times\n\n$\\nosuch{x}$\n")
    with pytest.raises(Failed, match="cannot be drawn"):
        build.render(site, source)


def test_what_sphinx_does_not_see_stops_the_build(site, source):
    """A wordless picture, a dead link in HTML and a script from elsewhere, all in raw HTML."""
    raw = '<img src="_static/course.css"><a href="gone.html">x</a><script src="https://example.org/a.js"></script>'
    spoil(source / "times.md", "# Run times\n", f"# Run times\n\n{raw}\n")
    with pytest.raises(Failed) as failure:
        build.render(site, source)
    for said in ("without alternative text", "dead link gone.html", "comes from elsewhere: https://example.org/a.js"):
        assert said in str(failure.value), said


def test_a_lesson_that_is_not_ready_cannot_be_asked_for(site):
    with pytest.raises(Failed, match="no lesson 07 is ready; ready are 00"):
        build.run(site, ["07"])


def test_pages_alone_need_lessons_that_ran(site, tmp_path):
    with pytest.raises(Failed, match="no lesson has run yet"):
        build.write(build.Site(tmp_path, site.notebooks, [small.LESSON], site.library))
