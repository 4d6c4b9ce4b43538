# %% [markdown]
# # Dynamic INT8
#
# | | |
# |---|---|
# | You will be able to | write a linear layer that multiplies 8-bit codes, and find where it wins and where it loses |
# | You need first | lesson 01 (scale, per channel, int32 accumulator) |
# | Minutes | 50 |
# | Points | 14 |

# %% tags=["imports"]
import torch
from torch.nn import functional

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import dynamic, torch_ao
from lessons_lib.measure import benchmark, energy, intervals, model_size
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("08")

# %% [markdown]
# ## What is known before, and what is not?
#
# Lesson 01 multiplied two matrices of codes. The weights do not change after training, so they are quantized once. The
# other matrix, the **activations**, is different for every sentence. Its range is not known before it arrives.
#
# **Dynamic** quantization looks at each input as it comes: find its range, quantize, multiply integers, scale back. No
# data is needed beforehand. Here are the activations of three tokens, few enough to read.

# %%
tokens = torch.tensor([[0.4, -1.27, 0.8, 0.1], [0.02, 0.01, -0.03, 0.05], [30.0, -8.0, 2.0, 12.0]])

# %% [markdown]
# One token is quiet, one is loud. With one scale for all three, the loud one decides the step:

# %%
one_scale = tokens.abs().max() / 127
plots.grids(tokens, (tokens / one_scale).round().int(), titles=["activations", f"codes, one scale of {one_scale:.3f}"])

# %% [markdown]
# The quiet token is gone. So give each row, each token, a scale of its own. Symmetric, as for the weights in lesson 01:
#
# $$s_i = \frac{\max_k |x_{ik}|}{127}, \qquad q_{ik} = \text{round}\left(\frac{x_{ik}}{s_i}\right)$$

# %%
codes, scales = dynamic.quantize_rows(tokens)
plots.grids(codes, scales, titles=["codes, a scale a row", "scales"])

# %% [markdown]
# ### Exercise: a scale for each row

# %% exercise="quantize_rows"

# %% [markdown]
# ## Where do the scales go?
#
# An output is a sum over $k$. The scale of a row of $x$ does not depend on $k$, nor does the scale $t_j$ of an output
# channel of the weights. Both can be taken out of the sum, and what is left inside is integers:
#
# $$y_{ij} = \sum_k x_{ik} w_{jk} + b_j \approx s_i\, t_j \sum_k q_{ik}\, p_{jk} + b_j$$
#
# `torch._int_mm` multiplies two int8 matrices and adds up in int32. The underscore says that torch does not promise to
# keep the name. On processors with the instructions AVX-512 VNNI it is the door to them. On others it is slow, and
# there the library's `dynamic.product` gives the same sums by FP32 products of the codes.

# %%
weight = torch.tensor([[0.5, -0.1, 0.3, 0.2], [0.02, 0.04, -0.01, 0.03]])
w_codes, w_scales, _ = affine.quantize_per_channel(weight, 8)
sums = torch._int_mm(codes, w_codes.t().contiguous())
plots.grids(sums, sums * scales * w_scales, tokens @ weight.t(), titles=["int32 sums", "scaled back", "in FP32"])

# %% exercise="int8_linear"

# %% [markdown]
# ## On a real layer
#
# Take the first feed-forward layer of the teacher and what it reads: 32 sentences of 40 tokens, 1,280 rows. Are the
# codes of the library, which takes a few rows at a time, those of the formula, to the last bit?

# %%
teacher = topic_classifier.topic_teacher()
test = bbc.sentences("test").shuffle(seed=0).select(range(300))
texts, topics, documents = test["text"], torch.tensor(test["topic"]), test["document"]

def batch_of(size, length):
    """size texts of exactly length tokens: several sentences in a row, cut off."""
    long = [" ".join(texts[(i + k) % 300] for k in range(1 + length // 8)) for i in range(size)]
    return topic_classifier.tokenize(long, length)

batch = batch_of(32, 40)

# %%
seen, layer = [], teacher.encoder.encoder.layer[0].intermediate.dense
hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].flatten(0, 1)))
teacher(**batch)
hook.remove()
x = seen[0]

# %%
row_scales = x.abs().amax(1, keepdim=True) / 127
by_formula = (x * (1 / row_scales)).round().to(torch.int8)
codes, scales = dynamic.quantize_rows(x)
torch.equal(codes, by_formula), torch.equal(scales, row_scales)

