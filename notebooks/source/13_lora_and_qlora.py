# %% [markdown]
# # LoRA and QLoRA
#
# | | |
# |---|---|
# | You will be able to | fine-tune a language model through adapters on a four-bit base, and account for every byte |
# | You need first | lesson 12 (NF4, packed layers, the language model) |
# | Minutes | 75 |
# | Points | 18 |

# %% tags=["imports"]
import copy
import tempfile
import time
from pathlib import Path

import torch

from lessons_lib.files.tensor_files import FileError
from lessons_lib.four_bits import libraries, lora, packed_linear
from lessons_lib.four_bits import training_memory as memory_parts
from lessons_lib.measure import benchmark, model_size
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.studies import qlora as studied
from lessons_lib.studies import study
from lessons_lib.tasks import bbc, headlines, language_model
from lessons_lib.training import loop
from quizzes import lesson

# %%
quiz = lesson("13")

# %% [markdown]
# ## What does a training hold in memory?
#
# A language model has read the web. You want it to do one thing well, and have a few hundred examples of it. Training
# it further on those is called **fine-tuning**. How much memory does that take?
#
# To use a model you need its weights, 4 bytes each in FP32. To train it with AdamW you need more for every weight: its
# gradient, another 4 bytes, and two running averages, of the gradient and of its square, 8 bytes. Before a single
# sentence is read, that is 16 bytes a weight.

# %%
base = language_model.language_model()
weights = sum(parameter.numel() for parameter in base.parameters())
plots.note(f"SmolLM2-135M has {weights:,} weights. In use they take {4 * weights / 1e6:.0f} MB, in training with AdamW "
           f"**{16 * weights / 1e6:,.0f} MB**. A model with 7 billion weights would take {16 * 7:,} GB.")

# %% [markdown]
# Twelve of the sixteen bytes are there because the weight *changes*. So the question of this lesson is: must they all
# change?

# %% [markdown]
# ## A small update beside a frozen weight
#
# Here is a weight of 4 by 4, and a change to it. The change has 16 numbers, but look at its rows: each is a multiple of
# the first. It is the product of one column and one row, eight numbers in all.

# %%
weight = torch.tensor([[0.5, -0.2, 0.1, 0.3], [-0.4, 0.6, 0.2, -0.1], [0.1, 0.3, -0.5, 0.2], [0.2, -0.3, 0.4, 0.6]])
column, row = torch.tensor([[0.2], [-0.1], [0.0], [0.3]]), torch.tensor([[1.0, -1.0, 0.5, 2.0]])
plots.grids(column, row, column @ row, weight + column @ row,
            titles=["B", "A", "change B A", "weight + change"])

# %% [markdown]
# A matrix that is the product of $r$ columns and $r$ rows has **rank** $r$, at most. **LoRA**, low-rank adaptation (Hu
# and others, 2021), freezes the weight $W$ and learns the change alone, and only among changes of low rank:
#
# $$y = W x + \frac{\alpha}{r} \, B A \, x$$
#
# $A$ has $r$ rows, as long as the input. $B$ has $r$ columns, as long as the output. The pair is called an **adapter**.
# Two details matter.
#
# - $B$ starts at **zero**, and $A$ at random numbers. So the model starts exactly as it was.
# - The factor $\alpha / r$ keeps the size of the change alike when you try another rank: $\alpha$ stays, $r$ changes,
#   and the learning rate need not be searched for again.

# %% [markdown]
# ### Exercise: forward
#
# Multiply by $A$ first. $BA$ is as large as the weight, and you never need it here.

# %% exercise="lora_forward"

# %% [markdown]
# ### Which layers get one?
#
# SmolLM2 has 30 blocks with seven linear layers each: query, key, value and output of the attention, and three of the
# feed-forward part. Hu and others put adapters beside query and value. Dettmers and others (2023) found that adapters
# beside *all* of them matter more than a high rank. Here is what each choice trains.

# %%
shape = memory_parts.ModelShape.of(base.config)
choices = {"query and value": lora.ATTENTION, "all seven": lora.EVERY}
ranks = (1, 2, 4, 8, 16, 32)

def share(targets, r):
    adapters = r * shape.blocks * sum(sum(shape.linear[name]) for name in targets)
    return 100 * adapters / (weights + adapters)

