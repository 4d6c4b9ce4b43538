# %% [markdown]
# # Magnitude pruning
#
# | | |
# |---|---|
# | You will be able to | prune weights by size, at once, in steps and in patterns, and say what that saves |
# | You need first | lesson 04 (the topic teacher, seeds, paired differences) |
# | Minutes | 80 |
# | Points | 23 |

# %% tags=["imports"]
import warnings

import torch
from torch.nn.utils import prune

from lessons_lib.measure import benchmark, bleu, model_size
from lessons_lib.pruning import schedules, storage, unstructured
from lessons_lib.show import claims, plots, tables, widgets
from lessons_lib.studies import magnitude as grid
from lessons_lib.studies import study
from lessons_lib.tasks import decoding, phrase_pairs, topic_classifier, translation
from quizzes import lesson

# %%
quiz = lesson("14")

# %% [markdown]
# ## Are all weights needed?
#
# A linear layer multiplies every input by a weight and adds the products up. A weight near zero adds next to nothing.
# What happens if it is set to zero? That is **pruning**, and the share of zeros is the **sparsity**.
#
# Here is one layer of the topic teacher.

# %%
teacher = topic_classifier.topic_teacher()
weights = schedules.linear_weights(teacher)
name = "encoder.encoder.layer.3.intermediate.dense.weight"
layer = weights[name].detach()
middle = layer.abs().median().item()

# %%
largest = layer.abs().max().item()
plots.histogram(layer, marks={"half of the weights lie between": torch.tensor([-middle, middle])},
                title=f"Half of the weights are smaller than {middle:.3f} in size; the largest is {largest:.2f}",
                alt=f"Histogram of the {layer.numel():,} weights of one layer, a bell around zero. Half of them lie "
                    f"between {-middle:.3f} and {middle:.3f}; the largest is {largest:.2f}.",
                xlabel="weight", ylabel="number of weights")

# %%
total = sum(weight.numel() for weight in weights.values())
plots.note(f"The teacher has **{total:,}** weights in {len(weights)} linear layers, its last one not counted. That one "
           "is small, and every answer goes through it: it stays as it is in this lesson.")

# %% [markdown]
# ## Six weights by hand
#
# Take six weights, and ask for a sparsity of a third: two of the six must go. **Magnitude pruning** takes the smallest
# ones, whatever their sign.

# %%
small = torch.tensor([[0.5, -0.1, 0.1], [2.0, -0.1, -3.0]])
mask = unstructured.magnitude_mask(small, 1 / 3)
plots.grids(small, mask, small.where(mask, 0), titles=["weights", "mask: 1 stays", "pruned"])

# %% [markdown]
# Three weights have the size 0.1, and two must go. Which two is a matter of agreement; here it is the first ones, read
# row by row. So for $n$ weights and a sparsity $s$:
#
# $$k = \operatorname{round}(s \, n) \qquad m_i = 0 \text{ for the } k \text{ smallest } |w_i|, \quad m_i = 1
# \text{ for the others}$$
#
# It is tempting to compute a threshold and to keep what is larger. Two things go wrong with that. Weights that were
# quantized take few different values, so many of them equal the threshold:

# %%
step = layer.abs().max() / 7
coarse = (layer / step).round() * step                         # 15 different values, as in 4 bits
threshold = coarse.abs().quantile(0.5)
kept = {"larger than the threshold": coarse.abs() > threshold, "not smaller": coarse.abs() >= threshold,
        "exact": unstructured.magnitude_mask(coarse, 0.5)}
tables.table({rule: 1 - mask.float().mean() for rule, mask in kept.items()}, "Asked for a sparsity of 0.5",
             unit="share that goes")

# %% [markdown]
# And the usual function for thresholds refuses large tensors. A language model has far more weights than it takes.

# %%
many = torch.zeros(2**24 + 1)
try:
    many.quantile(0.5)
except RuntimeError as error:
    print(error)
print(int((~unstructured.magnitude_mask(many, 0.5)).sum()), "of", len(many), "zeros go by magnitude_mask")

# %% [markdown]
# `magnitude_mask` finds its threshold with `kthvalue`, which selects the $k$-th smallest of any number of values. Then
# it takes as many of the weights that equal the threshold as are still missing.

# %% [markdown]
# ### Exercise: the mask

# %% exercise="magnitude_mask"

# %% [markdown]
# PyTorch brings pruning along, in `torch.nn.utils.prune`. Where no weights tie it gives the same mask.

