"""Who am I among ranks."""

import pytest

from lampwork._core import ranks


def test_without_torchrun_there_is_one_rank(monkeypatch):
    """Without torchrun's variables this is rank 0 of 1."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (ranks.rank(), ranks.world_size()) == (0, 1)


def test_torchrun_tells_rank_and_world_size(monkeypatch):
    """Under torchrun both come from the environment, read anew at each call."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (ranks.rank(), ranks.world_size()) == (3, 8)


@pytest.mark.parametrize("value", ["", "first", "1.5"])
def test_variables_that_are_no_numbers_are_ignored(monkeypatch, value):
    """A scheduler's odd RANK is as good as none."""
    monkeypatch.setenv("RANK", value)
    monkeypatch.setenv("WORLD_SIZE", value)
    assert (ranks.rank(), ranks.world_size()) == (0, 1)
