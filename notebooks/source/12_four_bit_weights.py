# %% [markdown]
# # Four-bit weights
#
# | | |
# |---|---|
# | You will be able to | quantize weights to four bits by rounding, NF4, GPTQ and AWQ, keep them packed in a file, and say what it buys |
# | You need first | lessons 01 and 02 (scale, zero point, packing, NF4's values, bits per weight) |
# | Minutes | 90 |
# | Points | 20 |

# %% tags=["imports"]
import tempfile
from pathlib import Path

import torch

from lessons_lib.arithmetic import affine, formats, nf4
from lessons_lib.distillation import students
from lessons_lib.four_bits import awq, gptq, groupwise, libraries, packed_linear
from lessons_lib.measure import benchmark, model_size
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.studies import four_bits as studied
from lessons_lib.studies import study
from lessons_lib.tasks import language_model, layers, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("12")

# %% [markdown]
# ## How many weights may share a scale?
#
# Four bits give sixteen codes. That is little, and everything depends on how wide a range they must cover. Here is a
# row of eight weights. Seven are small, one is not. First all eight share a scale, then each half has its own.

# %%
row = torch.tensor([[0.11, -0.04, 0.06, -0.09, 0.02, 0.08, -1.50, 0.05]])
whole, halves = (groupwise.quantize_groups(row, 4, size) for size in (8, 4))
plots.grids(row, groupwise.dequantize_groups(whole), groupwise.dequantize_groups(halves),
            titles=["weights", "one scale", "a scale for each half"])

# %% [markdown]
# With one scale, a step is more than a tenth, and each small weight becomes 0 or one step. With two, the left half
# keeps its differences. The large weight spoils only its own half. A stretch of neighbours that share a scale is called
# a **group**.
#
# Each group is quantized as in lesson 01. It has a scale and a zero point, from its own lowest and highest weight. The
# rule is to round every weight to the nearest code. Papers call it **RTN**, round to nearest.
#
# One detail is new. The scale will be stored in FP16. So it is rounded first, and the codes are made to fit the rounded
# scale.

# %% [markdown]
# ### Exercise: groups

# %% exercise="quantize_groups"

# %% [markdown]
# ### On a real layer
#
# Smaller groups follow the weights more closely, and need more scales. Lesson 02 counted that: a group of 64 shares 16
# bits for its scale and 4 for its zero point. Take one layer of the teacher and try several sizes.

# %%
teacher = topic_classifier.topic_teacher()
names = list(layers.linear_layers(teacher, "encoder.encoder"))
chosen = "encoder.encoder.layer.3.intermediate.dense"
layer = teacher.get_submodule(chosen)
weight = layer.weight.detach()
sizes = [384, 192, 128, 96, 64, 48, 32, 16]

# %%
def rounded(bits, size):
    return groupwise.dequantize_groups(groupwise.quantize_groups(weight, bits, size))

curves = {f"{bits} bits in groups": ([groupwise.bits_per_weight(bits, size) for size in sizes],
                                     [affine.sqnr_db(weight, rounded(bits, size)) for size in sizes])
          for bits in (4, 3)}

# %%
curves["NF4, blocks of 64"] = ([nf4.bits_per_weight(64, double) for double in (True, False)],
                               [affine.sqnr_db(weight, nf4.round_trip(weight, 64, double)) for double in (True, False)])

# %%
gain = curves["4 bits in groups"][1][-1] - curves["4 bits in groups"][1][0]
plots.lines(curves, xlabel="bits a weight, scales included", ylabel="signal to noise of the weights (dB)",
            title=f"Groups of 16 instead of a whole row: {gain:.1f} dB better, "
                  f"{curves['4 bits in groups'][0][-1] - curves['4 bits in groups'][0][0]:.1f} bits more",
            alt="Signal to noise against true bits a weight for groups of 384 down to 16. At 4 bits it rises from "
                f"{curves['4 bits in groups'][1][0]:.1f} to {curves['4 bits in groups'][1][-1]:.1f} dB, at 3 bits from "
                f"{curves['3 bits in groups'][1][0]:.1f} to {curves['3 bits in groups'][1][-1]:.1f}. NF4 stands at "
                f"{curves['NF4, blocks of 64'][1][0]:.1f} dB and {curves['NF4, blocks of 64'][0][0]:.2f} bits.")

# %% [markdown]
# Sixty-four is a usual compromise, and the rest of this lesson uses it. The two points beside the curves are NF4, which
# comes next. The left one has its scales quantized once more.

# %% [markdown]
# ## NF4: the values follow the weights
#
# In lesson 02 you built NF4's sixteen values from the quantiles of a normal distribution. To use them, a block is
# divided by its largest magnitude, **absmax**, and each weight takes the nearest value. There is no zero point: one of
# the sixteen values is 0.

# %%
block = torch.tensor([0.11, -0.04, 0.06, -0.09, 0.02, 0.08, -0.15, 0.05])
codes, absmax = nf4.quantize(block, 8)
plots.grids(block / absmax, codes.int(), nf4.nf4_codebook()[codes.int()] * absmax,
            titles=["weights over absmax", "codes", "read back"])

