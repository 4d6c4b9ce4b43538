"""The rules of the house: who imports whom, how long a module is, what is pinned, what must not be written."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.prose import offences

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "lessons_lib").rglob("*.py"))
QUIZZES = sorted((ROOT / "quizzes").rglob("*.py"))
BANK = sorted((ROOT / "quizzes" / "bank").glob("*.py"))
SITE = sorted((ROOT / "docs").glob("*.py"))
MODULES = LIBRARY + QUIZZES + SITE
MOST_LINES = 350
# Named in requirements.txt because they are run, not imported.
RUN_ONLY = {"jupyterlab", "ipykernel", "ruff", "pytest-xdist", "onnxscript"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imported(path: Path) -> set[str]:
    """Dotted names of all that a module imports, wherever the statement stands; relative imports made absolute."""
    package = path.relative_to(ROOT).parent.parts
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def importers(*targets: str) -> set[str]:
    """The modules that import one of these packages, or anything inside them."""
    return {
        name_of(path)
        for path in MODULES
        if any(name == target or name.startswith(target + ".") for name in imported(path) for target in targets)
    }


def tracked() -> list[Path]:
    """The files of the repository, as git sees them; all but ignored folders where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    skipped = {".git", ".venv", "workspace", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not skipped & set(path.relative_to(ROOT).parts)
        and not any(part.endswith(".egg-info") for part in path.parts)
    ]


# Imports go one way: notebooks -> quizzes -> lessons_lib.


def test_the_library_does_not_know_the_quizzes():
    assert not importers("quizzes") & {name_of(path) for path in LIBRARY}


def test_the_bank_does_not_know_the_grading():
    assert not importers("quizzes.grading") & {name_of(path) for path in BANK}


def test_widgets_are_known_to_two_modules():
    assert importers("ipywidgets") <= {"quizzes/notebook.py", "lessons_lib/widgets.py"}


def test_torch_quantization_is_known_to_one_module():
    assert importers("torch.ao", "torchao", "torch.quantization") <= {"lessons_lib/int8.py"}


def test_recipes_need_only_what_the_sandbox_has():
    roots = {name.split(".")[0] for name in imported(ROOT / "quizzes" / "recipes.py")}
    assert roots <= set(sys.stdlib_module_names) | {"numpy", "torch", "safetensors", "quizzes"}


def test_packages_import_at_once_and_load_nothing_heavy():
    code = "import sys, lessons_lib, quizzes; print(*sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    seconds = []
    for _ in range(5):
        before = os.times()
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        after = os.times()
        # The processor's time, which other work on the machine does not lengthen as it does the clock's.
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
        assert run.stdout.strip() == ""
    assert min(seconds) <= 0.3


