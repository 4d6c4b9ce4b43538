"""The judgement itself, on small exercises of every kind: values, models with batches, callables, gradients."""

import pytest
import torch

from quizzes import case
from quizzes.exercises import exercises, judging
from quizzes.exercises.judging import Answer
from quizzes.inside import recipes


@pytest.fixture
def made():
    """A fresh decorator, forgotten afterwards."""
    yield lambda **options: exercises.exercise(points=4, minutes=1, hint="think of the next step", **options)
    exercises.BANKS.pop(__name__, None)


def verdict(exercise, function, seed=0):
    cases = exercise.draw(seed)
    return judging.judge(exercise, cases, [judging.ask(function, case) for case in cases])


@pytest.fixture
def double(made):
    @made()
    def double(x):
        """Twice x."""
        return 2 * x

    @double.cases
    def _(draw):
        yield case("small", torch.tensor([1.0, 2.0]), visible=True)
        yield case("random", draw.tensor((3, 4)))
        yield case("random", draw.strided((3, 4)))

    @double.mistake("You squared.")
    def _(x):
        return x**2

    @double.mistake("You added one.")
    def _(x):
        return x + 1

    double.close(rtol=1e-6, reason="one rounding of float32")
    return double


def test_groups_are_all_or_nothing_and_share_the_points(double):
    result = verdict(double, lambda x: 2 * x if x.is_contiguous() else x)
    assert result.groups == {"small": True, "random": False}
    assert result.score == 0.5
    assert result.points == 2


def test_a_mistake_is_recognised_by_its_outputs(double):
    assert verdict(double, lambda x: x * x).mistake == "You squared."
    assert verdict(double, lambda x: x - 1).mistake is None


def test_a_failure_shows_call_expected_and_got(double):
    text = verdict(double, lambda x: x * x).feedback
    for part in ("double(tensor([1., 2.]))", "Expected: tensor([2., 4.])", "Got: tensor([1., 4.])", "You squared."):
        assert part in text


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: (2 * x).double(), "expected dtype torch.float32, got torch.float64"),
        (lambda x: (2 * x)[None], r"expected shape"),
        (lambda x: None, "expected a tensor"),
        (lambda x: [2 * x], "value is missing: a sequence of 1"),
        (lambda x: (2 * x).tolist(), "value is missing"),
        (lambda x: 2 * x * float("nan"), "got nan"),
        (lambda x: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda x: object(), "return tensors, numbers"),
    ],
)
def test_what_is_wrong_is_said(double, function, words):
    result = verdict(double, function)
    assert result.score == 0
    assert words in result.feedback


def test_a_subclass_cannot_claim_to_be_equal(double):
    class Liar(torch.Tensor):
        def __eq__(self, other):
            return torch.ones(self.shape, dtype=torch.bool)

    assert verdict(double, lambda x: torch.zeros_like(x).as_subclass(Liar)).score == 0


@pytest.mark.parametrize("kind", [float, int])
def test_a_number_cannot_claim_to_be_equal(kind):
    liar = type("Liar", (kind,), {"__eq__": lambda *_: True, "__ne__": lambda *_: False})
    exact = exercises.Tolerance(0.0, 0.0, "exact")
    assert judging.compare({"value": kind(2)}, {"value": liar(3)}, exact) is not None
    assert judging.compare({"value": kind(2)}, {"value": kind(2)}, exact) is None


def test_missing_answers_fail_closed(double):
    cases = double.draw(0)
    late = [Answer(status="timeout", detail="no answer within 10 s")] * 3
    result = judging.judge(double, cases, late)
    assert result.score == 0
    assert result.status == "timeout"
    with pytest.raises(ValueError, match="3 cases but 2 answers"):
        judging.judge(double, cases, late[:2])


@pytest.mark.parametrize(
    ("wanted", "got", "same"),
    [
        (1, 1.0, True),
        (1.0, torch.tensor(1.0), True),
        (torch.tensor(1.0), 1.0, True),
        (True, 1, False),
        (1, True, False),
        (float("nan"), float("nan"), True),
        (float("inf"), 1e30, False),
        ("a", "a", True),
        (None, 0, False),
        (torch.tensor([1]), 1, False),
    ],
)
def test_which_values_stand_for_one_another(wanted, got, same):
    tolerance = exercises.Tolerance(0.1, 0.1, "wide, so that only the kind decides")
    assert (judging.compare(recipes.flatten(wanted), recipes.flatten(got), tolerance) is None) is same


