"""Pairs of English and French phrases: numbers, ordinals, dates and amounts in words, and the pieces they are made of.

data/make_translation_pairs.py made the pairs, data/README.md describes them. Whole blocks of numbers and of years are
held out: a translator meets "fifty-two thousand" first in the test, and has to build it from what it knows.
"""

import gzip
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lessons_lib.files import cache

if TYPE_CHECKING:
    from datasets import Dataset

FILE = Path(__file__).resolve().parents[2] / "data" / "translation_pairs.tsv.gz"
SPLITS = ("train", "validation", "test")
KINDS = ("number", "ordinal", "date", "amount")

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<begin>", "<end>", "<unknown>")
PIECE = re.compile(r"-?[^\s'-]+'?|-|'")  # "vingt-deux" is "vingt" and "-deux", "d'euros" is "d'" and "euros"


def pieces(text: str) -> list[str]:
    """Words, cut before a hyphen and after an apostrophe, so that few pieces make all numbers."""
    return PIECE.findall(text)


def join(parts: Iterable[str]) -> str:
    """The text that `pieces` cut."""
    return re.sub(r" (?=-)|(?<=') ", "", " ".join(parts))


class Vocabulary:
    """Pieces by number: the four special ones first, the others in alphabetical order."""

    def __init__(self, texts: Iterable[str]):
        self.pieces = [*SPECIAL, *sorted({piece for text in texts for piece in pieces(text)})]
        self._ids = {piece: number for number, piece in enumerate(self.pieces)}

    def __len__(self) -> int:
        return len(self.pieces)

    def ids(self, text: str) -> list[int]:
        """The numbers of a text's pieces, between BEGIN and END; UNKNOWN for a piece that is not in the vocabulary."""
        return [BEGIN, *(self._ids.get(piece, UNKNOWN) for piece in pieces(text)), END]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """int64 (N, longest), every row BEGIN, the pieces, END, then PAD. Raises ValueError when there is no text."""
        if isinstance(texts, str) or not len(texts) or not all(isinstance(text, str) for text in texts):
            raise ValueError("texts must be a non-empty list of strings.")
        rows = [self.ids(text) for text in texts]
        longest = max(map(len, rows))
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])

    def decode(self, ids: Tensor) -> list[str]:
        """The texts of rows (N, T): what stands before the first END, without BEGIN and PAD."""
        return [self._text(row) for row in ids.tolist()]

    def _text(self, row: list[int]) -> str:
        row = row[: row.index(END)] if END in row else row
        return join(self.pieces[number] for number in row if number not in (PAD, BEGIN))


@lru_cache(maxsize=1)
def _rows() -> dict[str, list[tuple[str, str, str]]]:
    rows = {split: [] for split in SPLITS}
    with gzip.open(FILE, "rt", encoding="utf-8") as file:
        next(file)
        for line in file:
            split, kind, english, french = line.rstrip("\n").split("\t")
            rows[split].append((kind, english, french))
    return rows


@lru_cache(maxsize=1)
def pairs_sha256() -> str:
    """Hash of the file of pairs: what a translator is shaped by."""
    return cache.file_sha256(FILE)


@lru_cache(maxsize=len(SPLITS))
def pairs(split: str) -> "Dataset":
    """Columns kind, english and french (str), in random order; split: "train" (40,000 pairs), "validation" or "test".

    No number and no year of one split's blocks occurs in another split. Raises ValueError for another split.
    """
    from datasets import Dataset

    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; use one of {', '.join(SPLITS)}.")
    kind, english, french = zip(*_rows()[split], strict=True)
    return Dataset.from_dict({"kind": list(kind), "english": list(english), "french": list(french)})


@lru_cache(maxsize=1)
def vocabularies() -> tuple[Vocabulary, Vocabulary]:
    """The English and the French vocabulary, of all training pairs."""
    train = _rows()["train"]
    return Vocabulary(english for _, english, _ in train), Vocabulary(french for _, _, french in train)


def tensors(english: Sequence[str], french: Sequence[str]) -> dict[str, Tensor]:
    """Pairs as a translator trains on them: source and target, int64 (N, S) and (N, T), padded with PAD.

    Raises ValueError unless there are as many French texts as English ones, and at least one.
    """
    if len(english) != len(french):
        raise ValueError(f"{len(english)} English texts need as many French ones, not {len(french)}.")
    source, target = vocabularies()
    return {"source": source.encode(english), "target": target.encode(french)}