# %%
copy = torch.nn.Linear(layer.shape[1], layer.shape[0])
copy.weight.data = layer.clone()
prune.l1_unstructured(copy, "weight", amount=0.5)
torch.equal(copy.weight_mask.bool(), unstructured.magnitude_mask(layer, 0.5))

# %% [markdown]
# ## One threshold for all layers, or one for each?
#
# You can ask for the sparsity in every layer by itself. That is **local** pruning. Or you can let all weights of the
# model compete: one threshold, and each layer loses what lies below it. That is **global** pruning. Two small layers
# show the difference. The second has weights ten times smaller.

# %%
two = {"first": torch.tensor([[3.0, -1.0], [2.0, 4.0]]), "second": torch.tensor([[0.3, -0.1], [0.2, 0.4]])}
both = {"local": unstructured.local_masks(two, 0.5), "global": unstructured.global_masks(two, 0.5)}
plots.grids(*(two[key].where(masks[key], 0) for masks in both.values() for key in two),
            titles=[f"{key}, {way}" for way in both for key in two])

# %% [markdown]
# Globally the second layer is gone altogether, and nothing gets through it any more. Real layers are closer to each
# other in size. Look at what each layer of the teacher loses when half of all weights go globally.

# %%
masks = unstructured.global_masks(weights, 0.5)
lost = {key: 100 * (1 - mask.float().mean()).item() for key, mask in masks.items()}

# %%
parts = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
         "attention output": "attention.output.dense", "first feed-forward": "intermediate.dense",
         "second feed-forward": "output.dense"}
by_kind = {kind: (list(range(6)), [lost[f"encoder.encoder.layer.{i}.{part}.weight"] for i in range(6)])
          for kind, part in parts.items()}
most, least = max(lost.values()), min(lost.values())
plots.lines(by_kind, title=f"At 50 % in all, single layers lose {least:.0f} to {most:.0f} %",
            alt="Lines of the share of weights that go, by layer 0 to 5: "
                + "; ".join(f"{kind} " + ", ".join(f"{y:.0f}" for y in ys) for kind, (_, ys) in by_kind.items()) + ".",
            xlabel="layer", ylabel="weights that go (%)")

# %% [markdown]
# Attention and feed-forward layers can also be given shares of their own, **by layer type**. The names of the layers
# say what they are, and the first word that fits decides.

# %%
by_type = unstructured.type_masks(weights, {"attention": 0.3, "intermediate": 0.6, "output": 0.6})
zeros = {key: weights[key] * mask for key, mask in by_type.items()}
tables.table({"attention": unstructured.sparsity({key: w for key, w in zeros.items() if "attention" in key}),
              "feed-forward": unstructured.sparsity({key: w for key, w in zeros.items() if "attention" not in key}),
              "all": unstructured.sparsity(zeros)}, "Asked for 0.3 and 0.6", unit="sparsity")

# %% [markdown]
# ### Exercise: global masks

# %% exercise="global_masks"

# %% [markdown]
# ## A pattern for hardware: N of M
#
# Zeros at random places are hard to skip. Some graphics processors can skip them when they come in a pattern: of every
# four neighbours in a row, two are zero. That is **2:4**, and in general **N:M**: of every $m$ neighbours $n$ stay.

# %%
row = torch.tensor([[4.0, -1.0, 2.0, -3.0, 1.0, 1.0, 1.0, 1.0]])
plots.grids(row, row.where(unstructured.n_m_mask(row, 2, 4), 0), row.where(unstructured.magnitude_mask(row, 0.5), 0),
            titles=["weights", "2:4", "half, without a pattern"])

# %% [markdown]
# The sparsity of 2:4 is one half, no more and no less. And the pattern takes weights that free choice would keep: in
# the first group above, 2 goes although it is larger than all of the second group.

# %% [markdown]
# ### Exercise: n of m

# %% exercise="n_m_mask"

# %% [markdown]
# ## Wanda: size times input
#
# A small weight on a large input can matter more than a large weight on an input that is always near zero. **Wanda**
# (Sun and others, 2023) therefore looks at some texts first. For every input $j$ of a layer it takes the Euclidean norm
# over all tokens of these texts, and scores each weight by
#
# $$S_{ij} = |W_{ij}| \cdot \lVert X_j \rVert_2$$
#
# The smallest scores go, **in every row by itself**: a row holds the weights of one output, and each output keeps its
# share. Nothing is trained. Three inputs, the first of them nearly always silent:

