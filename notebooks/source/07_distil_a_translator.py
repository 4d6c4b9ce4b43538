# %% [markdown]
# # Distil a translator
#
# | | |
# |---|---|
# | You will be able to | distil a translator at word, sequence and hidden-state level, score translations with BLEU |
# | You need first | lesson 04 (distilling, seeds, paired differences); what a transformer's encoder and decoder do |
# | Minutes | 80 |
# | Points | 14 |

# %% tags=["imports"]
import torch

from lessons_lib.distillation import translation_losses as levels
from lessons_lib.distillation import translation_students
from lessons_lib.measure import benchmark, bleu, intervals, model_size
from lessons_lib.show import claims, plots, tables, widgets
from lessons_lib.studies import distil_translator as grid
from lessons_lib.tasks import decoding, phrase_pairs, translation, translator
from quizzes import lesson

# %%
quiz = lesson("07")

# %% [markdown]
# ## A translator that fits on a laptop
#
# A classifier gives one answer a sentence. A translator gives one answer a *word*, and each depends on the words that
# it wrote before. That changes what a teacher can hand on to a student. This lesson needs a translator that two
# processor cores can train, so it translates a small corner of language: numbers, ordinals, dates and amounts, in
# words, from English to French.

# %%
pairs = phrase_pairs.pairs("train")
tables.table([pairs[row] for row in range(6)], f"Some of {len(pairs):,} pairs")

# %% [markdown]
# A small corner, and not a shallow one. French counts by twenties from 60 on (*quatre-vingt-dix-sept*, four twenties
# and seventeen, is 97). *Vingt* and *cent* take an s when they end the number. Millions want *de* before what is
# counted. Years are read in pairs in English and in full in French.
#
# The model reads **pieces**: words, cut before a hyphen, so that few pieces make up every number.

# %%
phrase = "eighty-two million hours"
english, french = phrase_pairs.vocabularies()
print(phrase_pairs.pieces(phrase), english.encode([phrase]).tolist())
print(len(english), "English pieces,", len(french), "French ones, four of each for padding, begin, end and unknown")

# %% [markdown]
# The teacher is a transformer with six encoder layers and six decoder layers. `course prepare` trained it on all pairs.
# The **encoder** turns the English pieces into vectors, its hidden states. The **decoder** reads them and writes French
# piece by piece. After each piece it gives a score for every piece that could come next.

# %%
teacher = translation.teacher()
held_out = phrase_pairs.pairs("test")
some = held_out.select(range(6))["english"]
tables.table([{"English": text, "the teacher's French": answer}
              for text, answer in zip(some, decoding.translate(teacher, some), strict=True)])

# %% [markdown]
# ### What is held out?
#
# If test numbers were drawn at random, training would hold the neighbours of each: beside 52,417 it would hold 52,418.
# The test would ask whether the model can fill a gap of one. Here whole blocks are held out. No number from 51,000 to
# 53,999 occurs in training, no year from 1910 to 1919, and so on. *Cinquante-deux mille* has to be put together from
# what other numbers taught.

# %% [markdown]
# ## How good is a translation?
#
# You could count the phrases that are right to the letter. But a phrase of ten words with one wrong is not worthless.
# **BLEU** counts n-grams, runs of $n$ words, that the translation shares with a reference. Take this pair:

# %%
wrote = ["le", "six", "mai", "mille", "neuf", "cent", "dix"]
reference = ["le", "six", "mai", "mille", "huit", "cent", "dix"]

def shared(n):
    grams = [[tuple(side[i : i + n]) for i in range(len(side) - n + 1)] for side in (wrote, reference)]
    return {"shared": sum(gram in grams[1] for gram in grams[0]), "written": len(grams[0])}

tables.table({f"{n}-grams": shared(n) for n in (1, 2, 3, 4)}, "How many runs of n words does the reference share?")

