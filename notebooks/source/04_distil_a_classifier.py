# %% [markdown]
# # Distil a classifier
#
# | | |
# |---|---|
# | You will be able to | distil a small classifier from a large one, say when that pays and when it gains nothing, and compare two trainings over seeds |
# | You need first | lessons 00 and 03: intervals, soft labels, temperature, alpha |
# | Minutes | 50 |
# | Points | 12 |

# %% tags=["imports"]
import statistics

import torch

from lessons_lib.distillation import losses, students
from lessons_lib.measure import benchmark, intervals, model_size
from lessons_lib.show import claims, plots, tables, widgets
from lessons_lib.studies import distil_classifier as grid
from lessons_lib.studies import study
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("04")

# %% [markdown]
# ## Who answers where nobody labelled?
#
# Labels are dear: a person has to read every sentence. Text is cheap. Suppose you have three sentences, and a label for
# the first alone. A **teacher**, a large model that knows the topics, answers all three. The **student**, a small one
# that is to learn them, has said nothing useful yet. Each row below holds the logits of one sentence for two topics.

# %%
teacher_says = torch.tensor([[3.0, -1.0], [0.5, 0.0], [-2.0, 2.0]])
student_says = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
labels = torch.tensor([0, losses.UNLABELLED, losses.UNLABELLED])

# %% [markdown]
# The loss is the one of lesson 03, with a soft term from the teacher and a hard term from the labels. A sentence
# without a label counts in the soft term alone.
#
# $$L = \alpha \cdot T^2\, \mathrm{KL}(\text{teacher} \,\|\, \text{student}) + (1 - \alpha) \cdot \text{cross-entropy}(\text{labels})$$
#
# Which sentences pull on the student? The gradient of the loss says so, row by row.

# %%
def pull(alpha):
    leaf = student_says.clone().requires_grad_()
    losses.distillation_loss(leaf, teacher_says, labels, alpha, T=2.0).backward()
    return leaf.grad

plots.grids(pull(0.0), pull(0.5), pull(1.0), titles=["alpha 0: labels", "alpha 0.5: both", "alpha 1: teacher"])

# %% [markdown]
# With alpha = 0 two of the three rows are zero: those sentences teach nothing. With a teacher all three pull, and the
# second, about which the teacher itself is in doubt, pulls gently.
#
# The sentences that the student imitates its teacher on are called the **transfer set**. They need no labels. In this
# lesson they are news sentences, and we compare two situations: a **few** of them are labelled, or all of them, which
# we call **full**.

# %%
data = {name: students.transfer_data(name, "none", alpha=1.0, seed=0) for name in ("few", "full")}
labelled = {name: int((each["topic"] != losses.UNLABELLED).sum()) for name, each in data.items()}
tables.table({name: {"sentences": len(each["topic"]), "labelled": labelled[name]} for name, each in data.items()})

# %% [markdown]
# ## Ask the teacher once
#
# The student will see each sentence in some batch, perhaps several times. The teacher's answer never changes, and the
# teacher is the slow one. So ask it about the whole transfer set before training, and keep its **logits**: the
# temperature can then still be chosen.

# %% [markdown]
# ### Exercise: the teacher's logits
#
# A model remembers whether it is being trained. In training mode dropout switches off a part of it at random, so two
# answers to one sentence differ. And torch keeps a graph for a backward pass that will never come. Both cost you if you
# forget them here.

# %% exercise="transfer_logits"

# %% [markdown]
# The next cell asks the real teacher, the first time it runs. From then on the logits come from the cache.

# %%
kept = students.teacher_logits("topic")
right = (kept.argmax(dim=1) == data["full"]["topic"]).float().mean().item()
plots.note(f"{len(kept):,} sentences, {model_size.size_on_disk(kept) / 1000:,.0f} kB of logits. The teacher's first choice is "
           f"right for {right:.1%} of them.")

# %% [markdown]
# Be careful with that number. The transfer set is drawn from the sentences that this teacher was trained on, so it
# answers them a little better than new ones. A transfer set that the teacher has never seen would be the harder and the
# more usual case.