# %% [markdown]
# Between two neighbouring values lies a border, halfway. A code is the number of borders below the weight. What if a
# weight lies exactly on a border? Then both values are as near, and a rule must decide. bitsandbytes, the library that
# made NF4 known, takes the lower one.

# %% exercise="nf4_quantize"

# %% [markdown]
# ### Double quantization
#
# Each block of 64 weights has an absmax in FP32: half a bit a weight. The absmax of many blocks are numbers like any
# others, so they can be quantized too. Their mean is taken off, since they are all positive. What is left is divided
# into blocks of 256, and every number gets an 8-bit code. The codes name 256 values of a fixed table, which are closer
# together near zero.

# %%
codes, absmax = nf4.quantize(weight)
doubled = nf4.double_quantize(absmax)
restored = nf4.double_dequantize(doubled)

# %%
off = ((restored - absmax).abs() / absmax).max()
plots.note(f"{absmax.nbytes:,} bytes of scales become {sum(part.nbytes for part in doubled):,}. The worst scale is off "
           f"by {off:.1%} of itself. A weight takes {nf4.bits_per_weight(64, False):.2f} bits before and "
           f"{nf4.bits_per_weight(64):.3f} after.")

# %% exercise="double_quantize"

# %% [markdown]
# ### The same as bitsandbytes?
#
# To the bit, or there is a mistake somewhere. Compare codes, scales and the weights read back, on this layer and on a
# tensor whose weights all lie exactly on borders.

# %%
on_borders = torch.cat([nf4.borders(), torch.tensor([-1.0])]).repeat(64)

def compared(x):
    packed, state = libraries.bitsandbytes_quantize(x)
    own, scales = nf4.quantize(x)
    twice = nf4.double_quantize(scales)
    return {"codes": torch.equal(own.flatten(), libraries.bitsandbytes_codes(packed)),
            "codes of scales": torch.equal(twice.codes, state.absmax),
            "weights read back": torch.equal(nf4.round_trip(x).flatten(),
                                             libraries.bitsandbytes_dequantize(packed, state).flatten())}

agreement = {"this layer": compared(weight), "weights on borders": compared(on_borders)}
table(agreement, "Equal to bitsandbytes, to the bit")

# %% [markdown]
# And is it as quick? Ours is written in torch operations, bitsandbytes is a library.
#
# The plain way is a search for the right one of fifteen borders, four questions for each weight.
# `lessons_lib.arithmetic.nf4` asks one. It cuts the range into 33 cells, so narrow that no cell holds two borders, and
# knows for each cell the one border in doubt.
#
# Reading back is a look-up in a table of sixteen values, in the plain way for each code. For each byte is half of the
# work: the table then has 256 entries, each the two values of a byte, side by side.

# %%
packed, state = libraries.bitsandbytes_quantize(weight, double=False)
own_packed = formats.pack_nibbles(codes.flatten())
blocks, values, borders = weight.view(-1, 64), nf4.nf4_codebook(), nf4.borders()

# %%
def plain_codes():
    largest = blocks.abs().amax(1, keepdim=True)
    return formats.pack_nibbles(torch.bucketize(blocks * (1 / largest), borders).flatten())

def plain_values():
    return values[formats.unpack_nibbles(own_packed, weight.numel()).int()].view(-1, 64) * absmax[:, None]

# %%
ways = {"quantize": {"plain": plain_codes, "ours": lambda: formats.pack_nibbles(nf4.quantize(weight)[0].flatten()),
                     "bitsandbytes": lambda: libraries.bitsandbytes_quantize(weight, double=False)},
        "read back": {"plain": plain_values, "ours": lambda: nf4.dequantize(own_packed, absmax),
                      "bitsandbytes": lambda: libraries.bitsandbytes_dequantize(packed, state)}}
raced = {what: benchmark.compare(functions, repeats=15 if what == "quantize" else 40) for what, functions in ways.items()}

# %%
times = {what: {name: run.ratio(name, "bitsandbytes") for name in ways[what]} for what, run in raced.items()}

# %%
plots.bars(times, log_x=True, marks={"bitsandbytes": 1}, xlabel="time, bitsandbytes = 1 (log scale)",
           title=f"Quantizing takes {times['quantize']['ours'].value:.2f} of bitsandbytes' time, reading back "
                 f"{times['read back']['ours'].value:.1f} times as long",
           alt="Bars of time relative to bitsandbytes, with intervals. " + "; ".join(
               f"{what}: " + ", ".join(f"{name} {ratio.value:.2f}" for name, ratio in row.items())
               for what, row in times.items()) + ".")

# %% [markdown]
# Reading back stays slower: a loop in C++ does it better. In torch it takes three passes over memory: bytes become
# indices, indices become values, values are multiplied by their scale. bitsandbytes has one loop in C++. On processors
# with AVX-512 it keeps the sixteen values in a vector register, picks from it by shuffling, multiplies and stores.
# Closing the gap takes such a loop. `torch.compile` writes loops too. It was tried while this lesson was written: its
# loop did not find this shuffle, and came out slower than the table above.

