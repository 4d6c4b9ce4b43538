# %% [markdown]
# # Soft labels
#
# | | |
# |---|---|
# | You will be able to | soften a teacher's answers, write the distillation loss for sentences and for tokens |
# | You need first | lesson 00; softmax and cross-entropy in PyTorch |
# | Minutes | 60 |
# | Points | 16 |

# %% tags=["imports"]
import math
from textwrap import shorten

import torch
import torch.nn.functional as F

from lessons_lib.distillation import losses as distillation
from lessons_lib.measure import intervals
from lessons_lib.show import claims, plots, tables, widgets
from lessons_lib.tasks import bbc, topic_classifier
from quizzes import lesson

# %%
quiz = lesson("03")

# %% [markdown]
# ## What does a label leave out?
#
# Take this sentence: *The minister wants phone companies to share their networks.* Is it about business, politics or
# technology? A person who labels it must choose one. The choice is a **hard label**: all of the weight on one topic.
#
# A trained model does not have to choose. It gives a number for each topic, its **logits**. Here are five that we made
# up, few enough to read.

# %%
topics = bbc.TOPICS
phones = torch.tensor([2.6, -2.0, 3.1, -3.0, 2.8])
hard = F.one_hot(phones.argmax(), len(topics)).float()
soft = torch.softmax(phones, dim=0)

# %%
both = {topic: {"hard label": hard[k].item(), "soft label": soft[k].item()} for k, topic in enumerate(topics)}
said = ", ".join(f"{topic} {p:.2f}" for topic, p in zip(topics, soft.tolist(), strict=True))
plots.bars(both, title="The soft label says how near the other topics were",
           alt=f"Bars of two labels over five topics. The hard label is 1 for {topics[phones.argmax()]}, else 0. "
               f"The soft label: {said}.",
           xlabel="probability", ylabel="topic")

# %% [markdown]
# The probabilities are a **soft label**. It says three things that the hard one does not: technology was almost as
# likely, business was close, and sport was out of the question. A small model that learns from soft labels, the
# **student**, is told all of it. The model that gives them is the **teacher**. To train the one on the answers of the
# other is called **distillation**.

# %% [markdown]
# ## How much of it can the student see?
#
# A well trained teacher is often sure of itself. Then its soft label is nearly hard, and the small probabilities,
# which hold what we are after, are too small to matter in a loss. So the logits $v$ are divided by a **temperature**
# $T$ before the softmax:
#
# $$p_i = \frac{\exp(v_i / T)}{\sum_j \exp(v_j / T)}$$

# %%
temperatures = [0.5, 1, 2, 4, 20]
softened = {f"T = {T}": distillation.soften(phones, T) for T in temperatures}
tables.table({name: dict(zip(topics, p.tolist(), strict=True)) for name, p in softened.items()}, digits=2)

# %% [markdown]
# Read down a column. $T = 1$ is the softmax as you know it. Below 1 the label hardens, above 1 it flattens, and the
# order of the topics never changes. Two logits that are $d$ apart give probabilities with the ratio $\exp(d / T)$.

# %% [markdown]
# ### Exercise: soften
#
# One thing to watch: a logit of 200 is legal, and `exp(200)` is infinite in FP32.

# %% exercise="soften"

# %% [markdown]
# ### How unsure is a label?
#
# One number says how flat a label is, its **entropy**. With the natural logarithm its unit is the **nat**:
#
# $$H(p) = -\sum_i p_i \log p_i$$
#
# A hard label has entropy 0. A uniform label over five topics has $\log 5$, the most there is.

# %%
curve = torch.logspace(-1.3, 2, 60)
entropies = torch.stack([distillation.entropy(distillation.soften(phones, T.item())) for T in curve])
most = math.log(len(topics))
plots.lines({"our sentence": (curve, entropies), "a uniform label": (curve, torch.full_like(curve, most))},
            title=f"Entropy climbs with the temperature, from 0 towards log 5 = {most:.2f} nats",
            alt=f"Entropy of the label against the temperature from {curve[0]:.1f} to {curve[-1]:.0f}. It rises from "
                f"{entropies[0]:.2f} nats and levels off close to log 5 = {most:.2f}.",
            xlabel="temperature T (log scale)", ylabel="entropy (nats)", log_x=True)

