"""Decoding finds what an exhaustive search finds, stops at END, and keeps the order of the texts."""

import itertools

import pytest
import torch

from lessons_lib.tasks import decoding, phrase_pairs, translator
from lessons_lib.tasks.phrase_pairs import BEGIN, END, PAD

SHAPE = translator.Shape(encoder_layers=1, decoder_layers=1, width=16, heads=2, inner=32, dropout=0.0)
PIECES = 6


@pytest.fixture
def tiny():
    """A model over six French pieces, two of them real words: every text of a few pieces can be tried."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return translator.Translator(SHAPE, 12, PIECES).eval().requires_grad_(False)


@pytest.fixture
def source():
    return torch.tensor([[BEGIN, 5, 6, END], [BEGIN, 7, END, PAD], [BEGIN, 8, 9, END]])


def best_of_all(model, source, longest, penalty):
    """The best text by trying every one, ended or of full length."""
    best, best_score = None, -float("inf")
    words = [piece for piece in range(PIECES) if piece not in (PAD, BEGIN, END)]
    for length in range(longest + 1):
        for text in itertools.product(words, repeat=length):
            target = [BEGIN, *text, END][: longest + 1]
            scores = model(source[None], torch.tensor([target[:-1]]))[0].log_softmax(-1)
            score = scores[range(len(target) - 1), target[1:]].sum().item() / (len(target) - 1) ** penalty
            if score > best_score:
                best, best_score = target, score
    return best


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_text(tiny, source, penalty):
    found = decoding.beam_search(tiny, source, beams=60, longest=3, penalty=penalty)
    for row, wanted in zip(found.tolist(), (best_of_all(tiny, one, 3, penalty) for one in source), strict=True):
        assert [piece for piece in row if piece != PAD] == wanted


def test_one_beam_is_greedy(tiny, source):
    greedy = decoding.greedy(tiny, source, 5)
    beam = decoding.beam_search(tiny, source, beams=1, longest=5)
    assert torch.equal(greedy, beam)


def test_greedy_takes_the_likeliest_piece_each_time(tiny, source):
    written = decoding.greedy(tiny, source, 4)
    for row, text in zip(source, written, strict=True):
        for place in range(1, len(text)):
            if text[place - 1] in (END, PAD):
                assert text[place] == PAD
                continue
            scores = tiny(row[None], text[None, :place])[0, -1]
            scores[[PAD, BEGIN]] = -torch.inf
            assert scores.argmax() == text[place]


def test_rows_do_not_disturb_each_other(tiny, source):
    together = decoding.beam_search(tiny, source, beams=3, longest=5)
    for row, text in zip(source, together.tolist(), strict=True):
        alone = decoding.beam_search(tiny, row[None], beams=3, longest=5)[0].tolist()
        assert [piece for piece in text if piece != PAD] == [piece for piece in alone if piece != PAD]


def test_translations_come_in_the_order_of_the_texts():
    model = translator.new_translator(SHAPE, seed=1).train()
    texts = phrase_pairs.pairs("validation").select(range(9))["english"]
    together = decoding.translate(model, texts, batch_size=4, longest=6)
    assert together == [decoding.translate(model, [text], longest=6)[0] for text in texts]
    assert model.training


def test_bad_input_is_refused(tiny, source):
    with pytest.raises(ValueError, match="beams must be a whole number of at least 1"):
        decoding.beam_search(tiny, source, beams=0)
    with pytest.raises(ValueError, match="int64"):
        decoding.greedy(tiny, source.float())
