# %% [markdown]
# # Structure and movement
#
# | | |
# |---|---|
# | You will be able to | score heads and neurons, remove them for real, and prune by movement while fine-tuning |
# | You need first | lesson 14 (masks, sparsity, the cubic schedule) |
# | Minutes | 65 |
# | Points | 17 |

# %% tags=["imports"]
import copy
import tempfile

import torch

from lessons_lib.distillation import students
from lessons_lib.measure import benchmark, model_size
from lessons_lib.pruning import heads, importance, movement, structured
from lessons_lib.show import claims, plots, tables, widgets
from lessons_lib.studies import magnitude, study
from lessons_lib.studies import movement as study_movement
from lessons_lib.studies import structure as study_structure
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("15")

# %% [markdown]
# ## What can be taken out in one piece?
#
# Lesson 14 ended with a model full of zeros that was as large and as slow as before. A zero is stored and multiplied
# like any other number. Only a **smaller matrix** saves bytes and time. So which parts of a transformer can go as a
# whole? Look at where the weights of the topic teacher are.

# %%
teacher = topic_classifier.topic_teacher()

def part_of(name):
    if "word_embeddings" in name:
        return "word embeddings"
    return "attention" if ".attention." in name else "feed-forward" if ".layer." in name else "the rest"

# %%
counted = {}
for name, weight in teacher.named_parameters():
    counted[part_of(name)] = counted.get(part_of(name), 0) + weight.numel()
shares = {part: 100 * count / sum(counted.values()) for part, count in counted.items()}
plots.bars(shares, title=f"Half of the {sum(counted.values()) / 1e6:.1f} million weights is one table of words",
           alt="Bars of each part's share of all weights: "
               + ", ".join(f"{part} {share:.1f} %" for part, share in shares.items()) + ".",
           xlabel="share of the weights (%)", ylabel="part")

# %% [markdown]
# This lesson takes out four kinds of things, and calls that **structured pruning**:
#
# - **neurons** of the feed-forward blocks,
# - **heads** of the attention,
# - whole **layers**,
# - **words** that no text uses.
#
# It starts with the smallest.

# %% [markdown]
# ## A neuron by hand
#
# A feed-forward block is two linear layers with a function such as ReLU in between. What stands between them are its
# **neurons**. Here are three neurons, between two inputs and two outputs.

# %%
w_in, b_in = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]), torch.tensor([0.1, 0.2, 0.3])
w_out = torch.tensor([[2.0, 0.0, 1.0], [-1.0, 0.0, 4.0]])
plots.grids(w_in, b_in[:, None], w_out, titles=["w_in: a row each", "b_in", "w_out: a column each"])

# %% [markdown]
# The middle neuron is worked out from the second row of `w_in` and from the second bias. Then `w_out` multiplies it by
# the zeros in its second column. Nobody ever hears of it. So leave out that row, that bias and that column:

# %%
keep = torch.tensor([0, 2])
narrow = w_in[keep], b_in[keep], w_out[:, keep]
x = torch.tensor([1.0, -0.5])
torch.relu(x @ w_in.t() + b_in) @ w_out.t(), torch.relu(x @ narrow[0].t() + narrow[1]) @ narrow[2].t()

# %% [markdown]
# The same two numbers, from smaller matrices. In general, for a set $K$ of neurons that stay:
#
# $$W_\text{in}' = W_\text{in}[K, :] \qquad b_\text{in}' = b_\text{in}[K] \qquad W_\text{out}' = W_\text{out}[:, K]$$
#
# Inputs and outputs keep their width, so no other layer notices. And the bias of the second layer stays as it is: it
# belongs to the outputs.

# %% [markdown]
# ### Exercise: neurons

# %% exercise="prune_neurons"

# %% [markdown]
# Now the teacher. Take half of the neurons of every layer, at random for now. Make two models: one in which they are
# set to zero, one from which they are removed.

