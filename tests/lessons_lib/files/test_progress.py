"""What takes long shows a bar with the time left; what does not, and what is interrupted, leaves none."""

import time

import pytest

from lessons_lib.files import progress


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)


def test_a_bar_appears_after_a_while_and_counts_what_was_done_before(capsys, monkeypatch):
    monkeypatch.setattr(progress, "AFTER_SECONDS", 0.05)
    seen = []
    for item in progress.over(range(10), "reading", "batch"):
        if not seen:
            assert capsys.readouterr().err == ""
        time.sleep(0.02)
        seen.append(item)
    assert seen == list(range(10))
    drawn = capsys.readouterr().err
    assert " 0/10" not in drawn and "9/10 [00:00<00:00" in drawn
    assert drawn.endswith("\r")  # cleared away


def test_quick_work_shows_nothing(capsys):
    assert list(progress.over([1, 2, 3], "reading", "batch")) == [1, 2, 3]
    assert capsys.readouterr().err == ""


def test_an_interrupt_clears_the_bar_away(capsys, monkeypatch):
    monkeypatch.setattr(progress, "AFTER_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt) as kept:  # as a notebook keeps the last traceback, and what it holds
        _interrupted()
    drawn = capsys.readouterr().err
    assert "2/5" in drawn and drawn.endswith("\r")
    assert kept.tb is not None


def _interrupted():
    for item in progress.over(range(5), "reading", "batch"):
        time.sleep(0.01)
        if item == 3:
            raise KeyboardInterrupt
