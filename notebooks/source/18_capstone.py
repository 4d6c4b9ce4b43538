# %% [markdown]
# # Capstone
#
# | | |
# |---|---|
# | You will be able to | build a pipeline of your own under a budget, show what every step did, and hand the model in |
# | You need first | lessons 04, 09, 12, 14 (students, INT8, packed weights, pruning) |
# | Minutes | 100 |
# | Points | 27 |

# %% tags=["imports"]
import math
from functools import cache

import torch

from lessons_lib.capstone import budgets, pipeline
from lessons_lib.int8 import mixed
from lessons_lib.measure import benchmark, model_size
from lessons_lib.pruning import structured
from lessons_lib.show import claims, plots, tables, widgets
from lessons_lib.studies import capstone as grid
from lessons_lib.studies import study
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("18")

# %% [markdown]
# ## The order
#
# Somebody wants the topic teacher on a small server. The file may have a sixth of its bytes. A batch of 32 sentences
# may take a sixth of the time. And at least 97 % of its accuracy must stay. The translator gets the same order, with
# one BLEU to lose.
#
# No lesson so far reached that by itself. This one puts the steps together. You will decide which, and in which order.
#
# ## Measure first
#
# Before you change anything, find out where the bytes are and where the time goes.

# %%
teacher = pipeline.make("classifier", [])
parts = {"words": teacher.model.encoder.embeddings, "layers": teacher.model.encoder.encoder, "head": teacher.model.head}
total = model_size.state_bytes(teacher.model)
share = {name: 100 * model_size.state_bytes(part) / total for name, part in parts.items()}
plots.bars(share, title=f"{share['words']:.0f} % of the bytes are vectors of words",
           alt="Bars of the share of the teacher's bytes: "
               + ", ".join(f"{name} {value:.1f} %" for name, value in share.items()) + ".",
           xlabel="share of the bytes (%)", ylabel="part")

# %% [markdown]
# More than half of the file are vectors of words: one row of 384 numbers for each of 30,522 words. The training texts
# do not have all of these words. So it looks as if the first step were clear: leave out the words that nobody uses.

# %%
words = topic_classifier.seen_tokens()
table_rows = teacher.model.encoder.config.vocab_size
trimmed = pipeline.make("classifier", ["vocabulary"])
plots.note(f"{len(words):,} of {table_rows:,} words occur in the training texts. The file shrinks to "
           f"**{trimmed.bytes / teacher.bytes:.0%}** of its bytes.")

# %% [markdown]
# Predict before you run the next cell: how much faster is the trimmed model?

# %%
def turn(made, in_a_row):
    ask = pipeline.question(made, 32)
    return lambda: [ask() for _ in range(in_a_row)]

def times_as_fast(small, whole, in_a_row=1, repeats=6):
    raced = benchmark.compare({"small": turn(small, in_a_row), "whole": turn(whole, in_a_row)}, repeats, warmup=1)
    return raced.ratio("whole", "small")

trimmed_ratio = times_as_fast(trimmed, teacher)
plots.note(f"**{trimmed_ratio:.2f}** times as fast, at batches of 32 sentences.")

# %% [markdown]
# Hardly at all. A sentence looks up as many rows as before. How much of the time is that, anyway?

# %%
batch = topic_classifier.tokenize(bbc.sentences("validation")["text"][:32])
looked_up = benchmark.compare({"words": lambda: teacher.model.encoder.embeddings(batch["input_ids"]),
                             "all": pipeline.question(teacher, 32)}, 6, 2)
plots.note(f"Looking words up takes **{looked_up.ratio('words', 'all').value:.1%}** of the time.")

# %% [markdown]
# This was the first mistake made on purpose: **to optimize before you have measured what you want to improve**. The
# bytes are in the words, the time is in the layers. Whoever wants both needs a step for each.

# %% [markdown]
# ## A pipeline is a list of steps
#
# Each step takes the model that the step before it made. These are the steps:

# %%
tables.table(pipeline.STEPS, unit="what it does", name="step")

