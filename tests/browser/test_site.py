"""The site in a browser, opened as files: no error, nothing from elsewhere, no serious fault of accessibility."""

from pathlib import Path

import pytest

from tests.browser.access import serious_faults
from tests.site import small

pytestmark = pytest.mark.needs("chromium")
WHOLE = Path(__file__).resolve().parents[2] / "site" / "html"
PAGES = ("index", "lessons/00_tiny", "claims", "glossary", "instructors", "api/show.tables", "search")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The small site, built."""
    site = small.site(tmp_path_factory.mktemp("site"))
    small.build.render(site, small.build.write(site))
    return site.html


@pytest.fixture
def opened(chromium):
    """Opens a page by its file; its errors and what it loads from elsewhere are in `complaints`."""
    contexts = []

    def open_page(path: Path, scheme="light", size=WIDE, query=""):
        contexts.append(chromium.new_context(color_scheme=scheme, viewport=size))
        page = contexts[-1].new_page()
        page.complaints = []
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: page.complaints.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None,
        )
        page.goto(f"{path.as_uri()}{query}")
        page.wait_for_load_state("load")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_as_a_file_and_has_no_serious_fault(built, opened, name, scheme):
    page = opened(built / f"{name}.html", scheme)
    assert page.locator("html").get_attribute("data-theme") == scheme
    assert page.complaints == []
    assert serious_faults(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(built, opened, name):
    page = opened(built / f"{name}.html", size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_search_finds_a_lesson_and_a_term(built, opened):
    page = opened(built / "search.html", query="?q=latency")
    found = page.locator("#search-results ul.search li a")
    found.first.wait_for(timeout=20_000)
    links = [link.get_attribute("href") for link in found.all()]
    assert any("lessons/00_tiny.html" in link for link in links)
    assert any("glossary.html" in link for link in links)
    assert page.complaints == []


def test_a_formula_is_drawn(built, opened):
    """MathML, by the browser itself: a fraction stands higher than a line of text."""
    page = opened(built / "lessons" / "00_tiny.html")
    heights = [formula.bounding_box()["height"] for formula in page.locator(".formula mfrac").all()]
    assert heights
    assert min(heights) > 20


@pytest.mark.proof
@pytest.mark.parametrize(
    "name", sorted(str(path.relative_to(WHOLE)) for path in WHOLE.rglob("*.html") if "_static" not in path.parts)
)
def test_no_page_of_the_whole_site_has_a_serious_fault(opened, name):
    """After `make site`: every page, in both themes."""
    for scheme in ("light", "dark"):
        page = opened(WHOLE / name, scheme)
        assert page.complaints == [], scheme  # before axe, whose own reading of style sheets fails in a file
        assert serious_faults(page) == [], scheme
        page.context.close()
