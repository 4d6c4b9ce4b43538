"""Lesson 02's answers are those of torch and bitsandbytes."""

import torch

from quizzes.bank import q02_number_formats as bank


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
