"""Gates: their gradients against differences, a closed one against the head removed for real; ranks against by hand."""

import pytest
import torch
from transformers import BertConfig, BertModel

from lessons_lib.pruning import heads, importance, structured
from lessons_lib.tasks import topic_classifier


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=10,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    return topic_classifier.TopicClassifier(BertModel(config, add_pooling_layer=False)).requires_grad_(False).eval()


@pytest.fixture
def batches():
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (6, 7), generator=draw)
    mask = torch.ones(6, 7, dtype=torch.int64)
    mask[::2, 4:] = 0
    topic = torch.randint(0, 5, (6,), generator=draw)
    data = {"input_ids": ids, "attention_mask": mask, "topic": topic}
    return [{name: tensor[rows] for name, tensor in data.items()} for rows in (slice(0, 4), slice(4, 6))]


@pytest.mark.parametrize(("part", "units"), [("heads", 3), ("neurons", 10)])
def test_gradients_are_those_of_each_sentences_own_loss(model, batches, part, units):
    found = importance.gate_gradients(model, batches, part)
    assert [tuple(block.shape) for block in found] == [(6, units)] * 2
    step = 3e-3
    for block, unit in ((0, 1), (1, 2)):
        sides = []
        for change in (step, -step):
            values = [torch.ones(units) for _ in range(2)]
            values[block][unit] += change
            with importance.gates(model, part, values):
                sides.append(torch.cat([importance.losses(model, batch) for batch in batches]))
        difference = (sides[0] - sides[1]) / (2 * step)
        assert torch.allclose(found[block][:, unit], difference, atol=1e-3)
        assert difference.abs().max() > 1e-2


def test_a_closed_gate_is_a_head_removed(model, batches):
    changes = importance.exact_changes(model, batches)
    assert [tuple(block.shape) for block in changes] == [(6, 3)] * 2
    without = heads.prune_heads(model, [[0, 2], [0, 1, 2]])
    for batch, rows in zip(batches, (slice(0, 4), slice(4, 6)), strict=True):
        removed = importance.losses(without, batch) - importance.losses(model, batch)
        assert torch.allclose(changes[0][rows, 1], removed, atol=1e-5)
    (only,) = importance.exact_changes(model, batches, blocks=[1])
    assert torch.equal(only, changes[1])


def test_a_block_without_heads_has_no_gates_and_no_gradients(model, batches):
    whole = importance.gate_gradients(model, batches)[1]
    without = heads.prune_heads(model, [[], [0, 2]])
    assert [tuple(block.shape) for block in importance.gate_gradients(without, batches)] == [(6, 0), (6, 2)]
    assert [tuple(block.shape) for block in importance.exact_changes(without, batches)] == [(6, 0), (6, 2)]
    assert whole.shape == (6, 3)


def test_gates_of_one_leave_the_model_as_it_is_and_are_taken_away_again(model, batches):
    before = importance.losses(model, batches[0])
    with importance.gates(model, "heads", [torch.ones(3)] * 2):
        assert torch.equal(importance.losses(model, batches[0]), before)
    with pytest.raises(KeyError), importance.gates(model, "neurons", [torch.zeros(10)] * 2):
        raise KeyError
    assert torch.equal(importance.losses(model, batches[0]), before)


def test_sentences_do_not_cancel():
    gradients = torch.tensor([[[3.0, 0.1]], [[-3.0, 0.1]]])
    assert importance.from_gates(gradients).tolist() == [[6.0, pytest.approx(0.2)]]


def test_an_important_head_is_found(model, batches):
    """A head whose words are ten times as loud matters more than before."""
    before = importance.from_gates(importance.gate_gradients(model, batches)[0])
    model.encoder.encoder.layer[0].attention.output.dense.weight.data[:, :4] *= 10
    after = importance.from_gates(importance.gate_gradients(model, batches)[0])
    assert after[0] > 2 * before[0] and int(after.argmax()) == 0


def test_spearman_is_the_correlation_of_ranks():
    # By hand: ranks 1 2 3 4 and 1 3 2 4, 1 - 6 sum d² / (n (n² - 1)) = 1 - 12 / 60
    assert importance.spearman(torch.tensor([1.0, 2.0, 3.0, 9.0]), torch.tensor([0.1, 7.0, 0.2, 8.0])) == pytest.approx(
        0.8
    )
    assert importance.spearman(torch.arange(5.0), torch.arange(5.0).exp()) == pytest.approx(1)
    assert importance.spearman(torch.arange(5.0), -torch.arange(5.0)) == pytest.approx(-1)
    # Ties share the mean of their ranks: 1, 2.5, 2.5, 4 against 1 2 3 4.
    expected = torch.corrcoef(torch.tensor([[1, 2.5, 2.5, 4], [1, 2, 3, 4]]))[0, 1]
    assert importance.spearman(torch.tensor([0.0, 5.0, 5.0, 6.0]), torch.arange(4.0)) == pytest.approx(float(expected))


def test_the_least_go_over_all_blocks_or_in_each():
    scores = [torch.tensor([5.0, 1.0, 2.0]), torch.tensor([0.5, 9.0, 1.0])]
    assert [kept.tolist() for kept in importance.least(scores, 2)] == [[0, 2], [1, 2]]  # of the ties the first
    assert [kept.tolist() for kept in importance.least(scores, 4)] == [[0], [1]]
    assert [kept.tolist() for kept in importance.least_in_each(scores, 2)] == [[0], [1]]
    assert [kept.tolist() for kept in importance.least(scores, 0)] == [[0, 1, 2], [0, 1, 2]]


def test_scores_choose_neurons_that_can_be_removed(model, batches):
    scores = [importance.from_gates(block) for block in importance.gate_gradients(model, batches, "neurons")]
    smaller = structured.prune_neurons(model, importance.least_in_each(scores, 6))
    assert smaller.encoder.config.intermediate_size == 4


def test_what_makes_no_sense_is_refused(model, batches):
    with pytest.raises(ValueError, match="gates for heads and neurons, not for 'words'"):
        importance.gate_gradients(model, batches, "words")
    with pytest.raises(ValueError, match="no batch to take gradients of"):
        importance.gate_gradients(model, [])
    for bad in (torch.empty(0, 2), torch.tensor(1.0), torch.tensor([[float("nan")]])):
        with pytest.raises(ValueError, match="one row for each of at least one sentence"):
            importance.from_gates(bad)
    with pytest.raises(ValueError, match="0 to 6 units can go, not 7"):
        importance.least([torch.zeros(3)] * 2, 7)
    with pytest.raises(ValueError, match="equally many numbers"):
        importance.spearman(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="they have no order"):
        importance.spearman(torch.zeros(3), torch.arange(3.0))
