"""A study is computed once, survives kill -9, and is refused when it is not the one that was declared."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from unittest.mock import MagicMock

import pytest
import torch

from lessons_lib.studies import runs, study
from lessons_lib.studies.runs import StudyError
from lessons_lib.studies.study import Study
from lessons_lib.training import loop

CELLS = [{"method": method, "seed": seed} for method in ("plain", "distilled") for seed in (0, 1, 2)]
CALLS = []


def run(cell):
    CALLS.append(cell)
    return {"accuracy": 0.7 + 0.1 * (cell["method"] == "distilled") + 0.01 * cell["seed"]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COURSE_SCALE", raising=False)
    CALLS.clear()


def make(tmp_path, **changes):
    options = {"name": "toy", "cells": CELLS, "run": run, "cheap": CELLS[0], "folder": tmp_path / "studies"}
    return Study(**options | changes)


def test_a_study_is_computed_once_and_its_table_is_kept(tmp_path):
    table = make(tmp_path).compute(progress=False)
    assert [row.cell for row in table] == CELLS == CALLS
    again = make(tmp_path)
    assert again.compute(progress=False) == again.table() == table
    assert len(CALLS) == len(CELLS), "a finished table is not computed again"
    assert table.machine["processor"] and table.versions["torch"] and table.seconds >= 0
    assert not list((tmp_path / "cache" / "studies").iterdir()), "the journal goes when the table stands"


def test_fresh_computes_everything_again(tmp_path):
    make(tmp_path).compute(progress=False)
    make(tmp_path).compute(fresh=True, progress=False)
    assert len(CALLS) == 2 * len(CELLS)


def test_rows_are_found_by_their_settings_in_seed_order(tmp_path):
    table = make(tmp_path).compute(progress=False)
    rows = table.where(method="distilled")
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert [row["accuracy"] for row in rows] == pytest.approx([0.8, 0.81, 0.82])
    with pytest.raises(ValueError, match="no setting 'depth'; it has method, seed"):
        table.where(depth=2)
    with pytest.raises(ValueError, match="no cell with method='quantized'"):
        table.where(method="quantized")


def test_an_exception_costs_the_running_cell_only(tmp_path):
    def stops(cell):
        if cell == CELLS[3] and len(CALLS) < 4:
            CALLS.append("stopped")
            raise KeyboardInterrupt
        return run(cell)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, run=stops).compute(progress=False)
    table = make(tmp_path, run=stops).compute(progress=False)
    assert CALLS == [*CELLS[:3], "stopped", *CELLS[3:]], "three cells were kept, the fourth was run again"
    uninterrupted = make(tmp_path / "other", name="toy").compute(progress=False)
    assert [(row.cell, row.result) for row in table] == [(row.cell, row.result) for row in uninterrupted]


SLOW = """
    import sys, time
    from pathlib import Path
    from lessons_lib.studies.study import Study

    def run(cell):
        with open(sys.argv[1] + "/calls", "a") as calls:
            calls.write(str(cell["seed"]) + "\\n")
        time.sleep(0.05)
        return {"accuracy": cell["seed"] / 100}

    cells = [{"seed": seed} for seed in range(24)]
    Study("slow", cells, run, cells[0], folder=Path(sys.argv[1])).compute(progress=False)
