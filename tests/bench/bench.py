"""`course bench grading`: this grader, nbgrader and otter-grader on the same submissions, in one run on this machine.

What is done once (starting, importing torch) is reported apart from the work on a submission, and so is waiting for
what loops. Nobody's figures are quoted: a peer that cannot be installed or run is reported as that.
"""

import fnmatch
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lessons_lib.files import cache
from lessons_lib.measure import benchmark
from quizzes import lesson
from quizzes.grading.gradebook.gradebook import Entry, Gradebook
from quizzes.grading.judging import folder
from quizzes.grading.judging.grader import Grader
from quizzes.grading.judging.schedule import Here, Processes
from quizzes.grading.sandbox.bubblewrap import Bubblewrap
from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.grading.sandbox.watched_process import TIME
from tests.bench import peers, submissions
from tests.bench.submissions import ALL, LESSON, NOBODY, WELL

SEED = 20
COPIES = 5  # of each, so that a quick grader has something to do
WARMING = 4
LIMIT_SECONDS = 10.0
NAME = "course grade"
PEERS = {"nbgrader autograde": peers.Nbgrader, "otter run": peers.Otter}


@dataclass(frozen=True)
class Figures:
    """One grader on one set of submissions; seconds.

    start: once, before the first is graded. work: time that passes for each submission, waiting apart, with so many
    workers. waiting: for loops, in all.
    """

    grader: str
    what: str
    workers: int
    start: float
    work: float
    waiting: float
    points: dict[str, float]

    def row(self) -> dict[str, str | int | float]:
        """A line of the table."""
        return {
            "grader": self.grader,
            "submissions": self.what,
            "workers": self.workers,
            "start (s)": round(self.start, 1),
            "work on each (s)": round(self.work, 3),
            "waiting in all (s)": round(self.waiting, 1),
            "a minute": round(60 / self.work, 1),
        }


def run(workers: int, say: Callable[[str], None], kinds: dict = PEERS) -> list[Figures]:
    """Measure; this grader before, between and after the others. say: told what is found, line by line."""
    students = list(submissions.submissions())
    well = fnmatch.filter(students, WELL)
    say(
        f"{len(students)} submissions of {len(lesson(LESSON).exercises)} torch exercises: {submissions.composition()}; "
        f"at most {LIMIT_SECONDS:g} s for an exercise; {benchmark.machine()}"
    )
    found: list[Figures] = []

    def note(figures: Figures) -> Figures:
        found.append(figures)
        say("  ".join(f"{name} {value}" for name, value in figures.row().items()))
        return figures

    with tempfile.TemporaryDirectory() as scratch:
        ours = [note(_ours(Path(scratch, "0"), well, workers))]
        mixed = note(_ours(Path(scratch, "all"), students, workers))
        for number, (name, kind) in enumerate(kinds.items(), 1):
            try:
                peer = kind(cache.cache_dir() / "peers", Path(scratch, kind.__name__), SEED, LIMIT_SECONDS)
                peer.prepare()
                theirs = note(_theirs(peer, name, WELL))
                theirs_mixed = note(_theirs(peer, name, ALL))
            except peers.Missing as missing:
                say(f"{name}: not measured. {missing}")
                continue
            ours.append(note(_ours(Path(scratch, f"after-{number}"), well, workers)))
            work = median(figures.work for figures in ours)
            same = all(abs(ours[0].points[student] - theirs.points[student]) < 0.02 for student in well)
            say(
                f"{name}: {theirs.work / work:.0f} times as long for a well-behaved submission, "
                f"{theirs_mixed.work / mixed.work:.0f} times for one of all, here with {workers} workers; "
                f"{'the same scores' if same else 'OTHER SCORES'} on the well-behaved ones"
            )
            lost = [student for student in students if theirs_mixed.points[student] < mixed.points[student] - 0.02]
            say(f"{name}: fewer points than here for {len(lost)} of {len(students)}: {', '.join(lost) or 'nobody'}")
    return found


def _ours(place: Path, students: list[str], workers: int) -> Figures:
    """This grader with its gradebook, sandbox and all, from a folder of notebooks on.

    A quarter more, well-behaved, warm it up. The one who loops comes last and once, and nobody is begun after them.
    """
    loops = {f"~{student}": student for student in submissions.looping(students)}
    quick = [student for student in students if student not in loops.values()]
    named = {f"{student}~{copy}": student for copy in range(COPIES) for student in quick}
    well = fnmatch.filter(students, WELL)[0]
    warming = {f"0-warming-{number}": well for number in range(max(WARMING, len(named) // 4))}
    everybody = warming | named | loops
    submissions.write(place / "class", everybody)
    moments: dict[str, float] = {}

    def done_now(entry: Entry, _new: bool) -> None:
        moments[entry.student] = time.perf_counter()

    gradebook, sandbox = Gradebook.in_folder(place / "out"), Bubblewrap()
    grader = Grader(SEED, sandbox, SandboxLimits(cpu_seconds=LIMIT_SECONDS), questions_count=False)
    judges = Processes(grader, workers) if workers > 1 else Here(grader)
    begin = time.perf_counter()
    folder.grade(place / "class", gradebook, grader, done_now, judges)
    sandbox.close()
    entries = gradebook.entries()
    waiting = sum(
        item.seconds for entry in entries if entry.student in loops for item in entry.verdicts if item.status == TIME
    )
    points = {everybody[entry.student]: entry.points for entry in entries}
    gradebook.close()
    what = "all" if set(students) == set(submissions.submissions()) else "well-behaved"
    done = sorted(moments[name] for name in warming | named)
    work = _work(done, len(warming), [moments[name] for name in loops], workers, waiting) / len(students)
    return Figures(NAME, what, workers, min(moments.values()) - begin, work, waiting, points)


def _work(done: list[float], warming: int, looped: list[float], workers: int, waiting: float) -> float:
    """Seconds for a class once: the moments at which COPIES of each were done, after so many to warm up, and the one
    who loops, whose waiting is not counted. Raises ValueError for more of those: they would wait at the same time."""
    if len(looped) > 1:
        raise ValueError(f"the bench takes one submission that loops, not {len(looped)}; change SORTS.")
    work = (done[-1] - done[warming - 1]) / COPIES
    for moment in looped:
        # It begins when the first worker finds nobody else left. What the others still do is counted twice.
        work += moment - done[-workers] - waiting
    return work


def _theirs(peer: peers.Peer, name: str, pattern: str) -> Figures:
    """Another grader, one submission after the other: neither has a parallel mode without Docker."""
    start, done, waiting = peer.run(NOBODY).seconds, peer.run(pattern), peer.waiting(pattern)
    work = (done.seconds - start - waiting) / len(done.points)
    return Figures(name, "all" if pattern == ALL else "well-behaved", 1, start, work, waiting, done.points)