# %% [markdown]
# `heads` keeps four of the twelve heads in each layer, `neurons` half of the feed-forward neurons: those that matter
# most by the gradients of their gates, as in lesson 15. `layers` keeps four of the six layers. All three leave smaller
# matrices. `distil` lets what is left learn from the teacher's answers, as in lesson 04. `export` and `int8` are those
# of lesson 17.
#
# Here is the pipeline that this lesson ends with. `pipeline.chain` gives the model that stands after each of its steps.
# What takes minutes was made by `course prepare`. `vocabulary` may stand after `distil`: the words that go are in no
# training text, so teaching could not make up for them.

# %%
steps = pipeline.REFERENCE["classifier"]
so_far = ["teacher"] + [f"+ {name}" for name in steps]
chain = dict(zip(so_far, pipeline.chain("classifier", steps), strict=True))
plots.note(" → ".join(steps))

# %% [markdown]
# Some orders cannot work. The check says why before anything is computed.

# %%
for order in (["export", "int8", "distil"], ["heads", "int8"]):
    try:
        pipeline.check("classifier", order)
    except ValueError as error:
        print(order, "->", error)

# %% [markdown]
# ## Each step alone
#
# Now take each step by itself, from the teacher. Bytes and times are measured here and now; the models take turns, on
# the same threads. Which step deserves its place?

# %%
alone = {"heads": chain["+ heads"], "vocabulary": trimmed}
for only in (["neurons"], ["layers"], ["export"], ["export", "int8"]):
    alone[" + ".join(only)] = pipeline.make("classifier", only)
timed = benchmark.compare({"teacher": pipeline.question(teacher, 32)}
                        | {name: pipeline.question(made, 32) for name, made in alone.items()}, 5, 1)

# %% [markdown]
# The quality comes from a **study**: every setting on all held-out sentences of lesson 04, trainings over three seeds,
# computed once by the code of this course.

# %%
table = study.load("capstone").table()

@cache
def quality(task, steps, *way):
    said = grid.answers(table, task, tuple(steps), *way)
    return {"quality": grid.score(table, task, said), "lost": grid.lost(table, task, said)}

def figures(task, made, whole, faster):
    found = quality(task, made.steps)
    return {"bytes": made.bytes, "times smaller": whole.bytes / made.bytes, "times as fast": faster,
            "quality": format(found["quality"], ".1f"), "against the teacher": format(found["lost"], "+.1f")}

# %%
rows = {name: figures("classifier", made, teacher, timed.ratio("teacher", name)) for name, made in alone.items()}
tables.table(rows, "Each step alone: the classifier, batches of 32; accuracy in per cent", name="step")

# %%
cuts = ", ".join(f"`{name}` {rows[name]['against the teacher']}" for name in ("heads", "neurons", "layers"))
plots.note("Read the last column beside the others. `export` and `int8` together leave a model that is "
           f"{rows['export + int8']['times smaller']:.1f} times smaller and "
           f"{rows['export + int8']['times as fast'].value:.1f} times as fast, for "
           f"{rows['export + int8']['against the teacher']} points. `vocabulary` saves bytes alone, for "
           f"{rows['vocabulary']['against the teacher']}. What is cut out and not taught again costs a little more: "
           f"{cuts} points.")

# %% [markdown]
# Three cuts, none of which costs four points. What do they cost together? Predict before you run the next cell.

# %%
smaller = ("heads", "neurons", "layers")
apart = sum(quality("classifier", (name,))["lost"].value for name in smaller)
at_once = quality("classifier", smaller)["lost"]
plots.note(f"The three losses add up to {apart:+.1f} points. All three cuts together cost **{at_once:+.1f}** points.")

# %% [markdown]
# Losses of cuts do not add up. Each cut was measured in a model that was whole otherwise, and could lean on the rest.
# With all three the rest is gone too.
#
# So cut, and then teach. What is cut and what teaches it again are one step together: a student. It is the model that
# stands after `distil`.

# %%
student = chain["+ distil"]
student_ratio = times_as_fast(student, teacher)
alone_student = figures("classifier", student, teacher, student_ratio)
tables.table({" + ".join(student.steps): alone_student}, "The student", name="steps")

