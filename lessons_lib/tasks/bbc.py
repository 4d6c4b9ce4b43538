"""Sentences with topics, from BBC news documents of 2004 and 2005 (Greene and Cunningham, ICML 2006).

The document decides the split. Documents that share a sentence stay together, so no sentence and no document stands in
two splits.
"""

import hashlib
import json
import random
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lessons_lib.files import cache, packaged

if TYPE_CHECKING:
    from datasets import Dataset

TOPICS = ("business", "entertainment", "politics", "sport", "tech")
FOLDERS = {"sports": "sport"}  # the package writes this topic in the plural
SPLITS = {"train": 0.6, "validation": 0.1, "test": 0.3}  # shares of the documents of each topic
HELD_OUT_SENTENCES = 8  # of one document, at most: more of them cost time and hardly narrow an interval by document
SPLIT_SEED = 2006
MIN_WORDS = 5  # shorter fragments ("He was right.") say nothing about the topic

FILE = "sentences.json"
Row = tuple[str, int, int]  # text, topic, document

ABBREVIATIONS = {"Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Sgt", "Lt", "Gen", "Rev", "Hon", "No", "vs", "Jr", "Sr"}
# A sentence ends at . ! or ?, with the quotes and brackets that close it, before what can start a sentence.
SENTENCE_END = re.compile(r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]*[A-Z0-9£$])""")
INITIALS = re.compile(r"[A-Z](\.[A-Z])*")
WORD = re.compile(r"\w+")
LAST_WORD = re.compile(r"([A-Za-z.]+)\.$")


class Document(NamedTuple):
    """One article: its number, its topic, and its sentences."""

    number: int  # position among the sorted paths of the corpus
    topic: int
    sentences: dict[str, str]  # by key, in order


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, paragraph by paragraph; abbreviations and initials do not end one."""
    sentences = []
    for paragraph in text.splitlines():
        start = 0
        for end in SENTENCE_END.finditer(paragraph):
            word = LAST_WORD.search(paragraph, start, end.start())
            if word and (word[1] in ABBREVIATIONS or INITIALS.fullmatch(word[1])):
                continue
            sentences.append(paragraph[start : end.end()].strip())
            start = end.end()
        sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def sentence_key(sentence: str) -> str:
    """What two writings of one sentence have in common: its words and numbers, in lower case."""
    return " ".join(WORD.findall(sentence.lower()))