# %% [markdown]
# ## What does a rounded weight do to the output?
#
# So far every weight counted alike. A layer's output does not see it that way. A weight whose input is always near zero
# may be rounded as badly as you like.
#
# A layer computes $Wx$. Let $\Delta$ be the error of its weight. The output is off by $\Delta x$, and what that costs
# on average can be computed without keeping any input, from the **second moment** $S$, the mean of $x x^\top$:
#
# $$\operatorname{mean} |\Delta x|^2 = \sum_{ij} (\Delta S)_{ij} \, \Delta_{ij}$$
#
# So two sentences' worth of inputs and a million of them are summed up in a matrix of the same size. Inputs that are
# read for this purpose are called **calibration** data. Take 128 training sentences, and others to judge by.

# %%
seen = layers.moments(teacher, studied.sentence_batches("train", 0), names)
judged = layers.moments(teacher, studied.sentence_batches("test", 0), names)

# %%
first = seen[names[0]]
shared = len({id(moments) for moments in seen.values()})
plots.note(f"{first.count:,} real tokens went through {len(names)} linear layers. Query, key and value read the same "
           f"tensor, so {shared} matrices are enough. Each has as many rows and columns as its layer has inputs, "
           f"{first.second.shape[0]} or {seen[names[5]].second.shape[0]:,}.")

# %% [markdown]
# ## GPTQ: let the others make it good
#
# Take two weights, both 0.6, and inputs that nearly always come in equal pairs. Rounding to whole numbers gives 1 and
# 1. The output of the pair (1, 1) should be 1.2 and is 2. Rounding the second one *down* would be better, though 0.6 is
# nearer to 1. The first error has already pushed the output up.
#
# GPTQ (Frantar and others, 2022) goes column by column. It rounds one, then moves the columns not yet rounded so that
# the output changes least. For squared errors the best move is known. With the inverse $H = S^{-1}$:
#
# $$w_k \leftarrow w_k - \frac{w_0 - q_0}{H_{00}} H_{0k}$$

# %%
pair = torch.tensor([[1.0, 0.9], [0.9, 1.0]])                     # S: both inputs are large together
h_inv = torch.linalg.inv(pair)
two = torch.tensor([[0.6, 0.6]])
column, rest = gptq.gptq_column(two, h_inv, torch.ones(1), torch.zeros(1), 4)
plots.grids(two, torch.cat([column[:, None], rest], dim=1), torch.cat([column[:, None], rest.round()], dim=1),
            titles=["weights", "the first rounded, the second moved", "both rounded"])

# %%
costs = {name: groupwise.output_error(two, torch.tensor([values]), pair)
         for name, values in {"1 and 1": [1.0, 1.0], "1 and 0": [1.0, 0.0]}.items()}
plots.note(f"Rounded to nearest, 1 and 1, the output is off by {costs['1 and 1']:.0%} of its square. Rounded as GPTQ "
           f"does, 1 and 0, it is off by {costs['1 and 0']:.0%}.")

# %% [markdown]
# ### Exercise: one column

# %% exercise="gptq_column"

# %% [markdown]
# The next column needs the inverse of what is left of $S$, without the first row and column. To compute an inverse anew
# for each of hundreds or thousands of columns is far too slow. The rows of one Cholesky factor of $S^{-1}$ hold all
# that is needed. That is what made the method quick. `lessons_lib.four_bits.gptq` has it in thirty lines. Two more
# details:
#
# - **Damping.** A hundredth of its mean is added to the diagonal of $S$. Without it, inputs that always occur together
#   leave $S$ without an inverse.
# - **Groups.** The scale of a group is set when its first column is reached, from the weights as they are by then.

# %% [markdown]
# ## AWQ: protect the channels that are large
#
# How large are the inputs of a layer? Here is the mean magnitude of each channel that one layer reads.

# %%
reads = "encoder.encoder.layer.5.attention.self.query"
size = seen[reads].size

# %%
outstanding = (size > 3 * size.median()).sum().item()
plots.histogram(size, bins=60, xlabel="mean magnitude of an input channel", ylabel="channels",
                marks={"median": size.median().item()},
                title=f"{outstanding} of {len(size)} channels are more than three times the median",
                alt=f"Histogram of the mean magnitude of {len(size)} input channels of a layer. Half lie below "
                    f"{size.median():.2f}, the largest is {size.max():.2f}.")

# %% [markdown]
# An error in the weights of the largest channel is multiplied by the largest inputs. AWQ (Lin and others, 2023) uses a
# freedom that is there anyway. Multiply the weights of a channel by $s$ and its input by $1/s$, and the product stays
# the same:
#
# $$w x = (w s) \cdot \frac{x}{s}$$
#
# Now round $ws$ instead of $w$. The step of the rounding hardly changes, because it depends on the whole group. But the
# error of this channel is afterwards divided by $s$. The price is paid by the others, if $s$ is so large that it widens
# their group's range. So the factors follow the size of the inputs, dampened by a power that is searched for:
#
# $$f_k = (\operatorname{mean} |x_k|)^\alpha \qquad s_k = \frac{f_k}{\sqrt{\max f \cdot \min f}} \qquad
# \alpha \in [0, 1]$$

