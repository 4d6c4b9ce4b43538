"""The generator of the notebooks, which is a script and not a package."""

import importlib.util
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def generate():
    """notebooks/generate.py as a module."""
    return load("generate")


@pytest.fixture(scope="session")
def workspace():
    """notebooks/workspace.py as a module."""
    return load("workspace")
