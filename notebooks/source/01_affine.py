# %% [markdown]
# # Affine quantization
#
# | | |
# |---|---|
# | You will be able to | quantize weights and read them back, weigh rounding against clipping, choose who shares a scale |
# | You need first | lesson 00 (how to check an exercise and answer a question) |
# | Minutes | 70 |
# | Points | 21 |

# %% tags=["imports"]
import copy

import torch

from lessons_lib.arithmetic import affine
from lessons_lib.measure import intervals
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("01")

# %% [markdown]
# ## How does a real number become a small integer?
#
# A weight in FP32 takes 32 bits. If 256 different values were enough, 8 bits would do: store a whole number from 0 to
# 255, its **code**, and remember how to read the code back.
#
# Start with five weights, few enough to follow by hand.

# %%
weights = torch.tensor([-0.5, 0.2, 0.8, -0.3, 0.5])
low, high, bits = weights.min().item(), weights.max().item(), 8

# %% [markdown]
# **Step 1, the scale.** Lay the 256 codes evenly over the range of the weights. The distance between two neighbours is
# the *scale*. 256 posts have 255 gaps between them:
#
# $$\text{scale} = \frac{\text{high} - \text{low}}{2^{\text{bits}} - 1}$$

# %%
scale = (high - low) / (2**bits - 1)
scale

# %% [markdown]
# **Step 2, the zero point.** Which code stands for the real value 0? Zero lies `-low / scale` steps above the lowest
# weight. Round that to a whole number, so that 0 has a code of its own. This code is the *zero point*.
#
# $$\text{zero point} = \text{round}\left(-\frac{\text{low}}{\text{scale}}\right)$$

# %%
zero_point = round(-low / scale)
zero_point

# %% [markdown]
# **Step 3, the codes.** Count the steps from zero, round, and shift by the zero point. A value beyond the ends gets the
# code of that end. To read a code back, undo the shift and multiply.
#
# $$q = \text{clamp}\left(\text{round}\left(\frac{x}{\text{scale}}\right) + \text{zero point},\; 0,\;
# 2^{\text{bits}} - 1\right)$$
#
# $$x' = (q - \text{zero point}) \cdot \text{scale}$$

# %%
codes = ((weights / scale).round() + zero_point).clamp(0, 2**bits - 1).to(torch.uint8)
restored = (codes.float() - zero_point) * scale
plots.grids(weights, codes, restored, weights - restored, titles=["weights", "codes", "read back", "error"])

# %% [markdown]
# This map is called **affine**: a factor and a shift. The way back is not exact. The last row is what quantization
# costs.

# %%
plots.note(f"The largest error is {(weights - restored).abs().max():.4f}. Half a step is {scale / 2:.4f}: inside the "
           "range, rounding to the nearest code is never further off than that.")

# %% [markdown]
# ### Exercise: scale and zero point
#
# One case needs care. A range such as 2 to 5 does not hold zero. Its zero point would be no code at all, so the range
# is widened to 0 to 5 first.

# %% exercise="choose_qparams"

# %% [markdown]
# ### Exercise: values to codes

# %% exercise="quantize"

# %% [markdown]
# ### Exercise: codes to values

# %% exercise="dequantize"

# %% [markdown]
# ## Where may two right answers differ?
#
# On a half step. The formula divides by the scale. torch multiplies by `1 / scale`, both in FP32, which is quicker and
# rounds once more. Away from half steps both give the same code. On a half step the last bit decides.

# %%
step = 0.3
halves = (torch.arange(-100, 100) + 0.5) * step
divided = (halves / step).round()
multiplied = (halves * (1 / torch.tensor(step))).round()
plots.note(f"Of {len(halves)} values placed on half steps, {(divided != multiplied).sum()} get another code. "
           "No exercise asks about them.")

# %% [markdown]
# From here on we use `lessons_lib.arithmetic.affine`, which does it torch's way. Does it agree with torch to the last
# bit?

# %%
x = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))
ours = affine.fake_quantize(x, 0.02, 120, bits=8)
torch.equal(ours, torch.fake_quantize_per_tensor_affine(x, 0.02, 120, 0, 255))

# %% [markdown]
# *Fake* quantization means: to codes and back at once. The result is FP32, but holds only values that have a code.
#
# ## What does the error look like?
#
# Take 3 bits, so that the eight codes can be seen, and draw the value read back for every value put in.