# %% [markdown]
# ## Where does a student start?
#
# The teacher has six layers. Our student has two, each as wide as the teacher's, so it can begin with copies of the
# teacher's layers instead of random numbers. Which two?
#
# The **first** two are used to what the embeddings give them. But what a head reads comes out of the last layer. The
# usual answer is to take them evenly spaced (**alternate**), with the last one among them: student layer $i$ stands for
# a stretch of the teacher, and copies the layer at its end. Whether that is better is one of the things we shall
# measure.
#
# $$\text{layer}(i) = \left\lfloor \frac{(i + 1)\; n_\text{teacher}}{n_\text{student}} \right\rfloor - 1$$

# %%
{f"{deep} layers to {shallow}": students.take_layers(deep, shallow) for deep, shallow in ((6, 2), (6, 3), (12, 6))}

# %% [markdown]
# ### Exercise: which layers

# %% exercise="take_layers"

# %% [markdown]
# ### A trap
#
# The teacher's layers were shaped by *all* labels. A student that copies them and then learns from a few labels has
# seen more than a few. To be fair to the student without a teacher, all students of this lesson start from the encoder
# as it was **before** anybody showed it a topic, unless we say otherwise. Further down you will see how much the trap
# is worth.

# %% [markdown]
# ## One run
#
# Training a student takes seconds. To say that one way of training beats another takes several seeds of each, with
# every setting, and that takes longer than a lesson. So the whole grid was run once, as a **study**, and its table came
# with this course. Before you believe the table, run one of its cells yourself: the same code, the same seed, your
# machine.

# %%
distil_classifier = study.load("distil_classifier")
table = distil_classifier.table()
live = distil_classifier.live(grid.cell("few", distilled=True, seed=0))
live

# %%
plots.note(f"The table holds {len(table)} runs of {grid.SETTINGS['steps']} steps, {grid.SETTINGS['batch_size']} sentences a "
           f"step, {table.seconds / 60:.0f} minutes in all, on {table.machine['processor']}. Your run came out at "
           f"{live.score:.1%}, "
           + ("where one more seed should." if live.within else "**outside** of where one more seed should: do not trust "
              "the table on this machine, and run `course study distil_classifier --fresh`."))

# %% [markdown]
# What made the comparison fair: every student may use the same texts, takes equally many steps of equally many
# sentences, and has its learning rate chosen on validation sentences, the ones without a teacher with as much care as
# the others. The choice is part of the study. The test sentences were not used for it.

# %%
ways = {"few labels alone": ("few", False), "few labels, distilled": ("few", True),
        "all labels alone": ("full", False), "all labels, distilled": ("full", True)}

def on_validation(way, lr):
    row, = grid.rows(table, *way, lr=lr, split="validation")
    return 100 * row["accuracy"]

rates = grid.TUNED_RATES["alternate"]
tables.table({name: {f"{lr:g}": on_validation(way, lr) for lr in rates} for name, way in ways.items()},
             "Accuracy on validation sentences (%), by learning rate")

# %% [markdown]
# ## Few labels and much text
#
# First question: a few labels, with and without the teacher. The student without can learn from the labelled sentences
# alone. The student with a teacher learns from all of them.

# %%
def rows(labels, distilled, **changes):
    return grid.rows(table, labels, distilled, **changes)

def score(*way, **changes):
    return grid.accuracy(table, rows(*way, **changes))

def percent(share):
    return intervals.Interval(100 * share.value, 100 * share.low, 100 * share.high)

teacher = grid.teacher_accuracy(table)

# %%
names = {"few labels": "few", "all labels": "full"}
kinds = {"labels alone": False, "distilled": True}
by_labels = {name: {kind: percent(score(labels, distilled)) for kind, distilled in kinds.items()}
             for name, labels in names.items()}

# %%
gain = {name: grid.difference(table, rows(labels, True), rows(labels, False)) for name, labels in names.items()}
plots.bars(by_labels, marks={"teacher": 100 * teacher.value},
           title=f"Distilling is worth {100 * gain['few labels'].value:+.1f} points with few labels, "
                 f"{100 * gain['all labels'].value:+.1f} with all",
           alt="Test accuracy of two-layer students. " + " ".join(
               f"With {name}: {group['labels alone']:.1f} % from labels alone, {group['distilled']:.1f} % distilled."
               for name, group in by_labels.items()) + f" The teacher: {teacher:.1%}.",
           xlabel="accuracy on held-out sentences (%)")

