"""Write data/translation_pairs.tsv.gz: English phrases of numbers, ordinals, dates and amounts, with their French.

    python data/make_translation_pairs.py            write the file
    python data/make_translation_pairs.py --check    write nothing; exit 1 when the file holds something else

num2words says the numbers, Babel names months, weekdays, currencies and units. Everything is drawn from one seed. Whole
blocks of numbers and of years are held out for validation and for testing: a number of a held-out block stands in no
training phrase of its kind, whatever the phrase around it.
"""

import argparse
import datetime
import gzip
import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from babel.dates import get_day_names, get_month_names
from babel.numbers import get_currency_name
from babel.units import format_unit
from num2words import num2words

FILE = Path(__file__).resolve().with_name("translation_pairs.tsv.gz")
SEED = 2026
ROWS = {"train": 40_000, "validation": 1_000, "test": 1_500}
KINDS = {"number": 0.3, "ordinal": 0.15, "date": 0.3, "amount": 0.25}

# First and last number of each block that is held out.
NUMBER_BLOCKS = {
    "validation": [(250, 269), (840, 859), (7_000, 7_999), (34_000, 36_999), (82_000, 84_999), (270_000, 289_999)],
    "test": [
        (430, 449),
        (770, 789),
        (3_000, 3_999),
        (26_000, 28_999),
        (51_000, 53_999),
        (94_000, 96_999),
        (310_000, 329_999),
        (680_000, 699_999),
    ],
}
YEAR_BLOCKS = {
    "validation": [(1470, 1479), (1830, 1849), (2070, 2079)],
    "test": [(1580, 1589), (1740, 1759), (1910, 1919), (2040, 2059)],
}
FIRST_YEAR, LAST_YEAR = 1400, 2199
DIGITS = {1: 1, 2: 3, 3: 8, 4: 12, 5: 14, 6: 14}  # how often a number has so many digits

CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY", "CAD", "INR", "SEK", "MXN", "PLN", "BRL")
UNITS = (
    "length-kilometer",
    "length-meter",
    "mass-kilogram",
    "mass-gram",
    "mass-tonne",
    "volume-liter",
    "area-hectare",
    "duration-hour",
    "duration-minute",
    "duration-day",
    "duration-week",
)
FEMININE = {"GBP", "INR", "SEK", "mass-tonne", "duration-hour", "duration-minute", "duration-week"}

Phrase = tuple[str, str]  # English, French
Blocks = dict[str, list[tuple[int, int]]]


def in_blocks(number: int, blocks: list[tuple[int, int]]) -> bool:
    return any(first <= number <= last for first, last in blocks)


def drawn(split: str, blocks: Blocks, candidate: Callable[[], int], draw: random.Random) -> int:
    """A number of the split: from its own blocks when held out, from no split's blocks when for training."""
    if split != "train":
        first, last = draw.choice(blocks[split])
        return draw.randint(first, last)
    while True:
        number = candidate()
        if not any(in_blocks(number, held_out) for held_out in blocks.values()):
            return number


def any_number(split: str, draw: random.Random) -> int:
    def candidate() -> int:
        digits = draw.choices(list(DIGITS), weights=DIGITS.values())[0]
        return draw.randint(10 ** (digits - 1), 10**digits - 1)

    return drawn(split, NUMBER_BLOCKS, candidate, draw)


def any_year(split: str, draw: random.Random) -> int:
    return drawn(split, YEAR_BLOCKS, lambda: draw.randint(FIRST_YEAR, LAST_YEAR), draw)


def english_words(number: int, to: str = "cardinal") -> str:
    return num2words(number, lang="en", to=to).replace(",", "")


def french_words(number: int, to: str = "cardinal", feminine: bool = False) -> str:
    words = num2words(number, lang="fr", to=to)
    words = re.sub(r"(vingt|cent)sième$", r"\1ième", words)  # num2words keeps the plural s before -ième
    return re.sub(r"\bun$", "une", words) if feminine else words


def number_phrase(split: str, draw: random.Random) -> Phrase:
    number = any_number(split, draw)
    return english_words(number), french_words(number)