# %% [markdown]
# ## What does the real teacher know?
#
# The teacher of this course is a sentence encoder of six layers, trained on the topics of BBC news sentences. We ask
# it about the validation sentences, from documents it was not trained on.

# %%
teacher = topic_classifier.topic_teacher()
sentences = bbc.sentences("validation")
texts, truth = sentences["text"], torch.tensor(sentences["topic"])
logits = topic_classifier.predict_logits(teacher, texts)

# %%
labels = distillation.soften(logits, 1)
unsure = distillation.entropy(labels)
plots.histogram(unsure, marks={"a uniform label": most}, bins=40,
                title=f"Half of the labels have less than {unsure.median():.2f} nats; a few come near {most:.2f}",
                alt=f"Histogram of the entropy of {len(unsure):,} labels, highest at the left: half of them lie below "
                    f"{unsure.median():.2f} nats. A long tail reaches {unsure.max():.2f} nats; a uniform label would "
                    f"have {most:.2f}.",
                xlabel="entropy of the soft label at T = 1 (nats)", ylabel="sentences")

# %% [markdown]
# Most sentences are clear. The others are worth reading, and there are two kinds. These have the highest entropy: the
# teacher would believe almost anything.

# %%
def described(i):
    first, second = (f"{topics[k]} {labels[i, k]:.2f}" for k in labels[i].argsort(descending=True)[:2])
    return {"sentence": shorten(texts[i], 140), "labelled": topics[truth[i]], "first": first, "second": second}

flattest = unsure.argsort(descending=True)[:4].tolist()
tables.table([described(i) for i in flattest], "The flattest labels")

# %% [markdown]
# Most of them name nothing that belongs to a topic; only the article around them does. In the second kind two topics
# are likely and the rest is ruled out: the product of the two largest probabilities is highest.

# %%
largest, second_largest = labels.topk(2, dim=-1).values.unbind(-1)
rivals = (largest * second_largest).argsort(descending=True)[:8].tolist()
tables.table([described(i) for i in rivals], "Two topics at once")

# %% [markdown]
# Judge for yourself whether the labels of the corpus are the only right ones. Business, politics and technology
# overlap, and a student trained on hard labels alone is punished for every doubt that you may share with the teacher.

# %% [markdown]
# ### Dark knowledge
#
# Average the soft labels over all sentences of a topic. Row by row, this is what the teacher thinks a topic looks
# like. Hinton, Vinyals and Dean (2015) call what stands off the diagonal *dark knowledge*: no label ever mentioned it.

# %%
average = torch.stack([labels[truth == k].mean(dim=0) for k in range(len(topics))])
off = average * (1 - torch.eye(len(topics)))
row, column = divmod(off.argmax().item(), len(topics))
low_row, low_column = divmod((average + torch.eye(len(topics))).argmin().item(), len(topics))

# %%
rows = [{"true topic": topic} | dict(zip(topics, (100 * mean).tolist(), strict=True))
        for topic, mean in zip(topics, average, strict=True)]
tables.table(rows, "Mean soft label at T = 1, in %")

# %%
plots.note(f"The largest doubt: a sentence on {topics[row]} gets {off[row, column]:.1%} for {topics[column]}. The "
           f"smallest: one on {topics[low_row]} gets {average[low_row, low_column]:.1%} for {topics[low_column]}.")

# %% [markdown]
# Is that knowledge, or noise? Here is a test. Look only at sentences where the teacher's first choice is wrong: a hard
# label from it would be worthless there. If the other probabilities were noise, the true topic would be its second
# choice in one case of four.