# %% [markdown]
# The whiskers are 95 % intervals over seeds and test documents. Two bars whose whiskers overlap may still differ: both
# students met the same documents, and a document that is hard for one is hard for the other. So look at the **paired
# difference**: subtract sentence by sentence, then ask how far the mean difference could have come by chance.

# %%
def points(difference):
    return f"{100 * difference.value:+.1f} points, {100 * difference.low:+.1f} to {100 * difference.high:+.1f}"

def verdict(difference):
    if difference.beats:
        return "better"
    return "worse" if difference.beaten else "cannot be told apart"

tables.table([{"with": name, "distilled minus labels alone": points(each), "seeds": each.runs, "verdict": verdict(each)}
              for name, each in gain.items()])

# %%
closed = gain["few labels"].value / (teacher.value - score("few", False).value)
instead = grid.difference(table, rows("few", True), rows("full", False))
plots.note(f"With {labelled['few']} labels, distilling closes {closed:.0%} of the gap between the student and its teacher. "
           f"Compare across: {labelled['few']} labels and a teacher, minus all {labelled['full']:,} labels and none: "
           f"{points(instead)}, {verdict(instead)}. "
           + ("With all labels it gains nothing that this test can see: the labels already answer every sentence."
              if not gain["all labels"].beats else "With all labels a gain remains, smaller, because the labels already "
              "answer every sentence."))

# %% [markdown]
# That is the first rule of distillation: **it pays where labels are few and text is plenty.** The student can learn as
# much as it does because somebody answers for every sentence.

# %% [markdown]
# ## Does alpha = 0 do nothing?
#
# A method needs a control that switches it off. Here it is alpha = 0: train with the teacher's logits, and again with
# the same logits dealt to the wrong sentences. If nothing is distilled, the two students are equal to the last bit.

# %%
def trained(logits, alpha, steps=3):
    student = students.topic_student(grid.SETTINGS["n_layers"], source="encoder", freeze_embeddings=True)
    students.distil(student, data["full"] | {"teacher_logits": logits}, alpha=alpha, T=2.0, lr=5e-4, seed=0, steps=steps)
    return torch.cat([weight.flatten() for weight in student.parameters()])

# %%
apart = {f"alpha = {alpha:g}": (trained(kept, alpha) - trained(kept.roll(1, 0), alpha)).abs().max().item()
         for alpha in (0.0, 0.9)}
tables.table(apart, "Right teacher against wrong teacher, after 3 steps", unit="largest difference of a weight")

# %% [markdown]
# ## First layers, alternate layers, or none?
#
# Same grid, other starts. **Scratch** copies nothing, not even the embeddings: every weight is random.

# %%
starts = {"alternate layers": "alternate", "first layers": "first", "from scratch": "scratch"}
by_start = {name: {way: percent(score(*which, init=init)) for way, which in ways.items()}
            for name, init in starts.items()}
highest = {name: max(each.value for each in group.values()) for name, group in by_start.items()}
copied = max(highest["alternate layers"], highest["first layers"])

# %%
plots.bars(by_start, marks={"teacher": 100 * teacher.value},
           title=f"From scratch the best student reaches {highest['from scratch']:.0f} %; with copied layers, "
                 f"{copied:.0f} %",
           alt="Test accuracy by start. " + " ".join(
               f"{name}: " + ", ".join(f"{each.value:.1f} % {way}" for way, each in group.items()) + "."
               for name, group in by_start.items()),
           xlabel="accuracy on held-out sentences (%)")

# %%
def gains(**changes):
    return {name: grid.difference(table, rows(labels, True, **changes), rows(labels, False, **changes))
            for name, labels in names.items()}

by_start_gain = {name: gains(init=init) for name, init in starts.items()}
tables.table([{"start": name, "labels": which, "distilled minus labels alone": points(each), "verdict": verdict(each)}
              for name, group in by_start_gain.items() for which, each in group.items()])