def ordinal_phrase(split: str, draw: random.Random) -> Phrase:
    number = any_number(split, draw)
    return english_words(number, "ordinal"), french_words(number, "ordinal")


def date_phrase(split: str, draw: random.Random) -> Phrase:
    """A date with its weekday, a date without, or a month of a year."""
    year = any_year(split, draw)
    date = datetime.date(year, 1, 1) + datetime.timedelta(days=draw.randrange(365))
    spoken = english_words(year, "year"), french_words(year)
    month = [get_month_names(locale=language)[date.month] for language in ("en", "fr")]
    form = draw.choices(["weekday", "day", "month"], weights=[5, 4, 1])[0]
    if form == "month":
        return f"{month[0]} {spoken[0]}", f"{month[1]} {spoken[1]}"
    day = english_words(date.day, "ordinal"), "premier" if date.day == 1 else french_words(date.day)
    english, french = f"the {day[0]} of {month[0]} {spoken[0]}", f"{day[1]} {month[1]} {spoken[1]}"
    if form == "day":
        return english, f"le {french}"
    weekday = [get_day_names(locale=language)[date.weekday()] for language in ("en", "fr")]
    return f"{weekday[0]} {english}", f"{weekday[1]} {french}"


@cache
def unit_name(unit: str, count: int, locale: str) -> str:
    """Name of a currency or a unit of measure after a number, singular or plural as the language asks."""
    if unit in CURRENCIES:
        return get_currency_name(unit, count=count, locale=locale)
    plural = 1 if count == 1 else 2
    return re.sub(r"^\d\s", "", format_unit(plural, unit, locale=locale))


def amount_phrase(split: str, draw: random.Random) -> Phrase:
    """A number of some currency or unit; sometimes millions of it, sometimes euros and cents."""
    unit, number = draw.choice(CURRENCIES + UNITS), any_number(split, draw)
    if number < 1_000 and draw.random() < 0.5:
        name = unit_name(unit, 1_000_000, "fr")
        of = "d'" if name[0] in "aeiouh" else "de "  # the h of heures and hectares is mute
        million = "million" if number == 1 else "millions"
        return (
            f"{english_words(number)} million {unit_name(unit, 1_000_000, 'en')}",
            f"{french_words(number)} {million} {of}{name}",
        )
    english = f"{english_words(number)} {unit_name(unit, min(number, 2), 'en')}"
    french = f"{french_words(number, feminine=unit in FEMININE)} {unit_name(unit, min(number, 2), 'fr')}"
    if unit != "EUR":
        return english, french
    cents = draw.randint(2, 99)
    return f"{english} and {english_words(cents)} cents", f"{french} et {french_words(cents)} centimes"


PHRASES = {"number": number_phrase, "ordinal": ordinal_phrase, "date": date_phrase, "amount": amount_phrase}


def rows(split: str, count: int | None = None, seed: int | str = SEED) -> list[tuple[str, str, str, str]]:
    """Distinct phrases of a split in random order, each kind with its share: split, kind, English, French.

    count, seed: of the file unless given; quizzes/models/held_out.py draws others.
    """
    draw, found = random.Random(f"{seed} {split}"), {}
    for kind, share in KINDS.items():
        wanted = len(found) + round(share * (count or ROWS[split]))
        while len(found) < wanted:
            english, french = PHRASES[kind](split, draw)
            found.setdefault(english, (split, kind, english, french))
    listed = list(found.values())
    draw.shuffle(listed)
    return listed


def text() -> str:
    """The whole corpus as tab-separated lines under a header."""
    lines = ["\t".join(row) for split in ROWS for row in rows(split)]
    return "\n".join(["split\tkind\tenglish\tfrench", *lines]) + "\n"


def main() -> int:
    """Write or check; the exit status."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file differs")
    corpus = text().encode()
    if options.parse_args().check:
        same = FILE.exists() and gzip.decompress(FILE.read_bytes()) == corpus
        print(f"{FILE.name} {'is what this script writes' if same else 'differs'}")
        return 0 if same else 1
    FILE.write_bytes(gzip.compress(corpus, compresslevel=9, mtime=0))  # without a time stamp: the same bytes again
    print(f"{FILE.name}: {sum(ROWS.values()):,} pairs, {FILE.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
