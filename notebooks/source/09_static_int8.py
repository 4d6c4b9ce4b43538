# %% [markdown]
# # Static INT8
#
# | | |
# |---|---|
# | You will be able to | calibrate activation ranges, see what poor data do to them, and smooth outliers away |
# | You need first | lesson 08 (dynamic INT8: codes for activations, scales taken out of the sum) |
# | Minutes | 70 |
# | Points | 15 |

# %% tags=["imports"]
import copy
import random

import torch
from torch import nn

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import dynamic, observers, torch_ao
from lessons_lib.int8 import static as static_int8
from lessons_lib.measure import benchmark, intervals, model_size
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.tasks import bbc, layers, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("09")

# %% [markdown]
# ## What if the range were known beforehand?
#
# A dynamic layer looks for the largest value of each input before it can quantize it. A **static** layer does not look.
# Its range was fixed before the first request, by showing the model some data and watching. That is **calibration**.
# The thing that watches is an **observer**. Here are two small batches of activations, and the range that a min-max
# observer keeps of them.

# %%
batches = [torch.tensor([[0.1, -0.5, 1.2, 0.4]]), torch.tensor([[0.9, 0.2, -0.3, 2.0]])]
watching = observers.MinMax()
for batch in batches:
    watching.observe(batch)
watching.range()

# %% [markdown]
# From the range follow a scale and a zero point, as in lesson 01, and both stay. Now a request arrives.

# %%
request = torch.tensor([[0.3, -1.5, 1.9, 5.0]])
scale, zero_point = affine.choose_qparams(*watching.range(), bits=8, signed=True)
read_back = affine.fake_quantize(request, scale, zero_point, bits=8, signed=True)
plots.grids(request, read_back, titles=["what arrives", "what the layer reads"])

# %% [markdown]
# Two of the four values lie outside, and were **clipped** to the ends of the range. A dynamic layer never clips. So
# the range must be wide enough for what will come. But lesson 01 showed the other side: the wider the range, the
# coarser the step for everything inside. The whole lesson is about this choice.
#
# ### Exercise: the observer

# %% exercise="min_max_observer"

# %% [markdown]
# ### The layer
#
# The input has one scale $s$ and one zero point $z$ for all rows. The weights have a scale $t_j$ for each output
# channel, as before. Multiply the bracket out, and only one sum depends on the input:
#
# $$y_{ij} = s\,t_j \sum_k (q_{ik} - z)\, p_{jk} + b_j
#   = s\,t_j \sum_k q_{ik}\, p_{jk} + \Big(b_j - s\,t_j\, z \sum_k p_{jk}\Big)$$
#
# The bracket at the end is known beforehand: it is the bias of the static layer. So a zero point costs nothing. Does
# the layer of the library, which adds integers, agree with the formula in real numbers?

# %%
torch.manual_seed(0)
small = nn.Linear(4, 3)
static = static_int8.StaticLinear(small, *watching.range())
in_reals = nn.functional.linear(read_back, affine.round_trip(small.weight, 8, "channel"), small.bias)
plots.grids(small(request), in_reals, static(request), titles=["FP32", "formula", "in integers"])

# %% [markdown]
# ## Calibrate the teacher
#
# Every linear layer gets an observer for its input. We show the model 128 training sentences. Labels are not needed.

# %%
teacher = topic_classifier.topic_teacher()
test = bbc.sentences("test").shuffle(seed=0).select(range(160))
texts, topics, documents = test["text"], torch.tensor(test["topic"]), test["document"]
train = bbc.sentences("train").shuffle(seed=0).select(range(128))["text"][:]

def in_batches(sentences, size=32):
    return [topic_classifier.tokenize(sentences[i : i + size]) for i in range(0, len(sentences), size)]

# %%
seen = static_int8.calibrate(teacher, in_batches(train), observers.Histogram)
name = "encoder.encoder.layer.1.intermediate.dense"
low, high = seen[name].range()
len(seen), low, high

# %% [markdown]
# Look at one of them: the input of the first feed-forward layer of block 1. The counts have a logarithmic axis, or you
# would not see the rare ones.

