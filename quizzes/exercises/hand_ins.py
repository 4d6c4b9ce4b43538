"""A hand-in: a model as a file beside the notebook, judged by its bytes and by what it can do, in tiers."""

import sys
from dataclasses import dataclass

BANKS: dict[str, dict[str, "HandIn"]] = {}  # bank module -> hand-ins by name, in the order of the file
NO_TIER = "no tier"
BATCH = 32  # rows that a model is given at once


@dataclass(frozen=True)
class Tier:
    """What a model must meet: at most so many bytes, at least so much of the teacher's quality. share: of the points.

    least: for topics the accuracy as a share of the teacher's, for the translator its BLEU minus the teacher's.
    """

    name: str
    most_bytes: int
    least: float
    share: float


@dataclass(frozen=True)
class MeasuredModel:
    """What was measured of a model, on the same data as the teacher.

    bytes: of its files. quality, low, high: accuracy (0 to 1) or BLEU (0 to 100) with its 95 % interval. teacher: the
    teacher's. kept: what a tier's `least` is compared with. throughput: items a second, one thread, batches of 32.
    """

    bytes: int
    quality: float
    low: float
    high: float
    teacher: float
    kept: float
    throughput: float


class Quality:
    """How a quality reads that is a share of what could be right, and is kept as a share of the teacher's."""

    of = "kept: of the teacher's accuracy"

    def needed(self, least: float) -> str:
        """What a tier asks for, in words."""
        return f"at least {least:.1%} of the teacher's accuracy"

    def kept(self, value: float) -> str:
        """What a model kept of the teacher's quality, in words."""
        return f"{value:.1%} of the teacher's accuracy"

    def figure(self, value: float) -> str:
        """The same as a figure; `of` says of what."""
        return f"{value:.1%}"

    def value(self, value: float) -> str:
        """A quality as people read it."""
        return f"{value:.1%}"


class Bleu(Quality):
    """How BLEU reads, which is kept as a difference to the teacher's."""

    of = "kept: BLEU against the teacher's"

    def needed(self, least: float) -> str:
        """What a tier asks for, in words."""
        return f"at most {-least:g} BLEU below the teacher's"

    def kept(self, value: float) -> str:
        """What a model kept of the teacher's quality, in words."""
        return f"{abs(value):.2f} BLEU {'below' if value < 0 else 'above'} the teacher's"

    def figure(self, value: float) -> str:
        """The same as a figure, with its sign."""
        return f"{value:+.2f}"

    def value(self, value: float) -> str:
        """A BLEU score as people read it."""
        return f"{value:.1f} BLEU"


QUALITIES = {"topics": Quality(), "translator": Bleu()}  # by task


@dataclass(frozen=True)
class HandIn:
    """A model to hand in. tiers: the best first; the first that a model meets is its tier."""

    name: str
    task: str
    points: int
    minutes: int
    hint: str
    tiers: tuple[Tier, ...]

    def tier(self, measured: MeasuredModel) -> Tier | None:
        """The best tier that a model meets, None when it meets none."""
        return next((item for item in self.tiers if not self.lacks(item, measured)), None)

    def worth(self, tier: Tier | None) -> float:
        """The points of a tier; none for no tier."""
        return round(self.points * tier.share, 2) if tier else 0.0

    def lacks(self, tier: Tier, measured: MeasuredModel) -> list[str]:
        """What keeps a model from a tier, in words; empty when it meets it."""
        shortfalls = []
        if measured.bytes > tier.most_bytes:
            shortfalls.append(f"{measured.bytes:,} bytes are {measured.bytes - tier.most_bytes:,} too many")
        # NaN meets nothing.
        if not measured.kept >= tier.least:
            needed, actual = self.quality.needed(tier.least), self.quality.kept(measured.kept)
            shortfalls.append(f"the quality must be {needed}, and it is {actual}")
        return shortfalls

    @property
    def quality(self) -> "Quality":
        """How the quality of its task reads."""
        return QUALITIES[self.task]

    def figures(self, model: MeasuredModel) -> list[tuple[str, str]]:
        """What was measured of a model, and what keeps it from the next tier, as label and text."""
        measured = (model.quality, model.low, model.high, model.teacher)
        value, low, high, teacher = map(self.quality.value, measured)
        rows = [
            ("Bytes", f"{model.bytes:,}"),
            ("Quality", f"{value}, 95 % interval from {low} to {high}"),
            ("The teacher's, on the same data", teacher),
            ("Kept", self.quality.kept(model.kept)),
            ("Throughput", f"{model.throughput:,.0f} a second, batches of {BATCH}, one thread; shown, not graded"),
        ]
        reached = self.tier(model)
        better = self.tiers[: self.tiers.index(reached)] if reached else self.tiers
        return rows + [(f"For {item.name}", "; ".join(self.lacks(item, model))) for item in better[-1:]]

    def budgets(self) -> list[tuple[str, str]]:
        """What each tier asks for, as label and text."""
        rows = []
        for item in self.tiers:
            limits = f"at most {item.most_bytes:,} bytes, {self.quality.needed(item.least)}"
            rows.append((item.name.capitalize(), f"{limits}; points: {self.points * item.share:g}"))
        return rows


def tier(name: str, *, most_bytes: int, least: float, share: float) -> Tier:
    """A tier of a hand-in; see Tier. Raises ValueError for limits that nothing, or everything, can meet."""
    if most_bytes < 1 or not 0 < share <= 1 or not -100 <= least <= 1:
        raise ValueError(
            f"tier {name!r}: most_bytes must be 1 or more, share above 0 and at most 1, and least at most 1; "
            f"not {most_bytes}, {share} and {least}."
        )
    return Tier(name, most_bytes, least, share)


def hand_in(name: str, *, task: str, points: int, minutes: int, hint: str, tiers: list[Tier]) -> HandIn:
    """Add a hand-in to the bank module that calls this.

    task: one of QUALITIES. points: of the best tier. tiers: the best first. Raises ValueError for a second one of that
    name, an unknown task, no tier, or tiers that do not grow easier and cheaper from the first to the last.
    """
    # The caller's module, as in questions.question.
    bank = BANKS.setdefault(sys._getframe(1).f_globals["__name__"], {})
    if name in bank:
        raise ValueError(f"there are two hand-ins {name!r}; rename one.")
    if task not in QUALITIES:
        raise ValueError(f"hand-in {name!r} has the task {task!r}; it can have {', '.join(QUALITIES)}.")
    if not tiers or tiers[0].share != 1:
        raise ValueError(f"hand-in {name!r} needs a first tier that earns all of its points: share=1.")
    for better, worse in zip(tiers, tiers[1:], strict=False):
        easier = worse.most_bytes >= better.most_bytes and worse.least <= better.least
        if not easier or worse.share >= better.share or worse.name == better.name:
            raise ValueError(
                f"hand-in {name!r}: tier {worse.name!r} must ask for no more than {better.name!r}, and earn less."
            )
    bank[name] = HandIn(name, task, points, minutes, hint, tuple(tiers))
    return bank[name]
