# %% [markdown]
# # Start here
#
# | | |
# |---|---|
# | You will be able to | measure a model's bytes, latency, throughput, memory and accuracy, with their spread |
# | You need first | Python and a little PyTorch: tensors, modules, `state_dict` |
# | Minutes | 60 |
# | Points | 16 |

# %% tags=["imports"]
import itertools

import torch
from torch.profiler import profile

from lessons_lib.files import packaged
from lessons_lib.measure import benchmark, bleu, intervals, memory, model_size
from lessons_lib.show import claims, plots, tables, widgets
from lessons_lib.tasks import bbc, decoding, phrase_pairs, topic_classifier, translation
from quizzes import course_progress, lesson

# %%
quiz = lesson("00")

# %% [markdown]
# ## What is this course?
#
# A trained model is often larger and slower than its task needs. This course teaches four ways to shrink one:
#
# - **distillation**: train a small model to answer as the large one does;
# - **quantization**: store and multiply numbers of 8 or 4 bits instead of 32;
# - **low-rank fine-tuning**: adapt a large model by training a small addition to it;
# - **pruning**: leave out the parts that matter least.
#
# Each of them comes with promises: *four times smaller, twice as fast, almost as good*. Here you take no promise on
# trust. You measure it, on your own machine, with real models and real texts. Some promises hold, some do not, and
# each lesson ends with a table that says which.
#
# So measuring comes first. In this lesson you weigh and time the model that the next lessons shrink. What you find is
# the **baseline**, and every later figure is compared with it.

# %% [markdown]
# ### Is everything in place?
#
# If you opened this notebook with `make lab`, it is. Otherwise type two commands in a terminal: `course doctor` checks
# the installation and says how to mend what is wrong, and `course prepare` trains the models that the lessons share,
# once. After that no lesson needs the network. The next cell looks at the weights and texts.

# %%
found = [{"what": what, "in place": ok, "detail": detail} for what, ok, detail in packaged.verify() if what != "cache"]
tables.table(found, "Weights and texts")

# %% [markdown]
# ### How does an exercise work?
#
# An exercise is a function that you write. Its description says what goes in and what must come out. Replace the line
# with `raise` by your own code, then run the cell: the last line, `quiz.check`, tries your function on several inputs.
#
# Start with one line of arithmetic. First give a wrong answer on purpose, `return n_bytes / 1024**2`, and read what
# the check says about it. Then put it right.

# %% exercise="megabytes"

# %% [markdown]
# You may try as often as you like. If you are stuck, `quiz.hint(megabytes)` helps, and
# `quiz.solution(megabytes, give_up=True)` shows a solution. No later cell uses what you wrote, so you can also skip an
# exercise and return to it.
#
# ### How does a question work?
#
# Press a button below to try an answer out. To hand one in, put its letter in place of the three dots, as in
# `answer="A"`, and run the cell again. Each question is worth one point.

# %% question="1"
quiz.ask("1", answer=...)

# %% [markdown]
# ### Where do you stand?
#
# `quiz.progress()` lists what you have earned in one lesson. `course_progress()` shows the whole course: the points of
# each lesson, its minutes, and what comes next. Run the cell again whenever you like. In a terminal, `course progress`
# shows the same, `course next` names the next exercise and opens its lesson, and `course reset 00` puts a clean copy of
# this lesson in place of yours, which it keeps.

# %%
course_progress()

# %% [markdown]
# ## What are we going to shrink?
#
# The model reads one sentence from a BBC news article and names its topic, one of five. Inside is a sentence encoder,
# all-MiniLM-L6-v2: six transformer layers, each 384 wide. A linear layer turns the mean of its last hidden states into
# five scores. The lessons call it the **teacher**, because smaller models will learn from it.
#
# All of its numbers are stored in **FP32**: floating point, 32 bits each. Figures from a machine mean little without
# the machine, so here is yours.

# %%
teacher = topic_classifier.topic_teacher()
tables.table(benchmark.machine(), "Measured on")

# %% [markdown]
# Let it read its first sentence, and note how long that takes. You will need this figure in a moment.

# %%
test = bbc.sentences("test")
test = test.select(range(0, len(test), 4))             # every fourth sentence: enough for the picture, and quicker
texts, truth = test["text"], torch.tensor(test["topic"])
first_call = benchmark.latency(lambda: topic_classifier.predict_logits(teacher, texts[:1]), repeats=1, warmup=0)

