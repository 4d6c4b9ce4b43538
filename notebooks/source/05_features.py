# %% [markdown]
# # Features, attention, relations
#
# | | |
# |---|---|
# | You will be able to | let a student imitate what happens inside its teacher, and say which of these losses pays |
# | You need first | lesson 04 (distilling a classifier, the study, "beats") |
# | Minutes | 55 |
# | Points | 16 |

# %% tags=["imports"]
import torch
import torch.nn.functional as F

from lessons_lib.distillation import features, students
from lessons_lib.measure import benchmark, intervals, model_size
from lessons_lib.show import claims, plots, tables, widgets
from lessons_lib.studies import distil_classifier as classifier
from lessons_lib.studies import features as studied
from lessons_lib.studies import study
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("05")

# %% [markdown]
# ## What does a student miss that sees only the answers?
#
# In lesson 04 the teacher told its student five numbers a sentence: the logits. On the way to them it computed many
# more. Count them for one sentence.

# %%
teacher = topic_classifier.topic_teacher()
texts = bbc.sentences("validation")["text"]
short = min((text for text in texts if len(text) > 45), key=len)
tokens = topic_classifier.tokenize([short])
with torch.no_grad():
    inside = features.look_inside(teacher, **tokens, attention=True)

# %%
counted = {"logits": inside.logits.numel(), "hidden states": sum(h.numel() for h in inside.hidden),
           "attention maps": sum(a.numel() for a in inside.attention)}
tables.table(counted, f"Numbers computed for “{short}”", unit="numbers")

# %% [markdown]
# The **hidden states** are one vector a token after each layer. The **attention maps** say, in each head of each layer,
# how much every token looked at every other. Both are there for the asking. This lesson lets the student imitate them,
# in three ways, and measures what each way buys.
#
# To imitate states or maps layer by layer, one question must be answered first. The teacher has six layers, the student
# two. Which layer should imitate which?

# %% [markdown]
# ## Which layer imitates which?
#
# Look at how much each layer changes. Take the hidden state of every token before and after a layer, and measure the
# cosine between the two: 1 means that the layer changed no direction.

# %%
batch = topic_classifier.tokenize(texts[:64])
real = batch["attention_mask"].bool()
with torch.no_grad():
    seen = features.look_inside(teacher, **batch, attention=True)
kept = [F.cosine_similarity(a[real], b[real], dim=-1).mean().item() for a, b in zip(seen.hidden, seen.hidden[1:])]

# %%
least = kept.index(min(kept))
plots.bars({f"layer {i}": value for i, value in enumerate(kept)},
           title=f"Layer {least} turns the hidden states furthest, to a cosine of {min(kept):.2f}",
           alt="Bars of the mean cosine between the hidden states before and after each of six layers: "
               + ", ".join(f"layer {i} {value:.2f}" for i, value in enumerate(kept)) + ".",
           xlabel="cosine between a token's state before and after the layer", ylabel="layer of the teacher")

# %% [markdown]
# Every layer does some of the work. A student with two layers must do the work of three teacher layers in each of its
# own. So its first layer is best compared with the teacher after three layers, and its second with the teacher after
# six. Counted from 0, those are the teacher's layers 2 and 5. This is the **uniform** map. For student layer $i$:
#
# $$g(i) = \left\lfloor \frac{(i + 1) \, n_\text{teacher}}{n_\text{student}} \right\rfloor - 1$$
#
# Two other maps are in use: the **last** layers, nearest to the answer, and the **first**.

# %%
tables.table([{"student layers": n} | {name: str(features.layer_map(n, 6, name)) for name in features.STRATEGIES}
              for n in (1, 2, 3, 4)], "Layers of a teacher of six")

# %% [markdown]
# ### Exercise: the layer map

# %% exercise="layer_map"

# %% [markdown]
# ## Hints: the same hidden states
#
# The most direct wish is: have the same hidden states. Romero and others (2015) called the teacher's states **hints**.
# There is a snag when the student is narrower than its teacher. Take one token, a student of width 2 and a teacher of
# width 3.

# %%
student_state, teacher_state = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0, 2.0])
projection = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
projected = projection @ student_state
plots.grids(student_state, projected, teacher_state, titles=["student", "projected", "teacher"])