# %%
query = teacher.get_submodule(reads).weight.detach()
alphas = [i / 10 for i in range(11)]

# %%
def scaled_error(alpha):
    factors = awq.channel_factors(size, alpha)
    back = groupwise.dequantize_groups(groupwise.quantize_groups(query * factors, 4)) / factors
    return groupwise.output_error(query, back, judged[reads].second)

# %%
errors = [100 * scaled_error(alpha) for alpha in alphas]
best = min(range(11), key=errors.__getitem__)

# %%
plots.lines({"query, layer 5": (alphas, errors)}, xlabel="alpha", ylabel="output error (%)",
            title=f"At alpha {alphas[best]:.1f} the error is {errors[best] / errors[0]:.2f} of that without scaling",
            alt=f"Output error of one layer against alpha. It is {errors[0]:.2f} % at 0, least at {alphas[best]:.1f} "
                f"with {errors[best]:.2f} %, and {errors[-1]:.2f} % at 1.")

# %% [markdown]
# ### Exercise: the search

# %% exercise="awq_scale_search"

# %% [markdown]
# A relative needs no data at all. **HQQ** (Badri and Shaji, 2023) looks at the weights alone, but moves the zero points
# so that most weights come out nearly exact and a few badly. It alternates between two steps: guess which errors are
# outliers, then solve for the zero points. We leave it there.

# %% [markdown]
# ## Every layer of the encoder
#
# Now all linear layers, at 4 bits in groups of 64, judged on sentences that took no part in the calibration. Rounding
# to nearest is the measure: its output error is 1.

# %%
found, packed_gptq = {name: {} for name in ("GPTQ", "AWQ", "NF4")}, {}
for name in names:
    full, moments, held_out = teacher.get_submodule(name).weight.detach(), seen[name], judged[name].second
    plain = groupwise.output_error(full, groupwise.dequantize_groups(groupwise.quantize_groups(full, 4)), held_out)
    packed_gptq[name] = gptq.gptq(full, moments.second, 4)
    scaled = awq.awq(full, moments.second, moments.size, 4)
    for way, back in (("GPTQ", groupwise.dequantize_groups(packed_gptq[name])), ("AWQ", awq.dequantize(scaled)),
                      ("NF4", nf4.round_trip(full))):
        found[way][name] = groupwise.output_error(full, back, held_out) / plain

# %%
numbers = list(range(1, len(names) + 1))
middle = {way: sum(errors.values()) / len(errors) for way, errors in found.items()}
wins = {way: sum(error < 1 for error in errors.values()) for way, errors in found.items()}

# %%
plots.lines({way: (numbers, list(errors.values())) for way, errors in found.items()},
            xlabel="linear layer, from input to output", ylabel="held-out output error, RTN = 1",
            title=f"GPTQ leaves {middle['GPTQ']:.2f} of the error on average, AWQ {middle['AWQ']:.2f}",
            alt=f"Output error of {len(names)} layers relative to rounding to nearest. GPTQ lies between "
                f"{min(found['GPTQ'].values()):.2f} and {max(found['GPTQ'].values()):.2f}, AWQ between "
                f"{min(found['AWQ'].values()):.2f} and {max(found['AWQ'].values()):.2f}, NF4 between "
                f"{min(found['NF4'].values()):.2f} and {max(found['NF4'].values()):.2f}.")

# %%
plots.note(f"Better than rounding to nearest: GPTQ on {wins['GPTQ']} of {len(names)} layers, AWQ on {wins['AWQ']}, NF4 "
           f"on {wins['NF4']}. NF4 takes {nf4.bits_per_weight():.2f} bits a weight, the groups of the others "
           f"{groupwise.bits_per_weight(4):.2f}. AWQ's factors add a little, 16 bits a column.")

# %% [markdown]
# ### How many sentences does it take?
#
# GPTQ moves weights by what $S$ says about every pair of inputs. A layer with 1,536 inputs has over a million pairs.
# AWQ reads one number a channel, and searches for one more. Predict which of them needs more sentences, then try both
# on the widest layer.

# %%
wide = names[-1]
full, held_out = teacher.get_submodule(wide).weight.detach(), judged[wide].second
plain = groupwise.output_error(full, groupwise.dequantize_groups(groupwise.quantize_groups(full, 4)), held_out)
batches = studied.sentence_batches("train", 0)
draws = {4: [{key: part[:4] for key, part in batches[0].items()}],
         12: [{key: part[:12] for key, part in batches[0].items()}], 32: batches[:1], 128: batches}

# %%
tokens, after = [], {"GPTQ": [], "AWQ": []}
for some in draws.values():
    moments = layers.moments(teacher, some, [wide])[wide]
    tokens.append(moments.count)
    scaled = awq.awq(full, moments.second, moments.size, 4)
    for way, back in (("GPTQ", groupwise.dequantize_groups(gptq.gptq(full, moments.second, 4))),
                      ("AWQ", awq.dequantize(scaled))):
        after[way].append(groupwise.output_error(full, back, held_out) / plain)

