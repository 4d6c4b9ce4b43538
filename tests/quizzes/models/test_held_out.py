"""Data for judging hand-ins: in no split of the course, drawn from a seed, whole."""

import pytest

from lessons_lib.tasks import bbc, phrase_pairs
from quizzes.models import held_out
from quizzes.models.held_out import Sentence


def test_honour_sentences_are_of_test_documents_and_in_no_split():
    found = held_out.honour_sentences(2_000, seed=3)
    known = {bbc.sentence_key(text) for split in bbc.SPLITS for text in bbc.sentences(split)["text"]}
    keys = [bbc.sentence_key(item.text) for item in found]
    assert len(set(keys)) == len(found) == 2_000
    assert not set(keys) & known
    test = dict(zip(bbc.sentences("test")["document"], bbc.sentences("test")["topic"], strict=True))
    assert all(test[item.document] == item.topic for item in found)
    assert {item.topic for item in found} == set(range(len(bbc.TOPICS)))
    for item in found[:20]:
        assert item.text in bbc.article(item.document)[1]


def test_public_sentences_are_of_the_validation_split():
    rows = bbc.sentences("validation")
    known = set(zip(rows["text"], rows["topic"], rows["document"], strict=True))
    assert set(held_out.public_sentences(300, seed=1)) <= known


@pytest.mark.parametrize("draw", [held_out.honour_sentences, held_out.public_sentences, held_out.public_pairs])
def test_one_seed_draws_one_thing(draw):
    assert draw(50, 1) == draw(50, 1)
    assert draw(50, 1) != draw(50, 2)
    with pytest.raises(ValueError, match="cannot be drawn"):
        draw(10**6, 1)
    with pytest.raises(ValueError, match="one at least"):
        draw(0, 1)


def test_new_pairs_are_new_and_of_the_held_out_blocks():
    found = held_out.new_pairs(400, seed=5)
    assert found == held_out.new_pairs(400, seed=5)
    assert found != held_out.new_pairs(400, seed=6)
    english = [pair.english for pair in found]
    assert len(set(english)) == len(found) == 400
    assert not {text for split in phrase_pairs.SPLITS for text in phrase_pairs.pairs(split)["english"]} & set(english)
    source, target = phrase_pairs.vocabularies()
    for pair in found:
        assert phrase_pairs.UNKNOWN not in source.ids(pair.english)
        assert phrase_pairs.UNKNOWN not in target.ids(pair.french)
    # A number of the test blocks in words: 430-449, 770-789, 3,000-3,999, 26,000-28,999 ...
    first = (
        "four hundred and thirt",
        "four hundred and fort",
        "seven hundred and",
        "three thousand",
        "twenty-six thousand",
        "twenty-seven thousand",
        "twenty-eight thousand",
        "fifty-one thousand",
        "fifty-two thousand",
        "fifty-three thousand",
        "ninety-four thousand",
        "ninety-five thousand",
        "ninety-six thousand",
        "three hundred and",
        "six hundred and",
    )
    numbers = [text for text in english if " of " not in text and text[0].islower()]  # not a date
    assert len(numbers) > 150
    assert all(text.startswith(first) for text in numbers)


def texts(folder, files: dict):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


LONG = "The striker scored twice in the final. He left the field at half time. Yes."


def test_an_instructors_texts_become_sentences_with_their_topic(tmp_path):
    found = held_out.sentences_in(
        texts(
            tmp_path,
            {
                "sport/one.txt": LONG,
                "tech/a.txt": "\ufeffPhones got cheaper again this year.",
                "tech/b.md": "not read",
                "sport/long.txt": "\n".join(f"This is sentence number {number} of it." for number in range(20)),
            },
        )
    )
    assert [item for item in found if item.document != 0] == [
        Sentence("The striker scored twice in the final.", 3, 1),
        Sentence("He left the field at half time.", 3, 1),
        Sentence("Phones got cheaper again this year.", 4, 2),
    ]
    assert sum(item.document == 0 for item in found) == bbc.HELD_OUT_SENTENCES


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"sports/one.txt": LONG}, "has the folder 'sports'; its folders are business, entertainment"),
        ({"sport/one.txt": LONG}, "fewer than two documents"),
        ({"sport/one.txt": LONG, "tech/two.txt": "Too short."}, "fewer than two documents"),
        ({"sport/one.txt": LONG, "tech/two.txt": b"caf\xe9 and more words than five"}, "is not UTF-8"),
        ({"sport/one.txt": b"x" * (10**6 + 1)}, "has more than 1,000,000 bytes"),
    ],
)
def test_texts_that_cannot_be_used_say_why(tmp_path, files, words):
    with pytest.raises(ValueError, match=words):
        held_out.sentences_in(texts(tmp_path, files))


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        held_out.sentences_in(tmp_path / "nothing")