# %%
plots.lines({name: (ranks, [share(targets, r) for r in ranks]) for name, targets in choices.items()}, log_x=True,
            log_y=True, xlabel="rank (log scale)", ylabel="trained (% of all, log scale)",
            title=f"Rank 4 beside all seven layers trains {share(lora.EVERY, 4):.2f} % of the numbers",
            alt="Trained share against rank 1 to 32, two straight lines. " + " ".join(
                f"Adapters beside {name}: from {share(targets, 1):.2f} % at rank 1 to {share(targets, 32):.1f} % at 32."
                for name, targets in choices.items()))

# %% exercise="trainable_fraction"

# %% [markdown]
# ### Merged, it costs nothing
#
# While it is trained, an adapter is two more products in every layer. Afterwards the change can be added to the weight
# once and for all. The layer is then an ordinary one again, of the size and speed it had.

# %% exercise="merge"

# %% [markdown]
# Subtract it and you have the base back, ready for another adapter. Nearly: every addition rounds. Put a hundred
# different adapters on a layer of SmolLM2, one after the other, and take each off again, in FP32 and in BF16. What
# becomes of the layer?

# %%
full = base.model.layers[3].mlp.up_proj.weight.detach()
draw = torch.Generator().manual_seed(0)

def adapter_like():
    return torch.randn(4, 576, generator=draw) / 24, 0.5 * torch.randn(1536, 4, generator=draw)

a, b = adapter_like()

# %%
def worn(dtype, times=100):
    now = full.to(dtype)
    for _ in range(times):
        parts = [part.to(dtype) for part in adapter_like()]
        now = lora.unmerge(lora.merge(now, *parts, 8.0, 4), *parts, 8.0, 4)
    return ((now - full.to(dtype)).float().norm() / full.norm()).item()

# %%
off = {name: worn(dtype) for name, dtype in (("FP32", torch.float32), ("BF16", torch.bfloat16))}
plots.note(f"After a hundred adapters the weight is off by {off['FP32']:.1e} of its size in FP32, and by "
           f"{off['BF16']:.1%} in BF16. Whoever swaps adapters often keeps the base as it is, and adds nothing to it.")

# %% [markdown]
# ### Is it what peft computes?
#
# **peft** is the library that most people use for this. Give it the same model and the same numbers, and compare
# the logits and every gradient.

# %%
short = headlines.examples(headlines.documents("validation", 2))
own = lora.add(language_model.language_model(), r=4, alpha=8)
for adapter in lora.adapters(own).values():
    torch.nn.init.normal_(adapter.b, std=0.02, generator=draw)                   # a zero would hide mistakes
theirs = libraries.peft_like(own, language_model.language_model())

# %%
logits = {}
for name, model in (("ours", own), ("peft", theirs)):
    logits[name] = headlines.logits_and_labels(model, short)[0]
    logits[name].square().mean().backward()

# %%
def gap(mine, other):
    return ((mine - other).norm() / other.norm()).item()

gaps = []
for name, adapter in lora.adapters(own).items():
    other = theirs.base_model.model.get_submodule(name)
    gaps += [gap(adapter.a.grad, other.lora_A["default"].weight.grad),
             gap(adapter.b.grad, other.lora_B["default"].weight.grad)]
worst = {"logits": gap(logits["ours"], logits["peft"]), f"worst of {len(gaps)} gradients": max(gaps)}
table({name: {"off by, of its size": f"{value:.0e}" if value else "0, equal to the bit"} for name, value in worst.items()})

# %%
del own, theirs, logits

# %% [markdown]
# ## QLoRA: four bits below
#
# With LoRA the gradients and the averages are nearly gone. What is left is the base, which is read at every step and
# never changed. A weight that never changes may as well be packed. **QLoRA** (Dettmers and others, 2023) is LoRA over a
# base in NF4, as you built it in lesson 12, scales quantized as well.

# %%
packed = lora.four_bit(base)
layer_bytes, layer_weights = packed_linear.packed_bytes(packed)
rest = weights - layer_weights
sizes = {"FP32": 4 * weights, "BF16": 2 * weights, "NF4, the rest in FP32": layer_bytes + 4 * rest,
         "NF4, the rest in BF16": layer_bytes + 2 * rest}

