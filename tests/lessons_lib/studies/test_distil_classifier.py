"""The study of lesson 04: its grid is fair, its control does nothing, its table is the one that this code computes."""

from collections import Counter

import numpy
import pytest
import torch
from torch import nn

from lessons_lib.distillation import losses, students
from lessons_lib.studies import distil_classifier as grid
from lessons_lib.tasks import topic_classifier
from lessons_lib.training import loop

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


def settings(cells):
    return Counter(tuple((name, value) for name, value in cell.items() if name != "seed") for cell in cells)


def test_every_reported_setting_has_at_least_three_seeds_and_the_headline_five():
    reported = [cell for cell in STUDY.cells if cell["split"] == "test"]
    assert min(settings(reported).values()) >= 3
    for labels in ("few", "full"):
        for distilled in (False, True):
            headline = grid.cell(labels, distilled, 0)
            assert sum(cell == headline | {"seed": cell["seed"]} for cell in STUDY.cells) == 5


def test_the_grid_holds_what_the_lesson_asks_of_it():
    reported = [cell for cell in STUDY.cells if cell["split"] == "test"]
    assert {cell["init"] for cell in reported} == {"alternate", "first", "scratch"}
    assert {cell["labels"] for cell in reported} == {"few", "full"}
    assert {cell["teacher"] for cell in reported} == {"none", "topic", "weak"}
    swept = {(cell["alpha"], cell["T"]) for cell in reported if cell["labels"] == "few" and cell["init"] == "alternate"}
    assert swept >= {(alpha, T) for alpha in grid.SWEEP["alpha"] for T in grid.SWEEP["T"]}
    assert all((cell["alpha"] == 0) == (cell["teacher"] == "none") for cell in STUDY.cells)


def test_learning_rates_are_those_that_did_best_on_validation_sentences(table):
    """The same rates tried for the way without a teacher as for the way with one, and the best one taken."""
    for init, rates in grid.TUNED_RATES.items():
        for labels in ("few", "full"):
            for distilled in (False, True):
                used = grid.cell(labels, distilled, 0, init=init)["lr"]
                tried = {
                    lr: table.where(
                        **grid.cell(labels, distilled, grid.TUNING_SEED, init=init, lr=lr, split="validation")
                    )[0]["accuracy"]
                    for lr in rates
                }
                assert tried[used] == max(tried.values()), (init, labels, distilled, tried)
    assert not {cell["seed"] for cell in STUDY.cells if cell["split"] == "test"} & {grid.TUNING_SEED}


class Bag(nn.Module):
    """The smallest model of the right form: the mean of its tokens' vectors, and a head."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(30, 8), nn.Linear(8, 5)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[..., None].float()
        return self.head((self.embedding(input_ids) * mask).sum(1) / mask.sum(1))


def toy_data(seed=0):
    draw = torch.Generator().manual_seed(seed)
    topic = torch.randint(0, 5, (64,), generator=draw)
    topic[::3] = losses.UNLABELLED
    return {
        "input_ids": torch.randint(0, 30, (64, 6), generator=draw),
        "attention_mask": torch.ones(64, 6).long(),
        "topic": topic,
        "teacher_logits": torch.randn(64, 5, generator=draw) * 3,
    }


def trained(data, **options):
    torch.manual_seed(0)
    model = Bag()
    students.distil(model, data, **{"alpha": 0.0, "T": 2.0, "lr": 1e-2, "seed": 0, "steps": 6} | options)
    return torch.cat([weight.flatten() for weight in model.state_dict().values()])


def test_with_alpha_zero_nothing_is_distilled():
    data = toy_data()
    wrong = data | {"teacher_logits": -5 * data["teacher_logits"].roll(1, 0)}
    assert torch.equal(trained(data, alpha=0.0), trained(wrong, alpha=0.0)), "the teacher left a trace"
    assert torch.equal(trained(data, alpha=0.0, T=1.0), trained(data, alpha=0.0, T=8.0))

    def labels_alone(model, batch):
        logits = model(batch["input_ids"], batch["attention_mask"])
        return nn.functional.cross_entropy(logits, batch["topic"], ignore_index=losses.UNLABELLED)

    torch.manual_seed(0)
    plain = Bag()
    loop.train(plain, data, labels_alone, steps=6, batch_size=32, lr=1e-2, seed=0, progress=False)
    weights = torch.cat([weight.flatten() for weight in plain.state_dict().values()])
    assert torch.allclose(trained(data, alpha=0.0), weights, rtol=1e-5, atol=1e-6)


def test_with_alpha_above_zero_the_teacher_and_its_temperature_matter():
    data = toy_data()
    wrong = data | {"teacher_logits": data["teacher_logits"].roll(1, 0)}
    assert not torch.allclose(trained(data, alpha=0.9), trained(wrong, alpha=0.9), atol=1e-3)
    assert not torch.allclose(trained(data, alpha=0.9, T=1.0), trained(data, alpha=0.9, T=8.0), atol=1e-3)
    unlabelled = data | {"topic": torch.full_like(data["topic"], losses.UNLABELLED)}
    assert torch.equal(trained(data, alpha=1.0), trained(unlabelled, alpha=1.0)), "alpha = 1 uses no label"


def test_transfer_data_labels_few_or_all_and_drops_what_teaches_nothing():
    few, full = students.transfer_data("few", "none", 0.9, seed=0), students.transfer_data("full", "none", 0.9, seed=0)
    count = grid.SETTINGS["transfer_sentences"]
    assert len(few["topic"]) == len(full["topic"]) == count
    assert torch.equal(few["input_ids"], full["input_ids"]), "the texts are the same, only the labels differ"
    labelled = few["topic"] != losses.UNLABELLED
    assert few["topic"][labelled].bincount().tolist() == [grid.SETTINGS["few_per_topic"]] * 5
    assert torch.equal(few["topic"][labelled], full["topic"][labelled])
    alone = students.transfer_data("few", "none", 0.0, seed=0)
    assert torch.equal(alone["input_ids"], few["input_ids"][labelled])
    other = students.transfer_data("few", "none", 0.0, seed=1)
    assert not torch.equal(alone["input_ids"], other["input_ids"]), "another seed labels other sentences"


def test_answers_give_every_document_its_count():
    answers, documents = grid.TASK.from_summaries([[2, 0, 1], [3, 1, 0]], [3, 1, 2])
    assert documents.tolist() == [0, 0, 0, 1, 2, 2]
    assert answers.tolist() == [[1, 1, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0]]
    for run, counts in zip(answers, [[2, 0, 1], [3, 1, 0]], strict=True):
        assert numpy.bincount(documents, weights=run).tolist() == counts


def test_a_perfect_prediction_gets_every_sentence_of_every_document(table):
    topic = torch.tensor(topic_classifier.held_out("test")["topic"])
    assert grid.correct_by_document(nn.functional.one_hot(topic, 5)) == table.inputs["sizes"]
    assert sum(grid.correct_by_document(nn.functional.one_hot((topic + 1) % 5, 5))) == 0


def test_differences_are_paired_by_seed(table):
    rows = grid.rows(table, "few", True)
    same = grid.difference(table, rows, rows[::-1])
    assert (same.value, same.low, same.high) == (0, 0, 0)
    swept = grid.rows(table, "few", True, alpha=1.0, T=1.0)
    assert grid.difference(table, rows, swept).runs == 3


def test_few_labels_and_much_text_is_where_distilling_pays(table):
    gain = grid.difference(table, grid.rows(table, "few", True), grid.rows(table, "few", False))
    assert gain.beats
    assert gain.value >= 0.05


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live
