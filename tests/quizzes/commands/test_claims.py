"""`course claims`: every claim measured here, or with what it would take; as a table, as JSON and as a page."""

import json
import re
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from lessons_lib.show import claims
from lessons_lib.show.claims import Measured
from quizzes.commands import claims as claims_report
from quizzes.commands import main
from quizzes.learner import standing

run = CliRunner()
FOUND = {"latency-budget": Measured("p99 of 12 ms <fast>", True, "The model is small.")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def syllabus(tmp_path, monkeypatch):
    """Lessons 00 and 08 can be run, 17 is to come."""
    path = tmp_path / "syllabus.toml"
    path.write_text(
        "\n".join(
            f'[[lessons]]\nname = "{name}"\nstatus = "{status}"'
            for name, status in (("00_start_here", "ready"), ("08_dynamic_int8", "ready"), ("17_serve", "coming"))
        )
    )
    monkeypatch.setattr(standing, "SYLLABUS", path)


def of(name: str) -> claims_report.ClaimStanding:
    return next(item for item in claims_report.standings() if item.id == name)


def test_no_claim_is_left_blank(syllabus):
    """Whatever was run: a lesson measured it, or it says what it needs."""
    for _ in range(2):
        found = claims_report.standings()
        assert [item.id for item in found] == list(claims.declared())
        for item in found:
            assert item.findings or item.needs, item.id
            assert bool(item.missing) == bool(item.needs), item.id
            assert sorted([*item.missing, *(one.lesson for one in item.findings)]) == sorted(item.lessons)
        claims.show("00", FOUND)
        claims.show("08", {name: Measured("x", "partly", "y") for name in claims.of_lesson("08") if name != "energy"})


def test_what_is_missing_says_what_it_would_take(syllabus):
    assert of("latency-budget").needs == (
        "Lesson 00 has not been run on this machine: open notebooks/00_start_here.ipynb and run all its cells. "
        "Lesson 17 is not written yet."
    )
    assert of("tensorrt").needs.startswith("Lesson 17 is not written yet. An NVIDIA GPU")
    claims.show("00", FOUND)
    assert of("latency-budget").needs == "Lesson 17 is not written yet."
    claims.show("08", {name: Measured("x", "partly", "y") for name in claims.of_lesson("08") if name != "energy"})
    assert of("energy").needs.startswith("Energy counters of the processor")


def test_a_lesson_that_ran_without_a_claim_is_to_be_run_again(syllabus, monkeypatch):
    claims.show("08", {name: Measured("x", "partly", "y") for name in claims.of_lesson("08")})
    rows = [row for row in claims.load_all() if row.claim.id != "int8"]
    monkeypatch.setattr(claims, "load_all", lambda: rows)
    assert of("int8").needs.startswith("Lesson 08 was run without it: run it again.")


def test_the_json_holds_everything():
    claims.show("00", FOUND)
    whole = json.loads(claims_report.as_json())
    assert whole["summary"] == {"yes": 1, "no": 0, "partly": 0, "open": 0, "not measured": 38}
    assert len(whole["claims"]) == 39
    first = next(item for item in whole["claims"] if item["id"] == "latency-budget")
    assert first["findings"][0]["measured"] == "p99 of 12 ms <fast>"
    assert (first["verdict"], first["missing"]) == ("yes", ["17"])
    assert whole["machine"]["cores"] >= 1


class Outline(HTMLParser):
    """Tags, attributes and text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone_and_says_in_words_what_it_shows():
    claims.show("00", FOUND)
    page = claims_report.as_html()
    seen = Outline(page)
    assert not {"script", "img", "link", "iframe"} & set(seen.tags)
    assert not [value for name, value in seen.attributes if name in ("src", "href")]
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert ("name", "viewport") in seen.attributes and ("lang", "en") in seen.attributes
    assert "p99 of 12 ms <fast>" in seen.text
    assert seen.tags.count("article") == len(claims.declared())
    for claim in claims.declared().values():
        assert claim.claim in seen.text
    # Colour says nothing: the boxes differ in the style of their border, and each holds its verdict as a word.
    marks = re.findall(r'<span class="mark">(.*?)</span>', page)
    assert marks == [item.verdict for item in claims_report.standings()]
    assert not re.search(r"\.(right|partly|wrong)[^}]*color", page)


def test_verdicts_of_two_lessons_stand_together():
    findings = [claims_report.ClaimFinding("00", "a", word, "b", "2026-01-01") for word in ("yes", "no", "yes")]
    both = claims_report.ClaimStanding("x", "y", (), tuple(findings), (), "")
    assert (both.verdict, both.kind) == ("yes, no", "partly")
    kinds = {
        word: claims_report.ClaimStanding("x", "y", (), (finding,), (), "").kind
        for word, finding in zip(("yes", "no"), findings, strict=False)
    }
    assert kinds == {"yes": "right", "no": "wrong"}


def test_the_command_prints_and_writes(tmp_path):
    claims.show("00", FOUND)
    paths = tmp_path / "claims.json", tmp_path / "claims.html"
    result = run.invoke(main.app, ["claims", "--json", str(paths[0]), "--html", str(paths[1])])
    assert result.exit_code == 0, result.output
    assert json.loads(paths[0].read_text())["claims"]
    assert paths[1].read_text().startswith("<!DOCTYPE html>")
    assert result.output.count("Written: ") == 2
    assert "p99" in result.output