# %% [markdown]
# One wrong word in the middle spoils one 1-gram, two 2-grams, three 3-grams and three of the four 4-grams. The share of
# shared n-grams is the precision $p_n$. BLEU takes the four precisions together:
#
# $$\text{BLEU} = 100 \cdot \min\!\big(1,\, e^{1 - r/c}\big) \cdot (p_1\, p_2\, p_3\, p_4)^{1/4}$$
#
# Two rules keep it honest. A word written twice counts twice only if the reference has it twice: the count is
# **clipped**. And a translation that writes only what it is sure of would have high precision, so the first factor
# punishes hypotheses that are shorter in all ($c$ words) than their references ($r$ words).
#
# Counts are added up **over the whole corpus** before anything is divided. The mean of the BLEU of single sentences is
# another number.

# %% [markdown]
# ### Exercise: BLEU
#
# Write it for words in lists. Yours must agree with sacrebleu, the program that papers use, to 0.01.

# %% exercise="corpus_bleu"

# %% [markdown]
# ### The teacher's BLEU
#
# The library's `bleu.corpus_bleu` is sacrebleu's. Its interval comes from drawing the test phrases anew, ten thousand
# times.

# %%
references = held_out["french"][:]
answers = decoding.translate(teacher, held_out["english"][:])
counts = bleu.statistics(answers, references)
teacher_bleu = bleu.interval(counts)
right = [one == other for one, other in zip(answers, references, strict=True)]
plots.note(f"The teacher: BLEU **{teacher_bleu:.1f}** on {len(right):,} held-out phrases; "
           f"{sum(right) / len(right):.1%} are right to the letter.")

# %%
kinds = held_out["kind"][:]
by_kind = {kind: bleu.interval(counts[[place for place, one in enumerate(kinds) if one == kind]])
           for kind in phrase_pairs.KINDS}
hardest = min(by_kind, key=lambda kind: by_kind[kind].value)
plots.bars(by_kind, title=f"Of the four kinds, {hardest}s are the teacher's hardest",
           alt="BLEU of the teacher by kind of phrase: "
               + ", ".join(f"{kind} {score:.1f}" for kind, score in by_kind.items()) + ".",
           xlabel="BLEU on held-out phrases (0 to 100)", ylabel="kind")

# %%
wrong = [place for place, good in enumerate(right) if not good][:4]
rows = [{"English": held_out[place]["english"], "the teacher": answers[place], "reference": references[place]}
        for place in wrong]
tables.table(rows or [{"wrong phrases": "none"}], "Where the teacher fails")

# %% [markdown]
# ## A small student
#
# Two layers instead of six on either side, and half as wide. What does that buy?

# %%
student = translator.new_translator(translator.Shape(**grid.SETTINGS["small"]), seed=0).eval()
sizes = {"teacher": model_size.size_on_disk(teacher), "student": model_size.size_on_disk(student)}
smaller = sizes["teacher"] / sizes["student"]

# %% [markdown]
# To compare speed, let both take the same work: read one phrase, then ten steps of the decoder, whatever they write.

# %%
one_phrase, some_piece = english.encode([phrase]), torch.tensor([[phrase_pairs.BEGIN]])

@torch.inference_mode()
def ten_steps(model):
    encoded, mask = model.encode(one_phrase)
    memory, cache = model.memory(encoded[-1]), None
    for _ in range(10):
        _, _, cache = model.decode(some_piece, memory, mask, cache)

# %%
with benchmark.threads(1):
    speed = benchmark.compare({name: lambda model=model: ten_steps(model)
                             for name, model in {"teacher": teacher, "student": student}.items()})

# %%
faster = speed.ratio("teacher", "student")
tables.table({name: {"bytes on disk": sizes[name], "p50, ms": timing.p50, "p95, ms": timing.p95}
              for name, timing in speed.timings.items()},
             f"The student is {smaller:.1f} times smaller; one phrase, one thread")

# %%
plots.note(f"The student's file is {smaller:.1f} times smaller; the teacher takes **{faster:.1f}** times as long for "
           "the same work. Time follows the layers more than the bytes: at these widths a layer is a handful of calls, "
           "narrow or wide.")

# %% [markdown]
# Its weights are random, so far. Suppose that a translation has to be paid for and an English phrase costs nothing. You
# have a few pairs and many phrases without French. What is the best that the student can learn from them?

# %%
few = translation_students.few_pairs(seed=0)
plots.note(f"**{len(few)}** translated pairs, **{len(translation_students.untranslated()):,}** phrases without French, and "
           f"{grid.SETTINGS['steps']} training steps of {grid.SETTINGS['batch_size']} phrases for every method.")