# %%
table([{"base": name, "MB": size / 1e6, "of FP32": f"{size / sizes['FP32']:.0%}",
        "of BF16": f"{size / sizes['BF16']:.0%}"} for name, size in sizes.items()], f"{layer_weights / 1e6:.0f} million weights packed, {rest / 1e6:.0f} million not")

# %%
plots.note(f"Measured on the tensors of the model: {model_size.state_bytes(packed) / 1e6:.1f} MB. The layers shrank to "
           f"{layer_bytes / layer_weights / 4:.0%} of FP32. The whole base shrank less: the embedding is {rest / weights:.0%} of this "
           f"small model and stays as it is. In Llama 2 with 6.7 billion weights the two embeddings are "
           f"{2 * 32_000 * 4096 / 6.74e9:.0%}.")

# %% [markdown]
# ### Gradients pass through
#
# A packed weight gets no gradient. But the layers below need one, and the chain rule for $y = Wx$ asks for the weight:
#
# $$\frac{\partial L}{\partial x} = W^\top \frac{\partial L}{\partial y}$$
#
# So the weight is read back twice a step: once on the way forward, once on the way back. No float copy of it is kept in
# between. The products run in the dtype of `x`. On a processor that multiplies BF16 quickly, that is BF16.
#
# Compare one layer with the same made of bitsandbytes and peft, in both dtypes. How far apart may they be? The weights
# read back are equal to the bit. So only the order of sums can differ. A sum of $n$ products in FP32, in whatever
# order, is off by at most $n \cdot 2^{-24}$ of the sum of their magnitudes. In BF16 each result is then rounded, by at
# most $2^{-9}$ of itself. Both sides may be off.

# %%
plain = base.model.layers[3].mlp.up_proj

def both_layers(dtype):
    own = lora.add(torch.nn.ModuleDict({"up_proj": packed_linear.nf4_layer(plain)}), ["up_proj"], r=4, alpha=8)
    own["up_proj"].b.data = b.clone()
    other = torch.nn.ModuleDict({"up_proj": libraries.bitsandbytes_layer(plain)})
    other["up_proj"].compute_dtype = dtype
    return own["up_proj"], libraries.peft_like(own, other).base_model.model["up_proj"].train().to(dtype)

# %%
def against_libraries(dtype):
    own, theirs = both_layers(dtype)
    x = torch.randn(16, 576, generator=torch.Generator().manual_seed(1)).to(dtype)
    size, out, low = x.float().abs(), own(x).float(), own.base(x).float()
    terms = size @ own.base.weight().abs().t() + 2 * (size @ own.a.abs().t()) @ own.b.abs().t()
    rounded = out.abs() + low.abs() + 3 * (out - low).abs()
    allowed = 2 * ((576 + 12) * 2**-24 * terms + (2**-9 * rounded if dtype == torch.bfloat16 else 0))
    off = (out - theirs(x).float()).abs()
    return {"largest output": out.abs().max(), "largest difference": off.max(),
            "smallest allowed": allowed.min(), "within it everywhere": bool((off <= allowed).all())}

# %%
agreement = {name: against_libraries(dtype) for name, dtype in (("FP32", torch.float32), ("BF16", torch.bfloat16))}
table(agreement, "Our layer against bitsandbytes with peft")

# %%
exact = all(row["largest difference"] == 0 for row in agreement.values())
plots.note("On this machine both take the same sums in the same order, and agree to the bit." if exact else
           "The sums were taken in different orders, and the bound holds.")

# %% [markdown]
# ## The task: headlines
#
# The BBC's articles have short headlines. The model reads the first tokens of an article, then "Headline:", and is to
# write one. Only the tokens of the headline count in the loss. Documents, not sentences, are held out: nothing of a test
# article was ever trained on.

# %%
shown = headlines.documents("test", 3)
before = headlines.write(base, shown)
starts = [" ".join(bbc.article(number)[1].split())[:90] + " …" for number in shown]
table([{"article": start, "the BBC's": bbc.article(number)[0], "the model's": text}
       for start, number, text in zip(starts, shown, before, strict=True)], "Before any training")

# %% [markdown]
# It was tuned to chat, and was never shown what we want. Mostly it quotes, or begins a sentence that does not
# end. Now train it:
# QLoRA, with an adapter beside all seven layers of every block.

