# %% [markdown]
# # The inference engine
#
# | | |
# |---|---|
# | You will be able to | write a KV cache and an online softmax, decode padded batches, and let a draft model write ahead |
# | You need first | lesson 02 (BF16); what attention does; the translators come from lesson 07 |
# | Minutes | 80 |
# | Points | 17 |

# %% tags=["imports"]
import copy

import numpy
import torch

from lessons_lib.distillation import translation_students
from lessons_lib.inference import attention, kv_cache, speculative
from lessons_lib.inference.engine import LanguageEngine, TranslatorEngine, padded, write
from lessons_lib.measure import benchmark, intervals, model_size
from lessons_lib.measure.memory import peak_memory
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.tasks import decoding as generation
from lessons_lib.tasks import language_model, phrase_pairs, translation
from quizzes import lesson

# %%
quiz = lesson("16")

# %% [markdown]
# ## What is computed again and again?
#
# The lessons so far made the model smaller. This one leaves its weights alone and asks how they are used. A model that
# writes does so piece by piece: it reads all pieces so far, scores the next, appends the best one, and starts over.
#
# Look at one head of attention on three tokens, with keys of width 2. Then a fourth token is written.

# %%
projection = torch.tensor([[1.0, 0.5], [-0.5, 1.0]])
tokens = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [2.0, -1.0]])
before, after = tokens[:3] @ projection, tokens @ projection
plots.grids(before, after, titles=["keys of 3 tokens", "keys of 4 tokens"])

# %% [markdown]
# The first three keys are the same. A key depends on its own token alone, and in deeper layers on the tokens before it.
# A decoder never looks ahead, so nothing about the old tokens changes when a new one comes. The same holds for the
# values. New are the new token's own key and value, and its query, which looks at all keys so far.
#
# So keep the keys and values of all tokens, in every layer. That is the **KV cache**. To write $n$ tokens without it, a
# model computes $1 + 2 + \dots + n$ tokens; with it, $n$.