# %% [markdown]
# ## Word level: the teacher's doubts about the next piece
#
# Show teacher and student the same French beginning. Each gives a distribution over the next piece. That is a
# classifier, as in lesson 03, at every place of the text.

# %%
example = phrase_pairs.tensors(["the sixth of May nineteen ten"], ["le six mai mille neuf cent dix"])
with torch.inference_mode():
    logits = teacher(example["source"], example["target"][:, :-1])[0]
probabilities = logits.softmax(dim=-1)
tables.table([{"after": phrase_pairs.join(french.pieces[k] for k in example["target"][0, 1 : place + 1].tolist()),
               "likeliest": french.pieces[row.argmax()], "probability": row.max().item(),
               "second": french.pieces[row.argsort()[-2]], "its probability": row.sort().values[-2].item()}
              for place, row in enumerate(probabilities)], "What comes next, says the teacher", digits=2)

# %% [markdown]
# Word-level distillation adds the divergence at every place to the usual cross-entropy with the text $y$ (Kim and Rush,
# 2016):
#
# $$\frac{\alpha}{N}\sum_{t} \mathrm{KL}\big(p_{\text{teacher}}(\cdot \mid y_{<t}) \,\|\,
#   p_{\text{student}}(\cdot \mid y_{<t})\big) - \frac{1 - \alpha}{N}\sum_t \log p_{\text{student}}(y_t \mid y_{<t})$$
#
# $N$ counts the real pieces of the batch. Padding is left out of both sums.

# %% [markdown]
# ### Exercise: the word-level loss

# %% exercise="word_level_loss"

# %% [markdown]
# Note where the formula stands: on $y_{<t}$, a French beginning. The phrases without French have none. At word level
# they are of no use.

# %% [markdown]
# ## Sequence level: the teacher writes the text
#
# So let the teacher translate them, and train the student on its translations as if they were right. That is
# **sequence-level** distillation. The student learns from one text, the teacher's best, instead of a distribution over
# all texts, which nobody can write down.
#
# To find its best text the teacher does not take the likeliest piece each time, which is called **greedy**. A **beam
# search** keeps several beginnings, extends each by every piece and keeps the best of all. Since each piece multiplies
# the probability by less than one, sums of log-probabilities are divided by the number of pieces before finished texts
# are compared.

# %%
source = english.encode(held_out.select(range(200))["english"][:])
with torch.inference_mode():
    by_beams = {beams: french.decode(decoding.beam_search(teacher, source, beams)) for beams in (1, 4)}
tables.table({f"{beams} beams" if beams > 1 else "greedy": bleu.corpus_bleu(texts, references[:200])
              for beams, texts in by_beams.items()}, "The teacher on 200 phrases", unit="BLEU")

# %% [markdown]
# ### Exercise: data from a teacher

# %% exercise="sequence_level_data"

# %% [markdown]
# `course prepare` did this for all phrases without French. We know the true translations, though the student never sees
# them, so we can say how good its textbook is.

# %%
written = translation_students.teacher_translations()
truth = dict(zip(pairs["english"][:], pairs["french"][:], strict=True))
textbook = bleu.corpus_bleu(written, [truth[text] for text in translation_students.untranslated()])
plots.note(f"BLEU of the textbook: {textbook:.1f}. The teacher was trained on all pairs, these among them, so it "
           "hardly errs here. What the student gets from it is text that nobody had to pay for.")

# %% [markdown]
# ## Hidden-state level
#
# A third thing can be handed on: what the teacher *thinks*. Its hidden states are vectors, the student's are half as
# long, so the student gets a linear map to the teacher's width, used in training and thrown away afterwards:
#
# $$\frac{1}{N} \sum_t \frac{1}{d} \big\lVert W h^{\text{student}}_t - h^{\text{teacher}}_t \big\rVert^2$$
#
# once for the last layer of the encoder and once for the decoder's, added to the cross-entropy. It can stand on the
# teacher's own translations, and so can the word-level loss. Teacher outputs are computed once and kept: the teacher
# runs once over the data, not once a step.