# %%
pairs = structured.neuron_layers(teacher)
half = [torch.randperm(first.out_features)[: first.out_features // 2] for first, _ in pairs]
removed, zeroed = structured.prune_neurons(teacher, half), copy.deepcopy(teacher)
for (_, second), stays in zip(structured.neuron_layers(zeroed), half, strict=True):
    gone = torch.ones(second.in_features, dtype=torch.bool).index_fill(0, stays, False)
    second.weight.data[:, gone] = 0

# %%
texts = bbc.sentences("validation")["text"]
batch = topic_classifier.tokenize(texts[:32])

def far_apart(one, other):
    with torch.inference_mode():
        return (one(**batch) - other(**batch)).abs().max().item()

def both_ways(one, zeros, what):
    gaps = {"removed against zeroed": far_apart(one, zeros), "removed against whole": far_apart(one, teacher)}
    return tables.table(gaps, f"{what}: largest difference of 32 sentences' logits", unit="difference", digits=2)

both_ways(removed, zeroed, "Half of the neurons")

# %% [markdown]
# Zeroed and removed are the same function, up to rounding. Both differ from the whole teacher, because random neurons
# are not idle. Which ones to remove is a question for later.
#
# The removed model is an ordinary model. Its config says how many neurons a layer has:

# %%
{name: model.encoder.config.intermediate_size for name, model in {"whole": teacher, "removed": removed}.items()}

# %% [markdown]
# That is one number for all layers. So every layer has to lose equally many neurons, if a plain transformers
# installation is to load the file.

# %% [markdown]
# ## A head by hand
#
# A layer of the teacher has 12 attention **heads**. Each works with 32 channels of its own: it makes queries, keys and
# values of 32 numbers, compares every word with every other, and mixes the values. What the heads say is put side by
# side, 384 numbers, and goes through one more matrix, here called `wo`.
#
# So head $h$ of size $d$ owns the rows $h d$ to $h d + d - 1$ of the query, key and value matrices, and the columns
# with the same numbers in `wo`. Three heads of size 2 in a model of width 4:

# %%
rows = torch.arange(6.0)[:, None].expand(6, 4) // 2
plots.grids(rows, rows.t(), titles=["wq, wk, wv: head of each row", "wo: head of each column"],
            title="Which head owns which numbers")

# %% [markdown]
# To remove head 1, leave out the rows 2 and 3 of three matrices and the columns 2 and 3 of the fourth. The biases of
# query, key and value lose the same rows.

# %% [markdown]
# ### Exercise: heads

# %% exercise="prune_head_weights"

# %% [markdown]
# ### What the library does with it
#
# A transformers config has no field for this. It has one number of heads for all layers, and it takes the size of a
# head from it: width divided by heads. A layer with 8 heads of 32 channels cannot be said. Earlier versions of
# transformers had a function `prune_heads`; version 5 has none.
#
# So `lessons_lib/pruning/heads.py` brings an attention class of its own, which may have any number of heads, and writes
# a field of its own into the config, so that the model can be read back.

# %%
third = [torch.randperm(12)[:8].sort().values for _ in range(6)]
fewer, silent = heads.prune_heads(teacher, third), copy.deepcopy(teacher)
for block, stays in zip(silent.encoder.encoder.layer, third, strict=True):
    said = block.attention.output.dense.weight.data.view(384, 12, 32)
    said[:, torch.ones(12, dtype=torch.bool).index_fill(0, stays, False)] = 0

# %%
both_ways(fewer, silent, "A third of the heads")

# %% [markdown]
# ## Which head matters?
#
# Random heads are not idle either. How do you find out which head a model can spare? The honest way: take one out, and
# see what the loss becomes. For the teacher that means 72 runs over all sentences, one for each head.
#
# There is a way with a single run. Multiply what each head says by a number, its **gate** $g_h$. With $g_h = 1$ nothing
# changes; with $g_h = 0$ the head is gone. The derivative of the loss by the gate says how steeply the loss changes
# when the gate begins to close. One backward pass gives the derivatives for all heads.
#
# Here they are for two sentences and four heads.

# %%
sentences = topic_classifier.training_batches(64, seed=0)
gradients = torch.stack(importance.gate_gradients(teacher, sentences), dim=1)       # (sentences, layers, heads)
first = gradients[:, 0]
head = int((first.max(dim=0).values - first.min(dim=0).values).argmax())            # on which sentences differ most
two = 1000 * first[[int(first[:, head].argmax()), int(first[:, head].argmin())]].roll(-head, dims=1)[:, :4]

# %%
plots.grids(two, two.sum(dim=0, keepdim=True), two.abs().sum(dim=0, keepdim=True),
            titles=["a row for a sentence", "sum", "sum of absolute values"],
            title=f"Gradients of gates x 1000: head {head} and its three neighbours in the first layer")

# %% [markdown]
# Look at the first column. Closing the gate would lower the loss of one sentence and raise that of the other. With
# their signs the two cancel, and the head seems to matter less than it does to either. So the absolute value is taken
# **in each sentence, before the sum** (Michel and others, 2019):
#
# $$I_h = \sum_x \left| \frac{\partial L(x)}{\partial g_h} \right|$$

# %% [markdown]
# ### Exercise: the importance of heads

# %% exercise="head_importance"

# %% [markdown]
# All heads of the teacher, over 64 sentences:

# %%
scores = importance.from_gates(gradients)
ranked = scores.flatten().sort(descending=True).values
quarter = (ranked[:18].sum() / ranked.sum()).item()
plots.grids(scores, titles=["a row for a layer, a column for a head"],
            title=f"A quarter of the heads holds {quarter:.0%} of the importance")

# %% [markdown]
# ## Is the cheap measure any good?
#
# Put it beside the honest one. The study of this lesson closed each of the 72 gates in turn, over 64 sentences, three
# times with other sentences. Compare by **ranks**: sort the heads by one measure and by the other, and correlate the
# places. That is **Spearman's** correlation: 1 for the same order, 0 for none, -1 for the reverse.
#
# Here it is live, for the 12 heads of one layer and half of those sentences.

# %%
few = sentences[:1]
changes, = importance.exact_changes(teacher, few, blocks=[3])
by_gradient = importance.from_gates(importance.gate_gradients(teacher, few)[3])
exact = importance.from_gates(changes)
rank = importance.spearman(by_gradient, exact)
plots.scatter({"a head": (by_gradient, exact, list(range(12)))},
              title=f"Layer 3, 32 sentences: rank correlation {rank:.2f}",
              alt="Points for the 12 heads of a layer: importance by gradient against the change of the loss without "
                  "the head. " + "; ".join(f"head {h}: {a:.3f} and {b:.3f}"
                                           for h, (a, b) in enumerate(zip(by_gradient, exact, strict=True))) + ".",
              xlabel="sum of absolute gradients", ylabel="sum of absolute changes of the loss")

# %% [markdown]
# And for all heads, from the study. There are three ways to sum up what a head does to many sentences: the absolute
# change in each sentence, summed; the changes with their signs, summed; or the size of that sum, which is the change of
# the mean loss.
#
# A good figure here is not enough. Heads are ranked on some sentences, and used on others. So split the sentences in
# two halves, take the exact measure on each, and correlate the two: that is its **split-half reliability**. It is a
# **ceiling**: what does not even agree with itself cannot tell you which head to remove.

# %%
structure = study.load("structure").table()
draws = structure.where(way="exact")

def over_draws(pick):
    values = [pick(row) for row in draws]
    return f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})"

