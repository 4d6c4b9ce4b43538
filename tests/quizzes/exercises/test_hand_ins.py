"""Hand-ins: tiers by bytes and quality together, declared whole."""

from dataclasses import replace

import pytest

from quizzes import lesson, lessons
from quizzes.exercises import hand_ins
from quizzes.exercises.hand_ins import HandIn, Tier
from quizzes.models import tasks

TOPICS = HandIn("topics_model", "topics", 6, 1, "", (Tier("gold", 700_000, 0.9, 1.0), Tier("bronze", 10**6, 0.5, 0.5)))
TRANSLATOR = replace(TOPICS, task="translator", tiers=(Tier("gold", 10**6, -1.0, 1.0),))
FOUND = hand_ins.MeasuredModel(600_000, 0.9, 0.8, 1.0, 1.0, 0.9, 100.0)


@pytest.mark.parametrize("number", lessons.numbers())
def test_every_hand_in_of_the_bank_is_complete(number):
    quiz = lesson(number)
    for name, item in quiz.hand_ins.items():
        assert name not in quiz.exercises
        assert [tier.name for tier in item.tiers] == ["gold", "silver", "bronze"]
        assert item.points > 0 and item.minutes > 0 and len(item.hint) > 20
        task = tasks.TASKS[item.task]
        assert item.tiers[-1].most_bytes < task.most_bytes * len(task.files)  # the limit leaves room for all tiers


def test_a_quality_is_said_in_the_words_of_its_task():
    assert TOPICS.quality.needed(TOPICS.tiers[0].least) == "at least 90.0% of the teacher's accuracy"
    assert TRANSLATOR.quality.needed(TRANSLATOR.tiers[0].least) == "at most 1 BLEU below the teacher's"
    assert (TOPICS.quality.kept(0.955), TOPICS.quality.figure(0.955)) == ("95.5% of the teacher's accuracy", "95.5%")
    assert (TRANSLATOR.quality.kept(-0.5), TRANSLATOR.quality.figure(-0.5)) == (
        "0.50 BLEU below the teacher's",
        "-0.50",
    )
    assert TRANSLATOR.quality.kept(0.25) == "0.25 BLEU above the teacher's"


def test_the_next_tier_is_said_and_above_the_best_there_is_none():
    assert [label for label, _ in TOPICS.figures(FOUND)][-1] == "Throughput"
    assert TOPICS.figures(replace(FOUND, bytes=800_000))[-1] == ("For gold", "800,000 bytes are 100,000 too many")
    assert TOPICS.figures(replace(FOUND, kept=0.1))[-1][0] == "For bronze"


def test_a_copy_that_was_numbered_is_known_by_its_name():
    names = ("18_topics.onnx", "18_topics (1).onnx", "18_topics-12.onnx", "18_Topics.ONNX", "18_topics_2.onnx")
    assert {tasks.is_of(tasks.TASKS["topics"], name) for name in names} == {"18_topics.onnx"}
    others = ("18_topics.onnx.zip", "18_topics_final.onnx", "118_topics.onnx", "18_translator_decoder.onnx", "")
    assert {tasks.is_of(tasks.TASKS["topics"], name) for name in others} == {""}


def test_tiers_are_met_by_bytes_and_quality_together():
    assert TOPICS.tier(FOUND).name == "gold"
    assert TOPICS.tier(replace(FOUND, bytes=700_001)).name == "bronze"
    assert TOPICS.tier(replace(FOUND, kept=0.8999)).name == "bronze"
    assert TOPICS.tier(replace(FOUND, kept=float("nan"))) is None
    assert TOPICS.lacks(TOPICS.tiers[0], replace(FOUND, bytes=700_001)) == ["700,001 bytes are 1 too many"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "poems"}, "it can have topics, translator"),
        ({"tiers": []}, "needs a first tier"),
        ({"tiers": [hand_ins.tier("gold", most_bytes=9, least=0.9, share=0.5)]}, "earns all of its points"),
        (
            {
                "tiers": [
                    hand_ins.tier("gold", most_bytes=9, least=0.9, share=1),
                    hand_ins.tier("silver", most_bytes=8, least=0.9, share=0.5),
                ]
            },
            "must ask for no more than 'gold'",
        ),
    ],
)
def test_half_declared_hand_ins_are_refused(changes, words):
    whole = {
        "task": "topics",
        "points": 1,
        "minutes": 1,
        "hint": "",
        "tiers": [hand_ins.tier("gold", most_bytes=9, least=0.9, share=1)],
    }
    with pytest.raises(ValueError, match=words):
        hand_ins.hand_in("x", **whole | changes)
    with pytest.raises(ValueError, match="share above 0"):
        hand_ins.tier("gold", most_bytes=1, least=0.5, share=0)


def test_two_hand_ins_of_one_name_are_refused():
    whole = {
        "task": "topics",
        "points": 1,
        "minutes": 1,
        "hint": "",
        "tiers": [hand_ins.tier("gold", most_bytes=9, least=0.9, share=1)],
    }
    hand_ins.hand_in("twice", **whole)
    with pytest.raises(ValueError, match="two hand-ins 'twice'"):
        hand_ins.hand_in("twice", **whole)
    hand_ins.BANKS.pop(__name__)
