# %% [markdown]
# # Quantization-aware training
#
# | | |
# |---|---|
# | You will be able to | train through fake quantization, learn its steps, say when that beats quantizing afterwards |
# | You need first | lesson 03 (the distillation loss), lesson 09 (static INT8, calibration) |
# | Minutes | 65 |
# | Points | 15 |

# %% tags=["imports"]
import torch
from torch import nn

from lessons_lib.arithmetic import affine
from lessons_lib.distillation import students
from lessons_lib.int8 import qat
from lessons_lib.measure import benchmark, model_size
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.studies import distil_classifier as classifier
from lessons_lib.studies import qat as studied
from lessons_lib.studies import study
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("10")

# %% [markdown]
# ## What if the model knew that it will be rounded?
#
# So far we trained first and rounded afterwards, each weight to its nearest code. This is **post-training
# quantization**, PTQ. Nearest is best for a weight alone. It need not be best for what the weights do together.
#
# Here are two weights that read the same input, 1. Their sum should be 0.75, and it is. Only whole numbers have codes.

# %%
trained, wanted = torch.tensor([0.45, 0.30]), 0.75
plots.grids(trained, trained.round(), torch.tensor([1.0, 0.0]), titles=["trained", "each to the nearest", "better"])

# %% [markdown]
# Rounded one by one, both become 0, and the sum is off by 0.75. The codes 1 and 0 are off by 0.25. Nobody told the
# first weight that the second one rounds down as well.
#
# **Quantization-aware training**, QAT, tells it. In every training step the weights are rounded first, and the loss is
# that of the rounded ones. Then the unrounded weights move a little. There is one obstacle.

# %% [markdown]
# ## The staircase has no slope
#
# To learn, the training needs to know how the loss changes when a weight moves a little. Draw the value read back
# against the value put in, for signed codes of 2 bits and a step of 0.5.

# %%
step, (lowest, highest) = 0.5, affine.code_range(2, signed=True)
x = torch.linspace(-1.8, 1.3, 1241, requires_grad=True)
read_back = qat.FakeQuantize.apply(x, step, 0, lowest, highest)
ends = {"lowest and highest code": [lowest * step, highest * step]}
plots.lines({"put in": (x.detach(), x.detach()), "read back": (x.detach(), read_back.detach())}, marks=ends,
            xlabel="value put in", ylabel="value", title="Every tread is flat: the true slope is 0 almost everywhere",
            alt=f"A staircase of {highest - lowest + 1} flat treads between {lowest * step} and {highest * step} "
                "crosses the diagonal once on each tread; beyond both ends it stays level.")

# %% [markdown]
# With a slope of 0 no weight ever moves. Seen from afar, though, the staircase follows the diagonal, and the diagonal
# has slope 1. So the backward pass leaves the rounding out, and keeps the clipping:
#
# $$\frac{\partial \hat{x}}{\partial x} := \begin{cases} 1 & \text{lowest} < x / \text{step} < \text{highest} \\
#   0 & \text{elsewhere} \end{cases}$$
#
# This is the **straight-through estimator** (Bengio and others, 2013). It is wrong on purpose. The next cell asks for
# it twice, from our function and from torch's.

# %%
ours, = torch.autograd.grad(read_back.sum(), x)
torchs, = torch.autograd.grad(torch.fake_quantize_per_tensor_affine(x, step, 0, lowest, highest).sum(), x)
plots.lines({"ours": (x.detach(), ours), "torch": (x.detach(), torchs)}, marks=ends,
            xlabel="value put in", ylabel="gradient that passes (share)",
            title="The two part for half a step beyond each end",
            alt=f"Both gradients are 1 between the ends and 0 far outside. Torch's stays 1 for another {step / 2} "
                f"beyond {lowest * step} and {highest * step}; ours falls to 0 at the ends.")

# %% [markdown]
# Both give the same values. They differ where a value lies beyond the last code and still rounds to it. torch asks
# whether the *rounded* value is a code. We ask the value itself, as the paper does that we come to next.
#
# In PyTorch such a rule is a class derived from `torch.autograd.Function`. Its `forward` computes and saves what
# `backward` will need; its `backward` takes the gradient for the result and returns one for each argument.

# %% [markdown]
# ### Exercise: fake quantization with a straight-through gradient

