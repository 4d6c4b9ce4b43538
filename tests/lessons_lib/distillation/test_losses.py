"""The losses against references written another way, their gradients, and what happens when a part is switched off."""

import math

import numpy
import pytest
import torch
import torch.nn.functional as F

from lessons_lib.distillation import students
from lessons_lib.distillation.losses import (
    UNLABELLED,
    distillation_loss,
    entropy,
    retention,
    soft_cross_entropy,
    soft_loss,
    soften,
    token_distillation_loss,
)

TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 20.0)


def logits(*shape, seed=0, scale=3.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def numpy_softmax(x, T):
    x = x.detach().double().numpy() / T
    powers = numpy.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def numpy_kl(student, teacher, T):
    p, q = numpy_softmax(teacher, T), numpy_softmax(student, T)
    return (p * (numpy.log(p) - numpy.log(q))).sum(-1)


class TestSoften:
    @pytest.mark.parametrize("T", TEMPERATURES)
    def test_agrees_with_float64(self, T):
        x = logits(7, 5)
        numpy.testing.assert_allclose(soften(x, T).numpy(), numpy_softmax(x, T), rtol=2e-5)

    def test_a_higher_temperature_is_flatter_and_keeps_the_order(self):
        x = logits(5)
        entropies = [entropy(soften(x, T)).item() for T in TEMPERATURES]
        assert entropies == sorted(entropies)
        assert all(torch.equal(soften(x, T).argsort(), x.argsort()) for T in TEMPERATURES)

    def test_large_logits_do_not_overflow(self):
        assert torch.equal(soften(torch.tensor([1e30, 0.0, -1e30]), 1.0), torch.tensor([1.0, 0.0, 0.0]))

    def test_sixteen_bits_are_computed_in_32(self):
        x = logits(4, 5).bfloat16()
        assert torch.equal(soften(x, 2.0), soften(x.float(), 2.0))

    def test_any_strides(self):
        x = logits(5, 6).t()[:, ::2]
        assert torch.equal(soften(x, 2.0), soften(x.contiguous(), 2.0))


class TestEntropy:
    def test_hard_uniform_and_known_labels(self):
        rows = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])
        torch.testing.assert_close(entropy(rows), torch.tensor([0.0, math.log(4), math.log(2)]))

    @pytest.mark.parametrize("rows", [torch.tensor([0.5, 0.4]), torch.tensor([1.5, -0.5]), torch.tensor([math.nan, 1])])
    def test_refuses_what_is_no_distribution(self, rows):
        with pytest.raises(ValueError, match="sum to 1"):
            entropy(rows)

    @pytest.mark.parametrize("rows", [torch.tensor([1, 0]), torch.empty(0, 3)])
    def test_refuses_integers_and_nothing(self, rows):
        with pytest.raises(TypeError, match="floats"):
            entropy(rows)