kinds = {"absolute change in each sentence": ("quality", "exact"), "changes with their signs": ("signed", "signed"),
         "size of the change of the mean loss": ("mean", "mean")}
tables.table([{"exact measure": kind, "with the gradients": over_draws(lambda row, key=key: row[key]),
               "with itself, other half": over_draws(lambda row, half=half: row["halves"][half])}
              for kind, (key, half) in kinds.items()],
             f"Rank correlation over 72 heads: mean and range of {len(draws)} draws of "
             f"{study_structure.SETTINGS['sentences']['exact']} sentences")

# %%
crossed = [importance.spearman(torch.tensor(row["gradient"]), torch.tensor(row["change"])) for row in draws]
plots.note("First row: the gradients give almost the order of the exact measure, in one run instead of 72. Second "
           "row: they follow it too, each with its sign. But there the exact measure has no order of its own, for its "
           "halves hardly agree: what is left when sentences have cancelled is mostly chance. Third row: the mean "
           "loss without the head, up to its sign, is what a user would ask for. Its halves agree a little, and "
           "so does the importance with it. Over so few sentences nobody can rank heads by it well. With the sign of "
           f"that change the importance correlates at {sum(crossed) / len(crossed):.2f}: what matters much may help or "
           "harm.")

# %% [markdown]
# Can a correlation stand above its ceiling? Here it can. The first figure of a row compares two measures on the
# **same** sentences, so they share what is special to these. The second compares different sentences.

# %% [markdown]
# ## Many heads at once
#
# The claim about heads is not about ranks. It says that **many can go with little loss**. So remove more and more of
# them, the least important of all layers first, and ask the test sentences. Nothing is trained. Beside it, the control:
# heads drawn at random. Three draws each, of the sentences or of the heads.

# %%
def scored(way, gone, recovery=None):
    return magnitude.score(structure, study_structure.rows(structure, way, gone, recovery))

