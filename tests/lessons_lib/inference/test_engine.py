"""Fed in any pieces, with any padding, the engine gives the logits of the model that recomputes everything."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.inference.engine import LanguageEngine, TranslatorEngine, padded, write
from lessons_lib.tasks import decoding, translation, translator
from lessons_lib.tasks.phrase_pairs import BEGIN, END, PAD

CLOSE = 1e-5  # of the largest logit


def near(got, wanted):
    return (got - wanted).abs().max() <= CLOSE * wanted.abs().max()


@pytest.fixture(scope="module")
def tiny():
    """A translator with weights large enough that what it looks at shows."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        shape = translator.Shape(encoder_layers=2, decoder_layers=3, width=16, heads=2, inner=32, dropout=0.1)
        model = translator.Translator(shape, 12, 15).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(1.5)
    return model


@pytest.fixture(scope="module")
def llama():
    """A random model of the language model's kind, with heads that share keys and values."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=40,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        initializer_range=0.3,
        rope_parameters={"rope_theta": 100.0, "rope_type": "default"},
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return LlamaForCausalLM(shape).eval().requires_grad_(False)


@st.composite
def batches(draw, highest):
    """Rows of tokens of different lengths, and the lengths of the steps in which each row is fed."""
    count = draw(st.integers(1, 4))
    rows = [draw(st.lists(st.integers(3, highest), min_size=1, max_size=9)) for _ in range(count)]
    steps = []
    left = [len(row) for row in rows]
    while any(left):
        taken = [draw(st.integers(0, min(4, rest))) for rest in left]
        if not any(taken):
            taken = [min(1, rest) for rest in left]
        left = [rest - part for rest, part in zip(left, taken, strict=True)]
        steps.append(taken)
    return rows, steps


def fed(engine, rows, steps):
    """Logits of every real token, row by row, fed in these steps with junk as padding."""
    found, places = [[] for _ in rows], [0] * len(rows)
    for taken in steps:
        width = max(taken) + 1  # always some padding
        ids = torch.full((len(rows), width), 7)
        for row, count in enumerate(taken):
            ids[row, :count] = torch.tensor(rows[row][places[row] : places[row] + count])
        logits = engine.feed(ids, torch.tensor(taken))
        for row, count in enumerate(taken):
            found[row].append(logits[row, :count])
            places[row] += count
    return [torch.cat(parts) for parts in found]


@settings(deadline=None, max_examples=40)
@given(batches(11), st.integers(0, 10**6))
def test_a_translator_fed_in_any_steps_gives_the_logits_of_recomputing(tiny, batch, seed):
    rows, steps = batch
    lengths = torch.randint(1, 8, (len(rows),), generator=torch.Generator().manual_seed(seed)).tolist()
    sources = [
        [BEGIN, *torch.randint(3, 12, (n,), generator=torch.Generator().manual_seed(seed + n)).tolist(), END]
        for n in lengths
    ]
    found = fed(TranslatorEngine(tiny, padded(sources)[0]), rows, steps)
    for got, source, row in zip(found, sources, rows, strict=True):
        assert near(got, tiny(torch.tensor([source]), torch.tensor([row]))[0])


@settings(deadline=None, max_examples=40)
@given(batches(39))
def test_a_language_model_fed_in_any_steps_gives_the_logits_of_transformers(llama, batch):
    rows, steps = batch
    for got, row in zip(fed(LanguageEngine(llama, len(rows), 12), rows, steps), rows, strict=True):
        assert near(got, llama(torch.tensor([row])).logits[0])


def test_the_last_token_alone_gives_the_same_logits(llama):
    ids, counts = torch.randint(0, 40, (3, 5)), torch.tensor([5, 1, 3])
    whole = LanguageEngine(llama, 3, 5).feed(ids, counts)
    assert torch.allclose(LanguageEngine(llama, 3, 5).feed(ids, counts, last=True), whole[torch.arange(3), counts - 1])


def test_writing_equals_the_generation_of_transformers(llama):
    prompts = [[4, 9, 30, 11], [8], [17, 3]]
    written = write(LanguageEngine(llama, 3, 10), *padded(prompts), 6)
    for prompt, row in zip(prompts, written, strict=True):
        alone = llama.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert torch.equal(alone[0, len(prompt) :], row)


def test_the_real_teacher_gives_its_own_logits_and_its_own_text():
    teacher = translation.teacher()
    source = torch.randint(4, 60, (3, 7), generator=torch.Generator().manual_seed(0))
    source[:, 0], source[1, 4:] = BEGIN, PAD
    text = decoding.greedy(teacher, source, 6)
    engine = TranslatorEngine(teacher, source, capacity=text.shape[1])
    assert near(engine.feed(text), teacher(source, text))
    with pytest.raises(ValueError, match="make the cache larger"):
        engine.feed(text[:, :1])


def test_prompts_are_padded_behind_and_counted():
    ids, counts = padded([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert counts.tolist() == [3, 1]
    for rows in ([], [[1], []]):
        with pytest.raises(ValueError, match="at least one token in each"):
            padded(rows)


def test_bf16_weights_take_a_bf16_cache(llama):
    half = copy.deepcopy(llama).bfloat16()
    ids = torch.randint(0, 40, (1, 6), generator=torch.Generator().manual_seed(1))
    engine, whole = LanguageEngine(half, 1, 6), LanguageEngine(llama, 1, 6)
    assert engine.cache.keys.dtype == torch.bfloat16
    assert engine.cache.nbytes * 2 == whole.cache.nbytes
    exact, rounded = whole.feed(ids), engine.feed(ids)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.1 * exact.abs().max()


def test_bad_input_is_refused(tiny, llama):
    engine = LanguageEngine(llama, 2, 8)
    for ids in (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(2, 2), torch.zeros(2, 0, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"ids must be int64 \(2, T\)"):
            engine.feed(ids)
    for name, value in (("max_position_embeddings", 7), ("rope_parameters", {"rope_theta": 1.0, "rope_type": "yarn"})):
        other = copy.deepcopy(llama)
        setattr(other.config, name, value)
        with pytest.raises(ValueError, match="default kind"):
            LanguageEngine(other, 2, 8)
    with pytest.raises(ValueError, match="training mode"):
        LanguageEngine(copy.deepcopy(llama).train(), 2, 8)
    with pytest.raises(ValueError, match="training mode"):
        TranslatorEngine(copy.deepcopy(tiny).train(), torch.tensor([[BEGIN, END]]))
    with pytest.raises(ValueError, match="outgrow"):
        TranslatorEngine(tiny, torch.tensor([[BEGIN, END]]), capacity=100)