# %% [markdown]
# A matrix $W$, the **projection**, takes the student's two numbers to three. It is trained together with the student
# and thrown away afterwards. The loss is the mean squared difference; only the middle and the last number differ here,
# each by one.
#
# $$L_\text{hint} = \operatorname{mean} \left( W h_\text{student} - h_\text{teacher} \right)^2$$
#
# Our students are as wide as their teacher, so they can do without $W$.
#
# The mean hides the second snag. Sentences in a batch have different lengths, and the shorter ones are filled up with
# padding. Padding has hidden states too, but nobody reads them.

# %%
total, wanted = real.numel(), int(real.sum())
fresh = students.topic_student(2, source="encoder")
with torch.no_grad():
    untrained = features.look_inside(fresh, **batch, attention=True)
everywhere = (untrained.hidden[-1] - seen.hidden[-1]).square().mean().item()
on_tokens = features.hint_loss(untrained.hidden[-1], seen.hidden[-1], batch["attention_mask"]).item()
plots.note(f"In this batch {total - wanted:,} of {total:,} positions are padding. A mean over all positions gives "
           f"{everywhere:.4f}, the mean over real tokens {on_tokens:.4f}. With another batch size the first number "
           "changes, though neither model did.")

# %% [markdown]
# ### Exercise: the hint loss
#
# Leave the padding out; do not multiply it by zero. What stands there may be NaN, and 0 · NaN is NaN.

# %% exercise="hint_loss"

# %% [markdown]
# With the loss at hand the three maps can be compared before any training. The student below has the teacher's layers 2
# and 5, as they were before the teacher learned about topics. How far is each of its layers from each of the
# teacher's?

# %%
mask = batch["attention_mask"]
distance = torch.tensor([[features.hint_loss(own, taught, mask) for taught in seen.hidden[1:]]
                         for own in untrained.hidden[1:]])
plots.grids(1000 * distance, titles=["hint loss x 1000"], title="Student layers down, teacher layers across")

# %%
nearest = distance.argmin(dim=1).tolist()
plots.note(f"The student's two layers stand nearest to the teacher's layers **{nearest[0]}** and **{nearest[1]}**. The "
           f"uniform map asks for {features.layer_map(2, 6)}: it asks the student to get further in two layers than it "
           "does so far. That is what the loss is for.")

# %% [markdown]
# ## Attention: look at the same words
#
# A head of a layer looks from every token at every token. The shares of its look are the rows of its attention map, and
# each row sums to 1. Here is one head on the short sentence.

# %%
words = topic_classifier.tokenizer().convert_ids_to_tokens(tokens["input_ids"][0].tolist())
head = inside.attention[2][0, 0]
plots.grids((100 * head).round(), titles=["layer 2, head 0, shares in per cent"],
            title=f"Down and across: {' '.join(words)}")

# %% [markdown]
# Fast attention never has this matrix in memory. `scaled_dot_product_attention`, which our models use otherwise,
# computes the result in blocks and keeps running sums. Whoever wants the maps must ask for the plain form, called
# **eager**. The numbers are the same. Is it slower?

# %%
plain = {"fast": lambda: features.look_inside(teacher, **batch),
         "eager, with maps": lambda: features.look_inside(teacher, **batch, attention=True)}
with torch.no_grad():
    timing = benchmark.compare(plain, repeats=5, warmup=1)
slower = timing.ratio("eager, with maps", "fast")
plots.note(f"Without maps `attention` holds {len(features.look_inside(teacher, **tokens).attention)} tensors. With "
           f"them a forward pass takes {slower:.2f} times as long on this machine. What the fast form saves grows with "
           "the length of the texts, and these are short.")

# %% [markdown]
# TinyBERT (Jiao and others, 2020) lets the student imitate the maps, head by head:
#
# $$L_\text{attention} = \operatorname{mean} \left( A_\text{student} - A_\text{teacher} \right)^2$$
#
# The width of the models plays no part, but the number of heads must agree. And padding comes in twice: a map has a row
# for a padded token and a column for it. The rows are noise; the columns are zero in both models and make the mean look
# better than it is.

# %% [markdown]
# ### Exercise: the attention loss

