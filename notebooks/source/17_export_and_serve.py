# %% [markdown]
# # Export and serve
#
# | | |
# |---|---|
# | You will be able to | export a model to ONNX and check it, serve it in batches with limits, and load it until it bends |
# | You need first | lesson 09 (static INT8: ranges from calibration data) |
# | Minutes | 60 |
# | Points | 16 |

# %% tags=["imports"]
import inspect
import tempfile
import textwrap
from pathlib import Path

import httpx
import numpy
import onnx
import torch
from torch import nn

from lessons_lib.files import progress
from lessons_lib.int8 import dynamic
from lessons_lib.measure import benchmark, intervals, model_size
from lessons_lib.serving import batching, load_test, onnx_export, runtimes, topic_server
from lessons_lib.serving.server import Limits
from lessons_lib.show import claims, plots, widgets
from lessons_lib.show.tables import table
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("17")

# %% [markdown]
# ## What does a model need to run?
#
# So far a model was a Python class and its weights. Whoever wants to run it needs the class, torch, and the same versions
# of both. That is much to ask of a server, and a phone has none of it.
#
# But what a model does to its input is a list of a few dozen operators: multiply, add, look up. Write the list down,
# with the weights, and nothing else is needed. **ONNX** is a format for such a list. Take a classifier small enough to
# read: a table of vectors, their mean over the real tokens, one layer.

# %%
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(10, 2), nn.Linear(2, 3)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[:, :, None].float()
        return self.head((self.table(input_ids) * mask).sum(1) / mask.sum(1))

# %%
kept = tempfile.TemporaryDirectory()
folder = Path(kept.name)
torch.manual_seed(0)
small_file = onnx_export.to_onnx(Small(), folder / "small.onnx")
steps = onnx.load(small_file).graph.node
table([{"step": i + 1, "operator": step.op_type, "reads": ", ".join(step.input), "writes": ", ".join(step.output)}
       for i, step in enumerate(steps)], "What the file says")

# %% [markdown]
# Read it from top to bottom: it is the forward pass, line by line. `table.weight` is looked up (`Gather`), multiplied by
# the mask, added up, divided. `Gemm` is the linear layer. Names that begin with `val` are small
# constants.
#
# ### What is written down, and what is not
#
# How does the list come about? torch runs the model once on a sample and records each operator that runs. This is
# **tracing**. Python itself is not recorded. A loop over positions is run while tracing, and what remains are its
# turns, one after the other: as many as the sample had tokens.

# %%
class Loop(nn.Module):
    def forward(self, input_ids, attention_mask):
        return sum(input_ids[:, i].float() * attention_mask[:, i] for i in range(input_ids.shape[1]))

# %%
try:
    onnx_export.to_onnx(Loop(), folder / "loop.onnx")
except ValueError as refused:
    plots.note(f"> {refused}")

# %% [markdown]
# torch wrote the file without a word. It was the library's `to_onnx` that refused: it runs each file on a batch of another
# shape than was traced, and compares with the model. Do that whenever you export.
#
# ## How far apart are two models?
#
# Which number says that two models compute the same? The mean of their differences hides one wrong logit among a
# thousand right ones. So take the largest: with $a$ the logits of one and $b$ of the other,
#
# $$\max_i |a_i - b_i|$$

# %% exercise="max_abs_difference"

# %% [markdown]
# ## Export the teacher
#
# Now the real one. Batch and length stay open: the file takes any number of texts, as long as the positions reach. It
# takes torch some seconds to trace six layers.

# %%
teacher = topic_classifier.topic_teacher()
test = bbc.sentences("test").shuffle(seed=0).select(range(150))
texts, topics, documents = test["text"][:], torch.tensor(test["topic"]), test["document"]
files = {"FP32": onnx_export.to_onnx(teacher, folder / "teacher.onnx")}

# %%
graph = onnx.load(files["FP32"])
axes = [axis.dim_param for axis in graph.graph.input[0].type.tensor_type.shape.dim]
plots.note(f"{len(graph.graph.node)} operators of {len({node.op_type for node in graph.graph.node})} kinds, in "
           f"{model_size.size_on_disk(files['FP32']) / 1e6:.1f} MB. The axes of the input are named {' and '.join(axes)}.")

# %% [markdown]
# **ONNX Runtime** reads the file, merges operators where it can, and runs it. Compare it with torch on batches of many
# shapes. Predict first: is the largest difference zero?

