"""Claims: complete, shown with words and not with colour, kept for `course claims`."""

import pytest

from lessons_lib.show import claims
from lessons_lib.show.claims import Measured


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    return tmp_path


FOUND = {"latency-budget": Measured("p99 of 12 ms", True, "The model is small.")}


def test_every_claim_is_complete():
    declared = claims.declared()
    assert len(declared) == 39
    for claim in declared.values():
        assert claim.claim.endswith("."), claim.id
        assert claim.lessons == tuple(sorted(set(claim.lessons))), claim.id
        assert all(len(lesson) == 2 and 0 <= int(lesson) <= 18 for lesson in claim.lessons), claim.id


def test_what_needs_other_hardware_says_so():
    assert {claim.id for claim in claims.declared().values() if claim.needs} == {"tensorrt", "energy"}


def test_show_has_a_row_for_each_claim_in_words():
    shown = claims.show("00", FOUND)
    assert shown.columns == ["claim", "measured here", "agrees?", "why"]
    assert shown.rows[0]["agrees?"] == "yes"
    assert "100 ms" in shown.rows[0]["claim"]
    assert "color" not in shown._repr_html_()


@pytest.mark.parametrize(("agrees", "word"), [(True, "yes"), (False, "no"), ("partly", "partly"), (None, "open")])
def test_every_verdict_is_a_word(agrees, word):
    assert Measured("3 ms", agrees, "because").verdict == word


def test_a_claim_of_another_lesson_is_refused():
    with pytest.raises(ValueError, match="int8 is not a claim of lesson 00"):
        claims.show("00", FOUND | {"int8": FOUND["latency-budget"]})
    with pytest.raises(ValueError, match="no claim"):
        claims.show("0", FOUND)


def test_a_claim_that_the_lesson_leaves_out_is_refused():
    with pytest.raises(ValueError, match="latency-budget"):
        claims.show("00", {})


def test_a_claim_that_cannot_be_tested_here_says_what_it_needs():
    measured = dict.fromkeys(["onnx", "latency-budget"], Measured("x", None, "y"))
    row = next(row for row in claims.show("17", measured).rows if row["claim"].startswith("tensorrt"))
    assert (row["measured here"], row["agrees?"]) == ("not on this machine", "open")
    assert "NVIDIA" in row["why"]


@pytest.mark.parametrize("words", [("", True, "why"), ("3 ms", True, " "), ("3 ms", "maybe", "why")])
def test_half_said_findings_are_refused(words):
    with pytest.raises(ValueError, match=r"say what|agrees must"):
        Measured(*words)


def test_load_all_has_every_claim_measured_or_not():
    assert [row.claim.id for row in claims.load_all()] == list(claims.declared())
    assert all(row.measured is None for row in claims.load_all())
    claims.show("00", FOUND)
    rows = {row.claim.id: row for row in claims.load_all()}
    assert rows["latency-budget"].measured == FOUND["latency-budget"]
    assert rows["latency-budget"].lesson == "00"
    assert rows["latency-budget"].when.startswith("20")
    assert rows["int8"].measured is None


def test_two_lessons_that_measure_one_claim_make_two_rows():
    claims.show("00", FOUND)
    claims.show("17", FOUND | {"onnx": Measured("1.4x", True, "fused")})
    assert [row.lesson for row in claims.load_all() if row.claim.id == "latency-budget"] == ["00", "17"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"latency-budget": {"found": {"measured": 3}}}'])
def test_a_damaged_record_counts_as_not_measured_and_running_the_lesson_mends_it(own_cache, damage):
    claims.show("00", FOUND)
    (own_cache / "claims" / "00.json").write_text(damage)
    assert all(row.measured is None for row in claims.load_all())
    claims.show("00", FOUND)
    assert any(row.measured for row in claims.load_all())
