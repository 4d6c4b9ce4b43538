"""The three losses of DistilBERT: zero for a perfect student, blind to padding, none of them switched off unnoticed."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from lessons_lib.distillation import general, masked_language
from lessons_lib.distillation.general import cosine_loss, triple_loss
from lessons_lib.distillation.losses import soft_loss
from lessons_lib.tasks import topic_classifier

B, T, H, M, V = 3, 5, 8, 6, 11
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def normal(draw, *shape):
    return torch.randn(*shape, generator=draw)


def guesses(draw):
    """Student's and teacher's logits, labels, both hidden states, and the mask."""
    logits, hidden = (normal(draw, M, V), normal(draw, M, V)), (normal(draw, B, T, H), normal(draw, B, T, H))
    return [*logits, torch.randint(0, V, (M,), generator=draw), *hidden, MASK]


def test_the_cosine_of_a_perfect_student_is_without_loss_whatever_its_length(draw):
    teacher = normal(draw, B, T, H)
    assert cosine_loss(teacher.clone(), teacher, MASK).item() == pytest.approx(0, abs=1e-6)
    assert cosine_loss(7 * teacher, teacher, MASK).item() == pytest.approx(0, abs=1e-6)
    assert cosine_loss(-teacher, teacher, MASK).item() == pytest.approx(2, abs=1e-6)
    assert cosine_loss(normal(draw, B, T, H), teacher, MASK) > 0.5


def test_the_cosine_against_a_loop(draw):
    student, teacher = normal(draw, B, T, H), normal(draw, B, T, H)
    angles = [
        1 - (student[b, t] @ teacher[b, t] / (student[b, t].norm() * teacher[b, t].norm())).item()
        for b in range(B)
        for t in range(T)
        if MASK[b, t]
    ]
    assert cosine_loss(student, teacher, MASK).item() == pytest.approx(sum(angles) / len(angles), rel=1e-5)


@pytest.mark.parametrize("padding", [1e3, float("nan")])
def test_what_stands_at_padding_changes_neither_loss_nor_gradient(padding, draw):
    arguments = guesses(draw)
    student, teacher = arguments[3:5]
    results = []
    for fill in (None, padding):
        states = [each if fill is None else each.where(MASK.bool()[..., None], fill) for each in (student, teacher)]
        leaf = states[0].clone().requires_grad_()
        loss = triple_loss(*arguments[:3], leaf, states[1], MASK)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_each_term_is_zero_for_a_perfect_student(draw):
    logits, _, labels, hidden, _, mask = guesses(draw)
    copy = logits, logits, labels, hidden, hidden, mask
    assert triple_loss(*copy, weights=(1, 0, 0)).item() == pytest.approx(0, abs=1e-6)
    assert triple_loss(*copy, weights=(0, 0, 1)).item() == pytest.approx(0, abs=1e-6)
    assert triple_loss(*copy, weights=(0, 1, 0)) > 0.1, "a copy of the teacher still misses words"
    oracle = 60.0 * nn.functional.one_hot(labels, V)
    assert triple_loss(oracle, *copy[1:], weights=(0, 1, 0)).item() == pytest.approx(0, abs=1e-6)


def test_the_terms_add_up_with_their_weights(draw):
    """Fails when a term is switched off, or weighed by another's number."""
    arguments = guesses(draw)
    soft = soft_loss(arguments[0], arguments[1], 3.0)
    hard = nn.functional.cross_entropy(arguments[0], arguments[2])
    cosine = cosine_loss(*arguments[3:])
    assert min(soft, hard, cosine) > 0.1
    wanted = 5 * soft + 2 * hard + 1 * cosine
    assert triple_loss(*arguments, (5.0, 2.0, 1.0), 3.0).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert triple_loss(*arguments, (0.0, 2.0, 0.0), 3.0).item() == pytest.approx(2 * hard.item(), rel=1e-5)


@pytest.mark.parametrize(("weights", "moved"), [((1, 0, 0), {0}), ((0, 1, 0), {0}), ((0, 0, 1), {3})])
def test_every_term_pulls_on_what_it_compares_and_never_on_the_teacher(weights, moved, draw):
    arguments = guesses(draw)
    for place in (0, 1, 3, 4):
        arguments[place].requires_grad_()
    triple_loss(*arguments, weights).backward()
    pulled = {
        place for place in (0, 1, 3, 4) if arguments[place].grad is not None and arguments[place].grad.abs().sum() > 0
    }
    assert pulled == moved


def test_a_batch_without_a_chosen_token_has_the_cosine_alone(draw):
    arguments = guesses(draw)
    nothing = [arguments[0][:0].requires_grad_(), arguments[1][:0], arguments[2][:0], *arguments[3:]]
    assert triple_loss(*nothing).item() == pytest.approx(cosine_loss(*arguments[3:]).item())
    triple_loss(*nothing, (1.0, 1.0, 0.0)).backward()


