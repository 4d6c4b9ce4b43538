"""What a built site must hold, read from its files: no dead link, nothing from elsewhere, words for every picture."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes by which a page loads something. An <a href> to another site is a link, and loads nothing.
LOADS = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("audio", "src"),
    ("object", "data"),
    ("embed", "src"),
    ("image", "href"),
    ("use", "href"),
}
IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+(?:url\(\s*)?)["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
IN_SCRIPT = re.compile(
    r"""(?:\bimport\s*\(?|\bfrom|\bimportScripts\s*\(|\.src\s*=|\bfetch\s*\()\s*["'`]"""
    r"""((?:https?:)?//[^"'`]+)"""
)


class Page(HTMLParser):
    """The links, anchors, pictures and inline styles and scripts of one page."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.wordless: list[str] = []
        self.outputs = 0
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Read one element."""
        attributes = dict(attrs)
        self._inside = tag if tag in ("style", "script") else ""
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        self.loads += [attributes[name] for place, name in LOADS if place == tag and attributes.get(name)]
        self.loads += IN_STYLE.findall(attributes.get("style") or "")
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "img" and not (attributes.get("alt") or "").strip():
            self.wordless.append((attributes.get("src") or "")[:80])
        self.outputs += "cell_output" in (attributes.get("class") or "").split()

    def handle_endtag(self, tag):
        """Leave an element."""
        self._inside = ""

    def handle_data(self, data):
        """Read the text of a style or script."""
        if self._inside == "style":
            self.loads += IN_STYLE.findall(data)
        elif self._inside == "script":
            self.loads += IN_SCRIPT.findall(data)


def faults(site: Path) -> list[str]:
    """Everything that is wrong with a built site, as sentences. Raises ValueError for one without pages."""
    texts = [path for path in sorted(site.rglob("*.html")) if site / "_static" not in path.parents]  # its templates
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in texts}
    if not pages:
        raise ValueError(f"{site} holds no page; build the site first")
    problems = []
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        targets = [*page.links, *(load for load in page.loads if not _outside(load))]
        problems += [f"{name}: dead link {link}" for link in targets if _dead(link, path, site, pages)]
        problems += [f"{name}: comes from elsewhere: {load}" for load in page.loads if _outside(load)]
        problems += [f"{name}: a picture without alternative text: {image}" for image in page.wordless]
        if path.parent == site / "lessons" and not page.outputs:
            problems.append(f"{name}: a lesson without outputs")
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.js")]):
        pattern = IN_STYLE if path.suffix == ".css" else IN_SCRIPT
        outside = pattern.findall(path.read_text(encoding="utf-8"))
        problems += [f"{path.relative_to(site).as_posix()}: comes from elsewhere: {load}" for load in outside]
    return problems


def _outside(target: str) -> bool:
    return target.startswith("//") or urlsplit(target).scheme in ("http", "https", "ftp")


def _dead(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link inside the site leads nowhere; links to other sites are not followed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file() or not target.is_relative_to(site.resolve()):
        return True
    anchor = unquote(parts.fragment)
    return bool(anchor) and target.suffix == ".html" and anchor not in pages[target].anchors
