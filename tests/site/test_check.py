"""The built site is read file by file: a dead link, a picture without words and anything from elsewhere is a fault."""

import pytest

from docs import check

CLEAN = {
    "index.html": '<link rel="stylesheet" href="_static/a.css"><script src="_static/a.js"></script>'
    '<h1 id="top">A</h1><a href="#top">up</a><a href="lessons/00_a.html#part-one">on</a>'
    '<a href="https://example.org/paper">a paper elsewhere</a>',
    "lessons/00_a.html": '<h2 id="part-one">B</h2><div class="cell_output docutils container"></div>'
    '<img alt="One grey pixel." src="data:image/png;base64,AAAA"><a href="../index.html">back</a>',
    "_static/a.css": "@font-face{src:url(a.woff2)} p{background:url('data:image/png;base64,AAAA')}",
    "_static/template.html": '<script src="{{ pathto(1) }}"></script>',
    "_static/a.js": "// see https://example.org\nconst page = 'https://example.org/help'; fetch('searchindex.js')",
}


def site(folder, **changes):
    """The clean site, with other text in some of its files."""
    for name, text in CLEAN.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(changes.get(name, text))
    return folder


def test_a_clean_site_has_no_fault(tmp_path):
    assert check.faults(site(tmp_path)) == []


@pytest.mark.parametrize(
    ("page", "old", "new", "fault"),
    [
        ("index.html", "lessons/00_a.html#part-one", "lessons/01_b.html", "dead link lessons/01_b.html"),
        ("index.html", "#part-one", "#part-two", "dead link lessons/00_a.html#part-two"),
        ("index.html", "#top", "#bottom", "dead link #bottom"),
        ("index.html", "lessons/00_a.html#part-one", "../outside.html", "dead link ../outside.html"),
        ("index.html", "_static/a.css", "_static/b.css", "dead link _static/b.css"),
        (
            "index.html",
            "_static/a.js",
            "https://cdn.example.org/require.js",
            "elsewhere: https://cdn.example.org/require.js",
        ),
        ("index.html", "_static/a.css", "//fonts.example.org/css", "comes from elsewhere: //fonts.example.org/css"),
        (
            "index.html",
            "<h1",
            "<script>import('https://example.org/x.js')</script><h1",
            "elsewhere: https://example.org/x.js",
        ),
        ("index.html", "<h1", "<style>@import url(https://example.org/x.css);</style><h1", "https://example.org/x.css"),
        (
            "index.html",
            "<h1",
            '<p style="background:url(http://example.org/x.png)"></p><h1',
            "http://example.org/x.png",
        ),
        (
            "_static/a.css",
            "a.woff2",
            "https://fonts.example.org/a.woff2",
            "elsewhere: https://fonts.example.org/a.woff2",
        ),
        ("_static/a.js", "fetch('", "fetch('https://example.org/", "elsewhere: https://example.org/searchindex.js"),
        ("lessons/00_a.html", "One grey pixel.", " ", "a picture without alternative text"),
        ("lessons/00_a.html", 'alt="One grey pixel."', "", "a picture without alternative text"),
        (
            "lessons/00_a.html",
            "data:image/png;base64,AAAA",
            "http://example.org/a.png",
            "elsewhere: http://example.org/a.png",
        ),
        ("lessons/00_a.html", "cell_output", "cell_input", "a lesson without outputs"),
    ],
)
def test_each_fault_is_found(tmp_path, page, old, new, fault):
    assert old in CLEAN[page]
    found = check.faults(site(tmp_path, **{page: CLEAN[page].replace(old, new)}))
    assert len(found) == 1
    assert found[0].startswith(f"{page}: ")
    assert fault in found[0]


def test_an_empty_folder_is_no_site(tmp_path):
    with pytest.raises(ValueError, match="holds no page"):
        check.faults(tmp_path)