# %%
ranked = labels.argsort(dim=-1, descending=True)
wrong = ranked[:, 0] != truth
second_is_right = (ranked[:, 1] == truth)[wrong]
second = intervals.accuracy(second_is_right, torch.tensor(sentences["document"])[wrong])
plots.note(f"The teacher is wrong on {wrong.sum()} of {len(truth):,} sentences. On those its second choice is right in "
           f"**{second:.0%}** of cases (95 % interval over documents); chance is 25 %. Where its hard label misleads, "
           "its soft label still knows something.")

# %% [markdown]
# ## How far is one label from another?
#
# To train a student we need one number that says how far its label $q$ is from the teacher's $p$. The usual choice is
# the **Kullback-Leibler divergence**, KL for short:
#
# $$\mathrm{KL}(p \,\|\, q) = \sum_i p_i \,(\log p_i - \log q_i)$$
#
# It is zero when the two agree, and above zero otherwise. It is not symmetric. Let a teacher be torn between the first
# and the third topic, and let two students err in two ways: one picks a side, one hedges.

# %%
p = torch.tensor([0.55, 0.01, 0.44])
students = {"picks a side": torch.tensor([0.98, 0.01, 0.01]), "hedges": torch.tensor([0.30, 0.40, 0.30])}

def kl(p, q):
    return (p * (p.log() - q.log())).sum()

tables.table({name: {"KL(teacher ‖ student)": kl(p, q), "KL(student ‖ teacher)": kl(q, p)}
              for name, q in students.items()})

# %% [markdown]
# The two directions disagree about who is better. In KL(teacher ‖ student) the teacher's probabilities are the weights:
# to give almost nothing to a topic that the teacher finds likely is dear. In KL(student ‖ teacher) the student's are:
# to give weight to what the teacher rules out is dear.
#
# The picture makes it plainer. This teacher has two peaks over a row of 81 classes. The student is too small for two:
# all that it can do is choose where its single peak stands and how wide it is. We try all of them, in both directions.

# %%
place = torch.linspace(-4, 4, 81)
peaks = torch.logaddexp(-(place + 1.5) ** 2 / 0.5, math.log(0.7) - (place - 1.5) ** 2 / 0.5)
shapes = [(m, s) for m in torch.linspace(-3, 3, 61) for s in torch.linspace(0.3, 3, 28)]
candidates = torch.stack([-(place - m) ** 2 / (2 * s**2) for m, s in shapes])

# %%
log_p, log_q = F.log_softmax(peaks, -1), F.log_softmax(candidates, -1)
best_forward = (log_p.exp() * (log_p - log_q)).sum(-1).argmin()
best_backward = (log_q.exp() * (log_q - log_p)).sum(-1).argmin()

# %%
middle, side = shapes[best_forward][0].item(), shapes[best_backward][0].item()
plots.lines({"teacher": (place, log_p.exp()), "student by KL(teacher ‖ student)": (place, log_q[best_forward].exp()),
             "student by KL(student ‖ teacher)": (place, log_q[best_backward].exp())},
            title="One direction covers both peaks, the other settles on one",
            alt="Three curves over 81 classes. The teacher has two peaks, at -1.5 and 1.5. The student of least "
                f"KL(teacher ‖ student) is one broad hill centred at {middle:.1f} over both; the student of least "
                f"KL(student ‖ teacher) is one narrow peak at {side:.1f} and gives the other peak nothing.",
            xlabel="class (position)", ylabel="probability")

# %% [markdown]
# For a classifier we want the student to know every topic that its teacher finds possible, so distillation uses
# **KL(teacher ‖ student)**, and this course means that direction wherever it says no more. The other direction is used
# where a small model writes text, and a fluent sentence of one kind is worth more than a blend of two (Gu and others,
# 2023).
#
# In PyTorch the direction hides in the order of arguments: `F.kl_div(student_log, teacher)`, the student's logarithms
# first.