# %%
plots.lines({way: (tokens, errors) for way, errors in after.items()}, log_x=True, marks={"inputs of the layer": 1536},
            xlabel="calibration tokens (log scale)", ylabel="held-out output error, RTN = 1",
            title=f"From {tokens[0]:,} to {tokens[-1]:,} tokens GPTQ's error falls from {after['GPTQ'][0]:.2f} to "
                  f"{after['GPTQ'][-1]:.2f} of RTN's",
            alt=f"Held-out error of one layer relative to rounding, after {', '.join(f'{n:,}' for n in tokens)} "
                "calibration tokens. " + " ".join(f"{way}: " + ", ".join(f"{e:.2f}" for e in errors) + "."
                                                  for way, errors in after.items()))

# %%
plots.note(f"With {tokens[0]:,} tokens, far fewer than the layer has inputs, GPTQ is at {after['GPTQ'][0]:.2f} of RTN's "
           f"error and AWQ at {after['AWQ'][0]:.2f}. A likely reason: inputs of a layer lie near few directions, and a handful of "
           "sentences shows those; where $S$ knows nothing, damping keeps GPTQ near plain rounding. AWQ scales whole "
           "channels by a power that it chose on these tokens alone.")

# %% [markdown]
# ## Does the model still know its topics?
#
# A layer's error is not yet a wrong answer. The study of this lesson quantizes all linear layers of the encoder at 8,
# 4, 3 and 2 bits, and asks about the test sentences. GPTQ and AWQ ran three times at 4 bits and below, with other
# calibration sentences each time. Here is one run of them, live.

# %%
grid = study.load("four_bits")
results = grid.table()
live = grid.live(studied.cell("encoder", "gptq", 3))
live

# %%
plots.note(f"The live run is {'where the table expects it' if live.within else 'NOT where the table expects it'}.")

# %%
unharmed = studied.accuracy(results, "none", 32)
scores = {way: {bits: studied.accuracy(results, way, bits) for bits in studied.BITS["encoder"]}
          for way in ("rtn", "gptq", "awq")}
label = {"rtn": "RTN", "gptq": "GPTQ", "awq": "AWQ", "nf4": "NF4"}
curves = {label[way]: (list(row), [100 * s.value for s in row.values()],
                       [100 * s.low for s in row.values()], [100 * s.high for s in row.values()])
          for way, row in scores.items()}

# %%
plots.lines(curves | {"FP32": ([2, 8], [100 * unharmed.value] * 2)}, xlabel="bits of a code",
            ylabel="accuracy on test sentences (%)",
            title=f"At 2 bits RTN is right on {scores['rtn'][2].value:.1%}, GPTQ on {scores['gptq'][2].value:.1%}; FP32 on "
                  f"{unharmed.value:.1%}",
            alt=f"Accuracy against the bits of a code, from 2 to 8. FP32 is at {unharmed.value:.1%}. " + " ".join(
                f"{label[way]}: " + ", ".join(f"{bits} bits {s.value:.1%}" for bits, s in row.items()) + "."
                for way, row in scores.items()))

# %%
def points(difference):
    return f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"

# %%
settings = [("rtn", 8), ("rtn", 4), ("nf4", 4), ("gptq", 4), ("awq", 4), ("rtn", 3), ("gptq", 3), ("awq", 3),
            ("rtn", 2), ("gptq", 2), ("awq", 2)]
table([{"encoder": f"{label[way]}, {bits} bits", "accuracy": f"{studied.accuracy(results, way, bits):.1%}",
        "minus FP32 (points)": points(studied.difference(results, way, "none", bits, 32)),
        "minus RTN (points)": "" if way == "rtn" else points(studied.difference(results, way, "rtn", bits))}
       for way, bits in settings], "All linear layers of the encoder, groups of 64")

# %%
beaten = {bits: [label[way] for way in ("gptq", "awq") if studied.difference(results, way, "rtn", bits).beats]
          for bits in (4, 3, 2)}
said = "; ".join(f"at {bits} bits {' and '.join(ways) or 'neither'}" for bits, ways in beaten.items())
plots.note(f"Which of GPTQ and AWQ **beats** rounding, with the whole interval above zero over three calibration draws? "
           f"{said[0].upper()}{said[1:]}.")

# %%
cheapest = studied.difference(results, "rtn", "none", 4, 32)
plots.note(f"Plain rounding to 4 bits changes this encoder's accuracy by {points(cheapest)} points. "
           + ("There is no loss to win back: half of an error that no answer depends on is still an error that no answer "
              "depends on. A classifier with five topics forgives much; below 3 bits it no longer does."
              if 0 in cheapest else "That is what the others may win back."))

# %% [markdown]
# ## And a language model?
#
# SmolLM2-135M has 30 layers and 210 linear ones. There is a catch with the file it comes in. It is a **GGUF** file,
# already quantized: groups of 32 with a scale and a lowest value, a format called Q4_1. The weights that we read from
# it are FP32 numbers, but they lie on a grid. Count the different values in a group.

