"""The one place that silences what libraries print by themselves: single messages, known to be harmless, nothing wider.

Installed when lessons_lib is imported, before torch and transformers are; it loads neither.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# transformers imports torchao wherever it is installed. These lines follow, and none concerns what the course does.
HARMLESS = {
    "torchao": (  # kernels for GPUs, absent from a build for processors
        re.compile(r"Failed to load \S*_C_(mxfp8|cutlass_90a)\.\S+: Could not load this library: "),
    ),
    "bitsandbytes.backends.cpu.ops": (  # an optional package with one more kernel; it has its own besides
        re.compile(r"Failed to load CPU gemm_4bit_forward from kernels-community: "),
    ),
    "torch.onnx._internal.exporter._registration": (  # operators of a package for pictures
        re.compile(r"torchvision is not installed\. Skipping torchvision::"),
    ),
    "root": (  # what ONNX Runtime advises before it quantizes; export.py says what is done in its place
        re.compile(r"Please consider (to run )?pre-processing before quantization\. "),
    ),
    "torch.utils._pytree": (  # torchao registers two enumerations in a way that torch is about to drop
        re.compile(r"<enum '(KernelPreference|ScaleCalculationMode)'> is an Enum subclass"),
    ),
}
# peft asks transformers whether gradients are checkpointed by a name that transformers is about to drop.
OUTDATED_NAME = "`is_gradient_checkpointing` is deprecated and will be removed in v6"


class _Harmless(logging.Filter):
    """Drops the records whose message matches one of the patterns, whatever their level; keeps all others."""

    def __init__(self, patterns: tuple[re.Pattern, ...]):
        super().__init__()
        self.patterns = patterns

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(pattern.match(message) for pattern in self.patterns)


def install() -> None:
    """Puts the filters on their loggers; repeated calls change nothing."""
    for name, patterns in HARMLESS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Harmless) for known in logger.filters):
            logger.addFilter(_Harmless(patterns))
    warnings.filterwarnings("ignore", re.escape(OUTDATED_NAME), FutureWarning)
    # torch.profiler writes "profiler_start" and "profiler_stop" to the error stream (severity USDT, 5) at every use.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")


@contextmanager
def without_warnings(messages: Iterable[str]) -> Iterator[None]:
    """Inside, warnings that begin as one of these patterns do are not shown; all others are."""
    with warnings.catch_warnings():
        for message in messages:
            warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def loading() -> Iterator[None]:
    """While a model is read from files or written: without the progress bar and the load report of transformers.

    The report lists weights that the file has and the model lacks (the pooler, here) or the other way round; whoever
    loads under this context looks for missing weights itself.
    """
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