# %% [markdown]
# Read it by rows. The more a student lacks, the more a teacher can add: few labels, random weights. What the teacher
# cannot replace at this number of steps is the pretraining that the copied layers bring along.

# %% [markdown]
# ### Where distilling gains nothing

# %%
nothing = [f"{which}, {name} ({points(each)})" for name, group in by_start_gain.items()
           for which, each in group.items() if not each.beats]
plots.note("By the rule of this course, at least three seeds and an interval above zero, distilling did not gain with: "
           + ("; ".join(nothing) if nothing else "none of these settings") + ". An interval that holds zero does not "
           "prove that there is no gain. It says that a gain, if there is one, is smaller than this test can see.")

# %% [markdown]
# Do the layers that were copied make a difference?

# %%
order = grid.difference(table, rows("few", True), rows("few", True, init="first"))
plots.note(f"Alternate layers minus first layers, few labels, distilled: {points(order)}, {verdict(order)}. "
           + ("Here the usual answer is the right one." if order.beats else "Here the usual answer buys nothing that this "
              "test can see."))

# %% [markdown]
# ### What the trap is worth
#
# Now let the students copy the layers of the *trained* teacher, the ones that have seen all labels.

# %%
leak = {name: grid.difference(table, rows(*which, source="teacher"), rows(*which)) for name, which in ways.items()}
tables.table([{"student": name, "from the trained teacher minus from the plain encoder": points(each),
               "verdict": verdict(each)} for name, each in leak.items()])

# %%
plots.note(f"The first row is the trap: {points(leak['few labels alone'])} for a student that was meant to know "
           f"{labelled['few']} labels. With it as the baseline, distilling would have seemed to gain "
           + "{:+.1f} points instead of {:+.1f}.".format(
               100 * grid.difference(table, rows("few", True, source="teacher"), rows("few", False, source="teacher")).value,
               100 * gain["few labels"].value)
           + " In practice you would use the teacher's layers gladly. You would not call the result few labels.")

# %% [markdown]
# ## Which temperature, which alpha?
#
# A sweep with few labels: three weights of the soft term, four temperatures, three seeds of each.

# %%
temperatures, alphas = grid.SWEEP["T"], grid.SWEEP["alpha"]
sweep = {(alpha, T): score("few", True, alpha=alpha, T=T) for alpha in alphas for T in temperatures}
best = max(sweep, key=lambda setting: sweep[setting].value)

# %%
alone = 100 * score("few", False).value
spread = 100 * (sweep[best].value - min(each.value for each in sweep.values()))
by_setting = {f"T = {T:g}": {f"alpha = {alpha:g}": percent(sweep[alpha, T]) for alpha in alphas} for T in temperatures}

# %%
plots.bars(by_setting, marks={"labels alone (alpha = 0)": alone},
           title=f"The {len(sweep)} settings lie {spread:.1f} points apart; having a teacher at all is worth "
                 f"{100 * sweep[best].value - alone:.0f}",
           alt="Test accuracy by temperature and alpha. " + " ".join(
               f"{name}: " + ", ".join(f"{each.value:.1f} % at {alpha}" for alpha, each in group.items()) + "."
               for name, group in by_setting.items()) + f" Labels alone: {alone:.1f} %.",
           xlabel="accuracy on held-out sentences (%)")

# %%
against = {setting: grid.difference(table, rows("few", True, alpha=best[0], T=best[1]),
                                    rows("few", True, alpha=setting[0], T=setting[1]))
           for setting in sweep if setting != best}
beaten = [setting for setting, each in against.items() if each.beats]
plots.note(f"The best of the {len(sweep)} settings is alpha = {best[0]:g}, T = {best[1]:g}. It beats {len(beaten)} of the "
           f"other {len(against)} with its interval above zero"
           + (": " + ", ".join(f"alpha {alpha:g} with T {T:g}" for alpha, T in beaten) if beaten else "") + ".")

# %% [markdown]
# Beware of the word *best*. The largest of twelve noisy numbers is partly the luckiest. What the sweep can show is a
# region of settings that do well and settings that clearly do not.