# %%
opened = onnx_export.OnnxModel(files["FP32"])
shapes = [(1, 3), (1, 128), (2, 17), (7, 60), (16, 32)]

def batch_of(size, length):
    long = [" ".join(texts[(i + k) % 150] for k in range(1 + length // 8)) for i in range(size)]
    return topic_classifier.tokenize(long, length)

def apart(size, length):
    batch = batch_of(size, length)
    wanted = teacher(**batch)
    return onnx_export.max_abs_difference(opened(**batch), wanted), wanted.abs().max().item()

# %%
rows = []
for size, length in shapes:
    off, largest = apart(size, length)
    rows.append({"texts": size, "tokens": length, "largest difference": off, "of the largest logit": off / largest,
                 "below 1e-5": off / largest < 1e-5})
table(rows, "ONNX Runtime against torch, both in FP32")

# %% [markdown]
# Not zero, and yet the same model. A sum of 384 products has no fixed order, each order rounds differently, and FP32
# keeps about seven digits. A part in 100,000 of the largest logit is the bound that the course's tests hold for random
# batches and paddings. What would a real mistake look like? Forget the mask, so that padding counts as text:

# %%
padded = topic_classifier.tokenize(texts[:16])
wanted = teacher(**padded)
forgot = opened(padded["input_ids"], torch.ones_like(padded["attention_mask"]))
mistake = onnx_export.max_abs_difference(forgot, wanted) / wanted.abs().max().item()
times = mistake / max(row["of the largest logit"] for row in rows)
plots.note(f"Without the mask the logits are off by {mistake:.2g} of the largest one, "
           f"about {float(f'{times:.1g}'):,.0f} times as far as rounding takes them.")

# %% [markdown]
# ## INT8 in ONNX Runtime
#
# The two kinds of lessons 08 and 09 are there as well. **Dynamic**: the weights become codes, and operators that find the
# range of each activation are put before each product. **Static**: ranges come from calibration, here with 64 training
# sentences, and are constants in the file.

# %%
calibration = bbc.sentences("train").shuffle(seed=0).select(range(64))["text"][:]
batches = [topic_classifier.tokenize(calibration[i : i + 32]) for i in range(0, 64, 32)]
files["dynamic INT8"] = onnx_export.dynamic_int8(files["FP32"], folder / "dynamic.onnx")
files["static INT8"] = onnx_export.static_int8(files["FP32"], folder / "static.onnx", batches)

# %%
kinds = ("MatMul", "MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear")
listed = {name: [node.op_type for node in onnx.load(path).graph.node] for name, path in files.items()}
table({name: {kind: operators.count(kind) for kind in kinds} for name, operators in listed.items()},
      "Operators in the three files", name="file")

# %% [markdown]
# The dynamic file multiplies integers (`MatMulInteger`). The products that stay in `MatMul` are those inside attention,
# where both sides are activations.
#
# The static file looks as if it had gained nothing: its products are plain `MatMul`s between pairs of `QuantizeLinear` and
# `DequantizeLinear`. That is how ONNX writes it down: round to codes, go back, multiply. Weights lie in the file as
# codes already and need only the way back. A runtime that knows the pattern
# replaces all of it by one product of integers. One that does not still gets the right answer.
#
# ## Two other runtimes
#
# A file that many programs can read is worth trying in more than one. **OpenVINO** is made by Intel for its processors,
# **TensorRT** by NVIDIA for its GPUs. Each compiles the graph for the machine it is on.

# %%
racing = {"torch FP32": teacher, "torch INT8, ours": dynamic.dynamic_int8(teacher, embeddings=True)}
racing |= {f"ONNX Runtime {name}": onnx_export.OnnxModel(path) for name, path in files.items()}
sizes = {name: model_size.size_on_disk(racing[name]) for name in list(racing)[:2]}
sizes |= {f"ONNX Runtime {name}": model_size.size_on_disk(path) for name, path in files.items()}
for kind in ("FP32", "static INT8"):
    if not runtimes.openvino_missing():
        racing[f"OpenVINO {kind}"] = runtimes.OpenVinoModel(files[kind])
        sizes[f"OpenVINO {kind}"] = model_size.size_on_disk(files[kind])

# %%
plots.note(runtimes.openvino_missing() or "OpenVINO is here, and reads two of the three files.")

# %%
if not runtimes.tensorrt_missing():
    racing["TensorRT static INT8"] = runtimes.TensorRTModel(files["static INT8"])
    sizes["TensorRT static INT8"] = model_size.size_on_disk(files["static INT8"])
plots.note(runtimes.tensorrt_missing() or "TensorRT is here, and joins the race.")

# %% [markdown]
# The library's code for it is short. It reads the same file, is told the smallest, the usual and the largest shape, and
# builds an engine for the GPU it finds. The shapes are (1, 1), (16, 32) and (64, 128), texts by tokens.

# %%
plots.note(f"```python\n{textwrap.dedent(inspect.getsource(runtimes.TensorRTModel.__init__))}\n```")

# %% [markdown]
# ## All in one table
#
# The same sentences for all: one at a time, as in a chat, and 32 at a time, as in a night's work. They take turns, so
# that nobody has the quieter minute. What do you expect of ONNX Runtime in FP32, against torch: faster at one sentence,
# at 32, at both?

# %%
one, many = topic_classifier.tokenize(texts[:1]), topic_classifier.tokenize(texts[:32])
single = benchmark.compare({name: lambda model=model: model(**one) for name, model in racing.items()}, 20, 3)
batched = benchmark.compare({name: lambda model=model: model(**many) for name, model in racing.items()}, 4, 1)

# %%
logits = {name: topic_classifier.predict_logits(model, texts) for name, model in racing.items()}
exact = logits["torch FP32"]
right = {name: (found.argmax(1) == topics).int().tolist() for name, found in logits.items()}
off = {name: onnx_export.max_abs_difference(found, exact) for name, found in logits.items()}
changed = {name: int((found.argmax(1) != exact.argmax(1)).sum()) for name, found in logits.items()}

# %%
at_threads = f"{torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)
table([{"model": name, "MB": sizes[name] / 1e6, "p50, one (ms)": single.timings[name].p50,
        "p95, one (ms)": single.timings[name].p95, "a second, in 32s": benchmark.throughput(batched.timings[name], 32),
        "accuracy, 95 % interval": f"{intervals.accuracy(right[name], documents):.1%}"} for name in racing],
      f"{len(texts)} test sentences, {at_threads}")

# %%
gains = {name: {"one sentence": single.ratio("torch FP32", name), "32 sentences": batched.ratio("torch FP32", name)}
         for name in racing if name != "torch FP32"}
fastest = max(gains, key=lambda name: gains[name]["32 sentences"].value)
plots.bars(gains, marks={"as fast as torch FP32": 1}, xlabel="times as fast as torch FP32, 95 % interval over the rounds",
           title=f"At 32 sentences {fastest} is {gains[fastest]['32 sentences'].value:.1f} times as fast as torch FP32",
           alt="Times as fast as torch FP32: " + "; ".join(
               f"{name} {gain['one sentence'].value:.2f} with one sentence, {gain['32 sentences'].value:.2f} with 32"
               for name, gain in gains.items()) + ".")

# %%
plain = gains["ONNX Runtime FP32"]
plots.note(f"In FP32, ONNX Runtime is {plain['one sentence'].value:.2f} times as fast as torch with one sentence and "
           f"{plain['32 sentences'].value:.2f} times with 32. With one sentence much of torch's time is Python between "
           "the operators, which a file does not have. With 32 nearly all of the time is matrix products, and there "
           "torch's are hard to beat.")

# %% [markdown]
# ### May an answer change?
#
# An answer is the largest logit. If no logit moved by more than $d$, it can only change where the two best of a text were
# closer than $2d$: the first may fall by $d$ and the second rise by it. So the largest difference bounds how many answers
# may change, before you look at them.

# %%
best_two = exact.topk(2).values
margin = best_two[:, 0] - best_two[:, 1]
table([{"model": name, "largest difference": off[name], "of the largest logit": off[name] / exact.abs().max().item(),
        "answers that may change": int((margin < 2 * off[name]).sum()), "that did": changed[name]}
       for name in racing if name != "torch FP32"], f"Against torch FP32, {len(texts)} sentences")

# %% [markdown]
# For the FP32 files the bound alone settles it. For INT8 it is wide, because it takes the worst logit of all texts; there
# the accuracy must be measured.
#
# ## One length for all?
#
# The file takes any length. TensorRT, and compilers such as `torch.compile`, work best when they know it: they choose the
# code for each product by its shape. Then build an engine for a few lengths, the **buckets**, and pad each text to the
# next one. Padding is computed like any token, so it is waste.

# %% exercise="pad_to_bucket"

# %%
lengths = topic_classifier.tokenize(texts, 128)["attention_mask"].sum(1).tolist()
choices = [[128], [64, 128], [32, 64, 128], [16, 32, 48, 64, 128]]
padding = {" ".join(map(str, sizes)): 100 * batching.pad_to_bucket(lengths, sizes)[1] for sizes in choices}
plots.bars(padding, xlabel="padding (% of the tokens computed)", ylabel="buckets",
           title=f"One bucket of 128 tokens computes {padding['128']:.0f} % padding, five buckets "
                 f"{padding['16 32 48 64 128']:.0f} %",
           alt=f"Share of padding for {len(lengths)} real sentences, by buckets: "
               + "; ".join(f"{sizes}: {share:.0f} %" for sizes, share in padding.items()) + ".")

# %% [markdown]
# ## From a model to a service
#
# A file answers nobody. A **server** waits for requests, hands texts to the model and sends answers back. Requests come
# one by one. Is it cheaper to answer several at once? Measure it on the one thread that we shall give the server.

# %%
engines = {name: onnx_export.OnnxModel(files[name], threads=1) for name in ("FP32", "dynamic INT8")}
rates = {name: {} for name in engines}
for size in (1, 4, 16):
    parts = [topic_classifier.tokenize(texts[start : start + size]) for start in range(0, 16, size)]
    run = benchmark.compare({name: lambda model=model, parts=parts: [model(**some) for some in parts]
                           for name, model in engines.items()}, 6, 1)
    for name, timing in run.timings.items():
        rates[name][f"{size} at a time"] = benchmark.throughput(timing, 16)

# %%
gathered = {name: found["16 at a time"] / found["1 at a time"] for name, found in rates.items()}
plots.bars(rates, xlabel="sentences a second, one thread",
           title="Sixteen at a time: " + ", ".join(f"{gain:.1f} times as many a second in {name}"
                                                   for name, gain in gathered.items()),
           alt="Sentences a second: " + "; ".join(
               f"{name} " + ", ".join(f"{rate:.0f} with {size}" for size, rate in found.items())
               for name, found in rates.items()) + ".")

# %%
tokens = topic_classifier.tokenize(texts[:16])["attention_mask"].sum(1).float().mean()
plots.note(f"One sentence is no single row: its {tokens:.0f} tokens or so go through each layer together. So the gain is "
           f"moderate here, {gathered['FP32']:.1f} and {gathered['dynamic INT8']:.1f} times. A decoder, which computes one "
           "token at a time, gains far more (lesson 16), and so does a GPU. And a larger batch is not always faster: all "
           "are padded to the longest sentence in it.")

# %% [markdown]
# So let a request wait a moment for others. Two numbers decide how long: a batch leaves when it holds `max_batch` texts,
# or when its first has waited `max_wait`. Six requests, `max_batch` 3, `max_wait` 5:

# %%
arrivals = [0.0, 1.0, 2.0, 4.0, 9.0, 12.0]
groups, leaves = batching.batch_requests(arrivals, max_batch=3, max_wait=5.0)
table([{"batch": i + 1, "arrived at": ", ".join(f"{arrivals[k]:g}" for k in group), "leaves at": leave,
        "longest wait": leave - arrivals[group[0]]} for i, (group, leave) in enumerate(zip(groups, leaves))])

# %% [markdown]
# The first batch was full after 2 seconds and left at once. The second was opened at 4 and left at 9; the request that
# came at that very moment still went along. The last one waited five seconds for nobody.

# %% exercise="batch_requests"

# %% [markdown]
# ## What a server must refuse
#
# The library's `server` is one: a queue, and rules around it. `topic_server` runs it as a program of its own,
# without torch: the file, a tokenizer and ONNX Runtime are all it needs. These are its limits.

# %%
limits = Limits()
table(vars(limits), "Batches and capacity in texts, times in seconds", unit="limit", name="of")

# %% [markdown]
# The next cell starts it on this machine, asks, and stops it. All requests but the first are bad, each in its own way.

# %%
asked = {"a sentence": {"json": {"text": texts[0]}}, "no JSON": {"content": "hello"}, "no text": {"json": {"text": ""}},
         "300 words": {"json": {"text": "word " * 300}}, "100,000 letters": {"json": {"text": "x" * 100_000}}}
patient = {"timeout": 30, "trust_env": False}       # no proxy: the server is on this machine
with topic_server.running(files["dynamic INT8"]) as address:
    answers = {name: httpx.post(f"{address}/predict", **request, **patient) for name, request in asked.items()}
table({name: {"status": answer.status_code, "answer": answer.json().get("error") or answer.json()["topic"]}
       for name, answer in answers.items()}, name="request")

# %% [markdown]
# A number for programs, a reason for people. **422** is "I cannot read this", **413** "this is too long". Without the
# second, one visitor with a book could stop the service for all others. Nothing is cut off in silence.
#
# The other limits need a crowd to be seen:
#
# - The queue is **bounded**. When `capacity` texts wait, the next gets **429**, "too many requests", at once. Why not let
#   it wait? If more comes than can be done, a queue grows without end, and soon every answer comes too late.
# - Each request has a `timeout`. Whoever waits longer gets **504**, and the place is free.
# - A client that **hangs up** frees its place, and nobody computes its answer.
# - On a signal to stop, the server takes nothing new, answers all that it accepted, and ends. The tests of this course
#   stop it under load and count: none is lost.
# - **/health** says that it runs, for whoever has to restart it. **/metrics** counts; more of that below.
#
# ## Load it until it bends
#
# What does the server do when more and more people come? A **load test** finds out. Ours is **open**: requests are sent
# at random times at a given rate, whatever the server answers. People do not know of one another, either. A test that
# waits for each answer before it sends the next slows down together with the server, and never sees the queue.
#
# The rates follow from what FP32 managed above, 16 at a time: from a quarter of it to twice as many, each for a
# second at most. Predict: what happens to the p95 where the offered load passes what the server can do?

# %%
capacity = rates["FP32"]["16 at a time"]
offered = [round(capacity * share) for share in (0.25, 0.5, 0.8, 1.2, 2)]
loads, pages = {"FP32": [], "dynamic INT8": []}, {}
for name, load in loads.items():
    with topic_server.running(files[name]) as address:
        load_test.drive(address, texts, offered[0], 0.5)                 # warms up
        for rate in progress.over(offered, f"driving {name}", "rate"):
            load.append(load_test.drive(address, texts, rate, min(1.0, 4000 / rate)))
        pages[name] = httpx.get(f"{address}/metrics", **patient).text

# %%
def curves(name):
    seen = [(rate, load) for rate, load in zip(offered, loads[name]) if load.latencies]
    return {f"p{p}": ([rate for rate, _ in seen], [load.p(p) for _, load in seen]) for p in (50, 95, 99)}

def spoken(found):
    return "; ".join(f"{p} " + ", ".join(f"{ms:.0f} at {rate}" for rate, ms in zip(*points))
                     for p, points in found.items())

def within(name, budget=100):
    fitting = [rate for rate, load in zip(offered, loads[name]) if load.p(95) <= budget and not load.refused]
    return f"up to {max(fitting)} requests a second" if fitting else "at none of the rates"

budget_line = {"100 ms": ([offered[0], offered[-1]], [100, 100])}

# %%
plots.lines(curves("FP32") | budget_line, log_y=True, xlabel="offered load (requests a second)", ylabel="latency (ms, log)",
            title=f"FP32 answers 95 in 100 within 100 ms {within('FP32')}",
            alt=f"Latency of FP32 against offered load, in ms: {spoken(curves('FP32'))}.")

# %%
plots.lines(curves("dynamic INT8") | budget_line, log_y=True, xlabel="offered load (requests a second)",
            ylabel="latency (ms, log)",
            title=f"Dynamic INT8 answers 95 in 100 within 100 ms {within('dynamic INT8')}",
            alt=f"Latency of dynamic INT8 against offered load, in ms: {spoken(curves('dynamic INT8'))}.")

# %%
done = {name: [load.answered for load in found] for name, found in loads.items()}
most = {name: max(found) for name, found in done.items()}
plots.lines({name: (offered, found) for name, found in done.items()} | {"all that is offered": (offered, offered)},
            xlabel="offered load (requests a second)", ylabel="answered with 200 (a second)",
            title=f"FP32 answers {most['FP32']:.0f} a second at most, dynamic INT8 {most['dynamic INT8']:.0f}",
            alt="Answers a second against offered load: " + "; ".join(
                f"{name} " + ", ".join(f"{rate:.0f}" for rate in found) for name, found in done.items())
                + f", for {', '.join(map(str, offered))} offered.")

# %%
def share(load, status):
    return 100 * load.statuses.get(status, 0) / sum(load.statuses.values())

table([{"model": name, "offered a second": rate, "requests": sum(load.statuses.values()), "answered a second": load.answered,
        "429 (%)": share(load, 429), "504 (%)": share(load, 504), "p50 (ms)": load.p(50), "p95 (ms)": load.p(95), "p99 (ms)": load.p(99)}
       for name, found in loads.items() for rate, load in zip(offered, found)], "Server and sender on this machine")

# %%
late = max(load.late for found in loads.values() for load in found)
plots.note(f"The server had one thread for the model; the sender shared the machine with it, and 95 in 100 of its requests "
           f"left no more than {late:.0f} ms late. A percentile is as good as its sample: at the lowest rate p99 stands "
           f"on {sum(loads['FP32'][0].statuses.values())} requests, and is hardly more than their maximum.")

# %% [markdown]
# Read the curves from left to right. At a small load a request waits for `max_wait`, for its own computation, and for
# the way there and back: a connection, JSON, the sender. Then requests meet others, before them or with them in a batch, and the latency creeps up.
#
# Past the server's capacity the queue fills, and all who are accepted stand in a full queue. How long is that at most?
# The places in the queue over the answers a second; and nobody waits in the queue beyond the timeout. The server's clock
# starts when it has read a request; time in the sender, or at the server's door, is in our latency and in neither bound.

# %%
full, top = limits.capacity / most["FP32"], loads["FP32"][-1]
plots.note(f"{limits.capacity} places at {most['FP32']:.0f} answers a second are {1000 * full:.0f} ms; the timeout is "
           f"{1000 * limits.timeout:.0f} ms. Measured at {offered[-1]} requests a second: p95 {top.p(95):.0f} ms for those "
           f"who were answered, their own batch included, and {top.refused:.0%} refused. "
           + ("Both bounds held." if top.p(95) <= 1000 * limits.timeout else "The p95 is above both: time passed before the "
              "server's clock started. Sender and server share this machine, so read the last points as theirs together.")
           + " Without bounds the curve would go up for as long as the test lasts.")

# %% [markdown]
# ## What to monitor
#
# A server that nobody watches fails in silence. Ours counts, and **Prometheus**, a program that collects such counts,
# asks for them at `/metrics` every few seconds. Some lines of the page of the INT8 server:

# %%
wanted = ("requests_total", "answers_total", "batch_size_sum", "batch_size_count", "waited_seconds_sum")
counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
           for line in pages["dynamic INT8"].splitlines() if line.startswith(wanted)}
table(counted, "From /metrics, INT8, after the load test")

# %%
per_batch = counted["batch_size_sum"] / counted["batch_size_count"]
plots.note(f"On average {per_batch:.1f} texts shared a batch, over all rates.")

# %% [markdown]
# What to look at, and what it tells:
#
# | signal | what it tells |
# |---|---|
# | p50, p95, p99 of the latency | what most people feel, and what the unlucky ones do. Means hide both |
# | throughput and offered load | how much reserve is left before the bend |
# | length of the queue, wait in it, size of the batches | the model is near its limit: these grow with the load |
# | share of 429, 504 and 500 | people turned away. 429: the queue is full; 504: too slow; 500: the model failed |
# | memory of the process | a leak shows as a line that only rises |
# | shares of the answers, lengths of the texts | the world has moved away from the training data |
# | quality on labelled samples of today | whether it matters. No other signal can say that |
#
# How many failures are too many? Agree on it beforehand: a **service level objective**, SLO, such as "99.9 % of the
# requests are answered within 100 ms". What is left, 0.1 %, is the **error budget**. While there is some left, you may
# deploy the new model on Friday. When it is spent, you mend.

# %% exercise="error_budget"

# %%
def spent_at(load, slo=0.95):
    total = sum(load.statuses.values())
    in_time = sum(ms <= 100 for ms in load.latencies)
    return load_test.error_budget(slo, total, total - in_time)[1]

table([{"offered a second": rate} | {f"{name}: budget spent (%)": 100 * spent_at(found[i]) for name, found in loads.items()}
       for i, rate in enumerate(offered)], "Objective: 95 % of all requests answered within 100 ms")

# %% [markdown]
# Above 100 the objective is broken. A refused request counts as failed here: whoever was turned away was not served.
#
# ## Try it
#
# Requests come at random. Move their rate and `max_wait`, and watch both sides of the bargain: how large the batches get,
# and how long requests wait for them. The model is taken to be always free, as in the exercise.

# %%
def waits(rate=100, max_wait_ms=10, max_batch=16):
    arrivals = numpy.random.default_rng(0).exponential(1 / rate, 2000).cumsum().tolist()
    groups, leaves = batching.batch_requests(arrivals, max_batch, max_wait_ms / 1000)
    waited = [1000 * (leave - arrivals[k]) for group, leave in zip(groups, leaves) for k in group]
    said = f"{len(arrivals) / len(groups):.1f} texts in a batch, {numpy.mean(waited):.1f} ms of waiting on average"
    return plots.histogram(waited, bins=40, xlabel="wait for the batch to leave (ms)", title=said, ylabel="requests",
                           alt=f"Histogram of the waits of 2,000 requests at {rate} a second: {said}.")

widgets.explore(waits, rate=[10, 30, 100, 300, 1000], max_wait_ms=[0, 2, 5, 10, 20, 50], max_batch=[4, 16, 64])

# %% [markdown]
# ## Claimed and measured

# %%
worst_off = off["ONNX Runtime FP32"] / exact.abs().max().item()
faster = [plain[key].value for key in ("one sentence", "32 sentences")]
same_quality = changed["ONNX Runtime FP32"] == 0
light = single.timings["ONNX Runtime FP32"]
claimed = {
    "onnx": claims.Measured(
        f"FP32, {at_threads}: {plain['one sentence']:.2f} times as fast with one sentence, {plain['32 sentences']:.2f} with "
        f"32; logits within {worst_off:.0e} of the largest, {changed['ONNX Runtime FP32']} answers changed",
        same_quality and (True if min(faster) >= 1.2 else "partly" if max(faster) >= 1.2 else False),
        "What is gained is the time between the operators. It shows where they are small, not where products fill the time."),
    "latency-budget": claims.Measured(
        f"one sentence alone: p95 {light.p95:.0f} ms; under load, one thread: p95 within 100 ms {within('FP32')} in FP32, "
        f"{within('dynamic INT8')} in INT8",
        light.p95 < 100 and (True if loads["FP32"][-1].p(95) <= 100 else "partly"),
        "A budget is met at a load, not by a model: the same server breaks it when more people come."),
}

# %%
if not runtimes.tensorrt_missing():
    gain = batched.ratio("torch FP32", "TensorRT static INT8")
    claimed["tensorrt"] = claims.Measured(f"{gain:.1f} times as fast as torch on this machine's processor", gain.low >= 2,
                                          "Two machines in one: the GPU counts as much as the compiler does.")
claims.show("17", claimed)

# %%
kept.cleanup()      # the exported files are no longer needed

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

# %% question="8"
quiz.ask("8", answer=...)

# %%
quiz.progress()

# %% [markdown]
# ## What to remember
#
# - An exported file holds operators and weights. What Python decided while tracing is fixed: run it at another shape.
# - Compare by the largest difference. Rounding is a part in 100,000; whatever is more needs a reason.
# - Another runtime gains most where operators are small. INT8 gains more, and must be measured for quality.
# - Batches trade a little waiting for much throughput. Bound the queue, or under overload everybody is too late.
# - Test with an open load, and read p95 and p99 against the rate. A latency without a load says little.
# - Watch latency, queue, refusals, and what the model answers.
#
# ## Where to read on
#
# - *Open Neural Network Exchange: ONNX operators*, onnx.ai: what each operator computes.
# - Daniel Crankshaw and others, *Clipper: A Low-Latency Online Prediction Serving System*, 2017, arXiv 1612.03079: batches
#   that adapt to a latency objective.
# - Bianca Schroeder, Adam Wierman, Mor Harchol-Balter, *Open Versus Closed: A Cautionary Tale*, NSDI 2006: why a load test
#   must not wait for answers.
# - Jeffrey Dean, Luiz André Barroso, *The Tail at Scale*, Communications of the ACM, 2013: what p99 does to systems of
#   many servers.
# - Betsy Beyer and others, *Site Reliability Engineering*, 2016: objectives and error budgets.