# %% exercise="attention_loss"

# %% [markdown]
# ## Relations: the same geometry
#
# Hints and maps ask for the same numbers. That may be more than we need. Take three sentences as points in the plane,
# and a student that has its teacher's points turned by 40 degrees and twice as far apart.

# %%
def turned(points, degrees, scale):
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    rotation = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    return scale * points @ rotation.T

points = torch.tensor([[0.2, 0.1], [1.0, 0.3], [0.4, 0.9]])
moved = turned(points, 40, 2.0)

# %%
def drawn(student):
    hint, relation = F.mse_loss(student, points), features.relation_loss(student, points)
    coordinates = "; ".join(f"{x:.1f} {y:.1f}" for x, y in student.tolist())
    return plots.scatter({"teacher": points.T.tolist(), "student": student.T.tolist()},
                         title=f"Hint loss {hint:.2f}, relation loss {relation:.2f}",
                         alt=f"Three points of a teacher and three of a student, at {coordinates}. The hint loss is "
                             f"{hint:.3f}, the relation loss {relation:.3f}.", xlabel="channel 0", ylabel="channel 1")

drawn(moved)

# %% [markdown]
# Nothing that a linear head could not undo has changed: a head behind the student can turn and shrink as it likes. The
# hint loss is large all the same. What did not change are the **relations**: which sentences are close, which are far.
# Park and others (2019) compare those. For a batch, take the distance of every pair, and divide by their mean $\mu$ so
# that the scale plays no part:
#
# $$\psi_{ij} = \frac{\lVert e_i - e_j \rVert}{\mu} \qquad
# L_\text{relation} = \operatorname{mean}_{i \neq j} \; \text{huber}\left(\psi_{ij}^\text{student} -
# \psi_{ij}^\text{teacher}\right)$$
#
# The **Huber** loss is half the square for differences below 1 and straight beyond, so that one odd sentence does not
# rule the batch.

# %% [markdown]
# ### Exercise: the relation loss

# %% exercise="relation_loss"

# %% [markdown]
# Two relatives, both in `lessons_lib.distillation.features`:
#
# - **Angles.** `angle_loss` compares the angles that three examples form. Park and others use it beside the distances.
# - **Relations between tokens.** MiniLM (Wang and others, 2020), the family of our teacher, compares how the tokens of
#   one sentence relate: the softmax of the dot products of their value vectors, in the last layer alone.
#   `token_relation_loss` does so. Our encoder was itself made that way.
#
# A third relative turns the comparison into a riddle. In **contrastive** distillation (Tian and others, 2020) the
# student's embedding of a sentence must pick the teacher's embedding of the same sentence out of a crowd of others. It
# needs large batches, and we leave it there.

# %% [markdown]
# ## Which of them needs equal widths?
#
# Ask them. The student here is the real one with every second channel thrown away, half as wide as its teacher.

# %%
half = [h[..., ::2] for h in untrained.hidden]
calls = {
    "hint": lambda: features.hint_loss(half[-1], seen.hidden[-1], mask),
    "hint with a projection": lambda: features.hint_loss(half[-1], seen.hidden[-1], mask, torch.zeros(384, 192)),
    "attention": lambda: features.attention_loss(untrained.attention[-1], seen.attention[-1], mask),
    "relations of tokens": lambda: features.token_relation_loss(untrained.values[..., ::2], seen.values, mask, 12),
    "relations of examples": lambda: features.relation_loss(untrained.pooled[:, ::2], seen.pooled),
}

# %%
def outcome(call):
    try:
        return f"works, {call().item():.2g}"
    except ValueError:
        return "refuses: the widths differ"

tables.table({name: outcome(call) for name, call in calls.items()}, "A student half as wide", unit="outcome")

# %% [markdown]
# ## What does each of them buy?
#
# One training would not tell, lesson 04 showed that: seeds differ by more than most methods do. So this is a **study**
# again. The students are those of lesson 04: two layers, few labelled sentences, thousands without labels, the same
# number of steps.

# %%
setup = studied.SETTINGS
plots.note(f"{setup['few_per_topic']} labelled sentences a topic, {setup['transfer_sentences']:,} sentences in all, "
           f"{setup['steps']} steps of {setup['batch_size']}, and {len(studied.SEEDS)} seeds of every setting.")