# %%
activations = []
layers.watch(teacher, in_batches(train[:32]), lambda layer, x: activations.append(x) if layer == name else None)
x = activations[0]
far = x > high / 2
plots.histogram(x, marks={"half of the range": high / 2}, log_y=True, xlabel="activation",
                title=f"{far.double().mean():.3%} of the values need half of the range for themselves",
                alt=f"Histogram of {x.numel():,} activations, count on a logarithmic axis: a peak around 0, tails that "
                    f"end near -8 and 8, and {far.sum()} single values beyond {high / 2:.0f}, up to {high:.0f}.")

# %%
plots.note(f"{far.sum()} of {x.numel():,} values lie beyond the mark, for 32 sentences, and they stand in "
           f"{far.any(0).sum()} of {x.shape[1]} channels.")

# %% [markdown]
# ## Which range?
#
# Those few values are no noise. They come with every sentence, always in the same place. Should the range reach them?
# There are several rules, and an observer for each:
#
# - **min-max**: the widest that was seen.
# - **moving average**: an end moves a little towards that of each new batch. One odd batch then counts little.
# - **percentile**: leave a share out, one value in 1,000, say, half of them at either end.
# - **least error**: try all ranges on a histogram, and add rounding and clipping up, as in lesson 01.
# - **entropy**: keep the distribution. Try ranges, put what lies outside into the last bin, group the bins into as
#   many as there are codes, and take the range whose grouped histogram has the smallest divergence
#   from the ungrouped one (KL, one number for how far two distributions are apart; lesson 03). This is TensorRT's rule.
#
# Before we use ours: do they choose what torch.ao's choose on the same data?

# %%
chunks = list(x.split(100))
shown = {"min-max": observers.MinMax(), "moving average": observers.MovingAverage(0.1),
         "histogram": observers.Histogram()}
for observer in shown.values():
    for rows in chunks:
        observer.observe(rows)
ours = {rule: observer.range() if rule != "histogram" else observer.least_error(8) for rule, observer in shown.items()}

# %%
theirs = {"min-max": torch_ao.torch_ao_qparams("MinMaxObserver", chunks),
          "moving average": torch_ao.torch_ao_qparams("MovingAverageMinMaxObserver", chunks, averaging_constant=0.1),
          "histogram": torch_ao.torch_ao_qparams("HistogramObserver", chunks)}

def squared(scale, zero_point):
    return (x - affine.fake_quantize(x, scale, zero_point, 8)).square().mean().item()

qparams = {rule: affine.choose_qparams(*ends, 8) for rule, ends in ours.items()}
table([{"observer": f"{rule}, {whose}", "scale": pair[0], "zero point": pair[1], "squared error": squared(*pair)}
       for rule in ours for whose, pair in (("ours", qparams[rule]), ("torch.ao", theirs[rule]))], digits=4)

# %% [markdown]
# The first two agree. The histogram rules search differently: torch.ao shrinks the range from its ends step by step
# until the error rises, ours tries every pair of edges. What counts is the squared error of the values, in the last
# column.
#
# ### Exercise: percentiles

# %% exercise="percentile_range"

# %% [markdown]
# ### Exercise: the least error
#
# Inside the range an error is spread evenly over half a step to either side, and its square is step² / 12 on average.

# %% exercise="best_clip_mse"

# %% [markdown]
# ## From ranges to accuracy
#
# With 8 bits there are 255 steps and room to be wasteful. To see what a rule is worth, take steps away: the same layers
# with activations at 6 and at 4 bits, weights at 8 throughout. Predict before you run it: which rule falls first?

# %%
rules = {"min-max": lambda seen, bits: seen.range(), "99.9 per cent": lambda seen, bits: seen.percentile(99.9),
         "least error": lambda seen, bits: seen.least_error(bits), "entropy": lambda seen, bits: seen.entropy(bits)}
WIDTHS = (8, 6, 4)

def answers(model):
    return (topic_classifier.predict_logits(model, texts).argmax(1) == topics).int().tolist()

sets, found = {"representative": seen}, {}

def ranges_of(kind, rule, bits):
    if (kind, rule, bits) not in found:
        found[kind, rule, bits] = {layer: rules[rule](observer, bits) for layer, observer in sets[kind].items()}
    return found[kind, rule, bits]

# %% [markdown]
# The weights of the static model are quantized once. `fix_ranges` gives its layers other ranges.

# %%
exact = answers(teacher)
static_teacher = static_int8.quantize_static(teacher, ranges_of("representative", "min-max", 8))

