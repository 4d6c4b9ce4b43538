"""Build the site: run every lesson that is ready, make the pages, let Sphinx write them, look at what came out.

python -m docs.build                everything, into site/html
python -m docs.build --only 00 01   these lessons alone, while you work on the site
python -m docs.build --again        the pages anew, from the lessons as they ran last
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from docs import check, execute, pages
from docs.execute import Failed
from notebooks import generate

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
MOST_FAULTS = 40  # lines of what is wrong; the rest is counted


@dataclass
class Site:
    """Where a site is built, and from what. lessons: the entries of the syllabus, those to come included."""

    folder: Path = ROOT / "site"
    notebooks: Path = generate.NOTEBOOKS
    lessons: list[dict] = field(default_factory=generate.lessons)
    library: Path = ROOT / "lessons_lib"

    @property
    def executed(self) -> Path:
        """The lessons with their outputs, and run.json."""
        return self.folder / "executed"

    @property
    def html(self) -> Path:
        """What is handed out."""
        return self.folder / "html"


def run(site: Site, only: list[str], report=print) -> None:
    """Execute the lessons that are ready, or those of the numbers in `only`. Raises Failed for others."""
    ready = [entry["name"] for entry in site.lessons if entry["status"] == "ready"]
    unknown = set(only) - {name[:2] for name in ready}
    if unknown:
        raise Failed(f"no lesson {', '.join(sorted(unknown))} is ready; ready are {', '.join(n[:2] for n in ready)}")
    chosen = [site.notebooks / f"{name}.ipynb" for name in ready if not only or name[:2] in only]
    _fresh(site.executed)
    record = execute.execute_all(chosen, site.executed, report)
    (site.executed / "run.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def write(site: Site) -> Path:
    """Make the folder that Sphinx reads: the pages of docs/, the lessons as pages, and what is generated from data."""
    run_file = site.executed / "run.json"
    if not run_file.exists():
        raise Failed("no lesson has run yet; leave --again out")
    ran, source = json.loads(run_file.read_text(encoding="utf-8")), _fresh(site.folder / "source")
    for page in [*DOCS.glob("*.md"), *DOCS.glob("*.png")]:
        shutil.copyfile(page, source / page.name)
    for folder in {page.parent for page in DOCS.glob("*/*.png")}:
        shutil.copytree(folder, source / folder.name)
    for entry in site.lessons:
        if entry["name"] in ran["seconds"]:
            _write_lesson(site, entry, ran["seconds"], source / "lessons")
    rooms = pages.rooms(site.library)
    for name in pages.module_names(rooms):
        _write(source / "api" / f"{name}.rst", pages.module_page(site.library.name, name))
    parts = {
        "map": pages.lesson_map(site.lessons, set(ran["seconds"])),
        "claims": pages.claims(ran),
        "machine": pages.machine(ran),
        "times": pages.times(ran, site.lessons),
        "modules": pages.module_map(rooms),
        "workshops": pages.workshops(site.lessons),
    }
    for name in ("README.md", "CONTRIBUTING.md", "data/README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        parts[name.removesuffix(".md").replace("/", "_").lower()] = pages.repository_page(text)
    for name, text in parts.items():
        _write(source / "generated" / f"{name}.md", text)
    return source


def _write_lesson(site: Site, entry: dict, seconds: dict[str, float], folder: Path) -> None:
    notebook = nbformat.read(site.executed / f"{entry['name']}.ipynb", as_version=4)
    pages.lesson_page(notebook, entry, seconds)
    _write(folder / f"{entry['name']}.ipynb", nbformat.writes(notebook))


def render(site: Site, source: Path) -> None:
    """Let Sphinx write the pages, and look at them. Raises Failed for a warning, a dead link, a wordless picture."""
    _fresh(site.html)
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-W",
        "--keep-going",
        "-q",
        "-c",
        str(DOCS),
        "-d",
        str(site.folder / "doctrees"),
        str(source),
        str(site.html),
    ]
    _fresh(site.folder / "doctrees")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"Sphinx warns:\n{done.stderr.strip()}")
    faults = check.faults(site.html)
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        raise Failed("\n".join(["the built site has faults:", *faults[:MOST_FAULTS], *more]))


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def main() -> int:
    """Build; the exit status."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--only", nargs="+", default=[], metavar="NN", help="run and show these lessons alone")
    options.add_argument("--again", action="store_true", help="run nothing; take the lessons as they ran last")
    chosen, site, begin = options.parse_args(), Site(), time.perf_counter()
    try:
        if not chosen.again:
            run(site, chosen.only)
        render(site, write(site))
    except Failed as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    files = [path for path in site.html.rglob("*") if path.is_file()]
    count, size = sum(path.suffix == ".html" for path in files), sum(path.stat().st_size for path in files) / 1e6
    print(f"{count} pages, {size:.0f} MB, in {time.perf_counter() - begin:.0f} s: {site.html / 'index.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