# %%
chances = topic_classifier.predict_logits(teacher, texts[:1]).softmax(dim=-1)[0]
plots.note(f"> {texts[0]}\n\nThe teacher says **{bbc.TOPICS[chances.argmax()]}**, with a probability of "
           f"{chances.max():.0%}. The article stands under {bbc.TOPICS[truth[0]]}.")

# %% [markdown]
# ## How large is it?
#
# A model in memory is a set of tensors with names, its **state dict**. Some are **parameters**, which training
# changes. Others are **buffers**, such as counters and running means, which are saved all the same. Take a model
# small enough to count by hand.

# %%
tiny = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
rows = [{"name": name, "shape": str(tuple(t.shape)), "type": str(t.dtype).removeprefix("torch."),
         "bytes": t.numel() * t.element_size()} for name, t in tiny.state_dict().items()]
tables.table(rows, f"{sum(row['bytes'] for row in rows)} bytes in all")

# %% [markdown]
# The last entry is a single number, yet it takes 8 bytes: an int64. And the running means are not among
# `tiny.parameters()`. Two traps already for whoever counts parameters and multiplies by four.
#
# There is a third. Language models often use one matrix at both ends: it turns a word into a vector at the start, and
# a vector into a word at the end. The state dict then lists the same memory under two names.

# %% [markdown]
# ### Exercise: bytes of a state dict
#
# Count every tensor with the bytes of its own type, and a tensor under two names once.

# %% exercise="state_bytes"

# %% [markdown]
# Counting is arithmetic. The proof is a file: save the model, ask for the size. The course always reports the file,
# because later models are packed in ways that no count of parameters sees.

# %%
file_bytes = model_size.size_on_disk(teacher)
counted = model_size.state_bytes(teacher)
embedding = model_size.state_bytes(teacher.encoder.embeddings)

# %%
plots.bars({"word embeddings": embedding / 1e6, "six layers and the head": (counted - embedding) / 1e6},
           title=f"{embedding / counted:.0%} of the teacher is a dictionary: one vector for each word piece",
           alt=f"Two bars. The embeddings take {embedding / 1e6:.1f} MB, the six layers and the head "
               f"{(counted - embedding) / 1e6:.1f} MB.", xlabel="size (MB)")

# %%
plots.note(f"The file has {file_bytes:,} bytes, **{file_bytes / 1e6:.1f} MB**. The tensors account for {counted:,} of "
           f"them; the other {file_bytes - counted:,} are the header, which holds names and shapes.")

# %% question="2"
quiz.ask("2", answer=...)

# %% [markdown]
# ## How long does an answer take?
#
# Time a model once and you get a number. Time it again and you get another. The time from question to answer is
# called **latency**, and it has a distribution. Here are seven latencies in milliseconds, from a model that was
# disturbed once.

# %%
seven = [11.0, 10.0, 12.0, 48.0, 10.5, 11.5, 10.0]
ordered = sorted(seven)
print(ordered, f"mean {sum(seven) / 7:.1f}, middle {ordered[3]}")

# %% [markdown]
# Not one request took about as long as the mean says. The middle of the sorted list is typical: half of the requests
# are faster, half are slower. It is the **median**, also called the 50th percentile or **p50**.
#
# The slow request should not vanish from the report either, because somebody waited for it. The 95th percentile,
# **p95**, is the time that 95 of 100 requests do not exceed; **p99** is the time that 99 of 100 do not exceed.
#
# With seven samples, where is the 95th percentile? Number the sorted samples from 0 to $n - 1$. The rule is to read at
# the position
#
# $$\frac{p}{100}\,(n - 1)$$
#
# which is 5.7 here: 0.7 of the way from the sample at position 5 to the one at position 6.

# %%
position = 95 / 100 * (7 - 1)
print(f"position {position:.1f}, value {ordered[5] + (position - 5) * (ordered[6] - ordered[5]):.1f} ms")

# %% [markdown]
# ### Exercise: percentile

# %% exercise="percentile"

# %% [markdown]
# ### The teacher, one sentence at a time
#
# Now 200 requests, one sentence each, as they would come from 200 users. Each is timed from the text to the scores.
# The ten calls before them are not counted. You will see in a moment why.