# %%
data = translation_students.student_data("few", translated=True, seed=0)
cached = levels.teacher_outputs(teacher, {name: rows[:256] for name, rows in data.items()})
tables.table([{"cached": name, "shape": str(tuple(rows.shape)), "dtype": str(rows.dtype).removeprefix("torch."),
               "bytes a phrase": rows[0].numel() * rows.element_size()} for name, rows in cached.items()])

# %% [markdown]
# ## Which level helps?
#
# To tell methods apart takes several seeds of each, so the grid was run once, as a study, and its table came with the
# course. One of its cells runs now, at sequence level: the same code, the same seed, your machine.

# %%
live = grid.STUDY.live(grid.cell("sequence", seed=0))
table = grid.STUDY.table()

# %%
plots.note(f"The table holds {len(table)} runs, {table.seconds / 60:.0f} minutes of computing in all. Your run reached "
           f"BLEU {100 * live.score:.1f}, "
           + ("where one more seed should." if live.within else "**outside** of where one more seed should: do not "
              "trust the table on this machine, and run `course study distil_translator --fresh`."))

# %%
levels_named = {"300 pairs alone": "alone", "word level on the pairs": "word", "sequence level": "sequence",
                "sequence and word level": "sequence+word", "sequence and hidden states": "sequence+hidden"}
found = {name: grid.score(grid.usual(table, method)) for name, method in levels_named.items()}
best = max(found, key=lambda name: found[name].value)
plots.bars(found, marks={"teacher": teacher_bleu.value},
           title=f"Sequence level lifts the student from {found['300 pairs alone'].value:.0f} to "
                 f"{found['sequence level'].value:.0f} BLEU",
           alt="BLEU of the small student by method: "
               + ", ".join(f"{name} {score:.1f}" for name, score in found.items())
               + f". Teacher {teacher_bleu.value:.1f}.",
           xlabel="BLEU on held-out phrases (0 to 100)")

# %%
def versus(method, other, **changes):
    return grid.difference(grid.usual(table, method, **changes), grid.usual(table, other))

gains = {"sequence level against 300 pairs alone": versus("sequence", "alone"),
         "word level against 300 pairs alone": versus("word", "alone"),
         "word level on top of sequence level": versus("sequence+word", "sequence"),
         "hidden states on top of sequence level": versus("sequence+hidden", "sequence")}
tables.table([{"comparison": name, "BLEU gained": gain, "beats": gain.beats} for name, gain in gains.items()],
             "Paired over seeds and test phrases, 95 % intervals")

# %%
def in_words(gain):
    if gain.beats:
        return "helps"
    return "hurts" if gain.beaten else "makes no difference that these runs can show"

main = gains["sequence level against 300 pairs alone"]
plots.note(f"Sequence level gains **{main:+.1f}** BLEU. Word level, on the pairs alone, "
           f"{in_words(gains['word level against 300 pairs alone'])}. On top of sequence level, matching the next "
           f"pieces {in_words(gains['word level on top of sequence level'])}, matching hidden states "
           f"{in_words(gains['hidden states on top of sequence level'])}.")

# %% [markdown]
# Why does word level add so little? A likely reason: look again at the table of next pieces. This teacher is almost
# sure at every place, so its distributions say hardly more than the text does. A translator of real language hesitates
# between many good wordings, and may have more to tell. What the student cannot get from its few pairs, with any loss,
# is the phrases that they do not hold.
#
# The intervals are wide. Every seed draws other pairs, and three seeds say little about how much that matters. A large
# gain shows all the same; a gain of two or three BLEU would need more seeds.

# %% [markdown]
# ### Was the baseline given a fair chance?
#
# A weak baseline makes any method look good. Both got the same settings to choose from, learning rates times dropouts,
# and the same number of steps. Each uses the setting that did best on validation phrases.

# %%
tried = {"alone": "alone", "sequence level": "sequence"}
curves = {f"{name}, dropout {dropout:g}": (grid.RATES, [grid.tuning(table, method)[lr, dropout] for lr in grid.RATES])
          for name, method in tried.items() for dropout in grid.DROPOUTS}
