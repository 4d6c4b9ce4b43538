"""One warm process for all tests of grading: to start one takes seconds, a fork of it milliseconds."""

import pytest

from quizzes.grading.sandbox.bubblewrap import Bubblewrap, Plain


@pytest.fixture(scope="session")
def walls():
    """The sandbox, ready. Use it in tests that are marked as needing bwrap."""
    sandbox = Bubblewrap()
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="session")
def plain():
    """Ordinary processes, ready."""
    sandbox = Plain()
    yield sandbox
    sandbox.close()