# %% [markdown]
# ## Why does everybody multiply by T²?
#
# Follow the gradient. The student's logits are $z$, the teacher's $v$, both divided by $T$, both softened to $q$ and
# $p$. The derivative of the divergence is short:
#
# $$\frac{\partial\,\mathrm{KL}(p \,\|\, q)}{\partial z_i} = \frac{1}{T}\,(q_i - p_i)$$
#
# There is one factor $1/T$. The other hides in the difference. For a large $T$ a softmax is almost linear,
# $q_i \approx \frac{1}{C} + \frac{z_i - \bar z}{C\,T}$ over $C$ classes, with $\bar z$ the mean logit, so
#
# $$\frac{1}{T}\,(q_i - p_i) \approx \frac{1}{C\,T^2}\,\big((z_i - \bar z) - (v_i - \bar v)\big)$$
#
# The gradient fades as $1/T^2$. Multiply the loss by $T^2$ and it keeps its size, so that you can turn the temperature
# without turning the learning rate. First the derivative, on three numbers:

# %%
z, v, T = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True), torch.tensor([[0.0, 2.0, 1.0]]), 3.0
divergence = distillation.soft_loss(z, v, T) / T**2
by_autograd, = torch.autograd.grad(divergence, z)
by_formula = (distillation.soften(z, T) - distillation.soften(v, T)) / T
plots.grids(by_autograd[0], by_formula[0].detach(), titles=["by autograd", "(q - p) / T"])

# %% [markdown]
# Then the fading, on the real teacher's logits. The student here knows nothing yet: all of its logits are zero.

# %%
blank = torch.zeros_like(logits)
steps = [1, 2, 4, 8, 16, 32, 64]

def gradient(loss):
    """Length of a sentence's gradient, on average; times the batch, because the loss is a mean over it."""
    leaf = blank.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0].norm(dim=-1).mean().item() * len(blank)

with_factor = [gradient(lambda z, T=T: distillation.soft_loss(z, logits, T)) for T in steps]
without = [size / T**2 for size, T in zip(with_factor, steps, strict=True)]

# %%
slope = math.log(without[-1] / without[-2]) / math.log(steps[-1] / steps[-2])
plots.lines({"T² · KL": (steps, with_factor), "KL alone": (steps, without)}, log_x=True, log_y=True,
            title=f"Without T² the gradient falls as T to the power {slope:.2f}; with it, it stays",
            alt=f"Mean length of a sentence's gradient against T from 1 to {steps[-1]}, both axes logarithmic. KL "
                f"alone falls from {without[0]:.2g} to {without[-1]:.2g}. T² times KL goes from {with_factor[0]:.2g} "
                f"to {with_factor[-1]:.2g} and is level at the end.",
            xlabel="temperature T (log scale)", ylabel="length of the gradient (log scale)")

# %% [markdown]
# ### Exercise: the soft loss
#
# Put it together: both softened, the right direction, T², one number a sentence and the mean over sentences. The
# teacher is fixed, so no gradient may reach it. Stay with logarithms throughout: `log(softmax(x))` of a hopeless class
# is the logarithm of zero.

# %% exercise="soft_loss"

# %% [markdown]
# ### What is left at an infinite temperature?
#
# The approximation above says more. Its right side is the gradient of
#
# $$\frac{1}{2\,C} \sum_i \big((z_i - \bar z) - (v_i - \bar v)\big)^2$$
#
# So as $T$ grows, T² · KL should turn into the squared distance of **centred logits**: logits with their mean taken
# off. Before 2015 that distance was used as it stands (Ba and Caruana, 2013). Measure it, for a student whose logits
# are the teacher's of another sentence.

# %%
other = logits.roll(1, dims=0)
apart = (other - other.mean(-1, keepdim=True)) - (logits - logits.mean(-1, keepdim=True))
limit = apart.square().sum(-1).mean() / (2 * len(topics))
rising = [1, 2, 4, 8, 16, 32, 64, 128]
shares = [(distillation.soft_loss(other, logits, T) / limit).item() for T in rising]

# %%
plots.lines({"T² · KL": (rising, shares), "squared distance of centred logits": (rising, [1.0] * len(rising))},
            title=f"At T = {rising[-1]} the soft loss is {shares[-1]:.1%} of its limit", log_x=True,
            alt="T² times KL, as a share of the squared distance of centred logits, against T: "
                + ", ".join(f"{share:.3f} at T = {T}" for share, T in zip(shares, rising, strict=True)) + ".",
            xlabel="temperature T (log scale)", ylabel="share of the limit")