# %% [markdown]
# ## A plan
#
# No step alone meets the order. Which of them together? A first guess: if one step leaves a quarter of the bytes and
# another one a half, both leave an eighth. **Shares multiply.** As a guess, take what they
# lose to add up. For cuts that was wrong. Here the cuts and their teaching are one step, the student, and what the others
# lose is little. Take three steps with round numbers:
#
# | step | leaves of the bytes | leaves of the time | loses |
# |---|---|---|---|
# | student | 0.7 | 0.4 | 2.0 |
# | words | 0.75 | 1.0 | 0.1 |
# | INT8 | 0.25 | 0.4 | 0.3 |
#
# The order wants at most 0.167 of both. The student with INT8 leaves 0.7 · 0.25 = 0.175 of the bytes: too many. All
# three leave 0.131 of the bytes and 0.16 of the time, and lose 2.4. With figures $f$ and a set $S$ of steps,
#
# $$\prod_{s \in S} \text{share}_f(s) \le \text{allowed}_f \text{ for every figure } f, \qquad
# \sum_{s \in S} \text{lost}(s) \text{ as small as possible.}$$
#
# With so few steps you can try every set.

# %% [markdown]
# ### Exercise: a plan

# %% exercise="plan"

# %% [markdown]
# The same with what was measured above:

# %%
ORDER = {"bytes": 1 / 6, "ms": 1 / 6}

def option(task, made, whole, faster):
    loss = 0.0 - round(quality(task, made.steps)["lost"].value, 2)
    return {"bytes": made.bytes / whole.bytes, "ms": 1 / faster.value, "lost": loss}

options = {"student": option("classifier", student, teacher, student_ratio),
           "vocabulary": option("classifier", trimmed, teacher, trimmed_ratio),
           "export + int8": option("classifier", alone["export + int8"], teacher,
                                   timed.ratio("teacher", "export + int8"))}
tables.table(options, "What each leaves of the teacher's bytes and time, and what it loses in points", name="option")

# %%
chosen = budgets.plan(ORDER, options)
plots.note(f"The plan: **{', '.join(chosen) if chosen else 'none of them is expected to do'}**.")

# %% [markdown]
# ## All together
#
# A forecast is not a measurement. So race the whole pipeline, step after step. Each row has all the steps above it.

# %%
raced = benchmark.compare({name: pipeline.question(made, 32) for name, made in chain.items()}, 6, 1)

# %%
together = {name: figures("classifier", made, teacher, raced.ratio("teacher", name)) for name, made in chain.items()}
tables.table(together, "The classifier, step by step; batches of 32", name="steps so far")

# %% [markdown]
# A server answers one batch after the other with the same model. In the race above seven others ran in between, which may
# slow each of them. So for the **throughput**, the sentences a second, the first and the last model race once more, four
# batches in a row at each turn. Compare with the last row above.

# %%
final = chain[f"+ {steps[-1]}"]

throughput = times_as_fast(final, teacher, in_a_row=4, repeats=4)

# %%
done = together[f"+ {steps[-1]}"]
whole_score, final_lost = quality("classifier", ())["quality"].value, quality("classifier", steps)["lost"]
kept = {end: 1 + getattr(final_lost, end) / whole_score for end in ("value", "low", "high")}
expected = {figure: math.prod(one[figure] for one in options.values()) for figure in ORDER}
plots.note(f"**{done['times smaller']:.1f}** times smaller, **{throughput:.1f}** times the throughput, "
           f"**{kept['value']:.1%}** [{kept['low']:.1%}, {kept['high']:.1%}] of the accuracy kept. The product of the "
           f"shares promised {1 / expected['bytes']:.1f} and {1 / expected['ms']:.1f}.")

# %%
met = {"bytes": done["times smaller"] >= 6, "time": throughput.value >= 6, "accuracy": kept["value"] >= 0.97}
sure = {"bytes": met["bytes"], "time": throughput.low >= 6, "accuracy": kept["low"] >= 0.97}
plots.note("The order was a sixth of the bytes, a sixth of the time, 97 % of the accuracy. "
           + ", ".join(f"{part} {'met' if met[part] else '**not met**'}"
                       + ("" if sure[part] else ", but its interval reaches below" if met[part] else "")
                       for part in met) + ".")

