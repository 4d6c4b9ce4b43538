"""Whoever reads a file that is being replaced finds the old content or the new one, and nothing is left beside it."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from lessons_lib.files import atomic


def test_a_file_is_replaced_when_the_body_ends_and_not_before(tmp_path):
    path = tmp_path / "deep" / "kept.txt"
    atomic.write_text(path, "old")
    with atomic.replacing(path, durable=True) as aside:
        aside.write_text("new")
        assert path.read_text() == "old" and aside.parent == path.parent
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["kept.txt"]


def test_when_the_body_raises_the_old_file_stays(tmp_path):
    path = tmp_path / "kept.txt"
    atomic.write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), atomic.replacing(path) as aside:
        aside.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["kept.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "made"
    for content in ("one", "two"):
        with atomic.replacing_folder(folder) as aside:
            (aside / content).write_text(content)
        assert os.listdir(folder) == [content]
    with pytest.raises(RuntimeError, match="half way"), atomic.replacing_folder(folder):
        raise RuntimeError("half way")
    assert os.listdir(folder) == ["two"] and os.listdir(tmp_path) == ["made"]


def test_others_may_read_what_was_written(tmp_path):
    before = os.umask(0o022)
    try:
        atomic.write_text(tmp_path / "page.html", "text\r\nas it is")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "page.html").st_mode) == 0o644
    assert (tmp_path / "page.html").read_bytes() == b"text\r\nas it is"


def test_threads_and_processes_that_write_the_same_file_leave_one_of_them_whole(tmp_path):
    path = tmp_path / "shared.txt"
    code = f"from lessons_lib.files import atomic\nfor _ in range(200): atomic.write_text({str(path)!r}, 'c' * 50_000)"
    other = subprocess.Popen([sys.executable, "-c", code])
    writers = [
        threading.Thread(target=lambda letter=letter: [atomic.write_text(path, letter * 50_000) for _ in range(100)])
        for letter in "ab"
    ]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers) or other.poll() is None:
        if path.exists():
            text = path.read_text()
            assert len(text) == 50_000 and len(set(text)) == 1
            seen.add(text[0])
    assert other.returncode == 0 and seen and os.listdir(tmp_path) == ["shared.txt"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept.txt"
    atomic.write_text(path, "old")
    code = (
        "import os\nfrom lessons_lib.files import atomic\n"
        f"with atomic.replacing({str(path)!r}) as aside:\n    aside.write_text('ne')\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert path.read_text() == "old"
