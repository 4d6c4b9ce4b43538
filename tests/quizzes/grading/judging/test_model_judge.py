"""A model that was handed in: judged by bytes and quality in the sandbox; whatever is wrong with it gets a status."""

import json
import sys
import time
from dataclasses import replace

import numpy
import pytest
import safetensors.numpy

from lessons_lib.tasks import decoding, phrase_pairs
from quizzes.exercises.hand_ins import HandIn, Tier
from quizzes.grading.intake.submission import Submission
from quizzes.grading.judging.model_judge import ModelJudge
from quizzes.grading.sandbox.bubblewrap import Plain
from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.inside import onnx_run
from quizzes.models import tasks
from quizzes.models.held_out import Pair, Sentence
from tests.quizzes import onnx_models
from tests.quizzes.grading import naive
from tests.quizzes.inside.test_onnx_check import FAULTS

LIMITS = SandboxLimits(cpu_seconds=0.1, wall_seconds=2, memory_bytes=300 * 2**20)  # twelve times as much, twice as much
TEXTS = {
    "The striker scored twice in the final match.": 3,
    "Shares fell sharply on the stock market.": 0,
    "The singer wins an award for her album.": 1,
    "Parliament votes on the budget tomorrow.": 2,
}
ROWS = [Sentence(text, topic, number) for number, (text, topic) in enumerate(TEXTS.items())] * 20
PAIRS = [Pair("seven", "sept"), Pair("seven seven seven seven", "sept sept sept sept"), Pair("nineteen", "dix-neuf")]
TOPICS = HandIn("topics_model", "topics", 6, 1, "", (Tier("gold", 700_000, 0.9, 1.0), Tier("bronze", 10**6, 0.5, 0.5)))
TRANSLATOR = HandIn("translator_model", "translator", 4, 1, "", (Tier("gold", 10**6, -1.0, 1.0),))


