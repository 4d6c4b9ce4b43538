"""A progress bar for work that turns out to take a while; what is done at once shows none, and pays for none."""

import time
from collections.abc import Collection, Iterator
from typing import TypeVar

Item = TypeVar("Item")
# Short: whatever loops over batches needs this one function, and loads nothing else with it.
AFTER_SECONDS, EVERY_SECONDS = 2.0, 1.0  # seldom: what draws the bar would else disturb many a measured call


def over(items: Collection[Item], desc: str, unit: str) -> Iterator[Item]:
    """The items, one by one, for a `for` statement. Once they have taken two seconds a bar shows how many are done and
    the time left; it goes with the statement, also when an interrupt ends that. (A comprehension would keep it.)

    tqdm is loaded with the bar and not before: a widget costs milliseconds, more than many a call that is timed.
    """
    begun, bar = time.monotonic(), None
    try:
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - begun > AFTER_SECONDS:
                from tqdm.auto import tqdm

                bar = tqdm(total=len(items), initial=done, desc=desc, unit=unit, leave=False, mininterval=EVERY_SECONDS)
            yield item
            if bar is not None:
                bar.update()
    finally:
        if bar is not None:
            bar.close()