whole = magnitude.score(structure, structure.where(way="importance", heads=0, neurons=0, recovery=None))

def curve(way, part, counts, of):
    found = [whole, *(scored(way, {part: count}) for count in counts)]
    return ([0, *(100 * count / of for count in counts)],
            *zip(*((one.value, one.low, one.high) for one in found), strict=True))

# %%
by_heads = {way: curve(way, "heads", study_structure.HEADS, 72) for way in study_structure.WAYS}
gone_third = {way: scored(way, {"heads": 24}).value - whole.value for way in study_structure.WAYS}
plots.lines(by_heads, title=f"Without a third of the heads: {gone_third['importance']:+.1f} points by importance, "
                            f"{gone_third['random']:+.1f} at random",
            alt="Lines of accuracy by the share of heads that are gone, with intervals. "
                + "; ".join(f"{way}: " + ", ".join(f"{y:.1f} at {x:.0f} %" for x, y in zip(xs, ys, strict=True))
                            for way, (xs, ys, *_) in by_heads.items()) + ".",
            xlabel="heads removed (%)", ylabel="accuracy on test sentences (%)")

# %%
def gap(one, other):
    return magnitude.difference(structure, *(study_structure.rows(structure, *side) for side in (one, other)))

def said(gain):
    return f"{gain:+.1f}, " + ("better" if gain.beats else "worse" if gain.beaten else "not told apart")

chosen = [{"part": part, "removed": f"{count} of {of}",
           "importance minus random, points": said(gap(("importance", {part: count}), ("random", {part: count})))}
          for part, counts, of in (("heads", study_structure.HEADS, "72"),
                                   ("neurons", [study_structure.NEURONS], "1,536 in each layer")) for count in counts]
tables.table(chosen, "Does it pay to choose?")

# %% [markdown]
# The last row is neurons. They have gates too, one each, and the same formula scores them. Here the choice is made in
# every layer by itself, for the sake of the config.
#
# One cell of this study, live: importance over 256 sentences, a third of the heads removed, all test sentences of the
# study asked.

# %%
study.load("structure").live(study_structure.cell("importance", study_structure.SEEDS[0], {"heads": 24}))

# %% [markdown]
# ## Layers and words
#
# Two coarser cuts remain. **Layers**: leave out some of the six; the config has a number for that. Lesson 04 built its
# students this way. **Words**: the table of embeddings has a row for each of its word pieces, and most of them never
# occur in the training sentences.

# %%
used = topic_classifier.tokenize(bbc.sentences("train")["text"])["input_ids"].unique()
trimmed = structured.trim_vocabulary(teacher, used)
rare = topic_classifier.tokenize(bbc.sentences("test")["text"])
unknown = 1 - torch.isin(rare["input_ids"][rare["attention_mask"].bool()], used).float().mean().item()
tables.table({"word pieces in the table": teacher.encoder.config.vocab_size,
              "used by the training sentences": len(used),
              "pieces of the test sentences that are then unknown": f"{unknown:.2%}"}, unit="figure")

# %% [markdown]
# The rows that stay get new numbers. The trimmed model keeps the list of old numbers with its weights, so it takes the
# same tokens as before. What it does not know any more reads as `[UNK]`, the token for unknown words. For a sentence
# without such words the function is the same:

# %%
inside = torch.isin(batch["input_ids"], used).all(dim=1)
batch = {name: tensor[inside] for name, tensor in batch.items()}
far_apart(trimmed, teacher)

# %% [markdown]
# ## What it buys
#
# Now all cuts, each by itself and then together. First the file. `structured.save` writes a folder as transformers
# does, and `structured.load` reads it back. The table below counts the bytes of the saved folder, after the model has
# been read back from it and has given the same logits.

# %%
neuron_scores = [importance.from_gates(block) for block in importance.gate_gradients(teacher, sentences, "neurons")]
kept_neurons = importance.least_in_each(neuron_scores, study_structure.NEURONS)
kept_heads = [kept.tolist() for kept in importance.least(list(scores), 24)]
slim = heads.prune_heads(structured.prune_neurons(teacher, kept_neurons), kept_heads)
cuts = {"whole": teacher, "half of the neurons": structured.prune_neurons(teacher, kept_neurons),
        "a third of the heads": heads.prune_heads(teacher, kept_heads), "neurons and heads": slim,
        "three of six layers": structured.keep_layers(teacher, [1, 3, 5]), "unused words": trimmed,
        "neurons, heads and words": structured.trim_vocabulary(slim, used)}