# %% [markdown]
# Why do the shares not multiply exactly? Because a step cuts a part, not the whole. Among the student's bytes the words
# weigh more than among the teacher's: the layers have shrunk. So leaving out words saves a larger share of the student.
# Times do not multiply either: a matrix with half of the columns does not take half of the time.
#
# What is a batch of one worth, a single person who waits?

# %%
lone = benchmark.compare({"teacher": pipeline.question(teacher, 1), "all steps": pipeline.question(final, 1)}, 60, 10)
tables.table({name: {"p50, ms": one.p50, "p95, ms": one.p95} for name, one in lone.timings.items()},
             f"One sentence at a time: {lone.ratio('teacher', 'all steps').value:.1f} times as fast", name="model")

# %% [markdown]
# ## The control
#
# Would a model of that shape, trained from the start, do as well? It must be asked. The control has the same
# layers, heads and neurons, random weights, and learns from the labels of the same sentences for as many steps.

# %%
control = quality("classifier", grid.TAUGHT["classifier"], "scratch", "labels")
before_int8 = quality("classifier", grid.TAUGHT["classifier"])
shown = {"teacher": quality("classifier", ())["quality"], "distilled student": before_int8["quality"],
         "all steps": quality("classifier", steps)["quality"], "small, from scratch": control["quality"]}
plots.bars(shown, title=f"From scratch the same shape reaches {control['quality'].value:.0f} %, distilled "
                        f"{before_int8['quality'].value:.0f} %",
           alt="Bars of accuracy with intervals: "
               + "; ".join(f"{name} {one:.1f} per cent" for name, one in shown.items()) + ".",
           xlabel="accuracy (%)", ylabel="model")

# %% [markdown]
# Both are equally small and equally fast. The difference is what the pipeline brought along: layers that were trained
# on far more text than there is here, and the teacher's answers.

# %% [markdown]
# ## Mistake two: everything at once
#
# Somebody took four steps in one go, judged the result, and got this:

# %%
asked = topic_classifier.held_out("validation").shuffle(seed=0).select(range(200))
topics = torch.tensor(asked["topic"][:])

def right(model):
    return 100 * (topic_classifier.predict_logits(model, asked["text"][:]).argmax(dim=1) == topics).float()

careless = ["heads", "neurons", "layers", "vocabulary"]
last = pipeline.step("vocabulary", chain["+ layers"], pipeline.USUAL["classifier"])
at_the_end = right(last.model)
plots.note(f"{', '.join(careless)}: **{at_the_end.mean():.1f} %** of {len(asked)} sentences right.")

# %% [markdown]
# Which of the four did it? One number cannot say. So take them one after the other and judge after each.

# %%
with_all_words = right(teacher.model)
judged = [with_all_words, *(right(chain[f"+ {name}"].model) for name in careless[:-1]), at_the_end]
one_by_one = [one.mean().item() for one in judged]
tables.table(dict(zip(["teacher"] + [f"+ {name}" for name in careless], one_by_one, strict=True)),
             unit="accuracy (%)", name="steps so far")

# %%
worst = min(range(len(careless)), key=lambda n: one_by_one[n + 1] - one_by_one[n])
lost = [quality("classifier", tuple(careless[:taken]))["lost"].value for taken in range(4)]
plots.note(f"The step to look at is **{careless[worst]}**. One sentence of {len(asked)} is half a point, so this is a hint. All "
           "held-out test sentences say: " + ", ".join(f"`{name}` {lost[n + 1] - lost[n]:+.1f}"
                                                       for n, name in enumerate(careless[:3]))
           + ". A number after each step costs a minute, and spares the hour in which all four are doubted.")

# %% [markdown]
# ## Mistake three: data that do not represent the use
#
# Words are trimmed by what some texts hold. Suppose that the texts at hand were sport pages. The model is then judged,
# as good practice demands, on sentences that it has not seen. Of sport.

# %%
train, sport = bbc.sentences("train"), bbc.TOPICS.index("sport")
sport_texts = [row["text"] for row in train if row["topic"] == sport]
sport_words = topic_classifier.tokenize(sport_texts)["input_ids"].unique()
narrow = structured.trim_vocabulary(teacher.model, sport_words)

# %%
with_few_words = right(narrow)

def shares(of):
    return {"teacher": with_all_words[of].mean().item(), "words of sport": with_few_words[of].mean().item()}