# %% [markdown]
# At a high temperature, then, every logit counts, the hopeless topics as much as the likely ones. At a low one only
# the top of the label does. Neither end is right in itself: sport's logit of -3 may hold knowledge, or it may be a
# number that training never had a reason to set.

# %% [markdown]
# ## What does a perfect student lose?
#
# Let us train the smallest student there is: its logits themselves, one free row for every eighth sentence, by gradient
# descent. Nothing limits it, so it can become equal to its teacher. We watch two losses that are both in use: the KL
# divergence, and the **cross-entropy** against the soft labels, $-\sum_i p_i \log q_i$.

# %%
some, T = logits[::8], 2.0
free = torch.zeros_like(some).requires_grad_()
optimizer = torch.optim.SGD([free], lr=200.0)
divergences, crosses = [], []
for _ in range(100):
    loss = distillation.soft_cross_entropy(free, some, T)
    divergences.append(distillation.soft_loss(free, some, T).item())
    crosses.append(loss.item())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
floor = T**2 * distillation.entropy(distillation.soften(some, T)).mean().item()
plots.lines({"cross-entropy": (range(100), crosses), "entropy of the labels": (range(100), [floor] * 100),
             "KL divergence": (range(100), divergences)},
            title=f"The divergence reaches {divergences[-1]:.3f}, the cross-entropy stops at {crosses[-1]:.2f}",
            alt="Two losses over 100 steps of gradient descent, times T². The divergence falls from "
                f"{divergences[0]:.2f} to {divergences[-1]:.3f}. The cross-entropy falls by as much, from "
                f"{crosses[0]:.2f} to {crosses[-1]:.2f}, and ends on the entropy of the labels, {floor:.2f}.",
            xlabel="step", ylabel="loss, times T² (nats)")

# %% [markdown]
# Cross-entropy is entropy plus divergence, $H(p, q) = H(p) + \mathrm{KL}(p \,\|\, q)$. The student has no part in
# $H(p)$, so both losses have the same gradient and train alike. They differ in what they tell you: only the divergence
# says by its value how far there is to go.

# %%
perfect = distillation.soft_loss(logits, logits, T).item()
perfect_cross = distillation.soft_cross_entropy(logits, logits, T).item()
perfect_floor = T**2 * distillation.entropy(distillation.soften(logits, T)).mean().item()
losses = {"KL divergence": perfect, "cross-entropy": perfect_cross, "entropy of the labels": perfect_floor}
tables.table(losses, f"A student equal to its teacher, {len(logits):,} sentences, times T² at T = {T:g}", 5, "nats")

# %% [markdown]
# ## Which temperature tells most?
#
# At $T \to 0$ a soft label is hard. At $T \to \infty$ it is uniform, the same for every sentence. Both ends tell
# nothing beyond the hard label. What lies between can be measured: take all sentences to which the teacher gives the
# same first choice, and ask how much their soft labels still differ. In the words of information theory, how many
# **bits** does the soft label carry about the sentence, once the hard label is known?
#
# $$I = H(\text{mean label of the group}) - \text{mean of } H(\text{label})$$

# %%
def beyond_hard(soft, first):
    """Bits that a soft label carries beyond the hard one: mean over the groups of one first choice."""
    groups = [soft[first == k] for k in first.unique()]
    nats = [distillation.entropy(group.mean(0)) - distillation.entropy(group).mean() for group in groups]
    return sum(len(group) * bits for group, bits in zip(groups, nats, strict=True)).item() / len(soft) / math.log(2)

# %%
tried = torch.logspace(-0.6, 1.7, 70)
bits = torch.tensor([beyond_hard(distillation.soften(logits, T.item()), ranked[:, 0]) for T in tried])
best = tried[bits.argmax()].item()