def with_ranges(kind, rule, bits):
    return static_int8.fix_ranges(static_teacher, ranges_of(kind, rule, bits), bits)

by_rule = {rule: [answers(with_ranges("representative", rule, bits)) for bits in WIDTHS] for rule in rules}

# %%
def points(right):
    """Accuracy minus that of FP32, in points, with its interval over the documents."""
    lost = intervals.paired_difference(right, exact, documents)
    return intervals.Interval(100 * lost.value, 100 * lost.low, 100 * lost.high)

def curve(rows):
    lost = [points(right) for right in rows]
    return (WIDTHS, *([getattr(one, end) for one in lost] for end in ("value", "low", "high")))

def spoken(curves):
    return "; ".join(f"{name} " + ", ".join(f"{value:+.1f} at {bits} bits"
                                            for bits, value in zip(*parts[:2], strict=True))
                     for name, parts in curves.items())

# %%
curves = {rule: curve(rows) for rule, rows in by_rule.items()}
at_four = {rule: parts[1][-1] for rule, parts in curves.items()}
worst, best = min(at_four, key=at_four.get), max(at_four, key=at_four.get)
plots.lines(curves, xlabel="bits of the activations", ylabel="accuracy minus FP32 (points)",
            title=f"At 4 bits {worst} loses {-at_four[worst]:.0f} points, {best} {abs(at_four[best]):.0f}",
            alt=f"Accuracy minus that of FP32, in points, by bits and rule: {spoken(curves)}.")