# %%
matrix, norms = torch.tensor([[4.0, 1.0, -1.0], [3.0, -2.0, 0.5]]), torch.tensor([0.1, 1.0, 2.0])
plots.grids(matrix, norms[None], matrix.abs() * norms, matrix.where(unstructured.wanda_mask(matrix, norms, 1 / 3), 0),
            titles=["weights", "norms of the inputs", "scores", "pruned"])

# %% [markdown]
# The largest weight of each row went, because hardly anything arrives at it. How different are the inputs of real
# layers?

# %%
texts = grid.calls("classifier", teacher, seed=0)
input_norms = schedules.input_norms(teacher, weights, texts)
spread = {key: (norm.max() / norm.median()).item() for key, norm in input_norms.items()}
widest = max(spread, key=spread.get)

# %%
plots.histogram(input_norms[widest], title=f"One input is {spread[widest]:.0f} times as large as the middle one",
                alt=f"Histogram of the norms of the inputs of {widest}, over {len(texts)} sentences. The largest is "
                    f"{spread[widest]:.1f} times the median.", xlabel="norm of an input over the texts",
                ylabel="number of inputs", log_y=True)

# %%
plots.note(f"This is the widest of the {len(spread)} layers, `{widest}`. In the layer in the middle of that order the "
           f"largest input is {sorted(spread.values())[len(spread) // 2]:.1f} times the median.")

# %% [markdown]
# ### Exercise: Wanda's mask

# %% exercise="wanda_mask"

# %% [markdown]
# ## At once, without training: what does it cost?
#
# Prune the translator of lesson 07 and let it speak. It puts English numbers, dates and amounts into French. Its score,
# **BLEU**, runs from 0 to 100 and counts the runs of words that it shares with the right translation.

# %%
pairs = phrase_pairs.pairs("test").select(range(100))
some = ["eighty-two million hours", "the sixth of May nineteen ten"]

def pruned_translator(sparsity):
    model = translation.teacher()
    parts = schedules.linear_weights(model)
    schedules.apply_masks(parts, unstructured.global_masks(parts, sparsity))
    return model

# %%
def speaks(sparsity):
    model = pruned_translator(sparsity)
    written = decoding.translate(model, pairs["english"][:])
    return {"BLEU": bleu.corpus_bleu(written, pairs["french"][:])} | dict(zip(some, decoding.translate(model, some),
                                                                              strict=True))

tables.table({f"{sparsity:.0%}": speaks(sparsity) for sparsity in (0.0, 0.5, 0.7, 0.9)},
             f"The translator, pruned globally; BLEU on {len(pairs)} phrases", name="sparsity")

# %% [markdown]
# It stands a great deal, and then it falls. To see this for both models, the topic teacher (the "classifier") and the
# translator, on all test data of this lesson, there is a **study**: a grid of runs, computed once by the code of this
# course. "Global" is one threshold for the model. "Row" gives every output the same share, by size alone; it is what
# Wanda would be without its inputs, so that the two can be compared. The odd sparsities among the points come from a
# search, which is described below.

# %%
table = study.load("magnitude").table()
NAMES = {"classifier": "accuracy (%)", "translator": "BLEU"}
still = ("global", "row", "wanda")

def shares(model, way):
    grown = grid.TRAINED_SPARSITIES[model] if way in grid.TRAINED else (0.0, *grid.SPARSITIES[model])
    return sorted({*grown, grid.FOUND.get((model, way), grown[-1])})

def curve(model, way):
    at = shares(model, way)
    scores = [grid.score(table, grid.rows(table, model, way if share else "global", share)) for share in at]
    return [100 * share for share in at], *zip(*((s.value, s.low, s.high) for s in scores), strict=True)

# %%
def drawn(model, series, title):
    said = "; ".join(f"{way}: " + ", ".join(f"{y:.1f} at {x:.0f} %" for x, y in zip(xs, ys, strict=True))
                     for way, (xs, ys, *_) in series.items())
    return plots.lines(series, title=title, xlabel="sparsity (%)", ylabel=NAMES[model],
                       alt=f"Lines of the {NAMES[model]} of the {model} by sparsity, with intervals. {said}.")

def not_trained(model):
    series = {way: curve(model, way) for way in still}
    start = grid.score(table, grid.rows(table, model, "global", 0.0)).value
    fine, way = max((x, way) for way, (xs, ys, *_) in series.items()
                    for x, y in zip(xs, ys, strict=True) if y >= start - 1)
    return drawn(model, series, f"Up to {fine:.0f} % ({way}) the {model} stays within one of its {start:.1f}")

