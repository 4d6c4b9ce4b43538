"""Each level: zero for a perfect student, blind to padding, and gone when it is switched off."""

import pytest
import torch
import torch.nn.functional as F

from lessons_lib.distillation import translation_losses as levels
from lessons_lib.tasks import phrase_pairs, translator
from lessons_lib.tasks.phrase_pairs import PAD
from lessons_lib.training import loop

TEACHER = translator.Shape(encoder_layers=4, decoder_layers=4, width=16, heads=2, inner=32, dropout=0.0)
STUDENT = translator.Shape(encoder_layers=1, decoder_layers=1, width=8, heads=2, inner=16, dropout=0.0)


@pytest.fixture(scope="module")
def teacher():
    return translator.new_translator(TEACHER, seed=0).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data():
    rows = phrase_pairs.pairs("validation").select(range(10))
    return phrase_pairs.tensors(rows["english"], rows["french"])


@pytest.fixture(scope="module")
def cached(teacher, data):
    return levels.teacher_outputs(teacher, data, batch_size=4)


def logits(seed, batch=3, length=5, pieces=7):
    return torch.randn(batch, length, pieces, generator=torch.Generator().manual_seed(seed))


TARGET = torch.tensor([[1, 2, 3, 4, 5], [6, 1, PAD, PAD, PAD], [2, 3, 4, PAD, PAD]])


def test_word_level_is_zero_for_a_perfect_student_and_cross_entropy_without_the_teacher():
    same, other = logits(0), logits(1)
    assert levels.word_level_loss(same, same, TARGET, 1.0).item() == pytest.approx(0, abs=1e-6)
    assert levels.word_level_loss(same, other, TARGET, 1.0) > 0.1
    hard = F.cross_entropy(same.flatten(0, 1), TARGET.flatten(), ignore_index=PAD)
    assert torch.allclose(levels.word_level_loss(same, other, TARGET, 0.0), hard)


def test_word_level_never_reads_padding():
    student, other = logits(0), logits(1)
    wanted = levels.word_level_loss(student, other, TARGET, 0.5)
    student[TARGET == PAD], other[TARGET == PAD] = 77.0, float("nan")
    assert torch.equal(levels.word_level_loss(student, other, TARGET, 0.5), wanted)


def test_word_level_is_a_mean_over_pieces():
    twice = [torch.cat([tensor, tensor]) for tensor in (logits(0), logits(1), TARGET)]
    once = levels.word_level_loss(logits(0), logits(1), TARGET, 0.3)
    assert torch.allclose(levels.word_level_loss(*twice, 0.3), once)


def test_hidden_states_are_compared_where_pieces_are_real():
    mine, teachers, mask = logits(0), logits(1), TARGET != PAD
    wanted = levels.hidden_state_loss(mine, teachers, mask)
    assert torch.allclose(wanted, (mine - teachers)[mask].square().mean())
    teachers[~mask] = float("nan")
    assert torch.equal(levels.hidden_state_loss(mine, teachers, mask), wanted)
    assert levels.hidden_state_loss(mine, mine, mask) == 0
    assert levels.hidden_state_loss(mine, teachers, torch.zeros_like(mask)) == 0


def test_cached_outputs_are_the_teacher_s_own(teacher, data, cached):
    wanted, encoded, decoded = teacher(data["source"], data["target"][:, :-1], hidden=True)
    for name, tensor in {"logits": wanted, "encoded": encoded[-1], "decoded": decoded[-1]}.items():
        assert cached[name].dtype == torch.bfloat16
        real = tensor.abs().amax() * 2**-7  # BF16 keeps eight bits
        assert (cached[name].float() - tensor).abs().max() <= real


def test_a_student_equal_to_its_teacher_has_no_word_level_loss(teacher, cached):
    target = translator.trimmed(cached["target"])[:, 1:]
    own = teacher(cached["source"], cached["target"][:, :-1])
    assert levels.word_level_loss(own, cached["logits"], target, 1.0) < 1e-3


@pytest.mark.parametrize("level", ["word", "hidden"])
def test_each_level_brings_the_student_nearer_and_another_teacher_leads_elsewhere(level, teacher, cached):
    """The test that fails when the method is switched off: what is trained depends on what the teacher put out."""

    def trained(outputs):
        student = translator.new_translator(STUDENT, seed=1)
        model, loss = student, levels.word_loss
        if level == "hidden":
            model, loss = levels.projected(student, teacher.shape.width, seed=1), levels.hidden_loss
        start = loss(model, cached).item()
        loop.train(model, outputs, loss, steps=40, batch_size=10, lr=1e-2, seed=0, progress=False)
        return start, loss(model, cached).item(), student

    start, end, student = trained(cached)
    assert end < 0.8 * start
    misled = trained(cached | {name: cached[name].flip(0) for name in ("logits", "encoded", "decoded")})[2]
    assert not torch.equal(student.source.weight, misled.source.weight)


def test_sequence_level_data_is_the_teacher_s_beam_output(teacher):
    from lessons_lib.tasks import decoding

    texts = phrase_pairs.pairs("validation").select(range(3))["english"]
    assert levels.sequence_level_data(teacher, texts, beams=2) == decoding.translate(teacher, texts, beams=2)


@pytest.mark.parametrize(
    ("depths", "plan"),
    [
        ((6, 2), [[0, 2, 3, 5], [1, 3]]),
        ((6, 3), [[0, 2, 3, 5], [0, 1, 3]]),
        ((5, 4), [[0, 1, 2, 4]]),
        ((4, 4), []),
    ],
)
def test_stage_plan(depths, plan):
    assert levels.stage_plan(*depths) == plan


def test_stages_end_at_the_student_and_one_long_step_is_a_plan_too():
    for n_teacher in range(1, 13):
        for n_student in range(1, n_teacher + 1):
            plan = levels.stage_plan(n_teacher, n_student)
            assert [len(kept) for kept in plan][-1:] == ([n_student] if n_student < n_teacher else [])
            assert all(
                kept[-1] == before - 1 for kept, before in zip(plan, [n_teacher, *map(len, plan)], strict=False)
            ), "the last layer stays"
    assert levels.stage_plan(6, 2, step=4) == [[2, 5]]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="alpha"):
        levels.word_level_loss(logits(0), logits(1), TARGET, 1.5)
    with pytest.raises(ValueError, match="target must be int64"):
        levels.word_level_loss(logits(0), logits(1), TARGET[:, :3], 0.5)
    with pytest.raises(ValueError, match="one shape"):
        levels.hidden_state_loss(logits(0), logits(1)[..., :3], TARGET != PAD)
    with pytest.raises(ValueError, match="1 ... 6"):
        levels.stage_plan(6, 7)