# %% exercise="fake_quantize"

# %% [markdown]
# ### The two weights again
#
# Now the two weights can learn. Each step rounds them, measures how far the sum of the rounded ones is off, and moves
# the unrounded ones.

# %%
weights, paths, losses = trained.clone().requires_grad_(), [], []
for _ in range(30):
    rounded = qat.FakeQuantize.apply(weights, 1.0, 0, -2, 1)
    loss = (rounded.sum() - wanted).square()
    slope, = torch.autograd.grad(loss, weights)
    paths.append(weights.detach().clone())
    losses.append(loss.item())
    weights = (weights.detach() - 0.023 * slope).requires_grad_()

# %%
first, second = torch.stack(paths).T
good = losses.count(min(losses))
plots.lines({"first weight": (range(30), first), "second weight": (range(30), second),
             "where 0 turns to 1": (range(30), [0.5] * 30)}, xlabel="training step", ylabel="weight before rounding",
            title=f"The first weight finds the border, and the better codes in {good} of 30 steps",
            alt=f"Both weights rise together from 0.45 and 0.30. After {losses.index(min(losses))} steps the first "
                f"crosses 0.5 and then stays near that border. In {good} of 30 steps the codes are 1 and 0.")

# %% [markdown]
# The training found the codes 1 and 0, which rounding could not. Look at what follows, too. With 1 and 0 the sum is a
# little too large, so the weight is pushed back over the border, and returns. A weight under QAT can **oscillate**
# about a border for ever. A learning rate that falls to zero, as ours does, lets it come to rest.

# %% [markdown]
# ## How do you check a gradient that is wrong on purpose?
#
# The usual check compares a gradient with a difference: move $x$ a little, see how the result moves. On a staircase the
# difference is 0. But the straight-through gradient is the exact derivative of something else. Write $v = x /
# \text{step}$ and let $c$ be $v$ clipped to the ends. Rounding adds a **residual** $r = \text{round}(c) - c$. Freeze
# that number, as if it did not depend on $x$ and the step:
#
# $$\hat{x} = \text{step} \cdot (c + r), \quad r \text{ held fixed}$$
#
# Now there is a smooth function again, and a difference means something.

# %%
values, nudge = torch.tensor([-1.3, -0.6, 0.1, 0.4, 0.7], dtype=torch.float64), 1e-6

def clipped(x, step):
    return (x / step).clamp(lowest, highest)

residual = clipped(values, step).round() - clipped(values, step)

def frozen(x, step):
    return step * (clipped(x, step) + residual)

# %%
for_values = (frozen(values + nudge, step) - frozen(values - nudge, step)) / (2 * nudge)
for_step = (frozen(values, step + nudge) - frozen(values, step - nudge)) / (2 * nudge)
plots.grids(values, for_values, for_step, titles=["values", "slope for the value", "slope for the step"])

# %% [markdown]
# The middle row is the straight-through gradient: 1 inside, 0 beyond. The last row is new. It says how the result moves
# when the **step** grows.

# %% [markdown]
# ## Learn the step as well
#
# Nobody says that the step must stay as it was chosen. LSQ, *learned step size quantization* (Esser and others, 2020),
# trains it like a weight. Its slope is the last row above, in a formula:
#
# $$\frac{\partial \hat{x}}{\partial\, \text{step}} = \begin{cases} \text{round}(v) - v & \text{lowest} < v <
#   \text{highest} \\ \text{lowest} & v \le \text{lowest} \\ \text{highest} & v \ge \text{highest} \end{cases}$$
#
# Beyond an end the value is code times step, so a larger step moves it by the code. Inside, two effects nearly cancel:
# the codes move outwards, but $v = x / \text{step}$ falls. What is left is the rounding error.

# %%
line = torch.linspace(-3.6, 2.6, 621)
slopes = torch.stack([qat.lsq_gradient(v, torch.tensor(1.0), lowest, highest, torch.tensor(1.0)) for v in line])
plots.lines({"slope for the step": (line, slopes)}, marks={"lowest and highest code": [lowest, highest]},
            xlabel="v, the value in steps", ylabel="slope for the step",
            title="Clipped values pull hardest at the step",
            alt=f"A saw between {lowest} and {highest} that never leaves -0.5 to 0.5, and level lines at {lowest} "
                f"below and at {highest} above.")

