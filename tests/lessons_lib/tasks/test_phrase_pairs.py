"""The pairs are what the script writes, splits share no number block, and pieces lose nothing."""

import gzip
import importlib.util
import re

import pytest
import torch

from lessons_lib.tasks import phrase_pairs
from lessons_lib.tasks.phrase_pairs import BEGIN, END, PAD, UNKNOWN


@pytest.fixture(scope="module")
def script():
    path = phrase_pairs.FILE.with_name("make_translation_pairs.py")
    found = importlib.util.spec_from_file_location("make_translation_pairs", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_file_holds_what_the_script_writes(script):
    """The two small splits; `python data/make_translation_pairs.py --check` compares all of it."""
    lines = gzip.decompress(phrase_pairs.FILE.read_bytes()).decode().splitlines()
    for split in ("validation", "test"):
        assert ["\t".join(row) for row in script.rows(split)] == [line for line in lines if line.startswith(split)]


def test_the_file_has_no_time_stamp():
    assert phrase_pairs.FILE.read_bytes()[4:8] == bytes(4)
    assert phrase_pairs.FILE.stat().st_size < 1_000_000


def test_pairs_are_distinct_and_every_kind_has_its_share():
    english = [text for split in phrase_pairs.SPLITS for text in phrase_pairs.pairs(split)["english"][:]]
    assert len(set(english)) == len(english) == 42_500
    test = phrase_pairs.pairs("test")
    assert {kind: test["kind"][:].count(kind) for kind in phrase_pairs.KINDS} == {
        "number": 450,
        "ordinal": 225,
        "date": 450,
        "amount": 375,
    }


def test_no_held_out_number_or_year_stands_in_training(script):
    train = set(phrase_pairs.pairs("train")["english"][:])
    for blocks in script.NUMBER_BLOCKS.values():
        for first, last in blocks:
            said = {script.english_words(number) for number in range(first, last + 1, 37)}
            assert not said & train
            assert not {script.english_words(number, "ordinal") for number in range(first, last + 1, 37)} & train
    years = {
        script.english_words(year, "year")
        for blocks in script.YEAR_BLOCKS.values()
        for first, last in blocks
        for year in range(first, last + 1)
    }
    months = re.compile(
        r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
        r" (.+)"
    )
    spoken = {found[1] for text in train if (found := months.search(text))}
    assert len(spoken) > 600
    assert not spoken & years


def test_blocks_of_validation_and_test_are_apart(script):
    for blocks in (script.NUMBER_BLOCKS, script.YEAR_BLOCKS):
        for first, last in blocks["validation"]:
            assert not any(script.in_blocks(number, blocks["test"]) for number in (first, last))


@pytest.mark.parametrize(
    ("number", "ordinal"),
    [
        (1, "premier"),
        (21, "vingt et unième"),
        (71, "soixante et onzième"),
        (80, "quatre-vingtième"),
        (200, "deux centième"),
    ],
)
def test_french_ordinals(script, number, ordinal):
    assert script.french_words(number, "ordinal") == ordinal


def test_french_agrees_with_what_is_counted(script):
    assert script.french_words(21, feminine=True) == "vingt et une"
    assert script.french_words(31_000, feminine=True) == "trente et un mille"
    assert script.unit_name("duration-hour", 2, "fr") == "heures"
    amounts = dict(zip(*(phrase_pairs.pairs("train")[side][:] for side in ("english", "french")), strict=True))
    millions = [french for english, french in amounts.items() if " million hectares" in english]
    assert millions
    assert all("d'hectares" in french for french in millions)


def test_pieces_and_join_lose_nothing():
    for split in ("validation", "test"):
        for side in ("english", "french"):
            for text in phrase_pairs.pairs(split)[side][:]:
                assert phrase_pairs.join(phrase_pairs.pieces(text)) == text


def test_cutting_examples():
    assert phrase_pairs.pieces("vingt et un millions d'euros") == ["vingt", "et", "un", "millions", "d'", "euros"]
    assert phrase_pairs.pieces("quatre-vingt-dix") == ["quatre", "-vingt", "-dix"]


def test_held_out_pieces_are_all_known():
    for vocabulary, side in zip(phrase_pairs.vocabularies(), ("english", "french"), strict=True):
        for split in ("validation", "test"):
            assert not (vocabulary.encode(phrase_pairs.pairs(split)[side][:]) == UNKNOWN).any()


def test_encode_and_decode_go_back_and_forth():
    _, french = phrase_pairs.vocabularies()
    texts = ["le six mai mille neuf cent dix", "deux"]
    ids = french.encode(texts)
    assert ids.dtype == torch.int64
    assert ids[:, 0].tolist() == [BEGIN, BEGIN]
    assert ids[1].tolist()[2:4] == [END, PAD]
    assert french.decode(ids) == texts
    assert french.decode(torch.tensor([[BEGIN, END, 9, 9]])) == [""]
    assert french.encode(["xylophone"])[0].tolist() == [BEGIN, UNKNOWN, END]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one of train, validation, test"):
        phrase_pairs.pairs("dev")
    with pytest.raises(ValueError, match="non-empty list of strings"):
        phrase_pairs.vocabularies()[0].encode([])
    with pytest.raises(ValueError, match="non-empty list of strings"):
        phrase_pairs.vocabularies()[0].encode("two")
    with pytest.raises(ValueError, match="as many French"):
        phrase_pairs.tensors(["two"], ["deux", "trois"])
