"""Runs a model that was handed in, and gives back numbers. It judges nothing.

The same file runs in a notebook and in the sandbox: it needs numpy and onnxruntime, and `onnx_check` beside it.
"""

import numpy
import onnxruntime

try:
    from . import onnx_check
except ImportError:  # in the sandbox, where there is no package
    import onnx_check

ERRORS_ONLY = 4  # of ONNX Runtime's levels: nothing is said but what is raised
MOST_STATE_BYTES = 2**26  # that a decoder carries along for one batch
Arrays = dict[str, numpy.ndarray]


class Unusable(ValueError):
    """What a model gave is not what was asked for; the message says what it gave and what it should."""


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # Without VNNI instructions, unsigned times signed codes can overflow 16 bits: there, take the exact way.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # A file may also be in a format of ONNX Runtime's own, which was not looked into.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


class TopicRunner:
    """A classifier, opened. Raises ModelRefused for a file that may not be run; onnxruntime raises others."""

    def __init__(self, files: list[bytes], settings: dict):
        """settings: topics, how many logits there are; batch, how many rows the model is given at once."""
        onnx_check.topics(*files)
        self.model, self.topics, self.batch = _session(*files), settings["topics"], settings["batch"]

    def run(self, inputs: Arrays) -> Arrays:
        """input_ids, attention_mask: int64 (N, T). Returns logits, float32 (N, topics). Raises Unusable."""
        logits = numpy.empty((len(inputs["input_ids"]), self.topics), numpy.float32)
        for rows, batch in _batches(inputs, "attention_mask", self.batch):
            (given,) = self.model.run(["logits"], batch)
            logits[rows] = _numbers(given, (len(rows), self.topics))
        return {"logits": logits}


class TranslatorRunner:
    """An encoder and a decoder, opened. Raises as TopicRunner does."""

    def __init__(self, files: list[bytes], settings: dict):
        """settings: batch; pieces of the French vocabulary; the numbers of pad, begin and end; the most steps."""
        onnx_check.translator(*files)
        self.encoder, self.decoder = map(_session, files)
        self.settings = settings
        self.state = [port.name for port in self.encoder.get_outputs()]
        self.takes = [port.name for port in self.decoder.get_inputs() if port.name != "piece"]
        self.gives = [port.name for port in self.decoder.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """source: int64 (N, S). Returns written, int64 (N, steps): greedy, padded after the end. Raises Unusable."""
        written = numpy.full((len(inputs["source"]), self.settings["steps"]), self.settings["pad"])
        mask = inputs["source"] != self.settings["pad"]
        for rows, batch in _batches(inputs | {"mask": mask}, "mask", self.settings["batch"]):
            pieces = self._greedy(batch["source"])
            written[rows, : pieces.shape[1]] = pieces
        return {"written": written}

    def _greedy(self, source: numpy.ndarray) -> numpy.ndarray:
        """The likeliest next piece again and again, until every row has ended: (B, steps taken)."""
        pad, begin, end = (self.settings[name] for name in ("pad", "begin", "end"))
        state = dict(zip(self.state, self.encoder.run(self.state, {"source": source}), strict=True))
        piece, ended = numpy.full((len(source), 1), begin), numpy.zeros(len(source), bool)
        pieces = []
        for _ in range(self.settings["steps"]):
            if sum(held.nbytes for held in state.values()) > MOST_STATE_BYTES:
                raise Unusable(f"the state grew beyond {MOST_STATE_BYTES / 2**20:.0f} MB")
            given = self.decoder.run(self.gives, {"piece": piece} | {name: state[name] for name in self.takes})
            given = dict(zip(self.gives, given, strict=True))
            logits = given.pop("logits")
            steps = getattr(logits, "shape", ())
            logits = _numbers(
                logits[:, 0] if steps[1:2] == (1,) and len(steps) == 3 else logits,
                (len(piece), self.settings["pieces"]),
            )
            state |= {name.removeprefix("next_"): held for name, held in given.items()}
            logits[:, [pad, begin]] = -numpy.inf
            piece = numpy.where(ended, pad, logits.argmax(axis=1))[:, None]
            ended |= piece[:, 0] == end
            pieces.append(piece)
            if ended.all():
                break
        return numpy.concatenate(pieces, axis=1)


def _batches(inputs: Arrays, mask: str, size: int):
    """Rows of like length together, which need little padding: (their numbers, their inputs without that padding)."""
    lengths = (inputs[mask] != 0).sum(axis=1)
    order = numpy.argsort(lengths, kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        longest = max(1, lengths[rows].max())
        yield rows, {name: numpy.ascontiguousarray(held[rows, :longest]) for name, held in inputs.items()}


def _numbers(given, shape: tuple[int, ...]) -> numpy.ndarray:
    """A copy of the logits. Raises Unusable unless they are finite float32 of this shape."""
    kind = getattr(given, "dtype", type(given).__name__)
    if kind != numpy.float32 or given.shape != shape:
        raise Unusable(f"logits are {kind} of shape {getattr(given, 'shape', '?')}; they must be float32 of {shape}")
    if not numpy.isfinite(given).all():
        raise Unusable("some logits are not finite numbers")
    return given.copy()


TASKS = {"topics": TopicRunner, "translator": TranslatorRunner}