# %%
queue = itertools.cycle(texts)
requests = benchmark.latency(lambda: topic_classifier.predict_logits(teacher, [next(queue)]), repeats=200, warmup=10)
requests

# %%
marks = {f"p{p} = {tables.show(benchmark.percentile(requests.samples, p))} ms": benchmark.percentile(requests.samples, p)
         for p in (50, 95, 99)}
plots.histogram(requests.samples, marks=marks, bins=60,
                title=f"One answer in a hundred takes {requests.p99 / requests.p50:.1f} times the median, or longer",
                alt=f"Histogram of {len(requests.samples)} latencies from {min(requests.samples):.1f} to "
                    f"{max(requests.samples):.1f} ms, with a tail to the right. Lines mark {', '.join(marks)}.",
                xlabel="latency of one request (ms)", ylabel="requests")

# %% question="3"
quiz.ask("3", answer=...)

# %% [markdown]
# This is no bell curve: the left edge is steep and the right side has a tail. A computation cannot be faster than its
# work allows, but much can hold it up: a longer sentence, another program, the operating system.
#
# And the very first call?

# %%
cold = first_call.samples[0]
plots.note(f"The first call took **{cold:.0f} ms**, {cold / requests.p50:.1f} times the median. It had to load code, "
           "reserve memory and set up the kernels that do the arithmetic. A service pays that once. So the first "
           "calls, the **warm-up**, are left out, and reported on their own if starting matters.")

# %% question="4"
quiz.ask("4", answer=...)

# %% [markdown]
# ### Which of two is faster?
#
# Does a second processor core help? You could time one core for a minute, then two for a minute. If the machine grew
# warm in between, you would have measured the heat. Instead, let both **take turns**, round after round, and compare
# within each round. `benchmark.compare` does that. It also gives the ratio an interval: the range of values that the
# rounds leave plausible, at the usual level of 95 %.

# %%
batch = topic_classifier.tokenize(texts[:16])

def on_threads(count):
    with benchmark.threads(count):
        return teacher(**batch)

cores = benchmark.machine()["cores"]
turns = benchmark.compare({"one thread": lambda: on_threads(1), "all cores": lambda: on_threads(cores)}, repeats=9)

# %%
gain, at_threads = turns.ratio("one thread", "all cores"), f"{requests.threads} thread" + "s" * (requests.threads > 1)
verdict = "and the interval lies above 1, so more cores help" if gain.low > 1 else "too near to 1 to speak of a gain"
plots.note(f"On a batch of 16 sentences one thread takes **{gain:.2f}** times as long as {cores}, {verdict}. A latency "
           f"without its threads is half a figure: all others in this lesson are for {at_threads}.")

# %% [markdown]
# ## How many answers a second?
#
# If you have a million sentences to sort, you do not care about any single one. What counts is **throughput**, answers
# a second. Sentences can share a call: several at once make a **batch**.
#
# Two batches of 8 took 10 and 30 ms. That is 16 sentences in 40 ms, so 400 a second. Beware of another way, which looks
# as good: the first batch ran at 800 a second and the second at 267, on average 533. But the slow batch lasted three
# times as long, so it must weigh three times as much.

# %% [markdown]
# ### Exercise: throughput

# %% exercise="throughput"

# %% [markdown]
# The teacher on growing batches. Every sentence is padded to the same length, so that only the size of the batch
# changes. (To save time the large batches run a few times only, so their p95 is rough.) Predict first: what does a
# batch of 64 do to the throughput, and what to the wait?

# %%
padded = topic_classifier.tokenize(texts[:64])
sizes = [1, 2, 4, 8, 16, 32, 64]

def run(size):
    return teacher(padded["input_ids"][:size], padded["attention_mask"][:size])