def test_infinity_is_within_no_tolerance_of_a_number():
    tolerance = exercises.Tolerance(0.1, 0.1, "wide")
    wanted, got = torch.tensor([float("inf")]), torch.tensor([1.0])
    assert judging.compare({"value": wanted}, {"value": got}, tolerance)
    assert judging.compare({"value": got}, {"value": wanted}, tolerance)


def test_a_model_with_batches(made):
    """Eval mode, order and detachment all show in the values."""

    @made()
    def all_logits(model, batches):
        """Logits of every text, in order, without dropout."""
        model.eval()
        with torch.no_grad():
            return torch.cat([model(**batch) for batch in batches])

    @all_logits.cases
    def _(draw):
        rows = [draw.integers((n, 5), 0, 50) for n in (3, 1, 4)]
        batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in rows]
        yield case("dropout", recipes.tiny_encoder(seed=1), recipes.stream(batches))

    @all_logits.mistake("Dropout was still on.")
    def _(model, batches):
        torch.manual_seed(0)
        return torch.cat([model(**batch) for batch in batches])

    all_logits.close(atol=1e-5, reason="the order of float32 sums")
    assert verdict(all_logits, all_logits.reference).passed
    wrong = verdict(all_logits, all_logits.mistakes[0].function)
    assert wrong.mistake == "Dropout was still on."
    assert "tiny_encoder(seed=1" in wrong.feedback


def test_a_callable_that_looks_up_a_hidden_table(made):
    """The answer and the ordered list of calls: a search that asks too much is not right."""

    @made()
    def first_good(evaluate, settings):
        """The first setting that scores above 0.5."""
        return next(setting for setting in settings if evaluate(setting) > 0.5)

    @first_good.cases
    def _(draw):
        scores = {2: 0.2, 4: 0.9, 8: 0.7}
        yield case("stops", recipes.lookup(scores), list(scores), observe="calls")

    first_good.exact("settings are integers")
    assert verdict(first_good, first_good.reference).passed
    assert not verdict(first_good, lambda evaluate, settings: [s for s in settings if evaluate(s) > 0.5][0]).passed


def test_gradients(made):
    @made()
    def clipped(x):
        """x clamped to [-1, 1]."""
        return x.clamp(-1, 1)

    @clipped.cases
    def _(draw):
        yield case("inside and outside", draw.normal((8,), std=2).requires_grad_(), observe="gradients")

    clipped.exact("values and gradients are copied, not computed")
    assert verdict(clipped, clipped.reference).passed
    straight_through = lambda x: x + (x.clamp(-1, 1) - x).detach()  # noqa: E731
    assert "gradient.0" in verdict(clipped, straight_through).feedback


def test_an_exercise_is_named_once(made):
    @made()
    def twice(x):
        """x"""

    with pytest.raises(ValueError, match="two exercises called 'twice'"):
        made()(twice.reference)


def test_feedback_as_html_is_escaped(double):
    def script(x):
        raise ValueError("<script>")

    html = verdict(double, script)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def torch_lacks_it(x):
    return torch.nn.Module()(x)


def torch_lacks_it_in_c(x):
    return torch.linalg.eigvals(torch.zeros(2, 2, device="meta").to_sparse()) + x


@pytest.mark.parametrize("function", [torch_lacks_it, torch_lacks_it_in_c])
def test_what_torch_does_not_implement_is_an_error_and_no_stub(double, function):
    with pytest.raises(NotImplementedError):
        function(torch.ones(2))
    result = verdict(double, function)
    assert result.status == "raised" and "NotImplementedError" in result.feedback


def test_a_stub_deep_in_the_learner_s_own_code_is_not_attempted(double):
    def helper(x):
        raise NotImplementedError("later")

    assert verdict(double, lambda x: helper(x)).status == "not attempted"


def test_the_first_failing_call_can_be_run_again(double):
    def wrong(x):
        return x.abs() * 2

    result = verdict(double, wrong)
    (first,), (again,) = result.case(), result.case()
    assert torch.equal(first, again) and first is not again
    assert not torch.equal(wrong(first), 2 * first)
    with pytest.raises(ValueError, match="double passed: there is no failing call"):
        verdict(double, lambda x: 2 * x).case()