# %%
plots.lines({"soft labels": (tried, bits)}, marks={"the peak": best}, log_x=True,
            title=f"One soft label tells most beyond the hard one at T = {best:.1f}",
            alt=f"Bits beyond the hard label against the temperature: {bits[0]:.3f} at T = {tried[0]:.2f}, a peak of "
                f"{bits.max():.3f} at T = {best:.1f}, and down to {bits[-1]:.4f} at T = {tried[-1]:.0f}.",
            xlabel="temperature T (log scale)", ylabel="bits beyond the hard label")

# %% [markdown]
# That counts what one label says. Training does not read labels, it follows gradients, and there T² makes up for what
# a flat label lost. So ask the gradient. A student that knows nothing is pulled in the direction $p - \frac{1}{C}$. A
# hard label pulls it towards the first choice and away from all others alike. Split the soft pull into a part along
# that direction and the rest: **the rest is what no hard label can teach.**

# %%
towards_first = F.one_hot(ranked[:, 0], len(topics)) - 1 / len(topics)
towards_first = towards_first / towards_first.norm(dim=-1, keepdim=True)

def beyond_hard_pull(pull):
    """Length of the part of the pull across the hard label's direction, as a share of the whole pull."""
    along = (pull * towards_first).sum(-1, keepdim=True) * towards_first
    return ((pull - along).norm(dim=-1).sum() / pull.norm(dim=-1).sum()).item()

# %%
pulls = torch.tensor([beyond_hard_pull(distillation.soften(logits, T.item()) - 1 / len(topics)) for T in tried])
ceiling = beyond_hard_pull(logits - logits.mean(dim=-1, keepdim=True))
half, most_of_it = (tried[pulls >= part * ceiling].min().item() for part in (0.5, 0.9))
one, four = (beyond_hard_pull(distillation.soften(logits, T) - 1 / len(topics)) for T in (1, 4))

# %%
plots.lines({"soft labels": (tried, 100 * pulls), "T to infinity": (tried, torch.full_like(tried, 100 * ceiling))},
            title=f"Beyond the hard label: {one:.0%} of the pull at T = 1, {four:.0%} at T = 4",
            alt=f"Share of the pull that a hard label cannot give, against the temperature. It rises from "
                f"{pulls[0]:.1%} at T = {tried[0]:.2f} over {one:.1%} at T = 1 and {four:.1%} at T = 4 to its limit, "
                f"{ceiling:.1%}. Half of the limit is reached at T = {half:.1f}, nine tenths at T = {most_of_it:.1f}.",
            xlabel="temperature T (log scale)", ylabel="share of the pull (%)", log_x=True)

# %%
plots.note(f"The share reaches half of its limit at **T = {half:.1f}** and nine tenths at **T = {most_of_it:.1f}**. "
           "Below, the student hears little but the first choice. Above, a higher temperature hardly changes anything.")

# %% [markdown]
# Neither figure is the accuracy of a student, which may not be able to follow, or be misled by what it hears. Lesson 04
# trains students at several temperatures and looks.

# %% [markdown]
# ## How do soft and hard labels go together?
#
# Where true labels exist, both can be used. A weight **alpha** mixes the two losses:
#
# $$L = \alpha \; T^2\, \mathrm{KL}(p \,\|\, q) + (1 - \alpha)\; \text{cross-entropy}(z, \text{label})$$
#
# The hard term sees the student at $T = 1$, as it will be used. With alpha = 0 nothing is distilled. Careful when you
# read papers: some call $1 - \alpha$ what we call $\alpha$.
#
# Does alpha mean what it says? Take alpha = 0.5 and a student that knows nothing, and measure how much of the pull on
# the logits comes from the soft term, with and without T².

# %%
hard_pull = gradient(lambda z: F.cross_entropy(z, truth))
mixed = [1, 2, 4, 8, 16]

def share(T, alpha=0.5, factor=True):
    soft_pull = gradient(lambda z: distillation.soft_loss(z, logits, T)) / (1 if factor else T**2)
    return 100 * alpha * soft_pull / (alpha * soft_pull + (1 - alpha) * hard_pull)

