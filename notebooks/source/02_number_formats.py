# %% [markdown]
# # Number formats
#
# | | |
# |---|---|
# | You will be able to | read the bits of a number, predict where a format overflows or loses small numbers, count true bits per weight |
# | You need first | lesson 01 (scale, code, signal to noise) |
# | Minutes | 75 |
# | Points | 19 |

# %% tags=["imports"]
import copy

import torch

from lessons_lib.arithmetic import affine, formats, nf4
from lessons_lib.measure import benchmark, intervals, model_size
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("02")

# %% [markdown]
# ## What do the bits of a number say?
#
# A weight in FP32 is 32 bits. FP16 and BF16 have 16, and both promise half the memory. They do not hold the same
# numbers. To see why, look at the bits. Here is -6.5 in three formats.

# %%
table({name: {"sign, exponent, fraction": formats.bit_string(-6.5, name)} for name in ("FP32", "FP16", "BF16")})

# %% [markdown]
# Every one of them is scientific notation in base two: $-6.5 = -1.625 \cdot 2^2$. One bit for the **sign**. Some bits
# for the power of two, the **exponent**. The rest for the 0.625 behind the point, the **fraction**. The 1 before the
# point is always there, so it is not stored.
#
# The exponent must be able to be negative. So the field $E$ holds the exponent plus a constant, the **bias** $b$. With
# $m$ fraction bits, read as a whole number $F$:
#
# $$\text{value} = (-1)^s \left(1 + \frac{F}{2^m}\right) 2^{E - b}$$
#
# Read the FP16 pattern by hand. The bias of FP16 is 15.

# %%
sign, field, fraction = (int(part, 2) for part in formats.bit_string(-6.5, "FP16").split())
print(f"sign {sign}, E = {field}, F = {fraction}")
(-1) ** sign * (1 + fraction / 2**10) * 2 ** (field - 15)

# %% [markdown]
# Two exponent fields mean something else.
#
# - **All zeros.** With a leading 1 there would be no zero, and a hole around it. So here the leading 1 is dropped and the
#   exponent stays at $1 - b$: numbers from the smallest normal one down to 0, evenly spaced. They are called
#   **subnormal**.
# - **All ones.** Infinity if the fraction is 0, otherwise NaN, "not a number", the result of 0 / 0.

# %% [markdown]
# ### Exercise: read FP16

# %% exercise="decode_fp16"

# %% [markdown]
# `lessons_lib.arithmetic.formats` reads any such format. Sixteen bits make 65,536 patterns, few enough to try all of
# them. Does it read each one as torch does?

# %%
every = torch.arange(2**16)
ours, torchs = formats.decode(every, "FP16"), every.to(torch.int16).view(torch.float16).float()
f"{((ours == torchs) | (ours.isnan() & torchs.isnan())).sum():,} of {len(every):,} patterns agree"

# %% [markdown]
# ## Range or precision?
#
# Exponent bits buy **range**, fraction bits buy **precision**. Each format spends its bits differently.

# %%
reach = [{"format": name, "exponent bits": made.exponent_bits, "fraction bits": made.fraction_bits,
          "largest": made.largest, "smallest normal": made.smallest_normal, "smallest": made.smallest,
          "step after 1": formats.spacing(torch.ones(()), made).item()} for name, made in formats.FORMATS.items()]
table(reach)

# %% [markdown]
# - **TF32** has the range of FP32 and the precision of FP16. It lives inside the matrix units of NVIDIA GPUs. In memory
#   such a number takes 32 bits.
# - **BF16** is FP32 with its last 16 bits cut off. **FP16** has three bits fewer for the exponent and
#   three more for the fraction.
# - **FP8** comes as **E4M3** and **E5M2**, named by their bits. E4M3 gives up infinity: its highest exponent holds
#   ordinary numbers, and the pattern of ones alone is NaN.
# - **E2M1** has four bits and eight magnitudes: 0, 0.5, 1, 1.5, 2, 3, 4 and 6.
#
# The next picture shows the distance between neighbours, as a share of the number itself. Predict before you run it: is
# that share the same everywhere?

# %%
def relative_steps(name):
    made = formats.of(name)
    x = torch.logspace(-9, 6, 600, dtype=torch.float64)
    x = x[(x >= made.smallest) & (x <= made.largest)]
    return x, formats.spacing(x, made) / x