@pytest.fixture(autouse=True)
def few_rows(monkeypatch, tmp_path):
    """A few rows to judge on, and teachers that are not asked."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tasks.TopicModels, "rows", lambda self, seed, texts=None: list(texts or ROWS))
    monkeypatch.setattr(tasks.TranslatorModels, "rows", lambda self, seed, texts=None: PAIRS)
    for task, quality in ((tasks.TopicModels, 1.0), (tasks.TranslatorModels, 50.0)):
        monkeypatch.setattr(task, "teacher", lambda self, rows, quality=quality: quality)
        monkeypatch.setattr(task, "teacher_sha256", lambda self: "")


def handed(**models) -> Submission:
    """A submission with these files."""
    files = tasks.TopicModels.files + tasks.TranslatorModels.files
    names = dict(zip(("topics", "encoder", "decoder"), files, strict=True))
    found = {
        names[name]: data if isinstance(data, bytes | str) else data.SerializeToString()
        for name, data in models.items()
    }
    return Submission("0" * 64).with_models(found)


def judged(sandbox, hand_in: HandIn = TOPICS, limits: SandboxLimits = LIMITS, **models):
    return ModelJudge(7, sandbox, limits).judge(hand_in, handed(**models))


@pytest.fixture(params=["walls", pytest.param("plain")])
def sandbox(request):
    """Both kinds."""
    return request.getfixturevalue(request.param)


pytestmark = pytest.mark.needs("bwrap")


def test_a_right_model_gets_its_tier_by_bytes_and_quality(sandbox):
    made = onnx_models.knows(TEXTS)
    found = judged(sandbox, topics=made)
    size = len(made.SerializeToString())
    assert (found.status, found.points) == ("gold", 6)
    assert (found.measured.bytes, found.measured.quality, found.measured.kept) == (size, 1.0, 1.0)
    assert found.measured.throughput > 0


def test_a_larger_model_gets_a_lower_tier(walls):
    made = onnx_models.knows(TEXTS)
    made.graph.initializer.append(onnx_models.numpy_helper.from_array(numpy.zeros(40_000, numpy.float32), "ballast"))
    found = judged(walls, topics=made)
    assert (found.status, found.points) == ("bronze", 3)


def test_a_model_that_knows_little_gets_none(walls):
    found = judged(walls, topics=onnx_models.classifier())  # always the first topic, right one time in four
    assert (found.status, found.points, found.measured.quality) == ("no tier", 0, 0.25)
    assert TOPICS.lacks(TOPICS.tiers[1], found.measured) == [
        "the quality must be at least 50.0% of the teacher's accuracy, and it is 25.0% of the teacher's accuracy"
    ]


def test_a_translator_is_judged_by_what_it_writes(sandbox):
    encoder, decoder = onnx_models.translator({"seven": "sept"})
    found = judged(sandbox, TRANSLATOR, encoder=encoder, decoder=decoder)
    # sept | sept sept sept sept | < unknown >: right are 5 of 8 words, 3 of 5 pairs, 2 of 3 triples, 1 of 1 fours
    assert found.measured.quality == pytest.approx(100 * (5 / 8 * 3 / 5 * 2 / 3) ** 0.25, abs=0.01)
    assert found.measured.kept == pytest.approx(found.measured.quality - 50)
    assert (found.status, found.points) == ("gold", 4)
    assert found.measured.bytes == len(encoder.SerializeToString()) + len(decoder.SerializeToString())


def test_a_file_that_is_missing_is_not_an_attempt(walls):
    found = judged(walls, TRANSLATOR, encoder=onnx_models.translator({})[0])
    assert (found.status, found.points) == ("not attempted", 0)
    assert found.detail == "there is no 18_translator_decoder.onnx beside the notebook"


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_not_be_run_is_refused_with_its_reason(walls, fault):
    found = judged(walls, topics=onnx_models.bad(fault))
    assert (found.status, found.points) == ("refused", 0)
    assert FAULTS[fault] in found.detail


def test_an_oversized_or_unreadable_file_is_refused_before_it_is_sent(walls):
    large = judged(walls, topics=bytes(32 * 2**20 + 1))
    assert large.detail == "18_topics.onnx has 33,554,433 bytes; at most 33,554,432 are taken"
    assert large.status == "refused"
    link = judged(walls, topics="is a link, not a file")
    assert (link.status, link.detail) == ("refused", "18_topics.onnx is a link, not a file")


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("three_topics", "refused", "logits are float32 of shape (2, 3); they must be float32 of (2, 5)"),
        ("one_row", "refused", "logits are float32 of shape (1, 5)"),
        ("not_numbers", "refused", "some logits are not finite numbers"),
        ("wrong_place", "cannot be run", "indices element out of data bounds"),
        # Only the hidden data brings it out; what it says of that stays with the instructor.
        ("not_numbers_for_rare_words", "malformed answer", "some logits are not finite numbers"),
        ("small_vocabulary_for_rare_words", "raised", "indices element out of data bounds"),
    ],
)
def test_what_fails_when_it_runs_says_so(walls, monkeypatch, fault, status, words):
    monkeypatch.setattr(
        tasks.TopicModels,
        "sample",
        lambda self: {name: numpy.ones((2, 3), numpy.int64) for name in ("input_ids", "attention_mask")},
    )
    found = judged(walls, topics=onnx_models.bad(fault))
    assert (found.status, found.points) == (status, 0), found.detail
    assert words in found.detail


def test_a_loop_without_end_is_stopped(sandbox):
    begin = time.monotonic()
    found = judged(sandbox, topics=onnx_models.endless())
    assert (found.status, found.points) == ("ran out of time", 0)
    assert time.monotonic() - begin < 60


def test_a_model_that_asks_for_too_much_memory_gets_none(sandbox):
    found = judged(sandbox, limits=replace(LIMITS, cpu_seconds=1), topics=onnx_models.hungry(400))
    assert (found.status, found.points) == ("ran out of memory", 0), found.detail


def test_systems_that_cannot_fork_judge_too(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    sandbox = Plain()
    assert judged(sandbox, topics=onnx_models.knows(TEXTS)).status == "gold"
    assert FAULTS["own_function"] in judged(sandbox, topics=onnx_models.bad("own_function")).detail


def test_after_each_of_them_the_next_is_judged_as_ever(walls):
    """One hand-in costs only its own points: each has a process of its own, and the warm one lives on."""
    judge = ModelJudge(7, walls, LIMITS)
    for data in (onnx_models.endless(), onnx_models.hungry(400), onnx_models.bad("cut_off")):
        assert judge.judge(TOPICS, handed(topics=data)).points == 0
        assert judge.judge(TOPICS, handed(topics=onnx_models.knows(TEXTS))).status == "gold"


# The attacks are real: ONNX Runtime by itself reads what it is told to read, and computes for as long as it is told.


def test_onnx_runtime_alone_reads_the_files_around_it(tmp_path, monkeypatch):
    """What lies in the grader's working folder, its gradebook for one, would come out as weights."""
    secret = numpy.arange(onnx_models.PIECES * 5, dtype=numpy.float32)
    (tmp_path / "gradebook.sqlite").write_bytes(secret.tobytes())
    made = onnx_models.onnx.load_model_from_string(onnx_models.bad("external_data"))
    made.graph.initializer[0].external_data[0].value = "gradebook.sqlite"
    monkeypatch.chdir(tmp_path)
    ids = numpy.array([[7]])
    (told,) = onnx_run._session(made.SerializeToString()).run(None, {"input_ids": ids, "attention_mask": ids})
    assert (told == secret[35:40]).all()