# %%
def median_error(model):
    errors = sorted(static_int8.layer_errors(teacher, model, probe).values())
    return errors[len(errors) // 2], errors[-1]

probe = topic_classifier.tokenize(texts[:16])
medians = {rule: [median_error(with_ranges("representative", rule, bits)) for bits in (8, 4)] for rule in rules}
table([{"rule": rule, "median error, 8 bits": at8[0], "worst layer, 8 bits": at8[1], "median error, 4 bits": at4[0],
        "worst layer, 4 bits": at4[1]} for rule, (at8, at4) in medians.items()],
      "Relative error of the layers' outputs, each given its exact input")

# %%
off, lost = medians["99.9 per cent"][0][1], curves["99.9 per cent"][1][0]
plots.note(f"Look at the worst layers. With 99.9 per cent one layer is off by {off:.0%} of its output at 8 bits, and "
           f"the accuracy changes by {lost:+.1f} points. A likely reason: a few huge values make most of such a layer's "
           "output, and the layer norm after it takes much of that away. A layer's error warns; the accuracy decides.")

# %% [markdown]
# Least error has a range for each number of bits: with many it keeps the tail, with few it gives it up. Min-max and a
# fixed percentage do not know the bits, so what suits one width may fail another.
#
# ### One scale for the weights, or one for each channel?
#
# Lesson 01 asked that of single layers. Here is the answer in accuracy, activations at 8 bits with min-max ranges.

# %%
extremes = ranges_of("representative", "min-max", 8)
by_share = {(per, bits): by_rule["min-max"][0] if (per, bits) == ("channel", 8)
            else answers(static_int8.quantize_static(teacher, extremes, 8, weight_bits=bits, per=per))
            for bits in (8, 4) for per in ("channel", "tensor")}
shares = {key: points(right) for key, right in by_share.items()}
table([{"weight bits": bits, "a scale for each": per, "accuracy minus FP32 (points)": format(lost, "+.1f")}
       for (per, bits), lost in shares.items()])

# %% [markdown]
# ## Which sentences?
#
# The textbooks say that calibration data must be **representative**: like what the model will see. So try others.
#
# - **Tiny**: one single sentence.
# - **Off-domain**: 128 strings of random letters, in no language.
# - **Outlier**: the representative sentences, and one batch more in which something broke: in every layer one single
#   activation became ten times as large as the largest.

# %%
draw = random.Random(0)
letters = ["".join(draw.choice("abcdefghijklmnopqrstuvwxyz      ") for _ in range(100)) for _ in range(128)]

def broken(_, inputs):
    x = inputs[0].clone()
    x.view(-1)[0] = 10 * x.abs().max()
    return x

# %%
sets |= {"tiny": static_int8.calibrate(teacher, in_batches(train[:1]), observers.Histogram),
         "off-domain": static_int8.calibrate(teacher, in_batches(letters), observers.Histogram),
         "outlier": copy.deepcopy(seen)}
hooks = [layer.register_forward_pre_hook(broken) for layer in layers.linear_layers(teacher).values()]
layers.watch(teacher, in_batches(train[:32]), lambda layer, x: sets["outlier"][layer].observe(x))
for hook in hooks:
    hook.remove()

# %%
by_set = {kind: by_rule["min-max"] if kind == "representative"
          else [answers(with_ranges(kind, "min-max", bits)) for bits in WIDTHS] for kind in sets}
table([{"calibration set": kind, "range of the layer above": "{:.1f} … {:.1f}".format(*sets[kind][name].range())}
       | {f"median layer error, {bits} bits": median_error(with_ranges(kind, "min-max", bits))[0] for bits in WIDTHS}
       for kind in sets], "Min-max ranges")

# %%
set_curves = {kind: curve(rows) for kind, rows in by_set.items()}
at_eight = {kind: parts[1][0] for kind, parts in set_curves.items()}
ruined = min(at_eight, key=at_eight.get)
others = max(abs(lost) for kind, lost in at_eight.items() if kind != ruined)
plots.lines(set_curves, xlabel="bits of the activations", ylabel="accuracy minus FP32 (points)",
            title=f"At 8 bits the {ruined} set changes accuracy by {at_eight[ruined]:+.0f} points, no other by more "
                  f"than {others:.1f}",
            alt=f"Accuracy minus that of FP32, in points, with min-max ranges: {spoken(set_curves)}.")

# %%
plots.note(f"At 8 bits one sentence gives {at_eight['tiny']:+.1f} points and random letters "
           f"{at_eight['off-domain']:+.1f}, against {at_eight['representative']:+.1f} for 128 sentences of the right "
           "kind. The textbook's warning does not show in *this* model: activations of any text fill nearly the same range, "
           f"probably since a layer norm comes before them. One broken value does show: {at_eight['outlier']:+.1f}.")

# %% [markdown]
# Do not read this as a licence. A model whose inputs have no layer norm before them, such as pixels or sensor readings,
# has ranges that follow the data. The way to know is the one you took above: compare the ranges.
#
# A min-max range never forgets. Do the other rules get over the broken batch?

# %%
recovered = {rule: points(by_set["outlier"][0] if rule == "min-max" else answers(with_ranges("outlier", rule, 8)))
             for rule in rules}
plots.bars(recovered, xlabel="accuracy minus FP32 (points), 8 bits",
           title=f"With the outlier, min-max loses {-recovered['min-max'].value:.0f} points and least error "
                 f"{max(0.0, -recovered['least error'].value):.1f}",
           alt="Accuracy minus that of FP32 after a calibration with an outlier, by rule: "
               + "; ".join(f"{rule} {lost:+.1f}" for rule, lost in recovered.items()) + ".", ylabel="rule")

# %% [markdown]
# ## What stays in float, and why?
#
# Only linear layers were quantized. Layer norms and softmax were not, for two reasons. The first: there is nothing to
# gain. Count the multiplications, each with its addition, for one token.

# %%
config, length = teacher.encoder.config, 30
width, blocks = config.hidden_size, config.num_hidden_layers
weights = [layer.weight.numel() for layer in layers.linear_layers(teacher.encoder).values()]
per_token = {"linear layers": sum(weights),
             "products inside attention": 2 * blocks * length * width,
             "layer norms": (2 * blocks + 1) * 4 * width,
             "softmax": blocks * config.num_attention_heads * length * 3}
total = sum(per_token.values())
table({part: {"operations": count, "share (%)": 100 * count / total} for part, count in per_token.items()},
      f"One token in a text of {length} tokens")

# %% [markdown]
# The second: 8 bits are not enough there. After a softmax over many tokens every weight is small. Take a token that
# attends equally to all others, quantize its weights over 0 … 1, and add up what is left. It should be 1.

# %%
def left_over(tokens):
    weights = torch.zeros(tokens).softmax(0)
    return affine.fake_quantize(weights, 1 / 255, 0, 8).sum().item()

table({f"{tokens} tokens": left_over(tokens) for tokens in (10, 100, 500, 1000)}, unit="sum of the quantized weights")

# %% [markdown]
# A layer norm reads the sum of a block's input and output, with the widest range of the model, and every later layer
# lives on it. An error made there is carried on to the end.

# %%
norm, read = teacher.encoder.encoder.layer[1].output.LayerNorm, []
hook = norm.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0][probe["attention_mask"].bool()]))
with torch.inference_mode():
    teacher(**probe)