# %%
not_trained("classifier")

# %%
not_trained("translator")

# %% [markdown]
# Is Wanda better than size alone? Compare them sparsity by sparsity. **Better** means that the 95 % interval of the
# paired difference lies above zero, **worse** that it lies below, with three draws of the texts that Wanda looks at.

# %%
UNPRUNED = ("global", 0.0)

def gap(model, one, other=UNPRUNED):
    return grid.difference(table, *(grid.rows(table, model, *setting) for setting in (one, other)))

def duel(model, way, other, share):
    gain = gap(model, (way, share), (other, share))
    return f"{gain:+.1f}, " + ("better" if gain.beats else "worse" if gain.beaten else "not told apart")

tables.table({f"{share:.0%}": {f"{model}, {unit}": duel(model, "wanda", "row", share) for model, unit in NAMES.items()}
              for share in grid.SPARSITIES["classifier"]}, "Wanda minus size alone, row by row", name="sparsity")

# %% [markdown]
# No rule wins everywhere here. Wanda was made for language models, in which a few inputs are far larger than the
# others. Whether it pays may depend on that spread, which you saw above for the classifier, and on how much there is to
# lose at all.
#
# And the patterns, all at one half:

# %%
patterns = {"one threshold (global)": "global", "every layer half (local)": "layer", "every row half": "row",
            "2 of 4": "2:4", "Wanda": "wanda"}
tables.table([{"pattern": shown} | {f"{model}, {unit}": format(gap(model, (way, 0.5)), "+.1f")
                                    for model, unit in NAMES.items()}
              for shown, way in patterns.items()], "Half of the weights gone: the change")

# %% [markdown]
# ## Zeros that last
#
# A pruned model can be trained on, so that the weights that stay make up for those that went. But an optimizer moves
# every weight. How do the zeros stay? A first idea: multiply the gradients by the mask. Try it, with an optimizer that
# has been at work before.

# %%
def one_step(hold_gradients, hold_weights):
    linear = torch.nn.Linear(8, 8)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)

    def train(gradient_mask):
        optimizer.zero_grad()
        linear(torch.ones(4, 8)).square().sum().backward()
        linear.weight.grad *= gradient_mask
        optimizer.step()

    train(1)                                                    # momentum builds up before anything is pruned
    named = {"weight": linear.weight}
    masks = unstructured.global_masks(named, 0.5)
    schedules.apply_masks(named, masks)
    with schedules.held(named, masks if hold_weights else {}):
        train(masks["weight"] if hold_gradients else 1)
    return unstructured.sparsity(named)

# %%
tables.table({"nothing is held": one_step(False, False), "gradients are masked": one_step(True, False),
              "weights are masked after the step": one_step(False, True)}, "Pruned to 0.5, then one step of SGD",
             unit="sparsity")

# %% [markdown]
# **Momentum** is an average of earlier gradients, and it keeps pushing when the gradient is zero. Adam has such an
# average too. What holds is to put the zeros back after every step. `schedules.held` does so for any optimizer,
# for as long as its block lasts.

# %% [markdown]
# ## All at once, or step by step?
#
# With training there are two ways. **One-shot**: prune to the final sparsity, then train. **Iterative**: prune a
# little, train a little, and so on, in rounds. How much in which round? Zhu and Gupta (2017) let the sparsity grow by a
# third power, from $s_i$ at time $t_0$ to $s_f$ at time $t_1$:
#
# $$s_t = s_f + (s_i - s_f) \left(1 - \frac{t - t_0}{t_1 - t_0}\right)^3$$
#
# It is fast at first, when many weights hardly matter, and slow at the end, when each one counts. Time may be counted
# in steps or in rounds. A round first prunes to what the rule gives at the round's end, and then it trains.

# %%
rounds, steps = grid.SETTINGS["rounds"], grid.SETTINGS["steps"]
length, whole = steps["translator"] // rounds, range(steps["translator"] + 1)
rule = [100 * schedules.cubic_schedule(step, 0, whole[-1], 0.9) for step in whole]
by_round = rule[length::length]
edges = [step for number in range(rounds) for step in (number * length, (number + 1) * length)]
stairs = [share for share in by_round for _ in range(2)]
plots.lines({"iterative": (edges, stairs), "one-shot": ([0, whole[-1]], [90, 90]), "the cubic rule": (whole, rule)},
            title=f"The first of {rounds} rounds prunes {by_round[0]:.0f} %, the last only {90 - by_round[-2]:.0f} more",
            alt="The sparsity by training step. One-shot is flat at 90 %. Iterative climbs in stairs: "
                + ", ".join(f"{share:.0f} %" for share in by_round) + f", {length} steps each.",
            xlabel="training step", ylabel="sparsity (%)")

