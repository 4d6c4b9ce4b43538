"""Steps come in the order that was asked for, each does what it says, and what takes long is made once."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset

from lessons_lib.capstone import compressors, pipeline
from lessons_lib.capstone.compressors import Compressor, Options, Training, compressor_of
from lessons_lib.capstone.pipeline import Made
from lessons_lib.distillation import students
from lessons_lib.pruning import structured
from lessons_lib.tasks import topic_classifier, translator
from lessons_lib.tasks.task import Task

SHAPE = translator.Shape(2, 3, 16, 2, 32, 0.0)
OPTIONS = Options(((1,), (0, 2)), 8, Training(2, 1e-3))


@pytest.fixture
def tiny(monkeypatch):
    """A translator that takes a moment in place of the teacher."""
    made = Made(compressor_of("translator"), (), translator.new_translator(SHAPE, seed=0).eval().requires_grad_(False))
    monkeypatch.setattr(pipeline, "start", lambda task: made)
    pipeline._teacher_sha256.cache_clear()
    yield made
    pipeline._teacher_sha256.cache_clear()


@pytest.fixture
def taught(monkeypatch):
    """Teaching that counts its calls and moves one weight."""
    calls = []

    def teach(self, model, how, seed, progress):
        calls.append((self.task.name, how, seed))
        with torch.no_grad():
            model.head.bias += 1.0 + seed

    monkeypatch.setattr(Compressor, "teach", teach)
    return calls


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("task", "steps", "said"),
    [
        ("headlines", [], "no task 'headlines'; there is classifier and translator"),
        (
            "classifier",
            ["shrink"],
            "no step 'shrink'; there is heads, neurons, layers, vocabulary, distil, export, int8",
        ),
        ("classifier", ["layers", "distil", "layers"], "'layers' stands in the list twice"),
        ("classifier", ["layers", "int8"], "put 'export' before it"),
        ("classifier", ["int8", "export"], "put 'export' before it"),
        ("classifier", ["export", "distil"], "'distil' changes a torch model, and an ONNX file is none"),
        ("classifier", ["export", "int8", "layers"], "'layers' changes a torch model"),
        ("translator", ["vocabulary"], "leave 'vocabulary' out"),
        ("translator", ["heads", "layers"], "has four heads a layer, and keeps them: leave 'heads' out"),
    ],
)
def test_an_order_that_cannot_work_is_refused_before_anything_is_computed(task, steps, said):
    with pytest.raises(ValueError, match=said):
        pipeline.make(task, steps)


def test_the_reference_pipelines_can_work():
    for task, steps in pipeline.REFERENCE.items():
        pipeline.check(task, steps)
        assert steps[-1] == "int8" and steps.index("layers") < steps.index("distil")


def test_no_step_gives_the_teacher_and_a_step_leaves_it_as_it_is(tiny):
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    assert pipeline.make("translator", [], OPTIONS) is tiny
    smaller = pipeline.make("translator", ["neurons", "layers"], OPTIONS)
    assert smaller.steps == ("neurons", "layers")
    assert smaller.model.shape == replace(SHAPE, encoder_layers=1, decoder_layers=2, inner=8)
    assert smaller.bytes < tiny.bytes and tiny.model.shape == SHAPE
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.model.state_dict().items())


def test_layers_stay_as_the_options_say(tiny):
    kept = pipeline.make("translator", ["layers"], OPTIONS).model
    for ours, whole in ((kept.encoder[0], tiny.model.encoder[1]), (kept.decoder[1], tiny.model.decoder[2])):
        assert torch.equal(ours.up.weight, whole.up.weight)


def test_the_neurons_that_stay_are_the_strongest(tiny):
    kept = compressors.strongest(tiny.compressor.scores(tiny.model, "neurons"), "neurons", 8)
    small = pipeline.make("translator", ["neurons"], OPTIONS).model
    assert torch.equal(small.decoder[1].up.weight, tiny.model.decoder[1].up.weight[kept[3]])


def test_the_heads_that_stay_are_the_strongest(monkeypatch):
    monkeypatch.setattr(
        compressors.ClassifierCompressor, "scores", lambda *_: [torch.eye(12)[1] + torch.eye(12)[5]] * 2
    )
    made = Made(compressor_of("classifier"), (), students.topic_student(2))
    small = pipeline.step("heads", made, replace(pipeline.USUAL["classifier"], heads=2)).model
    assert small.encoder.config.kept_heads == [[1, 5], [1, 5]]
    assert small.encoder.encoder.layer[0].attention.self.query.weight.shape == (64, 384)


def test_the_words_that_stay_are_those_of_the_training_texts(monkeypatch):
    seen = torch.tensor([2000, 3000, 4000])
    monkeypatch.setattr(topic_classifier, "seen_tokens", lambda: seen)
    made = Made(compressor_of("classifier"), (), students.topic_student(1))
    trimmed = pipeline.step("vocabulary", made, pipeline.USUAL["classifier"]).model
    assert isinstance(trimmed, structured.TrimmedClassifier)
    assert set(seen.tolist()) < set(trimmed.tokens.tolist()) and len(trimmed.tokens) < 12


def test_only_the_embeddings_of_the_classifier_are_kept_from_learning(tiny):
    student = students.topic_student(1).requires_grad_(False)
    free = compressor_of("classifier").trainable(student)
    frozen = {name for name, weight in free.named_parameters() if not weight.requires_grad}
    assert frozen and all("embeddings" in name for name in frozen)
    assert not any(weight.requires_grad for weight in student.parameters())
    assert all(weight.requires_grad for weight in compressor_of("translator").trainable(tiny.model).parameters())


def test_a_student_is_taught_once_and_then_read_from_the_cache(tiny, taught, cache):
    first = pipeline.make("translator", ["layers", "distil"], OPTIONS)
    again = pipeline.make("translator", ["layers", "distil"], OPTIONS)
    assert len(taught) == 1 and taught[0][1] == OPTIONS.training
    assert torch.equal(first.model.head.bias, tiny.model.head.bias + 1.0)
    states = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(weight.requires_grad for weight in again.model.parameters())


def test_another_order_seed_or_option_makes_another_student(tiny, taught, cache):
    pipeline.make("translator", ["layers", "distil"], OPTIONS)
    pipeline.make("translator", ["layers", "neurons", "distil"], OPTIONS)
    pipeline.make("translator", ["layers", "distil"], OPTIONS, seed=1)
    pipeline.make("translator", ["layers", "distil"], replace(OPTIONS, training=Training(2, 2e-3)))
    assert len(taught) == 4


def test_teaching_really_trains(tiny, monkeypatch):
    monkeypatch.setattr(compressors, "_taught_phrases", lambda seed: training_data(tiny.model))
    small = pipeline.step("layers", tiny, OPTIONS)
    learnt = pipeline.step("distil", small, OPTIONS)
    assert learnt.steps == ("layers", "distil")
    assert not torch.equal(learnt.model.encoder[0].up.weight, small.model.encoder[0].up.weight)


def training_data(model):
    """What a tiny teacher says of a few made-up phrases."""
    from lessons_lib.distillation import translation_losses as levels

    ids = torch.randint(4, 50, (8, 6), generator=torch.Generator().manual_seed(0))
    return levels.teacher_outputs(model, {"source": ids, "target": ids})


def test_files_are_written_opened_and_handed_in(tiny, cache, tmp_path):
    options = replace(OPTIONS, layers=((1,), (2,)))
    made = pipeline.make("translator", ["layers", "export", "int8"], options)
    assert made.path.is_dir() and made.bytes == sum(file.stat().st_size for file in made.path.iterdir())
    wanted = pipeline.make("translator", ["layers", "export"], options)  # from the cache
    assert pipeline.question(wanted, 3)().shape[0] == pipeline.question(made, 3)().shape[0] == 3
    assert made.path != wanted.path and made.path.parent.parent == cache
    folder = tmp_path / "beside"
    folder.mkdir()
    names = [path.name for path in pipeline.hand_in(made, folder)]
    assert names == ["18_translator_encoder.onnx", "18_translator_decoder.onnx"]
    assert {path.name for path in folder.iterdir()} == set(names)
    assert (folder / names[0]).read_bytes() == (made.path / "encoder.onnx").read_bytes()


def test_a_torch_model_cannot_be_handed_in(tiny):
    with pytest.raises(ValueError, match="end the pipeline with 'export'"):
        pipeline.hand_in(tiny)


def test_a_question_is_one_batch_of_real_texts():
    made = Made(compressor_of("classifier"), (), students.topic_student(1))
    assert pipeline.question(made, 3)().shape == (3, 5)


def test_preparing_makes_both_students_and_both_teachers_files_once(tiny, taught, cache, monkeypatch):
    monkeypatch.setattr(pipeline, "REFERENCE", {"translator": ("layers", "distil", "export")})
    monkeypatch.setattr(pipeline, "USUAL", {"translator": OPTIONS})
    written = []

    def write(_, folder):
        written.append((folder / "encoder.onnx").write_bytes(b"graph"))
        return folder

    for name in ("to_onnx", "dynamic_int8"):
        monkeypatch.setattr(compressors.onnx_translator, name, write)
    monkeypatch.setattr(compressors.TranslatorCompressor, "opened", lambda self, path: tiny.model)
    said = []
    pipeline.prepare(said.append)
    assert said[0].startswith("pipeline, translator teacher: made once") and said[-1].endswith("student: ready")
    said.clear()
    pipeline.prepare(said.append)
    assert said == ["pipeline, translator teacher: ready", "pipeline, translator student: ready"]
    assert len(taught) == 1 and len(written) == 3
    said.clear()
    pipeline.prepare(said.append, of=["teacher"])
    assert said == ["pipeline, translator teacher: ready"]


class Parity(Task):
    """Whether a row of ones and zeros, padded, begins with a one: ten lines make a task of one's own."""

    name = "parity"

    def teacher(self):
        torch.manual_seed(0)
        return Bag().eval().requires_grad_(False)

    def train_data(self):
        ids = torch.randint(0, 2, (64, 4), generator=torch.Generator().manual_seed(1))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "label": ids[:, 0]}

    def held_out(self, split):
        return Dataset.from_dict({name: tensor.tolist() for name, tensor in self.train_data().items()})


