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

from docs.pages import ROOMS
from tests.prose import offences

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "lessons_lib").rglob("*.py"))
QUIZZES = sorted((ROOT / "quizzes").rglob("*.py"))
BANK = sorted((ROOT / "quizzes" / "bank").glob("*.py"))
SITE = sorted((ROOT / "docs").glob("*.py"))
MODULES = LIBRARY + QUIZZES + SITE
MOST_LINES, FEWEST_LINES = 350, 40
MOST_MODULES = 13
SOURCES = sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))
LESSONS = tomllib.loads((ROOT / "notebooks" / "syllabus.toml").read_text(encoding="utf-8"))["lessons"]
# Rooms that every lesson may use; then those of each part of the course, by the syllabus.
SERVICE_ROOMS = {"files", "measure", "show", "training", "tasks", "studies"}
PART_ROOMS = {
    "Measure first": (),
    "The arithmetic": ("arithmetic",),
    "Distillation": ("distillation",),
    "INT8": ("int8",),
    "Four bits": ("four_bits",),
    "Pruning": ("pruning",),
    "Production": ("inference", "serving", "capstone"),
}
# Methods know the arithmetic and the service rooms, not one another; a pair that does stands here with its reason.
METHODS = {"distillation", "int8", "four_bits", "pruning"}
METHOD_PAIRS: dict[tuple[str, str], str] = {}
# Words that name a mood, a moment or a pun and not what is inside.
NOT_NAMES = {
    "nursery",
    "kept",
    "found",
    "made",
    "said",
    "told",
    "utils",
    "util",
    "helpers",
    "misc",
    "stuff",
    "new",
    "old",
}
MOMENTS = {"found", "made", "said", "told", "shown", "kept"}
TWO_NAMES = [{"fourbit", "linear4bit", "four_bits"}, {"progress", "bars"}, {"onnx_check", "onnx_checker"}]
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


# Imports go one way: notebooks -> quizzes -> lessons_lib. The library's rooms stand in order.


def room_of(name: str) -> str | None:
    """The room of lessons_lib that a dotted name lies in; None for what lies in none."""
    package, _, rest = name.partition(".")
    room = rest.partition(".")[0]
    return room if package == "lessons_lib" and room in ROOMS else None


def rooms_of(path: Path) -> set[str]:
    """The rooms of lessons_lib that a module imports from."""
    return {room for name in imported(path) if (room := room_of(name))}


def too_deep(path: Path) -> set[str]:
    """The rooms below its own that a module of the library imports from."""
    own = path.relative_to(ROOT / "lessons_lib").parts[0]
    return {room for room in rooms_of(path) if own in ROOMS and ROOMS.index(room) > ROOMS.index(own)}


@pytest.mark.parametrize("path", [path for path in LIBRARY if path.parent.name in ROOMS], ids=name_of)
def test_a_room_builds_on_those_above_it(path):
    assert not too_deep(path), f"{name_of(path)} imports from {too_deep(path)}, which stand below it in ROOMS"
    own = path.parent.name
    others = rooms_of(path) & METHODS - {own} if own in METHODS else set()
    allowed = {other for room, other in METHOD_PAIRS if room == own}
    assert others <= allowed, f"{own} knows {others}: name the pair in METHOD_PAIRS and why, or move what both need up"


def test_studies_are_known_to_lessons_commands_and_preparation_alone():
    known = importers("lessons_lib.studies")
    allowed = {"lessons_lib/prepare.py", *(name for name in known if name.startswith("lessons_lib/studies/"))}
    assert known <= allowed | {name for name in known if name.startswith("quizzes/commands/")}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_lesson_imports_from_its_part_s_rooms_and_earlier_ones(source):
    part = next(lesson["part"] for lesson in LESSONS if lesson["name"] == source.stem)
    parts = list(dict.fromkeys(lesson["part"] for lesson in LESSONS))
    allowed = SERVICE_ROOMS | {room for earlier in parts[: parts.index(part) + 1] for room in PART_ROOMS[earlier]}
    assert rooms_of(source) <= allowed, f"the part {part!r} has the rooms {sorted(allowed)}"


def test_every_part_has_its_rooms():
    assert set(PART_ROOMS) == {lesson["part"] for lesson in LESSONS}
    rooms = {room for rooms in PART_ROOMS.values() for room in rooms}
    assert SERVICE_ROOMS | rooms == {path.name for path in (ROOT / "lessons_lib").iterdir() if path.name in ROOMS}


INSIDE = sorted((ROOT / "quizzes" / "inside").glob("[!_]*.py"))
# Beside the standard library; each kind of sandbox has a part of these.
INSIDE_MAY = {"numpy", "torch", "safetensors", "onnx", "onnxruntime", *(path.stem for path in INSIDE)}


@pytest.mark.parametrize("path", INSIDE, ids=name_of)
def test_what_runs_inside_needs_only_what_the_sandbox_has(path):
    roots = {name.removeprefix("quizzes.inside").lstrip(".").split(".")[0] for name in imported(path)} - {""}
    foreign = roots - set(sys.stdlib_module_names) - INSIDE_MAY
    assert not foreign, f"{name_of(path)} imports {sorted(foreign)}"


def test_the_library_does_not_know_the_quizzes():
    assert not importers("quizzes") & {name_of(path) for path in LIBRARY}


def test_the_bank_knows_neither_display_nor_grading():
    assert not importers("quizzes.grading", "quizzes.display") & {name_of(path) for path in BANK}


