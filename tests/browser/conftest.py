"""A browser for the tests of a file, and one JupyterLab for all tests of a process."""

import pytest


@pytest.fixture(scope="module")
def chromium():
    """The browser on the PATH, without a window. While playwright runs, nobody else may call asyncio.run."""
    from tests.browser import running

    with running.chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab over a fresh copy of the lessons, started by `make lab`."""
    from tests.browser import running

    with running.jupyterlab(tmp_path_factory.mktemp("lab")) as started:
        yield started