# %%
def saved(model):
    with tempfile.TemporaryDirectory() as folder:
        structured.save(model, folder)
        assert far_apart(structured.load(folder), model) < 1e-5
        return model_size.size_on_disk(folder)

megabytes = {name: saved(model) / 1e6 for name, model in cuts.items()}

# %% [markdown]
# Then the time. The models take turns on a batch of 32 sentences of 32 tokens, in FP32. The last one does not race: to a
# sentence, a table with fewer words is the same work.

# %%
full = topic_classifier.tokenize([" ".join(texts[place : place + 4]) for place in range(32)])     # 32 tokens each: no padding
with torch.inference_mode():
    timed = benchmark.compare({name: lambda model=model: model(**full) for name, model in cuts.items()
                             if name != "neurons, heads and words"}, 10, 2)
speed = {name: timed.ratio("whole", name) for name in timed.timings}
tables.table({name: {"MB on disk": megabytes[name], "times as fast": speed.get(name)} for name in cuts},
             f"Saved, and run in turns at batch 32 ({timed.timings['whole'].threads} threads)", name="model")

# %%
plots.note("Half of the neurons and a third of the heads make the classifier "
           f"**{speed['neurons and heads'].value:.2f} times as fast**. Words save "
           f"{1 - megabytes['unused words'] / megabytes['whole']:.0%} of the file and no time: a sentence looks up as "
           "many rows as before. Layers, neurons and heads save both.")

# %% [markdown]
# ## What it costs
#
# Now the accuracy of the model with half of the neurons and a third of the heads gone in one cut. Nothing has been
# trained since. What leaving out layers costs is not in this study: see for yourself under *Try it*, before you take the
# faster one.

# %%
cost = {way: gap((way, study_structure.BOTH), ("importance", {})) for way in study_structure.WAYS}
tables.table([{"chosen by": way, "accuracy (%)": scored(way, study_structure.BOTH), "against unpruned": said(gain)}
              for way, gain in cost.items()], "A third of the heads and half of the neurons removed")

# %% [markdown]
# ## Cut deeper, and win it back
#
# Now half of the heads and **three quarters** of the neurons. That hurts. How much accuracy comes back by a short
# training of what is left? The study tries two ways:
#
# - on the **labels** of the training sentences, or
# - on what the **unpruned teacher** says of the same sentences: the soft loss of lesson 03, no labels.

# %%
recovered = {"not trained": scored("importance", study_structure.DEEP),
             "trained on labels": scored("importance", study_structure.DEEP, "labels"),
             "distilled from the unpruned": scored("importance", study_structure.DEEP, "teacher")}
mean = {name: f"{found.value:.1f} %" for name, found in recovered.items()}

# %%
plots.bars(recovered, title=f"{mean['not trained']} before {study_structure.SETTINGS['steps']} steps, "
                            f"{mean['distilled from the unpruned']} distilled, {mean['trained on labels']} on labels",
           alt="Bars of accuracy without half of the heads and three quarters of the neurons, with intervals: "
               + ", ".join(f"{name} {found:.1f}" for name, found in recovered.items()) + f". Unpruned: {whole:.1f}.",
           xlabel="accuracy on test sentences (%)", ylabel="model", marks={"unpruned": whole.value})

# %%
distilled, labelled = (("importance", study_structure.DEEP, recovery) for recovery in ("teacher", "labels"))
versus = {"labels": labelled, "not trained": ("importance", study_structure.DEEP), "unpruned": ("importance", {})}
taught = {other: gap(distilled, side) for other, side in versus.items()}
tables.table([{"distilled minus": other, "points": said(gain)} for other, gain in taught.items()],
             "Paired over three seeds and the documents of the test sentences")

# %% [markdown]
# Distilling used no label, and is not told apart from training on labels. So it can be tried even where nobody has the
# labels any more. The mean rises by some points; but three seeds are few, and the unpruned model stays ahead. Both ways
# had their learning rate chosen on validation data, among the same three:

# %%
tables.table([{"trained on": recovery}
              | {f"{lr:g}": f"{100 * quality:.1f}"
                 for lr, quality in study_structure.tuning(structure, recovery).items()}
              | {"chosen": f"{study_structure.CHOSEN[recovery]:g}"} for recovery in study_structure.CHOSEN],
             "Accuracy on validation data by learning rate (%)")