# %%
small = dynamic.Int8Linear(layer)
by_torch_ao = torch_ao.torch_ao_dynamic(torch.nn.Sequential(layer))
exact = layer(x)
kept = {"a scale a row, ours": affine.sqnr_db(exact, small(x)),
        "one scale for all rows (weights in FP32)": affine.sqnr_db(exact, layer(affine.round_trip(x, 8, "tensor"))),
        "torch.ao": affine.sqnr_db(exact, by_torch_ao(x))}
table(kept, unit="signal to noise of the output (dB)")

# %% [markdown]
# torch.ao takes one range for the whole batch, and on x86 only seven bits of it, so that sums of two products fit into
# 16 bits on older processors, too. It costs exactness.
#
# ## The whole teacher
#
# Which parts of a model are worth it? Matrix products with weights: the linear layers. Layer norms and softmax are few
# numbers and need their precision. The head has five outputs and stays too. Embeddings are a look-up and do not
# multiply at all, but they are the larger half of this model's bytes. Make three versions.

# %%
quantized = {"FP32": teacher, "INT8 linear": dynamic.dynamic_int8(teacher),
             "INT8 linear and embeddings": dynamic.dynamic_int8(teacher, embeddings=True)}
file_bytes = {name: model_size.size_on_disk(model) for name, model in quantized.items()}
shares = {name: 100 * size / file_bytes["FP32"] for name, size in file_bytes.items()}
embedding_share = model_size.state_bytes(teacher.encoder.embeddings) / model_size.state_bytes(teacher)

# %%
plots.bars(shares, xlabel="bytes of the file (% of FP32)",
           title=f"INT8 linear layers leave {shares['INT8 linear']:.0f} % of the file, with embeddings "
                 f"{shares['INT8 linear and embeddings']:.0f} %",
           alt="File size: " + ", ".join(f"{name} {share:.1f} % of FP32" for name, share in shares.items())
               + f". Embeddings are {embedding_share:.0%} of the FP32 model.")

# %% [markdown]
# Do the answers suffer? The same sentences for every version, torch's own two included. (`torch.ao` is the older path
# and `torchao` its successor; the module `torch_ao` is the only one in this course that knows them.)

# %%
quantized |= {"torch.ao": torch_ao.torch_ao_dynamic(teacher), "torchao": torch_ao.torchao_dynamic(teacher)}
right = {name: (topic_classifier.predict_logits(model, texts).argmax(1) == topics).int().tolist()
         for name, model in quantized.items()}
changes = {name: intervals.paired_difference(answers, right["FP32"], documents) for name, answers in right.items()}

# %%
table({name: {"accuracy, 95 % interval": f"{intervals.accuracy(answers, documents):.1%}",
              "minus FP32 (points), 95 % interval": f"{100 * changes[name].value:+.2f} [{100 * changes[name].low:+.2f}, "
                                                    f"{100 * changes[name].high:+.2f}]"}
       for name, answers in right.items()}, f"{len(texts)} test sentences")

# %% [markdown]
# ## Is it faster?
#
# The versions take turns on the batch of 32 texts of 40 tokens, all but torchao's, which is meant to be compiled: as it
# stands here each of its steps is an operation of its own. Predict before you run it: how many times as fast?

# %%
racing = {name: model for name, model in quantized.items() if name != "torchao"}
run = benchmark.compare({name: lambda model=model: model(**batch) for name, model in racing.items()}, repeats=6, warmup=1)
gains = {name: run.ratio("FP32", name) for name in racing if name != "FP32"}
ours, against = gains["INT8 linear"], run.ratio("torch.ao", "INT8 linear")
at_threads = f"{torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)

# %%
plots.bars(gains, marks={"as fast as FP32": 1}, xlabel="times as fast as FP32, 95 % interval over the rounds",
           title=f"At batch 32, length 40 linear layers in INT8 are worth a factor of {ours.value:.1f}",
           alt="Speed against FP32: " + ", ".join(f"{name} {gain:.2f}" for name, gain in gains.items()) + ".")

# %%
plots.note(f"Measured on {at_threads}. Ours is {against:.2f} times as fast as torch.ao, where a linear layer is one operation "
           "written in C++." + ("" if dynamic.VNNI else " Ours multiplies the codes as FP32 numbers here, for want of "
                                "AVX-512 VNNI."))

# %% [markdown]
# ### What did it take?
#
# The formula is three lines. But each of its operations reads a whole matrix from memory and writes one back: the
# absolute values, the rounded steps, the codes, the sums, and two products. Arithmetic is cheap, the way to memory is
# not. The library takes a few rows at a time instead, so few that they stay in the core's cache from the first
# operation to the last. And query, key and value read the same tensor, so it is quantized once for all three. Compare
# the three lines with the rows on one layer.