hook.remove()
rounded = affine.fake_quantize(read[0], *affine.choose_qparams(read[0].min(), read[0].max(), 8), 8)
kept = affine.sqnr_db(norm(read[0]).detach(), norm(rounded).detach())
plots.note(f"The input of this layer norm reaches from {read[0].min():.1f} to {read[0].max():.1f}, while its standard "
           f"deviation is {read[0].std():.2f}. With 8 bits for the input its output keeps {kept:.0f} dB. One scale "
           "for the running state of the model is a poor bargain for a fraction of a per cent of the work.")

# %% [markdown]
# ## Outliers that do not go away
#
# A broken batch can be left out. The tail in the histogram above cannot: it comes with every sentence. Where does it
# sit? Take the largest absolute value of each of the 384 channels that the layer reads.

# %%
channels = {layer: observer.range() for layer, observer
            in static_int8.calibrate(teacher, in_batches(train[:64]), lambda: observers.MinMax(axis=-1)).items()}
act_max = torch.maximum(-channels[name][0], channels[name][1])
w_max = layers.linear_layers(teacher)[name].weight.abs().amax(0)
order = act_max.argsort(descending=True)
times = (act_max.max() / act_max.median()).item()

# %%
ranks = list(range(1, len(order) + 1))
plots.lines({"activations": (ranks, act_max[order]), "weights": (ranks, w_max[order])}, log_x=True, log_y=True,
            xlabel="channel, largest activations first (log scale)", ylabel="largest absolute value (log)",
            title=f"One channel's activations reach {times:.0f} times as far as the median channel's",
            alt=f"Two curves over 384 channels. Activations fall steeply from {act_max.max():.0f} to about "
                f"{act_max.median():.1f}; weights stay between {w_max.min():.2f} and {w_max.max():.2f}.")

# %% [markdown]
# One scale for each channel of the *activations* would be the cure, but it cannot be taken out of the sum over $k$. It
# can be moved into the weights, though. **SmoothQuant** (Xiao and others, 2023) divides each channel of the activations
# by a number $d_k$ and multiplies the column of the weights that meets it. The product does not change:
#
# $$\sum_k x_{ik} w_{jk} = \sum_k \frac{x_{ik}}{d_k}\,\big(d_k\, w_{jk}\big), \qquad
# d_k = \frac{\max_i |x_{ik}|^{\alpha}}{\max_j |w_{jk}|^{1-\alpha}}$$
#
# Activations get easier, weights harder. $\alpha$ says how much of the difficulty moves.
#
# ### Exercise: the divisors

# %% exercise="smooth_scales"

# %% [markdown]
# Smooth the first feed-forward layer of every block, the ones with the tail. Everything else is as before: calibrate
# with the same sentences, min-max ranges.

# %%
tailed = [layer for layer in channels if "intermediate" in layer]
smoothed = static_int8.smooth(teacher, {layer: channels[layer] for layer in tailed}, alpha=0.5)
narrower = {layer: observer.range() for layer, observer
            in static_int8.calibrate(smoothed, in_batches(train), observers.MinMax).items()}
apart = (topic_classifier.predict_logits(smoothed, texts[:32]) - topic_classifier.predict_logits(teacher, texts[:32])).abs().max().item()

# %%
static_smoothed = static_int8.quantize_static(smoothed, narrower, bits=6)
rough = static_int8.layer_errors(teacher, with_ranges("representative", "min-max", 6), probe)
fine = static_int8.layer_errors(smoothed, static_smoothed, probe)
pairs = {f"block {i}": {"as it is": rough[layer], "smoothed": fine[layer + ".linear"]}
         for i, layer in enumerate(tailed)}
shrunk = sum(pair["as it is"] / pair["smoothed"] for pair in pairs.values()) / len(pairs)
plots.bars(pairs, xlabel="relative error of the layer's output at 6 bits", ylabel="first feed-forward layer",
           title=f"Smoothing makes the error {shrunk:.1f} times smaller, on average",
           alt="Relative error of the first feed-forward layer of each block at 6 bits: " + "; ".join(
               f"{block} {pair['as it is']:.3f} as it is, {pair['smoothed']:.3f} smoothed"
               for block, pair in pairs.items()) + ".")