def test_bad_input_is_refused(draw):
    arguments = guesses(draw)
    with pytest.raises(ValueError, match="three finite numbers"):
        triple_loss(*arguments, (1.0, 1.0))
    with pytest.raises(ValueError, match="three finite numbers"):
        triple_loss(*arguments, (1.0, -1.0, 1.0))
    with pytest.raises(ValueError, match="labels must be int64"):
        triple_loss(*arguments[:2], arguments[2].float(), *arguments[3:])
    with pytest.raises(ValueError, match="projection"):
        cosine_loss(arguments[3], arguments[4][..., :4], MASK)
    with pytest.raises(ValueError, match="at least one 1"):
        cosine_loss(arguments[3], arguments[4], 0 * MASK)


def state(layers):
    layered = {f"encoder.encoder.layer.{i}.output.dense.weight": torch.full((2,), float(i)) for i in range(layers)}
    return layered | {"encoder.embeddings.weight": torch.ones(3), "bias": torch.zeros(2)}


def test_layers_are_taken_and_renumbered():
    taken = general.init_from_teacher([1, 10, 3], state(12))
    assert {name: tensor[0].item() for name, tensor in taken.items()} == {
        "encoder.encoder.layer.0.output.dense.weight": 1,
        "encoder.encoder.layer.1.output.dense.weight": 10,
        "encoder.encoder.layer.2.output.dense.weight": 3,
        "encoder.embeddings.weight": 1,
        "bias": 0,
    }
    with pytest.raises(ValueError, match="0 ... 3"):
        general.init_from_teacher([4], state(4))
    with pytest.raises(ValueError, match="0 ... 3"):
        general.init_from_teacher([], state(4))


def test_the_student_owns_its_copy():
    teacher = state(2)
    general.init_from_teacher([1], teacher)["bias"].add_(1)
    assert teacher["bias"].sum() == 0


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(topic_classifier.tokenizer()),
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = masked_language.new_model(BertModel(config, add_pooling_layer=False)).requires_grad_(False)
    nn.init.normal_(model.encoder.embeddings.word_embeddings.weight)
    return model


@pytest.fixture(scope="module")
def data():
    return topic_classifier.tokenize(
        ["The bank raised its rates again on Monday.", "Voters went to the polls.", "A goal."] * 8
    )


def test_a_student_as_deep_as_its_teacher_is_its_teacher(teacher, data):
    chosen = data["attention_mask"].bool()
    student = general.new_student(teacher, 4)
    for ours, theirs in zip(student(**data, chosen=chosen), teacher(**data, chosen=chosen), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    shallow = general.new_student(teacher, 2)
    for ours, theirs in ((0, 1), (1, 3)):
        for one, other in zip(
            shallow.encoder.encoder.layer[ours].parameters(),
            teacher.encoder.encoder.layer[theirs].parameters(),
            strict=True,
        ):
            assert torch.equal(one, other)
    with pytest.raises(ValueError, match="1 ... 4"):
        general.new_student(teacher, 5)


def trained(teacher, data, **options):
    student = general.new_student(teacher, 2)
    settings = {"steps": 4, "batch_size": 8, "lr": 1e-2, "seed": 0} | options
    history = general.distil(student, teacher, data, **settings)
    return torch.cat([weight.flatten() for weight in student.state_dict().values()]), history.losses


def test_without_its_two_terms_the_teacher_leaves_no_trace(teacher, data):
    stranger = general.new_student(teacher, 4)
    with torch.no_grad():
        for parameter in stranger.parameters():
            parameter.add_(1.0)

    def with_teacher(one, weights):
        student = general.new_student(teacher, 2)
        general.distil(student, one, data, weights=weights, steps=3, batch_size=8, lr=1e-2, seed=0)
        return torch.cat([weight.flatten() for weight in student.state_dict().values()])

    assert torch.equal(with_teacher(teacher, (0.0, 1.0, 0.0)), with_teacher(stranger, (0.0, 1.0, 0.0)))
    for weights in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)):
        assert not torch.allclose(with_teacher(teacher, weights), with_teacher(stranger, weights), atol=1e-3)


def test_distilling_brings_the_student_nearer_and_repeats_itself(teacher, data):
    first, losses = trained(teacher, data, steps=60, weights=(0.0, 0.0, 1.0))
    assert losses[-1] < 0.5 * losses[0]
    again, _ = trained(teacher, data, steps=60, weights=(0.0, 0.0, 1.0))
    assert torch.equal(first, again)
    assert not torch.equal(first, trained(teacher, data, steps=60, weights=(0.0, 0.0, 1.0), seed=1)[0])
