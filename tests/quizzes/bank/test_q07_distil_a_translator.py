"""Lesson 07's answers agree with the programs that papers use, and with what the library trains by."""

import pytest
import sacrebleu
import torch

from lessons_lib.distillation import translation_losses
from quizzes.bank import q07_distil_a_translator as bank
from quizzes.exercises.exercises import Draw


def test_the_learner_s_bleu_agrees_with_sacrebleu_to_a_hundredth():
    """The published solution on random corpora, scored by sacrebleu's own tokenizer."""
    draw = Draw(5, "corpus_bleu")
    for _ in range(20):
        references = [[draw.choice(bank.WORDS) for _ in range(draw.integer(1, 15))] for _ in range(30)]
        hypotheses = [[word if draw.number(0, 1) < 0.9 else "million" for word in text] for text in references]
        texts = [[" ".join(text) for text in side] for side in (hypotheses, references)]
        wanted = sacrebleu.corpus_bleu(texts[0], [texts[1]], force=True).score
        assert bank.corpus_bleu.right(hypotheses, references) == pytest.approx(wanted, abs=0.01)
        assert bank.corpus_bleu(hypotheses, references) == pytest.approx(wanted, abs=0.01)


def test_printed_examples_are_what_the_references_return():
    teacher = torch.tensor([[[0.0, 2.0], [0.0, -2.0], [9.0, 9.0]]])
    value = bank.word_level_loss(torch.zeros(1, 3, 2), teacher, torch.tensor([[1, 1, 0]]), 0.5)
    assert value.item() == pytest.approx(0.5105, abs=5e-5)
    pairs = bank.sequence_level_data(
        {"two": [(["deux", "</s>"], -1.0), (["dix", "-deux", "</s>"], -1.2)]}.__getitem__, ["two", "two"]
    )
    assert pairs == [("two", ["dix", "-deux"])]
    assert bank.stage_plan(6, 2) == [[0, 2, 3, 5], [1, 3]] == translation_losses.stage_plan(6, 2)


def test_printed_bleu():
    right = ["le", "six", "mai", "mille", "huit", "cent", "dix"]
    wrote = [*right[:4], "neuf", *right[5:]]
    assert f"{bank.corpus_bleu([wrote], [right]):.4f}" in bank.corpus_bleu.doc