"""


def test_kill_9_at_any_moment_loses_at_most_the_running_cell(tmp_path):
    script, calls = tmp_path / "slow.py", tmp_path / "calls"
    script.write_text(textwrap.dedent(SLOW))
    calls.touch()
    command = [sys.executable, str(script), str(tmp_path)]
    kills = 0
    for wanted in (2, 7, 13, 20):  # die after about so many cells, wherever the write stands then
        process = subprocess.Popen(command, env=os.environ)
        deadline = time.monotonic() + 60
        while len(calls.read_text().split()) < wanted + kills and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        assert not (tmp_path / "slow.json").exists(), "no table before all cells are there"
    assert subprocess.run(command, check=False).returncode == 0
    done = [int(seed) for seed in calls.read_text().split()]
    assert sorted(set(done)) == list(range(24))
    assert len(done) - 24 <= kills, "each kill repeats one cell at most"
    table = runs.read(tmp_path / "slow.json")
    assert [(row.cell["seed"], row["accuracy"]) for row in table] == [(seed, seed / 100) for seed in range(24)]


@pytest.mark.parametrize(
    "changes", [{"settings": {"steps": 300}}, {"cells": CELLS[:-1]}, {"cells": CELLS[::-1]}, {"score": "f1"}]
)
def test_a_changed_declaration_makes_the_table_stale(tmp_path, changes):
    make(tmp_path, settings={"steps": 200}).compute(progress=False)
    changed = make(tmp_path, **{"settings": {"steps": 200}} | changes)
    with pytest.raises(StudyError, match=r"another declaration.*Run `course study toy`"):
        changed.table()


def test_computing_a_stale_study_mends_it_without_old_cells(tmp_path):
    make(tmp_path, settings={"steps": 200}).compute(progress=False)
    CALLS.clear()
    table = make(tmp_path, settings={"steps": 300}).compute(progress=False)
    assert CALLS == CELLS
    assert table == make(tmp_path, settings={"steps": 300}).table()


def test_an_interrupted_run_is_not_continued_with_another_teacher(tmp_path):
    def stops(cell):
        if len(CALLS) == 3:
            CALLS.append("stopped")
            raise KeyboardInterrupt
        return run(cell)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, run=stops, inputs=lambda: {"teacher": "a"}).compute(progress=False)
    CALLS.clear()
    table = make(tmp_path, run=run, inputs=lambda: {"teacher": "b"}).compute(progress=False)
    assert CALLS == CELLS, "no cell of teacher a stands in the table of teacher b"
    assert table.inputs == {"teacher": "b"}


def test_a_missing_table_says_what_to_run(tmp_path):
    with pytest.raises(StudyError, match="no table yet. Run `course study toy`"):
        make(tmp_path).table()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"accuracy":0.7', '"accuracy":0.9'),
        lambda text: "[]",
        lambda text: text.replace('"checksum"', '"checked"'),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, damage):
    toy = make(tmp_path)
    toy.compute(progress=False)
    toy.path.write_text(damage(toy.path.read_text()))
    with pytest.raises(StudyError, match="Run `course study toy`"):
        toy.table()
    toy.compute(progress=False)
    assert toy.table()


def test_full_scale_computes_in_the_cache_and_leaves_the_kept_table_alone(tmp_path, monkeypatch):
    kept = make(tmp_path, run=lambda cell: {"accuracy": 0.5})
    kept.compute(progress=False)
    before = kept.path.read_text()
    monkeypatch.setenv("COURSE_SCALE", "full")
    table = make(tmp_path).table()
    assert [row["accuracy"] for row in table.where(method="plain")] == pytest.approx([0.7, 0.71, 0.72])
    assert make(tmp_path).path.parent == tmp_path / "cache" / "studies"
    monkeypatch.delenv("COURSE_SCALE")
    assert kept.path.read_text() == before
    monkeypatch.setenv("COURSE_SCALE", "huge")
    with pytest.raises(ValueError, match="COURSE_SCALE is 'huge'; set it to full"):
        make(tmp_path).table()


def test_only_a_live_cell_shows_its_training(tmp_path, monkeypatch):
    """A study has one bar over its cells; somebody who waits for a single cell sees the bar of its training."""

    def train(cell):
        loop.train(
            torch.nn.Linear(2, 1),
            {"x": torch.ones(4, 2)},
            lambda model, batch: model(batch["x"]).mean(),
            steps=1,
            lr=1e-3,
            seed=0,
            progress=False,
        )
        return run(cell)

    make(tmp_path).compute(progress=False)
    bar = MagicMock()
    monkeypatch.setattr("tqdm.auto.tqdm", bar)
    make(tmp_path, run=train).live(CELLS[0])
    train(CELLS[0])
    assert [call.kwargs["disable"] for call in bar.call_args_list] == [False, True]


def test_a_live_cell_lies_within_the_spread_or_is_reported_outside(tmp_path):
    make(tmp_path).compute(progress=False)
    live = make(tmp_path).live(CELLS[0])
    assert live.within
    assert live.score == pytest.approx(0.70)
    # t(0.995, 2) = 9.925; s = 0.01; sqrt(1 + 1/3)
    half = 9.925 * 0.01 * (4 / 3) ** 0.5
    assert live.high - live.low == pytest.approx(2 * half, rel=0.03)
    assert live.low + live.high == pytest.approx(2 * 0.71)
    outside = make(tmp_path, run=lambda cell: {"accuracy": 0.4}).live(CELLS[0])
    assert not outside.within
    assert "OUTSIDE" in str(outside)


def test_seeds_without_spread_leave_the_slack(tmp_path):
    flat = make(tmp_path, run=lambda cell: {"accuracy": 0.7}, slack=0.01)
    flat.compute(progress=False)
    live = flat.live(CELLS[0])
    assert (live.low, live.high) == pytest.approx((0.69, 0.71))


def test_a_grid_that_contradicts_itself_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no cell twice"):
        make(tmp_path, cells=[CELLS[0], CELLS[0]])
    with pytest.raises(ValueError, match="at least one cell"):
        make(tmp_path, cells=[])
    with pytest.raises(ValueError, match="declares no cell method='plain', seed=9"):
        make(tmp_path, cheap={"method": "plain", "seed": 9})
    single = make(tmp_path, cells=CELLS[:1])
    single.compute(progress=False)
    with pytest.raises(ValueError, match="one seed has no spread"):
        single.live(CELLS[0])


def test_a_result_that_is_not_a_number_is_not_kept(tmp_path):
    broken = make(tmp_path, run=lambda cell: {"accuracy": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        broken.compute(progress=False)
    assert not broken.path.exists()


def test_an_unknown_study_lists_the_known_ones():
    with pytest.raises(ValueError, match="there is no study 'nothing'; there is .*distil_classifier"):
        study.load("nothing")


@pytest.mark.parametrize("name", study.names())
def test_every_kept_table_is_small_complete_and_of_its_declaration(name):
    declared = study.load(name)
    table = declared.table()
    assert [row.cell for row in table] == list(declared.cells)
    assert declared.path.stat().st_size < 300_000
    kept = json.loads(declared.path.read_text())
    assert kept["settings"] == declared.settings
    assert {"processor", "torch"} <= kept["machine"].keys()