# %%
line = torch.linspace(-0.7, 1.0, 681)
scale3, zero3 = affine.choose_qparams(-0.5, 0.8, bits=3)
steps = affine.fake_quantize(line, scale3, zero3, bits=3)
ends = [-zero3 * scale3, (7 - zero3) * scale3]
plots.lines({"put in": (line, line), "read back (3 bits)": (line, steps)}, marks={"lowest and highest code": ends},
            xlabel="value put in", ylabel="value",
            title="Inside the range the error is at most half a step; outside it grows without bound",
            alt=f"A staircase of 8 treads, {scale3:.3f} wide, follows the diagonal between {ends[0]:.2f} and "
                f"{ends[1]:.2f}. Beyond both ends it stays level while the diagonal goes on.")

# %% [markdown]
# Two errors, then. Inside the range, **rounding**: at most half a step. Outside it, **clipping**: as large as the
# distance to the end of the range. We shall trade one for the other below.
#
# ## Unsigned or signed codes?
#
# Codes 0 to 255 are *unsigned* (`uint8`). Many kernels want *signed* ones, -128 to 127 (`int8`). Both are called INT8.
# They hold the same values: subtract 128 from every code, and from the zero point.

# %%
unsigned = affine.quantize(weights, *affine.choose_qparams(low, high, 8), 8)
signed = affine.quantize(weights, *affine.choose_qparams(low, high, 8, signed=True), 8, signed=True)
plots.grids(unsigned, signed, unsigned.int() - signed.int(), titles=["unsigned", "signed", "difference"])

# %% [markdown]
# The difference is the same everywhere, so nothing was gained or lost. Mixing the two up is a common bug: all values
# are then off by 128 steps.
#
# ## Why must zero be exact?
#
# A ReLU turns every negative value into exactly 0. Suppose zero had no code, because the codes were laid out from the
# low end of the range, here -0.1, wherever they fall. Then every 0 comes back as some other value. Try it with 4 bits.

# %%
outputs = torch.relu(torch.randn(100_000, generator=torch.Generator().manual_seed(1)))
step4 = (outputs.max().item() + 0.1) / 15
without_zero = ((outputs + 0.1) / step4).round() * step4 - 0.1
with_zero = affine.fake_quantize(outputs, *affine.choose_qparams(-0.1, outputs.max().item(), 4), 4)

# %%
def harm(restored):
    return {"a 0 comes back as": restored[outputs == 0].mean(),
            "error of the sum of all (%)": 100 * (restored.sum() / outputs.sum() - 1)}

table({"zero has a code": harm(with_zero), "zero has none": harm(without_zero)})

# %% [markdown]
# Rounding errors elsewhere have both signs, and in a sum most of them cancel. An error at zero has one sign and is
# repeated at every zero. It does not cancel. That is why the range is widened to hold zero and the zero point is a
# whole number.
#
# ## Symmetric or asymmetric?
#
# The weights of a layer lie around zero. If we choose the range `-m` to `m`, the signed zero point is 0 and disappears
# from all formulas. This is the **symmetric** scheme:
#
# $$\text{scale} = \frac{m}{2^{\text{bits} - 1} - 1}, \qquad \text{zero point} = 0$$
#
# What does it cost where the values are not around zero? We need a yardstick first.
#
# ### The yardstick: signal to noise
#
# An error of 0.01 is large for weights around 0.02 and nothing for weights around 5. So compare the power of the error
# with the power of the signal. The ratio is given in **decibels**: 10 dB is a factor of 10, 20 dB a factor of 100.
#
# $$\text{SQNR} = 10 \log_{10} \frac{\sum x^2}{\sum (x - x')^2}$$

# %% exercise="sqnr_db"

# %% [markdown]
# Now compare both schemes at 8 bits: on a real layer of the topic teacher, and on outputs of a ReLU, which are never
# negative.

# %%
teacher = topic_classifier.topic_teacher()
layer = teacher.encoder.encoder.layer[1].attention.self.query.weight

def by_scheme(x, symmetric):
    qparams = affine.choose_qparams(x.min(), x.max(), 8, signed=True, symmetric=symmetric)
    return affine.sqnr_db(x, affine.fake_quantize(x, *qparams, 8, signed=True))