class TestSoftLoss:
    @pytest.mark.parametrize("T", TEMPERATURES)
    def test_agrees_with_torch_and_with_float64(self, T):
        student, teacher = logits(8, 5), logits(8, 5, seed=1)
        torchs = F.kl_div(F.log_softmax(student / T, -1), F.softmax(teacher / T, -1), reduction="batchmean")
        torch.testing.assert_close(soft_loss(student, teacher, T), T**2 * torchs)
        float64 = T**2 * numpy_kl(student, teacher, T).mean()
        assert soft_loss(student, teacher, T).item() == pytest.approx(float64, rel=2e-5)

    def test_the_direction_is_teacher_then_student(self):
        student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(9)]])
        forward = 0.1 * math.log(0.1 / 0.5) + 0.9 * math.log(0.9 / 0.5)
        backward = 0.5 * math.log(0.5 / 0.1) + 0.5 * math.log(0.5 / 0.9)
        assert soft_loss(student, teacher, 1.0).item() == pytest.approx(forward, rel=1e-6)
        assert soft_loss(teacher, student, 1.0).item() == pytest.approx(backward, rel=1e-6)

    @pytest.mark.parametrize("T", TEMPERATURES)
    def test_a_perfect_student_loses_nothing(self, T):
        teacher = logits(8, 5)
        assert soft_loss(teacher, teacher, T).item() == 0
        assert soft_loss(teacher + 7, teacher, T).item() == pytest.approx(0, abs=1e-6 * T**2)

    @pytest.mark.parametrize("T", TEMPERATURES)
    def test_gradient_is_T_times_the_difference_of_probabilities(self, T):
        student, teacher = logits(8, 5).double().requires_grad_(), logits(8, 5, seed=1).double()
        soft_loss(student, teacher, T).backward()
        expected = T * (numpy_softmax(student, T) - numpy_softmax(teacher, T)) / len(student)
        numpy.testing.assert_allclose(student.grad.numpy(), expected, atol=1e-12)

    def test_gradient_passes_finite_differences(self):
        teacher = logits(3, 4, seed=1).double()
        assert torch.autograd.gradcheck(lambda x: soft_loss(x, teacher, 3.0), logits(3, 4).double().requires_grad_())

    def test_T_squared_keeps_the_gradient_from_fading(self):
        student, teacher = logits(64, 5), logits(64, 5, seed=1)

        def gradient(T):
            leaf = student.clone().requires_grad_()
            soft_loss(leaf, teacher, T).backward()
            return leaf.grad.norm().item()

        assert gradient(100.0) == pytest.approx(gradient(50.0), rel=0.05)  # without T² a quarter would be left

    def test_an_infinite_temperature_matches_centred_logits(self):
        student, teacher = logits(16, 5).double(), logits(16, 5, seed=1).double()
        apart = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
        limit = apart.square().sum(-1).mean() / (2 * 5)
        assert soft_loss(student, teacher, 1e4).item() == pytest.approx(limit.item(), rel=1e-3)

    def test_the_teacher_gets_no_gradient(self):
        student, teacher = logits(4, 5).requires_grad_(), logits(4, 5, seed=1).requires_grad_()
        soft_loss(student, teacher, 2.0).backward()
        assert student.grad.abs().sum() > 0
        assert teacher.grad is None

    def test_large_logits_stay_finite(self):
        student = torch.tensor([[0.0, 1e4]], requires_grad=True)
        loss = soft_loss(student, torch.tensor([[1e4, 0.0]]), 1.0)
        loss.backward()
        assert loss.item() == pytest.approx(1e4)
        assert torch.equal(student.grad, torch.tensor([[-1.0, 1.0]]))

    def test_sixteen_bits_give_the_loss_of_32(self):
        student, teacher = logits(4, 5).bfloat16(), logits(4, 5, seed=1).bfloat16()
        assert torch.equal(soft_loss(student, teacher, 2.0), soft_loss(student.float(), teacher.float(), 2.0))


class TestSoftCrossEntropy:
    @pytest.mark.parametrize("T", TEMPERATURES)
    def test_is_the_entropy_plus_the_divergence(self, T):
        student, teacher = logits(8, 5), logits(8, 5, seed=1)
        floor = T**2 * entropy(soften(teacher, T)).mean()
        torch.testing.assert_close(soft_cross_entropy(student, teacher, T), floor + soft_loss(student, teacher, T))
        torch.testing.assert_close(soft_cross_entropy(teacher, teacher, T), floor)
        assert floor > 0

    def test_agrees_with_torch(self):
        student, teacher = logits(8, 5), logits(8, 5, seed=1)
        torchs = F.cross_entropy(student / 2, F.softmax(teacher / 2, -1))
        torch.testing.assert_close(soft_cross_entropy(student, teacher, 2.0), 4 * torchs)

    def test_has_the_gradient_of_soft_loss(self):
        student, teacher = logits(8, 5).requires_grad_(), logits(8, 5, seed=1)
        gradients = [torch.autograd.grad(f(student, teacher, 2.0), student)[0] for f in (soft_loss, soft_cross_entropy)]
        torch.testing.assert_close(*gradients)