# %%
plots.note(f"These are the rounds of the translator. The classifier's have {steps['classifier'] // rounds} steps each.")

# %% [markdown]
# ### Exercise: the cubic schedule

# %% exercise="cubic_schedule"

# %% [markdown]
# The study has both. "Retrained" is one-shot and then training. "Iterative" is four rounds by the cubic rule. Both
# prune globally, and see the same data for the same number of steps in all. Each had its learning rate chosen on
# validation data. "Not trained" in the figures below is global pruning alone.
#
# Every round has a new optimizer: in a trial that is not in the table, one optimizer for all rounds did worse. A likely
# reason: Adam divides each step by the size of earlier gradients, and while a model is nearly as good as before, those
# are tiny. The first steps after the next pruning would then be far too large.

# %%
tables.table([{"model": model, "way": way}
              | {f"{trial}. rate": f"{lr:g}: {100 * quality:.1f}"
                 for trial, (lr, quality) in enumerate(grid.tuning(table, model, way).items(), 1)}
              | {"chosen": f"{grid.CHOSEN[model, way]:g}"} for model in grid.MODELS for way in grid.TRAINED],
             "Quality on validation data by learning rate: "
             + ", ".join(f"the {model} at {share:.0%}" for model, share in grid.TUNED_AT.items()))

# %% [markdown]
# One run of it, live: the translator at its lowest trained sparsity, in rounds. BLEU is shown as a share of 100.

# %%
live_at = grid.TRAINED_SPARSITIES["translator"][0]
study.load("magnitude").live(grid.cell("translator", "iterative", live_at, grid.SEEDS[0]))

# %%
def with_training(model):
    series = {"not trained": curve(model, "global")} | {way: curve(model, way) for way in grid.TRAINED}
    before, after = (dict(zip(*series[way][:2], strict=True)) for way in ("not trained", "retrained"))
    most = max(before.keys() & after.keys())
    return drawn(model, series, f"At {most:.0f} %, training after pruning lifts the {model} "
                                f"from {before[most]:.1f} to {after[most]:.1f}")

with_training("translator")

# %%
with_training("classifier")

# %%
tables.table([{"model": f"{model}, {unit}", "sparsity": f"{share:.0%}",
               "iterative minus retrained": duel(model, *grid.TRAINED[::-1], share)}
              for model, unit in NAMES.items() for share in grid.TRAINED_SPARSITIES[model]], "At equal steps")

# %%
extra = {model: gap(model, ("retrained", 0.0)) for model in grid.MODELS}
plots.note(f"A control: the same training **without** any pruning changes BLEU by {extra['translator']:+.1f}, and the "
           f"classifier's accuracy by {extra['classifier']:+.1f} points. The rates were chosen where much has to be "
           "repaired. Where nothing is broken, such steps can do harm.")

# %% [markdown]
# Training repairs much of what pruning broke. But iterative pruning is nowhere ahead of pruning at once. Keep the
# length of these trainings in mind. Iterative pruning comes from trainings of many thousand steps, where each pruning
# is repaired in full before the next. Here both ways have fewer than a hundred steps. A possible reason: each new
# pruning undoes part of the repair before it, while the one-shot run repairs one damage from its first step on.
#
# A third way, in outline: **rewinding**. After pruning, put the weights that stay back to what they were early in their
# training, and train again from there with the mask (Frankle and Carbin, 2019; Renda and others, 2020). It costs a
# whole training each time.

# %% [markdown]
# ## The highest sparsity within one point
#
# How far can you go if you may lose one point of accuracy, or one BLEU? Searching by hand would mean looking at the
# test data again and again, until some sparsity looks good by luck. So the search runs on **validation** data. Try the
# middle of the range, go up if the quality holds, down if not, and halve the range each time. Then the one sparsity
# that was found is put to the **test** data, over the seeds.
#
# Without training the range is every second per cent from 0 to 98. With training every try is a whole training, so
# there are ten candidates: 30 to 75 % for the classifier, 50 to 95 % for the translator. Halving takes for granted that
# fewer zeros are never worse. After training that need not hold, as the control above shows.