# %%
smol = language_model.language_model()
rows = smol.model.layers[0].mlp.up_proj.weight.detach()[:64]
distinct = {size: max(len(group.unique()) for group in rows.reshape(-1, size)) for size in (32, 64)}
plots.note(f"In groups of 32 there are at most **{distinct[32]}** different weights. In groups of 64, which hold two of "
           f"the file's groups, up to **{distinct[64]}**.")

# %% [markdown]
# Rounding such weights to 4 bits in the file's own groups would look nearly free, because the loss lies behind us. So
# the study takes groups of 64, which the file's grid does not fit. Even so its figures say what a *second* rounding
# costs. The encoder, whose weights were never rounded, is the cleaner experiment.
#
# A language model is judged by **perplexity**: the exponential of the mean loss on the next token. It says among how
# many equally likely words the model is as lost. The texts are BBC articles that took no part in the calibration.

# %%
kept = studied.perplexity(results, "none", 32)
lost = {f"{label[way]}, {bits} bits": studied.perplexity(results, way, bits)
        for bits in (4, 3) for way in (("rtn", "nf4", "gptq", "awq") if bits == 4 else ("rtn", "gptq", "awq"))}

# %%
gentle = {bits: min((name for name in lost if name.endswith(f"{bits} bits")), key=lost.get) for bits in (4, 3)}
plots.bars(lost, marks={"as it came": kept}, xlabel="perplexity on held-out articles",
           title=f"Least harm to perplexity: {gentle[4]}, from {kept:.0f} to {lost[gentle[4]]:.0f}; {gentle[3]}, to "
                 f"{lost[gentle[3]]:.0f}",
           alt=f"Bars of perplexity; the model as it came has {kept:.1f}. "
               + ", ".join(f"{name} {value:.1f}" for name, value in lost.items()) + ".")

# %%
table([{"language model": name, "perplexity": value,
        "loss added (nats a token)": studied.loss_added(results, way, bits),
        "against RTN": "" if way == "rtn" else studied.loss_added(results, way, bits, "rtn", bits)}
       for (way, bits), (name, value) in zip([(way, bits) for bits in (4, 3) for way in ("rtn", "nf4", "gptq", "awq")
                                              if (way, bits) != ("nf4", 3)], lost.items(), strict=True)],
      "Mean over held-out passages, with a 95 % interval over them")

# %% [markdown]
# Even the model as it came is rather lost: it was tuned to chat, and these are articles of 2004 with gaps between their
# sentences. What counts is how much is added.

# %% [markdown]
# On the encoder GPTQ left the smallest error on every layer. Compare it here with RTN at 3 bits. What is different
# about a language model? Look at what its layers read: how much of all squared inputs comes from the first token of a
# passage, one of 128?

# %%
share = []

def watch(module, inputs):
    power = inputs[0].square().sum(-1)                             # (passages, tokens)
    share.append(100 * (power[:, 0].sum() / power.sum()).item())

# %%
hooks = [block.mlp.down_proj.register_forward_pre_hook(watch) for block in smol.model.layers]
with torch.inference_mode():
    smol(input_ids=studied.passage_batches(0)[0]["input_ids"])
for hook in hooks:
    hook.remove()

# %%
against, top = studied.loss_added(results, "gptq", 3, "rtn", 3), max(range(len(share)), key=share.__getitem__)
plots.lines({"second feed-forward layer": (list(range(len(share))), share)}, xlabel="block of the language model",
            ylabel="share of the first token (%)",
            title=f"In block {top} the first token makes up {share[top]:.1f} % of what GPTQ looks at",
            alt=f"Share of the first of 128 tokens in the squared inputs of the second feed-forward layer, for {len(share)} "
                f"blocks. Most are near zero; {sum(each > 30 for each in share)} are above 30 %, block {top} has "
                f"{share[top]:.1f} %.")

# %%
plots.note(f"At 3 bits GPTQ adds {against.value:+.2f} nats a token to what rounding costs, [{against.low:+.2f}, "
           f"{against.high:+.2f}]. A likely reason: in a few layers one token, whose inputs are enormous, fills $S$ nearly "
           "alone. GPTQ then makes that token's output right and lets the others pay. Such tokens are known as *attention "
           "sinks*: language models park attention on the first token. An average over tokens is only "
           "as good as its tokens are alike.")

# %% [markdown]
# ## Packed, in a file
#
# A code in a `uint8` tensor still takes eight bits. In the file two share a byte. `Linear4bit` is a linear layer that
# keeps its weight packed in memory as well. Make three models of it, write them, and compare the files with
# the arithmetic.

# %%
def packed_model(make):
    return layers.replaced(teacher, names, make)

compact = {"NF4, scales quantized": packed_model(lambda name, layer: packed_linear.nf4_layer(layer)),
           "NF4, FP32 scales": packed_model(lambda name, layer: packed_linear.nf4_layer(layer, double=False)),
           "GPTQ, groups": packed_model(lambda name, layer: packed_linear.Linear4bit(
               packed_linear.PackedGroups.of(packed_gptq[name]), layer.bias))}
# %%
promised = {"NF4, scales quantized": nf4.bits_per_weight(), "NF4, FP32 scales": nf4.bits_per_weight(double=False),
            "GPTQ, groups": groupwise.bits_per_weight(4)}

