"""Lesson 02's exercises: what their docstrings print is true, and the answers are those of torch and bitsandbytes."""

import doctest

import pytest
import torch

from quizzes import lesson
from quizzes.bank import q02_number_formats as bank

EXERCISES = lesson("02").exercises


@pytest.mark.parametrize("name", EXERCISES)
def test_the_printed_example_is_true(name):
    exercise = EXERCISES[name]
    names = {name: exercise.reference, "torch": torch}
    example = doctest.DocTestParser().get_doctest(exercise.doc, names, name, None, 0)
    result = doctest.DocTestRunner(verbose=False).run(example)
    assert result.attempted >= 1
    assert result.failed == 0


def test_the_published_reader_of_fp16_reads_every_pattern_as_torch_does():
    every = torch.arange(2**16)
    expected = every.to(torch.int16).view(torch.float16).float()
    got = bank.decode_fp16.right(every)
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.nan_to_num(), expected.nan_to_num())


def test_the_published_packing_comes_back_for_every_byte():
    every = torch.arange(256).to(torch.uint8)
    assert torch.equal(bank.pack_int4.right(bank.unpack_int4.right(every, 512)), every)


def test_the_published_codebook_is_that_of_bitsandbytes():
    import bitsandbytes.functional

    expected = bitsandbytes.functional.get_4bit_type("nf4", device="cpu")
    assert torch.allclose(bank.nf4_codebook.right(), expected, rtol=0, atol=bank.nf4_codebook.tolerance.atol)