# %% [markdown]
# ## Where a weight is, or where it goes
#
# Back to single weights, with a new idea. Magnitude pruning asks how large a weight **is**. That is a good question
# about a model that has been trained for its task. But a pretrained model that is being fine-tuned has its sizes from
# another task. **Movement pruning** (Sanh, Wolf and Rush, 2020) asks where a weight **goes** while it learns the new
# one.
#
# Three weights, and the path each takes in three steps of gradient descent:

# %%
grads = [torch.tensor([0.5, -0.4, -0.04])] * 3
weights = [torch.tensor([0.9, 0.1, -0.5]) - 0.25 * step * grads[0] for step in range(4)]
paths = torch.stack(weights)
plots.lines({f"weight {i}": (range(4), paths[:, i].abs()) for i in range(3)},
            title="Weight 0 shrinks, weight 1 grows, weight 2 hardly moves",
            alt="Lines of the size of three weights over three steps: "
                + "; ".join(f"weight {i} " + ", ".join(f"{v:.2f}" for v in paths[:, i].abs()) for i in range(3)) + ".",
            xlabel="step", ylabel="size of the weight")

# %% [markdown]
# Gradient descent moves a weight against its gradient. If weight and gradient have the same sign, the step leads
# towards zero; if their signs differ, away from it. So their product, with a minus, says how well a weight is doing.
# Summed over the steps it is the weight's **score**:
#
# $$S_{ij} = - \sum_t \left( \frac{\partial L}{\partial W'_{ij}} \right)_t \left( W_{ij} \right)_t$$

# %%
path_scores = movement.movement_scores(weights[:3], grads)
tables.table([{"weight": place, "size now": size, "score": score} for place, (size, score) in enumerate(
    zip(paths[-1].abs().tolist(), path_scores.tolist(), strict=True))], "Three weights after three steps")

# %% [markdown]
# If one of them must go, magnitude takes weight 1, which is nearest to zero. Movement takes weight 0, which has the
# lowest score: it is still large, and on its way to zero.

# %% [markdown]
# ### Exercise: movement scores

# %% exercise="movement_scores"

# %% [markdown]
# ### A mask that learns
#
# Where does the formula come from? Give each weight a score, let the mask keep the weights with the highest scores, and
# train the scores by gradient descent together with the weights. What the layer sees is $W' = W \cdot M$. But the mask
# is 0 or 1: a small change of a score changes nothing, so its derivative is zero almost everywhere. The
# **straight-through estimator** (lesson 10 uses it for rounding) acts as if the mask were the score itself:
#
# $$\frac{\partial L}{\partial S_{ij}} \approx \frac{\partial L}{\partial W'_{ij}} \, W_{ij}$$
#
# Steps against this derivative, summed up, are the formula above. The gradient is taken at $W'$, what the layer
# **sees**. So it exists for a weight under a closed mask too, and such a weight can come back.
#
# In code it is one function, with a backward pass of its own. `movement.pruned_while_training` puts it before every
# linear layer and chooses the masks anew every few steps, by the cubic schedule of lesson 14. The scores are parameters
# like the others, so Adam trains them, and scales each step as it does for any parameter.

# %% [markdown]
# ## Movement against magnitude
#
# Two layers of the pretrained encoder learn the topics, as in lesson 04, and lose their weights on the way. Both ways
# prune every layer by the same share at the same steps. Only the question differs: the smallest, or the lowest score.
# Both choose among the same five learning rates on validation data.

# %%
moving = study.load("movement").table()
tables.table([{"way": way} | {f"{lr:g}": f"{100 * quality:.1f}"
                              for lr, quality in study_movement.tuning(moving, way).items()}
              | {"chosen": f"{study_movement.CHOSEN[way]:g}"} for way in movement.WAYS],
             f"Accuracy on validation data at {study_movement.TUNED_AT:.0%}, by learning rate (%)")

# %% [markdown]
# One cell of each way, live, at the highest sparsity. Three runs are few, so the range in which one more is expected is
# wide. Those of movement lie so far apart that theirs covers every accuracy and can tell nothing; that of magnitude can
# be missed.

# %%
ends = {way: study_movement.cell(way, study_movement.SPARSITIES[-1], study_movement.SEEDS[0]) for way in movement.WAYS}
lives = {way: study.load("movement").live(cell) for way, cell in ends.items()}
plots.note("\n".join(f"- {way}: {live}" for way, live in lives.items()))

# %%
def reached(way, sparsity, steps=study_movement.STEPS):
    return magnitude.score(moving, study_movement.rows(moving, way, sparsity, steps))