def test_the_display_knows_no_other_room():
    names = {name for path in QUIZZES if path.parent.name == "display" for name in imported(path)}
    assert {name for name in names if name.startswith("quizzes.") and not name.startswith("quizzes.display")} == set()


@pytest.mark.parametrize(
    ("packages", "modules"),
    [
        (("ipywidgets",), {"quizzes/display/notebook.py", "lessons_lib/show/widgets.py"}),
        (("torch.ao", "torchao", "torch.quantization"), {"lessons_lib/int8/torch_ao.py"}),
        (("peft", "bitsandbytes"), {"lessons_lib/four_bits/libraries.py"}),
    ],
)
def test_a_package_that_is_compared_with_is_known_to_one_module(packages, modules):
    assert importers(*packages) <= modules


TASK_NAMES = {"classifier", "translator", "topics"}


def choices_by_task(source: str) -> list[int]:
    """The lines that compare something with a task's name: what a Task is there to spare."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare | ast.MatchValue)
        and any(isinstance(part, ast.Constant) and part.value in TASK_NAMES for part in ast.walk(node))
    ]


def test_a_choice_by_a_task_s_name_is_seen():
    assert choices_by_task("y = 1 if task == 'classifier' else 2") == [1]
    assert choices_by_task("match task:\n    case 'topics':\n        pass") == [2]
    assert choices_by_task("y = {'classifier': 1}[task]") == []


@pytest.mark.parametrize("path", [path for path in LIBRARY + QUIZZES if path not in BANK], ids=name_of)
def test_nothing_is_chosen_by_a_task_s_name(path):
    if not name_of(path).startswith(("lessons_lib/tasks/", "quizzes/models/")):
        assert choices_by_task(path.read_text(encoding="utf-8")) == []


# Names.


def test_no_module_or_room_has_the_name_of_something_that_its_package_exports():
    import quizzes

    inside = {path.stem for path in (ROOT / "quizzes").iterdir()}
    assert not inside & set(quizzes.__all__), "the module would win: `from quizzes import ...` gives it"


def test_a_public_class_has_one_name_in_the_repository():
    places: dict[str, list[str]] = {}
    for path in [path for path in MODULES if path not in BANK]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name_of(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_called_what_the_field_calls_it(path):
    words = set(re.split(r"[/_.]", name_of(path).removesuffix(".py")))
    assert not words & NOT_NAMES, f"{sorted(words & NOT_NAMES)}: a mood or a pun; use the field's own word"
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    assert first[:1].isupper() or first[:1] in "`", f"{name_of(path)}: say in the first line what one finds here"


@pytest.mark.parametrize("path", [path for path in MODULES if path not in BANK], ids=name_of)
def test_a_variable_says_the_thing_and_not_the_moment(path):
    """A database column or a dataclass field may bear such a name; a variable or a parameter may not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    fields = {id(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    names = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields
    }
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert not names & MOMENTS, f"{name_of(path)}: {sorted(names & MOMENTS)} say when, not what"


def test_nothing_has_two_names():
    words = [word for path in MODULES for word in name_of(path).removesuffix(".py").split("/")]
    found = [pair for pair in TWO_NAMES if len({name for name in words if name in pair}) > 1]
    assert not found, f"two names for one thing: {found}"


# Rooms one can know by heart.


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=name_of)
def test_a_room_is_small(folder):
    modules = list(folder.glob("[!_]*.py"))
    top = {"lessons_lib": 3, "quizzes": 4}.get(name_of(folder))
    if top is None and folder.name in ("studies", "language", "bank", "docs"):
        return
    assert len(modules) <= (top or MOST_MODULES), f"{name_of(folder)} holds {len(modules)} modules"


def test_tests_mirror_the_rooms():
    """A test file of the two packages stands in the folder of its room, and is called after a module of it."""
    for package in ("lessons_lib", "quizzes"):
        for path in sorted((ROOT / "tests" / package).rglob("test_*.py")):
            folder = ROOT / path.parent.relative_to(ROOT / "tests")
            stems = {item.stem for item in folder.glob("*.py")} if folder.is_dir() else set()
            name = path.stem.removeprefix("test_")
            assert any(name == stem or name.startswith(f"{stem}_") for stem in stems) or name == folder.name, (
                f"{name_of(path)} mirrors no module of {folder.relative_to(ROOT)}"
            )


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
def test_module_can_be_read_in_a_sitting(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines: what second idea does it hold?"
    reason = re.search(r"^# Short: .+", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert lines >= FEWEST_LINES or path.stem.startswith("__") or reason, (
        f"{name_of(path)} has {lines} lines: join it to its neighbour, or say why in a line `# Short: ...`"
    )


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


def test_contributing_names_a_file_for_each_thing_that_one_may_want():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text[text.index("## I want to ...") :].partition("\n## A lesson")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 12
    for row in rows:
        files = [name for name in re.findall(r"`([\w/.]+)`", row) if "/" in name and "NAME" not in name]
        assert files or "`course " in row or "NAME.py" in row, f"{row} names no file"
        assert [name for name in files if not (ROOT / name).exists()] == []


def test_lists_of_the_project_are_toml():
    for path in (ROOT / "pyproject.toml", ROOT / "notebooks" / "syllabus.toml", ROOT / "data" / "claims.toml"):
        tomllib.loads(path.read_text(encoding="utf-8"))