@pytest.mark.parametrize(("attack", "seconds", "wanted"), [("endless", 2, "hangs"), ("hungry", 60, "passed")])
def test_onnx_runtime_alone_hangs_or_takes_all_memory(attack, seconds, wanted):
    content = onnx_models.endless() if attack == "endless" else onnx_models.hungry(400)
    rows = numpy.ones((2, 3), numpy.int64)

    def bare(*_):
        return bool(onnx_run._session(content).run(None, {"input_ids": rows, "attention_mask": rows}))

    assert naive.beaten("return x", judge=bare, seconds=seconds) == wanted


# What comes back is not believed.


class Says:
    """A sandbox whose worker has been taken over: it says whatever it likes."""

    def __init__(self, *answers):
        self.answers, self.asked, self.models = list(answers), [], self

    def start(self, limits):
        return self

    def renew(self):
        pass

    close = renew

    def exchange(self, request, body=b""):
        self.asked.append((request, body))
        return self.answers.pop(0)


OPENED = ({"status": "answered"}, b"")
RIGHT = numpy.zeros((len(ROWS), 5), numpy.float32)


def answer(**arrays) -> tuple[dict, bytes]:
    return {"status": "answered"}, safetensors.numpy.save(arrays)


@pytest.mark.parametrize(
    "said",
    [
        ({"status": "gold"}, b""),
        ({"status": "answered"}, b""),
        ({"status": "answered"}, b"\x80\x04N."),
        ({"status": "answered"}, bytes(1000)),
        answer(logits=RIGHT[:-1]),
        answer(logits=RIGHT.astype(numpy.float64)),
        answer(logits=numpy.full_like(RIGHT, numpy.nan)),
        answer(logits=RIGHT, points=RIGHT),
        answer(tier=RIGHT),
    ],
)
def test_an_answer_that_is_not_what_was_asked_earns_nothing(said):
    found = ModelJudge(7, Says(OPENED, OPENED, said), LIMITS).judge(TOPICS, handed(topics=b"x"))
    assert (found.status, found.points) == ("malformed answer", 0)


@pytest.mark.parametrize("piece", [-1, 160, 2**60])
def test_pieces_that_do_not_exist_earn_nothing(piece):
    written = numpy.full((len(PAIRS), decoding.MAX_NEW), piece)
    sandbox = Says(OPENED, OPENED, answer(written=written))
    found = ModelJudge(7, sandbox, LIMITS).judge(TRANSLATOR, handed(encoder=b"x", decoder=b"x"))
    assert (found.status, found.points) == ("malformed answer", 0)
    assert len(phrase_pairs.vocabularies()[1]) == 160


def test_no_label_and_no_text_ever_goes_in():
    """Of the rows only the pieces' numbers: the same bytes, whatever the labels and the translations are."""
    sent = []
    for topic, french in ((0, "sept"), (4, "huit")):
        rows = [Sentence(row.text, topic, row.document) for row in ROWS]
        for judge, hand_in in (
            (ModelJudge(7, Says(OPENED, OPENED, OPENED), LIMITS, tuple(rows)), TOPICS),
            (ModelJudge(7, Says(OPENED, OPENED, OPENED), LIMITS), TRANSLATOR),
        ):
            tasks.TranslatorModels.rows = lambda self, seed, texts=None, french=french: [Pair("seven", french)]
            judge.judge(hand_in, handed(topics=b"x", encoder=b"x", decoder=b"x"))
            sent.append(judge.sandbox.asked)
    assert sent[0] == sent[2] and sent[1] == sent[3]
    assert all(len(asked) == 3 for asked in sent)
    assert b"sept" not in json.dumps([str(asked) for asked in sent]).encode()
    assert not any(text.split()[1].encode() in body for text in TEXTS for asked in sent for _, body in asked)


def test_the_same_seed_draws_the_same_rows_and_hand_ins_share_them(walls, monkeypatch):
    drawn = []
    monkeypatch.setattr(tasks.TopicModels, "rows", lambda self, seed, texts=None: drawn.append(seed) or ROWS)
    judge = ModelJudge(7, walls, LIMITS)
    for _ in range(2):
        judge.judge(TOPICS, handed(topics=onnx_models.knows(TEXTS)))
    assert drawn == [7]