# %%
table({f"{n} tokens written": {"computed without a cache": n * (n + 1) // 2, "with a cache": n} for n in (10, 100, 1000)})

# %% [markdown]
# ## Rows of different lengths
#
# Several texts are written at once, as rows of a batch. They have prompts of different lengths, so the shorter ones are
# filled up with **padding**. What about padding in the cache? Let no padding in. Each row has a length of its own, and
# a new token is written where its own row ends.
#
# Two rows: three tokens in the first, one in the second. Their keys are 10, 11, 12 and 10. Then each gets one more
# token, with the key 50.

# %%
cache = kv_cache.KVCache(layers=1, batch=2, heads=1, capacity=5, width=1)

def put(ids, counts):
    new = torch.tensor(ids)[:, None, :, None]
    slots = cache.reserve(torch.tensor(counts), new.shape[2])
    cache.put(0, new, new, slots)
    return slots

# %%
put([[10.0, 11.0, 12.0], [10.0, 99.0, 99.0]], counts=[3, 1])
prompts = cache.keys[0, :, 0, :, 0].clone()
slots = put([[50.0], [50.0]], counts=[1, 1])
plots.grids(prompts, cache.keys[0, :, 0, :, 0], slots.mask[:, 0, 0],
            titles=["keys of the prompts", "one token later", "what it may see"])

# %% [markdown]
# The padding, 99, was never written. The mask on the right says which places the new token of each row may look at: its
# own row's, itself included; it reaches as far as the longest row does. Memory for five tokens a row was taken once, at
# the start. Growing a tensor at each step would copy the whole cache each time.

# %% [markdown]
# ### Exercise: attend with a cache
#
# Write the step of one layer: put the new token's key and value where the row ends, then let its query $q$ look at the
# row's keys $K$ and mix the values $V$, with $d$ the width of a head:
#
# $$\text{output} = \text{softmax}\left(\frac{q K^\top}{\sqrt d}\right) V$$

# %% exercise="attend_with_cache"

# %% [markdown]
# ## On real models
#
# The library's `engine` does this in every layer of a model whose weights it borrows. One call, `feed`, takes new
# tokens of each row and returns the scores of what follows. Reading a prompt in one call is named **prefill**, writing
# on from there **decoding**.
#
# The first model is the translator of lesson 07, English numbers and dates into French. Feed it French texts of
# different lengths in ragged steps of up to three pieces, and compare with the model that reads the whole text at once,
# without any cache.

# %%
teacher, student = translation.teacher(), translation_students.student()
held_out = phrase_pairs.pairs("test")
english, french = phrase_pairs.vocabularies()
source = english.encode(held_out["english"][:8])
target = generation.greedy(teacher, source)

# %%
def in_ragged_steps(engine, ids, counts, seed=0):
    """Logits of every token, fed in steps of 0 to 3 tokens a row."""
    found, draw = [[] for _ in ids], torch.Generator().manual_seed(seed)
    while (left := counts - engine.cache.lengths).any():
        taken = torch.minimum(torch.randint(0, 4, left.shape, generator=draw), left)
        start, wide = engine.cache.lengths, max(int(taken.max()), 1)
        places = (start[:, None] + torch.arange(wide)).clamp_max(ids.shape[1] - 1)
        logits = engine.feed(ids.gather(1, places), taken)
        for parts, row, count in zip(found, logits, taken.tolist()):
            parts.append(row[:count])
    return torch.nn.utils.rnn.pad_sequence([torch.cat(parts) for parts in found], batch_first=True)

# %%
def apart(found, wanted, real):
    """Largest difference of two tables of logits at real tokens, in parts of the largest logit."""
    return ((found - wanted)[real].abs().max() / wanted[real].abs().max()).item()

real = target != phrase_pairs.PAD
by_cache = in_ragged_steps(TranslatorEngine(teacher, source), target, real.sum(1))
off = {"translator": apart(by_cache, teacher(source, target), real)}

# %% [markdown]
# The second model writes English. SmolLM2 has 135 million weights in 30 layers. (Lesson 12 squeezes it into four bits.)
# It comes from the transformers library, whose own forward pass is the reference here.

# %%
writer, words = language_model.language_model(), language_model.tokenizer()
prompts = ["The capital of France is", "A week has seven days:", "Bread is made of flour,"]
ids, counts = padded(words(prompts)["input_ids"])
with torch.inference_mode():
    wanted = writer(ids, attention_mask=(torch.arange(ids.shape[1]) < counts[:, None]).long()).logits
real = torch.arange(ids.shape[1]) < counts[:, None]
off["language model"] = apart(in_ragged_steps(LanguageEngine(writer, 3, ids.shape[1]), ids, counts), wanted, real)

# %%
table({name: {"largest difference / largest logit": value, "below 1e-5": value < 1e-5} for name, value in off.items()},
      "Cached, padded and in ragged steps, against reading everything at once", name="model")

# %% [markdown]
# Rounding is all that is left. The tests of this course do the same for random rows, paddings and steps.
#
# Now let it write. Each row goes on from its own end.

# %%
written = write(LanguageEngine(writer, 3, 40), ids, counts, new=12)
table({prompt: words.decode(row) for prompt, row in zip(prompts, written, strict=True)}, unit="goes on", name="prompt")

# %% [markdown]
# ## What does the cache buy?
#
# Measure one step: the next token after a text of $n$ tokens. Without a cache the model computes $n$ tokens, with it
# one. Predict first: is a step for 256 tokens 256 times as slow?

# %%
lengths = [4, 16, 64, 256]
news = language_model.passages("test", 6, 256)  # the first 256 tokens of six articles
text = news[:1]

def steps_after(n):
    warm = LanguageEngine(writer, 1, 256)
    warm.feed(text[:, : n - 1], last=True)

    def cached():
        warm.cache.rewind(torch.tensor([n - 1]))
        warm.feed(text[:, n - 1 : n], last=True)

    return {"recomputed": lambda: LanguageEngine(writer, 1, n).feed(text[:, :n], last=True), "cached": cached}

# %%
one_step = {n: benchmark.compare(steps_after(n), repeats=3, warmup=0) for n in lengths}
step_ms = {name: [one_step[n].timings[name].p50 for n in lengths] for name in ("recomputed", "cached")}

# %%
plots.lines({name: (lengths, times) for name, times in step_ms.items()}, log_x=True, log_y=True,
            title=f"After 256 tokens a step takes {step_ms['recomputed'][-1]:.0f} ms recomputed, "
                  f"{step_ms['cached'][-1]:.0f} ms cached",
            alt="Milliseconds of one step against length. " + " ".join(
                f"{name}: " + ", ".join(f"{ms:.0f} after {n}" for n, ms in zip(lengths, times, strict=True)) + "."
                for name, times in step_ms.items()),
            xlabel="tokens so far (log scale)", ylabel="one step (ms, log scale)")

# %% [markdown]
# Not 256 times. A single token cannot use the processor well: each weight is read from memory for one multiplication.
# With many tokens, each weight that was read is used many times. So a cached step costs more than its share, and the
# gain is smaller than the count of tokens promises.
#
# A whole text is the sum of its steps. The real translator writes short ones, so there whole texts can be timed, with
# the French pieces given so that all write equally many. For the language model the steps above are added up, with
# straight lines between the lengths measured.

# %%
def summed(times, n):
    """Milliseconds to write tokens 1 ... n, from steps measured at some lengths."""
    return numpy.interp(range(1, n + 1), lengths, times).sum()

# %%
piece, spoken = torch.tensor([[phrase_pairs.BEGIN]]), english.encode(["eighty-two million hours"])

@torch.inference_mode()
def without_cache(n):
    encoded, mask = teacher.encode(spoken)
    memory = teacher.memory(encoded[-1])
    for step in range(1, n + 1):
        teacher.decode(piece.expand(1, step), memory, mask)

def with_cache(n):
    engine = TranslatorEngine(teacher, spoken)
    for _ in range(n):
        engine.feed(piece)

# %%
short = [5, 10, 20, 38]
with benchmark.threads(1):
    whole = {n: benchmark.compare({"without": lambda n=n: without_cache(n), "with": lambda n=n: with_cache(n)}, 6, 1)
             for n in short}
gains = {n: run.ratio("without", "with") for n, run in whole.items()}
long_gains = {n: summed(step_ms["recomputed"], n) / summed(step_ms["cached"], n) for n in lengths}

# %%
plots.lines({"translator, whole texts": (short, [g.value for g in gains.values()], [g.low for g in gains.values()],
                                         [g.high for g in gains.values()]),
             "language model, steps added up": (lengths, list(long_gains.values())),
             "as fast as without": ([4, 256], [1, 1])}, log_x=True,
            title=f"The cache is worth {gains[10].value:.1f} times at 10 pieces, {long_gains[256]:.1f} times at 256 tokens",
            alt="Times as fast with a cache, by length of the text. Translator: "
                + ", ".join(f"{gain.value:.2f} at {n}" for n, gain in gains.items()) + ". Language model: "
                + ", ".join(f"{gain:.2f} at {n}" for n, gain in long_gains.items()) + ".",
            xlabel="tokens written (log scale)", ylabel="times as fast as without a cache")

# %%
pieces = (target != phrase_pairs.PAD).sum(1).float().mean() - 1
plots.note(f"The eight translations above have {pieces:.0f} pieces on average. At 10 the cache gains **{gains[10]:.2f}** "
           "times: at that length there is little to recompute. A text of 256 tokens gains "
           f"**{long_gains[256]:.1f}** times. The gain is no constant: it grows with the length.")

# %% [markdown]
# ### Prefill, decoding, batches
#
# If a single token uses the processor badly, several rows at once should cost little more. Each weight is then read
# once for all of them.

# %%
def rows_of(batch, n=16):
    engine = LanguageEngine(writer, batch, n + 1)
    engine.feed(text[:, :n].expand(batch, n), last=True)

    def step():
        engine.cache.rewind(torch.full((batch,), n))
        engine.feed(text[:, n : n + 1].expand(batch, 1), last=True)

    return step

# %%
named = {f"decoding, {batch} row{'s' * (batch > 1)}": batch for batch in (1, 4, 16)}
decoding = benchmark.compare({name: rows_of(batch) for name, batch in named.items()}, repeats=3, warmup=1)
rates = {name: benchmark.throughput(decoding.timings[name], batch) for name, batch in named.items()}
rates["prefill, 256 tokens of one row"] = benchmark.throughput(one_step[256].timings["recomputed"], 256)
plots.bars(rates, title=f"16 rows decode {rates['decoding, 16 rows'] / rates['decoding, 1 row']:.1f} times as many tokens "
                        "a second as one",
           alt="Tokens a second: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()) + ".",
           xlabel="tokens a second")

# %% [markdown]
# This is why servers gather requests into batches (lesson 17).

# %% [markdown]
# ## What does it cost in memory?
#
# A token leaves a key and a value in every layer, for every head that has its own. SmolLM2 has nine query heads a
# layer, but only three with keys and values: three queries share each. That is **grouped-query attention**, and it was
# invented for the cache.
#
# $$\text{bytes} = 2 \cdot \text{layers} \cdot \text{kv heads} \cdot \text{head width} \cdot \text{batch} \cdot
#   \text{length} \cdot \text{bytes a number}$$

# %% exercise="kv_cache_bytes"

# %% [markdown]
# The count, the tensors, and what the process really takes when the cache is filled:

# %%
sizes = writer.config
layout = (sizes.num_hidden_layers, sizes.num_key_value_heads, sizes.head_dim)

def filled(length, batch=1):
    cache = kv_cache.KVCache(layout[0], batch, layout[1], length, layout[2])
    cache.keys.fill_(1.0), cache.values.fill_(1.0)
    return cache.nbytes

# %%
long = [256, 1024, 4096]
memory = {f"{n:,} tokens": {"counted": kv_cache.cache_bytes(*layout, 1, n, torch.float32), "tensors": filled(n),
                            "measured": peak_memory(lambda n=n: filled(n))} for n in long}
table({name: {f"{how} (MB)": size / 1e6 for how, size in row.items()} for name, row in memory.items()},
      "The cache of SmolLM2 in FP32, one row")

# %%
weights = model_size.state_bytes(writer)
kept = {f"batch {batch}": (long, [kv_cache.cache_bytes(*layout, batch, n, torch.float32) / 1e6 for n in long])
        for batch in (1, 16)}
kept["batch 16, without shared heads"] = (long, [3 * size for size in kept["batch 16"][1]])
crossing = weights / kv_cache.cache_bytes(*layout, 16, 1, torch.float32)
plots.lines(kept | {"the weights": (long, [weights / 1e6] * 3)}, log_x=True, log_y=True,
            title=f"With 16 rows the cache outgrows the weights at {crossing:,.0f} tokens",
            alt=f"Megabytes against length, straight lines. The weights take {weights / 1e6:.0f} MB. At 4,096 tokens: "
                + ", ".join(f"{name} {size[-1]:,.0f} MB" for name, (_, size) in kept.items()) + ".",
            xlabel="tokens of each row (log scale)", ylabel="MB (log scale)")

# %% [markdown]
# ## A table that nobody needs
#
# The cache grows with the length. In prefill something grows with its **square**: the table of scores, every query
# against every key. The naive form writes the table to memory, reads it for the softmax, writes the weights, and reads
# them for the product with the values.

# %%
table({f"{n:,} tokens": {"scores of one layer (MB)": attention.score_bytes(1, sizes.num_attention_heads, n) / 1e6,
                         "output (MB)": 4 * n * sizes.hidden_size / 1e6} for n in (256, 1024, 4096)})

# %% [markdown]
# The output is small. Can we have it without the table? A softmax seems to need a whole row: its largest score, so that
# nothing overflows, and its sum. Take one row of four scores in two blocks, and values that are plain numbers.

# %%
scores, numbers = torch.tensor([[1.0, 3.0, 2.0, 5.0]]), torch.tensor([[10.0], [20.0], [30.0], [40.0]])
first = attention.online_softmax([(scores[:, :2], numbers[:2])])
table({"maximum m": first[0].item(), "sum l of exp(s - m)": first[1].item(), "output so far": first[2].item()},
      "After the first block, scores 1 and 3")

# %% [markdown]
# The second block brings a 5. The weights so far were $e^{s - 3}$ and should have been $e^{s - 5}$. All of them are too
# large by the same factor, $e^{5 - 3}$. One multiplication repairs the sum $l$ and the weighted sum of the values, $O$:
#
# $$m' = \max(m, \max_j s_j), \qquad l' = l\, e^{m - m'} + \sum_j e^{s_j - m'}, \qquad
#   O' = O\, e^{m - m'} + \sum_j e^{s_j - m'} v_j$$
#
# The output is $O / l$. This is the **online softmax**. It sees each block once and keeps three things.

# %%
both = attention.online_softmax([(scores[:, :2], numbers[:2]), (scores[:, 2:], numbers[2:])])
plots.note(f"In two blocks: m = {both[0].item():.0f}, l = {both[1].item():.4f}, output {both[2].item():.4f}. The softmax of "
           f"the whole row: output {(scores.softmax(1) @ numbers).item():.4f}.")

# %% [markdown]
# ### Exercise: the online softmax

# %% exercise="online_softmax"

# %% [markdown]
# ### The idea of flash attention
#
# Take the queries in blocks as well, and skip the blocks of keys that lie wholly in the future. That is
# `attention.blockwise`. Does the block size change the result?

# %%
def heads_of(n):
    draw = torch.Generator().manual_seed(n)
    return [torch.randn(1, sizes.num_attention_heads, n, sizes.head_dim, generator=draw) for _ in range(3)]

def naive(query, keys, values):
    seen = torch.ones(1, 1, query.shape[2], keys.shape[2], dtype=torch.bool).tril()
    return attention.naive(query, keys, values, seen)

whole_table = naive(*heads_of(300))
table({f"blocks of {block}": (attention.blockwise(*heads_of(300), True, block) - whole_table).abs().max().item()
       for block in (7, 64, 256, 300, 1000)}, "300 tokens, nine heads", unit="largest difference from the naive form")

# %% [markdown]
# Ours is Python, with a call for every small operation. torch's `scaled_dot_product_attention` holds the same idea in
# C++, fused into one kernel. Measure the peak memory of all three, at the sizes of SmolLM2.

# %%
forms = {"naive": naive, "blockwise, ours": lambda *parts: attention.blockwise(*parts, True),
         "fused, torch": lambda *parts: attention.fused(*parts, True)}
measured = [256, 1024, 2048]
for form in forms.values():
    form(*heads_of(300))
peaks = {name: [] for name in forms}
for n in measured:
    parts = heads_of(n)
    for name, form in forms.items():
        peaks[name].append(max(peak_memory(lambda form=form, parts=parts: form(*parts)), 1) / 1e6)

# %%
saved = 1 - peaks["fused, torch"][-1] / peaks["naive"][-1]
plots.lines({name: (measured, peak) for name, peak in peaks.items()}, log_x=True, log_y=True,
            title=f"At {measured[-1]:,} tokens the naive form takes {peaks['naive'][-1]:,.0f} MB, blocks "
                  f"{peaks['blockwise, ours'][-1]:.0f} MB, fused {peaks['fused, torch'][-1]:.0f} MB",
            alt="Peak memory of one layer's attention. " + " ".join(
                f"{name}: " + ", ".join(f"{peak:.1f} MB at {n:,}" for n, peak in zip(measured, peak_row, strict=True)) + "."
                for name, peak_row in peaks.items()),
            xlabel="tokens (log scale)", ylabel="peak memory (MB, log scale)")

# %% [markdown]
# The table grows fourfold when the length doubles. The other two take little more than the output and a few blocks of
# scores. And the time?

# %%
timed = [128, 512, 2048]
speed = {}
for n in timed:
    parts = heads_of(n)
    speed[n] = benchmark.compare({name: lambda form=form, parts=parts: form(*parts) for name, form in forms.items()}, 3, 1)
flash = {name: [speed[n].ratio("naive", name) for n in timed] for name in ("fused, torch", "blockwise, ours")}

# %%
plots.lines({name: (timed, *([getattr(gain, end) for gain in gains_of] for end in ("value", "low", "high")))
             for name, gains_of in flash.items()} | {"as fast as naive": (timed, [1] * 3)}, log_x=True,
            title=f"At {timed[-1]:,} tokens the fused form is {flash['fused, torch'][-1].value:.1f} times as fast as the "
                  "naive one",
            alt="Times as fast as naive attention. " + " ".join(
                f"{name}: " + ", ".join(f"{gain.value:.2f} at {n:,}" for n, gain in zip(timed, gains_of, strict=True)) + "."
                for name, gains_of in flash.items()),
            xlabel="tokens (log scale)", ylabel="times as fast as the naive form")

# %% [markdown]
# Skipping the future saves at most half of the products. What is gained beyond that is likely the way to memory and
# back, which grows with the table. In decoding there is one query, so the table has one row, and none of this matters
# much.

# %% [markdown]
# ## Half the bytes
#
# In BF16 weights and cache take half the bytes. If a step for a single token waits for the weights to arrive, half the
# bytes should be nearly half the time. In prefill the arithmetic decides, and whether the processor multiplies BF16.
# Predict both before you run it. The quality is the mean loss on news: minus the logarithm of the probability that the
# model gave to each token, in nats, the unit of the natural logarithm.

# %%
half = copy.deepcopy(writer).bfloat16()

def prefill_and_step(model):
    engine = LanguageEngine(model, 1, 128)

    def prefill():
        engine.cache.rewind(torch.tensor([0]))
        engine.feed(text[:, :127], last=True)

    def step():
        engine.cache.rewind(torch.tensor([127]))
        engine.feed(text[:, 127:128], last=True)

    prefill()
    return prefill, step

# %%
calls = {name: prefill_and_step(model) for name, model in {"FP32": writer, "BF16": half}.items()}
by_format = {what: benchmark.compare({name: pair[place] for name, pair in calls.items()}, 3, 1)
             for place, what in enumerate(("prefill, 127 tokens", "one step"))}
quicker = {what: run.ratio("FP32", "BF16") for what, run in by_format.items()}

# %%
losses = {name: language_model.next_token_losses(model, news[:, :64], 6)[0] for name, model in {"FP32": writer, "BF16": half}.items()}
worse = intervals.over_seeds((losses["BF16"] - losses["FP32"]).mean(1).tolist())
halves = model_size.state_bytes(half) / weights
table({name: {"bytes of the weights": model_size.state_bytes(model), "prefill, 127 tokens (ms)":
              by_format["prefill, 127 tokens"].timings[name].p50, "one step (ms)": by_format["one step"].timings[name].p50,
              "loss a token, news (nats)": losses[name].mean().item()} for name, model in {"FP32": writer, "BF16": half}.items()})

# %%
plots.note(f"In BF16 a step is **{quicker['one step']:.2f}** times as fast, prefill "
           f"**{quicker['prefill, 127 tokens']:.2f}** times. The loss changes by {worse:+.4f} nats a token over "
           f"{len(news)} articles (95 % interval).")

# %% [markdown]
# Where does it come from? Time one product of the model alone, with one row and with many.

# %%
up = {name: model.model.layers[0].mlp.up_proj for name, model in {"FP32": writer, "BF16": half}.items()}

def product(rows):
    x = {"FP32": torch.randn(rows, sizes.hidden_size)}
    x["BF16"] = x["FP32"].bfloat16()
    with torch.inference_mode():
        return benchmark.compare({name: lambda name=name: up[name](x[name]) for name in up}, 30).ratio("FP32", "BF16")

# %%
products = {rows: product(rows) for rows in (1, 4, 16, 64, 256)}
plots.lines({"one product": (list(products), *([getattr(gain, end) for gain in products.values()]
                                               for end in ("value", "low", "high"))),
             "as fast as FP32": ([1, 256], [1, 1])}, log_x=True,
            title=f"One product in BF16: {products[1].value:.1f} times as fast with one row, {products[256].value:.1f} with 256",
            alt="BF16 against FP32, times as fast, by rows: "
                + ", ".join(f"{gain.value:.2f} with {rows}" for rows, gain in products.items()) + ".",
            xlabel="rows (log scale)", ylabel="times as fast as FP32")

# %%
plots.note("Half the bytes are half the time here, with one row too." if products[1].low > 1.5 else
           "With one row the product gains less than its bytes promise. A kernel for one row must be as good as the one for "
           "FP32 before the bytes count. The saving in memory is certain; the saving in time has to be measured, on your "
           "processor, at your number of rows.")

# %% [markdown]
# ## When does a compiler pay?
#
# A step of the translator multiplies small matrices. Is its time spent on multiplying at all? Give one decoder layer 16
# rows instead of one: sixteen times the work.

# %%
layer = teacher.decoder[0]

def one_layer(rows):
    hidden, past = torch.randn(rows, 1, 128), tuple(torch.randn(2, rows, 4, 20, 32))
    memory, seen = tuple(torch.randn(2, rows, 4, 6, 32)), torch.ones(rows, 1, 1, 6, dtype=torch.bool)
    return lambda: layer(hidden, memory, seen, past)

with benchmark.threads(1), torch.inference_mode():
    layer_time = benchmark.compare({"16 rows": one_layer(16), "1 row": one_layer(1)}, 30)

# %%
longer = layer_time.ratio("16 rows", "1 row").value
plots.note(f"Sixteen times the work takes {longer:.1f} times as long. So of the {layer_time.timings['1 row'].p50:.2f} ms for "
           f"one row about {max(16 - longer, 0) / 15:.0%} do not grow with the work: the cost of calling operations, one after "
           "the other.")

# %% [markdown]
# That cost is what `torch.compile` can remove. It turns the calls into one program for tensors of one shape, which
# takes seconds (lesson 08 does it, with INT8). Two conditions follow:
#
# - **The shapes must stay the same.** A cache that grows by one token has a new shape at every step. A cache of fixed
#   capacity under a mask has not. That is one more reason to take the memory once.
# - **The steps saved must pay for the compiling.** With $t$ seconds to compile and $s$ saved a step, it pays after $t / s$
#   steps. A server that runs for days gets there, a script that translates a page may not.
#
# Where the time goes into multiplying, as in prefill, a compiler has little to remove.

# %% [markdown]
# ## Let a small model write ahead
#
# Decoding is slow because each piece waits for the one before. Prefill is quick because many are known at once. So let
# a small **draft** model guess a few pieces, and let the large one, the **target**, read all guesses in one call. Where
# the target's own best piece agrees with the guess, the guess stays. At the first disagreement the target's piece takes
# its place, and both caches are set back to there. This is **speculative decoding**.
#
# Nothing is approximate about it. Every piece that stays is the one that the target would have written itself. Let the
# distilled student of lesson 07 guess for its teacher.

# %%
phrase = english.encode(["the sixteenth of May nineteen seventy-one"])
guessed = speculative.speculative(teacher, student, phrase, ahead=4)
alone = generation.greedy(teacher, phrase)
table({"text": french.decode(guessed.text)[0], "the same as the teacher alone": torch.equal(guessed.text, alone),
       "pieces": alone.shape[1] - 1, "steps of the teacher": guessed.steps,
       "guesses kept": f"{guessed.accepted} of {guessed.drafted}"}, unit="with 4 guesses")

# %% [markdown]
# ### Is it exactly the target's text?
#
# Try many phrases at once, as a padded batch, in which rows keep different numbers of guesses. FP32 rounds a little
# differently when five pieces are read together. So two pieces that score within rounding of each other might change
# places; that is the one exception to expect.

# %%
many = english.encode(held_out["english"][:200])
greedy = generation.greedy(teacher, many)
ahead_text = speculative.speculative(teacher, student, many, ahead=4)
with torch.inference_mode():
    logits = teacher(many, ahead_text.text[:, :-1])
    logits[..., [phrase_pairs.PAD, phrase_pairs.BEGIN]] = -torch.inf  # never written
chosen = logits.gather(2, ahead_text.text[:, 1:, None])[..., 0]
lost = (logits.amax(2) - chosen)[ahead_text.text[:, 1:] != phrase_pairs.PAD].max() / logits[logits.isfinite()].abs().max()

# %%
rows_alike = sum(french.decode(greedy)[row] == french.decode(ahead_text.text)[row] for row in range(len(many)))
plots.note(f"{rows_alike} of {len(many)} texts are the same, piece by piece. Scored anew without any cache, no piece lies "
           f"further below the best one than {lost:.1e} of the largest score. The student's guesses were right in "
           f"{ahead_text.acceptance:.1%} of the cases looked at.")

# %% [markdown]
# ### Is it faster?
#
# Let a guess be right with probability $a$, independently of the others. With $k$ guesses, one call of the target
# yields $1 + a + a^2 + \dots + a^k$ pieces on average. It costs one step of the target and $k$ of the draft. If a step
# of the draft takes $c$ times as long as one of the target, then
#
# $$\text{speed-up} = \frac{1 + a + \dots + a^k}{k\, c + 1}$$
#
# The student is much smaller than the teacher. What is its $c$? Predict it from the bytes, then look.

# %%
def ten_steps(model):
    engine = TranslatorEngine(model, phrase)
    for _ in range(10):
        engine.feed(piece)

with benchmark.threads(1):
    cost = benchmark.compare({"teacher": lambda: ten_steps(teacher), "student": lambda: ten_steps(student)}, 10, 2)
c = cost.ratio("student", "teacher").value
smaller = model_size.state_bytes(teacher) / model_size.state_bytes(student)
plots.note(f"The student has {smaller:.0f} times fewer bytes, and c = **{c:.2f}**. It has a third of the layers, and at these "
           "widths a layer is a handful of calls, narrow or wide. Bytes are not what counts here.")

# %%
few, guesses = [english.encode([text]) for text in held_out["english"][8:16]], (1, 2, 4, 6)
ways = {"teacher alone": lambda: [generation.greedy(teacher, one) for one in few]}
ways |= {f"{k} ahead": lambda k=k: [speculative.speculative(teacher, student, one, k) for one in few] for k in guesses}
with benchmark.threads(1):
    race = benchmark.compare(ways, repeats=7, warmup=1)
faster = {k: race.ratio("teacher alone", f"{k} ahead") for k in guesses}

# %%
a = ahead_text.acceptance
expected = {k: speculative.expected_tokens(a, k) / (k * c + 1) for k in faster}
best = max(faster, key=lambda k: faster[k].value)
plots.lines({"measured": (list(faster), *([getattr(gain, end) for gain in faster.values()] for end in ("value", "low", "high"))),
             "by the formula": (list(expected), list(expected.values())), "teacher alone": ([1, 6], [1, 1])},
            title=f"At best, with {best} guess{'es' * (best > 1)}, {faster[best].value:.2f} times as fast as the teacher alone",
            alt="Speed-up by number of guesses. Measured: " + ", ".join(f"{gain.value:.2f} with {k}" for k, gain in faster.items())
                + ". By the formula: " + ", ".join(f"{gain:.2f} with {k}" for k, gain in expected.items()) + ".",
            xlabel="guesses before the teacher looks", ylabel="times as fast as the teacher alone")

# %%
verdict = ("a gain" if faster[best].low > 1 else "a loss" if faster[best].high < 1 else "neither a gain nor a loss to be seen")
plots.note(f"With {best} guesses: **{faster[best]:.2f}** times as fast, {verdict}. The formula promises {expected[best]:.2f}. "
           "It leaves out what the bookkeeping costs, that the student must read the source too, and that guesses behind "
           "the end of a text are wasted.")

# %% [markdown]
# ### And when pieces are drawn at random?
#
# A chat model does not take the likeliest token but draws one. Guesses are then drawn as well, from the draft's
# distribution $q$, and the target's is $p$. Keep the guess $x$ with probability $\min(1, p(x) / q(x))$. If it is
# refused, draw from what the target wants more of than the draft gave: $\max(0, p - q)$, scaled to sum 1. What stood
# behind a refused guess goes. If no guess is refused, the target draws one more token of its own.

# %% [markdown]
# ### Exercise: keep or replace

# %% exercise="accept_draft"

# %% [markdown]
# The rule looks odd, and its result is exact. Here the draft loves token 1 and the target does not. Draw 4,000 times.

# %%
p, q = torch.tensor([[0.5, 0.2, 0.3], [0.2, 0.2, 0.6]]), torch.tensor([[0.2, 0.7, 0.1]])
draw = torch.Generator().manual_seed(0)
drafts = q[0].multinomial(4000, replacement=True, generator=draw)
uniforms = torch.rand(4000, 2, generator=draw)
kept_tokens = torch.stack([speculative.accept_draft(p, q, x[None], u)[0] for x, u in zip(drafts, uniforms, strict=True)])
shares = kept_tokens.bincount(minlength=3) / 4000

# %%
plots.bars({f"token {x}": {"draft": q[0, x].item(), "target": p[0, x].item(), "kept or replaced": shares[x].item()}
            for x in range(3)},
           title=f"What comes out follows the target to within {(shares - p[0]).abs().max():.3f}",
           alt="Shares of three tokens. " + " ".join(
               f"Token {x}: draft {q[0, x]:.2f}, target {p[0, x]:.2f}, kept or replaced {shares[x]:.3f}." for x in range(3)),
           xlabel="share of 4,000 draws")

# %% [markdown]
# ## Try it
#
# When does a draft pay? Move how often it is right, and what one of its steps costs beside the target's.

# %%
def speed_up(right=0.8, cost=0.3):
    ks = list(range(9))
    gain = [speculative.expected_tokens(right, k) / (k * cost + 1) for k in ks]
    top = max(ks, key=lambda k: gain[k])
    return plots.lines({"speed-up": (ks, gain), "without a draft": ([0, 8], [1, 1])},
                       title=f"Best with {top} guesses: {gain[top]:.2f} times as fast",
                       alt="Speed-up by guesses: " + ", ".join(f"{value:.2f} with {k}" for k, value in enumerate(gain)) + ".",
                       xlabel="guesses before the target looks", ylabel="times as fast")

widgets.explore(speed_up, right=(0.1, 1.0, 0.1), cost=(0.05, 1.0, 0.05))

# %% [markdown]
# ## Claimed and measured

# %%
fused = flash["fused, torch"][-1]
bits = quicker["one step"], quicker["prefill, 127 tokens"]
claims.show("16", {
    "kv-cache": claims.Measured(
        f"{gains[10].value:.1f} times at 10 pieces (translator), {long_gains[64]:.1f} at 64 and {long_gains[256]:.1f} at 256 "
        f"tokens (language model); {memory['1,024 tokens']['measured'] / 1e6:.0f} MB for 1,024 tokens.",
        True if gains[10].low >= 2 and long_gains[256] <= 10 else "partly",
        "The gain grows with the length: short texts have little to recompute, and there is no upper end."),
    "flash": claims.Measured(
        f"{fused.value:.1f} times at {timed[-1]:,} tokens, {flash['fused, torch'][0].value:.1f} at {timed[0]}; "
        f"{saved:.0%} less peak memory at {measured[-1]:,}.",
        True if 2 <= fused.value <= 4 and 0.5 <= saved <= 0.9 else "partly" if fused.low > 1 else False,
        "The table of scores grows with the square of the length, so what is saved depends on the length too."),
    "half-precision": claims.Measured(
        f"A step {bits[0].value:.2f} times, prefill {bits[1].value:.2f} times as fast; {halves:.0%} of the bytes; "
        f"{worse.value:+.4f} nats a token.",
        True if all(1.5 <= gain.value <= 2.2 for gain in bits) and abs(worse.value) < 0.01 else "partly",
        "Prefill follows the processor's instructions for BF16. A step multiplies one row, where the kernel decides whether "
        "the bytes count."),
})

# %% [markdown]
# ## Questions

# %% question="1"
quiz.ask("1", answer=...)

# %% question="2"
quiz.ask("2", answer=...)

# %% question="3"
quiz.ask("3", answer=...)

# %% question="4"
quiz.ask("4", answer=...)

# %% question="5"
quiz.ask("5", answer=...)

# %% question="6"
quiz.ask("6", answer=...)

# %% [markdown]
# ## What to remember
#
# - A decoder's old tokens never change. Keep their keys and values, and compute one token a step.
# - The cache's gain grows with the length of the text, and so do its bytes. Heads that share keys make it smaller.
# - Rows of a batch end at different places. Write each token where its own row ends, and hide what lies behind.
# - The online softmax needs no table of scores. It saves memory and the way there and back, not products.
# - A step for a single token uses each weight once; in a batch it is used more often. Half the bytes are half the memory,
#   and half the time only where the kernel keeps up.
# - A draft changes how fast the target writes, never what. Whether it pays depends on how often it is right and what its
#   step costs.

# %% [markdown]
# ## Where to read on
#
# - Noam Shazeer, *Fast Transformer Decoding: One Write-Head is All You Need*, 2019, arXiv:1911.02150. Why decoding waits
#   for memory, and heads that share keys.
# - Joshua Ainslie and others, *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints*,
#   2023, arXiv:2305.13245.
# - Maxim Milakov, Natalia Gimelshein, *Online normalizer calculation for softmax*, 2018, arXiv:1805.02867.
# - Tri Dao and others, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*, 2022,
#   arXiv:2205.14135.
# - Yaniv Leviathan, Matan Kalman, Yossi Matias, *Fast Inference from Transformers via Speculative Decoding*, 2023,
#   arXiv:2211.17192.
# - Woosuk Kwon and others, *Efficient Memory Management for Large Language Model Serving with PagedAttention*, 2023,
#   arXiv:2309.06180. What to do when rows end at very different places.
# - Lesson 17 exports a model and serves it to many at once.