best_of = {name: max(grid.tuning(table, method).values()) for name, method in tried.items()}
plots.lines(curves, log_x=True,
            title=f"Tuned alike, the baseline comes to {best_of['alone']:.0f} and distillation to "
                  f"{best_of['sequence level']:.0f}",
            alt="Validation BLEU by learning rate. " + " ".join(
                f"{name}: " + ", ".join(f"{score:.0f} at {lr:g}" for lr, score in zip(*curve, strict=True)) + "."
                for name, curve in curves.items()),
            xlabel="peak learning rate (log scale)", ylabel="BLEU, validation phrases")

# %% [markdown]
# ### And with all pairs?
#
# Give the same student every translated pair, no teacher, and the same number of steps.

# %%
all_pairs = grid.score(grid.usual(table, "alone", data="all"))
gap = grid.difference(grid.usual(table, "sequence"), grid.usual(table, "alone", data="all"))
plots.note(f"With all {len(pairs):,} pairs the student alone reaches **{all_pairs:.1f}**; with {len(few)} pairs alone it "
           f"had {found['300 pairs alone']:.1f}. Distilled, with {len(few)} pairs, minus alone, with all: {gap:+.1f} BLEU, "
           + ("better." if gap.beats else "worse." if gap.beaten else "no difference that these runs can show."))

# %% [markdown]
# So what the student lacked was data, and not layers. Where translated pairs are plentiful, the small model learns this
# task alone, and there is little left for a teacher to add. Distilling replaces data. It does not make a small model
# cleverer.

# %% [markdown]
# ## Fewer layers, in one step or in two
#
# Another way to make a student: keep the teacher's width, start from some of its layers, and distil. From 6 layers to 2
# the distance is long. **Progressive** distillation takes it in stages, 6 → 4 → 2, and the student of each stage is the
# teacher of the next.

# %% [markdown]
# ### Exercise: the plan
#
# Which layers survive each stage? Lesson 04 took them evenly spaced, with the last one kept. A stage removes two.

# %% exercise="stage_plan"

# %% [markdown]
# First what depth buys in time, measured on one phrase, in turns; and what is left of the translations when layers are
# taken out and nothing is trained.

# %%
depths = {6: teacher} | {depth: levels.shallower(teacher, levels.stage_plan(6, depth, 6 - depth)[0], 0.0).eval()
                         for depth in (4, 2)}
with benchmark.threads(1):
    by_depth = benchmark.compare({str(depth): lambda model=model: ten_steps(model) for depth, model in depths.items()})
quicker = {depth: by_depth.ratio("6", str(depth)) for depth in depths}

# %%
def scored(model, phrases=200):
    answers = decoding.translate(model, held_out["english"][:phrases])
    return bleu.interval(bleu.statistics(answers, references[:phrases]))

untrained = {depth: scored(model) for depth, model in depths.items()}
tables.table([{"layers": depth, "times as fast as six": quicker[depth], "BLEU untrained, 200 phrases": untrained[depth]}
              for depth in depths], "Layers taken out, before any training")

# %% [markdown]
# Then train. Both ways to two layers make the same number of steps in all, on the same data, with the word-level loss
# on the teacher's translations, each at the learning rate that did best on validation phrases.

# %%
ways = {"6 → 4": "6-4", "6 → 2": "6-2", "6 → 4 → 2": "6-4-2"}
steps = grid.DEPTH_STEPS
rows_of = {name: grid.usual(table, "sequence+word", way) for name, way in ways.items()}
by_way = {name: grid.score(rows) for name, rows in rows_of.items()}
in_steps = grid.difference(rows_of["6 → 4 → 2"], rows_of["6 → 2"])

def missing(score):
    return intervals.Interval(100 - score.value, 100 - score.high, 100 - score.low)

# %%
plots.bars({name: missing(score) for name, score in by_way.items()}, marks={"teacher": 100 - teacher_bleu.value},
           title=f"6 → 4 → 2 minus 6 → 2: {in_steps.value:+.1f} BLEU, after {steps} steps in all",
           alt="BLEU missing to 100, by way: "
               + ", ".join(f"{name} {100 - score.value:.1f}" for name, score in by_way.items())
               + f". Teacher {100 - teacher_bleu.value:.1f}.",
           xlabel="BLEU missing to 100 on held-out phrases (less is better)", ylabel="way")

