"""Data for judging a model that somebody hands in: texts and pairs that no split of the course holds.

All of it is drawn from a seed. Who does not know the seed knows neither the sentences nor the pairs.
"""

import importlib.util
import random
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lessons_lib.tasks import bbc, phrase_pairs

SCRIPT = phrase_pairs.FILE.with_name("make_translation_pairs.py")
MOST_TEXT_BYTES = 10**6  # of one document that an instructor supplies


class Sentence(NamedTuple):
    """A sentence, the position of its topic in bbc.TOPICS, and the number of its document."""

    text: str
    topic: int
    document: int


class Pair(NamedTuple):
    """An English phrase and its French."""

    english: str
    french: str


@lru_cache(maxsize=1)
def _unused_sentences() -> list[Sentence]:
    """What the test documents hold beyond the few sentences of each that make the test split.

    Their documents are in no other split, so a model that kept away from the test documents has met none of them.
    """
    test = bbc.sentences("test")
    topics = dict(zip(test["document"], test["topic"], strict=True))
    known = {bbc.sentence_key(text) for split in bbc.SPLITS for text in bbc.sentences(split)["text"]}
    by_key, places = {}, Counter()
    for document, topic in sorted(topics.items()):
        sentences = {bbc.sentence_key(text): text for text in bbc.split_sentences(bbc.article(document)[1])}
        places.update(list(sentences))
        by_key |= {key: Sentence(text, topic, document) for key, text in sentences.items()}
    return [
        sentence for key, sentence in by_key.items() if places[key] == 1 and key not in known and bbc.long_enough(key)
    ]


def honour_sentences(count: int, seed: int) -> list[Sentence]:
    """`count` sentences of the test documents, none of them in a split of bbc; drawn from the seed, in its order.

    The texts are on every learner's disk, so it is a matter of honour not to train on the test documents.
    Raises ValueError when there are not so many.
    """
    return _drawn(_unused_sentences(), count, seed)


def public_sentences(count: int, seed: int) -> list[Sentence]:
    """`count` sentences of the validation split, drawn from the seed. Raises ValueError when there are not so many."""
    rows = bbc.sentences("validation")
    sentences = map(Sentence, rows["text"], rows["topic"], rows["document"])
    return _drawn(list(sentences), count, seed)


def sentences_in(folder: Path) -> list[Sentence]:
    """Sentences of an instructor's own texts: folder/<topic>/<any name>.txt, each file a document in UTF-8.

    Of a document at most bbc.HELD_OUT_SENTENCES, its first ones, of bbc.MIN_WORDS words or more. Raises
    ValueError when a folder is no topic, a file cannot be read, or there are not at least two documents.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give one that holds a folder for each topic, with .txt files.")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    unknown = [name for name in names if name not in bbc.TOPICS]
    if unknown:
        raise ValueError(f"{folder} has the folder {unknown[0]!r}; its folders are {', '.join(bbc.TOPICS)}.")
    paths = [path for name in names for path in sorted((folder / name).glob("*.txt"))]
    corpus = []
    for document, path in enumerate(paths):
        sentences = [text for text in bbc.split_sentences(_text(path)) if bbc.long_enough(bbc.sentence_key(text))]
        topic = bbc.TOPICS.index(path.parent.name)
        corpus += [Sentence(text, topic, document) for text in sentences[: bbc.HELD_OUT_SENTENCES]]
    if len({sentence.document for sentence in corpus}) < 2:
        raise ValueError(
            f"{folder} holds fewer than two documents with sentences of {bbc.MIN_WORDS} words or "
            "more; write them as <topic>/<name>.txt."
        )
    return corpus


def _text(path: Path) -> str:
    if path.stat().st_size > MOST_TEXT_BYTES:
        raise ValueError(f"{path} has more than {MOST_TEXT_BYTES:,} bytes; make several documents of it.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8.") from error


def new_pairs(count: int, seed: int) -> list[Pair]:
    """`count` pairs of the test blocks of numbers and years, none of them in the course's file, drawn from the seed.

    Made by the script that made the file, so every kind of phrase has the share that it has there.
    """
    known = {text for split in phrase_pairs.SPLITS for text in phrase_pairs.pairs(split)["english"]}
    # Seven phrases in a hundred are in the file already, most of them months of a year.
    rows = _script().rows("test", count + count // 2 + 50, f"{seed} hand-in")
    pairs = [Pair(english, french) for _, _, english, french in rows if english not in known]
    return pairs[:count]


def public_pairs(count: int, seed: int) -> list[Pair]:
    """`count` pairs of the validation split, drawn from the seed. Raises ValueError when there are not so many."""
    rows = phrase_pairs.pairs("validation")
    return _drawn(list(map(Pair, rows["english"], rows["french"])), count, seed)


@lru_cache(maxsize=1)
def _script():
    """data/make_translation_pairs.py as a module; it stands beside the file that it made, not in a package."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _drawn(items: list, count: int, seed: int) -> list:
    if not 1 <= count <= len(items):
        raise ValueError(f"{count} cannot be drawn: there are {len(items)}, and one at least must be asked for.")
    return random.Random(f"{seed} hand-in").sample(items, count)
