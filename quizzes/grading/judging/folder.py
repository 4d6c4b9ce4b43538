"""A folder of submissions: who handed in what, graded into a gradebook."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from quizzes.grading.gradebook.gradebook import Entry, Gradebook, digest, text
from quizzes.grading.gradebook.grades import the_class
from quizzes.grading.gradebook.tables import Verdict
from quizzes.grading.intake.hand_in import HandedIn, hand_ins
from quizzes.grading.intake.layouts import students
from quizzes.grading.intake.submission import Submission, Unreadable
from quizzes.grading.judging.cluster import Cluster
from quizzes.grading.judging.grader import Grader, lesson_of, status_of
from quizzes.grading.judging.schedule import FAULT, LOST, Here, Job, Processes
from quizzes.models.tasks import rows_sha256

AGAIN = (LOST, FAULT)  # the machine's fault or the grader's, so another run may do better


def grade(
    folder: Path,
    gradebook: Gradebook,
    grader: Grader,
    report: Callable[[Entry, bool], None] = lambda *_: None,
    schedule: Here | Processes | Cluster | None = None,
) -> None:
    """Grade every hand-in of a folder. What the gradebook already holds, with the same content, is not graded again,
    unless the grading itself failed on it: then the verdicts that are there stay, and the others are formed.

    report: called after each hand-in with its entry, and whether it was graded just now. schedule: who judges, with
    `grader` or one made from it; one after the other, here, unless given. Entries are finished as they come.
    """
    seen, source = set(), digest(str(folder.resolve()))
    begun: dict[int, tuple[HandedIn, Entry]] = {}

    def tasks() -> Iterator[Job]:
        again = []
        for student, files in students(folder, the_class(gradebook).name_of).items():
            for hand_in in hand_ins(student, files):
                seen.add((hand_in.student, hand_in.notebook))
                entry = _entry(hand_in, source, gradebook, grader)
                if entry.status and not entry.status.startswith(AGAIN):
                    report(entry, False)
                elif hand_in.submission is None:
                    gradebook.finish(entry, hand_in.problem, _worth(hand_in.lesson, grader))
                    report(entry, True)
                else:
                    begun[entry.id] = hand_in, entry
                    known = frozenset((verdict.kind, verdict.item) for verdict in entry.verdicts)
                    task = Job(entry.id, hand_in.submission, known, again=bool(entry.status))
                    if task.again:
                        again.append(task)
                    else:
                        yield task
        # Last, because one of these may end the grading process once more, and several of them the whole run.
        yield from again

    # Verdicts on questions need nothing but the notebook; they are committed with the first that took work.
    at_hand: dict[int, list[Verdict]] = defaultdict(list)
    for number, outcome in (schedule or Here(grader)).run(tasks()):
        hand_in, entry = begun[number]
        if isinstance(outcome, Verdict):
            at_hand[number].append(outcome)
            if outcome.kind == "exercise":
                gradebook.add(entry, *at_hand.pop(number))
        else:
            gradebook.add(entry, *at_hand.pop(number, ()))
            gradebook.finish(entry, outcome.problem or _status(hand_in, entry), _worth(hand_in.lesson, grader))
            report(entry, True)
            del begun[number]
    gradebook.keep_only(seen, source)


def _entry(hand_in: HandedIn, source: str, gradebook: Gradebook, grader: Grader) -> Entry:
    content = text(hand_in.problem)
    if hand_in.submission is not None:
        content = hand_in.submission.sha256
        if hand_in.submission.models and grader.texts:  # judged on other texts it is judged anew
            content = digest(content, rows_sha256(grader.texts))
    return gradebook.open(
        hand_in.student,
        hand_in.lesson,
        hand_in.notebook,
        content,
        grader.questions_count,
        source=source,
        canvas_id=hand_in.canvas_id,
        handed_in=hand_in.handed_in,
        late=hand_in.late,
    )


def _status(hand_in: HandedIn, entry: Entry) -> str:
    status = status_of([(verdict.kind, verdict.item, verdict.status) for verdict in entry.verdicts])
    others = f"; not graded, for the same lesson: {', '.join(hand_in.others)}" if hand_in.others else ""
    return status + others


def _worth(lesson: str, grader: Grader) -> float:
    """Points of a lesson that may not exist."""
    try:
        return grader.max_points(lesson_of(Submission("", lesson=lesson)))
    except Unreadable:
        return 0.0