# %%
def confirmed(model, way):
    search = grid.rows(table, model, way, None)[0]
    row = {"model": model, "way": way, "runs tried": len(search["tried"])}
    if search["found"] is None:
        return row | {"found at": "none", "test: change": None, "within one": False}
    gain = gap(model, (way, search["found"]))
    return row | {"found at": f"{search['found']:.0%}", "test: change": format(gain, "+.1f"),
                  "within one": bool(gain.value >= -1)}

found = {(model, way): confirmed(model, way) for model in grid.MODELS for way in grid.SEARCHED}
tables.table(list(found.values()), "Searched on validation data, confirmed on test data")

# %%
held_up = {pair: grid.FOUND[pair] for pair, row in found.items() if row["within one"]}
chosen = {model: max((share, way) for (of, way), share in held_up.items() if of == model)
          for model in grid.MODELS if any(of == model for of, _ in held_up)}
failed = [f"{model} ({way})" for model, way in grid.FOUND if (model, way) not in held_up]
plots.note("Of the sparsities that were found, the highest that held on test data: "
           + ("; ".join(f"**{model}** {share:.0%} ({way})" for model, (share, way) in chosen.items()) or "none")
           + f". Found on validation data and not confirmed on test data: {', '.join(failed) or 'none'}.")

# %% [markdown]
# "Within one" asks that the mean change is -1 or better; the interval may reach lower. "None" means that not even the
# lowest candidate held.
#
# A search picks the sparsity that came out well on one set of sentences, so on others it tends to come out a little
# worse. That is why the last column is needed. A sparsity from the figures above that looks better is not taken: it
# would be chosen on test data. The intervals say how much of the change could be chance: the test sentences and, where
# something is drawn or trained, three seeds. The teacher is always the same one.

# %% [markdown]
# ## What do the zeros save?
#
# The teacher with nine tenths of its linear weights zero, beside the teacher as it was. Same batch, runs in turn.

# %%
sparse_teacher = topic_classifier.topic_teacher()
ninety = schedules.linear_weights(sparse_teacher)
schedules.apply_masks(ninety, unstructured.global_masks(ninety, 0.9))
batch = topic_classifier.tokenize([pair["text"] for pair in grid.asked("classifier", "validation").select(range(8))])

# %%
with torch.inference_mode():
    timed = benchmark.compare({"dense": lambda: teacher(**batch), "90 % zeros": lambda: sparse_teacher(**batch)}, 10, 2)
faster = timed.ratio("dense", "90 % zeros")
sizes = {"dense": model_size.size_on_disk(teacher), "90 % zeros": model_size.size_on_disk(sparse_teacher)}
tables.table({key: {"p50, ms": timed.timings[key].p50, "bytes on disk": sizes[key]} for key in sizes},
             f"Dense time over pruned time: {faster:.2f}")

# %% [markdown]
# No time, no bytes. The processor multiplies by zero as it multiplies by anything else, and a zero takes four bytes. A
# mask removes weights in name only.
#
# What would help? Look at one matrix product: the layer as it is, with half of its weights zero, with half of its rows
# **left out**, and as a sparse matrix with a kernel that skips zeros.

# %%
inputs, half = torch.randn(layer.shape[1], 256), layer * unstructured.magnitude_mask(layer, 0.5)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")                             # torch says that its CSR tensors are in beta
    csr = {f"{100 * share:.0f} % zeros, sparse kernel": (layer * unstructured.magnitude_mask(layer, share)).to_sparse_csr()
           for share in (0.5, 0.9, 0.99)}
kinds = {"50 % zeros": half, "half of the rows": layer[::2].contiguous()} | csr

# %%
products = benchmark.compare({"as it is": lambda: layer @ inputs}
                           | {kind: lambda matrix=matrix: matrix @ inputs for kind, matrix in kinds.items()}, 30, 5)
speed = {kind: products.ratio("as it is", kind) for kind in kinds}
plots.bars(speed, title=f"Half of the rows: {speed['half of the rows'].value:.1f} times as fast; half of the weights: "
                        f"{speed['50 % zeros'].value:.1f} times",
           alt="Bars of how many times as fast as the dense product each is, with intervals: "
               + ", ".join(f"{kind} {ratio.value:.2f}" for kind, ratio in speed.items()) + ".",
           xlabel="times as fast as the whole matrix (1 = equally fast)", ylabel="matrix", marks={"equally fast": 1.0})

