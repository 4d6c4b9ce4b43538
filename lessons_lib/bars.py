"""A progress bar for work that turns out to take a while; what is done at once shows none, and pays for none."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
AFTER_SECONDS, EVERY_SECONDS = 2.0, 1.0  # seldom: what draws the bar would else disturb many a measured call


def over(items: Iterable[Item], desc: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """The items, one by one. Once they have taken two seconds a bar shows how many are done and the time left.

    total: how many there are; len(items) when it is left out. The bar goes when the last item is done, and when the
    work ends in between. Only then is tqdm loaded: a widget costs milliseconds, more than many a call that is timed.
    """
    total = len(items) if total is None else total
    begun, shown = time.monotonic(), None
    try:
        for done, item in enumerate(items):
            if shown is None and time.monotonic() - begun > AFTER_SECONDS:
                from tqdm.auto import tqdm

                shown = tqdm(total=total, initial=done, desc=desc, unit=unit, leave=False, mininterval=EVERY_SECONDS)
            yield item
            if shown is not None:
                shown.update()
    finally:
        if shown is not None:
            shown.close()