names = ["FP32", "FP16", "BF16", "E4M3", "E5M2"]
fp16 = formats.of("FP16")

# %%
plots.lines({name: relative_steps(name) for name in names}, log_x=True, log_y=True, xlabel="number (log scale)",
            ylabel="relative step (log scale)",
            title=f"FP16 is {formats.spacing(torch.ones(1), 'BF16').item() / 2**-10:.0f} times finer than BF16, but only "
                  f"from {fp16.smallest_normal:.0e} to {fp16.largest:,.0f}",
            alt="Relative step against the size of the number. FP32 and BF16 are level saw teeth over the whole range, FP32 "
                f"near 1e-7, BF16 near 0.006. FP16 is level near 0.0007, stops at {fp16.largest:,.0f} and rises steeply "
                f"below {fp16.smallest_normal:.0e}. E4M3 lies near 0.09 and E5M2 near 0.18, both over a shorter range.")

# %% [markdown]
# Inside the range a float has the same *relative* precision everywhere, but for the teeth. That is the difference from
# lesson 01: a quantizer with a scale has the same *absolute* step everywhere. At the low end, where the subnormal
# numbers are, the absolute step stays and the relative one grows.
#
# ## Which way is a number rounded?
#
# To the nearest. Halfway between two neighbours, to the one whose last fraction bit is 0: **ties to even**. From 2048
# on the neighbours in FP16 are 2 apart, so odd numbers are ties. Put in ties, and FP32 numbers right beside them.

# %%
ties = torch.tensor([2049.0, 2051.0, 2053.0])
above = torch.nextafter(ties, torch.tensor(torch.inf))
plots.grids(formats.round_to(ties, "FP16").int(), formats.round_to(above, "FP16").int(),
            titles=["2049, 2051, 2053", "a hair more than these"])

# %% [markdown]
# A tie goes up or down, whichever is even, so the errors of many ties cancel. A hair more, and it is no tie.
#
# ### Beyond the largest number
#
# Formats with infinity overflow to it. E4M3 has none, and here conventions part: torch keeps the largest number, which
# is called **saturating**. Other libraries give NaN. A file that says "FP8" does not say which.

# %%
large = torch.tensor([448.0, 500.0, 1e6])
table({"E4M3 in torch": {f"{x:g}": y for x, y in zip(large, large.to(torch.float8_e4m3fn).float())},
       "E4M3, saturate=True": {f"{x:g}": y for x, y in zip(large, formats.round_to(large, "E4M3"))},
       "E4M3, saturate=False": {f"{x:g}": y for x, y in zip(large, formats.round_to(large, "E4M3", saturate=False))},
       "FP16": {f"{x:g}": y for x, y in zip(large, formats.round_to(large, "FP16"))}})

# %% [markdown]
# ## Where does FP16 overflow?
#
# Its largest number is 65,504. That sounds like enough, until something is squared. A layer norm and a vector's length
# both add up squares. Four values of at most 300 will do.

# %%
vector = torch.tensor([300.0, 2.0, -1.0, 0.5], dtype=torch.float16)
print(vector.square().sum(), "and in BF16:", vector.bfloat16().square().sum())

# %% [markdown]
# A mask can overflow too. Padding is hidden from attention by adding a large negative number before the softmax. A
# constant of -1e9 is common in old code. In FP16 it is -inf, and where everything is masked the softmax divides 0 by 0.
# (In FP32 the three scores come out equal: next to 1e9 they were absorbed, a word explained below.)

# %%
masked = torch.tensor([0.3, -0.2, 0.1]) + torch.tensor(-1e9)
{str(dtype): masked.to(dtype).softmax(0).tolist() for dtype in (torch.float32, torch.float16, torch.bfloat16)}

# %% [markdown]
# How near does the teacher come? Watch every linear layer and layer norm while it reads test sentences, and note the
# largest output, and the largest sum of squares over one token.

# %%
teacher = topic_classifier.topic_teacher()
test = bbc.sentences("test").shuffle(seed=0).select(range(400))
texts, topics, documents = test["text"], torch.tensor(test["topic"]), test["document"]
largest, squares = {}, {}