# %% [markdown]
# A step is shared by many values, and all their slopes add up. The sum would dwarf the gradient of any one weight. LSQ
# divides by $\sqrt{N\, Q_p}$, with $N$ the values that share the step and $Q_p$ the highest code. Then the step moves,
# measured by its own size, about as much as a weight does.

# %% [markdown]
# ### Exercise: the gradient of the step

# %% exercise="lsq_gradient"

# %% [markdown]
# One more thing about steps. The paper trains with plain gradient descent. We train with Adam, which moves every number
# by about the learning rate, whatever its gradient. How large are steps beside that?

# %%
some_weights = topic_classifier.sentence_encoder().encoder.layer[0].output.dense.weight
usual = {f"{bits} bits": qat.absmax_steps(some_weights, bits).median().item() for bits in studied.BITS}
table(usual, f"Steps of one matrix; our learning rate is about {studied.QAT_RATES['weights']:g}", unit="median step")

# %% [markdown]
# At 8 bits one update is about a third of the median step. A few in a row could double it or make it negative. So our
# layers keep the **logarithm** of the step (Jain and others, 2019). A move by the learning rate then means the same
# small share of any step, and a step stays positive.

# %% [markdown]
# ## A layer that trains on few bits
#
# Put both together: a linear layer that reads its input through codes and multiplies with weights that went through
# codes. Weights are signed, one step for each output channel. Inputs are unsigned with a zero point, one step for all.

# %% [markdown]
# ### Exercise: the layer
#
# Here the steps are given and fixed. There is a trick for the gradient that needs no class. In `y + (q - y).detach()`
# the `y` cancels and `q` is left. `detach` keeps autograd from seeing that, so the gradient is that of `y`.

# %% exercise="qat_linear"

# %% [markdown]
# ### Quantize what you ship: folding
#
# Before a model is used, neighbouring operations are merged. Batch normalisation after a linear layer is a factor and a
# shift for each channel once training is over. Both go into the layer, which is called **folding**:
#
# $$W' = \text{diag}(g)\, W, \qquad b' = g\,(b - \mu) + \beta, \qquad g = \gamma / \sqrt{\sigma^2 + \epsilon}$$
#
# The codes that ship are those of $W'$. If training rounds $W$, with one step for the whole matrix, it trains on other
# values than those that are used.

# %%
torch.manual_seed(0)
layer, norm = nn.Linear(4, 3), nn.BatchNorm1d(3).eval()
norm.weight.data = torch.tensor([0.3, 1.0, 2.5])
folded = qat.fold_batch_norm(layer, norm).weight.detach()

# %%
shipped = affine.round_trip(folded, 3)
trained_on = norm.weight.detach()[:, None] * affine.round_trip(layer.weight, 3)
plots.grids(shipped, trained_on, titles=["folded, then 3 bits", "3 bits, then folded"],
            title="The same layer, rounded before and after folding")

# %% [markdown]
# Same layer, other numbers. So fold first, or fold anew in every training step, and round the result. Our encoder has
# no batch normalisation: its layer norms compute mean and deviation for every token anew, so they cannot be folded.
# Something else can, as you will see when we come to integers.

# %% [markdown]
# ## A careful opponent
#
# It is tempting to let QAT win against a poor PTQ. Take 4 bits, one step for a whole matrix, chosen so that the largest
# weight still fits. This is the **straw man**. A careful PTQ has a step for each output channel. And it tries many
# steps and keeps the one with the least squared error, because clipping a few weights may pay for finer steps.

# %%
student = studied.start(studied.SEEDS[0])
matrix = student.encoder.encoder.layer[0].output.dense.weight.detach()

def with_steps(bits, steps):
    return affine.fake_quantize(matrix, steps, torch.zeros(len(matrix)), bits, signed=True, axis=0)

# %%
def signal(bits):
    """Decibels kept with a step for all, a step a channel, and the careful step a channel."""
    whole = qat.absmax_steps(matrix.reshape(1, -1), bits).repeat(len(matrix))
    tried = {"straw man": whole, "a step a channel": qat.absmax_steps(matrix, bits),
             "least squared error": qat.least_error_steps(matrix, bits)}
    return {name: affine.sqnr_db(matrix, with_steps(bits, steps)) for name, steps in tried.items()}