# %%
schemes = {name: {"symmetric (dB)": by_scheme(x, True), "asymmetric (dB)": by_scheme(x, False)}
           for name, x in {"weights of a layer": layer, "outputs of a ReLU": outputs}.items()}
table(schemes)

# %%
lost = {name: row["asymmetric (dB)"] - row["symmetric (dB)"] for name, row in schemes.items()}
plots.note(f"The symmetric scheme costs {lost['weights of a layer']:.1f} dB on the weights and "
           f"{lost['outputs of a ReLU']:.1f} dB on the outputs: they use no negative code, and half of the codes is one bit.")

# %% [markdown]
# Hence the usual choice: weights symmetric, activations asymmetric.
#
# ## What is one bit worth?
#
# One bit more halves the step. Half the step is a quarter of the squared error, and a factor of 4 is 6.02 dB. Measure
# it.

# %%
widths = list(range(3, 13))
uniform = torch.rand(layer.numel(), generator=torch.Generator().manual_seed(2)) * 2 - 1
curves = {name: [affine.sqnr_db(x, affine.round_trip(x, b)) for b in widths]
          for name, x in {"evenly spread numbers": uniform, "weights of a layer": layer}.items()}
slope = {name: (y[-1] - y[2]) / (widths[-1] - widths[2]) for name, y in curves.items()}

# %%
plots.lines({name: (widths, y) for name, y in curves.items()}, xlabel="bits", ylabel="SQNR (dB)",
            title=f"Each bit buys {slope['weights of a layer']:.1f} dB, whatever the shape of the histogram",
            alt="Two straight, parallel lines from 3 to 12 bits. At 8 bits the evenly spread numbers reach "
                f"{curves['evenly spread numbers'][5]:.0f} dB, the weights {curves['weights of a layer'][5]:.0f} dB.")

# %% [markdown]
# The slope is the same, the height is not. The weights crowd around zero and their range is set by a few large ones, so
# most codes stand where hardly any weight is.
#
# ## Must the range reach the largest weight?
#
# Here is a layer with a long tail. Its histogram has a logarithmic axis, or the tail would not be seen.

# %%
tailed = teacher.encoder.encoder.layer[0].attention.output.dense.weight
reach = tailed.abs().max().item()
inside = (tailed.abs() <= reach / 4).double().mean().item()
plots.histogram(tailed, marks={"a quarter of the range": [-reach / 4, reach / 4]}, log_y=True, xlabel="weight",
                title=f"{inside:.2%} of the weights use a quarter of the range",
                alt=f"Histogram of {tailed.numel():,} weights, count on a logarithmic axis: a tall peak within "
                    f"±{reach / 4:.2f} and a few single weights out to {reach:.2f}.")

# %% [markdown]
# If we cut the range, the step gets finer for almost all weights (less rounding error), and the few beyond the end are
# pulled in (more clipping error). Try shares of the range at 4 bits and add the two errors up.

# %%
shares = [i / 100 for i in range(5, 41)]
errors = [affine.clip_errors(tailed, -share * reach, share * reach, bits=4) for share in shares]
rounding, clipping = zip(*errors, strict=True)
total = [sum(pair) for pair in errors]
best_share = shares[total.index(min(total))]
gain = sum(affine.clip_errors(tailed, -reach, reach, bits=4)) / min(total)

# %%
plots.lines({"rounding": (shares, rounding), "clipping": (shares, clipping), "both": (shares, total)},
            marks={"least error": best_share}, xlabel="share of the full range", ylabel="mean squared error",
            title=f"At 4 bits the best range is {best_share:.0%} of the full one, with an error {gain:.0f} times smaller",
            alt="Rounding error rises with the share of the range, clipping error falls. Their sum is least at "
                f"{best_share:.0%} of the range, {gain:.0f} times below the error of the full range.")

# %% [markdown]
# How far does the best range depend on the bits? Predict before you run the next cell: does it get wider or narrower
# when there are more bits? (The library's search takes steps of 2.5 % of the range, coarser than those above.)

# %%
def clip_row(bits):
    best = affine.best_clip(tailed, bits, steps=40)
    qparams = affine.choose_qparams(*best, bits, signed=True, symmetric=True)
    return {"best share of the range": best[1] / reach,
            "full range (dB)": affine.sqnr_db(tailed, affine.round_trip(tailed, bits)),
            "best range (dB)": affine.sqnr_db(tailed, affine.fake_quantize(tailed, *qparams, bits, signed=True))}