by_topic = {topic: shares(topics == number) for number, topic in enumerate(bbc.TOPICS)}
everyone = shares(slice(None))
plots.bars(by_topic | {"all topics": everyone},
           title=f"On sport {by_topic['sport']['words of sport'] - by_topic['sport']['teacher']:+.1f} points, on all "
                 f"topics {everyone['words of sport'] - everyone['teacher']:+.1f}",
           alt="Bars of accuracy with all words and with the words of sport: "
               + "; ".join(f"{topic} {pair['teacher']:.0f} and {pair['words of sport']:.0f} per cent"
                           for topic, pair in (by_topic | {"all topics": everyone}).items()) + ".",
           xlabel="accuracy (%)", ylabel="topic of the sentences")

# %% [markdown]
# The data that chose the words also judged them, so the damage stayed out of sight. The same happens with the texts
# that calibrate INT8, score neurons or teach a student. Choose and judge on what the model will meet.

# %% [markdown]
# ## The translator
#
# The same steps, the other model. Its vocabulary is made of its training texts, so there is no word to leave out, and
# its four heads a layer stay. It keeps half of the neurons, by what they say on some training texts, two of six
# encoder layers and one of six decoder layers: the encoder runs once for each phrase, the decoder once for every piece.
# ONNX knows no Python loop, so two files are written, and the loop over pieces stays outside.

# %%
large = pipeline.make("translator", [])
route = pipeline.REFERENCE["translator"]
names = ("teacher", "export", "export + int8", "student", "student, export", "student, export, int8")
made = pipeline.chain("translator", ("export", "int8")) + pipeline.chain("translator", route)[-3:]
translators = dict(zip(names, made, strict=True))
spoken = benchmark.compare({name: pipeline.question(made, 32) for name, made in translators.items()}, 4, 1)

# %%
said = {name: figures("translator", made, large, spoken.ratio("teacher", name)) for name, made in translators.items()}
tables.table(said, "The translator; batches of 32 phrases, written greedily; quality in BLEU", name="steps")

# %%
small, all_steps = said["student, export, int8"], translators["student, export, int8"]
spoken_throughput = times_as_fast(all_steps, large, in_a_row=4, repeats=4)
bleu_lost = quality("translator", route)["lost"]
plots.note(f"**{small['times smaller']:.1f}** times smaller, **{spoken_throughput:.1f}** times the throughput, "
           f"**{bleu_lost:+.2f}** BLEU.")

# %% [markdown]
# A single phrase waits for one piece after the other. How long?

# %%
waited = benchmark.compare({"teacher": pipeline.question(large, 1),
                          "all steps": pipeline.question(all_steps, 1)}, 20, 3)
alone_phrase = waited.ratio("teacher", "all steps")
tables.table({name: {"p50, ms": one.p50, "p95, ms": one.p95} for name, one in waited.timings.items()},
             f"One phrase at a time: {alone_phrase.value:.1f} times as fast", name="model")

# %% [markdown]
# What do the cuts cost without teaching? And what does the same shape reach from random weights: once with the few hundred
# pairs that the student's data has, once with all 40,000 pairs of the course?

# %%
taught = grid.TAUGHT["translator"]
ways = {"layers alone, not taught": (("layers",),), "neurons alone, not taught": (("neurons",),),
        "both, not taught": (("neurons", "layers"),), "both, distilled": (taught,),
        "from scratch, same few pairs": (taught, "scratch", "labels"),
        "from scratch, all pairs": (taught, "scratch", "all labels")}
reached = {name: quality("translator", *way)["quality"] for name, way in ways.items()}
plots.bars({"teacher": quality("translator", ())["quality"]} | reached,
           title=f"Distilled {reached['both, distilled'].value:.1f} BLEU; from scratch "
                 f"{reached['from scratch, same few pairs'].value:.1f} with the same pairs, "
                 f"{reached['from scratch, all pairs'].value:.1f} with all",
           alt="Bars of BLEU with intervals: " + "; ".join(f"{name} {one:.1f}" for name, one in reached.items()) + ".",
           xlabel="BLEU", ylabel="model")