kept = {f"{bits} bits": signal(bits) for bits in studied.BITS}

# %%
worth = kept["4 bits"]["least squared error"] - kept["4 bits"]["straw man"]
plots.bars(kept, xlabel="signal to quantization noise (dB)", ylabel="width of the weights",
           title=f"At 4 bits care is worth {worth:.0f} dB, before any training",
           alt="Bars of the signal to noise of one weight matrix at 8, 4, 3 and 2 bits: " + "; ".join(
               f"{name}: " + ", ".join(f"{way} {value:.1f} dB" for way, value in group.items())
               for name, group in kept.items()) + ".")

# %% [markdown]
# There is a second trap. QAT trains longer than the model that PTQ starts from. So the opponent gets the same further
# training, in floating point, before it is quantized.

# %% [markdown]
# ## QAT against PTQ, over seeds
#
# One training proves little, so this is a **study**: a grid of trainings, with several seeds of each, that was run once
# by the code of this course. You run one of them again. A method **beats** another when the 95 % interval of their
# paired difference lies above zero.
#
# The study starts from the student of lesson 04, two of the teacher's six layers, that learned from all labels. All
# linear layers of the encoder are quantized; embeddings and the small head stay as they are. **W4** means weights of 4
# bits, **W4A4** that the inputs of the layers, the activations, have 4 bits too.

# %%
setup, grid = studied.SETTINGS, study.load("qat")
results = grid.table()
plots.note(f"Every student takes {setup['steps']} further steps of {classifier.SETTINGS['batch_size']} sentences: for "
           f"QAT on fake-quantized values, for PTQ in floating point. {len(studied.SEEDS)} seeds of each, "
           f"{len(results)} runs in all.")

# %% [markdown]
# The learning rate was chosen on validation sentences: for PTQ at each width by itself, for QAT once with and once
# without quantized inputs. The opponent has the finer choice.

# %%
tuned = [(width, "none" if width == studied.FLOAT else "ptq") for width in (studied.FLOAT, *studied.WIDTHS)]
tuned += [(width, "qat") for name, width in studied.TUNED_AT.items()]
scores = {way: studied.tuning(results, *way) for way in tuned}
table([{"width": width, "method": method} | {f"{rate:g}": format(tried[rate], ".1%") if rate in tried else "not tried"
                                             for rate in studied.PTQ_TRIED}
       for (width, method), tried in scores.items()], "Accuracy on validation sentences by learning rate")

# %% [markdown]
# One run of the grid, live: QAT with weights of 2 bits.

# %%
live = grid.live(studied.cell("W2", "qat", studied.SEEDS[0]))
live

# %%
plots.note(f"The live run is {'where the table expects it' if live.within else 'NOT where the table expects it'}.")

# %% [markdown]
# Now the table. First the weights alone.

# %%
def scores(method, widths, objective="labels"):
    return {width: classifier.accuracy(results, studied.rows(results, width, method, objective)) for width in widths}

afloat = scores("none", [studied.FLOAT])[studied.FLOAT]

# %%
alone, both = ([width for width in studied.WIDTHS if studied.kind(width) == kind] for kind in ("weights", "inputs"))

def drawn(widths, what):
    named = {"quantized afterwards": scores("ptq", widths), "quantization-aware": scores("qat", widths)}
    series = {name: (studied.BITS, *zip(*[(100 * score.value, 100 * score.low, 100 * score.high)
                                          for score in found.values()], strict=True)) for name, found in named.items()}
    after, aware = (found[widths[-1]] for found in named.values())
    lost = [100 * (afloat.value - score.value) for score in (after, aware)]
    return plots.lines(series | {"not quantized": ([2, 8], 2 * [100 * afloat.value])}, ylabel="test accuracy (%)",
                       xlabel="bits", title=f"{what}: 2 bits cost {lost[0]:.1f} points, trained for it {lost[1]:.1f}",
                       alt=f"Test accuracy in per cent against bits, {what.lower()}. Not quantized "
                       f"{100 * afloat.value:.1f}. " + "; ".join(
                           f"{width}: afterwards {100 * named['quantized afterwards'][width].value:.1f}, aware "
                           f"{100 * named['quantization-aware'][width].value:.1f}" for width in widths) + ".")