class Bag(torch.nn.Module):
    """Logits (B, 2) from the mean of two-dimensional embeddings."""

    def __init__(self):
        super().__init__()
        self.table, self.head = torch.nn.Embedding(2, 8), torch.nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask):
        return self.head((self.table(input_ids) * attention_mask[..., None]).mean(dim=1))


def test_a_task_of_one_s_own_is_taught_judged_and_taken_through_the_pipeline(cache):
    task, options = Parity(), replace(Compressor.usual, training=Training(60, 3e-2))
    chain = pipeline.chain(task, ["distil", "export", "int8"], options)
    taught, exported = chain[1], chain[2]
    assert not torch.equal(taught.model.head.weight, chain[0].model.head.weight)
    labels = Compressor(task)
    pupil = labels.trainable(task.teacher())
    labels.teach(pupil, Training(200, 3e-2, "labels"), seed=0)
    before, after = task.judge(task.teacher(), "test"), task.judge(pupil, "test")
    assert after.value >= 70 > before.value + 5 and before.low <= before.value <= before.high
    rows = task.held_out("test")
    assert torch.allclose(task.predict(exported.model, rows), task.predict(taught.model, rows), atol=1e-5)
    runs = [task.answers(model, rows) for model in (pupil, task.teacher())]
    assert task.difference(runs[0][None], runs[1][None], task.groups(rows)).low > 0
    assert (task.unpack([task.pack(runs[0])], 64)[0] == runs[0]).all()
    assert [path.name for path in chain[3].path.parent.iterdir()] == ["model.onnx"] and chain[3].bytes > 0
    assert pipeline.question(chain[3], 5)().shape == (5, 2)
    with pytest.raises(ValueError, match="the parity knows no such step: leave 'heads' out"):
        pipeline.make(task, ["heads"])
