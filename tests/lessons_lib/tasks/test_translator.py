"""The translator: padding and the future are never seen, the cache changes nothing, layers are kept as they are."""

import pytest
import torch

from lessons_lib.tasks import phrase_pairs, translator
from lessons_lib.tasks.phrase_pairs import PAD
from lessons_lib.tasks.translator import Shape
from lessons_lib.training import loop

TINY = Shape(encoder_layers=3, decoder_layers=3, width=16, heads=2, inner=32, dropout=0.0)


@pytest.fixture
def model():
    return translator.new_translator(TINY, seed=0).eval()


@pytest.fixture
def data():
    rows = phrase_pairs.pairs("validation").select(range(12))
    return phrase_pairs.tensors(rows["english"], rows["french"])


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone():
    before = torch.get_rng_state()
    first, again, other = (translator.new_translator(TINY, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_padding_changes_nothing(model, data):
    source, target = data["source"], data["target"][:, :-1]
    wide = torch.cat([source, torch.full((len(source), 4), PAD)], dim=1)
    assert torch.allclose(model(source, target), model(wide, target), atol=1e-5)


def test_the_decoder_never_looks_ahead(model, data):
    source, target = data["source"], data["target"][:, :-1]
    changed = target.clone()
    changed[:, 3:] = 5
    assert torch.allclose(model(source, target)[:, :3], model(source, changed)[:, :3], atol=1e-5)
    assert not torch.allclose(model(source, target)[:, 3:], model(source, changed)[:, 3:], atol=1e-2)


def test_piece_by_piece_with_the_cache_equals_all_at_once(model, data):
    source, target = data["source"], data["target"][:, :-1]
    encoded, mask = model.encode(source)
    memory, cache, seen = model.memory(encoded[-1]), None, []
    for place in range(target.shape[1]):
        logits, _, cache = model.decode(target[:, place : place + 1], memory, mask, cache)
        seen.append(logits)
    assert torch.allclose(torch.cat(seen, dim=1), model(source, target), atol=1e-4)


def test_attention_equals_torch_s(model):
    attention = model.encoder[0].attention
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    keys, values = attention.keys_values(hidden)
    fused = torch.nn.functional.scaled_dot_product_attention(
        attention.split(attention.query(hidden)), keys, values, is_causal=True
    )
    wanted = attention.out(fused.transpose(1, 2).flatten(2))
    assert torch.allclose(attention(hidden, keys, values, None, causal=True), wanted, atol=1e-5)


def test_hidden_states_come_on_request(model, data):
    logits, encoded, decoded = model(data["source"], data["target"][:, :-1], hidden=True)
    assert [len(encoded), len(decoded)] == [3, 3]
    assert encoded[-1].shape == (*data["source"].shape, 16)
    assert torch.equal(model.head(decoded[-1]), logits)


def test_all_layers_kept_is_the_same_function(model, data):
    copy = translator.keep_layers(model, [0, 1, 2], [0, 1, 2])
    source, target = data["source"], data["target"][:, :-1]
    assert torch.equal(copy(source, target), model(source, target))
    copy.head.weight.data.zero_()
    assert model.head.weight.any(), "the copy shares no memory"


def test_kept_layers_are_the_named_ones(model):
    copy = translator.keep_layers(model, [0, 2], [2], dropout=0.3)
    assert (copy.shape.encoder_layers, copy.shape.decoder_layers, copy.shape.dropout) == (2, 1, 0.3)
    assert torch.equal(copy.encoder[1].up.weight, model.encoder[2].up.weight)
    assert torch.equal(copy.decoder[0].cross.key.weight, model.decoder[2].cross.key.weight)
    with pytest.raises(ValueError, match="there are 0 ... 2"):
        translator.keep_layers(model, [3], [0])


def test_a_small_translator_learns_a_few_phrases(data):
    model = translator.new_translator(TINY, seed=0)
    history = loop.train(
        model, data, translator.translation_loss, steps=60, batch_size=12, lr=1e-2, seed=0, progress=False
    )
    assert history.losses[-1] < 0.5 * history.losses[0]


def test_the_loss_leaves_padding_out(model, data):
    wide = {name: torch.cat([rows, torch.full((len(rows), 3), PAD)], dim=1) for name, rows in data.items()}
    assert torch.allclose(translator.translation_loss(model, data), translator.translation_loss(model, wide))


def test_bad_shapes_are_refused(model):
    with pytest.raises(ValueError, match="multiple of the 3 heads"):
        translator.new_translator(Shape(width=16, heads=3), seed=0)
    with pytest.raises(ValueError, match="at most"):
        model(torch.ones(1, 60, dtype=torch.int64), torch.ones(1, 2, dtype=torch.int64))