kept, lost = [share(T) for T in mixed], [share(T, factor=False) for T in mixed]

# %%
plots.lines({"with T²": (mixed, kept), "without T²": (mixed, lost)}, log_x=True,
            title=f"At T = 4 the soft term pulls with {kept[2]:.0f} %; without T², with {lost[2]:.0f} %",
            alt="Share of the soft term in the pull on the logits, against T, at alpha 0.5. With T² it is "
                + ", ".join(f"{s:.0f} % at T = {T}" for s, T in zip(kept, mixed, strict=True)) + ". Without: "
                + ", ".join(f"{s:.0f} %" for s in lost) + ".",
            xlabel="temperature T (log scale)", ylabel="share of the soft term (%)")

# %% [markdown]
# ### Exercise: the distillation loss

# %% exercise="distillation_loss"

# %% [markdown]
# ## And when a model answers token by token?
#
# A translator or a language model gives a label for every **token**, and its logits have the shape (batch, length,
# vocabulary). Sentences differ in length, so short ones are filled up with **padding**. Two things go wrong here so
# often that you will meet them in published code.
#
# The first is `reduction="batchmean"`. It divides by the first axis alone: by sentences, not by tokens. Here a student
# is equally wrong at every token, in sentences of three lengths.

# %%
generator = torch.Generator().manual_seed(0)
token_pair = [torch.randn(8, 1, 50, generator=generator) for _ in range(2)]

def batchmean(student, teacher):
    return F.kl_div(F.log_softmax(student, -1), F.log_softmax(teacher, -1), log_target=True, reduction="batchmean")

def by_length(length):
    student, teacher = (one.repeat(1, length, 1) for one in token_pair)
    real = torch.ones(8, length)
    return {"batchmean": batchmean(student, teacher),
            "mean over tokens": distillation.token_distillation_loss(student, teacher, real, 1)}

# %%
rows = [{"tokens": length} | by_length(length) for length in (1, 10, 40)]
tables.table(rows, "The same error at every token")

# %% [markdown]
# With `batchmean` the loss, and with it the gradient, grows with the length: a batch of long sentences takes a longer
# step than a batch of short ones. The learning rate that you tuned means something else in every batch.
#
# The second is padding. Take sentences of 10 tokens, pad them to 40, and let the models say there whatever they say.

# %%
student, teacher_tokens = (torch.randn(8, 40, 50, generator=generator) for _ in range(2))
mask = (torch.arange(40) < 10).long().repeat(8, 1)
token_losses = {
    "batchmean": batchmean(student, teacher_tokens),
    "mean over all positions": batchmean(student.flatten(0, 1), teacher_tokens.flatten(0, 1)),
    "mean over real tokens": distillation.token_distillation_loss(student, teacher_tokens, mask, 1),
    "the first 10 tokens alone": batchmean(student[:, :10].flatten(0, 1), teacher_tokens[:, :10].flatten(0, 1)),
}
tables.table(token_losses, "Sentences of 10 tokens, padded to 40", unit="loss (nats)", digits=4)

# %% [markdown]
# The last two rows agree. The second row looks harmless here, because random models are as wrong at padding as
# anywhere. With real ones it is not: three positions of four would teach the student what its teacher happens to say
# about nothing.
#
# Multiplying padding by zero is not enough either. A fully masked row of attention gives NaN, and 0 · NaN is NaN.
# Select the real tokens first.

# %% [markdown]
# ### Logarithms or probabilities?
#
# `F.kl_div` takes the student's logarithms, and for the teacher either probabilities or, with `log_target=True`,
# logarithms as well. Logarithms are safer: `p.log()` of an underflowed probability is minus infinity. Give it the wrong
# form and no error stops you:

# %%
log_q, log_p = F.log_softmax(student[:, 0], -1), F.log_softmax(teacher_tokens[:, 0], -1)
forms = {
    "probabilities": F.kl_div(log_q, log_p.exp(), reduction="batchmean"),
    "logarithms, log_target=True": F.kl_div(log_q, log_p, log_target=True, reduction="batchmean"),
    "logarithms, log_target forgotten": F.kl_div(log_q, log_p, reduction="batchmean"),
    "probabilities of the student": F.kl_div(log_q.exp(), log_p.exp(), reduction="batchmean"),
}
tables.table(forms, unit="returned", digits=4)