drawn(alone, "Weights alone")

# %%
drawn(both, "Weights and inputs")

# %%
gains = {width: studied.gain(results, width) for width in studied.WIDTHS}

def verdict(gain):
    return "beats" if gain.beats else "is beaten by" if gain.beaten else "not told apart from"

table([{"width": width, "afterwards": format(scores("ptq", [width])[width].value, ".1%"),
        "aware": format(scores("qat", [width])[width].value, ".1%"),
        "difference (points)": format(gain.scaled(100), "+.1f"), "QAT": verdict(gain) + " PTQ"}
       for width, gain in gains.items()], f"QAT minus PTQ, {len(studied.SEEDS)} seeds, same further training")

# %%
won = [width for width, gain in gains.items() if gain.beats]
open_ones = [width for width, gain in gains.items() if not (gain.beats or gain.beaten)]
lost = [width for width, gain in gains.items() if gain.beaten]
plots.note(f"QAT beats the careful PTQ at {', '.join(won) or 'no width'}. It is not told apart from it at "
           f"{', '.join(open_ones) or 'no width'}, and is beaten at {', '.join(lost) or 'no width'}.")

# %% [markdown]
# This is narrower than what textbooks promise. With **weights alone** the careful PTQ is not beaten at any width, not
# even at 2 bits. A step for each channel, chosen by squared error, costs this student little, and where there is little
# error there is little to win back.
#
# With **inputs** of three or two bits as well, QAT wins. Inputs are harder than weights: one range serves all channels
# of all tokens, and it was chosen from a few sentences. A likely reason for the gain, which the study does not test:
# where errors are large, training can arrange them so that one makes up for another. Rounding cannot.
#
# Three things to hold against this table:
#
# - QAT had one learning rate for all widths of a kind, chosen at a narrow one. At 8 bits a smaller one may cost less.
# - For PTQ with weights of 2 and 3 bits the smallest rate that was tried did best: the less it trained further, the
#   less there was to lose by rounding. A still smaller rate might do a little more.
# - A gain that three seeds do not show may still be there. Look how wide the intervals are.
#
# ### The straw man
#
# And this is how the same QAT looks at 4 bits against a PTQ with one step for a whole matrix.

# %%
against = {"one step a matrix, largest value fits": studied.gain(results, "W4", "qat", "absmax"),
           "a step a channel, least squared error": studied.gain(results, "W4", "qat", "ptq")}
straw, careful = (f"{100 * gain.value:+.1f}" for gain in against.values())
plots.bars({name: gain.scaled(100) for name, gain in against.items()}, ylabel="PTQ at W4",
           xlabel="accuracy of QAT minus that of PTQ (points)",
           title=f"QAT gains {straw} points on the straw man, {careful} on a careful PTQ",
           alt="Bars of the accuracy of QAT minus that of two PTQs at W4, in points with intervals: " + "; ".join(
               f"{name} {gain.scaled(100):+.1f}" for name, gain in against.items()) + ".")

# %%
by_care = studied.gain(results, "W4", "ptq", "absmax")
plots.note(f"Careful steps alone are worth {by_care.scaled(100):+.1f} points at W4, with the same training. Where a "
           "paper reports a large gain of QAT, look up which PTQ it was compared with.")

# %% [markdown]
# ## Distil into the quantized student
#
# So far the further steps followed the labels. They can follow a teacher instead: the distillation loss of lesson 03,
# computed with the quantized student. This is quantization-aware knowledge distillation, **QKD** (Kim and others,
# 2019). Two questions belong apart:
#
# - Is it better than QAT on labels?
# - Is it better than distilling in floating point and quantizing afterwards?

# %%
widths = [width for width in studied.DISTILLED if width != studied.FLOAT]
than_labels = {width: studied.gain(results, width, "qat", "qat", "teacher", "labels") for width in widths}
than_after = {width: studied.gain(results, width, "qat", "ptq", "teacher", "teacher") for width in widths}

def beaten(gains):
    return ", ".join(width for width, gain in gains.items() if gain.beats) or "no width"