# %% [markdown]
# A feature loss is added to the output loss with a weight. The losses differ much in size, as the table above shows, so
# each needs a weight of its own. It was chosen on validation sentences, which no reported figure uses. The output loss
# had its turn in lesson 04: five learning rates to choose from.
#
# In the tables *tokens* stands for the relations between tokens, and *examples* for the relations between the sentences
# of a batch, distances and angles together.

# %%
grid = study.load("features")
table = grid.table()
tables.table([{"loss": name} | {f"{trial}. weight": f"{weight:g}: {accuracy:.1%}" for trial, (weight, accuracy)
                                in enumerate(studied.tuning(table, name).items(), 1)}
              | {"chosen": f"{studied.CHOSEN[name]:g}"} for name in studied.FEATURES],
             "Accuracy on validation sentences by weight, beside the output loss")

# %% [markdown]
# Now one run of the grid, live: output and hints together.

# %%
live = grid.live(studied.cell(studied.SEEDS[0], True, hint=studied.CHOSEN["hint"]))
live

# %%
plots.note(f"The live run is {'where the table expects it' if live.within else 'NOT where the table expects it'}.")

# %% [markdown]
# Now the table. The comparison is always with the student that has the output loss alone. **Beats** means, in this
# course, that the 95 % interval of the paired difference lies above zero.

# %%
rows = {name: studied.rows(table, name) for name in studied.settings()}
scores = {name: classifier.accuracy(table, found) for name, found in rows.items()}
gains = {name: classifier.difference(table, found, rows["output"]) for name, found in rows.items() if name != "output"}

# %%
best = max(gains, key=lambda name: gains[name].value)
plots.bars({name: intervals.Interval(100 * gain.value, 100 * gain.low, 100 * gain.high)
            for name, gain in gains.items()},
           title=f"Best beside the output loss alone: {best}, {100 * gains[best].value:+.1f} points",
           alt="Bars of the difference in accuracy to the student with the output loss alone, in points, with "
               "intervals: " + "; ".join(f"{name} {100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
                                         for name, gain in gains.items()) + ".",
           xlabel="accuracy minus that of the output loss alone (points)", ylabel="losses")

# %%
def verdict(gain):
    return "beats it" if gain.beats else "is beaten" if gain.beaten else "not told apart"

tables.table([{"losses": name, "accuracy": format(scores[name], ".1%"),
               "against output alone": verdict(gains[name]) if name in gains else "–"} for name in rows],
             f"{len(studied.SEEDS)} seeds each, on the sentences of the test documents")

# %% [markdown]
# Read it in two halves. The first four rows after the output loss have **no** output loss: the few labels train the
# head, and the teacher speaks only through its insides. (A batch would hold one labelled sentence or none, most of the
# time, so these students see each of them a dozen times as often.) The next four have both. The last has everything.

# %%
alone = [name for name in studied.FEATURES if gains[name].beats]
beside = [name for name in gains if name.startswith("output +") and gains[name].beats]
behind = [name for name in gains if gains[name].beaten]
plots.note(f"Better than the output loss alone: in its place, {', '.join(alone) or 'none'}; beside it, "
           f"{', '.join(beside) or 'none'}. Worse than it: {', '.join(behind) or 'none'}. "
           f"All four together: {100 * gains['all four'].value:+.1f} points, {verdict(gains['all four'])}.")

# %% [markdown]
# Look at the first half again. A reading that fits, and that no run here tests: a loss in place of the output loss does
# well when it settles what the head reads. Hints on the last layer do: they fix the very vectors whose mean goes into
# the head. Attention maps say where to look and not what to say, and relations between tokens leave open what their sum
# stands for.
#
# Why might the insides add so little in the second half, when they carried the papers of their time? Those papers
# distilled general models on tasks with two or three classes, from teachers of twelve layers and more. Our student
# starts from layers of the encoder that its teacher came from, so that much of its inside is the teacher's from the
# beginning; and soft labels on thousands of sentences say most of what there is to say about five topics. Lesson 06
# distils without any task, where the insides are nearly all there is.

