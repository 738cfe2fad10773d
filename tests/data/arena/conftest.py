import pytest

from tests.data.arena.sides import Arena


@pytest.fixture
def arena():
    """A worker's memory, of which the descriptor is closed in the end."""
    with Arena() as arena:
        yield arena
