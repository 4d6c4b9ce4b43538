"""Masking keeps its shares, and its hands off special tokens and padding."""

import pytest
import torch

from lessons_lib.distillation import masked_language
from lessons_lib.distillation.losses import UNLABELLED

VOCAB, MASK_ID = 1000, 3
SPECIAL = torch.tensor([0, 1, 2, MASK_ID])


def sentences(rows=400, length=100, seed=0):
    """Start, words, end, padding: half of every second row is padding."""
    ids = torch.randint(4, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))
    ids[:, 0], ids[::2, -1], ids[1::2, length // 2] = 1, 2, 2
    ids[1::2, length // 2 + 1 :] = 0
    return ids


@pytest.fixture(scope="module")
def drawn():
    ids = sentences()
    torch.manual_seed(0)
    return ids, *masked_language.draw_masks(ids, SPECIAL, MASK_ID, VOCAB)


def share_of(part, whole):
    return part.sum().item() / whole.sum().item()


def test_the_shares_are_15_and_80_10_10(drawn):
    """About 29,000 words: four standard errors of a share of them, or of the 4,400 that are chosen."""
    ids, masked, labels = drawn
    words, chosen = ~torch.isin(ids, SPECIAL), labels != UNLABELLED
    assert share_of(chosen, words) == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / words.sum().item()) ** 0.5)
    error = 4 / chosen.sum().item() ** 0.5
    assert share_of(masked[chosen] == MASK_ID, chosen) == pytest.approx(0.8, abs=0.4 * error)
    kept, replaced = masked[chosen] == ids[chosen], ~torch.isin(masked[chosen], torch.tensor([MASK_ID]))
    assert share_of(kept, chosen) == pytest.approx(0.1, abs=0.3 * error)
    assert share_of(replaced & ~kept, chosen) == pytest.approx(0.1, abs=0.3 * error)


def test_random_tokens_come_from_the_whole_vocabulary_evenly(drawn):
    ids, masked, labels = drawn
    swapped = masked[(labels != UNLABELLED) & (masked != MASK_ID) & (masked != ids)].float()
    assert swapped.min() < 0.05 * VOCAB
    assert swapped.max() > 0.95 * VOCAB
    assert swapped.mean().item() == pytest.approx(VOCAB / 2, abs=4 * VOCAB / (12 * len(swapped)) ** 0.5)


def test_special_tokens_and_padding_are_never_touched(drawn):
    ids, masked, labels = drawn
    special = torch.isin(ids, SPECIAL)
    assert torch.equal(masked[special], ids[special])
    assert (labels[special] == UNLABELLED).all()
    everything = torch.zeros(3, *ids.shape)
    masked, labels = masked_language.mask_tokens(ids, SPECIAL, MASK_ID, VOCAB, 1.0, everything)
    assert torch.equal(masked[special], ids[special])
    assert (masked[~special] == MASK_ID).all()
    assert torch.equal(labels[~special], ids[~special])


def test_what_was_not_chosen_stays_and_has_no_label(drawn):
    ids, masked, labels = drawn
    chosen = labels != UNLABELLED
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(ids, sentences()), "the ids that came in are as they were"


def test_masks_are_dynamic_and_follow_the_random_state():
    ids = sentences(rows=4)
    torch.manual_seed(1)
    first, second = (masked_language.draw_masks(ids, SPECIAL, MASK_ID, VOCAB)[1] for _ in range(2))
    torch.manual_seed(1)
    again = masked_language.draw_masks(ids, SPECIAL, MASK_ID, VOCAB)[1]
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_a_written_case():
    uniforms = torch.tensor([[[0.1, 0.1, 0.1, 0.2]], [[0.79, 0.81, 0.91, 0.0]], [[0.5, 0.5, 0.5, 0.5]]])
    masked, labels = masked_language.mask_tokens(torch.tensor([[7, 8, 9, 7]]), SPECIAL, MASK_ID, 20, 0.15, uniforms)
    assert masked.tolist() == [[MASK_ID, 10, 9, 7]]
    assert labels.tolist() == [[7, 8, 9, UNLABELLED]]


def test_the_largest_uniform_stays_inside_the_vocabulary():
    for vocab in (20, 1000, 30522, 2**15):
        uniforms = torch.stack([torch.zeros(1, 1), torch.full((1, 1), 0.85), torch.full((1, 1), 1 - 2.0**-24)])
        masked, _ = masked_language.mask_tokens(torch.tensor([[9]]), SPECIAL, MASK_ID, vocab, 0.15, uniforms)
        assert masked.item() == vocab - 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ids": torch.tensor([7, 8])}, "int64"),
        ({"ids": torch.rand(2, 3)}, "int64"),
        ({"p": 1.5}, "share"),
        ({"ids": torch.tensor([[7, 20]])}, "vocab - 1 = 19"),
        ({"mask_id": 20}, "vocab - 1 = 19"),
        ({"uniforms": torch.rand(2, 1, 2)}, "shape"),
        ({"uniforms": torch.ones(3, 1, 2)}, r"\[0, 1\)"),
        ({"uniforms": torch.full((3, 1, 2), float("nan"))}, r"\[0, 1\)"),
    ],
)
def test_bad_input_is_refused(change, words):
    good = {
        "ids": torch.tensor([[7, 8]]),
        "special": SPECIAL,
        "mask_id": 3,
        "vocab": 20,
        "p": 0.15,
        "uniforms": torch.zeros(3, 1, 2),
    }
    with pytest.raises((TypeError, ValueError), match=words):
        masked_language.mask_tokens(**good | change)
