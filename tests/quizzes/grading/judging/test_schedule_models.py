"""Several processes judge models as one does. They know the lessons of the course alone, so this is lesson 18."""

import pytest

from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.judging import folder
from quizzes.grading.judging.grader import Grader
from quizzes.grading.judging.schedule import Processes
from quizzes.grading.sandbox.bubblewrap import Bubblewrap
from quizzes.grading.sandbox.limits import SandboxLimits
from tests.quizzes import onnx_models
from tests.quizzes.grading.class_of_models import ROWS, good
from tests.quizzes.grading.class_of_tests import write


@pytest.mark.needs("bwrap")
def test_two_processes_give_the_verdicts_of_one(tmp_path):
    """Each makes sandboxes of its own; the teacher is asked about a few sentences."""
    rows = tuple(ROWS)
    for name, model in (("ann", good()), ("bob", onnx_models.bad("cut_off")), ("cyd", None)):
        place = tmp_path / "class" / name
        write(place / "18_capstone.ipynb", f"x = 1  # {name}", lesson="18")
        if model is not None:
            (place / "18_topics.onnx").write_bytes(model)
    found = []
    for workers in (1, 2):
        gradebook = Gradebook.in_folder(tmp_path / f"out{workers}")
        grader = Grader(5, Bubblewrap(), SandboxLimits(), questions_count=False, texts=rows)
        folder.grade(tmp_path / "class", gradebook, grader, schedule=Processes(grader, workers))
        found.append(
            {
                entry.student: [
                    (item.item, item.status, item.points, item.model and (item.model.bytes, item.model.quality))
                    for item in entry.verdicts
                ]
                for entry in gradebook.entries()
            }
        )
        gradebook.close()
        grader.sandbox.close()
    assert found[0] == found[1]
    statuses = {name: {row[0]: row[1] for row in verdicts} for name, verdicts in found[0].items()}
    assert statuses["bob"]["topics_model"] == "refused"
    assert statuses["cyd"]["topics_model"] == statuses["ann"]["translator_model"] == "not attempted"
    assert [row[3] for row in found[0]["ann"] if row[0] == "topics_model"] == [(len(good()), 1.0)]