# %%
def three_lines(x, w_codes, w_scales, bias):
    scales = x.abs().amax(1, keepdim=True) / 127
    codes = (x / scales).round().to(torch.int8)
    return dynamic.product(codes, w_codes) * scales * w_scales + bias

parts = (small.codes, small.scales, small.bias)
one_layer = benchmark.compare({"FP32": lambda: layer(x), "three lines": lambda: three_lines(x, *parts),
                             "a few rows at a time": lambda: dynamic.int8_linear(x, *parts),
                             "torch.ao": lambda: by_torch_ao(x)}, 25)

# %%
table({name: {"p50 (ms)": timing.p50, "times as fast as FP32": one_layer.ratio("FP32", name)}
       for name, timing in one_layer.timings.items()}, f"One layer, 384 to 1536, {len(x):,} rows, {at_threads}")

# %% [markdown]
# ### And a compiler?
#
# The rest of the way to memory lies between the layers: GELU, layer norm and the sum with the residual each read and
# write all activations once more, whatever the weights are. A compiler merges quantizing with what comes before it.
# `torch.compile` writes such a program in C++. Where the processor has instructions for whole tiles of codes (AMX), it
# also packs the weights for them, once. It takes seconds and a C++ compiler, so here it compiles one of the six equal
# layers of the encoder, in FP32 and in INT8.

# %%
block = teacher.encoder.encoder.layer[0]
blocks = {"FP32": block, "INT8": dynamic.dynamic_int8(block), "torch.ao": torch_ao.torch_ao_dynamic(block)}
if dynamic.can_compile():
    blocks |= {f"{name}, compiled": dynamic.compiled(blocks[name]) for name in ("FP32", "INT8")}
hidden = x.view(32, 40, -1)
merged = benchmark.compare({name: lambda run=run: run(hidden) for name, run in blocks.items()}, repeats=15, warmup=2)
merged_gains = {name: merged.ratio("FP32", name) for name in blocks if name != "FP32"}

# %%
shown = merged_gains.get("INT8, compiled", merged_gains["INT8"])
plots.bars(merged_gains, marks={"as fast as FP32": 1}, xlabel="times as fast as FP32, 95 % interval over the rounds",
           title=f"One encoder layer: {merged_gains['INT8'].value:.1f} times as fast in INT8"
                 + (f", {shown.value:.1f} times once compiled" if shown is not merged_gains["INT8"] else ""),
           alt="Speed of one encoder layer against FP32: "
               + ", ".join(f"{name} {gain:.2f}" for name, gain in merged_gains.items()) + ".")

# %%
if dynamic.can_compile():
    alone, both = merged_gains["FP32, compiled"], merged_gains["INT8, compiled"]
    plots.note(f"INT8 alone gives {merged_gains['INT8'].value:.2f} times, compiling alone {alone.value:.2f} times, both together "
               f"{both.value:.2f} times. Fewer bits to multiply and fewer ways to memory are two different things.")
else:
    plots.note("torch cannot compile here, so nothing was compiled. It needs a C++ compiler, OpenMP and Python's header "
               "files. On Debian and Ubuntu: `apt install g++ python3-dev`; on macOS: `xcode-select --install` and "
               "`brew install libomp`.")

# %% [markdown]
# ## Where does it lose?
#
# Finding scales and scaling back are extra operations, and each call has a fixed cost. With few rows the product saves
# less than they take. Where is the **break-even**? Time two layers with more and more rows.

# %%
square = teacher.encoder.encoder.layer[0].attention.output.dense
heights = [1, 4, 16, 64, 256, 1280]

def gain_at(linear, rows):
    converted = dynamic.Int8Linear(linear)
    turns = {"FP32": lambda: functional.linear(x[:rows], linear.weight, linear.bias),
             "INT8": lambda: dynamic.int8_linear(x[:rows], converted.codes, converted.scales, converted.bias)}
    return benchmark.compare(turns, repeats=40 if rows < 256 else 12, warmup=3).ratio("FP32", "INT8")

curves = {f"{linear.in_features} to {linear.out_features}": [gain_at(linear, rows) for rows in heights]
          for linear in (square, layer)}

# %%
wins = {name: [rows for rows, gain in zip(heights, found) if gain.low > 1] for name, found in curves.items()}
spoken = {name: f"from {min(rows)} rows on" if rows else "at no number of rows tried" for name, rows in wins.items()}
series = {name: (heights, *([getattr(gain, end) for gain in found] for end in ("value", "low", "high")))
          for name, found in curves.items()}
