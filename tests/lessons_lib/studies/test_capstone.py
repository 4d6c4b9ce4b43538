"""The study of lesson 18: every cell takes its steps, controls share the shape and not the start, the table is this
code's."""

from dataclasses import replace

import numpy
import pytest
import torch

from lessons_lib.capstone import compressors, pipeline
from lessons_lib.capstone.compressors import Compressor, compressor_of
from lessons_lib.distillation import students
from lessons_lib.pruning import heads
from lessons_lib.studies import capstone as grid
from lessons_lib.tasks import topic_classifier, translator

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


@pytest.fixture
def quick(monkeypatch):
    """Cells that run in a moment: a tiny translator for a teacher, nothing trained, and few phrases judged."""
    shape = translator.Shape(6, 6, 16, 2, 512, 0.0)
    made = pipeline.Made(compressor_of("translator"), (), translator.new_translator(shape, seed=0).eval())
    monkeypatch.setattr(pipeline, "start", lambda task: made)
    taught, judged = [], []
    monkeypatch.setattr(Compressor, "teach", lambda self, model, how, seed, *_: taught.append((model, how, seed)))

    def judge(made, split):
        judged.append((made.steps, split))
        return {"quality": len(judged) / 10, "answers": len(judged)}

    monkeypatch.setattr(grid, "judged", judge)
    return made, taught, judged


def test_a_cell_takes_its_steps_and_is_judged_from_the_teaching_on(quick, monkeypatch):
    _, taught, judged = quick
    monkeypatch.setattr(compressors.onnx_translator, "to_onnx", lambda model, folder: folder)
    monkeypatch.setattr(compressors.onnx_translator, "dynamic_int8", lambda path, folder: folder)
    monkeypatch.setattr(compressors.TranslatorCompressor, "opened", lambda self, path: torch.nn.Identity())
    route = pipeline.REFERENCE["translator"]
    result = grid.run(grid.cell("translator", route, seed=1))
    assert [steps for steps, _ in judged] == [route[:3], route]
    assert result == {
        "quality": 0.2,
        "after": {"distil": {"quality": 0.1, "answers": 1}, "int8": {"quality": 0.2, "answers": 2}},
    }
    ((model, how, seed),) = taught
    assert (how.learn, how.lr, seed) == ("teacher", grid.CHOSEN["translator", "teacher", "teacher"], 1)
    assert model.shape == replace(quick[0].model.shape, encoder_layers=2, decoder_layers=1, inner=256)


def test_a_cell_without_teaching_is_judged_at_its_end(quick):
    for steps in ((), ("layers",), ("neurons", "layers")):
        grid.run(grid.cell("translator", steps))
    assert [steps for steps, _ in quick[2]] == [(), ("layers",), ("neurons", "layers")]


def test_a_control_has_the_same_shape_and_another_start(quick):
    _, taught, _ = quick
    for learn in ("labels", "all labels"):
        grid.run(grid.cell("translator", grid.TAUGHT["translator"], 0, "scratch", learn))
    grid.run(grid.cell("translator", grid.TAUGHT["translator"], 0))
    (few, how, _), (every, _, _), (student, _, _) = taught
    assert how.learn == "labels" and few.shape == every.shape == student.shape
    assert torch.equal(few.head.weight, every.head.weight)  # one seed, one start
    assert not torch.equal(few.head.weight, student.head.weight)
    assert torch.equal(student.head.weight, quick[0].model.head.weight)  # the teacher's


def test_a_classifier_from_scratch_has_the_shape_and_none_of_the_weights():
    whole = students.topic_student(2)
    made = pipeline.Made(compressor_of("classifier"), (), heads.prune_heads(whole, [[1, 2, 5], [0, 11]]))
    fresh = made.compressor.from_scratch(made.model, seed=0)
    ours, whole = fresh.state_dict(), made.model.state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in whole.items()}
    assert not torch.equal(
        ours["encoder.embeddings.word_embeddings.weight"], whole["encoder.embeddings.word_embeddings.weight"]
    )
    assert all(weight.requires_grad for weight in fresh.parameters())
    assert torch.equal(ours["head.weight"], made.compressor.from_scratch(made.model, seed=0).head.weight)


def test_all_learn_for_equally_many_steps_and_whatever_learns_has_three_seeds(table):
    for task in pipeline.REFERENCE:
        settings = [(pipeline.REFERENCE[task], "teacher", "teacher")]
        settings += [(grid.TAUGHT[task], *control) for control in grid.CONTROLS[task]]
        for steps, origin, learn in settings:
            assert [row["seed"] for row in grid.rows(table, task, steps, origin, learn)] == list(grid.SEEDS)
        assert STUDY.settings["steps"][task] == pipeline.USUAL[task].training.steps
    assert len(grid.SEEDS) >= 3 and grid.TUNING_SEED not in grid.SEEDS


def test_rates_are_those_that_did_best_on_validation_data(table):
    for way, rates in grid.RATES.items():
        tried = grid.tuning(table, *way)
        assert tuple(tried) == rates
        assert tried[grid.CHOSEN[way]] == max(tried.values())
    for task, usual in pipeline.USUAL.items():
        assert usual.training.lr == grid.CHOSEN[task, "teacher", "teacher"]


def test_scores_are_those_of_the_answers_kept(table):
    for task, steps in pipeline.REFERENCE.items():
        rows, said = grid.rows(table, task, steps), grid.answers(table, task, steps)
        assert grid.score(table, task, said).value == pytest.approx(
            100 * numpy.mean([row["quality"] for row in rows]), abs=0.01
        )
        gap = grid.lost(table, task, said)
        assert gap.runs == 3
        teacher = grid.score(table, task, grid.answers(table, task, ()))
        assert gap.value == pytest.approx(grid.score(table, task, said).value - teacher.value, abs=1e-6)


def test_exporting_changes_no_answer_so_the_answers_before_it_count_for_it(table):
    for task, steps in pipeline.REFERENCE.items():
        exported = steps[: steps.index("export") + 1]
        assert grid.answers(table, task, exported) == grid.answers(table, task, exported[:-1])
        assert grid.answers(table, task, ("export",)) == grid.answers(table, task, ())


def test_steps_that_the_study_does_not_have_are_refused(table):
    with pytest.raises(ValueError, match="with 'distil' the study has heads, neurons, layers, distil"):
        grid.answers(table, "classifier", ("distil", "layers"))


def test_the_order_of_the_capstone_is_met(table):
    """97 % of the classifier's accuracy, one BLEU of the translator; that both are smaller shows in lesson 18."""
    whole = grid.score(table, "classifier", grid.answers(table, "classifier", ())).value
    steps = pipeline.REFERENCE["classifier"]
    assert grid.score(table, "classifier", grid.answers(table, "classifier", steps)).value >= 0.97 * whole
    steps = pipeline.REFERENCE["translator"]
    assert grid.lost(table, "translator", grid.answers(table, "translator", steps)).value >= -1


def test_the_table_rests_on_these_documents(table):
    """The models are left out: another kind of processor rounds otherwise, and trains others to the bit."""
    assert table.inputs["sizes"] == topic_classifier.document_sizes()


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live
