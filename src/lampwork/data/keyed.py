"""The random state of a sample by its position: the same augmentation whoever loads it.

Python's, numpy's and torch's generators are seeded before each sample with a number that depends on
the seed of the epoch and the sample's position in it alone, not on the worker, the batch or what
was loaded before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from lampwork._core import seeds


def seed_sample(seed: int, position: int) -> None:
    """Seed this process's generators for the sample at a position of the epoch of this seed."""
    key = seeds.derive(seed, "sample", position)
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    # The CPU's generator only: `torch.manual_seed` also keeps a note for CUDA at each call.
    torch.default_generator.manual_seed(key)


@contextmanager
def own_randomness() -> Iterator[None]:
    """Whatever is drawn or seeded within leaves the three generators as they were."""
    python, numpy, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torchs)
