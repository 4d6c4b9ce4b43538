"""Packed models on disk: what is read back computes the same; a file that is cut off or does not fit loads nothing."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lessons_lib.arithmetic import nf4
from lessons_lib.four_bits import groupwise, packed_linear
from lessons_lib.four_bits.packed_linear import Linear4bit, PackedGroups
from lessons_lib.measure import model_size
from lessons_lib.tasks import layers
from lessons_lib.training import checkpoints


class Tied(nn.Module):
    """An embedding, two layers, and a head that shares the embedding's matrix."""

    def __init__(self, seed=0, width=64):
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(30, width)
        self.first, self.second = nn.Linear(width, 128), nn.Linear(128, width, bias=False)
        self.head = nn.Linear(width, 30, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.second(self.first(self.table(ids)).relu()))


IDS = torch.arange(12).view(3, 4)


def packed(model, kind="nf4"):
    def make(name, layer):
        if kind == "groups":
            factors = torch.linspace(0.5, 2, layer.in_features) if name == "first" else None
            return Linear4bit(PackedGroups.of(groupwise.quantize_groups(layer.weight, 4, 32), factors), layer.bias)
        return packed_linear.nf4_layer(layer, double=kind == "nf4")

    return layers.replaced(model, ["first", "second"], make)


@pytest.mark.parametrize("kind", ["nf4", "nf4 with plain scales", "groups"])
def test_what_was_saved_is_what_is_loaded(tmp_path, kind):
    model = packed(Tied(), kind)
    packed_linear.save(model, tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = packed_linear.load(tmp_path / "model.safetensors", Tied(seed=1))
    assert torch.equal(loaded(IDS), model(IDS))
    assert loaded.head.weight is loaded.table.weight
    assert checkpoints.state_sha256(loaded.state_dict()) == checkpoints.state_sha256(model.state_dict())


def test_bytes_on_disk_are_the_computed_ones(tmp_path):
    model = nn.Sequential(nn.Linear(768, 1024, bias=False))
    for kind, bits in (("nf4", nf4.bits_per_weight()), ("groups", groupwise.bits_per_weight(4))):
        layer = model[0].weight.detach()
        weight = (
            packed_linear.PackedNF4.of(layer) if kind == "nf4" else PackedGroups.of(groupwise.quantize_groups(layer, 4))
        )
        packed_linear.save(nn.Sequential(Linear4bit(weight)), tmp_path / kind)
        assert model_size.size_on_disk(tmp_path / kind) == pytest.approx(layer.numel() * bits / 8, rel=0.02)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "model.safetensors"
    packed_linear.save(packed(Tied()), path)
    return path


def refused(path, model, words):
    """The file is refused with these words, and the model is what it was."""
    before = checkpoints.state_sha256(model.state_dict())
    with pytest.raises(packed_linear.FileError, match=words):
        packed_linear.load(path, model)
    assert checkpoints.state_sha256(model.state_dict()) == before
    assert not any(isinstance(module, Linear4bit) for module in model.modules())


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.9999))
def test_a_file_cut_off_anywhere_loads_nothing(file, share):
    whole = file.read_bytes()
    cut = file.with_name("cut.safetensors")
    cut.write_bytes(whole[: int(share * len(whole))])
    refused(cut, Tied(seed=1), "cannot be read")


def test_a_missing_or_foreign_file_loads_nothing(tmp_path):
    refused(tmp_path / "none", Tied(), "cannot be read")
    save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    refused(tmp_path / "plain", Tied(), "an ordinary safetensors file")


def changed(file, tmp_path, tensors=None, **layout):
    """The file with other tensors, or with another layout of its layer `first`."""
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    layers = json.loads(said["layers"])
    layers["first"] |= layout
    save_file(tensors or load_file(file), tmp_path / "changed", said | {"layers": json.dumps(layers)})
    return tmp_path / "changed"


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"group_size": 32}, "Was it packed with another group size"),
        ({"group_size": 48}, "does not split into groups of 48"),
        ({"group_size": 63}, "which cannot be"),
        ({"double": False}, "lacks 'first.weight.absmax"),
        ({"kind": "other"}, "which cannot be"),
        ({"rows": 64}, "a linear layer of \\(64, 64\\)"),
        ({"bias": False}, "without bias"),
        ({"colour": 1}, "which cannot be"),
    ],
)
def test_a_layout_that_does_not_fit_its_tensors_loads_nothing(file, tmp_path, layout, words):
    refused(changed(file, tmp_path, **layout), Tied(seed=1), words)


def test_a_tensor_too_few_too_many_or_of_another_kind_loads_nothing(file, tmp_path):
    whole = load_file(file)
    for name in ("first.weight.packed", "table.weight"):
        less = {key: tensor for key, tensor in whole.items() if key != name}
        refused(changed(file, tmp_path, less), Tied(seed=1), f"the file lacks '{name}'")
    refused(changed(file, tmp_path, whole | {"more": torch.zeros(1)}), Tied(seed=1), "the model lacks 'more'")
    other = whole | {"first.bias": whole["first.bias"].half()}
    refused(changed(file, tmp_path, other), Tied(seed=1), "'first.bias' is torch.float16")


def test_another_model_loads_nothing(file):
    refused(file, Tied(width=128), "a linear layer of \\(128, 64\\) with bias; the model has \\(128, 128\\)")
    refused(file, nn.Sequential(nn.Linear(64, 128)), "the model has NoneType there")


def test_a_model_without_packed_layers_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="no packed layer"):
        packed_linear.save(Tied(), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
