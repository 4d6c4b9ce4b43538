# %% [markdown]
# # Mixed precision and sensitivity
#
# | | |
# |---|---|
# | You will be able to | measure how sensitive each layer is to few bits, and spend a budget of bytes where it helps |
# | You need first | lesson 01 (scale, per channel, best clip); what a divergence is (KL, lesson 03) |
# | Minutes | 55 |
# | Points | 13 |

# %% tags=["imports"]
import random

import torch
from safetensors.torch import load, save

from lessons_lib.files import progress
from lessons_lib.int8 import mixed
from lessons_lib.measure import intervals, model_size
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("11")

# %% [markdown]
# ## Does every layer need the same bits?
#
# So far one number of bits was chosen for a whole model. But a layer may be small and touchy, another large and
# patient. Here is a model of three layers, made up so that you can follow it by hand: for each width the bytes it
# takes, and by how much the loss grows when this layer alone gets it.

# %%
toy = {"first": {2: (10, 8.0), 4: (20, 2.0), 8: (40, 0.0)}, "middle": {2: (50, 1.0), 4: (100, 0.25), 8: (200, 0.0)},
       "last": {2: (10, 3.0), 4: (20, 1.0), 8: (40, 0.0)}}
table([{"layer": layer} | {f"{bits} bits": f"{size} bytes, loss {loss:g}" for bits, (size, loss) in options.items()}
       for layer, options in toy.items()])

# %% [markdown]
# Give every layer 4 bits, and add the bytes and the losses up. (Do losses add up? We come back to that.) Then spend no
# more bytes, but otherwise: 2 bits for the patient layer in the middle, and what it gives back to the other two.

# %%
otherwise = {"first": 8, "middle": 2, "last": 8}
uniform = dict.fromkeys(toy, 4)
table({name: {"bytes": mixed.total_bytes(toy, chosen), "loss": mixed.total_loss(toy, chosen)}
       for name, chosen in {"4 bits everywhere": uniform, "8, 2, 8": otherwise}.items()})

# %% [markdown]
# That is **mixed precision**. It takes two things: knowing what each layer can bear, and a way to spend a budget.
#
# ## One layer at a time
#
# To learn what a layer can bear, round it alone, leave all others as they are, and look at the loss. The difference is
# the layer's **sensitivity**. Then put it back and go on to the next.
#
# ### Exercise: sensitivity

# %% exercise="sensitivity"

# %% [markdown]
# ### On the teacher
#
# What shall count as a layer? Query, key and value of a block read the same input, so we give them one width. With
# the attention output and the two feed-forward layers that makes four **units** a block. The table of word embeddings
# is one more. It holds more than half of all weights, so leaving it out would leave out most of the bytes.

# %%
teacher = topic_classifier.topic_teacher()
rounder = mixed.Rounder(teacher)
units = rounder.units
counts = {unit: sum(teacher.get_parameter(name).numel() for name in names) for unit, names in units.items()}
kinds = {"embeddings": counts["embeddings"]} | {part: counts[f"block 0, {part}"] for part in mixed.PARTS}
table([{"unit": kind, "weights": count, "of them": 1 if kind == "embeddings" else len(teacher.encoder.encoder.layer),
        "share of all (%)": 100 * count / sum(counts.values())} for kind, count in kinds.items()])

# %% [markdown]
# Codes are signed and symmetric with a step for each row, chosen for the least squared error (lesson 01). Only weights
# are rounded here, and read back to FP32 before they are used: this lesson is about bytes, not about time.
#
# Which loss? Accuracy would be a poor instrument. It does not move until some answer tips over. The **divergence**
# (KL) between the probabilities of the rounded and the FP32 model moves long before. It needs no labels either. We
# take it on 40 validation sentences; the test sentences stay unseen until the end.

# %%
held_out = bbc.sentences("validation").shuffle(seed=0).select(range(40))["text"][:]

def log_probabilities(texts):
    return topic_classifier.predict_logits(teacher, texts).log_softmax(-1)

def divergence(exact, rounded):
    """KL of each sentence, in nats."""
    return (exact.exp() * (exact - rounded)).sum(-1)

exact_held_out = log_probabilities(held_out)

# %%
def evaluate(unit, bits):
    with rounder.in_bits({unit: bits} if unit else {}):
        return divergence(exact_held_out, log_probabilities(held_out)).mean().item()