# %% [markdown]
# A sparse kernel has to look up where every weight belongs, and reads memory here and there. Most of the weights have
# to be gone before it is ahead. Leaving out rows makes the matrix smaller, and then the ordinary kernel has less to do.
# That is the subject of lesson 15.

# %% [markdown]
# ## When does sparse storage pay?
#
# On disk the zeros need not be kept. But then it must be written where the others stand. **CSR**, compressed sparse
# rows, keeps three lists: the values, the column of each, and where each row begins.

# %%
tiny = torch.tensor([[0.0, 1.5, 0.0], [2.0, 0.0, -1.0]])
tables.table({key: str(part.tolist()) for key, part in storage.to_csr(tiny).items()}, "A 2 x 3 matrix as CSR",
             unit="numbers")

# %% [markdown]
# Row 0 owns the values from position 0 up to 1, row 1 those from 1 up to 3. With $k$ values left in $R$ rows, values of
# $b$ bytes and column indices of $c$ bytes:
#
# $$\text{bytes} = k \, (b + c) + 4 \, (R + 1)$$
#
# A **bitmask** is another way: the values, and one bit for every place of the matrix, set where a value stands.

# %% [markdown]
# ### Exercise: the bytes of CSR

# %% exercise="csr_bytes"

# %% [markdown]
# Set the bytes equal to those of the dense matrix and solve for the sparsity: from there on it pays. The narrower the
# values, the more the indices weigh.

# %%
kinds = {"CSR, 4-byte columns": 4, "CSR, 2-byte columns": 2, "bitmask": None}
edges = {kind: {f"{shown} weights": storage.break_even(*layer.shape, value_bytes, index_bytes)
                for shown, value_bytes in {"FP32": 4, "BF16": 2, "INT8": 1}.items()}
         for kind, index_bytes in kinds.items()}
tables.table(edges, "The sparsity from which it pays, computed", name="stored as")

# %% [markdown]
# Computed is not confirmed. So write the layer to disk in all three ways, at many sparsities, and look at the files.

# %%
def stored(weight, index_bytes):
    return storage.to_csr(weight, index_bytes) if index_bytes else storage.to_bitmask(weight)

dense_bytes = model_size.size_on_disk(layer)
tried = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
pruned_layers = {share: layer * unstructured.magnitude_mask(layer, share) for share in tried}
files = {kind: [100 * model_size.size_on_disk(stored(weight, index_bytes)) / dense_bytes
                for weight in pruned_layers.values()] for kind, index_bytes in kinds.items()}

# %%
plots.lines({"dense": ([0, 95], [100, 100])} | {kind: ([100 * s for s in tried], ys) for kind, ys in files.items()},
            title=f"With 10 % of the weights left, the files are {files['bitmask'][-2]:.0f} to "
                  f"{files['CSR, 4-byte columns'][-2]:.0f} % of the dense one",
            alt="Lines of the size of the file by sparsity, in per cent of the dense file: "
                + "; ".join(f"{kind} " + ", ".join(f"{y:.0f}" for y in ys) for kind, ys in files.items())
                + f", at sparsities {', '.join(f'{s:.0%}' for s in tried)}.",
            xlabel="sparsity (%)", ylabel="file, dense = 100 %")

# %%
def beside(index_bytes, edge):
    near = {side: layer * unstructured.magnitude_mask(layer, edge + side) for side in (-0.01, 0.01)}
    sizes = [model_size.size_on_disk(stored(weight, index_bytes)) for weight in near.values()]
    return {"computed": edge, "file 1 point below": sizes[0], "dense file": dense_bytes, "file 1 point above": sizes[1]}

pays = {kind: beside(index_bytes, edges[kind]["FP32 weights"]) for kind, index_bytes in kinds.items()}
tables.table(pays, "Bytes on disk on either side of the computed sparsity, FP32", name="stored as")

# %% [markdown]
# And whole models, at the highest sparsity that was confirmed? Their linear weights become bitmasks, everything else
# stays. Which weights went does not matter to the bytes, only how many.

# %%
def packed_bytes(model, share):
    parts = schedules.linear_weights(model)
    masks = unstructured.global_masks(parts, share)
    state = {key: value for key, value in model.state_dict().items() if key not in parts}
    for key, mask in masks.items():
        state |= {f"{key}.{part}": value for part, value in storage.to_bitmask(parts[key] * mask).items()}
    return model_size.size_on_disk(state)

smaller = {model: 1 - packed_bytes(grid.dense(model), share) / model_size.size_on_disk(grid.dense(model))
           for model, (share, _) in chosen.items()}