# %% [markdown]
# ## A bad teacher
#
# A student cannot know when its teacher is wrong. The teacher of this section is a linear head on the plain encoder,
# fitted on a handful of sentences of each topic.

# %%
weak = grid.teacher_accuracy(table, "weak")
teachers = {"no teacher": {}, "weak teacher": {"teacher": "weak"}, "good teacher": {"teacher": "topic"}}
by_teacher = {name: {kind: percent(score(labels, bool(which), **which)) for kind, which in teachers.items()}
              for name, labels in names.items()}

# %%
harm = {name: grid.difference(table, rows(labels, True, teacher="weak"), rows(labels, False))
        for name, labels in names.items()}

# %%
plots.bars(by_teacher, marks={"the weak teacher itself": 100 * weak.value},
           title=f"A teacher that is right {weak.value:.0%} of the time: {100 * harm['all labels'].value:+.0f} points with "
                 "all labels",
           alt=f"Test accuracy by teacher; the weak teacher itself: {weak.value:.1%}. " + " ".join(
               f"{name}: " + ", ".join(f"{each.value:.1f} % with {kind}" for kind, each in group.items()) + "."
               for name, group in by_teacher.items()),
           xlabel="accuracy on held-out sentences (%)")

# %%
tables.table([{"with": name, "weak teacher minus no teacher": points(each), "verdict": verdict(each)}
              for name, each in harm.items()])

# %% [markdown]
# The soft term outweighs the labels here. So, it seems, the student learns to be wrong where its teacher is, even on
# sentences whose labels it was shown. Before you distil, measure the teacher on held-out data, beside the student that
# needs none.

# %% [markdown]
# ## What did it cost, what did it buy?
#
# Size is the saved file. Latency is one sentence at a time, teacher and student in turns. How long a sentence takes
# does not depend on what the weights hold, so an untrained student will do.

# %%
large, small = topic_classifier.topic_teacher(), students.topic_student(grid.SETTINGS["n_layers"], source="encoder")
sentence = topic_classifier.tokenize(bbc.sentences("validation")["text"][:1])
with torch.inference_mode():
    timing = benchmark.compare({"teacher": lambda: large(**sentence), "student": lambda: small(**sentence)}, repeats=60)
faster = timing.ratio("teacher", "student")

# %%
sizes = {name: model_size.size_on_disk(model) / 1e6 for name, model in (("teacher", large), ("student", small))}
scores = {"teacher": teacher, "student": score("few", True)}
tables.table({name: {"megabytes": sizes[name], "p50 (ms)": timing.timings[name].p50, "p95 (ms)": timing.timings[name].p95,
                     "accuracy (%)": percent(scores[name])} for name in sizes})

# %%
embeddings = model_size.size_on_disk(small.encoder.embeddings) / 1e6
smaller = 1 - sizes["student"] / sizes["teacher"]
plots.note(f"The student is {faster:.2f} times as fast and {smaller:.0%} smaller. A third of the layers, and still "
           f"{1 - smaller:.0%} of the bytes: {embeddings:.0f} of its {sizes['student']:.0f} MB are embeddings, which it "
           "shares with the teacher in full. Fewer layers save time; to save bytes as well, look at the vocabulary.")

# %% [markdown]
# ### Exercise: how much was kept?
#
# A student at 80 % with a teacher at 90 % has kept 89 % of the score. But guessing among five topics scores 20 %, and a
# student that guesses has kept nothing. Count from there.

# %% exercise="retention"

# %%
topics = torch.tensor(topic_classifier.held_out("test")["topic"])
chance = (topics.bincount().max() / len(topics)).item()        # always naming the most frequent topic

def kept_share(*way):
    own = score(*way)
    return intervals.Interval(*(100 * losses.retention(end, teacher.value, chance)
                                for end in (own.value, own.low, own.high)))

tables.table({name: kept_share(*way) for name, way in ways.items()}, unit="% kept of what the teacher knows")

# %% [markdown]
# ## Try it
#
# Choose a temperature and a weight and see every seed. Before you move a control, say which of the two will matter
# more.

