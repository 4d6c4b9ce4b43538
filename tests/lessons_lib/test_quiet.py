"""What is installed at the start silences single messages only."""

import logging
import warnings

import pytest

from lessons_lib import quiet


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
        ("torch.onnx._internal.exporter._registration", "torchvision is not installed. Skipping torchvision::x", False),
        ("torch.onnx._internal.exporter._registration", "torchvision is not installed. Install it", True),
        ("root", "Please consider pre-processing before quantization. See https://github.com/", False),
        ("root", "Please consider to run pre-processing before quantization. Refer to", False),
        ("root", "Please consider something else", True),
        ("transformers", "Failed to load /x/_C_mxfp8.so: Could not load this library: /x", True),
    ],
)
def test_only_the_known_messages_are_dropped(name, message, kept):
    quiet.install()
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, (), None)
    assert bool(logging.getLogger(name).filter(record)) is kept


def test_installing_twice_adds_one_filter():
    quiet.install()
    before = len(logging.getLogger("torchao").filters), len(warnings.filters)
    quiet.install()
    assert (len(logging.getLogger("torchao").filters), len(warnings.filters)) == before


def test_of_warnings_only_the_known_one_is_dropped():
    quiet.install()
    with warnings.catch_warnings(record=True) as said:
        warnings.warn(f"{quiet.OUTDATED_NAME}. Use another.", FutureWarning, stacklevel=1)
        warnings.warn("`gradient_checkpointing_enable` is deprecated", FutureWarning, stacklevel=1)
    assert [str(one.message) for one in said] == ["`gradient_checkpointing_enable` is deprecated"]


def test_loading_puts_the_settings_of_transformers_back():
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with pytest.raises(KeyError), quiet.loading():
        assert not transformers_logging.is_progress_bar_enabled()
        raise KeyError
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before


def test_named_warnings_are_silent_for_a_while_and_others_are_not():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet.without_warnings(["old .* name"]):
            warnings.warn("old and long name", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        warnings.warn("old and long name", stacklevel=1)
    assert [str(one.message) for one in heard] == ["something else", "old and long name"]
