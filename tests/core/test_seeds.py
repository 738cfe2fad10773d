"""One random stream per purpose: pinned for ever."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from lampwork._core.seeds import derive


def test_seeds_are_these_numbers_for_ever():
    """The same seed and purpose give the same 64-bit number on every platform and version."""
    assert derive(0) == 8493733112532773764
    assert derive(0, "init", "layer1.0.weight") == 6955254137538879635
    assert derive(1, "init", "layer1.0.weight") == 14996459497607002497
    assert derive(-1, "order", 3) == 16540038510196459093


def test_seeds_do_not_depend_on_the_hash_seed():
    """Another interpreter, with another PYTHONHASHSEED, derives the same number."""
    code = "from lampwork._core.seeds import derive; print(derive(7, 'a', 'é'))"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        assert int(run.stdout) == derive(7, "a", "é")


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=3), st.integers(0, 5))
def test_purposes_do_not_run_together(purpose, seed):
    """Moving a letter from one part of the purpose to the next gives another stream."""
    assert 0 <= derive(seed, *purpose) < 2**64
    joined = "".join(purpose)
    if len(purpose) > 1:
        assert derive(seed, *purpose) != derive(seed, joined)
    assert derive(seed, *purpose) != derive(seed + 1, *purpose)


def test_a_thousand_names_have_a_thousand_seeds():
    """No two parameters of a large model share a stream, and all 64 bits are used."""
    seeds = [derive(0, "init", f"layers.{i}.weight") for i in range(1000)]
    assert len(set(seeds)) == 1000
    for bit in range(64):
        assert 400 < sum(seed >> bit & 1 for seed in seeds) < 600
