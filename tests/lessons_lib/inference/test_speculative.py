"""Whatever the draft writes, the text is the target's; a sampled draft leaves the target's distribution as it was."""

import pytest
import torch

from lessons_lib.inference import speculative
from lessons_lib.tasks import decoding, phrase_pairs, translation, translator
from lessons_lib.tasks.phrase_pairs import BEGIN, END, PAD


def random_translator(seed, layers=2, scale=1.5):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = translator.Shape(encoder_layers=1, decoder_layers=layers, width=16, heads=2, inner=32, dropout=0.0)
        model = translator.Translator(shape, 12, 10).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(scale)
    model.head.bias[END] += 1.0  # some texts end early, others do not
    return model


@pytest.fixture(scope="module")
def target():
    return random_translator(3)


@pytest.fixture(scope="module")
def source():
    rows = torch.randint(4, 12, (24, 7), generator=torch.Generator().manual_seed(0))
    rows[:, 0] = BEGIN
    for row, length in enumerate(range(24)):
        rows[row, 3 + length % 5 :] = PAD
        rows[row, 2 + length % 5] = END
    return rows


@pytest.mark.parametrize("ahead", [1, 3, 7])
@pytest.mark.parametrize("draft", ["another model", "itself", "nearly itself"])
def test_the_text_is_the_target_s(target, source, ahead, draft):
    """Weights are drawn at random, so no two scores are within rounding of one another."""
    models = {
        "another model": random_translator(8),
        "itself": target,
        "nearly itself": random_translator(3, scale=1.47),
    }
    wanted = decoding.greedy(target, source, 12)
    written = speculative.speculative(target, models[draft], source, ahead, 12)
    assert torch.equal(written.text, wanted)
    assert 0 <= written.accepted <= written.drafted
    if draft == "itself":
        assert written.acceptance == 1
    if draft == "another model":
        assert written.acceptance < 0.9


def test_ended_texts_and_full_ones_are_both_among_those_tried(target, source):
    wanted = decoding.greedy(target, source, 12)
    assert (wanted == END).any()
    assert (wanted[:, -1] > END).any()


def test_one_row_at_a_time_writes_the_same(target, source):
    draft = random_translator(8)
    together = speculative.speculative(target, draft, source[:8], 3, 12)
    alone = [speculative.speculative(target, draft, row[None], 3, 12) for row in source[:8]]
    for row, one in zip(together.text, alone, strict=True):
        assert row[row != PAD].tolist() == one.text[one.text != PAD].tolist()
    # alone, no row cuts short how far another writes ahead
    assert sum(one.accepted for one in alone) >= together.accepted


def test_a_good_draft_saves_steps_of_the_target(target, source):
    one = source[:1]
    pieces = decoding.greedy(target, one, 12).shape[1] - 1
    written = speculative.speculative(target, target, one, 3, 12)
    assert written.steps == -(-pieces // 4)
    assert speculative.speculative(target, random_translator(8), one, 3, 12).steps > written.steps


def distribution_of(p, q, points=20):
    """Of the first token that accept_draft keeps: the draft drawn from q, both uniforms on a grid of midpoints."""
    grid = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    found = torch.zeros_like(p[0])
    for token in range(p.shape[1]):
        for u in grid:
            for v in grid:
                kept = speculative.accept_draft(p, q, torch.tensor([token]), torch.stack([u, v]))
                found[kept[0]] += q[0, token] / points**2
    return found


def test_sampling_with_a_draft_keeps_the_target_s_distribution():
    p = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]], dtype=torch.float64)
    q = torch.tensor([[0.2, 0.7, 0.1]], dtype=torch.float64)
    assert (distribution_of(p, q) - p[0]).abs().max() < 0.03
    assert (q[0] - p[0]).abs().max() > 0.3


def test_accepting_by_hand():
    p = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    q = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]])

    def kept(draft, *uniforms):
        return speculative.accept_draft(p, q, torch.tensor(draft), torch.tensor(uniforms)).tolist()

    assert kept([0, 2], 0.6, 0.99, 0.65) == [0, 2, 2]  # 0.6 < 0.5 / 0.8; all kept, so the last comes from p[2]
    assert kept([0, 2], 0.7, 0.99, 0.3) == [1]  # refused: p - q leaves token 1 alone
    assert kept([1, 0], 0.99, 0.5, 0.1) == [1, 2]  # 0.5 > 0.1 / 0.6; p - q leaves token 2 alone
    assert kept([2, 0], 0.0, 0.0, 0.5) == [1]  # a token that the target never writes is never kept
    p_hardly_less = torch.tensor([[0.5, 0.49999997, 0.0], [0.3, 0.3, 0.4]])
    refused = torch.tensor([0.99999994, 0.9])
    assert speculative.accept_draft(p_hardly_less, torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([1]), refused) == 1
    nothing = torch.tensor([], dtype=torch.int64)
    assert speculative.accept_draft(p[:1], q[:0], nothing, torch.tensor([0.7])).tolist() == [1]


def test_the_expected_number_of_tokens():
    assert speculative.expected_tokens(0, 5) == 1
    assert speculative.expected_tokens(1, 5) == 6
    assert speculative.expected_tokens(0.5, 2) == pytest.approx(1.75)
    a = 0.8
    assert speculative.expected_tokens(a, 4) == pytest.approx((1 - a**5) / (1 - a))


def test_bad_input_is_refused(target, source):
    for ahead in (0, 1.5, True):
        with pytest.raises(ValueError, match="ahead counts drafted pieces"):
            speculative.speculative(target, target, source, ahead)
    other = translator.Translator(target.shape, 12, 11).eval()
    with pytest.raises(ValueError, match="the same pieces; they know 10 and 11"):
        speculative.speculative(target, other, source, 2)
    with pytest.raises(ValueError, match="2 uniforms"):
        speculative.accept_draft(torch.ones(2, 3) / 3, torch.ones(1, 3) / 3, torch.tensor([0]), torch.tensor([0.1]))
    with pytest.raises(ValueError, match="acceptance lies"):
        speculative.expected_tokens(1.2, 3)


def test_the_real_teacher_writes_its_own_best_pieces_up_to_rounding():
    """The draft is the teacher without four of its six decoder layers: right now and then."""
    teacher = translation.teacher()
    draft = translator.keep_layers(teacher, list(range(6)), [2, 5]).requires_grad_(False)
    source = phrase_pairs.vocabularies()[0].encode(phrase_pairs.pairs("test")["english"][:30])
    written = speculative.speculative(teacher, draft, source, 3)
    scores = teacher(source, written.text[:, :-1])
    scores[..., [PAD, BEGIN]] = -torch.inf
    below = scores.amax(2) - scores.gather(2, written.text[:, 1:, None])[..., 0]
    assert below[written.text[:, 1:] != PAD].max() <= 1e-5 * scores[scores.isfinite()].abs().max()
    assert ((written.text == END).sum(1) == 1).all()
    assert 0 < written.acceptance < 1
