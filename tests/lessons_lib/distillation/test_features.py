"""Losses on hidden states, attention and relations: zero for a perfect student, blind to padding, checked by hand."""

import numpy
import pytest
import torch
from transformers import BertConfig, BertModel

from lessons_lib.distillation import features
from lessons_lib.tasks.topic_classifier import TopicClassifier

B, T, H, HEADS = 3, 5, 8, 2
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def normal(draw, *shape):
    return torch.randn(*shape, generator=draw)


def maps(draw):
    return normal(draw, B, HEADS, T, T).softmax(-1)


def losses(draw):
    """Every loss as a function of the student's side, with a teacher's side that it can equal, and their mask."""
    return {
        "hint": (features.hint_loss, normal(draw, B, T, H)),
        "attention": (features.attention_loss, maps(draw)),
        "token relation": (lambda s, t, mask: features.token_relation_loss(s, t, mask, heads=2), normal(draw, B, T, H)),
    }


NAMES = ["hint", "attention", "token relation"]


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_student_has_no_loss_and_another_has(name, draw):
    loss, teacher = losses(draw)[name]
    assert loss(teacher.clone(), teacher, MASK).item() == pytest.approx(0, abs=1e-7)
    assert loss(teacher.flip(0), teacher, MASK) > 1e-3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("padding", [1e3, float("nan")])
def test_what_stands_at_padding_changes_neither_loss_nor_gradient(name, padding, draw):
    loss, teacher = losses(draw)[name]
    student = (teacher + 0.1 * normal(draw, *teacher.shape)).requires_grad_()
    real = MASK.bool()
    real = real[:, None, :, None] & real[:, None, None, :] if name == "attention" else real[..., None]
    spoiled = [tensor.detach().where(real, padding) for tensor in (student, teacher)]
    spoiled[0].requires_grad_()
    clean, dirty = loss(student, teacher, MASK), loss(*spoiled, MASK)
    assert torch.equal(clean, dirty)
    clean.backward()
    dirty.backward()
    assert torch.equal(student.grad, spoiled[0].grad)


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_reaches_the_teacher(name, draw):
    loss, teacher = losses(draw)[name]
    student, teacher = teacher.flip(0).requires_grad_(), teacher.requires_grad_()
    loss(student, teacher, MASK).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_hints_against_numpy(draw):
    student, teacher, projection = normal(draw, B, T, 4), normal(draw, B, T, H), normal(draw, H, 4)
    rows = MASK.numpy().astype(bool)
    wanted = ((student.numpy()[rows] @ projection.numpy().T - teacher.numpy()[rows]) ** 2).mean()
    assert features.hint_loss(student, teacher, MASK, projection).item() == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ValueError, match="give a projection where the widths differ"):
        features.hint_loss(student, teacher, MASK)
    with pytest.raises(ValueError, match="widths \\(teacher, student\\)"):
        features.hint_loss(student, teacher, MASK, projection.t())


def test_attention_against_a_loop(draw):
    student, teacher = maps(draw), maps(draw)
    squares = [
        (student[b, h, i, j] - teacher[b, h, i, j]).item() ** 2
        for b in range(B)
        for h in range(HEADS)
        for i in range(T)
        for j in range(T)
        if MASK[b, i] and MASK[b, j]
    ]
    assert features.attention_loss(student, teacher, MASK).item() == pytest.approx(numpy.mean(squares), rel=1e-5)
    with pytest.raises(ValueError, match="one shape"):
        features.attention_loss(student[:, :1], teacher, MASK)


def test_token_relations_against_a_loop(draw):
    student, teacher, heads = normal(draw, B, T, 4), normal(draw, B, T, H), 2

    def relation(states, b, h, i):
        size = states.shape[-1] // heads
        rows = states[b, MASK[b].bool(), h * size : (h + 1) * size].double()
        return (rows @ rows[i] / size**0.5).softmax(0)

    divergences = []
    for b in range(B):
        for h in range(heads):
            for i in range(int(MASK[b].sum())):
                p, q = relation(teacher, b, h, i), relation(student, b, h, i)
                divergences.append((p * (p.log() - q.log())).sum().item())
    got = features.token_relation_loss(student, teacher, MASK, heads).item()
    assert got == pytest.approx(numpy.mean(divergences), rel=1e-4)
    with pytest.raises(ValueError, match="3 relation heads do not divide the width 4"):
        features.token_relation_loss(student, teacher, MASK, 3)