# %% [markdown]
# A divergence is never NaN and never below zero. When your loss is, look at the form of the target first.

# %% [markdown]
# ### Exercise: the loss over tokens

# %% exercise="token_distillation_loss"

# %% [markdown]
# ## Try it
#
# Turn the temperature on a sentence that the teacher is unsure of. From which temperature on do you see the third
# topic? From which on can you no longer tell a sentence with two rivals from a flat one?

# %%
def show_label(sentence, T=1):
    label = distillation.soften(logits[sentence], T)
    shown = dict(zip(topics, label.tolist(), strict=True))
    said = ", ".join(f"{topic} {p:.2f}" for topic, p in shown.items())
    return plots.bars(shown, title=f"T = {T:g}: entropy {distillation.entropy(label):.2f} of {most:.2f} nats",
                      alt=f"Soft label at T = {T:g} of the sentence: {texts[sentence]} {said}.",
                      xlabel="probability", ylabel="topic", marks={"a hard label": 1})

widgets.explore(show_label, T=[0.25, 0.5, 1, 2, 3, 4, 6, 8, 10, 20, 50],
                sentence={shorten(texts[i], 60): i for i in rivals[:6] + flattest[:2]})

# %% [markdown]
# ## Claimed and measured

# %%
at_one = beyond_hard(labels, ranked[:, 0])
claims.show("03", {
    "soft-labels": claims.Measured(
        f"{at_one:.2f} bits beyond the hard label at T = 1, {bits.max():.2f} at T = {best:.1f}; where the first choice "
        f"is wrong, the second is right in {second:.0%}", "partly",
        "They carry more, measurably so. How many labelled examples that saves is for lesson 04 to measure."),
    "temperature": claims.Measured(
        f"the pull beyond the hard label reaches half of its limit at T = {half:.1f}, nine tenths at {most_of_it:.1f}; "
        f"a single label says most at T = {best:.1f}; at weight 0.5 the soft term has {kept[2]:.0f} % of the pull at T = 4",
        "partly" if half < 10 and most_of_it > 2 else False,
        "The pull says where T makes a difference, not which T is best. What T and the weight do to a student's "
        "accuracy is for lesson 04."),
    "perfect-student": claims.Measured(
        f"KL divergence {perfect:g}, cross-entropy {perfect_cross:.4f}, entropy of the labels {perfect_floor:.4f}",
        "partly",
        "True of the divergence. The cross-entropy stops at the entropy of the labels, however good the student."),
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
# - A soft label tells the student how near the other answers were. A temperature above 1 makes that visible; too high a
#   one drowns it.
# - Distillation uses KL(teacher ‖ student): the teacher's probabilities are the weights, and no gradient reaches it.
# - The gradient of the divergence fades as 1/T². Multiply by T², or alpha does not mean what it says.
# - At a very high temperature the loss compares centred logits.
# - A perfect student has a divergence of zero and a cross-entropy equal to the entropy of the labels.
# - On sequences, average over real tokens. `batchmean` does not.

# %% [markdown]
# ## Where to read on
#
# - Geoffrey Hinton, Oriol Vinyals, Jeff Dean, *Distilling the Knowledge in a Neural Network*, 2015, arXiv:1503.02531.
#   Temperature, T² and the limit of centred logits, in nine pages.
# - Lei Jimmy Ba, Rich Caruana, *Do Deep Nets Really Need to be Deep?*, 2013, arXiv:1312.6184. Students that match
#   logits.
# - Yuxian Gu, Li Dong, Furu Wei, Minlie Huang, *MiniLLM: Knowledge Distillation of Large Language Models*, 2023,
#   arXiv:2306.08543. The other direction of the divergence.
# - Lesson 04 distils a classifier with what you wrote here.