class TestDistillationLoss:
    labels = torch.tensor([0, 4, 2, 2])

    @pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
    def test_is_the_weighted_sum(self, alpha):
        student, teacher = logits(4, 5), logits(4, 5, seed=1)
        expected = alpha * soft_loss(student, teacher, 2.0) + (1 - alpha) * F.cross_entropy(student, self.labels)
        torch.testing.assert_close(distillation_loss(student, teacher, self.labels, alpha, 2.0), expected)

    def test_with_alpha_0_the_teacher_does_not_matter(self):
        student = logits(4, 5).requires_grad_()
        losses = [distillation_loss(student, logits(4, 5, seed=s), self.labels, 0.0, 4.0) for s in (1, 2)]
        gradients = [torch.autograd.grad(loss, student)[0] for loss in losses]
        assert torch.equal(*losses)
        assert torch.equal(*gradients)

    def test_with_alpha_above_0_the_teacher_matters(self):
        student = logits(4, 5)
        losses = [distillation_loss(student, logits(4, 5, seed=s), self.labels, 0.1, 4.0) for s in (1, 2)]
        assert not torch.equal(*losses)

    def test_with_alpha_1_the_labels_do_not_matter(self):
        student, teacher = logits(4, 5), logits(4, 5, seed=1)
        torch.testing.assert_close(
            distillation_loss(student, teacher, self.labels, 1.0, 2.0), soft_loss(student, teacher, 2.0)
        )

    def test_unlabelled_examples_count_in_the_soft_term_alone(self):
        student, teacher = logits(4, 5), logits(4, 5, seed=1)
        some = torch.tensor([0, UNLABELLED, 2, UNLABELLED])
        hard = F.cross_entropy(student[[0, 2]], torch.tensor([0, 2]))
        torch.testing.assert_close(
            distillation_loss(student, teacher, some, 0.5, 2.0), 0.5 * soft_loss(student, teacher, 2.0) + 0.5 * hard
        )
        none = torch.full((4,), UNLABELLED)
        torch.testing.assert_close(
            distillation_loss(student, teacher, none, 0.5, 2.0), 0.5 * soft_loss(student, teacher, 2.0)
        )

    @pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
    def test_refuses_an_alpha_outside_0_to_1(self, alpha):
        with pytest.raises(ValueError, match="alpha"):
            distillation_loss(logits(4, 5), logits(4, 5), self.labels, alpha, 2.0)

    @pytest.mark.parametrize(
        "labels", [torch.tensor([0, 5, 2, 2]), torch.tensor([0, -1, 2, 2]), torch.tensor([0, 1]), torch.ones(4)]
    )
    def test_refuses_labels_that_do_not_fit(self, labels):
        with pytest.raises(ValueError, match="labels"):
            distillation_loss(logits(4, 5), logits(4, 5), labels, 0.5, 2.0)


class TestTokenDistillationLoss:
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])

    def test_agrees_with_a_loop_over_real_tokens(self):
        student, teacher = logits(3, 4, 6), logits(3, 4, 6, seed=1)
        each = 4 * numpy_kl(student, teacher, 2.0)[self.mask.bool().numpy()]
        assert token_distillation_loss(student, teacher, self.mask, 2.0).item() == pytest.approx(each.mean(), rel=2e-5)

    @pytest.mark.parametrize("junk", [0.0, 1e30, math.inf, math.nan])
    def test_padding_changes_neither_loss_nor_gradient(self, junk):
        student, teacher = logits(3, 4, 6), logits(3, 4, 6, seed=1)

        def answer(student, teacher):
            leaf = student.clone().requires_grad_()
            loss = token_distillation_loss(leaf, teacher, self.mask, 2.0)
            return loss.detach(), torch.autograd.grad(loss, leaf)[0]

        padding = ~self.mask.bool()[..., None]
        spoiled = answer(student.masked_fill(padding, junk), teacher.masked_fill(padding, -junk))
        clean = answer(student, teacher)
        assert torch.equal(spoiled[0], clean[0])
        assert torch.equal(spoiled[1], clean[1])
        assert (clean[1].abs().sum(-1) > 0).equal(self.mask.bool())

    def test_does_not_grow_with_the_length_as_batchmean_does(self):
        student, teacher = logits(2, 4, 6), logits(2, 4, 6, seed=1)
        longer = [torch.cat([x, x], dim=1) for x in (student, teacher)]
        loss = token_distillation_loss(student, teacher, torch.ones(2, 4), 1.0)
        torch.testing.assert_close(token_distillation_loss(*longer, torch.ones(2, 8), 1.0), loss)

        def batchmean(s, t):
            return F.kl_div(F.log_softmax(s, -1), F.log_softmax(t, -1), log_target=True, reduction="batchmean")

        torch.testing.assert_close(batchmean(*longer), 2 * batchmean(student, teacher))

    def test_bool_and_number_masks_are_the_same(self):
        student, teacher = logits(3, 4, 6), logits(3, 4, 6, seed=1)
        losses = [token_distillation_loss(student, teacher, self.mask.to(t), 2.0) for t in (torch.bool, torch.float32)]
        assert torch.equal(*losses)

    def test_padding_alone_gives_zero_with_zero_gradients(self):
        student = torch.full((2, 3, 4), math.nan, requires_grad=True)
        loss = token_distillation_loss(student, student.detach(), torch.zeros(2, 3), 2.0)
        loss.backward()
        assert loss.item() == 0
        assert torch.equal(student.grad, torch.zeros(2, 3, 4))

    @pytest.mark.parametrize(
        "mask", [torch.ones(3), torch.ones(4, 3), torch.full((3, 4), 0.5), torch.full((3, 4), math.nan)]
    )
    def test_refuses_a_mask_that_does_not_fit(self, mask):
        with pytest.raises(ValueError, match="mask"):
            token_distillation_loss(logits(3, 4, 6), logits(3, 4, 6), mask, 2.0)

    def test_refuses_logits_that_are_no_sequences(self):
        with pytest.raises(ValueError, match="vocabulary"):
            token_distillation_loss(logits(4, 6), logits(4, 6), torch.ones(4), 2.0)