# %% [markdown]
# ## One run, here and now
#
# With many pairs the shape comes near without a teacher; with few it needs one. But a table can be wrong. So one cell of
# the study runs on your machine: the translator from scratch with few pairs, seed 0. Three runs leave a wide range for a
# fourth.

# %%
grid.STUDY.live(grid.STUDY.cheap)

# %% [markdown]
# ## Which one to use?
#
# Every model of this lesson is a point: bytes and quality. Where one is no larger and no worse than another one, and
# better in one of the two, nobody needs the other. What is left is the **Pareto front**.

# %%
def points(task, made):
    return {name: (one.bytes / 1e6, quality(task, one.steps)["quality"].value) for name, one in made.items()}

# What stands twice is left out, and so is what "export" alone leaves as it was.
others = {name: alone[name] for name in ("neurons", "layers", "vocabulary", "export + int8")}
models_of = {"classifier": points("classifier", {name: chain[name] for name in chain if name != "+ export"} | others),
             "translator": points("translator", {name: translators[name] for name in names
                                                 if not name.endswith("export")})}

# %%
def picture(task, unit):
    found = models_of[task]
    front = {list(found)[place] for place in mixed.pareto_front([(x, -y) for x, y in found.values()])}
    sides = {"on the front": front, "beaten": set(found) - front}
    drawn = {side: (*zip(*(found[name] for name in names), strict=True), list(names)) for side, names in sides.items()
             if names}
    return plots.scatter(drawn, title=f"{task}: {len(front)} of {len(found)} models are on the front",
                         alt=f"Points of megabytes and {unit}. On the front: "
                             + "; ".join(f"{name} {found[name][0]:.1f} MB, {found[name][1]:.1f}" for name in front)
                             + ".", xlabel="bytes on disk (MB)", ylabel=unit, log_x=True)

picture("classifier", "accuracy (%)")

# %%
picture("translator", "BLEU")

# %% [markdown]
# A front does not choose for you. A budget does: of the models that fit, the one of best quality.

# %% [markdown]
# ### Exercise: choose

# %% exercise="choose"

# %% [markdown]
# You will try many pipelines, one after the other. Each new model either enters the front, and may drive others out, or
# it changes nothing.

# %% [markdown]
# ### Exercise: one step of the front

# %% exercise="pareto_step"

# %% [markdown]
# ## Try it
#
# Move the budget. Which of the measured classifiers is chosen, and which would the plan have proposed?

# %%
measured = [{"name": "all steps" if made is final else name, "bytes": made.bytes, "ms": raced.timings[name].p50,
             "quality": quality("classifier", made.steps)["quality"].value} for name, made in chain.items()]

def look(bytes_allowed=1 / 6, time_allowed=1 / 6):
    limit = {"bytes": bytes_allowed * measured[0]["bytes"], "ms": time_allowed * measured[0]["ms"]}
    forecast = budgets.plan({"bytes": bytes_allowed, "ms": time_allowed}, options)
    best = budgets.choose(measured, limit)
    return tables.table({"plan, from the single steps": "nothing fits" if forecast is None else
                         " + ".join(forecast) or "the teacher", "best measured": best or "nothing fits"},
                        f"At most {bytes_allowed:.0%} of the bytes and {time_allowed:.0%} of the time", unit="choice")

allowed = {"1/2": 1 / 2, "1/4": 1 / 4, "1/6": 1 / 6, "1/8": 1 / 8, "1/12": 1 / 12}
widgets.explore(look, bytes_allowed=allowed, time_allowed=allowed)

