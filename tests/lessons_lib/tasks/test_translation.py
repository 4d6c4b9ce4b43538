"""The teacher is shaped by its declaration, trained once, and read back as it was."""

from dataclasses import replace

import pytest
import torch

from lessons_lib.files import cache
from lessons_lib.tasks import phrase_pairs, translation
from lessons_lib.tasks.translator import Shape


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A teacher small and quick enough to be trained in a test, in a cache of its own."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(translation, "SHAPE", Shape(1, 1, 8, 2, 16, 0.0))
    monkeypatch.setattr(translation, "SETTINGS", {"steps": 2, "batch_size": 4, "lr": 1e-3, "seed": 0})
    monkeypatch.setattr(phrase_pairs, "tensors", lambda english, french: translation_tensors(english[:8], french[:8]))


translation_tensors = phrase_pairs.tensors


def test_all_that_shapes_the_teacher_is_declared(tiny, monkeypatch):
    before = translation.teacher_sha256()
    monkeypatch.setitem(translation.SETTINGS, "lr", 1.0)
    assert translation.teacher_sha256() != before


def test_the_teacher_is_trained_once_and_kept(tiny, monkeypatch):
    said = []
    translation.KEPT.prepare(said.append)
    assert [line.split(",")[0] for line in said] == ["translator: training", "translator: ready"]
    again = replace(translation.KEPT, train=lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(translation, "KEPT", again)
    first, again = translation.teacher(), translation.teacher()
    assert torch.equal(first.head.weight, again.head.weight)
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())
    translation.KEPT.prepare(said.append)
    assert said[-1] == "translator: ready"
    assert len(said) == 3


def test_a_damaged_teacher_is_trained_again(tiny):
    before = translation.teacher().head.weight.clone()
    folder = next(path for path in cache.cache_dir().iterdir() if path.is_dir() and path.name.startswith("translator"))
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert torch.equal(translation.teacher().head.weight, before)