dense = reached("dense", 0.0)
by_way = {way: ([100 * share for share in study_movement.SPARSITIES],
                *zip(*((one.value, one.low, one.high) for one in
                       (reached(way, share) for share in study_movement.SPARSITIES)), strict=True))
          for way in movement.WAYS}
by_way["not pruned"] = ([50, 90], [dense.value] * 2, [dense.low] * 2, [dense.high] * 2)

# %%
last = {way: by_way[way][1][-1] for way in movement.WAYS}
plots.lines(by_way, title=f"At 90 %: movement {last['movement']:.1f} %, magnitude {last['magnitude']:.1f} %, "
                          f"not pruned {dense.value:.1f} %",
            alt="Lines of accuracy by sparsity, with intervals. "
                + "; ".join(f"{way}: " + ", ".join(f"{y:.1f} at {x:.0f} %" for x, y in zip(xs, ys, strict=True))
                            for way, (xs, ys, *_) in by_way.items()) + ".",
            xlabel="sparsity (%)", ylabel="accuracy on test sentences (%)")

# %%
def duel(sparsity, steps=study_movement.STEPS):
    return magnitude.difference(moving, *(study_movement.rows(moving, way, sparsity, steps)
                                                for way in ("movement", "magnitude")))

duels = {sparsity: duel(sparsity) for sparsity in study_movement.SPARSITIES}
tables.table([{"sparsity": f"{sparsity:.0%}", "movement minus magnitude, points": said(gain)}
              for sparsity, gain in duels.items()], "Paired over three seeds and the documents of the test sentences")

# %%
better = [f"{sparsity:.0%}" for sparsity, gain in duels.items() if gain.beats]
worse = [f"{sparsity:.0%}" for sparsity, gain in duels.items() if gain.beaten]
plots.note(f"Movement beats magnitude at: **{', '.join(better) or 'none of them'}**. Magnitude does better at: "
           f"**{', '.join(worse) or 'none of them'}**.")

# %% [markdown]
# ### Why so?
#
# Look at what each way keeps. Take the weights of one layer as they were before the training, the larger half and the
# smaller half. How many of each half are left at the end?

# %%
def kept_of(model, weight):
    half = weight.abs() > weight.abs().median()
    left = model.encoder.encoder.layer[0].intermediate.dense.weight != 0
    return {"of the larger half (%)": 100 * left[half].float().mean().item(),
            "of the smaller half (%)": 100 * left[~half].float().mean().item()}

start = students.topic_student(study_movement.SETTINGS["n_layers"], source="encoder").encoder.encoder.layer[0]
kept = {way: kept_of(study_movement.fine_tuned(study_movement.cell(way, 0.7, 0)),
                     start.intermediate.dense.weight.detach()) for way in movement.WAYS}
tables.table(kept, "Weights that are left at 70 %", name="way", digits=2)

# %%
plots.note(f"Movement keeps {kept['movement']['of the larger half (%)']:.0f} % of the large weights and "
           f"{kept['movement']['of the smaller half (%)']:.0f} % of the small ones. It does not ask for size. So what "
           f"pretraining had made large may go, and the model has {study_movement.STEPS} steps to learn it anew. The "
           "scores begin at zero, and after so few steps they say little. Magnitude keeps what pretraining made.")

# %% [markdown]
# Sanh and others fine-tune for many thousand steps. At high sparsity movement is ahead there, and at low sparsity it
# is not. Does a longer training help here? The study has both ways once more, four times as long, with the rates chosen
# for the short training.

# %%
length = {steps: duel(study_movement.TUNED_AT, steps) for steps in (study_movement.STEPS, study_movement.LONG)}
tables.table([{"steps": steps} | {f"{way} (%)": reached(way, study_movement.TUNED_AT, steps) for way in movement.WAYS}
              | {"movement minus magnitude": said(gain)} for steps, gain in length.items()],
             f"Accuracy at {study_movement.TUNED_AT:.0%} by length of the training")

# %%
near, far = (abs(length[steps].value) for steps in (study_movement.LONG, study_movement.STEPS))
plots.note(f"Four times the steps take the gap from {far:.1f} to {near:.1f} points. Movement needs time for its scores to "
           "say something, and for the weights to learn again what was lost.")

# %% [markdown]
# Remember what this half of the lesson gives you: scattered zeros again. They make the model smaller only in a
# sparse format, and no faster. Movement scores can be summed over the rows of a matrix, and then whole neurons go
# (Lagunas and others, 2021). That joins both halves of this lesson; it is not measured here.