# %%
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
for name, model in compact.items():
    packed_linear.save(model, folder / name)
full_bytes, weights = model_size.size_on_disk(teacher), sum(teacher.get_submodule(name).weight.numel() for name in names)
others = full_bytes - 4 * weights
stored = {name: 8 * (model_size.size_on_disk(folder / name) - others) / weights for name in compact}

# %%
table({name: {"file (MB)": model_size.size_on_disk(folder / name) / 1e6, "bits a weight, from the file": bits,
              "computed": promised[name], "difference": f"{bits / promised[name] - 1:+.2%}"}
       for name, bits in stored.items()}, f"FP32: {full_bytes / 1e6:.1f} MB, of which {4 * weights / 1e6:.1f} MB are these layers")

# %% [markdown]
# The embeddings are the larger half of this model and stay as they are. Now read one back, and let it answer.

# %%
texts = topic_classifier.held_out("test")["text"][:200]
reloaded = packed_linear.load(folder / "GPTQ, groups", students.topic_student(6, init="scratch"))
answers = {name: topic_classifier.predict_logits(model, texts) for name, model in
           (("written", compact["GPTQ, groups"]), ("read", reloaded), ("FP32", teacher))}

# %%
same = torch.equal(answers["written"], answers["read"])
turned = (answers["read"].argmax(1) != answers["FP32"].argmax(1)).sum().item()
plots.note(f"The model that was read gives {'exactly' if same else 'NOT'} the logits of the one that was written. "
           f"Against FP32, {turned} of {len(texts)} answers turned.")

# %% [markdown]
# What if the file is cut off, or is for another model? Half a model would answer nonsense, so nothing is loaded.

# %%
def refused(path, model):
    try:
        return packed_linear.load(path, model)
    except packed_linear.FileError as error:
        return str(error).replace(str(folder), "...")

# %%
cut = folder / "cut off"
cut.write_bytes((folder / "GPTQ, groups").read_bytes()[:1_000_000])
table({"cut off": refused(cut, students.topic_student(6, init="scratch")),
       "two layers": refused(folder / "GPTQ, groups", students.topic_student(2, init="scratch"))}, unit="what it says")

# %% [markdown]
# ## Is it faster?
#
# An eighth of the bytes sounds like eight times the speed. Predict first: how long does a 4-bit layer take, compared
# with FP32, for one row of input, and for 32?
#
# The contenders: FP32; our `Linear4bit`, which reads the weight back and then multiplies in FP32; bitsandbytes' layer,
# which does the same in one kernel, in BF16 where the processor has instructions for it; and a kernel that torch has
# for 4-bit groups, in BF16 as well.

# %%
gptq_layer = compact["GPTQ, groups"].get_submodule(chosen)
kernel = groupwise.int4_kernel(packed_gptq[chosen], layer.bias.detach())
contenders = {"FP32": layer, "ours, NF4": packed_linear.nf4_layer(layer), "ours, groups": gptq_layer,
              "bitsandbytes, NF4": libraries.bitsandbytes_layer(layer), "kernel of torch, groups": kernel}