# %%
setting = studied.SETTINGS
plots.note(f"Rank {setting['r']}, {setting['steps']} steps of {setting['batch_size']} articles, each with its first "
           f"{setting['article_tokens']} tokens and at most {setting['headline_tokens']} of its headline.")

# %%
results = study.load("qlora").table()
cell = studied.cell("qlora", seed=0)
model = lora.prepared("qlora", r=setting["r"], alpha=setting["alpha"], seed=0)
started = time.perf_counter()
history = studied.fine_tune(model, cell["lr"], seed=0, progress=True)

# %%
studied.live(results, cell, model, time.perf_counter() - started)

# %% [markdown]
# That is the share of a headline's tokens which the model ranks first, on articles held out, beside the runs that the
# table of this lesson keeps.

# %%
steps = list(range(5, len(history.losses) + 1))
smooth = [sum(history.losses[step - 5 : step]) / 5 for step in steps]
plots.lines({"each step": (steps, history.losses[4:]), "mean of five": (steps, smooth)}, xlabel="step", ylabel="loss (nats a token)",
            title=f"The loss falls from {history.losses[0]:.1f} to about {smooth[-1]:.1f} in {steps[-1]} steps",
            alt=f"Training loss over {steps[-1]} steps, noisy. The mean of five steps falls from {smooth[0]:.2f} to "
                f"{smooth[-1]:.2f}.")

# %%
after = headlines.write(model, shown)
table([{"the BBC's": bbc.article(number)[0], "before": old, "after": new}
       for number, old, new in zip(shown, before, after, strict=True)], "The same articles, before and after")

# %% [markdown]
# It has learned the manner: short, a statement, then stop. A minute of training teaches neither the BBC's judgment nor
# care with facts. Check the names and sums against the article.

# %% [markdown]
# ## Full, LoRA, QLoRA
#
# The study trained all three ways with three seeds each, at the same number of steps. Each way's learning rate was
# chosen on validation articles, among three for each. LoRA's are higher from the start, as is usual. Look for a valley
# in each line: a rate that is too low does not get far in so few steps, and one that is too high overshoots.

# %%
label = {"full": "full fine-tuning", "lora": "LoRA", "qlora": "QLoRA"}
tried = {label[method]: (list(rates), list(rates.values()))
         for method, rates in ((method, studied.tuning(results, method)) for method in lora.METHODS)}
plots.lines(tried, log_x=True, xlabel="learning rate (log scale)", ylabel="validation loss (nats a token)",
            title=f"LoRA's best rate is {studied.CHOSEN['lora'] / studied.CHOSEN['full']:.0f} times that of full "
                  "fine-tuning",
            alt="Validation loss against learning rate. " + " ".join(
                f"{name}: " + ", ".join(f"{rate:g} {value:.2f}" for rate, value in zip(*parts, strict=True)) + "."
                for name, parts in tried.items()))

# %% [markdown]
# Seconds depend on the machine, so they are measured here: the three ways take turns, one step each, on the same two
# articles. A fourth joins in, which we come to below.

# %%
batch = {name: tensor[:2] for name, tensor in studied.examples("train").items()}