def _decode(content: bytes) -> str:
    """UTF-8; one file of the corpus, sports/199.txt, is Latin-1."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


@lru_cache(maxsize=1)
def _paths() -> list[Path]:
    folder = packaged.bbc_folder()
    return sorted(folder.glob("*/*.txt"), key=lambda path: path.relative_to(folder).as_posix())


def article(document: int) -> tuple[str, str]:
    """Headline and text of a document, by the number that `sentences` gives it.

    Raises ValueError when there is no such document.
    """
    if not 0 <= document < len(_paths()):
        raise ValueError(f"There is no document {document}; they are numbered 0 to {len(_paths()) - 1}.")
    headline, _, body = _decode(_paths()[document].read_bytes()).partition("\n")
    return headline.strip(), body


def long_enough(key: str) -> bool:
    """Whether a sentence, by its `sentence_key`, has the MIN_WORDS words that say something about the topic."""
    return key.count(" ") >= MIN_WORDS - 1


def _documents() -> list[Document]:
    """All documents without their headlines (the first line); of documents with the same text, the first."""
    documents: dict[str, Document] = {}
    for number, path in enumerate(_paths()):
        _headline, body = article(number)
        keyed = {sentence_key(sentence): sentence for sentence in split_sentences(body)}
        sentences = {key: sentence for key, sentence in keyed.items() if long_enough(key)}
        topic = TOPICS.index(FOLDERS.get(path.parent.name, path.parent.name))
        documents.setdefault(" ".join(sentences), Document(number, topic, sentences))
    return list(documents.values())


def _stories(documents: list[Document]) -> list[list[Document]]:
    """Documents in groups: two that share a sentence, directly or through others, are one story."""
    parent = {document.number: document.number for document in documents}

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    first_with: dict[str, int] = {}
    for document in documents:
        for key in document.sentences:
            other = first_with.setdefault(key, document.number)
            if other != document.number:
                parent[root(document.number)] = root(other)
    stories = defaultdict(list)
    for document in documents:
        stories[root(document.number)].append(document)
    return list(stories.values())


def _split(stories: list[list[Document]], draw: random.Random) -> dict[str, list[Document]]:
    """Whole stories to splits, so that each split has its share of the documents of each topic."""
    splits: dict[str, list[Document]] = {split: [] for split in SPLITS}
    for topic in range(len(TOPICS)):
        of_topic = [story for story in stories if story[0].topic == topic]
        draw.shuffle(of_topic)
        given = dict.fromkeys(SPLITS, 0)
        for story in of_topic:
            neediest = min(SPLITS, key=lambda split: given[split] / SPLITS[split])
            given[neediest] += len(story)
            splits[neediest] += story
    return splits


def _rows(
    documents: list[Document], topics_of: dict[str, set[int]], most: int | None, draw: random.Random
) -> list[Row]:
    """Every sentence once, without those that stand under several topics; `most` of a document, drawn at random."""
    rows, seen = [], set()
    for document in sorted(documents):
        keys = [key for key in document.sentences if key not in seen and len(topics_of[key]) == 1]
        seen.update(keys)
        if most is not None and len(keys) > most:
            keys = [keys[i] for i in sorted(draw.sample(range(len(keys)), most))]
        rows += [(document.sentences[key], document.topic, document.number) for key in keys]
    return rows


def _build() -> dict[str, list[Row]]:
    documents = _documents()
    topics_of: dict[str, set[int]] = defaultdict(set)
    for document in documents:
        for key in document.sentences:
            topics_of[key].add(document.topic)
    draw = random.Random(SPLIT_SEED)
    splits = _split(_stories(documents), draw)
    most = {"train": None, "validation": HELD_OUT_SENTENCES, "test": HELD_OUT_SENTENCES}
    return {split: _rows(splits[split], topics_of, most[split], draw) for split in SPLITS}


@lru_cache(maxsize=1)
def _splits() -> dict[str, list[Row]]:
    return cache.stored(
        "sentences",
        shaped_by={"texts": packaged.BBC_SHA256, "code": cache.file_sha256(Path(__file__))},
        build=_build,
        load=lambda folder: json.loads((folder / FILE).read_text(encoding="utf-8")),
        save=lambda splits, folder: (folder / FILE).write_text(json.dumps(splits), encoding="utf-8"),
    )


def sentences_sha256(split: str) -> str:
    """Hash over the rows of a split: what a model trained on them is shaped by."""
    return hashlib.sha256(json.dumps(_splits()[_known(split)]).encode()).hexdigest()


def sentence_count(split: str) -> int:
    """How many sentences a split has, without building its Dataset."""
    return len(_splits()[_known(split)])


@lru_cache(maxsize=len(SPLITS))
def sentences(split: str) -> "Dataset":
    """Single sentences with their topic, columns text (str), topic (int, position in TOPICS) and document (int).

    split: "train" (all sentences of 60 % of the documents), "validation" (10 %) or "test" (30 %); of a held-out
    document at most HELD_OUT_SENTENCES sentences, drawn once. Headlines and fragments under MIN_WORDS words are left
    out. Raises ValueError for another split.
    """
    from datasets import ClassLabel, Dataset, Features, Value

    text, topic, document = zip(*_splits()[_known(split)], strict=True)
    features = Features({"text": Value("string"), "topic": ClassLabel(names=list(TOPICS)), "document": Value("int64")})
    columns = {"text": list(text), "topic": list(topic), "document": list(document)}
    return Dataset.from_dict(columns, features=features)


def few_labels(dataset: "Dataset", per_topic: int, seed: int) -> "Dataset":
    """per_topic sentences of each topic, drawn without replacement, in the order of the dataset.

    Raises ValueError when a topic has fewer sentences than asked for.
    """
    if isinstance(per_topic, bool) or not isinstance(per_topic, int) or per_topic < 1:
        raise ValueError(f"per_topic must be a whole number of at least 1, not {per_topic!r}.")
    positions = defaultdict(list)
    for position, topic in enumerate(dataset["topic"]):
        positions[topic].append(position)
    draw, chosen = random.Random(seed), []
    for topic, name in enumerate(TOPICS):
        if len(positions[topic]) < per_topic:
            raise ValueError(f"{per_topic} sentences of {name} were asked for; there are {len(positions[topic])}.")
        chosen += draw.sample(positions[topic], per_topic)
    return dataset.select(sorted(chosen))


def _known(split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; use one of {', '.join(SPLITS)}.")
    return split