class TestRefusals:
    @pytest.mark.parametrize("T", [0, -1.0, math.nan, math.inf])
    def test_temperatures(self, T):
        for call in (lambda: soften(logits(2, 3), T), lambda: soft_loss(logits(2, 3), logits(2, 3), T)):
            with pytest.raises(ValueError, match="temperature"):
                call()

    @pytest.mark.parametrize("entry", [math.nan, math.inf, -math.inf])
    def test_logits_that_are_not_finite(self, entry):
        bad = torch.tensor([[entry, 0.0]])
        with pytest.raises(ValueError, match="teacher_logits / T must be finite"):
            soft_loss(torch.zeros(1, 2), bad, 1.0)
        with pytest.raises(ValueError, match="finite"):
            soften(torch.tensor([1e30, 0.0]), 1e-30)

    @pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((3,), (3,)), ((2, 3, 4), (2, 3, 4))])
    def test_shapes(self, shapes):
        with pytest.raises(ValueError, match=r"\(batch, classes\)"):
            soft_loss(logits(*shapes[0]), logits(*shapes[1]), 1.0)

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), ()])
    def test_nothing(self, shape):
        with pytest.raises(ValueError, match="at least one row"):
            soften(torch.empty(shape), 1.0)

    def test_integers(self):
        with pytest.raises(TypeError, match="floats"):
            soften(torch.tensor([1, 2]), 1.0)


def test_layers_are_taken_evenly_and_end_with_the_last():
    assert students.take_layers(6, 2) == [2, 5]
    assert students.take_layers(12, 6) == [1, 3, 5, 7, 9, 11]
    assert students.take_layers(7, 3) == [1, 3, 6]
    assert students.take_layers(6, 2, "first") == [0, 1]
    for deep in range(1, 14):
        for shallow in range(1, deep + 1):
            layers = students.take_layers(deep, shallow)
            assert len(set(layers)) == shallow
            assert layers == sorted(layers)
            assert layers[-1] == deep - 1
    with pytest.raises(ValueError, match="1 ... 6 of its teacher's 6 layers, not 7"):
        students.take_layers(6, 7)
    with pytest.raises(ValueError, match='"alternate" or "first"'):
        students.take_layers(6, 2, "every second")


class Teacher(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.dropout = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.scale * x)


@pytest.mark.parametrize("training", [True, False])
def test_transfer_logits_come_in_order_without_dropout_and_leave_no_trace(training):
    teacher, x = Teacher().train(training), torch.arange(12.0).reshape(6, 2)
    logits = students.transfer_logits(teacher, iter([{"x": x[:1]}, {"x": x[1:5]}, {"x": x[5:]}]))
    assert torch.equal(logits, 2 * x)
    assert not logits.requires_grad
    assert teacher.training is training
    with pytest.raises(ValueError, match="there is no batch"):
        students.transfer_logits(teacher, iter([]))
    with pytest.raises(TypeError):
        students.transfer_logits(teacher, [{"y": x}])
    assert teacher.training is training, "the mode is put back after an error too"


def test_retention_counts_from_chance():
    assert retention(0.8, 0.9, 0.2) == pytest.approx(6 / 7)
    assert retention(0.2, 0.9, 0.2) == 0
    assert retention(0.95, 0.9, 0.2) > 1
    assert retention(0.1, 0.9, 0.2) < 0
    for bad in ((0.5, 0.2, 0.2), (0.5, 0.1, 0.2), (float("nan"), 0.9, 0.2)):
        with pytest.raises(ValueError, match="above chance"):
            retention(*bad)