plots.lines(series | {"as fast as FP32": (heights, [1] * len(heights))}, log_x=True, log_y=True,
            xlabel="rows (log scale)", ylabel="times as fast as FP32 (log)",
            title="One layer gains: " + "; ".join(f"{name} {when}" for name, when in spoken.items()),
            alt="Gain against rows: " + "; ".join(
                f"{name} from {found[0].value:.2f} at 1 row to {found[-1].value:.2f} at {heights[-1]:,}"
                for name, found in curves.items()) + ".")

# %% [markdown]
# Expect the larger layer to win earlier: its product grows with the weights, the overhead with the rows alone. The
# library's rule was set where this was measured first: at least 131,072 weights and 64 rows. Your curves may say
# otherwise.

# %% exercise="should_quantize"

# %% [markdown]
# Now the whole model: batch, length and threads. The library's INT8 against FP32, in turns, as always.

# %%
cores = benchmark.machine()["cores"]
settings = [(size, length, count) for count in sorted({1, cores}) for size in (1, 8, 32) for length in (10, 40)]

def gain_of(size, length, count):
    inputs = batch_of(size, length)
    with benchmark.threads(count):
        turns = benchmark.compare({name: lambda name=name: quantized[name](**inputs) for name in ("FP32", "INT8 linear")},
                                repeats=3 if size * length > 1000 else 8, warmup=1)
    return turns.ratio("FP32", "INT8 linear")

grid = {setting: gain_of(*setting) for setting in settings}

# %%
groups = {}
for (size, length, count), gain in grid.items():
    groups.setdefault(f"batch {size}, length {length}", {})[f"{count} thread" + "s" * (count > 1)] = gain
losing = [setting for setting, gain in grid.items() if gain.high < 1]
best, worst = max(grid, key=lambda s: grid[s].value), min(grid, key=lambda s: grid[s].value)

# %%
plots.bars(groups, marks={"as fast as FP32": 1}, xlabel="INT8: times as fast as FP32, 95 % interval over the rounds",
           title=f"From {grid[worst].value:.1f} times at batch {worst[0]}, length {worst[1]} (threads: {worst[2]}) to "
                 f"{grid[best].value:.1f} times at batch {best[0]}, length {best[1]} (threads: {best[2]})",
           alt="Gain of INT8: " + "; ".join(f"batch {s}, length {n}, {c} threads {gain.value:.2f}"
                                            for (s, n, c), gain in grid.items()) + ".")

# %%
plots.note(f"INT8 is slower than FP32, with its whole interval below 1, in {len(losing)} of {len(grid)} settings"
           + (": " + ", ".join(f"batch {s} length {n} on {c} thread" + "s" * (c > 1) for s, n, c in losing) if losing else "")
           + ". A figure such as \"INT8 is three times as fast\" means nothing without batch, length and threads.")

# %% [markdown]
# ## Is it the bits, or the instructions?
#
# The same sums three ways: FP32, int8 through `torch._int_mm`, and the same whole numbers as int32, for which there is
# no fast matrix product. The numbers inside are equal in the last two. Only the instructions differ.

# %%
left, right_codes = codes[:320], small.codes[:384].t()
as_float, as_int = (left.float(), right_codes.float()), (left.int(), right_codes.int())
kinds = benchmark.compare({"FP32": lambda: as_float[0] @ as_float[1], "int8": lambda: torch._int_mm(left, right_codes),
                         "int32": lambda: as_int[0] @ as_int[1]}, repeats=10, warmup=2)
speed = {name: kinds.ratio("FP32", name) for name in ("int8", "int32")}
equal = torch.equal(torch._int_mm(left, right_codes), as_int[0] @ as_int[1])

# %%
found = torch.cpu.get_capabilities()
known = [name for name in ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "dot", "i8mm") if found.get(name)]
plots.note(f"Equal sums: {equal}. Against FP32 the int8 product is {speed['int8'].value:.1f} times as fast, the int32 product "
           f"{speed['int32'].value:.2f} times. Of the instructions that multiply 8-bit numbers this processor has: "
           f"{', '.join(known) or 'none that torch reports'}. `vnni` multiplies and adds vectors, `amx` whole matrices. "
           + ("`torch._int_mm` uses them." if dynamic.VNNI else
              "`torch._int_mm` asks for `avx512_vnni` and is a plain loop without. So the INT8 layers of this lesson multiply "
              "their codes as FP32 numbers here: fewer bytes, the same sums, and some time lost."))

