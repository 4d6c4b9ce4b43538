"""Files come back as they were written; what is cut off, of another format or of other shapes is refused by name."""

import pytest
import torch

from lessons_lib.files import tensor_files
from lessons_lib.files.tensor_files import FileError

TENSORS = {"x": torch.arange(6.0).view(2, 3), "y": torch.ones(4, dtype=torch.uint8)}


def test_tensors_and_what_is_said_of_them_come_back(tmp_path):
    tensors = TENSORS | {"turned": torch.arange(6.0).view(2, 3).t()}
    tensor_files.write(tmp_path / "file", "numbers, 1", tensors, {"x": {"r": 2}})
    read, said = tensor_files.read(tmp_path / "file", "numbers, 1", "a.save")
    assert said == {"x": {"r": 2}}
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_read_is_refused(tmp_path):
    tensor_files.write(tmp_path / "file", "numbers, 1", TENSORS, {})
    with pytest.raises(FileError, match=r"file is 'numbers, 1', not 'numbers, 2', as `a.save` writes it"):
        tensor_files.read(tmp_path / "file", "numbers, 2", "a.save")
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-3])
    for name in ("file", "absent"):
        with pytest.raises(FileError, match=f"{name} cannot be read: .* missing, cut off or damaged; write it again"):
            tensor_files.read(tmp_path / name, "numbers, 1", "a.save")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"x": TENSORS["x"]}, "the file lacks 'y'. Try another."),
        (TENSORS | {"z": torch.ones(1)}, "the model lacks 'z'. Try another."),
        (TENSORS | {"y": torch.ones(4)}, r"'y' is torch.float32 \(4,\) instead of torch.uint8 \(4,\). Try another."),
        (TENSORS | {"x": torch.ones(3, 2)}, r"'x' is torch.float32 \(3, 2\) instead of torch.float32 \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, found, words):
    with pytest.raises(FileError, match=words):
        tensor_files.check(found, TENSORS, tmp_path, "Try another.")
    tensor_files.check(dict(TENSORS), TENSORS, tmp_path, "")