def watch(name):
    def note_size(module, inputs, output):
        largest[name] = max(largest.get(name, 0), output.abs().max().item())
        squares[name] = max(squares.get(name, 0), output.square().sum(-1).max().item())
    return note_size

# %%
watched = [(name, module) for name, module in teacher.named_modules()
           if isinstance(module, (torch.nn.Linear, torch.nn.LayerNorm))]
hooks = [module.register_forward_hook(watch(name)) for name, module in watched]
logits = {"FP32": topic_classifier.predict_logits(teacher, texts)}
for hook in hooks:
    hook.remove()

# %%
top, top_squares = max(largest, key=largest.get), max(squares, key=squares.get)
room, typical = fp16.largest / squares[top_squares], sorted(largest.values())[len(largest) // 2]
plots.note(f"The largest of all outputs is {largest[top]:.0f}, in `{top}`; half of the layers never exceed {typical:.0f}. The "
           f"largest sum of squares over one token is {squares[top_squares]:,.0f}, in `{top_squares}`. FP16 ends at "
           f"{fp16.largest:,.0f}: {room:.1f} times as far. One number at one place decides that. Large language models have "
           "single activations in the thousands, and their squares do not fit.")

# %% [markdown]
# ## What does BF16 absorb?
#
# BF16 hardly ever overflows. Its weak side is the short fraction. Add 1 again and again, and round the sum to the
# format after every step, as an accumulator of that format would. Predict first: which format stops where?

# %%
def running_sums(dtype, steps=4096):
    total, seen = torch.zeros((), dtype=dtype), []
    for _ in range(steps):
        total = total + 1
        seen.append(total.item())
    return seen

sums = {name: running_sums(dtype) for name, dtype in
        {"FP32": torch.float32, "FP16": torch.float16, "BF16": torch.bfloat16}.items()}

# %%
counted = list(range(1, 4097))
plots.lines({name: (counted, seen) for name, seen in sums.items()}, log_x=True, log_y=True,
            xlabel="ones added (log scale)", ylabel="sum (log scale)",
            title=f"In BF16 the sum stops at {sums['BF16'][-1]:.0f}, in FP16 at {sums['FP16'][-1]:,.0f}",
            alt=f"Three sums of ones on one diagonal. BF16 turns level at {sums['BF16'][-1]:.0f}, FP16 at "
                f"{sums['FP16'][-1]:,.0f}, FP32 goes on to {sums['FP32'][-1]:,.0f}.")

# %% [markdown]
# From 256 on the neighbours in BF16 are 2 apart. 256 + 1 is a tie and goes back to 256. The small number is
# **absorbed**. That is why matrix kernels add up BF16 products in FP32.
#
# It also happens to weights in training. A step of Adam moves a weight by about the learning rate. If that is less than
# half a step of the format, the weight stays where it is. How many weights of a real layer does one step fail to move?

# %%
weight = teacher.encoder.encoder.layer[0].output.dense.weight
own_rate = topic_classifier.TEACHER["lr"]

def unmoved(rate, name):
    stored = formats.round_to(weight, name)
    return (formats.round_to(stored - rate, name) == stored).float().mean().item()

stuck = {rate: {name: f"{unmoved(rate, name):.1%}" for name in ("FP32", "FP16", "BF16")} for rate in (1e-3, own_rate, 1e-5)}
table({f"a step of {rate:g}": row for rate, row in stuck.items()}, "Weights that a step leaves where they are")

# %%
plots.note(f"At {own_rate:g}, the rate this teacher was trained with, {stuck[own_rate]['BF16']} of the weights in BF16 would "
           "not move at all. So training keeps a copy of the weights in FP32 and uses BF16 for the products alone.")

# %% [markdown]
# FP16 has a problem of its own in training: gradients are small. Below half of its smallest number they become 0, and
# below its smallest normal number they lose fraction bits.
#
# The remedy multiplies the loss by a constant before the backward pass, here 1024, and divides the gradients by it
# afterwards, in FP32. It is called **loss scaling**. Take the gradients of one batch, without it and with it.

# %%
learner = copy.deepcopy(teacher).requires_grad_(True)
batch = topic_classifier.tokenize(texts[:16])
torch.nn.functional.cross_entropy(learner(**batch), topics[:16]).backward()
gradients = torch.cat([p.grad.flatten() for p in learner.encoder.encoder.parameters()])
gradients = gradients[gradients != 0][::16]

def fate(x, name):
    made = formats.of(name)
    return {"become 0": f"{(formats.round_to(x, made) == 0).float().mean():.2%}",
            "lose fraction bits": f"{(x.abs() < made.smallest_normal).float().mean():.1%}"}

fates = {"FP16": fate(gradients, "FP16"), "FP16, loss times 1024": fate(gradients * 1024, "FP16"),
         "BF16": fate(gradients, "BF16")}
table(fates, "Gradients of one batch of 16 sentences")

# %%
plots.note(f"In this model {fates['FP16']['become 0']} vanish, and {fates['FP16']['lose fraction bits']} lie where FP16 has "
           "only subnormal numbers, with fewer fraction bits the smaller they are. Scaling the loss leaves "
           f"{fates['FP16, loss times 1024']['lose fraction bits']} there.")

# %% [markdown]
# ## Fewer bits: codes of four
#
# An INT8 or INT4 code is a whole number in **two's complement**: the highest bit counts negative. Four bits count -8,
# 4, 2 and 1.

# %%
table({f"{code}": {"INT4": f"{code & 15:04b}", "INT8": f"{code & 255:08b}"} for code in (7, 1, 0, -1, -8)}, name="code")

# %% [markdown]
# No processor reads four bits from memory; the smallest piece is a byte. So two codes share one. The first of a pair
# goes into the four low bits, the second into the four high ones. (Libraries differ in this order, too.)

# %%
pair = torch.tensor([3, -2], dtype=torch.int8)
f"{3 & 15:04b} and {-2 & 15:04b} make the byte {formats.pack_int4(pair).item():08b}"

# %% exercise="pack_int4"

# %% [markdown]
# Reading back needs care: the four bits 1111 are -1, but in a byte of their own they are 15.

# %% exercise="unpack_int4"

# %% [markdown]
# ## Must the values be evenly spaced?
#
# A code is a name for a value. INT4 names evenly spaced values. But the weights of a layer crowd around zero, roughly
# like a normal distribution. **NF4** puts its 16 values where the weights are: at the quantiles of the normal
# distribution, so that each value stands for about as many weights as the next.
#
# Take three quantiles as an example. At the probabilities 0.5, 0.7 and 0.9 they are not evenly spaced.

# %%
torch.special.ndtri(torch.tensor([0.5, 0.7, 0.9]))

# %% [markdown]
# Zero must have a code, and 16 is even. So one side gets one value more: 8 positive, 0, and 7 negative. The probability
# 1 has no finite quantile, so both sides start at 0.9677083 instead.

# %% exercise="nf4_codebook"

# %% [markdown]
# To use it, divide each block of 64 weights by its largest magnitude, and take the nearest of the 16 values. Between
# two neighbours the border lies halfway.

# %%
codebook = nf4.nf4_codebook()
blocks = weight.reshape(-1, 64)
absmax = blocks.abs().amax(1, keepdim=True)
nf4_codes = torch.bucketize(blocks / absmax, (codebook[1:] + codebook[:-1]) / 2)
nf4_weight = (codebook[nf4_codes] * absmax).reshape(weight.shape)

# %%
int4_codes, _, _ = affine.quantize_per_channel(blocks, 4)
busiest = {"NF4": nf4_codes.flatten().bincount().max() / nf4_codes.numel(),
           "INT4": (int4_codes.flatten().int() + 8).bincount().max() / int4_codes.numel()}
plots.histogram(blocks / absmax, marks={"NF4": codebook, "INT4": torch.arange(-7, 8) / 7},
                xlabel="weight, divided by the largest of its block",
                title=f"The busiest value of INT4 stands for {busiest['INT4']:.0%} of the weights, that of NF4 for "
                      f"{busiest['NF4']:.0%}",
                alt="Histogram of the scaled weights, a wide bell around zero with a spike at each end, where the largest "
                    "weight of every block lies. The values of NF4 crowd where the bell is high, those of INT4 are even.")

# %% [markdown]
# ## How many bits does a weight really take?
#
# A code alone is not a weight: the scale of its group must be stored too. A group of 64 with an FP32 scale adds half a
# bit to each weight.
#
# $$\text{bits per weight} = \text{bits} + \frac{\text{scale bits} + \text{zero point bits}}{\text{group size}}$$

# %% exercise="bits_per_weight"

# %% [markdown]
# ### Microscaling: a power of two for each block
#
# New accelerators multiply **microscaling** blocks directly: 32 small floats that share one power of two. The shared
# scale is an exponent alone, 8 bits. It is chosen so that the largest number of the block, divided by it, lands in the
# top power of two of the elements: for E2M1 between 4 and 8. Beyond 6, the largest element, it is cut.
#
# Here is a block of four, to be read by hand, with E2M1 elements.

# %%
block = torch.tensor([[0.02, -0.11, 0.3, 0.05]])
patterns, exponents = formats.microscale(block, "E2M1", block_size=4)
elements = formats.decode(patterns, "E2M1")
plots.grids(block, elements, formats.read_blocks(patterns, exponents, "E2M1"),
            titles=["numbers", f"elements, times 2^{exponents.item()}", "read back"])

# %% [markdown]
# Now compare everything on one real layer: the signal to noise of lesson 01 against the true bits of a weight. The FP8
# formats get a scale for each channel, so that the largest weight of a row becomes their largest number.

# %%
channels, width = weight.shape

def scaled(name):
    factor = formats.of(name).largest / weight.abs().amax(1, keepdim=True)
    return formats.round_to(weight * factor, name) / factor, formats.bits_per_weight(formats.of(name).bits, width, 32)

def microscaled(name):
    restored = formats.read_blocks(*formats.microscale(weight, name), name)
    return restored, formats.bits_per_weight(formats.of(name).bits, 32, formats.SCALE_BITS)

# %%
stored = {
    "FP16": (formats.round_to(weight, "FP16"), 16), "BF16": (formats.round_to(weight, "BF16"), 16),
    "INT8 per channel": (affine.round_trip(weight, 8, "channel"), formats.bits_per_weight(8, width, 32)),
    "E4M3 per channel": scaled("E4M3"), "E5M2 per channel": scaled("E5M2"), "E4M3 in blocks": microscaled("E4M3"),
    "INT4 per channel": (affine.round_trip(weight, 4, "channel"), formats.bits_per_weight(4, width, 32)),
    "INT4 groups of 64": (affine.round_trip(weight, 4, "group", 64), formats.bits_per_weight(4, 64, 32)),
    "NF4 blocks of 64": (nf4_weight, formats.bits_per_weight(4, 64, 32)), "E2M1 in blocks": microscaled("E2M1"),
}
quality = {name: {"bits a weight": bits, "SQNR (dB)": affine.sqnr_db(weight, restored)}
           for name, (restored, bits) in stored.items()}
table(quality)

# %%
near = {width: {name: row["SQNR (dB)"] for name, row in quality.items() if width <= row["bits a weight"] < width + 1}
        for width in (16, 8, 4)}
best = {width: max(row, key=row.get) for width, row in near.items()}
labelled = {f"{name}, {row['bits a weight']:.2f} bits": row["SQNR (dB)"] for name, row in quality.items()}
plots.bars(labelled, xlabel="signal to noise on one layer (dB)",
           title=f"On this layer {best[8]} is best near 8 bits, {best[4]} near 4",
           alt="Signal to noise: " + "; ".join(f"{name} {value:.0f} dB" for name, value in labelled.items()) + ".")

# %% [markdown]
# An FP8 float spends bits on a range that a scaled row does not need. Floats pay off where sizes differ widely and no
# scale can follow: in activations and gradients. Blocks do not help E4M3 here: a float has the same relative step at
# any size. And a power of two cannot put the largest number of a block exactly on 448. It lands between 256 and 512,
# and what falls between 448 and 512 is cut.
#
# ## The teacher in 16 bits
#
# Now the whole model. The encoder is converted, the head with its five outputs stays in FP32. Bytes first: of files.

# %%
def converted(dtype):
    model = copy.deepcopy(teacher)
    model.encoder.to(dtype)
    return model

halves = {"FP32": teacher, "FP16": converted(torch.float16), "BF16": converted(torch.bfloat16)}
file_bytes = {name: model_size.size_on_disk(model) for name, model in halves.items()}
table({name: {"bytes": size, "share of FP32": f"{size / file_bytes['FP32']:.1%}"} for name, size in file_bytes.items()})

# %% [markdown]
# Then the answers, on the same sentences.

# %%
logits |= {name: topic_classifier.predict_logits(model, texts) for name, model in halves.items() if name != "FP32"}
right = {name: (out.argmax(1) == topics).int().tolist() for name, out in logits.items()}
scores = {name: intervals.accuracy(answers, documents) for name, answers in right.items()}
changes = {name: intervals.paired_difference(right[name], right["FP32"], documents) for name in ("FP16", "BF16")}

# %%
table({name: {"accuracy, 95 % interval": f"{score:.1%}",
              "minus FP32 (points)": f"{100 * changes[name].value:+.1f} [{100 * changes[name].low:+.1f}, "
                                     f"{100 * changes[name].high:+.1f}]" if name in changes else "",
              "largest change of a logit": (logits[name] - logits["FP32"]).abs().max(),
              "answers that turned": int((logits[name].argmax(1) != logits["FP32"].argmax(1)).sum())}
       for name, score in scores.items()}, f"{len(texts)} test sentences")

# %% [markdown]
# And the time. A processor is quick in a format only if it has instructions for it. Predict first: will FP16 be faster
# on your machine? The formats take turns, at batch 1 and at batch 32.

# %%
def race(size, repeats):
    batch = topic_classifier.tokenize(texts[:size])
    return benchmark.compare({name: lambda model=model: model(**batch) for name, model in halves.items()}, repeats, 2)

races = {"batch 1": race(1, 30), "batch 32": race(32, 7)}
gains = {kind: {name: run.ratio("FP32", name) for name in ("FP16", "BF16")} for kind, run in races.items()}

# %%
at32 = gains["batch 32"]
at_threads = f"{torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)
plots.bars(gains, marks={"as fast as FP32": 1}, xlabel="times as fast as FP32, 95 % interval over the rounds",
           title=f"At batch 32 BF16 runs {at32['BF16'].value:.1f} times as fast as FP32, FP16 {at32['FP16'].value:.1f} times",
           alt="Speed relative to FP32: " + "; ".join(
               f"{kind} " + ", ".join(f"{name} {gain:.2f}" for name, gain in row.items()) for kind, row in gains.items()) + ".")

# %%
found = torch.cpu.get_capabilities()
known = [name for name in ("f16c", "avx512_fp16", "avx512_bf16", "amx_fp16", "amx_bf16", "fp16_arith", "bf16")
         if found.get(name)]
plots.note(f"Measured on {benchmark.machine()['processor']}, {at_threads}. Of the instructions for 16-bit floats it "
           f"has: {', '.join(known) or 'none'}. `f16c` converts, `avx512` multiplies vectors, `amx` multiplies whole "
           "matrices; on ARM `fp16_arith` and `bf16` multiply. On another processor the two formats may change places, or "
           "both may be slower than FP32.")

# %% [markdown]
# ## The teacher in 8 and 4 bits, as files
#
# Speed in INT8 is the subject of lesson 08. Size can be measured now. All matrices become codes with their scales, INT8
# per channel and INT4 in groups of 64 with FP16 scales. Biases and layer norms stay in FP32.

# %%
def as_codes(bits):
    entries = {}
    for name, tensor in teacher.state_dict().items():
        if tensor.ndim < 2:
            entries[name] = tensor
            continue
        codes, scales, _ = affine.quantize_per_channel(tensor if bits == 8 else tensor.reshape(-1, 64), bits)
        entries[f"{name}.codes"] = codes if bits == 8 else formats.pack_int4(codes.flatten())
        entries[f"{name}.scales"] = scales if bits == 8 else scales.half()
    return entries

# %%
file_bytes |= {"INT8": model_size.size_on_disk(as_codes(8)), "INT4": model_size.size_on_disk(as_codes(4))}
shares = {name: 100 * size / file_bytes["FP32"] for name, size in file_bytes.items()}
plots.bars(shares, xlabel="bytes of the file (% of FP32)",
           title=f"With scales and small tensors INT4 takes {shares['INT4']:.1f} % of FP32, not 12.5 %",
           alt="File size relative to FP32: " + ", ".join(f"{name} {share:.1f} %" for name, share in shares.items()) + ".")

# %% [markdown]
# ## Try it
#
# Make your own float. Of 8 bits, how many should be exponent? The dots on top are the numbers of your format, scaled so
# that the largest falls on the largest value. Compare the weights with the gradients from above: they have a long tail.

# %%
kinds = {"weights": weight.flatten()[::16], "gradients": gradients[::16]}

def split_bits(exponent_bits=4, bits=8, values="weights"):
    made = formats.Format("yours", exponent_bits, bits - 1 - exponent_bits, "none")
    x = kinds[values] / kinds[values].abs().max()
    kept = affine.sqnr_db(x, formats.round_to(x * made.largest, made) / made.largest)
    numbers = formats.decode(torch.arange(2 ** (bits - 1)), made) / made.largest
    said = f"{exponent_bits} exponent and {made.fraction_bits} fraction bits keep {kept:.1f} dB of the {values}"
    return plots.histogram(x, marks={"numbers of the format": torch.cat([-numbers, numbers])}, log_y=True,
                           xlabel="value, divided by the largest", title=said,
                           alt=f"Histogram of {values} with the numbers of the format, which crowd at zero. {said}.")

widgets.explore(split_bits, exponent_bits=[2, 3, 4, 5], bits=[7, 8], values=["weights", "gradients"])

# %% [markdown]
# ## Claimed and measured

# %%
same = all(abs(change.value) < 0.01 for change in changes.values())
halved = all(abs(shares[name] - 50) < 1 for name in ("FP16", "BF16"))
fast = [name for name, gain in at32.items() if gain.low >= 1.5]
speeds = ", ".join(f"{name} {gain:.2f}" for name, gain in at32.items())
points = ", ".join(f"{name} {100 * change.value:+.1f}" for name, change in changes.items())
sizes = " to ".join(f"{shares[name]:.1f}" for name in ("FP32", "FP16", "INT8", "INT4"))

# %%
claims.show("02", {
    "half-precision": claims.Measured(
        f"at batch 32 times as fast as FP32: {speeds}; file {shares['FP16']:.0f} and {shares['BF16']:.0f} % of FP32; points "
        f"of accuracy: {points}", True if len(fast) == 2 and halved and same else "partly",
        f"Bytes follow from the format. Speed follows from the processor: here {' and '.join(fast) or 'neither format'} "
        "reaches 1.5 times."),
    "bytes-per-weight": claims.Measured(
        f"{sizes} (files)", "partly", "The codes alone are 100 to 50 to 25 to 12.5. Scales, biases and layer norms come on "
        "top, and weigh the more the smaller the codes are."),
})

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

# %% question="8"
quiz.ask("8", answer=...)

# %%
quiz.progress()

# %% [markdown]
# ## What to remember
#
# - A float is sign, exponent and fraction. Exponent bits buy range, fraction bits buy precision.
# - FP16 overflows: mind squares, sums and masks. Its gradients vanish: scale the loss. BF16 absorbs: add up in FP32.
# - Rounding goes to the nearest, ties to the even one. What happens beyond the largest number is a convention: name it.
# - A code is a name for a value. INT4 names even steps, NF4 quantiles, a float its own kind of steps.
# - A weight costs its code and its share of the scale. The proof is the file.
# - Half the bits are half the bytes. Whether they are half the time depends on the processor.
#
# ## Where to read on
#
# - David Goldberg, *What Every Computer Scientist Should Know About Floating-Point Arithmetic*, 1991, ACM Computing
#   Surveys 23(1): rounding, ties and subnormal numbers.
# - Paulius Micikevicius and others, *Mixed Precision Training*, 2017, arXiv 1710.03740: FP32 copies and loss scaling.
# - Dhiraj Kalamkar and others, *A Study of BFLOAT16 for Deep Learning Training*, 2019, arXiv 1905.12322.
# - Paulius Micikevicius and others, *FP8 Formats for Deep Learning*, 2022, arXiv 2209.05433: E4M3 and E5M2.
# - Tim Dettmers and others, *QLoRA: Efficient Finetuning of Quantized LLMs*, 2023, arXiv 2305.14314: NF4, in section 3.
# - Bita Darvish Rouhani and others, *Microscaling Data Formats for Deep Learning*, 2023, arXiv 2310.10537.
