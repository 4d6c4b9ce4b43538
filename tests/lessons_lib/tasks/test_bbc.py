"""The splits share no document and no sentence, sentences are whole, topics are balanced."""

import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest

from lessons_lib.files import packaged
from lessons_lib.tasks import bbc
from lessons_lib.tasks.bbc import SPLITS, TOPICS, sentence_key, sentences, split_sentences


@pytest.fixture(scope="module")
def keys():
    return {split: [sentence_key(text) for text in sentences(split)["text"]] for split in SPLITS}


@pytest.fixture(scope="module")
def documents():
    return bbc._documents()


def test_no_sentence_and_no_document_crosses_splits(keys):
    for one, other in combinations(SPLITS, 2):
        assert not set(keys[one]) & set(keys[other])
        assert not set(sentences(one)["document"]) & set(sentences(other)["document"])


def test_a_naive_split_would_leak(documents):
    """What the grouping is for: documents dealt out one by one put test sentences into training documents."""
    held_out = {key for document in documents[::4] for key in document.sentences}
    trained_on = {key for n, document in enumerate(documents) if n % 4 for key in document.sentences}
    assert len(held_out & trained_on) / len(held_out) > 0.01


def test_every_sentence_stands_once(keys):
    for split in SPLITS:
        assert len(set(keys[split])) == len(keys[split])


def test_stories_do_not_cross_splits_even_in_sentences_that_were_not_drawn(documents):
    split_of = {number: split for split in SPLITS for number in sentences(split)["document"]}
    first_with = {}
    for document in documents:
        for key in document.sentences:
            other = first_with.setdefault(key, document.number)
            if {document.number, other} <= set(split_of):
                assert split_of[document.number] == split_of[other]


def test_each_split_has_its_share_of_every_topic():
    documents = {}
    for split in SPLITS:
        topic_of = dict(zip(sentences(split)["document"], sentences(split)["topic"], strict=True))
        documents[split] = Counter(topic_of.values())
    for topic in range(len(TOPICS)):
        total = sum(documents[split][topic] for split in SPLITS)
        for split, share in SPLITS.items():
            assert documents[split][topic] / total == pytest.approx(share, abs=0.02)
    assert sum(documents["test"].values()) > 500


def test_held_out_documents_give_few_sentences_each():
    for split in ("validation", "test"):
        assert max(Counter(sentences(split)["document"]).values()) <= bbc.HELD_OUT_SENTENCES


def test_texts_are_clean():
    for split in SPLITS:
        for text in sentences(split)["text"]:
            assert text == text.strip()
            assert len(sentence_key(text).split()) >= bbc.MIN_WORDS
            assert "\n" not in text
            assert "\ufffd" not in text


def test_the_latin_1_file_is_read():
    path = packaged.bbc_folder() / "sports" / "199.txt"
    with pytest.raises(UnicodeDecodeError):
        path.read_bytes().decode("utf-8")
    assert "£" in bbc._decode(path.read_bytes())


def test_headlines_are_left_out(keys):
    path = packaged.bbc_folder() / "tech" / "132.txt"
    headline = sentence_key(path.read_text(encoding="utf-8").splitlines()[0])
    assert headline
    assert not any(headline in keys[split] for split in SPLITS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rose 5.5% in 2004. Exports fell.", ["It rose 5.5% in 2004.", "Exports fell."]),
        ("Mr. Blair met Dr. Smith. They talked.", ["Mr. Blair met Dr. Smith.", "They talked."]),
        ('"It is over." He left.', ['"It is over."', "He left."]),
        ('He said: "Why?" Nobody knew.', ['He said: "Why?"', "Nobody knew."]),
        ("J. K. Rowling wrote it. It sold.", ["J. K. Rowling wrote it.", "It sold."]),
        ("The U.S. Treasury agreed. Shares rose.", ["The U.S. Treasury agreed.", "Shares rose."]),
        ("One paragraph\n\nand another", ["One paragraph", "and another"]),
        ("Well... perhaps not. £5 is enough.", ["Well... perhaps not.", "£5 is enough."]),
        ("", []),
    ],
)
def test_split_sentences(text, expected):
    assert split_sentences(text) == expected


def test_few_labels_are_balanced_and_seeded():
    train = sentences("train")
    few = bbc.few_labels(train, per_topic=8, seed=1)
    assert Counter(few["topic"]) == dict.fromkeys(range(len(TOPICS)), 8)
    assert list(few["text"]) == list(bbc.few_labels(train, per_topic=8, seed=1)["text"])
    assert list(few["text"]) != list(bbc.few_labels(train, per_topic=8, seed=2)["text"])


@pytest.mark.parametrize("per_topic", [0, -1, 2.5, True, 10**6])
def test_few_labels_refuses_what_cannot_be_drawn(per_topic):
    with pytest.raises(ValueError, match="per_topic|asked for"):
        bbc.few_labels(sentences("validation"), per_topic, seed=0)


def test_an_unknown_split_names_the_known_ones():
    with pytest.raises(ValueError, match="train, validation, test"):
        sentences("dev")


def test_another_process_gets_the_same_sentences(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    code = "from lessons_lib.tasks import bbc; print(bbc.sentences_sha256('test'))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == bbc.sentences_sha256("test")


def test_the_data_card_tells_the_truth(root, documents):
    card = (root / "data" / "README.md").read_text(encoding="utf-8")
    for split in SPLITS:
        rows = sentences(split)
        assert f"| {split} | {len(set(rows['document'])):,} | {len(rows):,} |" in card
    assert f"{len(documents):,} remain" in card
    for sha in (
        packaged.ENCODER_SHA256,
        packaged.TOKENIZER_SHA256,
        packaged.LANGUAGE_MODEL_SHA256,
        packaged.BBC_SHA256,
    ):
        assert f"`{sha}`" in card


def test_a_split_is_counted_as_it_is():
    assert [bbc.sentence_count(split) for split in bbc.SPLITS] == [len(bbc.sentences(split)) for split in bbc.SPLITS]


def test_an_article_is_a_headline_and_the_text_that_its_sentences_come_from():
    rows = bbc.sentences("test")
    for place in (0, len(rows) // 2, len(rows) - 1):
        headline, text = bbc.article(rows[place]["document"])
        assert rows[place]["text"] in text
        assert headline.strip() == headline != ""
        assert "\n" not in headline
    for number in (-1, 2225):
        with pytest.raises(ValueError, match=f"There is no document {number}; they are numbered 0 to 2224"):
            bbc.article(number)