@pytest.mark.parametrize("loss", [features.relation_loss, features.angle_loss])
def test_relations_see_neither_scale_nor_rotation_nor_shift(loss, draw):
    teacher = normal(draw, 6, 4)
    rotation = torch.linalg.qr(normal(draw, 4, 4)).Q
    assert loss(3 * teacher @ rotation + 5, teacher).item() == pytest.approx(0, abs=1e-9)
    assert loss(normal(draw, 6, 3), teacher) > 1e-3


def test_distances_against_a_written_case():
    student = torch.tensor([[0.0], [3.0], [4.0]])  # distances 3, 4, 1: mean 8/3
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # 1, 1, sqrt 2: mean (2 + sqrt 2) / 3
    ours = numpy.array([3, 4, 1]) / (8 / 3)
    theirs = numpy.array([1, 1, 2**0.5]) / ((2 + 2**0.5) / 3)
    wanted = numpy.mean(0.5 * (ours - theirs) ** 2)  # all below 1: the square part of Huber
    assert features.relation_loss(student, teacher).item() == pytest.approx(wanted, rel=1e-5)


def test_angles_against_a_written_case():
    straight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    right = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    # At the middle point the cosine is -1 against 0; at the ends 1 against cos 45 degrees: six of 27 entries differ.
    wanted = (2 * 0.5 * 1 + 4 * 0.5 * (1 - 0.5**0.5) ** 2) / 27
    assert features.angle_loss(straight, right).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("loss", [features.relation_loss, features.angle_loss])
def test_equal_embeddings_leave_the_gradient_finite(loss, draw):
    student = torch.ones(4, 3).requires_grad_()
    loss(student, normal(draw, 4, 3)).backward()
    assert student.grad.isfinite().all()
    with pytest.raises(ValueError, match="two or more examples"):
        loss(student[:1], student[:1])


@pytest.mark.parametrize(
    ("mask", "words"),
    [(torch.ones(B, T + 1), "must have the shape"), (2 * MASK, "hold 0 and 1"), (0 * MASK, "no real token")],
)
def test_a_wrong_mask_is_refused(mask, words, draw):
    for loss, teacher in losses(draw).values():
        with pytest.raises(ValueError, match=words):
            loss(teacher, teacher, mask)


def test_layer_maps():
    assert features.layer_map(2, 6, "uniform") == [2, 5]
    assert features.layer_map(3, 6, "uniform") == [1, 3, 5]
    assert features.layer_map(4, 6, "uniform") == [0, 2, 3, 5]
    assert features.layer_map(2, 6, "last") == [4, 5]
    assert features.layer_map(2, 6, "first") == [0, 1]
    assert features.layer_map(6, 6, "uniform") == list(range(6))
    with pytest.raises(ValueError, match="1 to 6 layers"):
        features.layer_map(7, 6)
    with pytest.raises(ValueError, match="uniform, last, first"):
        features.layer_map(2, 6, "middle")


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    shape = {"hidden_size": H, "num_hidden_layers": 2, "num_attention_heads": HEADS, "intermediate_size": 16}
    config = BertConfig(vocab_size=30, **shape)
    return TopicClassifier(BertModel(config, add_pooling_layer=False)).eval()


@pytest.mark.parametrize("attention", [True, False])
def test_what_is_seen_inside_is_what_the_model_computes(classifier, attention, draw):
    ids = torch.randint(0, 30, (B, T), generator=draw)
    seen = features.look_inside(classifier, ids, MASK, attention)
    assert torch.allclose(seen.logits, classifier(ids, MASK), atol=1e-6)
    assert len(seen.hidden) == 3
    assert torch.allclose(classifier.head(seen.pooled), seen.logits)
    assert len(seen.attention) == (2 if attention else 0)
    for layer in seen.attention:
        assert torch.allclose(layer.sum(-1), torch.ones(()))
        assert layer[1, :, :, 3:].abs().max() == 0  # nobody attends to padding


def test_changing_padded_tokens_changes_nothing_inside(classifier, draw):
    ids = torch.randint(0, 30, (B, T), generator=draw)
    other = ids.where(MASK.bool(), 29)
    one, two = (features.look_inside(classifier, tokens, MASK, attention=True) for tokens in (ids, other))
    teacher = features.look_inside(classifier, ids.flip(0), MASK, attention=True)
    for loss, part in ((features.hint_loss, "hidden"), (features.attention_loss, "attention")):
        values = [loss(getattr(seen, part)[-1], getattr(teacher, part)[-1], MASK).item() for seen in (one, two)]
        assert values[0] == pytest.approx(values[1], rel=1e-6)