# %% [markdown]
# ## Your pipeline
#
# Now it is your turn. Make a pipeline of your own and hand its model in: a file, judged by its bytes and by its answers
# to texts that it has never seen. Throughput is shown beside it, and not graded, since machines differ. Three tiers can
# be reached, bronze, silver and gold.
#
# Write your steps and options in a cell of your own. `Options` says what the steps aim at: the layers, heads and
# neurons that stay, and how the student is taught. For example:
#
# ```python
# from dataclasses import replace
#
# mine = replace(pipeline.USUAL["classifier"], layers=((0, 2, 5),), neurons=512)
# made = pipeline.make("classifier", ["neurons", "layers", "distil", "export", "int8"], mine, progress=True)
# pipeline.hand_in(made)        # copies the file beside this notebook, as 18_topics.onnx
# ```
#
# You are free to leave `pipeline` behind. What counts is the file:
#
# - **Topics**: `18_topics.onnx` takes `input_ids` and `attention_mask`, int64 (batch, length), the tokens that
#   `topic_classifier.tokenize` gives, and returns `logits`, float32 (batch, 5), in the order of `bbc.TOPICS`. At most 32 MiB.
# - **Translator**: `18_translator_encoder.onnx` takes `source`, int64 (batch, length), and returns the state, any
#   tensors of any names. `18_translator_decoder.onnx` takes `piece`, int64 (batch, 1), the last piece written, and what
#   it wants of the state, by name. It returns `logits`, float32 (batch, 1, 160), and `next_NAME` for every part of the
#   state that changes. At most 8 MiB each.
# - All weights lie in the file. Operators are those of the standard domain. Batch and length may vary.
#
# Keep away from the test documents when you train. They are on your disk, so this is a matter of honour: the judge asks
# about other sentences of the same documents.
#
# Here the judge asks validation data, with the same rules as the one who grades. So a good result here is a forecast,
# not the grade. And do not choose among many models by it: that is what the study's validation cells did, once.

# %% hand_in="topics_model"
quiz.hand_in("topics_model")

# %% hand_in="translator_model"
quiz.hand_in("translator_model")

# %% [markdown]
# ## Claimed and measured

# %%
quantized, both = rows["export + int8"], together[f"+ {steps[-1]}"]
claims.show("18", {
    "combined": claims.Measured(
        f"distilled alone {alone_student['times smaller']:.1f} times smaller, {student_ratio.value:.1f} times as fast; "
        f"INT8 alone {quantized['times smaller']:.1f} and {quantized['times as fast'].value:.1f}; both, with trimmed "
        f"words {both['times smaller']:.1f} and {both['times as fast'].value:.1f}",
        agrees=both["times smaller"] > max(alone_student["times smaller"], quantized["times smaller"])
        and both["times as fast"].low > max(student_ratio.high, quantized["times as fast"].high),
        why="One leaves fewer numbers, the other makes each number shorter, so the savings come on top of one another. "
            "So do the losses."),
    "four-times": claims.Measured(
        f"{small['times smaller']:.1f} times smaller, {spoken_throughput.value:.1f} times the throughput at "
        f"batches of 32, {alone_phrase.value:.1f} times as quick for a single phrase, {bleu_lost:+.2f} BLEU",
        agrees=bool(small["times smaller"] >= 4 and spoken_throughput.low >= 4 and alone_phrase.low >= 4)
        or "partly",
        why="Fewer and narrower layers, run by an engine without Python between the operations. With a single phrase "
            "the matrices are small, so that Python is the larger part of the time, and more of it goes."),
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
# - Measure before you optimize: bytes and time often lie in different parts of a model.
# - Take one step at a time and judge after each; one number at the end names no culprit.
# - Shares multiply only roughly. A step cuts a part, and the part's weight changes with the steps before it.
# - Cut first, then teach, then quantize. What is cut after teaching nobody repairs; only words that no training text has
#   may go later.
# - Choose and judge on data like those to come, and keep what you judge by apart from what you choose by.
# - Beside every compressed model belongs a small one trained from scratch. It says what the effort was worth.
#
# ## Where to read on
#
# - *Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman Coding*, Han,
#   Mao, Dally, 2015, arXiv:1510.00149
# - *FastFormers: Highly Efficient Transformer Models for Natural Language Understanding*, Kim, Hassan Awadalla, 2020,
#   arXiv:2010.13382
# - *Deep Encoder, Shallow Decoder: Reevaluating Non-autoregressive Machine Translation*, Kasai, Pappas, Peng, Cross,
#   Smith, 2020, arXiv:2006.10369
# - *Load What You Need: Smaller Versions of Multilingual BERT*, Abdaoui, Pradel, Sigel, 2020, arXiv:2010.05609
# - *Well-Read Students Learn Better: On the Importance of Pre-training Compact Models*, Turc, Chang, Lee, Toutanova,
#   2019, arXiv:1908.08962

# %%
quiz.progress()