# %% [markdown]
# ## Try it
#
# Cut as you like. The accuracy is that of 200 validation sentences, without any training: good to a few points.

# %%
asked = bbc.sentences("validation").select(range(0, 800, 4))

def look(heads_removed=24, neurons_kept=768, layers_kept=6):
    model = heads.prune_heads(teacher, [kept.tolist() for kept in importance.least(list(scores), heads_removed)])
    model = structured.prune_neurons(model, importance.least_in_each(neuron_scores, 1536 - neurons_kept))
    model = structured.keep_layers(model, list(range(6))[6 - layers_kept :])
    right = topic_classifier.predict_logits(model, asked["text"]).argmax(dim=1) == torch.tensor(asked["topic"][:])
    left = sum(w.numel() for name, w in model.named_parameters() if ".layer." in name)
    return tables.table({"accuracy (%)": 100 * right.float().mean().item(), "weights in layers": left}, unit="figure")

widgets.explore(look, heads_removed=(0, 66, 6), neurons_kept=[1536, 1152, 768, 384, 96], layers_kept=(1, 6, 1))

# %% [markdown]
# ## Claimed and measured

# %%
within = [count for count in study_structure.HEADS if scored("importance", {"heads": count}).value >= whole.value - 1]
slimmer = 1 - megabytes["neurons, heads and words"] / megabytes["whole"]
claims.show("15", {
    "heads": claims.Measured(
        f"without {max(within, default=0)} of 72 heads the accuracy stays within one point; without 24 it changes by "
        f"{gone_third['importance']:+.1f} points, without 24 at random by {gone_third['random']:+.1f}",
        agrees=bool(within),
        why="A third of the heads is hardly missed, even at random. Where half of them go, it pays to choose."),
    "movement": claims.Measured(
        "; ".join(f"{sparsity:.0%}: {gain:+.1f} points" for sparsity, gain in duels.items())
        + f"; {study_movement.TUNED_AT:.0%}, {study_movement.LONG} steps: {length[study_movement.LONG]:+.1f}",
        agrees=bool(better) if not (better and worse) else "partly",
        why=f"In a training of {study_movement.STEPS} steps the scores say little, and what pretraining knew is lost; "
            "the claim comes from trainings of many thousand steps, at high sparsity."),
    "unstructured-speed": claims.Measured(
        f"half of the neurons removed: {speed['half of the neurons'].value:.2f} times as fast, and with a third of the "
        f"heads {speed['neurons and heads'].value:.2f} times; for scattered zeros see lesson 14",
        agrees=bool(speed["neurons and heads"].low > 1),
        why="Removed rows and columns leave smaller matrices, and ordinary kernels have less to multiply."),
    "magnitude": claims.Measured(
        f"a third of the heads, half of the neurons and unused words: file {slimmer:.0%} smaller, "
        f"{speed['neurons and heads'].value:.2f} times as fast, accuracy {cost['importance'].value:+.1f} points "
        "before words went",
        agrees=bool(slimmer >= 0.5 and speed["neurons and heads"].value >= 1.5) or "partly",
        why="When whole parts go, file and time shrink with them; scattered zeros shrink neither by themselves."),
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
# - Removing is not masking: a neuron is a row and a column, a head is rows of three matrices and columns of a fourth.
# - Check a removal against zeros in its place. The two must be the same function.
# - The gradient of a gate scores all heads in one run. Take the absolute value in each sentence, then sum.
# - Before you judge a measure, ask how well the truth agrees with itself.
# - Magnitude asks where a weight is, movement where it goes. Here magnitude won at every sparsity, and a longer training
#   closed most of the gap. Others found movement ahead after long training. Measure it.
#
# ## Where to read on
#
# - *Are Sixteen Heads Really Better than One?*, Michel, Levy, Neubig, 2019, arXiv:1905.10650
# - *Structured Pruning of Large Language Models*, Wang, Wohlwend, Lei, 2020, arXiv:1910.04732
# - *Load What You Need: Smaller Versions of Multilingual BERT*, Abdaoui, Pradel, Sigel, 2020, arXiv:2010.05609
# - *Movement Pruning: Adaptive Sparsity by Fine-Tuning*, Sanh, Wolf, Rush, 2020, arXiv:2005.07683
# - *Block Pruning For Faster Transformers*, Lagunas, Charlaix, Sanh, Rush, 2021, arXiv:2109.04838

# %%
quiz.progress()