plots.note("; ".join(f"The {model} at {chosen[model][0]:.0%}: its file gets **{saved:.0%}** smaller"
                     for model, saved in smaller.items())
           + ". Embeddings are not pruned: in the classifier they are half of the file. And whoever loads such a file "
           "unpacks it: in memory, and in time, nothing is saved.")

# %% [markdown]
# ## Try it
#
# A corner of a real layer under each rule. The title says what goes from the whole layer, and how much of the sum of
# its squares goes with it.

# %%
act_norm = input_norms[name]
rules = {"by size": lambda s: unstructured.magnitude_mask(layer, s), "every row": lambda s: unstructured.row_mask(layer, s),
         "Wanda": lambda s: unstructured.wanda_mask(layer, act_norm, s), "2 of 4": lambda s: unstructured.n_m_mask(layer, 2, 4),
         "1 of 4": lambda s: unstructured.n_m_mask(layer, 1, 4)}

def look(rule="by size", sparsity=0.5):
    left = layer.where(rules[rule](sparsity), 0)
    gone, size = unstructured.sparsity({"layer": left}), 1 - (left.square().sum() / layer.square().sum()).item()
    return plots.grids(1000 * left[:8, :12], titles=["weights x 1000"],
                       title=f"{rule}: {gone:.0%} of the weights go, with {size:.0%} of the sum of squares")

widgets.explore(look, rule=list(rules), sparsity=(0.1, 0.9, 0.1))

# %% [markdown]
# ## Claimed and measured

# %%
skipped = speed["90 % zeros, sparse kernel"]
claims.show("14", {
    "magnitude": claims.Measured(
        "; ".join(f"{model}: {share:.0%} of the linear weights go for {found[model, way]['test: change']} "
                  f"{'points' if model == 'classifier' else 'BLEU'}, stored as bitmasks {smaller[model]:.0%} smaller"
                  for model, (share, way) in chosen.items())
        + f"; the classifier with 90 % zeros: {faster.value:.2f} times as fast",
        agrees="partly",
        why="Weights can go at that price, but a plain file keeps its size and no time is saved: zeros are stored and "
            "multiplied like other numbers."),
    "max-sparsity": claims.Measured(
        "; ".join(f"{model} {share:.0%} ({way})" for model, (share, way) in chosen.items())
        + f"; {len(failed)} of {len(grid.FOUND)} that were found did not hold on test data",
        agrees=len(chosen) == len(grid.MODELS) or "partly",
        why="Found by bisection on validation data; on test data, what was found right at the edge may lie beyond it."),
    "unstructured-speed": claims.Measured(
        f"90 % zeros: {faster.value:.2f} times as fast, one layer by a sparse kernel {skipped.value:.1f} times; half of "
        f"a layer's rows left out: {speed['half of the rows'].value:.1f} times",
        agrees="partly" if skipped.low > 1 else bool(faster.value < 1.1 < speed["half of the rows"].low),
        why="A dense kernel multiplies zeros too; a smaller matrix has less to multiply. A kernel that skips zeros gains "
            "only when most of the weights are gone."),
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

# %% question="7"
quiz.ask("7", answer=...)

# %% [markdown]
# ## What to remember
#
# - Prune an exact number of weights, with a rule for ties. A threshold alone misses the count.
# - Global pruning compares sizes across layers; local pruning and rows give each its share; N:M fixes a pattern.
# - Put the zeros back after every step of the optimizer: masked gradients are not enough.
# - Search the sparsity on validation data, confirm it on test data, over seeds.
# - Zeros save no time and no bytes by themselves. Count the indices before you say how small a sparse file is.
#
# ## Where to read on
#
# - *Learning both Weights and Connections for Efficient Neural Networks*, Han, Pool, Tran, Dally, 2015,
#   arXiv:1506.02626
# - *To prune, or not to prune: exploring the efficacy of pruning for model compression*, Zhu, Gupta, 2017,
#   arXiv:1710.01878
# - *The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks*, Frankle, Carbin, 2019, arXiv:1803.03635
# - *Comparing Rewinding and Fine-tuning in Neural Network Pruning*, Renda, Frankle, Carbin, 2020, arXiv:2003.02389
# - *Accelerating Sparse Deep Neural Networks*, Mishra and others, 2021, arXiv:2104.08378
# - *A Simple and Effective Pruning Approach for Large Language Models*, Sun, Liu, Bair, Kolter, 2023, arXiv:2306.11695

# %%
quiz.progress()
