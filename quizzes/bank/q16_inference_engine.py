"""Lesson 16, the inference engine: its exercises and its questions."""

import torch

from lessons_lib.inference import attention, kv_cache, speculative
from quizzes import case, exercise, question
from quizzes.inside import recipes

INF = float("inf")


@exercise(
    points=3,
    minutes=12,
    hint="keys[torch.arange(batch), :, lengths] = key writes row b at place lengths[b]. Afterwards row b holds "
    "lengths[b] + 1 tokens: which places may it look at?",
)
def attend_with_cache(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One new token a row: write its key and value into the cache, then attend to all tokens of the row.

    query, key, value: FP32 (batch, heads, d), of the new token. keys, values: FP32 (batch, heads, capacity, d), the
    cache; row b holds tokens at places 0 ... lengths[b] - 1, and whatever stands behind them belongs to nobody.
    lengths: int64 (batch,), 0 ... capacity - 1; they may differ.
    The new token goes to place lengths[b] and sees places 0 ... lengths[b], itself included. Scores are divided by
    the square root of d. The cache may be changed in place.
    Returns (output, keys, values): (batch, heads, d), and the cache with the new token in it, the rest unchanged.

    >>> keys, values = torch.tensor([[[[0.0], [9.0]]]]), torch.tensor([[[[2.0], [9.0]]]])
    >>> new = torch.tensor([[[0.0]]]), torch.tensor([[[1.0]]]), torch.tensor([[[4.0]]])
    >>> attend_with_cache(*new, keys, values, torch.tensor([1]))
    (tensor([[[3.]]]), tensor([[[[0.],
              [1.]]]]), tensor([[[[2.],
              [4.]]]]))
    """
    rows = torch.arange(len(lengths))
    keys, values = keys.clone(), values.clone()
    keys[rows, :, lengths], values[rows, :, lengths] = key, value
    seen = torch.arange(keys.shape[2]) <= lengths[:, None, None, None]
    return attention.naive(query[:, :, None], keys, values, seen)[:, :, 0], keys, values


def _cached(draw, batch, heads, capacity, d, lengths):
    """Arguments of attend_with_cache; behind each row's end stand large numbers left by somebody else."""
    keys, values = draw.normal((batch, heads, capacity, d)), draw.normal((batch, heads, capacity, d))
    left = torch.arange(capacity) >= lengths[:, None]
    keys, values = (part.masked_fill(left[:, None, :, None], 9.0) for part in (keys, values))
    return (*(draw.normal((batch, heads, d)) for _ in range(3)), keys, values, lengths)


@attend_with_cache.cases
def _(draw):
    old = torch.tensor([[[[0.0], [9.0]]]]), torch.tensor([[[[2.0], [9.0]]]])
    new = torch.tensor([[[0.0]]]), torch.tensor([[[1.0]]]), torch.tensor([[[4.0]]])
    yield case("the printed example", *new, *old, torch.tensor([1]), visible=True)
    yield case("one row", *_cached(draw, 1, 2, 6, 8, torch.tensor([4])))
    yield case("one row", *_cached(draw, 1, 3, 5, 4, torch.tensor([4])))
    yield case("rows of one length", *_cached(draw, 3, 2, 7, 4, torch.tensor([3, 3, 3])))
    yield case("rows of different lengths", *_cached(draw, 4, 2, 9, 4, torch.tensor([1, 8, 3, 5])))
    yield case("rows of different lengths", *_cached(draw, 3, 1, 6, 8, torch.tensor([4, draw.integer(1, 3), 5])))
    yield case("an empty row", *_cached(draw, 2, 2, 5, 4, torch.tensor([0, 3])))


attend_with_cache.close(
    rtol=1e-5,
    atol=1e-5,
    reason="a score sums at most 8 products of size 3, off by 8 half steps of FP32 (4e-6 at most); a weight is off by "
    "as much of itself, and the output is a mean of values below 5 with these weights.",
)


def _write(key, value, keys, values, lengths):
    rows = torch.arange(len(lengths))
    keys, values = keys.clone(), values.clone()
    keys[rows, :, lengths], values[rows, :, lengths] = key, value
    return keys, values


def _look(query, keys, values, seen, scale):
    scores = (query[:, :, None] @ keys.transpose(-1, -2)) / scale
    return (scores.masked_fill(~seen, -INF).softmax(-1) @ values)[:, :, 0]


@attend_with_cache.mistake("The scores are not divided by the square root of d.")
def _(query, key, value, keys, values, lengths):
    keys, values = _write(key, value, keys, values, lengths)
    seen = torch.arange(keys.shape[2]) <= lengths[:, None, None, None]
    return _look(query, keys, values, seen, 1.0), keys, values


@attend_with_cache.mistake(
    "You attend to the whole cache. Behind a row's end stands what earlier batches left: hide places above lengths[b]."
)
def _(query, key, value, keys, values, lengths):
    keys, values = _write(key, value, keys, values, lengths)
    seen = torch.ones(len(lengths), 1, 1, keys.shape[2], dtype=torch.bool)
    return _look(query, keys, values, seen, query.shape[-1] ** 0.5), keys, values


@attend_with_cache.mistake("The new token does not see itself. It may look at places 0 ... lengths[b], both included.")
def _(query, key, value, keys, values, lengths):
    keys, values = _write(key, value, keys, values, lengths)
    seen = torch.arange(keys.shape[2]) < lengths[:, None, None, None]
    return _look(query, keys, values, seen, query.shape[-1] ** 0.5), keys, values


@attend_with_cache.mistake(
    "You wrote every row at the place of the longest. Rows have their own lengths: row b writes at lengths[b]."
)
def _(query, key, value, keys, values, lengths):
    keys, values = _write(key, value, keys, values, lengths.max().expand(len(lengths)))
    seen = torch.arange(keys.shape[2]) <= lengths[:, None, None, None]
    return _look(query, keys, values, seen, query.shape[-1] ** 0.5), keys, values


@attend_with_cache.alternative
def _(query, key, value, keys, values, lengths):
    outputs = []
    for row, length in enumerate(lengths.tolist()):
        keys[row, :, length], values[row, :, length] = key[row], value[row]
        seen_keys, seen_values = keys[row, :, : length + 1], values[row, :, : length + 1]
        scores = torch.einsum("hd,hld->hl", query[row], seen_keys) / query.shape[-1] ** 0.5
        outputs.append(torch.einsum("hl,hld->hd", scores.softmax(dim=-1), seen_values))
    return torch.stack(outputs), keys, values


@exercise(
    points=2,
    minutes=5,
    hint="How many numbers does one token leave in one layer? A key and a value for every head that has its own; each "
    "is width / heads numbers long. dtype.itemsize gives the bytes of a number.",
)
def kv_cache_bytes(config: dict, batch: int, length: int, dtype: torch.dtype) -> int:
    """Bytes of the cache of a decoder, for `batch` rows of `length` tokens.

    config: {"layers", "width", "heads", "kv_heads"}, whole numbers. Each of the `heads` query heads is width / heads
    numbers wide, and so are keys and values; but only `kv_heads` of them exist, each shared by heads / kv_heads query
    heads. dtype: of the numbers kept, such as torch.float32 or torch.bfloat16.
    Every layer keeps a key and a value of every token. Returns an int.

    >>> kv_cache_bytes({"layers": 30, "width": 576, "heads": 9, "kv_heads": 3}, 1, 1, torch.float32)
    46080
    """
    head_width = config["width"] // config["heads"]
    return kv_cache.cache_bytes(config["layers"], config["kv_heads"], head_width, batch, length, dtype)


@kv_cache_bytes.cases
def _(draw):
    small = {"layers": 30, "width": 576, "heads": 9, "kv_heads": 3}
    yield case("one token", small, 1, 1, torch.float32, visible=True)
    every = {"layers": 6, "width": 128, "heads": 4, "kv_heads": 4}
    yield case("each head has keys of its own", every, 1, 38, torch.float32)
    yield case("each head has keys of its own", every, draw.integer(2, 64), draw.integer(2, 40), torch.float32)
    yield case("shared heads", small, draw.integer(2, 9), draw.integer(100, 4000), torch.float32)
    yield case("shared heads", {"layers": 32, "width": 4096, "heads": 32, "kv_heads": 8}, 4, 8192, torch.float32)
    yield case("half precision", small, 8, draw.integer(100, 2000), torch.bfloat16)
    yield case("half precision", every, 3, 17, torch.float16)


kv_cache_bytes.exact("bytes are counted, not estimated")


@kv_cache_bytes.mistake("You counted the keys alone. The values are kept too: twice as much.")
def _(config, batch, length, dtype):
    head = config["width"] // config["heads"]
    return config["layers"] * config["kv_heads"] * head * batch * length * dtype.itemsize


@kv_cache_bytes.mistake("You counted every query head. Only kv_heads of them have keys and values of their own.")
def _(config, batch, length, dtype):
    return 2 * config["layers"] * config["width"] * batch * length * dtype.itemsize


@kv_cache_bytes.mistake("You took 4 bytes a number, whatever the dtype: dtype.itemsize says how many there are.")
def _(config, batch, length, dtype):
    return 2 * config["layers"] * config["kv_heads"] * config["width"] // config["heads"] * batch * length * 4


@kv_cache_bytes.mistake("You left out the layers: each of them keeps keys and values.")
def _(config, batch, length, dtype):
    return 2 * config["kv_heads"] * config["width"] // config["heads"] * batch * length * dtype.itemsize


@kv_cache_bytes.alternative
def _(config, batch, length, dtype):
    head_width = config["width"] // config["heads"]
    one_tensor = torch.empty(batch, config["kv_heads"], length, head_width, dtype=dtype, device="meta")
    return sum(one_tensor.nbytes for _layer in range(config["layers"]) for _tensor in ("keys", "values"))


@exercise(
    points=3,
    minutes=15,
    hint="When a block raises the maximum from m to m', every weight so far was too large by the same factor. Which "
    "one? exp(s - m') = exp(s - m) · ?",
)
def online_softmax(blocks) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """softmax(scores) @ values, from blocks of keys that come one at a time and can be read once.

    blocks: an iterator of pairs (scores, values): FP32 (rows, n) and (n, d), for the next n keys; n may change from
    block to block. Scores may be as large as 1000. A score of -inf hides a key; a row may have nothing but -inf in a
    block, but not in all of them.
    Returns (maximum, total, output). maximum (rows,): the largest score of each row. total (rows,): the sum of
    exp(score - maximum) over all keys. output (rows, d): the softmax of all scores of the row, times the values.

    >>> blocks = [(torch.tensor([[0.0]]), torch.tensor([[4.0]])), (torch.tensor([[0.0]]), torch.tensor([[2.0]]))]
    >>> online_softmax(iter(blocks))
    (tensor([0.]), tensor([2.]), tensor([[3.]]))
    """
    return attention.online_softmax(blocks)


def _blocks(scores, values, sizes):
    pairs = zip(scores.split(sizes, dim=1), values.split(sizes), strict=True)
    return recipes.stream([(part.clone(), rows.clone()) for part, rows in pairs])


@online_softmax.cases
def _(draw):
    two = [(torch.tensor([[0.0]]), torch.tensor([[4.0]])), (torch.tensor([[0.0]]), torch.tensor([[2.0]]))]
    yield case("the printed example", recipes.stream(two), visible=True)
    rising = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    yield case("the maximum rises", _blocks(*rising, [2, 2]), visible=True)
    yield case("the maximum rises", _blocks(draw.normal((4, 12)).sort(1).values, draw.normal((12, 3)), [5, 4, 3]))
    falling = draw.normal((3, 8)).sort(1, descending=True).values
    yield case("the maximum falls", _blocks(falling, draw.normal((8, 2)), [4, 4]))
    yield case("blocks of one key", _blocks(draw.normal((3, 6), std=2), draw.normal((6, 2)), [1] * 6))
    large = 900 + 100 * draw.tensor((3, 9))
    yield case("large scores", _blocks(large, draw.normal((9, 4)), [4, 5]))
    hidden = draw.normal((3, 9))
    hidden[0, :3], hidden[1, 3:6], hidden[2, 5:] = -INF, -INF, -INF
    yield case("hidden keys, whole blocks of them", _blocks(hidden, draw.normal((9, 2)), [3, 3, 3]))


online_softmax.close(
    rtol=1e-4,
    atol=1e-5,
    reason="a score of 1000 has steps of 6e-5, but its difference from the maximum is exact; an exponential is off by "
    "2e-7 of itself at each of at most 6 rescalings, and a sum of 12 adds as much: 3e-6, far within the bound.",
)


@online_softmax.mistake(
    "When the maximum rose you did not scale down what was summed before: those weights were relative to the old one."
)
def _(blocks):
    maximum, total, output = -INF, 0.0, 0.0
    for scores, values in blocks:
        maximum = torch.maximum(torch.as_tensor(maximum), scores.amax(1))
        weights = (scores - maximum.masked_fill(maximum == -INF, 0.0)[:, None]).exp()
        total, output = total + weights.sum(1), output + weights @ values
    return maximum, total, output / total[:, None]


@online_softmax.mistake(
    "A row that has seen only -inf has the maximum -inf, and -inf - (-inf) is NaN. Subtract 0 until a score comes."
)
def _(blocks):
    maximum, total, output = torch.tensor(-INF), 0.0, 0.0
    for scores, values in blocks:
        higher = torch.maximum(maximum, scores.amax(1))
        kept, weights = (maximum - higher).exp(), (scores - higher[:, None]).exp()
        total, output = total * kept + weights.sum(1), output * kept[:, None] + weights @ values
        maximum = higher
    return maximum, total, output / total[:, None]


@online_softmax.mistake("You took each block's own softmax and averaged the outputs: blocks do not weigh alike.")
def _(blocks):
    seen = [(scores.amax(1), scores.nan_to_num(neginf=-1e30), values) for scores, values in blocks]
    maximum = torch.stack([top for top, _, _ in seen]).amax(0)
    total = sum((scores - maximum[:, None]).exp().sum(1) for _, scores, _ in seen)
    return maximum, total, torch.stack([scores.softmax(1) @ values for _, scores, values in seen]).mean(0)


@online_softmax.mistake("You never subtracted the maximum: exp(1000) is infinite in FP32.")
def _(blocks):
    maximum, total, output = torch.tensor(-INF), 0.0, 0.0
    for scores, values in blocks:
        maximum = torch.maximum(maximum, scores.amax(1))
        total, output = total + scores.exp().sum(1), output + scores.exp() @ values
    return maximum, total * (-maximum).exp(), output / total[:, None]


@online_softmax.mistake("The output is not divided by the total: the weights of a row must sum to 1.")
def _(blocks):
    maximum, total, output = attention.online_softmax(blocks)
    return maximum, total, output * total[:, None]


@online_softmax.alternative
def _(blocks):
    state = None
    for scores, values in blocks:
        top = scores.amax(dim=1)
        weights = torch.where(scores == -float("inf"), 0.0, torch.exp(scores - top[:, None]))
        new = (top, weights.sum(dim=1), weights @ values)
        if state is None:
            state = new
            continue
        joint = torch.maximum(state[0], new[0])
        total, mixed = 0.0, 0.0
        for part_top, part_total, part_mixed in (state, new):
            factor = torch.where(part_top == -float("inf"), 0.0, torch.exp(part_top - joint))
            total, mixed = total + part_total * factor, mixed + part_mixed * factor[:, None]
        state = (joint, total, mixed)
    return state[0], state[1], state[2] / state[1][:, None]


@exercise(
    points=3,
    minutes=12,
    hint="Walk through the draft. As long as uniforms[i] · q[i, token] < p[i, token], keep the token. Where it stops, "
    "what does the target want more of than the draft gave? max(0, p - q), scaled to sum 1.",
)
def accept_draft(p: torch.Tensor, q: torch.Tensor, draft: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The tokens kept of a draft that was sampled from a small model, and one more from the target.

    p: FP32 (k + 1, tokens), the target's probabilities: row i for the place of draft token i, row k for the place after
    the draft. q: FP32 (k, tokens), the probabilities that the draft's tokens were drawn from. draft: int64 (k,).
    uniforms: FP32 (k + 1,), from [0, 1). Token i is kept when uniforms[i] < p[i, token] / q[i, token], if all before it
    were kept. At the first that is not kept, stop and draw a token from max(0, p[i] - q[i]), scaled to sum 1; if all
    are kept, draw one from p[k]. Either draw uses the last uniform, u = uniforms[k]: it takes the first token whose
    cumulative probability is above u.
    Returns int64: the tokens kept, then the one drawn. (No case lies within 0.001 of a border.)

    >>> p, q = torch.tensor([[0.5, 0.5], [0.3, 0.7]]), torch.tensor([[0.9, 0.1]])
    >>> accept_draft(p, q, torch.tensor([0]), torch.tensor([0.4, 0.6]))
    tensor([0, 1])
    >>> accept_draft(p, q, torch.tensor([0]), torch.tensor([0.8, 0.6]))
    tensor([1])
    """
    return speculative.accept_draft(p, q, draft, uniforms)


def _clear(p, q, draft, uniforms):
    """Whether every comparison is further than 0.001 from its border."""
    u = uniforms.double()
    p, q = p.double(), q.double()
    borders = [p[i, x] / q[i, x] - u[i] for i, x in enumerate(draft.tolist())]
    for row in [*(p[:-1] - q).clamp_min(0), *p]:  # right answers and wrong ones draw from these
        borders += (row.cumsum(0) / row.sum() - u[-1]).tolist()
    return min(abs(float(border)) for border in borders) > 1e-3


def _drawn(draw, k, tokens, closeness, low=0.0, high=1.0):
    """A draft and probabilities; closeness: how alike target and draft model are, 0 ... 1."""
    while True:
        p = draw.normal((k + 1, tokens), std=1.5).softmax(1)
        q = (closeness * p[:k].log() + (1 - closeness) * draw.normal((k, tokens), std=1.5)).softmax(1)
        draft = torch.stack([row.multinomial(1, generator=draw.generator)[0] for row in q])
        uniforms = torch.cat([draw.tensor((k,), low, high), draw.tensor((1,), 0.05, 0.95)])
        if _clear(p, q, draft, uniforms):
            return p, q, draft, uniforms


@accept_draft.cases
def _(draw):
    p, q = torch.tensor([[0.5, 0.5], [0.3, 0.7]]), torch.tensor([[0.9, 0.1]])
    yield case("kept to the end", p, q, torch.tensor([0]), torch.tensor([0.4, 0.6]), visible=True)
    yield case("refused", p, q, torch.tensor([0]), torch.tensor([0.8, 0.6]), visible=True)
    for _ in range(3):
        yield case("kept to the end", *_drawn(draw, 3, 6, 1.0))
        yield case("refused", *_drawn(draw, 4, 6, 0.0, low=0.9))
        yield case("a long draft", *_drawn(draw, 8, 9, 0.6))
    p, q = torch.tensor([[0.3, 0.4, 0.3], [0.2, 0.2, 0.6]]), torch.tensor([[0.1, 0.8, 0.1]])
    yield case("what the draft gave too much of", p, q, torch.tensor([1]), torch.tensor([0.7, 0.45]))
    yield case("what the draft gave too much of", p, q, torch.tensor([1]), torch.tensor([0.7, 0.65]))


accept_draft.exact("tokens are whole numbers, and no case lies at a border")


@accept_draft.mistake(
    "You drew the token in place of the refused one from p. What the draft already gives would then be given twice: "
    "draw from max(0, p - q), scaled to sum 1."
)
def _(p, q, draft, uniforms):
    kept = _kept(p, q, draft, uniforms)
    return _with(draft[:kept], p[kept], uniforms[-1])


@accept_draft.mistake("You kept tokens behind a refused one. They were written after it: everything behind it goes.")
def _(p, q, draft, uniforms):
    good = torch.tensor([bool(uniforms[i] < p[i, x] / q[i, x]) for i, x in enumerate(draft.tolist())])
    kept = _kept(p, q, draft, uniforms)
    rest = (p[kept] - q[kept]).clamp_min(0) if kept < len(draft) else p[kept]
    return _with(draft[good], rest, uniforms[-1])


@accept_draft.mistake(
    "You kept a token only where the target gives it more than the draft does. Where it gives less, the uniform "
    "decides: it is kept with the probability p / q."
)
def _(p, q, draft, uniforms):
    kept = _kept(p, q, draft, torch.ones_like(uniforms))
    rest = (p[kept] - q[kept]).clamp_min(0) if kept < len(draft) else p[kept]
    return _with(draft[:kept], rest, uniforms[-1])


@accept_draft.mistake("The differences p - q are not scaled to sum 1 before the draw: large uniforms find no token.")
def _(p, q, draft, uniforms):
    kept = _kept(p, q, draft, uniforms)
    rest = (p[kept] - q[kept]).clamp_min(0) if kept < len(draft) else p[kept]
    place = (rest.cumsum(0) <= uniforms[-1]).sum().clamp_max(len(rest) - 1)
    return torch.cat([draft[:kept], place[None]])


@accept_draft.mistake("When all of the draft is kept, one more token is drawn, from the last row of p, free of charge.")
def _(p, q, draft, uniforms):
    kept = _kept(p, q, draft, uniforms)
    return draft if kept == len(draft) else _with(draft[:kept], (p[kept] - q[kept]).clamp_min(0), uniforms[-1])


def _kept(p, q, draft, uniforms):
    """How many drafted tokens are kept."""
    for i, token in enumerate(draft.tolist()):
        if not uniforms[i] < p[i, token] / q[i, token]:
            return i
    return len(draft)


def _with(tokens, weights, u):
    """The tokens, and one more drawn by these weights."""
    place = (weights.cumsum(0) / weights.sum() <= u).sum().clamp_max(len(weights) - 1)
    return torch.cat([tokens, place[None]])


@accept_draft.alternative
def _(p, q, draft, uniforms):
    written = []
    weights = p[len(draft)].tolist()
    for i, token in enumerate(draft.tolist()):
        if float(uniforms[i]) >= float(p[i, token]) / float(q[i, token]):
            weights = [max(0.0, a - b) for a, b in zip(p[i].tolist(), q[i].tolist(), strict=True)]
            break
        written.append(token)
    left, drawn = float(uniforms[-1]) * sum(weights), 0
    while left >= weights[drawn] and drawn < len(weights) - 1:
        left, drawn = left - weights[drawn], drawn + 1
    return torch.tensor([*written, drawn])


question(
    "1",
    "A decoder has written 100 tokens and writes the next one. What does the cache spare it?",
    A=(
        "The attention of the new token to the 100 earlier ones",
        "That must still be done: the new query is compared with every key kept.",
    ),
    B=(
        "Computing keys, values and everything else of the 100 earlier tokens again",
        "They see only what stands before them, so nothing about them has changed. One token is computed.",
        True,
    ),
    C=("Reading the weights from memory", "Every step reads all weights once, with a cache or without."),
    D=("The softmax", "The new token's weights over 101 keys are still a softmax."),
    hint="Which of the numbers computed in the last step would come out differently now?",
    steps=[
        "Token 57 sees tokens 1 to 57, before and after a new token is written.",
        "So its keys and values are the same numbers in every step: keep them.",
    ],
)

question(
    "2",
    "An encoder, such as the classifier of the earlier lessons, gets no KV cache. Why?",
    A=("It has no keys and values.", "It has, in every layer."),
    B=("It is too small.", "Size is not the reason; the translator's decoder is smaller."),
    C=(
        "Its tokens see those behind them, so a new token would change all of them.",
        "And it reads a text once, in one step. There is nothing to keep for a next one.",
        True,
    ),
    D=("Its attention has no mask.", "It has one for padding. What matters is who sees whom."),
    hint="In an encoder, does the first word's hidden state depend on the last word?",
    steps=[
        "A cache holds what stays the same when a token is added.",
        "Where tokens look both ways, a new one changes the states of all others.",
    ],
)

question(
    "3",
    "A model has 32 layers, 32 query heads of width 128 and 8 heads with keys and values, in BF16. How large is the "
    "cache of one text of 8,192 tokens?",
    A=("1 GiB", "2 · 32 · 8 · 128 · 8,192 · 2 bytes are 1,073,741,824 bytes.", True),
    B=("4 GiB", "That counts 32 heads. Four query heads share one key here."),
    C=("512 MiB", "That counts the keys alone."),
    D=("2 GiB", "That counts four bytes a number, as in FP32."),
    hint="Two tensors; layers; heads that have keys; width of a head; tokens; bytes.",
    steps=[
        "A token leaves 2 · 32 · 8 · 128 = 65,536 numbers.",
        "In BF16 that is 131,072 bytes.",
        "Times 8,192 tokens: 1,073,741,824 bytes, 1 GiB.",
    ],
)

question(
    "4",
    "Blockwise attention computes as many products as the naive form. Why can it be faster?",
    A=("It uses a less exact softmax.", "The online softmax is exact, up to rounding."),
    B=("It skips small scores.", "Nothing is skipped, but what a causal mask hides anyway."),
    C=(
        "Its scores stay in the processor's cache and are not written to main memory and read back.",
        "The naive form writes a table of length x length and reads it for the softmax and for the product.",
        True,
    ),
    D=("It needs no keys.", "Every key is read, block by block."),
    hint="Count what travels between memory and processor in either form.",
    steps=[
        "Naive: write the scores, read them, write the weights, read them: four times length² numbers a head.",
        "Blockwise: a block of scores is used where it was made.",
    ],
)

question(
    "5",
    "Greedy speculative decoding with a draft model that is wrong at every place. What comes out?",
    A=("The draft's text", "Nothing of the draft is kept unless the target would have written it."),
    B=(
        "The target's text, later than without a draft",
        "Each step of the target yields the one piece that it would have written anyway; the drafting is wasted.",
        True,
    ),
    C=("A mixture of both texts", "Every piece that stays is the target's own likeliest one."),
    D=("Nothing: it never ends", "Each step of the target still adds one piece of its own."),
    hint="What is put in the place of the first refused piece?",
    steps=[
        "Each round keeps the pieces up to the first refused one, here none, and adds the target's own.",
        "One piece a round, as without a draft, at the price of the round's drafting.",
    ],
)

question(
    "6",
    "A model has 540 MB of weights, and memory delivers 10 GB a second. It writes one token at a time, for one text. "
    "What is the least time of a step, however fast the arithmetic is?",
    A=("54 ms", "Every weight is read once in each step: 540 MB at 10 GB a second.", True),
    B=("5.4 ms", "That is a tenth of it: 10 GB a second are 10 MB a millisecond."),
    C=(
        "There is none: the cache keeps the weights",
        "The KV cache keeps keys and values of tokens. The weights are far larger than the processor's own cache.",
    ),
    D=("54 ms for every token of the text so far", "With a KV cache one token is computed in a step."),
    hint="Which bytes must pass through the processor in every step?",
    steps=[
        "One token: each weight takes part in one multiplication, and must come from memory for it.",
        "540 MB / 10 MB a millisecond = 54 ms.",
        "For 16 texts at once the same 54 ms are shared; half the bytes make the bound 27 ms.",
    ],
)