def stepper(model):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0, fused=True)
    def step():
        model.train()
        with loop.bfloat16_where_fast():
            loss = headlines.loss(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return step

# %%
ways = {label[method]: lora.prepared(method, r=4, alpha=8) for method in ("full", "lora")} | {"QLoRA": model}
ways["QLoRA, checkpointing"] = lora.with_checkpointing(copy.deepcopy(model))
raced = benchmark.compare({name: stepper(way) for name, way in ways.items()}, repeats=3, warmup=1)
seconds = {name: timing.p50 / 1000 for name, timing in raced.timings.items()}
pace = {name: raced.ratio(name, label["full"]) for name in ways}

# %%
memory = {label[method]: studied.rows(results, method)[0]["memory"]["all kept"] for method in lora.METHODS}
untouched = studied.loss(results, "full", trained=False)
table([{"way": name, "trained": f"{100 * lora.trainable_fraction(ways[name]):.3g} %", "peak (MB)": memory[name]["peak"] / 1e6,
        "seconds for two": seconds[name], "held-out loss": f"{studied.loss(results, method):.2f}",
        "minus full": "" if method == "full" else f"{studied.difference(results, method, 'full'):+.2f}",
        "of the gain kept": f"{studied.kept(results, method):.0%}"} for method, name in label.items()],
      f"The same {setting['steps']} steps; before them the loss is {untouched.value:.2f}")

# %%
packed_start = studied.loss(results, "qlora", trained=False)
same = 0 in studied.difference(results, "qlora", "lora")
plots.note(f"The loss has its 95 % interval over articles and seeds. Packing alone costs: before training the model in "
           f"four bits is at {packed_start.value:.2f}, in FP32 at {untouched.value:.2f}. After training QLoRA and LoRA "
           f"{'cannot be told apart' if same else 'differ'}: {studied.difference(results, 'qlora', 'lora'):+.2f}.")

# %% [markdown]
# ## Where the bytes go
#
# The peak can be computed before a training is started. This is in memory:
#
# - the **weights**, and the **adapters**;
# - the **optimizer's** two averages, for what is trained;
# - the **gradients** of what is trained;
# - the **activations**: what the forward pass keeps because the backward pass will ask for it;
# - on a processor that multiplies in BF16, **BF16 copies** of FP32 weights, made for the forward pass and kept for the
#   backward pass. A packed layer keeps none: it reads its weight back again. The embedding is not packed. It is the
#   last layer as well, so its copy is there with QLoRA too, and so are those of the adapters.
#
# What one block of SmolLM2 keeps of a token can be counted off its code: inputs of norms and of products, query, key,
# value, the attention's output, four tensors inside the feed-forward part. `training_memory.block_activations` adds them
# up.
#
# Weights, adapters and averages stay for the whole step. The others take turns. The backward pass walks back through the
# blocks; at each it gives back what the block kept, and leaves the block's gradients. So the larger of the two counts.
# When it sets out, two more tensors as large as the logits are there for a moment.
#
# $$\text{peak} = \text{weights} + \text{adapters} + \text{optimizer} + \max(\text{gradients}, \,
# \text{activations} + \text{copies} + 2 \, \text{logits})$$

# %%
length = headlines.prompt_tokens() + headlines.HEADLINE_TOKENS
compute = memory_parts.BF16 if loop.fast_bfloat16() else memory_parts.FP32

def computed(method, rows=4, length=length, r=4, checkpointing=False, compute=compute, optimizer=memory_parts.ADAMW):
    return memory_parts.computed(shape, method, rows, length, headlines.HEADLINE_TOKENS, r, checkpointing, compute,
                                 optimizer)

# %% [markdown]
# And measured: each way was trained for two steps in a **fresh process**, where nothing of the others is left over. The
# parts were counted tensor by tensor; what autograd keeps is handed to a hook. The peak is the resident memory of the
# process, beyond what its libraries take.

# %%
def compared(method, setting):
    found = studied.rows(results, method)[0]["memory"][setting]
    there = memory_parts.BF16 if found["BF16 copies"] else memory_parts.FP32     # the machine that made the table
    wanted = computed(method, checkpointing=studied.CHECKPOINTING[setting], compute=there)
    return {part: (wanted[part] / 1e6, found[part] / 1e6) for part in wanted}

# %%
counted = {label[method]: compared(method, "all kept") for method in lora.METHODS}

def side_by_side(columns):
    parts = [part for part in next(iter(columns.values())) if any(sum(pairs[part]) for pairs in columns.values())]
    return [{"MB, computed / measured": part} | {name: "{:,.1f} / {:,.1f}".format(*pairs[part])
                                                 for name, pairs in columns.items()} for part in parts]

table(side_by_side(counted), "A step of 4 articles")

# %%
drawn = ("weights", "optimizer", "gradients", "activations", "BF16 copies")
highest = {name: parts["peak"][1] for name, parts in counted.items()}
plots.bars({name: {part: parts[part][1] for part in drawn} for name, parts in counted.items()}, xlabel="MB, measured",
           title=f"Full fine-tuning peaks at {highest['full fine-tuning']:,.0f} MB, LoRA at {highest['LoRA']:,.0f}, QLoRA "
                 f"at {highest['QLoRA']:,.0f}",
           alt="Bars of measured memory by part. " + " ".join(
               f"{name}: " + ", ".join(f"{part} {pair[1]:,.0f} MB" for part, pair in parts.items()) + "."
               for name, parts in counted.items()))

# %%
farthest = {name: max(abs(found / wanted - 1) for wanted, found in parts.values() if wanted)
            for name, parts in counted.items()}
plots.note("With everything kept, the largest difference between computed and measured, over all parts and the peak: "
           + ", ".join(f"{name} {apart:.1%}" for name, apart in farthest.items()) + ".")

# %% [markdown]
# ## Gradient checkpointing
#
# Activations grow with the batch and the length of the texts; weights do not. With long texts they are most of the
# memory, and LoRA helps little: gradients still travel through every block.
#
# **Gradient checkpointing** (Chen and others, 2016) keeps only the *input* of each block. When the backward pass
# reaches a block, the block runs forward once more, with everything kept this time. So one block at a time is there in
# full. The price is a second forward pass. In the sum above, the block that is made again stands beside the two logits:
# the larger of the two counts, since they are never there at the same time.

# %%
lengths = [32, 64, 128, 256, 512, 1024]
curves = {f"{label[method]}, {name}": (lengths, [computed(method, 8, size, checkpointing=switch)["peak"] / 1e6
                                                 for size in lengths])
          for method in ("lora", "qlora") for name, switch in studied.CHECKPOINTING.items()}
last = {name: values[-1] for name, (_, values) in curves.items()}
plots.lines(curves, log_x=True, log_y=True, xlabel="tokens of a text (log scale)", ylabel="peak, computed (MB, log scale)",
            title=f"8 texts of {lengths[-1]:,} tokens: {last['QLoRA, all kept']:,.0f} MB, with checkpointing "
                  f"{last['QLoRA, checkpointing']:,.0f}",
            alt="Computed peak memory against length, for batches of 8 texts. " + " ".join(
                f"{name}: from {values[0]:,.0f} to {values[-1]:,.0f} MB." for name, (_, values) in curves.items()))

# %% [markdown]
# Now for real. The table of this lesson has QLoRA without and with checkpointing, each in a fresh process. A third
# process is started here and now, and trains with it for two steps of two articles. Predict from the picture how many bytes it saves. The
# picture is for 8 texts; here there are 4, and they are short.

# %%
both = {name: compared("qlora", name) for name in studied.CHECKPOINTING}
here = memory_parts.measured("qlora", 2, 4, checkpointing=True)
expected = computed("qlora", rows=2, checkpointing=True)
both["checkpointing, two articles, here"] = {part: (expected[part] / 1e6, here[part] / 1e6) for part in expected}
table(side_by_side(both), "QLoRA, a step of 4 articles; the last column of 2")

# %%
expected_peak, found_peak = both["checkpointing"]["peak"]
above = found_peak / expected_peak - 1
plots.note(f"Here the measured peak is {abs(above):.0%} {'above' if above >= 0 else 'below'} the computed one. Leave room "
           "for such a difference when you plan.")

# %%
saved = 1 - both["checkpointing"]["peak"][1] / both["all kept"]["peak"][1]
slower = raced.ratio("QLoRA, checkpointing", "QLoRA")
plots.note(f"Checkpointing takes {saved:.0%} off the peak, and a step takes {slower.value:.2f} times as long "
           f"[{slower.low:.2f}, {slower.high:.2f}]. A forward pass more on top of a forward and a backward pass would be "
           "about 1.3 to 1.5 times; reading the packed weights a third time comes with it.")

# %% [markdown]
# Nothing is approximated. The same batch gives the same gradients, with and without it:

# %%
def gradients(way):
    way.train()
    with loop.bfloat16_where_fast():
        headlines.loss(way, batch).backward()
    found = torch.cat([p.grad.flatten() for p in way.parameters() if p.requires_grad])
    way.zero_grad()
    return found

# %%
without, with_it = gradients(model), gradients(ways["QLoRA, checkpointing"])
plots.note(f"{len(without):,} gradients, the largest difference is {(without - with_it).abs().max():.1g}.")

# %% [markdown]
# ### Exercise: the peak
#
# The same sum for any model. To keep it short, it leaves out the copies and the two logits.

# %% exercise="training_memory"

# %% [markdown]
# ## Smaller averages, and pages
#
# For full fine-tuning the optimizer is the largest part: 8 bytes a weight. **8-bit AdamW** (Dettmers and others, 2021)
# stores both averages as codes of one byte, with a scale for every block of 256, like the double quantization of lesson
# 12. Each step reads them back, updates, and quantizes again. It runs on the CPU too. Take the largest tensor of the
# model, the embedding, and look at what each optimizer keeps.

# %%
def state_of(make, tensor):
    parameter = torch.nn.Parameter(tensor.clone())
    parameter.grad = torch.ones_like(parameter)
    optimizer = make([parameter])
    optimizer.step()
    return libraries.state_bytes(optimizer)

makers = {"AdamW": lambda found: torch.optim.AdamW(found, lr=1e-3),
          "8-bit AdamW": lambda found: libraries.adamw_8bit(found, lr=1e-3)}
tensors = {"embedding": base.model.embed_tokens.weight.detach(), "A beside up_proj, rank 4": a,
           "B beside up_proj, rank 4": b}

# %%
states = {place: {name: state_of(make, tensor) for name, make in makers.items()} for place, tensor in tensors.items()}
table([{"tensor": place, "numbers": tensors[place].numel()}
       | {f"{name} (bytes a number)": size / tensors[place].numel() for name, size in row.items()}
       for place, row in states.items()], "State after one step")

# %%
eight = computed("full", optimizer=memory_parts.ADAMW_8BIT)["peak"] / 1e6
plots.note(f"Full fine-tuning would peak at {eight:,.0f} MB instead of {computed('full')['peak'] / 1e6:,.0f}. LoRA gains "
           "next to nothing: its averages are small already, and tensors with fewer than 4,096 numbers stay in FP32, since "
           "small ones are often the delicate ones.")

# %% exercise="optimizer_bytes"

# %% [markdown]
# The QLoRA paper adds one more device. A GPU has its own memory, and it is small. A long text in a batch makes the
# activations jump, and the training dies for want of a few megabytes. A **paged** optimizer keeps its averages in
# *unified* memory: the driver moves pages of them to the computer's memory while the GPU is full, and back when the
# optimizer needs them. It costs time while pages move, and nothing otherwise. Without a GPU there is nothing to move
# from.

# %%
if torch.cuda.is_available():
    on_gpu = torch.nn.Parameter(torch.zeros(1_000_000, device="cuda"))
    on_gpu.grad = torch.ones_like(on_gpu)
    libraries.adamw_8bit([on_gpu], lr=1e-3, paged=True).step()
else:
    plots.note("There is no CUDA GPU here, so the paged optimizer did not run. The lines above are what runs where there "
               "is one.")

# %% [markdown]
# ## An adapter in a file
#
# What was learned fits into a small file. The base is not in it: whoever has the base adds the adapter.

# %%
scratch = tempfile.TemporaryDirectory()
path = Path(scratch.name) / "headlines.safetensors"
lora.save(model, path)
packed_bytes = model_size.state_bytes(packed)
fresh = lora.add(packed, lora.EVERY, r=4, alpha=8, seed=1)
reloaded = lora.load(path, fresh)
merged = lora.merged(model)

# %%
outputs = {}
with torch.inference_mode():
    for name, one in (("trained", model), ("reloaded", reloaded), ("merged", merged)):
        outputs[name] = headlines.logits_and_labels(one.eval(), short)[0]

# %%
equal = torch.equal(outputs["trained"], outputs["reloaded"])
off = ((outputs["merged"] - outputs["trained"]).norm() / outputs["trained"].norm()).item()
plots.note(f"The file has {model_size.size_on_disk(path) / 1e6:.1f} MB, the packed base {packed_bytes / 1e6:.0f}. "
           f"The reloaded model gives {'exactly' if equal else 'NOT'} the trained one's logits. Merged, they are off by "
           f"{off:.0e} of their size.")

# %% [markdown]
# The merged weights are floats again. The change lies on no 4-bit grid. To ship four bits, quantize the sum and judge
# it again, or ship base and adapter.
#
# A file that is cut off, of another rank, or for another model must not be half-loaded. It is checked as a whole first.

# %%
def numbers(model):
    return torch.cat([part.flatten() for adapter in lora.adapters(model).values() for part in (adapter.a, adapter.b)])

def refused(path, model):
    kept = numbers(model)
    try:
        lora.load(path, model)
    except FileError as error:
        return {"what it says": str(error).replace(scratch.name, "..."),
                "model untouched": torch.equal(kept, numbers(model))}

# %%
cut = path.with_name("cut.safetensors")
cut.write_bytes(path.read_bytes()[:1_000_000])
smaller = torch.nn.ModuleDict({"up_proj": torch.nn.Linear(64, 96)})
table({"cut off": refused(cut, fresh), "rank 8": refused(path, lora.prepared("lora", r=8, alpha=8)),
       "another model": refused(path, lora.add(smaller, ["up_proj"], r=4, alpha=8))})

# %% [markdown]
# ## Try it
#
# Plan a training before you start one. Does it fit into your memory?

# %%
def plan(method="qlora", rows=8, length=256, rank=8, checkpointing=False, averages="32-bit"):
    state = memory_parts.ADAMW if averages == "32-bit" else memory_parts.ADAMW_8BIT
    parts = computed(method, rows, length, rank, checkpointing, optimizer=state)
    return table({part: size / 1e6 for part, size in parts.items()},
                 f"{label[method]}, {rows} texts of {length} tokens", unit="MB")

widgets.explore(plan, method=["full", "lora", "qlora"], rows=[1, 4, 8, 16, 32], length=[64, 128, 256, 512, 1024, 2048],
                rank=[1, 4, 8, 16, 64], checkpointing=False, averages=["32-bit", "8-bit"])

# %% [markdown]
# ## Claimed and measured

# %%
keeps = {method: studied.kept(results, method) for method in ("lora", "qlora")}
behind = {method: studied.difference(results, method, "full") for method in ("lora", "qlora")}
shares = {"FP32": sizes["NF4, the rest in FP32"] / sizes["FP32"], "BF16": sizes["NF4, the rest in FP32"] / sizes["BF16"]}
trained = lora.trainable_fraction(model)

# %%
claims.show("13", {
    "lora": claims.Measured(
        f"{trained:.2%} of the numbers trained; {keeps['lora']:.0%} of the loss that full fine-tuning takes off, "
        f"{behind['lora']:+.2f} nats a token against it",
        agrees=True if trained < 0.01 and keeps["lora"] >= 0.95 else "partly" if trained < 0.01 else False,
        why="The share depends on the rank and on how much of the model is embedding. After so few steps each way's "
            "learning rate matters more than what it trains."),
    "qlora": claims.Measured(
        f"base at {shares['FP32']:.0%} of FP32 and {shares['BF16']:.0%} of BF16, its layers alone at "
        f"{layer_bytes / layer_weights / 4:.0%} and {layer_bytes / layer_weights / 2:.0%}; {keeps['qlora']:.0%} of the gain; "
        f"{pace['QLoRA']:.2f} times the time of full fine-tuning a step, compared round by round",
        agrees="partly",
        why="A quarter holds for the packed layers. Here the embedding, which stays in floats, is a fifth of the model. "
            "Time: unpacking on a CPU costs, and not updating every weight saves."),
    "checkpointing": claims.Measured(
        f"{saved:.0%} less at the peak, {slower.value:.2f} times as long a step; the same gradients",
        agrees=saved > 0 and slower.low > 1,
        why="What is saved grows with batch and length. With short texts and a large base it is a small share."),
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
# - A trained number costs 16 bytes, a frozen one 4, a packed one about half a byte.
# - LoRA learns a change of low rank beside a frozen weight. It starts at nothing, and can be merged.
# - QLoRA packs the base. Gradients pass through packed weights; only adapters are trained.
# - Activations are another matter: they grow with batch and length. Checkpointing trades them for a second forward pass.
# - The peak is a sum that you can write down before you start. Then measure it, in a process of its own.
#
# ## Where to read on
#
# - *LoRA: Low-Rank Adaptation of Large Language Models*, Hu, Shen, Wallis and others, 2021, arXiv:2106.09685
# - *QLoRA: Efficient Finetuning of Quantized LLMs*, Dettmers, Pagnoni, Holtzman, Zettlemoyer, 2023, arXiv:2305.14314
# - *8-bit Optimizers via Block-wise Quantization*, Dettmers, Lewis, Shleifer, Zettlemoyer, 2021, arXiv:2110.02861
# - *Training Deep Nets with Sublinear Memory Cost*, Chen, Xu, Zhang, Guestrin, 2016, arXiv:1604.06174
# - *LoRA Learns Less and Forgets Less*, Biderman, Portes, Ortiz and others, 2024, arXiv:2405.09673

# %%
quiz.progress()
