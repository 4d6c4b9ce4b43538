"""What comes in from the real world: layouts, the zips of Canvas and Moodle, and whatever stands for a notebook."""

import io
import json
import os
import stat
import struct
import zipfile

import nbformat
import pytest

from quizzes.grading.gradebook.class_file import ClassFile, Person
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.intake import layouts
from quizzes.grading.intake.hand_in import hand_ins
from quizzes.grading.intake.names import folder_name, place
from quizzes.grading.intake.submission import Unreadable, parse
from tests.quizzes.grading.class_of_tests import cell, data, notebook, write

SOLVED = cell("def soften(logits, T):\n    return (logits / T).softmax(-1)", "soften")
STUB = cell("def soften(logits, T):\n    raise NotImplementedError", "soften")


def taken(root, **options) -> dict:
    """Every hand-in, by student; where a student has several, a list."""
    found = {}
    for student, files in layouts.students(root, **options).items():
        items = hand_ins(student, files)
        found[student] = items[0] if len(items) == 1 else items
    return found


def zipped(path, members: dict, **options):
    """A zip with these members; a value is bytes, or (bytes, attributes of its ZipInfo)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members.items():
            content, attributes = content if isinstance(content, tuple) else (content, {})
            info = zipfile.ZipInfo(name, (2026, 11, 20, 12, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.writestr(info, content)
    return path


def solved(**options) -> bytes:
    """A notebook of lesson 03 with one exercise solved."""
    return data(SOLVED, lesson="03", **options)


# Whose it is.


@pytest.mark.parametrize(
    ("parts", "student", "file", "canvas_id", "late"),
    [
        (("leeann_4711_815_03_x.ipynb",), "leeann_4711", "03_x.ipynb", "4711", False),
        (("leeann_LATE_4711_815_03_x-2.ipynb",), "leeann_4711", "03_x-2.ipynb", "4711", True),
        (("o_haraé_12_34_5_6_homework.ipynb",), "o_haraé_12", "5_6_homework.ipynb", "12", False),
        (("anon_a1B2c_815_03_x.ipynb",), "anon_a1B2c", "03_x.ipynb", "", False),
        (("Ann Lee_77_assignsubmission_file_", "03_x.ipynb"), "Ann Lee", "03_x.ipynb", "", False),
        (("Ann Lee_77_assignsubmission_file_03_x.ipynb",), "Ann Lee", "03_x.ipynb", "", False),
        (("Ann Lee_77_assignsubmission_file", "deep", "03.ipynb"), "Ann Lee", "deep/03.ipynb", "", False),
        (("Group A-Ann_77_assignsubmission_file_", "x", "03.ipynb"), "Group A-Ann", "x/03.ipynb", "", False),
    ],
)
def test_names_of_canvas_and_moodle_are_read(parts, student, file, canvas_id, late):
    found = place(parts)
    assert (found.student, found.file, found.canvas_id, found.late) == (student, file, canvas_id, late)


def test_other_names_are_left_to_their_folders():
    assert place(("ann", "03_x.ipynb")) is None
    assert place(("03_12_x.ipynb",)) is None


@pytest.mark.parametrize("unpacked", [False, True])
def test_the_downloads_of_canvas_and_moodle_are_understood(tmp_path, unpacked):
    downloads = {
        "canvas": {
            "leeann_1_10_03_x.ipynb": solved(),
            "leeann_2_11_03_x.ipynb": data("x = 1", lesson="03"),
            "zoe_LATE_3_12_03_x.ipynb": solved(),
            "max_4_13_report.pdf": b"%PDF",
        },
        "moodle": {
            "Ann Lee_1_assignsubmission_file_/03_x.ipynb": solved(),
            "Ann Lee_2_assignsubmission_file_/03_x.ipynb": solved(),
            "Zoë_3_assignsubmission_file_03_x.ipynb": solved(),
            "Max_4_assignsubmission_onlinetext_/onlinetext.html": b"<p>",
        },
    }
    students = {
        "canvas": ["leeann_1", "leeann_2", "max_4", "zoe_3"],
        "moodle": ["Ann Lee (1)", "Ann Lee (2)", "Max", "Zoë"],
    }
    for system, members in downloads.items():
        path = zipped(tmp_path / f"{system}.zip", members)
        if unpacked:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(tmp_path / system)
            path = tmp_path / system
        found = taken(path)
        assert sorted(found) == students[system]
        missing = found[students[system][2]]
        assert missing.problem.startswith("no notebook handed in; there is ")
        assert [item.lesson for item in found.values() if not item.problem] == ["03"] * 3
    assert taken(tmp_path / ("canvas" if unpacked else "canvas.zip"))["zoe_3"].late


def test_nobody_speaks_for_another(tmp_path):
    members = {
        "ann/bob_12_34_03_x.ipynb": solved(),
        "ann/Bob_1_assignsubmission_file_/03_x.ipynb": solved(),
        "ann/submitted/bob/03_x.ipynb": solved(),
        "bob/04_x.ipynb": data("x = 1", lesson="04"),
        "README.txt": b"x",
    }
    path = zipped(tmp_path / "class.zip", members)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "class")
    for root in (path, tmp_path / "class"):
        found = taken(root)
        assert (sorted(found), found["bob"].lesson) == (["ann", "bob"], "04")
        assert len(found["ann"].others) == 2


def test_moodle_numbers_people_anew_in_each_assignment(tmp_path):
    zipped(
        tmp_path / "class/lesson03.zip",
        {
            "Ann Lee_1_assignsubmission_file_/03_x.ipynb": solved(),
            "Ann Lee_2_assignsubmission_file_/03_x.ipynb": solved(),
            "Bob_3_assignsubmission_file_/03_x.ipynb": solved(),
        },
    )
    zipped(tmp_path / "class/lesson04.zip", {"Bob_7_assignsubmission_file_/04_x.ipynb": data("x", lesson="04")})
    found = taken(tmp_path / "class")
    assert sorted(found) == ["Ann Lee (1)", "Ann Lee (2)", "Bob"]
    assert [item.lesson for item in found["Bob"]] == ["03", "04"]


def test_a_folder_of_zips_is_one_class(tmp_path):
    zipped(tmp_path / "class/lesson03.zip", {"leeann_1_10_03_x.ipynb": solved()})
    zipped(tmp_path / "class/lesson04.zip", {"leeann_1_20_04_x.ipynb": data("x = 1", lesson="04")})
    zipped(tmp_path / "class/Zoë.zip", {"03_x.ipynb": solved()})
    found = taken(tmp_path / "class")
    assert [item.lesson for item in found["leeann_1"]] == ["03", "04"]
    assert found["Zoë"].lesson == "03"


def test_a_zip_of_folders_and_nbgraders_are_understood(tmp_path):
    for top in ("", "class/", "course/submitted/"):
        path = zipped(
            tmp_path / "x.zip",
            {
                f"{top}ann/03_x.ipynb": solved(),
                f"{top}bob/ps1/03_x.ipynb": solved(),
                f"{top}README.txt": b"x",
                "course.txt": b"x",
                "__MACOSX/ann/._03_x.ipynb": b"x",
            },
        )
        assert sorted(taken(path)) == ["ann", "bob"]


def test_nbgraders_time_stamp_says_when(tmp_path):
    write(tmp_path / "submitted/ann/ps1/03_x.ipynb", SOLVED, lesson="03")
    (tmp_path / "submitted/ann/ps1/timestamp.txt").write_text("2026-11-20 10:30:00.5 UTC")
    assert taken(tmp_path)["ann"].handed_in.isoformat() == "2026-11-20T10:30:00.500000+00:00"
    (tmp_path / "submitted").rename(tmp_path / "class")  # in another layout a student may have written it
    os.utime(tmp_path / "class/ann/ps1/03_x.ipynb", (1e9, 1e9))
    assert taken(tmp_path / "class")["ann"].handed_in.isoformat() == "2001-09-09T01:46:40+00:00"


@pytest.mark.parametrize("below", ["sub", "03_y.ipynb"])
def test_a_time_stamp_of_the_students_own_says_nothing(tmp_path, below):
    ours, theirs = tmp_path / "submitted/ann/ps1", tmp_path / "submitted/ann/ps1" / below
    write(theirs / "03_x.ipynb", SOLVED, lesson="03")
    (theirs / "timestamp.txt").write_text("2001-01-01 00:00:00 UTC")
    os.utime(theirs / "03_x.ipynb", (1.7e9, 1.7e9))
    (file,) = [item for item in layouts.students(tmp_path)["ann"] if item.name == "03_x.ipynb"]
    assert file.changed.isoformat() == "2023-11-14T22:13:20+00:00"
    (ours / "timestamp.txt").write_text("2026-11-20 10:30:00 UTC")
    (file,) = [item for item in layouts.students(tmp_path)["ann"] if item.name == "03_x.ipynb"]
    assert file.changed.isoformat() == "2026-11-20T10:30:00+00:00"


def test_a_folder_named_as_a_notebook_is_no_assignment(tmp_path):
    folder = tmp_path / "submitted/ann/03_x.ipynb"
    folder.mkdir(parents=True)
    (folder / "timestamp.txt").write_text("2001-01-01 00:00:00 UTC")
    os.utime(folder, (1.7e9, 1.7e9))
    assert taken(tmp_path)["ann"].handed_in.isoformat() == "2023-11-14T22:13:20+00:00"


@pytest.mark.parametrize("text", ["0001-01-01 00:00:00+14:00", "9999-12-31 23:59:59-12:00", "yesterday"])
def test_a_time_stamp_that_is_no_time_is_left_aside(tmp_path, text):
    path = write(tmp_path / "submitted/ann/ps1/03_x.ipynb", SOLVED, lesson="03")
    (path.parent / "timestamp.txt").write_text(text)
    os.utime(path, (1.7e9, 1.7e9))
    found = taken(tmp_path)["ann"]
    assert found.handed_in.isoformat() == "2023-11-14T22:13:20+00:00"
    book = Gradebook.in_folder(tmp_path / "out")
    assert book.open("ann", "03", "x", "0" * 64, True, handed_in=found.handed_in).handed_in.startswith("2023-11-14")
    book.close()


@pytest.mark.parametrize("unpacked", [False, True])
def test_of_a_download_from_canvas_only_the_mark_is_known(tmp_path, unpacked):
    root = zipped(
        tmp_path / "class.zip",
        {
            "leeann_LATE_1_10_03_x.ipynb": solved(),
            "anon_a1B2c_11_03_x.ipynb": solved(),
            "anon_LATE_Zz9y8_12_03_x.ipynb": solved(),
            "Bob_3_assignsubmission_file_03_x.ipynb": solved(),
        },
    )
    if unpacked:
        with zipfile.ZipFile(root) as archive:
            archive.extractall(tmp_path / "class")
        root = tmp_path / "class"
    found = taken(root)
    known = {student: (item.handed_in is not None, item.late) for student, item in found.items()}
    assert known == {
        "leeann_1": (False, True),
        "anon_a1B2c": (False, False),
        "anon_Zz9y8": (False, True),
        "Bob": (True, False),
    }


def test_a_broken_zip_makes_no_lesson(tmp_path):
    for name in ("42_answers.zip", "03_answers.zip"):
        (tmp_path / "class" / name[:2]).mkdir(parents=True)
        (tmp_path / "class" / name[:2] / name).write_bytes(b"PK no zip at all")
    found = taken(tmp_path / "class")
    assert {student: item.lesson for student, item in found.items()} == {"42": "", "03": "03"}
    assert found["42"].problem == "42_answers.zip is not a zip, or one that was cut off"


def test_a_student_may_hand_in_a_zip(tmp_path):
    zipped(tmp_path / "class/ann/work.zip", {"hw/03_x.ipynb": solved(), "hw/data.csv": b"1"})
    (tmp_path / "class/bob").mkdir()
    (tmp_path / "class/bob/03_work.zip").write_bytes(b"PK no zip at all")
    zipped(tmp_path / "class/cyd/empty.zip", {"hw/data.csv": b"1"})
    found = taken(tmp_path / "class")
    assert found["ann"].notebook == "ann/work.zip/hw/03_x.ipynb"
    assert found["ann"].submission is not None
    assert (found["bob"].lesson, found["bob"].problem) == ("03", "03_work.zip is not a zip, or one that was cut off")
    assert found["cyd"].problem == "no notebook handed in; there is empty.zip"


# Zips that mean harm.


def test_a_zip_cannot_reach_out_of_its_place(tmp_path):
    path = zipped(
        tmp_path / "a/b/class.zip",
        {
            "../../evil/03_x.ipynb": solved(),
            "/etc/03_x.ipynb": solved(),
            "..\\..\\win\\03_x.ipynb": solved(),
            "C:/ann/03_x.ipynb": solved(),
            "..": b"x",
        },
    )
    before = sorted(tmp_path.rglob("*"))
    assert sorted(taken(path)) == ["C:", "etc", "evil", "win"]
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_a_zip_are_not_followed(tmp_path):
    link = {"external_attr": (stat.S_IFLNK | 0o777) << 16, "create_system": 3}
    path = zipped(tmp_path / "class.zip", {"ann/03_x.ipynb": (b"/etc/passwd", link), "bob/03_x.ipynb": solved()})
    found = taken(path)
    assert found["ann"].problem == "03_x.ipynb is a link, not a file"
    assert found["bob"].problem == ""


def test_bombs_stop_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("quizzes.grading.intake.archive.MAX_NOTEBOOK_BYTES", 10_000)
    big = b'{"cells": [' + b" " * 1_000_000
    path = zipped(tmp_path / "class.zip", {"ann/03_x.ipynb": big, "bob/03_x.ipynb": solved()})
    found = taken(path)
    assert "at most that much is read" in found["ann"].problem
    assert found["bob"].problem == ""


def test_a_students_zip_has_a_limit_for_everything_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr("quizzes.grading.intake.hand_in.MAX_OWN_BYTES", 1000)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("03_x.ipynb", solved())
        archive.writestr("04_x.ipynb", data("x = '" + "y" * 2000 + "'", lesson="04"))
    (tmp_path / "class/ann").mkdir(parents=True)
    (tmp_path / "class/ann/work.zip").write_bytes(inner.getvalue())
    first, second = taken(tmp_path / "class")["ann"]
    assert (first.problem, second.problem) == ("", "04_x.ipynb comes from a zip that holds more than is read")


def test_a_list_of_millions_of_files_is_not_loaded(tmp_path):
    path = zipped(tmp_path / "class.zip", {"ann/03_x.ipynb": solved()})
    content = bytearray(path.read_bytes())
    end = content.rfind(b"PK\x05\x06")
    struct.pack_into("<L", content, end + 12, 2**31)
    path.write_bytes(bytes(content))
    with pytest.raises(Unreadable, match="lists more files than are read"):
        taken(path)


@pytest.mark.parametrize("harm", ["encrypted", "lzma", "cut", "scrambled"])
def test_damaged_members_cost_only_themselves(tmp_path, harm):
    path = tmp_path / "class.zip"
    method = zipfile.ZIP_LZMA if harm == "lzma" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ann/03_x.ipynb", solved(), method)
        archive.writestr("bob/03_x.ipynb", solved())
    content = bytearray(path.read_bytes())
    if harm == "encrypted":
        content[content.index(b"PK\x01\x02") + 8] |= 1
    if harm == "scrambled":
        content[60:90] = bytes(30)
    path.write_bytes(bytes(content[:-200] if harm == "cut" else content))
    if harm == "cut":
        with pytest.raises(Unreadable, match="cut off"):
            taken(path)
        return
    found = taken(path)
    words = {"encrypted": "is encrypted", "lzma": "packed in a way", "scrambled": "damaged"}
    assert words[harm] in found["ann"].problem
    assert found["bob"].problem == ""


# Names.


@pytest.mark.parametrize(
    "name",
    [
        "Ann Lee",
        "Zoë O'Hara 🙂",
        "a.b.c",
        "..",
        ".",
        "../../x",
        "a/b",
        "CON",
        "x" * 300,
        "",
        "é" * 200,
        "=1+1",
        "<script>",
        "trailing. ",
        "\u202egnp.exe",
        "\ud800",
    ],
)
def test_any_name_gives_a_folder_of_its_own(tmp_path, name):
    folder = folder_name(name)
    assert folder
    assert "/" not in folder
    assert folder not in (".", "..")
    assert not folder.startswith(".")
    assert len(folder.encode()) < 200
    (tmp_path / folder).mkdir()
    assert (tmp_path / folder).parent == tmp_path


def test_different_names_never_share_a_folder():
    names = ["a/b", "a_b", "a:b", "ab", ".ab", "ab.", " ab", "CON", "x" * 300, "x" * 301]
    assert len({folder_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["Zoë O'Hara", "a.b.c", "🙂", "  two  spaces ", "-rf", "$(reboot)", "new\nline"])
def test_odd_names_of_folders_are_kept(tmp_path, name):
    write(tmp_path / "class" / name / "03_x.ipynb", SOLVED, lesson="03")
    assert [item.problem for item in taken(tmp_path / "class").values()] == [""]


def test_bytes_that_are_no_letters_do_not_stop_the_class(tmp_path):
    folder = os.fsencode(tmp_path / "class") + b"/\xff\xfe"
    os.makedirs(folder)
    with open(folder + b"/03_x.ipynb", "wb") as file:
        file.write(solved())
    write(tmp_path / "class/bob/03_x.ipynb", SOLVED, lesson="03")
    assert [item.problem for item in taken(tmp_path / "class").values()] == ["", ""]


def test_the_same_student_twice_is_one_student(tmp_path):
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    path = zipped(tmp_path / "x.zip", {f"{composed}/03_x.ipynb": solved(), f"{decomposed}/03_x (1).ipynb": solved()})
    found = taken(path)
    assert list(found) == [composed]
    assert found[composed].notebook == f"x.zip/{composed}/03_x.ipynb"
    assert found[composed].others == (f"x.zip/{decomposed}/03_x (1).ipynb",)


def test_a_roster_brings_a_students_names_together(tmp_path):
    people = (Person("Ann Lee", id="4711", email="alee@example.org"), Person("Bob Ray"), Person("Bob-Ray"))
    group = ClassFile(people)
    write(tmp_path / "class/alee/03_x.ipynb", SOLVED, lesson="03")
    write(tmp_path / "class/Lee, Ann/04_x.ipynb", "x = 1", lesson="04")
    zipped(tmp_path / "class/l.zip", {"leeann_4711_9_01_x.ipynb": data("x = 1", lesson="01")})
    write(tmp_path / "class/bobray/03_x.ipynb", SOLVED, lesson="03")
    found = taken(tmp_path / "class", who=group.name_of)
    assert [item.lesson for item in found["Ann Lee"]] == ["01", "03", "04"]
    assert list(found) == ["Ann Lee", "bobray"]  # two people fit: neither is taken


# Which of several counts.


def test_what_was_worked_on_counts_before_what_was_not(tmp_path):
    write(tmp_path / "class/ann/03_x.ipynb", STUB, lesson="03")
    write(tmp_path / "class/ann/03_x (1).ipynb", SOLVED, lesson="03")
    write(tmp_path / "class/ann/03_x-Copy1.ipynb", SOLVED, lesson="03")
    (tmp_path / "class/ann/03.ipynb").write_text("broken")
    found = taken(tmp_path / "class")["ann"]
    assert found.notebook == "ann/03_x (1).ipynb"
    assert found.others == ("ann/03.ipynb", "ann/03_x-Copy1.ipynb", "ann/03_x.ipynb")


def test_hundreds_of_notebooks_do_not_make_the_class_wait(tmp_path):
    for number in range(70):
        write(tmp_path / f"class/ann/03_{number:02}.ipynb", SOLVED, lesson="03")
    others, first = taken(tmp_path / "class")["ann"]
    assert others.problem == "70 notebooks handed in; the first 60 were read"
    assert (first.problem, len(first.others)) == ("", 59)


# Every kind of file.


@pytest.mark.parametrize("minor", range(6))
def test_every_minor_version_of_format_4_is_read(minor):
    made = nbformat.v4.new_notebook(nbformat_minor=minor, metadata={"course": {"lesson": "03"}})
    made.cells.append(nbformat.v4.new_code_cell(SOLVED["source"], metadata={"exercise": "soften"}))
    if minor < 5:
        made.cells[0].pop("id")
    text = nbformat.writes(made, version=nbformat.NO_CONVERT)
    nbformat.validate(json.loads(text))
    assert parse(text.encode()).missing("soften") is None


@pytest.mark.parametrize("version", [2, 3, 5])
def test_other_formats_say_so(version):
    with pytest.raises(Unreadable, match=f"is in notebook format {version}, not 4; open it in JupyterLab"):
        parse(json.dumps({"nbformat": version, "worksheets": [{"cells": []}]}).encode())


def as_saved(program: str) -> bytes:
    """The same notebook as different programs save it."""
    made = notebook("import torch", SOLVED, "quiz.ask('1', answer='B')", lesson="03")
    if program == "colab":  # metadata of its own, format 4.0, and course metadata lost
        made |= {"nbformat_minor": 0, "metadata": {"colab": {"provenance": []}, "kernelspec": {"name": "python3"}}}
        for item in made["cells"]:
            item["metadata"] = {"id": "a1B2", "colab": {"base_uri": "https://localhost/"}, "outputId": "x"}
            item["source"] = item["source"].splitlines(keepends=True)
    if program == "vscode":
        made["metadata"] = {"language_info": {"name": "python"}, "orig_nbformat": 4}
        for item in made["cells"]:
            item["metadata"] = {"vscode": {"languageId": "python"}}
    if program == "classic":
        made["metadata"]["toc"] = {"nav_menu": {}}
        made["cells"][1]["metadata"] |= {"collapsed": True, "scrolled": False, "ExecuteTime": {"end_time": "x"}}
    if program == "jupyterlab":
        made["cells"][1] |= {"id": "0b7c", "attachments": {}, "execution_count": 7}
        made["cells"][1]["metadata"] |= {"jupyter": {"source_hidden": True}, "tags": [], "trusted": True}
    return json.dumps(made, indent=1).encode()


@pytest.mark.parametrize("program", ["colab", "vscode", "classic", "jupyterlab"])
def test_every_program_that_saves_notebooks_is_understood(tmp_path, program):
    (tmp_path / "class/ann").mkdir(parents=True)
    (tmp_path / "class/ann/Copy of 03_soft_labels.ipynb").write_bytes(as_saved(program))
    found = taken(tmp_path / "class")["ann"]
    assert (found.lesson, found.problem) == ("03", "")
    assert found.submission.missing("soften") is None
    assert found.submission.answers == {"1": "B"}


def test_a_renamed_notebook_without_metadata_says_its_lesson_in_its_code(tmp_path):
    write(tmp_path / "class/ann/Untitled.ipynb", "from quizzes import lesson\nquiz = lesson('03')", SOLVED, lesson=None)
    write(tmp_path / "class/bob/ps03/03/homework.ipynb", SOLVED, lesson=None)
    write(tmp_path / "class/cyd/homework.ipynb", SOLVED, lesson=None)
    found = taken(tmp_path / "class")
    assert (found["ann"].lesson, found["bob"].lesson) == ("03", "03")
    assert "names no lesson" in found["cyd"].problem


@pytest.mark.parametrize("ending", [".ipynb", ".IPYNB", ".ipynb.json", ".ipynb.txt"])
def test_endings_that_browsers_add_are_taken(tmp_path, ending):
    write(tmp_path / f"class/ann/03_x{ending}", SOLVED, lesson="03")
    assert taken(tmp_path / "class")["ann"].problem == ""


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(notebook(SOLVED, lesson="03"), indent=1).replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + solved(),
        json.dumps(notebook(SOLVED, lesson="03")).encode("utf-16"),
        json.dumps(notebook(SOLVED, lesson="03")).encode("utf-32"),
        json.dumps(notebook("x = 'é'", SOLVED, lesson="03"), ensure_ascii=False).encode("latin-1"),
        data({**SOLVED, "source": SOLVED["source"].replace("\n", "\r\n")}, lesson="03"),
        data({**SOLVED, "source": SOLVED["source"].replace("\n", "\r")}, lesson="03"),
    ],
)
def test_line_ends_and_encodings_do_not_matter(content):
    assert parse(content).missing("soften") is None


@pytest.mark.parametrize(
    "cells",
    [
        ("import torch", SOLVED["source"]),  # split, without its mark
        ("%matplotlib inline\n!pip install x\n" + SOLVED["source"] + "\nquiz.check(soften)",),  # merged
        (SOLVED, STUB),
        (STUB, SOLVED),
        (STUB, STUB, SOLVED["source"]),
        (SOLVED, SOLVED),  # copied
        ("quiz.check(soften)", SOLVED, "def helper(): pass"),  # reordered
        (cell("%%time\n" + SOLVED["source"], "soften"),),
    ],
)
def test_cells_split_merged_copied_and_reordered_still_answer(cells):
    submission = parse(data(*cells, lesson="03"))
    assert submission.missing("soften") is None
    assert "softmax" in submission.answer_to("soften").source


def test_whatever_stands_for_a_notebook_gets_a_status(tmp_path):
    root = tmp_path / "class"
    contents = {
        "empty": b"",
        "truncated": solved()[:-40],
        "text": b"Dear teacher",
        "list": b"[]",
        "null": b"null",
        "bytes": bytes(range(256)),
        "deep": b"[" * 100_000,
        "cells": b'{"cells": {}}',
    }
    for student, content in contents.items():
        (root / student).mkdir(parents=True)
        (root / student / "03_x.ipynb").write_bytes(content)
    (root / "folder/03_x.ipynb").mkdir(parents=True)
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe/03_x.ipynb")
    (root / "link").mkdir()
    (root / "link/03_x.ipynb").symlink_to("/etc/passwd")
    (root / "loop").mkdir()
    (root / "loop/03_x.ipynb").symlink_to("03_x.ipynb")
    (root / "huge").mkdir()
    with open(root / "huge/03_x.ipynb", "wb") as file:
        file.truncate(200 * 2**20)
    (root / "nothing").mkdir()
    (root / "linked").symlink_to(root / "empty")
    write(root / "fine/03_x.ipynb", SOLVED, lesson="03")
    write(root / "deeper/a/b/03_x.ipynb", SOLVED, lesson="03")
    write(root / "hidden/.ipynb_checkpoints/03_x.ipynb", SOLVED, lesson="03")
    write(root / "flat.ipynb", SOLVED, lesson="03")
    (root / "README.txt").write_text("not a student")
    found = taken(root)
    said = {student: item.problem for student, item in found.items()}
    assert {student for student, problem in said.items() if not problem} == {"fine", "deeper", "flat"}
    assert set(said) == {
        *contents,
        "folder",
        "pipe",
        "link",
        "loop",
        "huge",
        "nothing",
        "linked",
        "fine",
        "deeper",
        "hidden",
        "flat",
    }
    for student, words in {
        "empty": "is empty",
        "truncated": "cut off",
        "text": "not JSON",
        "list": "not an object",
        "deep": "not JSON",
        "cells": "no cells",
        "folder": "is not a file",
        "pipe": "is not a file",
        "link": "is a link, not a file",
        "loop": "is a link",
        "huge": "has 200 MB; at most 50 are read",
        "nothing": "no notebook handed in",
        "linked": "is a link, not a folder",
        "hidden": "no notebook handed in",
    }.items():
        assert words in said[student]
    assert {item.lesson for student, item in found.items() if student in contents} == {"03"}


def test_code_that_would_take_long_to_read_is_refused():
    with pytest.raises(Unreadable, match="characters of code"):
        parse(data(*["x = 1\n" * 16_000] * 8))
    with pytest.raises(Unreadable, match="more magics"):
        parse(data(*["!a\n" * 40 + "x = (\n" * 100] * 40))