# %%
def show_setting(T, alpha):
    runs = rows("few", True, alpha=alpha, T=T)
    seen = {f"seed {row['seed']}": 100 * row["accuracy"] for row in runs}
    mean = statistics.mean(seen.values())
    return plots.bars(seen, title=f"alpha = {alpha:g}, T = {T:g}: {mean:.1f} % on average, {mean - alone:+.1f} points",
                      alt=", ".join(f"{seed}: {value:.1f} %" for seed, value in seen.items())
                          + f". Labels alone: {alone:.1f} %. Teacher: {teacher.value:.1%}.",
                      xlabel="accuracy on held-out sentences (%)",
                      marks={"labels alone": alone, "teacher": 100 * teacher.value})

widgets.explore(show_setting, T=list(temperatures), alpha=list(alphas))

# %% [markdown]
# ## Claimed and measured

# %%
useful = [setting for setting in sweep if setting not in beaten]
in_range = [(alpha, T) for alpha, T in useful if 2 <= T <= 10 and 0.5 <= alpha <= 0.9]
lost = 100 * (teacher.value - scores["student"].value)

# %%
claims.show("04", {
    "soft-labels": claims.Measured(
        f"few labels: {points(gain['few labels'])}; all labels: {points(gain['all labels'])}; {labelled['few']} labels and "
        f"a teacher against {labelled['full']:,} labels: {points(instead)}",
        gain["few labels"].beats,
        f"With {labelled['few']} labels the teacher answers {labelled['full'] - labelled['few']:,} more sentences. "
        "Where every sentence has its label, there is little left for it to answer."),
    "temperature": claims.Measured(
        f"best at alpha = {best[0]:g}, T = {best[1]:g}; {len(useful)} of {len(sweep)} settings cannot be told from it, "
        f"{len(in_range)} of them with T from 2 to 10 and alpha from 0.5 to 0.9",
        "partly" if len(useful) > len(in_range) else bool(in_range),
        "The range holds good settings, but so does alpha = 1, and T = 1 is not far behind: here the choice matters far "
        "less than having a teacher at all."),
    "distilled-size": claims.Measured(
        f"{faster:.2f} times as fast, {smaller:.0%} smaller, {lost:.1f} points lost",
        2 <= faster.value <= 10 and 0.5 <= smaller <= 0.9 and lost <= 5
        or ("partly" if faster.value >= 2 or lost <= 5 else False),
        "Two of six layers save the time. Half of the bytes are embeddings, which a student of the same vocabulary keeps."),
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
# - A teacher answers where nobody labelled. With few labels and much text that is worth points; with labels for all,
#   measure before you believe it.
# - Ask the teacher once, in eval mode, without a graph, and keep logits.
# - Start the student from pretrained layers if you can, and ask what those layers have seen.
# - alpha = 0 is the control: it must do nothing. T and alpha matter less than the teacher does.
# - A student inherits its teacher's mistakes.
# - One run of each proves little. Compare at equal steps, over seeds and documents, with an interval.

# %% [markdown]
# ## Where to read on
#
# - Geoffrey Hinton, Oriol Vinyals, Jeff Dean: *Distilling the Knowledge in a Neural Network*, 2015, arXiv:1503.02531.
# - Raphael Tang, Yao Lu, Linqing Liu, Lili Mou, Olga Vechtomova, Jimmy Lin: *Distilling Task-Specific Knowledge from
#   BERT into Simple Neural Networks*, 2019, arXiv:1903.12136. Distilling on text without labels.
# - Iulia Turc, Ming-Wei Chang, Kenton Lee, Kristina Toutanova: *Well-Read Students Learn Better: On the Importance of
#   Pre-training Compact Models*, 2019, arXiv:1908.08962. Pretraining first, then distilling.
# - Victor Sanh, Lysandre Debut, Julien Chaumond, Thomas Wolf: *DistilBERT, a distilled version of BERT*, 2019,
#   arXiv:1910.01108. Lesson 06 follows it.
# - Lucas Beyer, Xiaohua Zhai, Amélie Royer, Larisa Markeeva, Rohan Anil, Alexander Kolesnikov: *Knowledge distillation:
#   A good teacher is patient and consistent*, 2021, arXiv:2106.05237. What many more steps change.
