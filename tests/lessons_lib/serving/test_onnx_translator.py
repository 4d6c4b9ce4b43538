"""The two files write what the translator writes, whatever the batch and the length, and hold nothing but the model."""

import pytest
import torch

from lessons_lib.serving import onnx_translator
from lessons_lib.tasks import decoding, translator
from lessons_lib.tasks.phrase_pairs import BEGIN, END, PAD


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        shape = translator.Shape(encoder_layers=1, decoder_layers=2, width=16, heads=2, inner=32, dropout=0.0)
        model = translator.Translator(shape, 12, 10).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(1.5)
    model.head.bias[END] += 1.0  # some texts end early, others do not
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return onnx_translator.to_onnx(model, tmp_path_factory.mktemp("translator"))


@pytest.fixture(scope="module")
def int8(folder, tmp_path_factory):
    return onnx_translator.dynamic_int8(folder, tmp_path_factory.mktemp("int8"))


def sources(rows, length):
    draw = torch.Generator().manual_seed(rows)
    ids = torch.randint(4, 12, (rows, length), generator=draw)
    ids[:, 0], ids[:, -1] = BEGIN, END
    for row in range(1, rows, 2):  # every other one is shorter
        ids[row, -2:] = torch.tensor([END, PAD])
    return ids


@pytest.mark.parametrize(("rows", "length"), [(1, 3), (2, 7), (9, 12)])
def test_the_files_write_what_the_translator_writes(model, folder, rows, length):
    source = sources(rows, length)
    assert torch.equal(decoding.greedy(onnx_translator.OnnxTranslator(folder), source), decoding.greedy(model, source))


def test_logits_and_cache_follow_those_of_torch_piece_by_piece(model, folder):
    source, files = sources(5, 8), onnx_translator.OnnxTranslator(folder)
    encoded, mask = model.encode(source)
    memory, cache = model.memory(encoded[-1]), None
    (state,), _ = files.encode(source)
    past = None
    for number in range(4):
        piece = torch.full((5, 1), 4 + number)
        logits, _, cache = model.decode(piece, memory, mask, cache)
        others, _, past = files.decode(piece, files.memory(state), None, past)
        torch.testing.assert_close(others, logits, rtol=1e-4, atol=1e-5)
        for layer, pair in enumerate(cache):
            for what, part in zip(("key", "value"), pair, strict=True):
                kept = torch.from_numpy(past[f"past_{layer}_{what}"])
                torch.testing.assert_close(kept, part, rtol=1e-4, atol=1e-5)


def test_padding_of_the_source_changes_nothing(folder):
    files, source = onnx_translator.OnnxTranslator(folder), sources(1, 6)
    padded = torch.cat([source, torch.full((1, 4), PAD)], dim=1)
    assert torch.equal(decoding.greedy(files, source), decoding.greedy(files, padded))


def test_eight_bit_files_multiply_codes_and_still_say_much_the_same(model, int8):
    import onnx

    for name in (onnx_translator.ENCODER, onnx_translator.DECODER):
        assert "MatMulInteger" in {node.op_type for node in onnx.load(int8 / name).graph.node}
    files, source = onnx_translator.OnnxTranslator(int8), sources(9, 12)
    (state,), _ = files.encode(source)
    logits, _, _ = files.decode(torch.full((9, 1), BEGIN), state, None)
    encoded, mask = model.encode(source)
    wanted, _, _ = model.decode(torch.full((9, 1), BEGIN), model.memory(encoded[-1]), mask)
    assert 0 < (logits - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_whatever_is_in_the_files_is_in_them_alone_and_named_as_it_is_handed_in(folder):
    import onnx

    assert sorted(path.name for path in folder.iterdir()) == ["decoder.onnx", "encoder.onnx"]
    names = {}
    for name in (onnx_translator.ENCODER, onnx_translator.DECODER):
        graph = onnx.load(folder / name).graph
        assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
        names[name] = [value.name for value in graph.input], [value.name for value in graph.output]
    memory = [f"memory_{layer}_{what}" for layer in range(2) for what in ("key", "value")]
    past = [name.replace("memory", "past") for name in memory]
    assert names["encoder.onnx"] == (["source"], ["real", *memory, *past])
    assert sorted(names["decoder.onnx"][0]) == sorted(["piece", "real", *memory, *past])
    assert names["decoder.onnx"][1] == ["logits", *(f"next_{name}" for name in past)]


def test_the_threads_are_those_that_were_asked_for(folder):
    files = onnx_translator.OnnxTranslator(folder, threads=1)
    assert files.decoder.get_session_options().intra_op_num_threads == 1