# %% [markdown]
# ### What it costs
#
# The teacher must run beside the student for every feature: its insides for all texts would take more than a gigabyte
# to keep. For attention both must run in eager form. Here is one training step of each kind, forward and backward,
# measured side by side.

# %%
lesson_batch = {name: tensor[:setup["batch_size"]] for name, tensor
                in students.transfer_data("few", "topic", setup["alpha"], seed=0).items()}
pupil = students.topic_student(2, source="encoder", freeze_embeddings=True)
steps = {"output": (True, {})} | {f"output + {name}": (True, {name: 1.0}) for name in studied.FEATURES}
losses = {name: studied.combined(teacher, *parts) for name, parts in steps.items()}

# %%
timed = benchmark.compare({name: lambda loss=loss: loss(pupil, lesson_batch).backward()
                         for name, loss in losses.items()}, repeats=5, warmup=1)
costs = {name: timed.ratio(name, "output") for name in losses}

# %%
dearest = max(costs, key=lambda name: costs[name].value)
plots.bars(costs, title=f"A step with {dearest.removeprefix('output + ')} takes {costs[dearest].value:.1f} times as long",
           alt="Bars of the time of a training step as a multiple of the output loss alone, with intervals: "
               + ", ".join(f"{name} {ratio:.2f}" for name, ratio in costs.items()) + ".",
           xlabel="time of a step, output loss alone = 1", ylabel="losses")

# %% [markdown]
# ## Try it
#
# Turn and stretch the student's three points. Which loss notices?

# %%
def turn_and_stretch(degrees=40, scale=2.0):
    return drawn(turned(points, degrees, scale))

widgets.explore(turn_and_stretch, degrees=(-180, 180, 20), scale=(0.5, 3.0, 0.5))

# %% [markdown]
# ## Claimed and measured

# %%
student_bytes, teacher_bytes = model_size.size_on_disk(fresh), model_size.size_on_disk(teacher)
models_timed = benchmark.compare({"teacher": lambda: teacher(**batch), "student": lambda: fresh(**batch)}, repeats=10)
speed = models_timed.ratio("teacher", "student")
lost = classifier.teacher_accuracy(table).value - scores[best].value

# %%
claims.show("05", {
    "families": claims.Measured(
        f"beside the output loss {len(beside)} of {len(studied.FEATURES)} beat it, in its place {len(alone)}; all four "
        f"together {100 * gains['all four'].value:+.1f} points",
        agrees=bool(gains["all four"].beats and len(beside) == len(studied.FEATURES)) or ("partly" if beside else False),
        why="A likely reason, not tested here: with layers of the teacher's own encoder and thousands of soft labels, the "
            "output loss leaves little to gain."),
    "distilled-size": claims.Measured(
        f"two of six layers: {speed.value:.1f} times as fast, {1 - student_bytes / teacher_bytes:.0%} smaller, "
        f"{100 * lost:.1f} points lost with {best}",
        agrees="partly" if student_bytes > 0.5 * teacher_bytes else True,
        why="Over half of this encoder is its embedding table, which every student keeps: layers go, bytes stay."),
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
# - A layer map says which layer imitates which; the uniform one ends at the last layer.
# - Hints compare hidden states and need a projection between different widths. Attention maps need equal heads and the
#   eager form. Relations need neither.
# - Padding belongs in none of these losses, neither in the sum nor in the count.
# - A loss that is zero for a perfect student is not yet a loss that helps: measure it against the output loss alone,
#   over seeds.
#
# ## Where to read on
#
# - *FitNets: Hints for Thin Deep Nets*, Romero, Ballas, Kahou, Chassang, Gatta, Bengio, 2015, arXiv:1412.6550
# - *TinyBERT: Distilling BERT for Natural Language Understanding*, Jiao, Yin, Shang and others, 2020, arXiv:1909.10351
# - *MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers*, Wang, Wei,
#   Dong, Bao, Yang, Zhou, 2020, arXiv:2002.10957
# - *Relational Knowledge Distillation*, Park, Kim, Lu, Cho, 2019, arXiv:1904.05068
# - *Contrastive Representation Distillation*, Tian, Krishnan, Isola, 2020, arXiv:1910.10699

# %%
quiz.progress()
