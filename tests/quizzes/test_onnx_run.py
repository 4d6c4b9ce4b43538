"""Running a model that was handed in: rows keep their order, decoding is greedy, and odd outputs are refused."""

import subprocess
import sys

import numpy
import pytest
import torch

from lessons_lib import generation, models, translation
from quizzes import model_tasks, onnx_run
from quizzes.grading import inside
from quizzes.onnx_run import Unusable
from tests.quizzes import onnx_models

TOPICS, TRANSLATOR = model_tasks.TASKS["topics"], model_tasks.TASKS["translator"]
UNUSABLE = {
    "three_topics": "logits are float32 of shape (2, 3); they must be float32 of (2, 5)",
    "one_row": "logits are float32 of shape (1, 5); they must be float32 of (2, 5)",
    "not_numbers": "some logits are not finite numbers",
}


def topics(data: bytes):
    return onnx_run.Topics([data], TOPICS.settings())


def test_rows_come_back_in_their_order_whatever_their_length():
    table = numpy.random.default_rng(0).normal(size=(onnx_models.PIECES, 5)).astype(numpy.float32)
    words = ["word", "another", "third", "fourth"]
    texts = [" ".join(words[: 1 + number % 4] * (1 + number % 5)) for number in range(90)]
    inputs = {name: held.numpy() for name, held in models.tokenize(texts).items()}
    found = topics(onnx_models.classifier(table).SerializeToString()).run(inputs)["logits"]
    for row, ids, mask in zip(found, inputs["input_ids"], inputs["attention_mask"], strict=True):
        numpy.testing.assert_allclose(row, table[ids[mask == 1]].mean(axis=0), rtol=1e-5)


def test_products_of_codes_never_overflow():
    """Where a processor lacks VNNI, the grader takes the exact way, as a learner's own measurement does."""
    table = numpy.zeros((onnx_models.PIECES, 5), numpy.float32)
    options = topics(onnx_models.classifier(table).SerializeToString()).model.get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"


@pytest.mark.parametrize("fault", UNUSABLE)
def test_odd_outputs_are_refused(fault):
    with pytest.raises(Unusable) as refusal:
        topics(onnx_models.bad(fault)).run(TOPICS.sample())
    assert UNUSABLE[fault] in str(refusal.value)


def test_a_translator_writes_word_by_word_and_stops():
    words = {"seven": "sept", "nineteen": "dix", "weeks": "-neuf"}
    files = [part.SerializeToString() for part in onnx_models.translator(words)]
    model = onnx_run.Translator(files, TRANSLATOR.settings())
    english, french = translation.vocabularies()
    written = model.run({"source": english.encode(["seven", "nineteen weeks", "seven seven"]).numpy()})["written"]
    assert written.dtype == numpy.int64 and written.shape == (3, generation.MAX_NEW)
    assert french.decode(torch.tensor(written)) == ["sept", "dix-neuf", "sept sept"]
    assert (written[0, 2:] == translation.PAD).all()


def test_a_state_that_grows_without_end_is_stopped():
    encoder, decoder = onnx_models.translator({"seven": "sept"})
    node = next(item for item in decoder.graph.node if item.op_type == "Add")
    node.op_type, node.input[:] = "Concat", ["place", "place"]
    node.attribute.add(name="axis", i=0, type=2)
    decoder.graph.node[0].input[1] = "first"
    decoder.graph.initializer[1].name = "first"
    model = onnx_run.Translator([part.SerializeToString() for part in (encoder, decoder)], TRANSLATOR.settings())
    with pytest.raises(Unusable, match="the state grew beyond 64 MB"):
        model.run({"source": numpy.array([[1, 3, 3, 2]])})


def test_the_files_that_run_inside_need_only_what_the_sandbox_has():
    """Loaded by path with nothing of the course in reach, and without torch."""
    code = (
        f"FILES = {inside.course(inside.MODELS)}\n"
        "import importlib.util, sys\n"
        "sys.modules['quizzes'] = None\n"
        "for name in ('worker', 'onnx_check', 'onnx_run', 'runner'):\n"
        "    found = importlib.util.spec_from_file_location(name, FILES[name])\n"
        "    module = sys.modules[name] = importlib.util.module_from_spec(found)\n"
        "    found.loader.exec_module(module)\n"
        "sys.modules['runner'].warm(FILES)\n"
        "print(*sorted({'torch', 'lessons_lib'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert (told.returncode, told.stdout.strip()) == (0, ""), told.stderr
