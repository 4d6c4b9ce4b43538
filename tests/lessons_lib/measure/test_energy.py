"""Energy counters, on a made-up powercap folder."""

import pytest

from lessons_lib.measure import energy


@pytest.fixture
def powercap(tmp_path):
    """Two packages; a part of the first one, the first one again, and the whole machine, which must not count twice."""
    for name, counts, used in (
        ("intel-rapl:0", "package-0", 5_000_000),
        ("intel-rapl:1", "package-1", 900),
        ("intel-rapl:0:0", "core", 77),
        ("intel-rapl-mmio:0", "package-0", 5_000_000),
        ("intel-rapl:2", "psys", 6_000_000),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{counts}\n")
        (tmp_path / name / "energy_uj").write_text(f"{used}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000000000\n")
    return tmp_path


def spend(powercap, **used):
    def function():
        for name, value in used.items():
            for path in powercap.iterdir():
                if (path / "name").read_text().strip() == f"package-{name[1:]}":
                    (path / "energy_uj").write_text(str(value))
            (powercap / "intel-rapl:2" / "energy_uj").write_text("9000000")

    return function


def test_packages_are_added_up(powercap):
    assert len(energy.counters(powercap)) == 2
    assert energy.joules(spend(powercap, p0=7_500_000, p1=500_900), powercap) == pytest.approx(3.0)


def test_a_counter_that_wraps_round_is_put_right(powercap):
    assert energy.joules(spend(powercap, p0=4_000_000), powercap) == pytest.approx(999.0)


def test_without_counters_it_says_so(tmp_path):
    assert energy.counters(tmp_path) == []
    with pytest.raises(ValueError, match="No energy counter"):
        energy.joules(lambda: None, tmp_path)
