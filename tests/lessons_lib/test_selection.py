"""What stays is what matters most, by another reckoning; words are those that occur."""

import pytest
import torch

from lessons_lib import corpora, importance, models, selection, study_magnitude, study_structure, translator


@pytest.fixture(scope="module")
def phrases():
    return translator.new_translator(translator.Shape(2, 3, 16, 2, 32, 0.0), seed=0).eval().requires_grad_(False)


@pytest.fixture
def few(monkeypatch):
    """The importance of a classifier's parts over a handful of sentences."""
    monkeypatch.setattr(selection, "SENTENCES", 8)
    return models.topic_student(1)


def test_neurons_of_a_translator_stay_by_what_they_say(phrases):
    layer, squares = phrases.decoder[1].down, torch.zeros(32)

    def add(_, inputs):
        for token in inputs[0].flatten(0, -2):
            squares.add_(token**2)

    handle = layer.register_forward_pre_hook(add)
    for call in study_magnitude.calls("translator", phrases, seed=0):
        call()
    handle.remove()
    said = [squares[j].sqrt().item() * sum(w.item() ** 2 for w in layer.weight[:, j]) ** 0.5 for j in range(32)]
    best = sorted(sorted(range(32), key=lambda j: -said[j])[:8])
    found = selection.strongest("translator", phrases, "neurons", 8)
    assert len(found) == 5 and found[3].tolist() == best


@pytest.mark.parametrize(("part", "count"), [("heads", 4), ("neurons", 100)])
def test_parts_of_a_classifier_stay_by_the_gradients_of_their_gates(few, part, count):
    (block,) = importance.gate_gradients(few, study_structure.drawn(8, seed=0), part)
    best = block.abs().sum(dim=0).topk(count).indices.sort().values
    (found,) = selection.strongest("classifier", few, part, count)
    assert torch.equal(found, best)


@pytest.mark.parametrize("count", [0, 33])
def test_more_than_there_are_cannot_stay_nor_can_none(phrases, count):
    with pytest.raises(ValueError, match=f"{count} neurons cannot stay: a block has 32"):
        selection.strongest("translator", phrases, "neurons", count)


def test_a_word_was_seen_when_some_training_sentence_has_it(monkeypatch):
    texts = corpora.sentences("train").select(range(3))
    monkeypatch.setattr(corpora, "sentences", lambda split: texts if split == "train" else None)
    selection.seen_tokens.cache_clear()
    words = set(selection.seen_tokens().tolist())
    selection.seen_tokens.cache_clear()
    assert words == {token for text in texts["text"] for token in models.tokenize([text])["input_ids"][0].tolist()} | {
        models.tokenizer().pad_token_id
    }