# %%
both = {"as it is": set_curves["representative"][1][1:], "smoothed": [
    points(answers(static_int8.fix_ranges(static_smoothed, narrower, bits))).value for bits in (6, 4)]}
plots.note(f"In FP32 the smoothed model gives the same logits, to {apart:.0e}. The teacher's accuracy minus FP32, all "
           f"with min-max ranges: at 6 bits {both['as it is'][0]:+.1f} points as it is and {both['smoothed'][0]:+.1f} "
           f"smoothed, at 4 bits {both['as it is'][1]:+.1f} and {both['smoothed'][1]:+.1f}.")

# %% [markdown]
# Here the division is a step of its own. A serving engine folds it into the layer norm before, or into the step to
# codes, and it costs nothing.
#
# ## Prepare, calibrate, convert
#
# Libraries do the same in three steps: put observers in, run data, swap the layers. torch has two ways.
#
# **torch.ao**, the older, swaps modules. Each linear layer is wrapped with a step to codes before it and one back
# behind it. Embeddings and layer norms get no configuration, or they would be converted too and fail. The outline:
#
# ```python
# wrapped = QuantWrapper(layer)                       # codes → layer → back
# wrapped.qconfig = get_default_qconfig("x86")        # which observers; for this layer alone
# prepare(model, inplace=True)                        # put them in
# for batch in batches: model(**batch)                # calibrate, in eval mode
# convert(model, inplace=True)                        # swap
# ```
#
# **PT2E** in torchao, its successor, exports the model to a graph of operations, and writes the steps into the graph:
#
# ```python
# exported = torch.export.export(model, (), batch).module()
# prepared = prepare_pt2e(exported, quantizer)        # an X86InductorQuantizer, here
# for batch in batches: prepared(**batch)
# converted = convert_pt2e(prepared)
# fused = torch.compile(converted)                    # only now is it fast, on x86
# ```
#
# One module of this course knows both libraries, `lessons_lib/int8/torch_ao.py`.

# %%
by_pt2e = copy.deepcopy(teacher)
by_pt2e.encoder = torch_ao.pt2e_static(teacher.encoder, in_batches(train[:64]))
made = {"FP32": teacher, "ours, static": with_ranges("representative", "min-max", 8),
        "torch.ao, static": torch_ao.torch_ao_static(teacher, in_batches(train[:64])),
        "torch.ao, dynamic": torch_ao.torch_ao_dynamic(teacher), "PT2E, static": by_pt2e}

# %%
def file_bytes(name):
    return torch_ao.saved_bytes(made[name]) if name.startswith("torch.ao") else model_size.size_on_disk(made[name])

sizes = {name: file_bytes(name) for name in made}
quality = {name: points(answers(model)) for name, model in made.items() if name != "FP32"}
table([{"model": name, "bytes of the file": size, "% of FP32": 100 * size / sizes["FP32"],
        "accuracy minus FP32 (points)": format(quality[name], "+.1f") if name in quality else None}
       for name, size in sizes.items()])

# %%
embedded = model_size.state_bytes(teacher.encoder.embeddings) / model_size.state_bytes(teacher)
plots.note(f"More than half of each file is the table of embeddings, {embedded:.0%} of the FP32 model, which no linear "
           "layer holds. Lesson 08 shows it at 8 bits. torch.ao's static path uses 7 of 8 bits for activations on x86, "
           "so that sums of two products fit 16 bits on older processors. PT2E does so where that is needed, on x86 "
           "without VNNI.")

# %% [markdown]
# ## Is static faster than dynamic?
#
# It saves the search for the largest value. It adds the clamp that a dynamic layer does not need. Batch 32, 40 tokens,
# in turns; the dynamic layers are those of lesson 08.

# %%
long = topic_classifier.tokenize([" ".join(texts[(i + k) % 160] for k in range(6)) for i in range(32)], 40)
made["ours, dynamic"] = dynamic.dynamic_int8(teacher)
racing = [name for name in made if name != "PT2E, static"]
with torch.inference_mode():
    race = benchmark.compare({name: lambda name=name: made[name](**long) for name in racing}, repeats=6, warmup=1)
speed = {name: race.ratio("FP32", name) for name in racing if name != "FP32"}