# %%
plots.bars({width: {"against QAT on labels": than_labels[width].scaled(100),
                    "against distilling, then PTQ": than_after[width].scaled(100)} for width in widths},
           xlabel="accuracy of QKD minus that of the other (points)", ylabel="width",
           title=f"QKD beats distilling before PTQ at {beaten(than_after)}; QAT on labels at {beaten(than_labels)}",
           alt="Bars of the accuracy of QKD minus two others, in points with intervals: " + "; ".join(
               f"{width}: against QAT {than_labels[width].scaled(100):+.1f}, against distilling and then PTQ "
               f"{than_after[width].scaled(100):+.1f}" for width in widths) + ".")

# %%
soft = studied.gain(results, studied.FLOAT, "none", "none", "teacher", "labels")
plots.note(f"For comparison: without any quantization, following the teacher instead of the labels is worth "
           f"{soft.scaled(100):+.1f} points in these steps. Only what QKD gains over QAT beyond that could come from the "
           f"meeting of the two, and QKD beats QAT at {beaten(than_labels)}.")

# %% [markdown]
# ## From fake to real: integers
#
# A fake-quantized layer still multiplies floating-point numbers. They are all code times step, though, and the steps
# can be taken out of the sum. With input codes $q$ and zero point $z$, weight codes $p$, and steps $s$ and $t$:
#
# $$y_j = s\, t_j \sum_k (q_k - z)\, p_{jk} + b_j
#      = s\, t_j \sum_k q_k\, p_{jk} + \Big( b_j - s\, t_j\, z \sum_k p_{jk} \Big)$$
#
# The bracket does not depend on the input. It is computed once and **folded into the bias**. What is left is a product
# of integers, `torch._int_mm` from lesson 08, and one multiplication at the end.
#
# Take the student, train it for a few steps with 8 bits for both, and convert it.

# %%
aware = studied.prepared(student, "W8A8")
students.distil(aware, students.transfer_data("full", "topic", 0.9, seed=0), alpha=0.0, T=1.0,
                  lr=studied.QAT_RATES["inputs"], seed=0, steps=8)
integer = qat.convert(aware)

# %%
sentences = bbc.sentences("test").select(range(0, 600, 3))
batch = topic_classifier.tokenize(sentences["text"][:64])
inputs = qat.linear_inputs(student, batch)

def codes_apart(name):
    """How many codes of 8 bits, over the range of the output, the two layers' outputs lie apart at most."""
    with torch.no_grad():
        fake, real = (model.get_submodule(name)(inputs[name]) for model in (aware, integer))
    scale = affine.choose_qparams(fake.min().item(), fake.max().item(), 8)
    return (affine.quantize(real, *scale, 8).int() - affine.quantize(fake, *scale, 8).int()).abs().max().item()

apart = {name: codes_apart(name) for name in inputs}
plots.note(f"Given the same input, the outputs of {len(apart)} integer layers and their fake-quantized twins lie at "
           f"most **{max(apart.values())}** code apart.")

# %% [markdown]
# A layer agrees because both compute with the same codes; only the last digits differ. In a whole model such a digit
# can push a value over a half step in the next layer, and the codes part from there. How far?

# %%
logits = [topic_classifier.predict_logits(model, sentences["text"]) for model in (student, aware, integer)]
same = (logits[1].argmax(1) == logits[2].argmax(1)).float().mean().item()
off = (logits[2] - logits[1]).abs().max().item()
span = (logits[1].max() - logits[1].min()).item()
plots.note(f"Over {len(sentences)} sentences the logits of the whole model differ by {off:.3f} at most, on a range of "
           f"{span:.1f}; {same:.1%} of the answers are the same.")

# %%
with torch.no_grad():
    timing = benchmark.compare({"FP32": lambda: student(**batch), "fake-quantized": lambda: aware(**batch),
                              "integers": lambda: integer(**batch)}, repeats=8, warmup=2)
sizes = {"FP32": student, "fake-quantized": aware, "integers": integer}
table({name: {"megabytes on disk": model_size.size_on_disk(model) / 1e6, "p50, ms": timing.timings[name].p50,
              "p95, ms": timing.timings[name].p95} for name, model in sizes.items()}, "A batch of 64 sentences")

# %%
faster = timing.ratio("FP32", "integers")
smaller = 1 - model_size.size_on_disk(integer) / model_size.size_on_disk(student)
plots.note(f"FP32 takes {faster.value:.2f} times as long as the integers on this machine. The file is {smaller:.0%} "
           "smaller; what is left is mostly the embedding table, which nobody quantized here.")