# %% [markdown]
# ## Does it save energy?
#
# Processors of some makers count their energy. Linux shows the counters, on most systems to root alone. The next cell
# measures where it may, and says what is missing where it may not.

# %%
def energy_of(name, calls=20):
    return energy.joules(lambda: [quantized[name](**batch) for _ in range(calls)]) / calls

measured_energy = {}
if energy.counters():
    measured_energy = {name: energy_of(name) for name in ("FP32", "INT8 linear")}
per_batch = ", ".join(f"{name} {used:.2f}" for name, used in measured_energy.items())
plots.note(f"Joules a batch: {per_batch}." if measured_energy else
           "No counter can be read here: there is none under `/sys/class/powercap` that this user may read. On a machine "
           "that has them, run the notebook as a user who may.")

# %% [markdown]
# ## Try it
#
# One value of a token is much larger than the others, an **outlier**. Move it, and watch how many of the 255 codes are
# left for the rest. Lesson 09 meets such tokens in earnest.

# %%
token = x[3] / x[3].abs().max()

def with_outlier(outlier=10):
    loud = token.clone()
    loud[0] = outlier
    codes, scale = dynamic.quantize_rows(loud[None])
    rest = codes[0, 1:]
    kept = affine.sqnr_db(token[1:], rest.float() * scale[0])
    said = f"Outlier {outlier}: {len(rest.unique())} codes in use by the other {len(rest)} values, {kept:.0f} dB"
    return plots.histogram(rest, bins=64, xlabel="code", title=said,
                           alt=f"Histogram of the codes of a token without its outlier. {said}.")

widgets.explore(with_outlier, outlier=[1, 3, 10, 30, 100, 300])

# %% [markdown]
# ## Claimed and measured

# %%
lost = {name: 100 * changes[name].value for name in ("INT8 linear", "INT8 linear and embeddings")}
small_file, quality = shares["INT8 linear and embeddings"] <= 26, all(value > -1 for value in lost.values())
in_range = 2 <= ours.value <= 4
rows = {
    "int8": claims.Measured(
        f"batch 32, length 40: {ours:.2f} times as fast; {grid[worst]:.2f} at batch {worst[0]}, length {worst[1]}; file "
        f"{shares['INT8 linear']:.0f} %, with embeddings {shares['INT8 linear and embeddings']:.0f} %; accuracy "
        f"{lost['INT8 linear']:+.2f} and {lost['INT8 linear and embeddings']:+.2f} points",
        True if in_range and small_file and quality and not losing and grid[worst].value >= 2 else "partly",
        "The bytes hold once embeddings are quantized too. The speed depends on rows and threads, and shrinks with them."),
    "hardware": claims.Measured(
        f"the same product against FP32: int8 {speed['int8'].value:.1f} times as fast, int32 {speed['int32'].value:.2f} times; "
        f"found: {', '.join(known) or 'none'}", speed["int32"].value < 1 < speed["int8"].value,
        "The sums are equal, so what differs is the instructions behind them."),
}

# %%
if measured_energy:
    saved = 1 - measured_energy["INT8 linear"] / measured_energy["FP32"]
    rows["energy"] = claims.Measured(f"joules a batch: {per_batch}", saved > 0,
                                     "Mostly because it is done sooner: power times time.")
claims.show("08", rows)

# %% [markdown]
# ## Questions
#
# Put a letter in place of the dots and run the cell again.

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

# %% question="7"
quiz.ask("7", answer=...)

# %%
quiz.progress()

# %% [markdown]
# ## What to remember
#
# - Dynamic: weights are quantized once, activations as they come. No data is needed to prepare it.
# - A scale for each row and one for each output channel can be taken out of the sum. Inside are integers.
# - Beside a fast product, the way to memory is what costs: take few rows at a time, or let a compiler merge the steps.
# - Few rows or small layers: the overhead wins. Measure the break-even on the machine that will serve.
# - Linear layers save time, embeddings save bytes. Say which you quantized.
#
# ## Where to read on
#
# - Benoit Jacob and others, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
#   Inference*, 2018, arXiv 1712.05877: the arithmetic.
# - Tim Dettmers and others, *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale*, 2022, arXiv 2208.07339:
#   scales for rows and columns, and what outliers do to them.
# - Ofir Zafrir and others, *Q8BERT: Quantized 8Bit BERT*, 2019, arXiv 1910.06188: which layers of a BERT to quantize.
# - Zhewei Yao and others, *ZeroQuant*, 2022, arXiv 2206.01861: a scale for each token, and the kernels it takes.
