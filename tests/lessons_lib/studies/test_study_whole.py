"""Every study from nothing: `make proof`."""

from dataclasses import replace

import pytest

from lessons_lib.studies import study


@pytest.mark.proof
@pytest.mark.parametrize("name", study.names())
def test_a_whole_study_gives_its_table_again(name, tmp_path, monkeypatch):
    """The same seeds again: rounding on another processor may move a score by the study's slack, seldom by more."""
    monkeypatch.delenv("COURSE_SCALE", raising=False)
    declared = study.load(name)
    kept = declared.table()
    again = replace(declared, folder=tmp_path).compute(fresh=True)
    moved = [
        new.cell
        for old, new in zip(kept, again, strict=True)
        if abs(old[declared.score] - new[declared.score]) > declared.slack
    ]
    assert len(moved) <= 0.05 * len(kept), moved