# %%
compared = "is better" if in_steps.beats else "is worse" if in_steps.beaten else "cannot be told apart from 6 → 2"
plots.note(f"6 → 4 → 2 {compared}: {in_steps:+.1f} BLEU, paired over {in_steps.runs} seeds and the test phrases. Four "
           f"layers lose {teacher_bleu.value - by_way['6 → 4'].value:.1f} BLEU to their teacher after {steps} steps.")

# %% [markdown]
# In these runs the detour does not pay. Each stage gets half of the steps, and the final model is trained in the second
# half alone, by a teacher that is a little worse than the first. A stage helps where the long step fails, and here it
# does not fail: two layers of this teacher are a good enough start.

# %% [markdown]
# ## Try it
#
# Choose a held-out phrase and how many of the teacher's layers are left, untrained. Which kinds of phrase break first?
# Do more beams repair what a missing layer costs?

# %%
def translated(phrase=0, layers=2, beams=1):
    text = held_out[phrase]["english"]
    answer = decoding.translate(depths[layers], [text], beams=beams)[0]
    score = bleu.corpus_bleu([answer], [references[phrase]])
    return tables.table([{"English": text, f"{layers} layers": answer, "reference": references[phrase], "BLEU": score}])

widgets.explore(translated, phrase=range(0, 40), layers=[2, 4, 6], beams=[1, 2, 4, 8])

# %% [markdown]
# ## Claimed and measured

# %%
def lost(score):
    return teacher_bleu.value - score.value

distilled, alone, share = found["sequence level"], found["300 pairs alone"], lost(by_way["6 → 4"]) / teacher_bleu.value
claims.show("07", {
    "translation-kd": claims.Measured(
        f"{smaller:.1f} times smaller. With {len(few)} pairs it loses {lost(distilled):.1f} BLEU distilled, "
        f"{lost(alone):.1f} alone. With all pairs and no teacher, {lost(all_pairs):.1f}.",
        "partly" if lost(alone) > lost(distilled) else False,
        "What is lost without a teacher depends on how few the pairs are. With all pairs, distilling replaces nothing."),
    "fewer-layers": claims.Measured(
        f"Four layers: {quicker[4]:.2f} times as fast, {share:.1%} of BLEU lost after {steps} steps.",
        True if quicker[4].value >= 1.4 and share <= 0.03 else "partly",
        "Nearly all of the time is spent in layers, so it falls with their number. The task leaves four layers room."),
    "progressive": claims.Measured(
        f"6 → 4 → 2 minus 6 → 2, {steps} steps in all: {in_steps:+.1f} BLEU.",
        True if in_steps.beats else False if in_steps.beaten else None,
        "Each stage costs steps that one long step spends on the final model, and three seeds see no small gain."),
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
# - BLEU: clipped n-gram counts of the whole corpus, a geometric mean, a penalty for brevity. Report sacrebleu's.
# - Word level matches distributions over the next piece. It needs a French text to stand on.
# - Sequence level makes that text: the teacher translates, the student trains on it. It is what turns untranslated
#   phrases into knowledge.
# - With plenty of translated pairs a small student learns such a task alone. Measure that before you distil.
# - Compare at equal steps, with the baseline tuned as carefully as the method.

# %% [markdown]
# ## Where to read on
#
# - Yoon Kim, Alexander Rush, *Sequence-Level Knowledge Distillation*, 2016, arXiv:1606.07947. Both levels, on real
#   translation.
# - Kishore Papineni, Salim Roukos, Todd Ward, Wei-Jing Zhu, *BLEU: a Method for Automatic Evaluation of Machine
#   Translation*, ACL 2002.
# - Matt Post, *A Call for Clarity in Reporting BLEU Scores*, 2018, arXiv:1804.08771. Why sacrebleu exists.
# - Seyed Iman Mirzadeh and others, *Improved Knowledge Distillation via Teacher Assistant*, 2020, arXiv:1902.03393.
#   Distilling in steps.
# - Lesson 14 prunes this translator, lesson 16 gives it a cache of keys and values.
