"""Running a model that was handed in: rows keep their order, decoding is greedy, and odd outputs are refused."""

import subprocess
import sys

import numpy
import pytest
import torch

from lessons_lib.tasks import decoding, phrase_pairs, topic_classifier
from quizzes.grading.sandbox import visible_files
from quizzes.inside import onnx_run
from quizzes.inside.onnx_run import Unusable
from quizzes.models import tasks
from tests.quizzes import onnx_models

TOPICS, TRANSLATOR = tasks.TASKS["topics"], tasks.TASKS["translator"]
UNUSABLE = {
    "three_topics": "logits are float32 of shape (2, 3); they must be float32 of (2, 5)",
    "one_row": "logits are float32 of shape (1, 5); they must be float32 of (2, 5)",
    "not_numbers": "some logits are not finite numbers",
}


def topics(data: bytes):
    return onnx_run.TopicRunner([data], TOPICS.settings())


def test_rows_come_back_in_their_order_whatever_their_length():
    table = numpy.random.default_rng(0).normal(size=(onnx_models.PIECES, 5)).astype(numpy.float32)
    words = ["word", "another", "third", "fourth"]
    texts = [" ".join(words[: 1 + number % 4] * (1 + number % 5)) for number in range(90)]
    inputs = {name: held.numpy() for name, held in topic_classifier.tokenize(texts).items()}
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
    model = onnx_run.TranslatorRunner(files, TRANSLATOR.settings())
    english, french = phrase_pairs.vocabularies()
    written = model.run({"source": english.encode(["seven", "nineteen weeks", "seven seven"]).numpy()})["written"]
    assert written.dtype == numpy.int64 and written.shape == (3, decoding.MAX_NEW)
    assert french.decode(torch.tensor(written)) == ["sept", "dix-neuf", "sept sept"]
    assert (written[0, 2:] == phrase_pairs.PAD).all()


def test_a_state_that_grows_without_end_is_stopped():
    encoder, decoder = onnx_models.translator({"seven": "sept"})
    node = next(item for item in decoder.graph.node if item.op_type == "Add")
    node.op_type, node.input[:] = "Concat", ["place", "place"]
    node.attribute.add(name="axis", i=0, type=2)
    decoder.graph.node[0].input[1] = "first"
    decoder.graph.initializer[1].name = "first"
    model = onnx_run.TranslatorRunner([part.SerializeToString() for part in (encoder, decoder)], TRANSLATOR.settings())
    with pytest.raises(Unusable, match="the state grew beyond 64 MB"):
        model.run({"source": numpy.array([[1, 3, 3, 2]])})


def test_the_files_that_run_inside_need_only_what_the_sandbox_has():
    """Loaded from their folder with nothing else of the course in reach, and without torch."""
    code = (
        "import sys\n"
        "sys.modules['quizzes'] = None\n"
        f"sys.path.insert(0, {str(visible_files.INSIDE)!r})\n"
        "import model_worker\n"
        "model_worker.warm()\n"
        "print(*sorted({'torch', 'lessons_lib'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert (told.returncode, told.stdout.strip()) == (0, ""), told.stderr