batches = {n: benchmark.latency(lambda n=n: run(n), repeats=max(3, 48 // n), warmup=1) for n in sizes}

# %%
rates = {size: benchmark.throughput(timing, size) for size, timing in batches.items()}
best = max(rates, key=rates.get)
plots.lines({"teacher": (sizes, list(rates.values()))}, log_x=True,
            title=f"In batches of {best} the teacher answers {rates[best] / rates[1]:.1f} times as many a second",
            alt=f"Throughput against batch size from 1 to {sizes[-1]}: {rates[1]:.0f} sentences a second alone, "
                f"{rates[best]:.0f} in batches of {best}, {rates[sizes[-1]]:.0f} in batches of {sizes[-1]}.",
            xlabel="sentences in a batch (log scale)", ylabel="sentences a second")

# %%
tables.table([{"batch": n, "p50 (ms)": t.p50, "p95 (ms)": t.p95, "sentences a second": round(rates[n])}
              for n, t in batches.items()], "What a batch gains, and how long its sentences wait")

# %% [markdown]
# Read the table from both ends. Throughput climbs at first, because a large matrix product keeps the cores busier than
# a small one. Then the cores are as busy as they can be, and the curve flattens. The wait goes on growing: each
# sentence waits for its whole batch.

# %% question="5"
quiz.ask("5", answer=...)

# %% [markdown]
# ## How much memory does it need?
#
# The file is one thing, the running process another. It also holds Python, PyTorch and **activations**, the results
# between the layers. We start a fresh process, so that nothing in this notebook can blur the picture, and read its
# **peak memory** after each step: the most that it ever held at once.

# %%
peaks = memory.memory_by_step({
    "Python and PyTorch": "import torch",
    "other libraries, texts": "from lessons_lib.tasks import bbc, topic_classifier; texts = bbc.sentences('test')['text']",
    "model loaded": "teacher = topic_classifier.topic_teacher()",
    "one sentence read": "topic_classifier.predict_logits(teacher, texts[:1])",
    "256 read at once": "topic_classifier.predict_logits(teacher, texts[:256], batch_size=256)",
})

# %%
single = peaks["one sentence read"]
plots.bars({step: peak / 1e6 for step, peak in peaks.items()},
           title=f"The process peaks at {single / 1e6:.0f} MB for a model of {file_bytes / 1e6:.0f} MB",
           alt="Peak memory of a fresh process after each step: "
               + ", ".join(f"{step} {peak / 1e6:.0f} MB" for step, peak in peaks.items()) + ".",
           xlabel="highest memory so far (MB)", ylabel="step")

# %%
plots.note(f"Before the model is there, the libraries already take {peaks['other libraries, texts'] / 1e6:.0f} MB. Loading "
           "needs more than the model itself: code is loaded too, and the weights exist twice for a moment. 256 at once add "
           f"{(peaks['256 read at once'] - single) / 1e6:.0f} MB of activations, however small the weights are. To "
           "shrink a model is to shrink one part of the whole, and the course reports which.")

# %% [markdown]
# ## How good is it?
#
# On sentences that it never saw in training, how often does the teacher name the right topic? Suppose it is right on 8
# of 10. Would it be right on 80 of 100? Ten sentences cannot tell. An **interval** says how far the truth may lie from
# what was seen: a 95 % interval is made by a rule that catches the truth in 95 of 100 test sets.
#
# Edwin Wilson gave a rule in 1927 that works even for few trials. With $p$ the share that is right, $n$ the number of
# trials and $z = 1.96$ for 95 %:
#
# $$\frac{p + \frac{z^2}{2n} \;\pm\; z\,\sqrt{\frac{p(1-p)}{n} + \frac{z^2}{4n^2}}}{1 + \frac{z^2}{n}}$$

# %%
tables.table({f"{8 * n} of {10 * n}": intervals.wilson_interval(8 * n, 10 * n) for n in (1, 10, 100)},
             "80 % right, from more and more sentences", unit="share and 95 % interval", name="right")

# %% [markdown]
# A hundred times the sentences, a tenth of the width: an interval shrinks with the square root of the trials.
#
# ### Exercise: Wilson's interval

# %% exercise="wilson_interval"

# %% [markdown]
# ### On the real sentences
#
# Wilson's rule wants independent trials. Ours are not: sentences of one article are about one thing, and the model
# tends to get them right or wrong together. The remedy is the **bootstrap**. Draw as many articles as there are, at
# random, some twice and some not at all, and compute the accuracy on what was drawn. Do that ten thousand times. The
# middle 95 % of the results are the interval.

# %%
right = topic_classifier.predict_logits(teacher, texts).argmax(dim=-1) == truth
by_sentence = intervals.wilson_interval(int(right.sum()), len(right))
by_document = intervals.accuracy(right, test["document"])

# %%
wider = (by_document.high - by_document.low) / (by_sentence.high - by_sentence.low)
tables.table({"as if sentences were independent": by_sentence, "drawing whole articles": by_document},
             f"{len(right):,} sentences from {len(set(test['document']))} articles", unit="accuracy and 95 % interval")

# %%
plots.note(f"The teacher is right on **{by_document:.1%}**. The honest interval is {wider:.1f} times as wide as the "
           "naive one. All intervals of accuracy in this course draw whole articles.")

# %%
documents = torch.tensor(test["document"])
by_topic = {topic: intervals.accuracy(right[truth == k], documents[truth == k])
            for k, topic in enumerate(bbc.TOPICS)}
worst, top = (choose(by_topic, key=lambda topic: by_topic[topic].value) for choose in (min, max))
plots.bars(by_topic, title=f"{top.capitalize()} is the clearest topic, {worst} the hardest",
           alt="Accuracy by topic with its interval: "
               + ", ".join(f"{topic} {accuracy:.0%}" for topic, accuracy in by_topic.items()) + ".",
           xlabel="share of sentences named right, with 95 % interval", ylabel="topic")

# %% question="6"
quiz.ask("6", answer=...)

# %% [markdown]
# ## Where does the time go?
#
# To make something faster, first find out what is slow. A **profiler** records every operation of a call and how long
# it took. Here it watches the teacher read one batch of 32 sentences.

# %%
run(32)
with profile() as profiler:
    run(32)
operations = sorted(profiler.key_averages(), key=lambda operation: -operation.self_cpu_time_total)
total = sum(operation.self_cpu_time_total for operation in operations)

# %%
slowest = [{"operation": operation.key, "calls": operation.count, "ms": operation.self_cpu_time_total / 1000,
            "share (%)": 100 * operation.self_cpu_time_total / total} for operation in operations[:5]]
tables.table(slowest, "The five operations that take most of the time")

# %%
shares = {row["operation"]: row["share (%)"] for row in slowest}
plots.bars(shares, title=f"A single operation, {slowest[0]['operation']}, takes {slowest[0]['share (%)']:.0f} % of the time",
           alt="Share of the time: " + ", ".join(f"{name} {share:.0f} %" for name, share in shares.items()) + ".",
           xlabel="share of the time of one batch (%)", ylabel="operation")

# %% [markdown]
# `aten` is PyTorch's own library of operations; `mm` and `addmm` are matrix products. They dominate, and they are
# what the linear layers consist of. So this course goes after linear layers: fewer of them, smaller ones, or the same
# ones in numbers of fewer bits. To make anything else twice as fast would hardly show.

# %% [markdown]
# ## A second model
#
# The course shrinks another model too: a **translator**, from English to French, of numbers, dates and amounts in
# words. It writes its answer piece by piece, each after reading what it wrote before, so one answer takes many passes
# through its layers. Lesson 07 shows how it was built, and what **BLEU** is, its score from 0 to 100.

# %%
translator = translation.teacher()
held_out = phrase_pairs.pairs("test").shuffle(seed=0, keep_in_memory=True).select(range(400))
english, french = held_out["english"][:], held_out["french"][:]
waiting = itertools.cycle(english)
phrases = benchmark.latency(lambda: decoding.translate(translator, [next(waiting)]), repeats=40, warmup=2)

# %%
together = benchmark.latency(lambda: decoding.translate(translator, english[:64]), repeats=3, warmup=1)
written = decoding.translate(translator, english)
score = bleu.interval(bleu.statistics(written, french))
plots.note(f"> {english[0]}\n\n> {written[0]}\n\nIt reaches BLEU **{score:.1f}** on {len(english)} phrases whose numbers "
           f"it never saw, and takes {tables.show(phrases.p50)} ms for one.")

# %% [markdown]
# ## The baseline
#
# Everything in one table. Later lessons put smaller models beside these two.

# %%
def three(timing):
    return ", ".join(map(tables.show, (timing.p50, timing.p95, timing.p99)))

rows = {
    "file (MB)": (round(file_bytes / 1e6, 1), round(model_size.size_on_disk(translator) / 1e6, 1)),
    "latency of one, p50, p95, p99 (ms)": (three(requests), three(phrases)),
    "throughput in batches of 64 (a second)": (round(rates[64]), round(benchmark.throughput(together, 64))),
    "peak memory of the process, one sentence (MB)": (round(single / 1e6), None),
    "quality, with 95 % interval": (f"accuracy {100 * by_document.value:.1f} % [{100 * by_document.low:.1f}, "
                                    f"{100 * by_document.high:.1f}]", f"BLEU {score:.1f}"),
}
tables.table({name: dict(zip(("topic teacher", "translator"), pair, strict=True)) for name, pair in rows.items()},
             f"FP32, {at_threads}")

# %% [markdown]
# ## Try it
#
# You run a service, and nobody may wait longer than a certain time: a **latency budget**. Move the slider, and see
# which batch is the largest that keeps the budget in 95 of 100 calls, and what throughput that allows.

# %%
waits = [timing.p95 for timing in batches.values()]

def within(budget=50):
    fitting = [size for size, timing in batches.items() if timing.p95 <= budget]
    verdict = "no batch is quick enough"
    if fitting:
        verdict = f"batches of {max(fitting)}, {rates[max(fitting)]:.0f} sentences a second"
    return plots.lines({"teacher": (sizes, waits), f"budget, {budget} ms": (sizes, [budget] * len(sizes))},
                       title=f"Within {budget} ms: {verdict}", log_x=True, log_y=True,
                       alt=f"The p95 latency of a batch rises from {waits[0]:.0f} ms alone to {waits[-1]:.0f} ms for "
                           f"{sizes[-1]} sentences. Within a budget of {budget} ms: {verdict}.",
                       xlabel="sentences in a batch (log scale)", ylabel="p95 latency (ms, log scale)")

widgets.explore(within, budget=[5, 10, 20, 50, 100, 200, 500])

# %% [markdown]
# ## Claimed and measured
#
# Every lesson ends its measurements with such a table: what is said, what you found, whether the two agree, and why.
# The claims stand in the file `data/claims.toml`, and `course claims` lists all of them with what your machine found.

# %%
keeps = requests.p99 <= 100 and phrases.p99 <= 500
why = ("Even the slow ones keep it: small models, short texts, no network in between."
       if keeps else "The slowest miss it: the processor is slow, or was busy with other work.")
claims.show("00", {"latency-budget": claims.Measured(
    f"One at a time on {at_threads}: a topic within {tables.show(requests.p50)} ms (p50) and "
    f"{tables.show(requests.p99)} ms (p99), a translation within {tables.show(phrases.p50)} and "
    f"{tables.show(phrases.p99)} ms.", agrees=keeps,
    why=why + " A server under load is measured in lesson 17.")})

# %% [markdown]
# If a model already keeps its budget, why shrink it? Because the same machine can then serve more users, or a smaller
# machine the same users. And because most models are larger than this one.

# %% [markdown]
# ## Questions
#
# Two more, on comparing models. They return in every lesson that follows.

# %% question="7"
quiz.ask("7", answer=...)

# %% question="8"
quiz.ask("8", answer=...)

# %%
quiz.progress()

# %% [markdown]
# ## What to remember
#
# - Size is the bytes of the file. A count of parameters misses buffers, types and shared tensors.
# - Latency has a distribution. Warm up, then report the median and the tail, p95 or p99, with the threads.
# - Batches raise throughput and make everybody in them wait. Say which of the two you improve.
# - Peak memory is that of the process: libraries, weights and activations.
# - Accuracy has an interval, drawn over documents where sentences come from documents.
# - Compare two things in turns, on the same sentences, and look at the interval of the ratio or the difference.
# - Profile before you optimize.

# %% [markdown]
# ## Where to read on
#
# - *The Tail at Scale*, Jeffrey Dean and Luiz André Barroso, 2013, Communications of the ACM 56(2): why p99 matters
#   more than the mean as soon as one answer needs many machines.
# - *MLPerf Inference Benchmark*, Vijay Janapa Reddi and others, 2019, arXiv:1911.02549: how the industry measures
#   latency and throughput.
# - *Adding Error Bars to Evals*, Evan Miller, 2024, arXiv:2411.00640: intervals for model quality, questions that come
#   in groups included.
# - *MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers*, Wenhui Wang
#   and others, 2020, arXiv:2002.10957: where the teacher's encoder comes from. It is itself a distilled model.
