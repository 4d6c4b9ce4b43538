"""Energy counters, on a made-up powercap folder."""

import pytest

from lessons_lib import energy


@pytest.fixture
def powercap(tmp_path):
    """Two packages and a part of the first one, which must not count twice."""
    for name, used in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 900), ("intel-rapl:0:0", 77)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{used}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000000000\n")
    return tmp_path


def spend(powercap, **used):
    def function():
        for name, value in used.items():
            (powercap / f"intel-rapl:{name[1:]}" / "energy_uj").write_text(str(value))
    return function


def test_packages_are_added_up(powercap):
    assert [path.name for path in energy.counters(powercap)] == ["intel-rapl:0", "intel-rapl:1"]
    assert energy.joules(spend(powercap, p0=7_500_000, p1=500_900), powercap) == pytest.approx(3.0)


def test_a_counter_that_wraps_round_is_put_right(powercap):
    assert energy.joules(spend(powercap, p0=4_000_000), powercap) == pytest.approx(999.0)


def test_without_counters_it_says_so(tmp_path):
    assert energy.counters(tmp_path) == []
    with pytest.raises(ValueError, match="No energy counter"):
        energy.joules(lambda: None, tmp_path)
