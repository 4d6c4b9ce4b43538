"""A fresh process gives back what a function returns, with its own environment, and says why it failed."""

import os
import sys
import time

import psutil
import pytest

from lessons_lib.files import fresh_process


def told(name, number):
    """For the other process to call."""
    return {"variable": os.environ.get(name), "process": os.getpid(), "next": number + 1}


def test_the_function_runs_in_another_process_with_the_variables_it_was_given():
    answer = fresh_process.call(told, "COURSE_TEST_VARIABLE", 4, environment={"COURSE_TEST_VARIABLE": "here"})
    assert answer["variable"] == "here"
    assert answer["next"] == 5
    assert answer["process"] != os.getpid()
    assert fresh_process.call(told, "COURSE_TEST_VARIABLE", 4)["variable"] is None
    assert "COURSE_TEST_VARIABLE" not in os.environ


def killed():
    """For the other process to call: ended from outside, as when memory runs out, in the middle of a progress bar."""
    print("reading:  12%", file=sys.stderr, flush=True)
    os.kill(os.getpid(), 9)


def test_a_process_that_was_killed_is_named_with_its_status():
    with pytest.raises(RuntimeError, match="killed failed in the fresh process: it ended without a word, with status"):
        fresh_process.call(killed)


def test_a_failure_names_the_function_and_the_reason():
    with pytest.raises(RuntimeError, match=r"told failed in the fresh process: TypeError: .*str"):
        fresh_process.call(told, "x", "4")


def stepping(many):
    """For the other process to call: prints a line after each step."""
    for step in range(many):
        time.sleep(0.25)
        print(f"step {step}")
    return many


def test_a_bar_follows_the_lines_of_the_other_process(monkeypatch):
    steps = []

    def over(items, *words):
        for item in items:
            began = time.monotonic()
            yield item
            steps.append(time.monotonic() - began)

    monkeypatch.setattr("lessons_lib.files.progress.over", over)
    assert fresh_process.call(stepping, 3, steps=3) == 3
    assert len(steps) == 3 and sum(steps) >= 0.5  # they last as long as the steps over there, 0.75 s


def test_an_interrupt_ends_the_other_process(monkeypatch):
    def interrupted(items, *words):
        raise KeyboardInterrupt

    monkeypatch.setattr("lessons_lib.files.progress.over", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fresh_process.call(waiting_for_ever)
    assert not [child for child in psutil.Process().children() if "waiting_for_ever" in str(child.cmdline())]


def waiting_for_ever():
    """For the other process to call."""
    print("begun")
    time.sleep(3600)