# %%
def race(rows):
    x = torch.randn(rows, 384, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return benchmark.compare({name: lambda run=run: run(x) for name, run in contenders.items()}, repeats=60, warmup=10)

# %%
races = {"1 row": race(1), "32 rows": race(32)}
speed = {rows: {name: run.ratio("FP32", name) for name in contenders if name != "FP32"} for rows, run in races.items()}
quickest = {rows: max(row, key=lambda name: row[name].value) for rows, row in speed.items()}
plots.bars(speed, marks={"as fast as FP32": 1}, xlabel="times as fast as FP32, 95 % interval over the rounds",
           title=f"{quickest['1 row'].capitalize()}: {speed['1 row'][quickest['1 row']].value:.1f} times as fast with one row, "
                 f"{speed['32 rows'][quickest['1 row']].value:.1f} times with 32",
           alt="Speed relative to FP32. " + "; ".join(
               f"{rows}: " + ", ".join(f"{name} {gain.value:.2f}" for name, gain in row.items())
               for rows, row in speed.items()) + ".")

# %% [markdown]
# No processor multiplies a 4-bit code with a float. The code becomes a float first, and that costs time for every
# weight. With one row of input each weight is used once, so there is little else to do: reading fewer bytes can pay, if
# the unpacking is done in registers. With 32 rows each weight is used 32 times. The products are the larger part of the
# work, and they are as many as before.
#
# `Linear4bit` writes the whole weight out before it multiplies. It saves memory between calls and pays with time.

# %% [markdown]
# ## Try it
#
# Choose bits, group size and method for one layer. Watch the bits and the output error together.

# %%
def one_layer(bits=4, group_size=64, method="RTN"):
    moments, held_out = seen[reads], judged[reads].second
    if method == "GPTQ":
        back = groupwise.dequantize_groups(gptq.gptq(query, moments.second, bits, group_size))
    elif method == "AWQ":
        back = awq.dequantize(awq.awq(query, moments.second, moments.size, bits, group_size))
    else:
        back = groupwise.dequantize_groups(groupwise.quantize_groups(query, bits, group_size))
    return table({"bits a weight": groupwise.bits_per_weight(bits, group_size),
                  "output error (%)": 100 * groupwise.output_error(query, back, held_out)}, f"{method}, layer 5, query")

widgets.explore(one_layer, bits=[8, 4, 3, 2], group_size=[16, 32, 64, 128, 384], method=["RTN", "GPTQ", "AWQ"])

# %% [markdown]
# ## Claimed and measured

# %%
nf4_gain, nf4_text = studied.difference(results, "nf4", "rtn", 4), studied.loss_added(results, "nf4", 4, "rtn", 4)
single, double = (groupwise.output_error(weight, nf4.round_trip(weight, 64, twice), judged[chosen].second)
                  for twice in (False, True))
four = {way: studied.difference(results, way, "none", 4, 32) for way in ("rtn", "gptq", "awq")}
drop = {(way, bits): -100 * studied.difference(results, way, "none", bits, 32).value
        for way in ("rtn", "gptq") for bits in (3, 2)}

# %%
safest = max(four, key=lambda way: four[way].value)
smaller = 1 - model_size.size_on_disk(folder / "GPTQ, groups") / full_bytes
fast = {rows: max(gain.value for gain in row.values()) for rows, row in speed.items()}
apart = nf4_text.high < 0 or nf4_gain.low > 0

# %%
claims.show("12", {
    "int4": claims.Measured(
        f"{1 - groupwise.bits_per_weight(4) / 32:.0%} less memory for the quantized layers, {smaller:.0%} for the whole file; "
        f"encoder {points(four[safest])} points with {label[safest]}, language model from perplexity {kept:.0f} to "
        f"{lost[gentle[4]]:.0f} with {gentle[4]}; at best {fast['1 row']:.1f} times as fast as FP32 with one row, "
        f"{fast['32 rows']:.1f} with 32",
        agrees="partly" if fast["1 row"] < 4 or fast["32 rows"] < 4 else True,
        why="The bytes hold where layers are quantized, scales counted. Quality depends on the task. The speed takes a "
            "kernel and few rows."),
    "nf4": claims.Measured(
        f"NF4 {nf4.bits_per_weight():.2f} bits, groups {groupwise.bits_per_weight(4):.2f}; accuracy {points(nf4_gain)} points "
        f"against RTN, language model {nf4_text:+.3f} nats a token; double quantization changes an output error from "
        f"{single:.3%} to {double:.3%}",
        agrees=True if apart else "partly",
        why="Double quantization is nearly free. "
            + ("NF4 is smaller and better." if apart else
               "NF4 is smaller and errs less on most layers, but model for model it cannot be told apart from rounding "
               "in groups with a zero point.")),
    "low-bits": claims.Measured(
        f"points lost at 3 bits: RTN {drop['rtn', 3]:.1f}, GPTQ {drop['gptq', 3]:.1f}; at 2 bits: RTN "
        f"{drop['rtn', 2]:.1f}, GPTQ {drop['gptq', 2]:.1f}; language model at 3 bits: from {kept:.0f} to "
        f"{lost[gentle[3]]:.0f} with {gentle[3]}",
        agrees="partly" if drop["gptq", 2] > 1 else True,
        why="Few bits hurt. Calibration cuts the layers' errors, and wins back little of the loss or none of it. Lesson 10 "
            "trains instead."),
    "hardware": claims.Measured(
        f"the same codes, one row: the kernel of torch {speed['1 row']['kernel of torch, groups'].value:.1f} times as fast "
        f"as FP32, unpacked first {speed['1 row']['ours, groups'].value:.2f} times",
        agrees=True,
        why=f"Instructions here: {benchmark.machine()['instructions']}. Nothing multiplies 4-bit codes; what helps is to "
            "unpack in vector registers, and it helps only while memory is what one waits for."),
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
# - Four bits need small groups, and the scales of small groups need bits of their own: count both.
# - NF4 puts its values where weights are. Double quantization makes its scales nearly free.
# - What counts is a layer's output. GPTQ lets the columns that are left make good each error; AWQ shields the channels
#   that are large. Both need no more than a few sentences.
# - Weights that were rounded before cannot show what rounding costs.
# - Fewer bytes are certain. More speed takes a kernel that unpacks while it multiplies, and few rows.
#
# ## Where to read on
#
# - *GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers*, Frantar, Ashkboos, Hoefler,
#   Alistarh, 2022, arXiv:2210.17323
# - *AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration*, Lin, Tang, Tang and others, 2023,
#   arXiv:2306.00978
# - *QLoRA: Efficient Finetuning of Quantized LLMs*, Dettmers, Pagnoni, Holtzman, Zettlemoyer, 2023, arXiv:2305.14314
# - *8-Bit Approximations for Parallelism in Deep Learning*, Dettmers, 2015, arXiv:1511.04561
# - *Half-Quadratic Quantization of Large Machine Learning Models*, Badri, Shaji, 2023, mobiusml.github.io/hqq_blog

# %%
quiz.progress()