MEASURED = (2, 3, 4)
found = mixed.sensitivity(evaluate, list(units), MEASURED)

# %%
touchy = max(found, key=lambda unit: found[unit][3] / counts[unit])
patient = min(found, key=lambda unit: found[unit][3] / counts[unit])
names = {unit: str(i) for i, unit in enumerate(units)}
plots.lines({f"{bits} bits": (range(len(units)), [found[unit][bits] for unit in units]) for bits in MEASURED},
            log_y=True, xlabel="unit, from input (0: embeddings) to output, four a block",
            ylabel="divergence from FP32 (nats, log)",
            title="The sensitivity curve: no two units bear the same",
            alt="Divergence when one unit alone is rounded, for 2, 3 and 4 bits, on a logarithmic axis. At 3 bits: "
                + ", ".join(f"{names[unit]} {found[unit][3]:.2g}" for unit in units) + ".")

# %%
per_megabyte = {unit: 1e6 * found[unit][3] / (counts[unit] * 3 / 8) for unit in units}
rank = 1 + sum(found[unit][3] > found["embeddings"][3] for unit in units)
plots.note(f"At 3 bits the table of embeddings costs {found['embeddings'][3]:.4f} nats, place {rank} of {len(units)}. "
           f"But it is {counts['embeddings'] / sum(counts.values()):.0%} of the weights. For each megabyte it costs "
           f"{per_megabyte['embeddings']:.4f}. By this ratio, which a budget looks at, *{patient}* is the most patient unit "
           f"({per_megabyte[patient]:.4f}) and *{touchy}* the touchiest ({per_megabyte[touchy]:.4f}).")

# %% [markdown]
# ### What does another bit buy?
#
# Lesson 01: one bit more is a quarter of the squared error. While errors are small, the divergence follows the squared
# error. So each bit should divide it by about 4. Look at the ratio from 3 to 4 bits, and at the embeddings at 6.

# %%
ratios = sorted(found[unit][3] / found[unit][4] for unit in units)
at_six = evaluate("embeddings", 6)
plots.note(f"From 3 to 4 bits the divergence is divided by {ratios[len(ratios) // 2]:.1f} for the median unit, with "
           f"half of the units between {ratios[len(ratios) // 4]:.1f} and {ratios[3 * len(ratios) // 4]:.1f}. For the "
           f"embeddings the rule says {found['embeddings'][4] / 16:.2g} at 6 bits; measured: {at_six:.2g}.")

# %% [markdown]
# Good enough to fill in 6 and 8 bits, where there is little left to measure. The bytes of a unit: its codes, packed
# to a stream of bits, and an FP32 step for each row.

# %%
WIDTHS = (2, 3, 4, 6, 8)
rows = {unit: sum(len(teacher.get_parameter(name)) for name in parts) for unit, parts in units.items()}

def loss_at(unit, bits):
    return max(found[unit][bits] if bits in MEASURED else found[unit][4] / 4 ** (bits - 4), 0.0)