# %%
plots.bars(speed, marks={"as fast as FP32": 1}, xlabel="times as fast as FP32, 95 % interval over the rounds",
           title="Layer by layer, static INT8 takes "
                 f"{race.ratio('ours, static', 'ours, dynamic').value:.2f} of dynamic's time (ours), "
                 f"{race.ratio('torch.ao, static', 'torch.ao, dynamic').value:.2f} (torch.ao)",
           alt="Speed against FP32: " + ", ".join(f"{name} {gain.value:.2f}" for name, gain in speed.items()) + ".")

# %% [markdown]
# What else might a fixed range make possible? A compiler that knows all scales beforehand can join the steps from one
# product to the next. That is what PT2E and torch.compile are for. Lesson 08 compiled dynamic layers, so compare the
# two on equal terms. A whole encoder takes the compiler a minute; here is one feed-forward block of the teacher, two
# layers and the GELU between them.

# %%
block = teacher.encoder.encoder.layer[1]
feed_forward = nn.Sequential(block.intermediate.dense, nn.GELU(), block.output.dense)
rows = {"input": x[:640]}
graph = torch_ao.pt2e_static(feed_forward, [rows])
turns = {"FP32": feed_forward, "torch.ao, dynamic": torch_ao.torch_ao_dynamic(feed_forward),
         "torch.ao, static": torch_ao.torch_ao_static(feed_forward, [rows]), "PT2E, not compiled": graph}
if dynamic.can_compile():
    turns["ours, dynamic, compiled"] = dynamic.compiled(dynamic.dynamic_int8(feed_forward))
    turns["PT2E, static, compiled"] = torch_ao.compiled(graph, rows)

# %%
with torch.no_grad():
    one_block = benchmark.compare({name: lambda model=model: model(**rows) for name, model in turns.items()}, 15, 3)
block_speed = {name: one_block.ratio("FP32", name) for name in turns if name != "FP32"}
fastest = max(block_speed, key=lambda name: block_speed[name].value)
plots.bars(block_speed, marks={"as fast as FP32": 1}, xlabel="times as fast as FP32, 95 % interval over the rounds",
           title=f"One feed-forward block: {fastest} is {block_speed[fastest].value:.1f} times as fast as FP32",
           alt="Speed of one feed-forward block against FP32: "
               + ", ".join(f"{name} {gain.value:.2f}" for name, gain in block_speed.items()) + ".")

# %%
plots.note("torch cannot compile here (lesson 08 says what it needs), so PT2E stays a graph that reads codes back to FP32 "
           "before each product." if
           "PT2E, static, compiled" not in turns else
           "The same graph, compiled and not: without the compiler every code is read back to FP32 before the product, "
           f"which takes {one_block.ratio('PT2E, not compiled', 'FP32').value:.1f} times as long as FP32. Compiled, "
           f"it takes {one_block.ratio('PT2E, static, compiled', 'ours, dynamic, compiled'):.2f} of the time of the "
           "compiled dynamic block.")

# %% [markdown]
# ### ONNX Runtime, in outline
#
# ONNX Runtime quantizes a model that was exported to its own format, also in three steps. You hand it a *data
# reader*, an object that gives one batch after the other; `quantize_static` runs the model on them, with min-max,
# entropy or percentile observers, and writes pairs of quantize and dequantize steps (QDQ) into the file. Its engine
# joins them with the products at load time, as torch.compile does here. Lesson 17 exports the teacher and does it.
#
# ```python
# quantize_static("teacher.onnx", "teacher-int8.onnx", reader, quant_format=QuantFormat.QDQ,
#                 per_channel=True, calibrate_method=CalibrationMethod.MinMax)
# ```
#
# ## Try it
#
# Choose a layer, a rule and the bits. How many decibels (lesson 01) does the range keep, and where does it cut? Which
# layers need their tail, and which can do without?

# %%
def range_of(block=1, layer="first feed-forward", rule="least error", bits=4):
    part = {"query, key, value": "attention.self.query", "first feed-forward": "intermediate.dense",
            "second feed-forward": "output.dense"}[layer]
    full = f"encoder.encoder.layer.{block}.{part}"
    kept = []
    layers.watch(teacher, [probe], lambda name, values: kept.append(values) if name == full else None)
    low, high = ranges_of("representative", rule, bits)[full]
    noise = affine.sqnr_db(kept[0], affine.fake_quantize(kept[0], *affine.choose_qparams(low, high, bits), bits))
    said = f"{rule}, {bits} bits: {low:.1f} … {high:.1f} keeps {noise:.1f} dB"
    return plots.histogram(kept[0], marks={"range": [low, high]}, log_y=True, xlabel="activation", title=said,
                           alt=f"Histogram of what the {layer} layer of block {block} reads. {said}.")