def test_everything_is_formatted():
    run = subprocess.run([sys.executable, "-m", "ruff", "format", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, f"run `ruff format`: {run.stdout}"
    skips = [name_of(path) for path in ROOT.glob("[!.]*/**/*.py") if re.search(r"#\s*fmt:", path.read_text("utf-8"))]
    assert not skips, f"layout is ruff's alone; take the `fmt:` comments out of {skips}"


# Modules one can read in a sitting.


@pytest.mark.parametrize("path", [path for path in MODULES if path not in BANK], ids=name_of)
def test_module_is_short(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines: what second idea does it hold?"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) else ["the module itself"]
    holders = [tree] + [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for holder in holders:
        for node in holder.body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(node.name)
    assert not missing


# What the lists of packages promise.


def pins() -> tuple[dict[str, str], set[str]]:
    """Name -> version of every line of requirements.txt that counts here, and the names above the second heading."""
    versions, direct, headings = {}, set(), 0
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        headings += line.startswith("#")
        entry = line.partition("#")[0].strip()
        if entry and entry != "-e .":
            pin = Requirement(entry)
            assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), f"{entry} is not an exact version"
            if pin.marker is None or pin.marker.evaluate():
                versions[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
                if headings == 1:
                    direct.add(canonicalize_name(pin.name))
    return versions, direct


def needed_by(names: set[str], everywhere: bool) -> set[str]:
    """All that these packages pull in. everywhere: leave out what only some systems or processors need."""
    found, waiting = set(), [(name, ()) for name in names]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        for line in importlib.metadata.requires(name) or []:
            need = Requirement(line)
            of_a_system = need.marker and re.search("platform|os_name|implementation", str(need.marker))
            asked_for = not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
            if asked_for and not (everywhere and of_a_system):
                waiting.append((canonicalize_name(need.name), tuple(sorted(need.extras))))
    return {name for name, _ in found}


def extras() -> dict[str, str]:
    """Name -> version of what only the site and the tests in a browser need: the extras of pyproject.toml."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    found = [Requirement(line) for lines in groups.values() for line in lines]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in found), "give every extra its exact version"
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


def test_everything_is_pinned_and_nothing_is_idle():
    versions, direct = pins()
    missing = needed_by(direct, everywhere=True) - set(versions)
    assert not missing, f"add to requirements.txt: {sorted(missing)}"
    idle = set(versions) - needed_by(direct, everywhere=False)
    assert not idle, f"nothing needs these any more: {sorted(idle)}"
    missing = needed_by(set(extras()), everywhere=True) - set(versions) - set(extras())
    assert not missing, f"add to the extras of pyproject.toml: {sorted(missing)}"


def test_installed_packages_are_the_pinned_ones():
    versions = pins()[0] | extras()
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in versions}
    assert installed == versions


def test_every_direct_dependency_is_used():
    _, direct = pins()
    places = importlib.metadata.packages_distributions()
    files = [*MODULES, *(path for folder in ("tests", "notebooks", "data") for path in (ROOT / folder).rglob("*.py"))]
    roots = {name.split(".")[0] for path in files for name in imported(path)}
    used = {canonicalize_name(package) for root in roots for package in places.get(root, ())}
    assert direct - RUN_ONLY <= used, f"not imported anywhere: {sorted(direct - RUN_ONLY - used)}"
    own = {canonicalize_name(line.partition("==")[0].strip()) for line in data_packages()}
    foreign = used - direct - own - set(extras()) - {"model-compression-measured"}
    assert not foreign, f"imported, but missing at the top of requirements.txt: {sorted(foreign)}"


def data_packages() -> list[str]:
    lines = (ROOT / "data" / "packages.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def test_weights_and_texts_are_pinned_by_hash():
    for line in data_packages():
        assert re.fullmatch(r"[\w.-]+==[\w.]+(\s+--hash=sha256:[0-9a-f]{64})+\s*", line), line


def test_data_packages_are_the_installed_ones():
    for line in data_packages():
        name, _, rest = line.partition("==")
        assert importlib.metadata.version(name) == rest.split()[0]


# What must not be written anywhere.


def test_no_path_of_a_machine_in_the_repository():
    pattern = re.compile(r"(?<![\w.~-])/(?:work|root|Users|mnt)/|file:/{3}|[A-Z]:\\\\Users")
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{name_of(path)}: {match.group()}" for match in pattern.finditer(text)]
    assert not found


def test_pages_are_plain():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md"):
        assert not offences(page.read_text(encoding="utf-8")), page.name


def test_commands_of_the_readme_exist():
    """Every `course …` and `make …` of the two pages is a command or target that is there."""
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "CONTRIBUTING.md"))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", pages, flags=re.MULTILINE)) <= targets
    named = set(re.findall(r"(?:^|`)course ([a-z]+)", pages, flags=re.MULTILINE))
    shown = subprocess.run([sys.executable, "-m", "quizzes", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert named <= set(re.findall(r"[a-z]+", shown)), "course --help does not know them all"


def test_every_file_named_on_the_pages_exists():
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / target).exists(), f"{page} links {target}"


def test_lists_of_the_project_are_toml():
    for path in (ROOT / "pyproject.toml", ROOT / "notebooks" / "syllabus.toml", ROOT / "data" / "claims.toml"):
        tomllib.loads(path.read_text(encoding="utf-8"))
