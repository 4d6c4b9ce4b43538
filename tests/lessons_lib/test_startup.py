"""Importing is instant, loads nothing heavy, and silences single messages only."""

import logging
import subprocess
import sys
import time

import pytest

from lessons_lib import startup


def test_import_is_instant_and_light():
    code = "import lessons_lib, quizzes, sys; print(*sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    started = time.perf_counter()
    bare = subprocess.run([sys.executable, "-c", "pass"], check=True)
    bare_seconds = time.perf_counter() - started
    started = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert bare.returncode == 0
    assert run.stdout.strip() == ""
    assert time.perf_counter() - started - bare_seconds < 0.3


@pytest.mark.parametrize(
    ("name", "message", "kept"),
    [
        ("torchao", "Failed to load /x/_C_mxfp8.cpython-310.so: Could not load this library: /x", False),
        ("torchao", "Failed to load /x/_C_cutlass_90a.abi3.so: Could not load this library: /x", False),
        ("torchao", "Failed to load /x/_C_other.so: Could not load this library: /x", True),
        ("torch.utils._pytree", "<enum 'KernelPreference'> is an Enum subclass and is now natively", False),
        ("torch.utils._pytree", "<enum 'SomethingElse'> is an Enum subclass and is now natively", True),
        ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward from kernels-community: No", False),
        ("bitsandbytes.backends.cpu.ops", "Failed to load something else", True),
        ("transformers", "Failed to load /x/_C_mxfp8.so: Could not load this library: /x", True),
    ],
)
def test_only_the_known_messages_are_dropped(name, message, kept):
    startup.install()
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, (), None)
    assert bool(logging.getLogger(name).filter(record)) is kept


def test_installing_twice_adds_one_filter():
    startup.install()
    before = len(logging.getLogger("torchao").filters)
    startup.install()
    assert len(logging.getLogger("torchao").filters) == before


def test_loading_puts_the_settings_of_transformers_back():
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with pytest.raises(KeyError), startup.loading():
        assert not transformers_logging.is_progress_bar_enabled()
        raise KeyError
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before