widgets.explore(range_of, block=range(6), layer=["query, key, value", "first feed-forward", "second feed-forward"],
                rule=list(rules), bits=[2, 3, 4, 6, 8])

# %% [markdown]
# ## Claimed and measured

# %%
ratio = {who: race.ratio(f"{who}, dynamic", f"{who}, static") for who in ("ours", "torch.ao")}
if "PT2E, static, compiled" in turns:
    ratio["one block, both compiled"] = one_block.ratio("ours, dynamic, compiled", "PT2E, static, compiled")
faster = [gain.low > 1 for gain in ratio.values()]
calibrated = abs(at_eight["tiny"] - at_eight["representative"]) > 2 or abs(
    at_eight["off-domain"] - at_eight["representative"]) > 2
by_channel = shares["channel", 4].value > shares["tensor", 4].value

# %%
claims.show("09", {
    "int8": claims.Measured(
        f"static: {speed['ours, static'].value:.2f} times as fast (ours), {speed['torch.ao, static'].value:.2f} "
        f"(torch.ao); file {100 * sizes['ours, static'] / sizes['FP32']:.0f} % of FP32, embeddings in FP32; accuracy "
        f"{at_eight['representative']:+.1f} points", "partly",
        "Linear layers shrink to a quarter, the file does not while its embeddings stay."
        + (" The quality holds." if at_eight["representative"] > -1 else "")),
    "static-faster": claims.Measured(
        "; ".join(f"{name}: dynamic takes {gain:.2f} of static's time" for name, gain in ratio.items()),
        True if all(faster) else "partly" if any(faster) else False,
        "Layer by layer the search for the largest value is cheap, and a fixed range needs a clamp instead."
        + (" Fixed scales let a compiler join more of the steps." if faster[-1] and len(faster) > 2 else "")),
    "calibration": claims.Measured(
        f"min-max, 8 bits: representative {at_eight['representative']:+.1f} points, one sentence "
        f"{at_eight['tiny']:+.1f}, letters {at_eight['off-domain']:+.1f}, an outlier {at_eight['outlier']:+.1f}",
        True if calibrated else "partly",
        "Any text gives nearly the same ranges here. What decides is an outlier in the data, and the rule."),
    "per-channel": claims.Measured(
        "accuracy minus FP32, a scale a channel against one a tensor: "
        + "; ".join(f"{bits} bits {shares['channel', bits].value:+.1f} against {shares['tensor', bits].value:+.1f}"
                    for bits in (8, 4)),
        by_channel,
        "At 8 bits there is room for one scale; with fewer bits the rows need their own."),
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

# %%
quiz.progress()

# %% [markdown]
# ## What to remember
#
# - Static: the range of each activation is fixed by calibration. What lies outside later is clipped.
# - A zero point costs nothing at run time: its sum goes into the bias.
# - At 8 bits most ranges will do. With fewer bits the rule decides: leave rare values out.
# - Compare the ranges of your calibration sets. One outlier ruins min-max; the other rules get over most of it.
# - Outliers that sit in a few channels move into the weights: SmoothQuant.
# - Layer by layer, static saves a search and adds a clamp. Compiled, fixed scales can save more. Measure both.
#
# ## Where to read on
#
# - Benoit Jacob and others, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
#   Inference*, 2018, arXiv 1712.05877: zero points and sums.
# - Szymon Migacz, *8-bit Inference with TensorRT*, GPU Technology Conference 2017: calibration by entropy.
# - Hao Wu and others, *Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation*, 2020,
#   arXiv 2004.09602: calibration rules compared on many models.
# - Yelysei Bondarenko, Markus Nagel, Tijmen Blankevoort, *Understanding and Overcoming the Challenges of Efficient
#   Transformer Quantization*, 2021, arXiv 2109.12948: outliers in BERT.
# - Guangxuan Xiao and others, *SmoothQuant*, 2023, arXiv 2211.10438.