# %% [markdown]
# ## Try it
#
# One row of real weights, and the step in your hand. Where do the codes stand? Which way would LSQ move the step if all
# that counted were the squared error of this row?

# %%
row = matrix[0]

def choose_step(bits=2, share=1.0):
    low, high = affine.code_range(bits, signed=True)
    step = share * qat.absmax_steps(row[None], bits)
    codes = torch.arange(low, high + 1) * step
    error = qat.LearnedStep.apply(row, step[0], low, high) - row
    slope = qat.lsq_gradient(row, step[0], low, high, 2 * error).item()
    way = "grow" if slope < 0 else "shrink"
    return plots.histogram(row, marks={"codes": codes}, xlabel="weight",
                           title=f"Squared error {error.square().sum():.3f}; the step would {way}",
                           alt=f"Histogram of {len(row)} weights of one row with {len(codes)} codes {step.item():.3f} "
                               f"apart. The squared error is {error.square().sum():.3f} and the step would {way}.")

widgets.explore(choose_step, bits=(2, 4, 1), share=(0.1, 1.0, 0.1))

# %% [markdown]
# ## Claimed and measured

# %%
cost = sum(row.seconds for row in results if row["method"] == "qat") / sum(row["method"] == "qat" for row in results)
fewest = {name: 100 * (afloat.value - scores(name, ["W2"])["W2"].value) for name in ("ptq", "qat")}
fewest_both = {name: 100 * (afloat.value - scores(name, ["W2A2"])["W2A2"].value) for name in ("ptq", "qat")}

# %%
claims.show("10", {
    "qat-best": claims.Measured(
        f"beats a careful PTQ with the same further training at {', '.join(won) or 'no width'}; not told apart at "
        f"{', '.join(open_ones) or 'none'}; {cost:.0f} s of training and test a run",
        agrees=True if len(won) == len(gains) else "partly" if won else False,
        why="With weights alone a careful choice of steps leaves little to win back; with inputs of few bits there is "
            "more. The price is paid everywhere."),
    "qkd": claims.Measured(
        "distilled into the quantized student minus distilled, then quantized: " + ", ".join(
            f"{width} {gain.scaled(100):+.1f} points" for width, gain in than_after.items()),
        agrees=True if all(gain.beats for gain in than_after.values())
        else "partly" if any(gain.beats for gain in than_after.values()) else False,
        why=f"Against QAT on the labels it wins at {beaten(than_labels)}: how much the teacher adds to the training on "
            "codes is not settled by three seeds."),
    "low-bits": claims.Measured(
        f"2 bits cost {fewest['ptq']:.1f} points with weights alone and {fewest_both['ptq']:.1f} with inputs, chosen "
        f"by squared error; trained for it {fewest['qat']:.1f} and {fewest_both['qat']:.1f}",
        agrees=bool(gains["W2A2"].beats and fewest_both["ptq"] > 2),
        why="With two bits for the inputs too, training for them wins most of the loss back. With weights alone careful "
            "steps had lost little."),
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
# - Fake quantization computes with the values that codes stand for. Backward, the rounding is left out and the clipping
#   stays.
# - Such a gradient is checked with the rounding residual held fixed.
# - A step can be learned: values beyond the ends pull with their code, values inside with their rounding error.
# - Compare QAT with a careful PTQ that had the same training. It pays where bits are few.
# - Fold first, then quantize. Scales and zero points end up outside the sum, and integers do the rest.
#
# ## Where to read on
#
# - *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation*, Bengio, Léonard,
#   Courville, 2013, arXiv:1308.3432
# - *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*, Jacob and others,
#   2018, arXiv:1712.05877
# - *Learned Step Size Quantization*, Esser, McKinstry, Bablani, Appuswamy, Modha, 2020, arXiv:1902.08153
# - *Trained Quantization Thresholds for Accurate and Efficient Fixed-Point Inference of Deep Neural Networks*, Jain,
#   Gural, Wu, Dick, 2019, arXiv:1903.08066
# - *QKD: Quantization-aware Knowledge Distillation*, Kim, Bhalgat, Lee, Patel, Kwak, 2019, arXiv:1911.12491

# %%
quiz.progress()