table({f"{bits} bits": clip_row(bits) for bits in (3, 4, 6, 8)})

# %% [markdown]
# With more bits the step is fine anyway, and cutting weights off costs more than it saves.
#
# ## One scale for how many weights?
#
# A few large weights spoil the step for all others that share their scale. So let fewer weights share one. Here are
# three output channels (rows) of very different size, at 4 bits.

# %%
rows = torch.tensor([[0.02, -0.01, 0.03, 0.07], [0.5, -0.2, 0.7, 0.1], [4.0, -7.0, 2.0, 1.0]])
plots.grids(rows, affine.round_trip(rows, 4, "tensor"), affine.round_trip(rows, 4, "channel"),
            titles=["weights", "one scale", "a scale a row"])

# %% [markdown]
# With one scale for the whole **tensor** the step is 1, and the two small rows all but vanish. With a scale for each
# output **channel** each row keeps its own step. The matrix product allows it: an output is the sum over one row, so
# its scale can be multiplied in at the end.

# %% exercise="quantize_per_channel"

# %% [markdown]
# A large weight now spoils only its own row. One can go on: a scale for each **group** of, say, 64 neighbours in a row.
# Scales take room too. What do they cost? Count the bytes of codes and of FP32 scales for one layer.

# %%
feed_forward = teacher.encoder.encoder.layer[0].output.dense.weight
scales = {"tensor": 1, "channel": feed_forward.shape[0], "group": feed_forward.numel() // 64}
table({f"per {per}": {"code bytes": feed_forward.numel(), "scale bytes": 4 * count,
                      "bits a weight": 8 + 32 * count / feed_forward.numel(),
                      "SQNR (dB)": affine.sqnr_db(feed_forward, affine.round_trip(feed_forward, 8, per))}
       for per, count in scales.items()})

# %% [markdown]
# ## Every linear weight of the teacher
#
# One layer is an anecdote. Take all of them, in the order in which a sentence passes through. Every sixth is the second
# feed-forward matrix of a block.

# %%
linears = {name: module.weight for name, module in teacher.named_modules() if isinstance(module, torch.nn.Linear)}
order = list(range(1, len(linears) + 1))
found = {f"per {per}": [affine.sqnr_db(w, affine.round_trip(w, 8, per)) for w in linears.values()]
         for per in ("tensor", "channel", "group")}
worst = min(range(len(order)), key=lambda i: found["per tensor"][i])

# %%
plots.lines({name: (order, y) for name, y in found.items()}, xlabel="linear layer, from input to output",
            ylabel="SQNR at 8 bits (dB)",
            title=f"One scale per tensor falls to {found['per tensor'][worst]:.0f} dB; one per channel stays above "
                  f"{int(min(found['per channel']))} dB",
            alt=f"Three lines over {len(order)} layers. Per group is level near "
                f"{sum(found['per group']) / len(order):.0f} dB, per channel a little below with shallow dips. Per tensor "
                f"is lowest and has a deep dip every sixth layer, the deepest at layer {worst + 1}.")

# %%
name, weight = list(linears.items())[worst]
gained = [c - t for c, t in zip(found["per channel"], found["per tensor"], strict=True)]
plots.note(f"The deepest dip is `{name}`: its largest weight is {weight.abs().max() / weight.std():.0f} standard deviations "
           f"from zero. A scale per channel gains {min(gained):.0f} to {max(gained):.0f} dB on a layer.")

# %% [markdown]
# ### Does the model notice?
#
# Decibels are a means. What counts is how many sentences the teacher still gets right. Quantize all its linear weights
# and ask it again, on sentences of the test documents.

# %%
@torch.no_grad()
def quantized(bits, per):
    model = copy.deepcopy(teacher)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.copy_(affine.round_trip(module.weight, bits, per))
    return model

# %%
test = bbc.sentences("test").shuffle(seed=0).select(range(240))
topics, documents = torch.tensor(test["topic"]), test["document"]

def right(model):
    return (topic_classifier.predict_logits(model, test["text"]).argmax(1) == topics).int().tolist()

kinds = [(8, "tensor"), (8, "channel"), (4, "tensor"), (4, "channel"), (4, "group")]
answers = {"FP32": right(teacher)} | {f"{bits} bits per {per}": right(quantized(bits, per)) for bits, per in kinds}

# %%
scores = {name: intervals.accuracy(correct, documents) for name, correct in answers.items()}
percent = {name: tuple(100 * end for end in (s.value, s.low, s.high)) for name, s in scores.items()}
plots.bars(percent, marks={"guessing one of five": 20}, xlabel="accuracy on test sentences (%), 95 % interval",
           title=f"At 4 bits one scale per tensor leaves {percent['4 bits per tensor'][0]:.0f} %, a scale per channel "
                 f"{percent['4 bits per channel'][0]:.0f} %",
           alt="Accuracy, " + ", ".join(f"{name} {value[0]:.1f} %" for name, value in percent.items()) + ".")

# %% [markdown]
# The intervals are wide: these sentences are a small test. But every variant was asked the same sentences, so
# the *difference* of two variants is known better than either score.

# %%
def gain_over_tensor(bits):
    pair = answers[f"{bits} bits per channel"], answers[f"{bits} bits per tensor"]
    return intervals.paired_difference(*pair, documents)

gains = {f"{bits} bits": gain_over_tensor(bits) for bits in (8, 4)}
gained_points = {name: f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
                 for name, gain in gains.items()}
table(gained_points, unit="accuracy per channel minus per tensor (points), 95 % interval")

# %% [markdown]
# ## A product without floats
#
# So far we read codes back to FP32 before using them. Hardware does better: it multiplies the codes themselves. Put
# $x = (q_x - z_x)\, s_x$ and $w = (q_w - z_w)\, s_w$ into a matrix product. The scales can be taken out of the sum:
#
# $$\sum_k x_{ik} w_{kj} = s_x s_w \sum_k (q_{x,ik} - z_x)(q_{w,kj} - z_w)$$
#
# The sum holds integers alone. A product of two 8-bit numbers needs 16 bits, a sum of many more, so it is kept in a
# 32-bit integer, the **accumulator**.

# %%
a, b = torch.tensor([[3, 5], [4, 9]], dtype=torch.uint8), torch.tensor([[2, -1], [-1, 0]], dtype=torch.int8)
plots.grids(a, b, affine.int_matmul(a, 4, b, 0), titles=["a, zero point 4", "b, zero point 0", "int32 product"])

# %% exercise="int_matmul"

# %% [markdown]
# ### Back to 8 bits
#
# The next layer wants 8-bit codes again, so the accumulator must be **requantized**. The factor is a real number, below
# 1 in practice:
#
# $$q_y = z_y + \text{round}\left(M \cdot \text{accumulator}\right), \qquad M = \frac{s_x s_w}{s_y}$$
#
# No float is needed for it either. Write $M$ as a 31-bit integer over a power of two: multiply, then shift right. Take
# 0.0037 as an example.

# %%
mantissa, shift = affine.fixed_point(0.0037)
off = abs(mantissa / 2**shift / 0.0037 - 1)
plots.note(f"{mantissa:,} / 2^{shift} is 0.0037 but for {off:.0e} of its value.")

# %% [markdown]
# Now a real layer: the word vectors of a few sentences go into the first query layer of the teacher. Activations are
# unsigned and asymmetric, weights signed and symmetric.

# %%
with torch.no_grad():
    words = teacher.encoder.embeddings(topic_classifier.tokenize(test["text"][:8])["input_ids"]).flatten(0, 1)
query = teacher.encoder.encoder.layer[0].attention.self.query.weight.t()
exact = words @ query

# %%
x_scale, x_zero = affine.choose_qparams(words.min(), words.max(), 8)
w_scale, w_zero = affine.choose_qparams(query.min(), query.max(), 8, signed=True, symmetric=True)
y_scale, y_zero = affine.choose_qparams(exact.min(), exact.max(), 8)
x_codes = affine.quantize(words, x_scale, x_zero, 8)
w_codes = affine.quantize(query, w_scale, w_zero, 8, signed=True)

# %%
sums = affine.int_matmul(x_codes, x_zero, w_codes, w_zero)                           # int32
y_codes = affine.requantize(sums, x_scale * w_scale / y_scale, y_zero, 8)            # uint8, no float on the way
in_floats = affine.dequantize(x_codes, x_scale, x_zero) @ affine.dequantize(w_codes, w_scale, w_zero)
float_codes = affine.quantize(in_floats, y_scale, y_zero, 8)
apart = (y_codes.int() - float_codes.int()).abs()

# %%
kept = affine.sqnr_db(exact, affine.dequantize(y_codes, y_scale, y_zero))
plots.note(f"Of {y_codes.numel():,} output codes, {(apart > 0).sum():,} differ from the same product done in floats. The "
           f"largest accumulator is {sums.abs().max():,}; int32 holds {2**31 - 1:,}. Against the FP32 layer the result keeps "
           f"{kept:.1f} dB: inputs, weights and outputs were each quantized once, per tensor.")

# %% [markdown]
# Whether this is *faster* than FP32 depends on the processor. Lesson 08 measures it.
#
# ## Try it
#
# Turn three knobs on the layer with the long tail. The dots above the histogram are the values that have a code. Which
# setting keeps the most decibels at 4 bits?

# %%
def on_histogram(bits=4, share_of_range=1.0, scheme="symmetric"):
    low, high = (share_of_range * end.item() for end in (tailed.min(), tailed.max()))
    scale, zero = affine.choose_qparams(low, high, bits, signed=True, symmetric=scheme == "symmetric")
    codes = affine.quantize(tailed, scale, zero, bits, signed=True)
    lowest, highest = affine.code_range(bits, signed=True)
    values = (torch.arange(lowest, highest + 1) - zero) * scale
    kept = affine.sqnr_db(tailed, affine.dequantize(codes, scale, zero))
    used = f"{len(codes.unique())} of {len(values)} codes in use"
    said = f"{bits} bits, {scheme}, {share_of_range:.0%} of the range: {kept:.1f} dB, {used}"
    return plots.histogram(tailed, marks={"values with a code": values}, log_y=True, xlabel="weight", title=said,
                           alt=f"Histogram of a layer's weights with the values that have a code. {said}.")

widgets.explore(on_histogram, bits=[2, 3, 4, 5, 6, 8], share_of_range=[0.05, 0.1, 0.2, 0.3, 0.5, 1.0],
                scheme=["symmetric", "asymmetric"])

# %% [markdown]
# ## Claimed and measured

# %%
example = f"scale {scale:.4f}, zero point {zero_point}, codes {', '.join(map(str, codes.tolist()))}"
agrees = (round(scale, 4), zero_point, codes.tolist()) == (0.0051, 98, [0, 137, 255, 39, 196])
better = [name for name, gain in gains.items() if gain.low > 0]
verdict = {2: True, 1: "partly", 0: None}[len(better)]
shown = ", ".join(f"at {name} {points} points" for name, points in gained_points.items())

# %%
claims.show("01", {
    "affine-example": claims.Measured(example, agrees, "It is arithmetic: the same on every machine."),
    "per-channel": claims.Measured(f"per channel minus per tensor: {shown}", verdict,
                                   f"A few large weights set the step of a whole tensor. With {len(topics)} sentences the "
                                   f"interval lies above zero at {' and '.join(better) or 'no width'}."),
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
# - A code is a count of steps from zero, shifted by the zero point: `round(x / scale) + zero_point`, clamped.
# - Unsigned and signed codes hold the same values. Zero always has a code.
# - Rounding errs by at most half a step, and each bit fewer doubles the step: 6 dB. Clipping errs by what it cuts off.
# - The fewer bits, the narrower the best range.
# - Weights that share a scale share the step of the largest among them. A scale per channel costs next to nothing.
# - Codes can be multiplied as they are: int32 accumulator, one factor at the end.
#
# ## Where to read on
#
# - Benoit Jacob and others, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
#   Inference*, 2018, arXiv 1712.05877: the arithmetic of this lesson, in sections 2.1 to 2.3.
# - Raghuraman Krishnamoorthi, *Quantizing deep convolutional networks for efficient inference: A whitepaper*, 2018,
#   arXiv 1806.08342: per tensor and per channel, measured.
# - Markus Nagel and others, *A White Paper on Neural Network Quantization*, 2021, arXiv 2106.08295: ranges, clipping and
#   how to find out what went wrong.