costs = {unit: {bits: (-(-counts[unit] * bits // 8) + 4 * rows[unit], loss_at(unit, bits)) for bits in WIDTHS}
         for unit in units}

# %% [markdown]
# ## Spending a budget
#
# How many allocations are there? The choices of all units multiply.

# %%
plots.note(f"{len(WIDTHS)} widths for each of {len(units)} units make {len(WIDTHS) ** len(units):.1g} allocations.")

# %% [markdown]
# Nobody tries them all. The **greedy** rule looks one step ahead. Start with 2 bits everywhere. Of all units that could
# get more bits, take the one that saves most loss for each byte added. Repeat until the budget is spent.
#
# ### Exercise: the greedy rule

# %% exercise="allocate_bits"

# %% [markdown]
# ### How much does greed lose?
#
# Where there are few units, all allocations can be tried. Take the embeddings and the units of block 0. For budgets
# from the smallest to the largest, compare the greedy choice with the best.

# %%
few = {unit: options for unit, options in costs.items() if unit == "embeddings" or unit.startswith("block 0")}
least, most = (mixed.total_bytes(few, dict.fromkeys(few, bits)) for bits in (WIDTHS[0], WIDTHS[-1]))
budgets = [least + (most - least) * i / 24 for i in range(25)]

# %%
best = [mixed.total_loss(few, mixed.best_allocation(few, budget)) for budget in budgets]
greedy = [mixed.total_loss(few, mixed.allocate_bits(few, budget)) for budget in budgets]
equal = sum(a <= b * (1 + 1e-9) for a, b in zip(greedy, best, strict=True))
worst = max(a / b for a, b in zip(greedy, best, strict=True) if b)

# %%
megabytes = [budget / 1e6 for budget in budgets]
plots.lines({"greedy": (megabytes, greedy), "best of all": (megabytes, best)}, log_y=True,
            xlabel="budget (MB)", ylabel="predicted divergence (nats, log)",
            title=f"Greedy is as good as the best at {equal} of {len(budgets)} budgets, and {worst:.1f} times worse at one",
            alt=f"Two falling curves over budgets from {least / 1e6:.1f} to {most / 1e6:.1f} MB. The greedy curve "
                f"lies on the best one at {equal} of {len(budgets)} budgets, at worst at {worst:.2f} times its height.")

# %% [markdown]
# Why is it ever worse? One large unit dominates here. Where the budget cannot lift it any more, greed has already spent
# bytes on small ones that the best allocation would have saved up.
#
# ## The same bytes: mixed against uniform
#
# Now all units. The budgets are those of 3 and of 4 bits everywhere, and one halfway between 2 and 3 bits, for which
# there is no uniform width. There the control is a **blind** allocation: units get more bits in random order, with no
# regard to sensitivity, until the budget is spent.

# %%
def bytes_of(bits):
    return mixed.total_bytes(costs, dict.fromkeys(units, bits))

def blind(budget, seed):
    chosen, order = dict.fromkeys(units, 2), list(units)
    random.Random(seed).shuffle(order)
    for bits in WIDTHS[1:]:
        for unit in order:
            wider = chosen | {unit: bits}
            chosen = wider if mixed.total_bytes(costs, wider) <= budget else chosen
    return chosen

halfway = (bytes_of(2) + bytes_of(3)) / 2

# %%
allocations = {f"{bits} bits everywhere": dict.fromkeys(units, bits) for bits in (2, 3, 4)}
allocations |= {f"mixed, bytes of {bits} bits": mixed.allocate_bits(costs, bytes_of(bits)) for bits in (3, 4)}
allocations |= {"mixed, halfway": mixed.allocate_bits(costs, halfway), "blind, halfway": blind(halfway, seed=0)}

# %% [markdown]
# Bytes are those of a file: packed codes, steps, and everything that stays in FP32, which is the same for all. What is
# judged is what the file holds: each is read back into a second copy of the model, and that answers the 300 test
# sentences.

# %%
test = bbc.sentences("test").shuffle(seed=0).select(range(300))
texts, topics, documents = test["text"], torch.tensor(test["topic"]), test["document"]
copied, sizes = topic_classifier.topic_teacher(), {"FP32": model_size.size_on_disk(teacher)}

def answers_of_file(name, chosen):
    content = save(rounder.packed_state(chosen))
    sizes[name] = len(content)
    return topic_classifier.predict_logits(mixed.restore(copied, load(content)), texts).log_softmax(-1)

log_p = {"FP32": log_probabilities(texts)}
for name in progress.over(allocations, "reading", "file"):
    log_p[name] = answers_of_file(name, allocations[name])
right = {name: (rounded.argmax(1) == topics).int().tolist() for name, rounded in log_p.items()}
apart = {name: divergence(log_p["FP32"], log_p[name]) for name in allocations}

# %%
def over_documents(values):
    """Mean of one number a sentence, with its 95 % interval: documents are drawn anew 2,000 times."""
    stories, member = torch.unique(torch.tensor(documents), return_inverse=True)
    sums = torch.zeros(len(stories)).index_add_(0, member, values)
    drawn = torch.randint(len(stories), (2000, len(stories)), generator=torch.Generator().manual_seed(0))
    means = sums[drawn].sum(1) / member.bincount()[drawn].sum(1)
    return intervals.Interval(values.mean().item(), *means.quantile(torch.tensor([0.025, 0.975])).tolist())

# %%
def lost(name, than="FP32"):
    gap = intervals.paired_difference(right[name], right[than], documents)
    return intervals.Interval(100 * gap.value, 100 * gap.low, 100 * gap.high)

table([{"allocation": name, "bytes of the file": sizes[name],
        "predicted": mixed.total_loss(costs, allocations[name]),
        "divergence on test sentences": over_documents(apart[name]),
        "accuracy minus FP32 (points)": format(lost(name), "+.1f")} for name in allocations], digits=2)

# %%
gains = {bits: (over_documents(apart[f"{bits} bits everywhere"] - apart[f"mixed, bytes of {bits} bits"]),
                lost(f"mixed, bytes of {bits} bits", f"{bits} bits everywhere")) for bits in (3, 4)}
over_blind = over_documents(apart["blind, halfway"] - apart["mixed, halfway"]), lost("mixed, halfway", "blind, halfway")

def told(gap):
    return "smaller" if gap.low > 0 else "larger" if gap.high < 0 else "not told apart"

plots.note("Mixed against uniform at the same bytes. " + " ".join(
    f"At those of {bits} bits the divergence is {told(gain)} (uniform minus mixed {gain:.2g}), the accuracy "
    f"{'differs' if 0 not in points else 'cannot be told apart'} ({points:+.1f} points)."
    for bits, (gain, points) in gains.items()) + f" Against the blind allocation halfway the divergence is "
    f"{told(over_blind[0])} ({over_blind[0]:.2g}), the accuracy {over_blind[1]:+.1f} points.")

# %% [markdown]
# Where uniform rounding already costs no accuracy, there is none left to win, and only the divergence can show a gain.
#
# And look at the budget halfway. If the blind allocation did better there than the greedy one, that is no slip: the
# rule did what it was told, on a forecast that was wrong. The next picture shows how wrong.
#
# ### Where the sum fails
#
# Each sensitivity was measured with all other layers exact. In the rounded model no layer reads an exact input.

# %%
predicted = {name: mixed.total_loss(costs, chosen) for name, chosen in allocations.items()}
places = {name: (predicted[name], apart[name].mean().item()) for name in allocations}
off = {name: measured / guess for name, (guess, measured) in places.items()}
furthest = max(off, key=off.get)
plots.scatter({name: ([guess], [measured]) for name, (guess, measured) in places.items()}, log_x=True, log_y=True,
              xlabel="predicted: sum of the sensitivities (nats, log)", ylabel="measured (nats, log)",
              title=f"For {furthest} the divergence is {off[furthest]:.1f} times what the sum foretold",
              alt="Measured against predicted divergence: " + "; ".join(
                  f"{name} predicted {guess:.2g}, measured {measured:.2g}"
                  for name, (guess, measured) in places.items()) + ".")

# %% [markdown]
# So the allocation is chosen by a forecast, and judged by running it. Where few bits make the forecast poor, one can
# measure again: start from the allocation found, change one layer at a time *there*, and go on.
#
# ## The Pareto front
#
# A budget is one question. To see all answers at once, draw many allocations as points, bytes across and loss up. A
# point is worth looking at when no other is both smaller and better. Those points are the **Pareto front**.
#
# ### Exercise: the front

# %% exercise="pareto_front"

# %%
def point(chosen):
    return mixed.total_bytes(costs, chosen) / 1e6, mixed.total_loss(costs, chosen)

steps = [bytes_of(2) + (bytes_of(8) - bytes_of(2)) * i / 30 for i in range(31)]
cloud = {"blind": [point(blind(budget, seed)) for budget in steps for seed in range(3)],
         "greedy": [point(mixed.allocate_bits(costs, budget)) for budget in steps],
         "uniform": [point(dict.fromkeys(units, bits)) for bits in WIDTHS]}
together = [(one, kind) for kind, points in cloud.items() for one in points]
front = [together[place] for place in mixed.pareto_front([one for one, _ in together])]
on_front = {kind: sum(kind == other for _, other in front) for kind in cloud}

# %%
plots.scatter({kind: tuple(zip(*points, strict=True)) for kind, points in cloud.items()}, log_y=True,
              xlabel="bytes of the rounded units (MB)", ylabel="predicted divergence (nats, log)",
              title=f"Of {len(front)} points on the front {on_front['greedy']} are greedy, {on_front['uniform']} "
                    f"uniform, {on_front['blind']} blind",
              alt=f"Three clouds of points falling from {bytes_of(2) / 1e6:.1f} to {bytes_of(8) / 1e6:.1f} MB. Greedy "
                  f"allocations lie along the lower edge; on the front are {on_front['greedy']} greedy, "
                  f"{on_front['uniform']} uniform and {on_front['blind']} blind ones.")

# %% [markdown]
# ## A width for each input, in outline
#
# A model can also spend by *sentence*. Ask the small model first. If its largest probability is high, keep the
# answer; if not, ask the exact model. This is **adaptive** precision. Both models must be at hand, so it can save
# time, and never bytes. The probabilities are there already: 2 bits everywhere, and FP32 for the doubtful.

# %%
confidence = log_p["2 bits everywhere"].exp().amax(1)
shares, scores = [], []
for share in range(0, 101, 10):
    doubtful = confidence <= confidence.quantile(share / 100) if share else torch.zeros(len(texts), dtype=torch.bool)
    answers = torch.where(doubtful, log_p["FP32"].argmax(1), log_p["2 bits everywhere"].argmax(1))
    shares.append(share)
    scores.append(100 * (answers == topics).float().mean().item())
enough = next(share for share, score in zip(shares, scores, strict=True) if score >= scores[-1] - 1)

# %%
plots.lines({"2 bits, FP32 for the doubtful": (shares, scores)}, marks={"within a point of FP32": enough},
            xlabel="sentences asked again in FP32 (%)", ylabel="accuracy (%)",
            title=f"Asking {enough} % of the sentences again is enough to come within a point of FP32",
            alt="Accuracy against the share of sentences asked again: "
                + ", ".join(f"{score:.1f} at {share} %" for share, score in zip(shares, scores, strict=True)) + ".")

# %% [markdown]
# ## Try it
#
# Move the budget. Who gets bits first, who last? Look for the budget at which the embeddings move up.

# %%
def spend(share=0.3):
    budget = bytes_of(2) + share * (bytes_of(8) - bytes_of(2))
    chosen = mixed.allocate_bits(costs, budget)
    said = f"{budget / 1e6:.1f} MB: predicted divergence {mixed.total_loss(costs, chosen):.2g}, embeddings " \
           f"{chosen['embeddings']} bits"
    return plots.bars(chosen, title=said, xlabel="bits", ylabel="unit",
                      alt=f"Bits of each unit. {said}. " + ", ".join(f"{unit} {bits}" for unit, bits in chosen.items()))

widgets.explore(spend, share=(0.0, 1.0, 0.1))

# %% [markdown]
# ## Claimed and measured

# %%
smaller = [bits for bits, (gain, _) in gains.items() if gain.low > 0]
more_right = [bits for bits, (_, points) in gains.items() if points.low > 0]
claims.show("11", {"mixed": claims.Measured(
    "uniform minus mixed at the same bytes, in divergence: "
    + "; ".join(f"{bits} bits {gain:.2g}" for bits, (gain, _) in gains.items()) + "; accuracy, mixed minus uniform: "
    + "; ".join(f"{bits} bits {points:+.1f} points" for bits, (_, points) in gains.items()),
    True if more_right else "partly" if smaller else False,
    "The layers differ in what they bear for each byte, so mixing lowers the divergence where the forecast holds. "
    "Accuracy follows only where uniform rounding costs answers.")})

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

# %%
quiz.progress()

# %% [markdown]
# ## What to remember
#
# - Sensitivity: round one layer alone, and look at the divergence from the exact model. No labels are needed.
# - A budget looks at loss saved for each byte. A large patient unit, here the embeddings, pays for many touchy ones.
# - Greedy finds the best at most small budgets and can miss it by far at others. Its forecast adds up single losses,
#   which fails when all are large.
# - Compare at the same bytes of the same kind of file, with a blind allocation as control.
# - Where uniform rounding costs nothing, mixing has nothing to win.
#
# ## Where to read on
#
# - Zhen Dong and others, *HAWQ: Hessian Aware Quantization of Neural Networks with Mixed-Precision*, 2019, arXiv
#   1905.03696: sensitivity from second derivatives.
# - Yaohui Cai and others, *ZeroQ: A Novel Zero Shot Quantization Framework*, 2020, arXiv 2001.00281: one layer at a
#   time, and a Pareto front.
# - Kuan Wang and others, *HAQ: Hardware-Aware Automated Quantization with Mixed Precision*, 2019, arXiv 1811.08886.
# - Sheng Shen and others, *Q-BERT: Hessian Based Ultra Low Precision Quantization of BERT*, 2019, arXiv 1909.05840:
#   which parts of a BERT are touchy.

