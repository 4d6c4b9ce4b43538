"""Percent source in, notebook and map of lessons out."""

import json

import pytest

SOURCE = """# %% [markdown]
# # A title

# %% tags=["imports"]
import torch

# %% exercise="stage_plan"

# %%
torch.ones(1)

# %%
torch.ones(1)
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "07_small.py"
    path.write_text(SOURCE)
    return path


def test_notebook_holds_what_the_source_holds(generate, source):
    made = json.loads(generate.notebook(source))
    assert made["metadata"]["course"] == {"lesson": "07"}
    assert made["metadata"]["kernelspec"]["name"] == "python3"
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown", "code", "code", "code", "code"]
    assert made["cells"][1]["metadata"]["tags"] == ["imports"]
    assert made["cells"][2]["metadata"]["exercise"] == "stage_plan"
    stub, check = made["cells"][2]["source"][:-2], made["cells"][2]["source"][-1]
    assert stub[0] == "def stage_plan(n_teacher: int, n_student: int) -> list[list[int]]:\n"
    assert (stub[-1], check) == ("    raise NotImplementedError\n", "quiz.check(stage_plan)")
    assert all(cell["outputs"] == [] for cell in made["cells"] if cell["cell_type"] == "code")


def test_notebook_is_the_same_every_time(generate, source):
    assert generate.notebook(source) == generate.notebook(source)


def test_cell_ids_are_unique_and_survive_a_new_cell(generate, source):
    before = [cell["id"] for cell in json.loads(generate.notebook(source))["cells"]]
    assert len(set(before)) == len(before)
    source.write_text(SOURCE.replace("# %% exercise", "# %%\n1 + 1\n\n# %% exercise"))
    after = [cell["id"] for cell in json.loads(generate.notebook(source))["cells"]]
    assert [name for name in after if name in before] == before
    assert len(after) == len(before) + 1


def test_map_links_lessons_that_are_here_and_marks_those_to_come(generate):
    rows = [
        {"name": "00_a", "part": "One", "title": "A", "minutes": 5, "objectives": ["see a"], "status": "ready"},
        {"name": "01_b", "part": "One", "title": "B", "minutes": 7, "objectives": ["see b"], "status": "coming"},
    ]
    lines = generate.lesson_map(rows).splitlines()
    assert lines[2] == "| One | [00 A](notebooks/00_a.ipynb) | 5 | see a |"
    assert lines[3] == "|  | 01 B · coming | 7 | see b |"


def test_readme_keeps_everything_but_the_map(generate):
    page = f"before\n{generate.MAP_BEGINS}old\n{generate.MAP_ENDS}\nafter\n"
    written = generate.readme(page, [])
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "old" not in written
    with pytest.raises(ValueError, match="no place for the map"):
        generate.readme("nothing here", [])


def test_working_copies_are_never_overwritten(workspace, tmp_path):
    lessons, mine = tmp_path / "notebooks", tmp_path / "workspace"
    lessons.mkdir()
    (lessons / "00_a.ipynb").write_text("new")
    (lessons / "generate.py").write_text("not a lesson")
    assert [path.name for path in workspace.copy_new(lessons, mine)] == ["00_a.ipynb"]
    (mine / "00_a.ipynb").write_text("my answers")
    (lessons / "01_b.ipynb").write_text("newer")
    assert [path.name for path in workspace.copy_new(lessons, mine)] == ["01_b.ipynb"]
    assert (mine / "00_a.ipynb").read_text() == "my answers"


def test_jupyterlab_asks_nobody_on_the_network_and_has_no_buttons_for_instructors(workspace, tmp_path):
    buttons = tmp_path / "share/jupyter/labextensions/@jupyter/nbgrader/package.json"
    server = tmp_path / "etc/jupyter/jupyter_server_config.d/nbgrader.json"
    for file in (buttons, server):
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    for _ in range(2):
        workspace.ready_jupyterlab(tmp_path)
        assert not buttons.parent.exists() and not server.exists()
        settings = json.loads((tmp_path / "share/jupyter/lab/settings/overrides.json").read_text(encoding="utf-8"))
        assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
