"""Samplers of every kind, and what is asked of their orders."""

import ast
import json

import torch
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lampwork.data import DistributedOrder

END = "end"
RANKS = (3, 1)
"""Three ranks, of which this is the second: for the samplers that know of them."""

KNOWN = [
    "sequential",
    "random",
    "random, many",
    "random, generator",
    "random, generator, many",
    "distributed",
    "distributed, cut",
    "distributed, plain",
    "ours",
    "ours, padded",
    "ours, cut",
    "ours, plain",
]
DRAWN = ["replacement", "replacement, generator", "weighted", "subset", "subset, generator"]


class Sized:
    """A dataset of which only the length is ever asked for."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size


def sampler_of(kind, size, generator=None, many=None, ranks=(1, 0)):
    """A sampler of torch's, or our `DistributedOrder`; `generator` where the kind says so."""
    data, weights = Sized(size), torch.arange(1.0, size + 1)
    generator = generator if "generator" in kind else None
    many = many if "many" in kind else None
    torchs = {"cut": {"drop_last": True}, "plain": {"shuffle": False}}
    ours = {"padded": {"pad": True}, **torchs}
    match kind.split(", ")[0]:
        case "sequential":
            return SequentialSampler(data)
        case "random":
            return RandomSampler(data, num_samples=many, generator=generator)
        case "distributed":
            return DistributedSampler(data, *ranks, **torchs.get(kind.split(", ")[-1], {}))
        case "ours":
            return DistributedOrder(data, *ranks, **ours.get(kind.split(", ")[-1], {}))
        case "replacement":
            return RandomSampler(data, replacement=True, num_samples=many, generator=generator)
        case "weighted":
            return WeightedRandomSampler(weights, 2 * size, generator=generator)
        case _:
            return SubsetRandomSampler(range(5, size + 5), generator=generator)


def plain(index):
    """An index as torch's samplers give it."""
    if isinstance(index, torch.Tensor):
        assert (index.dtype, index.dim(), index.device.type) == (torch.int64, 1, "cpu")
        return index.tolist()
    return list(index) if isinstance(index, range) else index


def batched(sampler, batch_size, drop_last):
    """The batch sampler that torch's loader makes of these."""
    return None if batch_size is None else BatchSampler(sampler, batch_size, drop_last)


def ask(iterator):
    """The next index, or `END`."""
    try:
        return plain(next(iterator))
    except StopIteration:
        return END


def drawn(iterator, generator, most=1000):
    """Up to so many indices, the end included, with the random states after each."""
    found = []
    while len(found) < most and (not found or found[-1][0] != END):
        found.append((ask(iterator), torch.get_rng_state(), generator.get_state()))
    return found


def same(one, other):
    """Whether indices and random states are alike."""
    return len(one) == len(other) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
        for a, b in zip(one, other, strict=True)
    )


def indices(found):
    """What was drawn, without the random states."""
    return [index for index, *_ in found if index != END]


def through_text(state):
    """The state as another process reads it, written as Python's literals and as JSON."""
    literal = ast.literal_eval(repr(state))
    assert literal == state
    return json.loads(json.dumps(literal))


def rest_of(order):
    """All that is left, as it is given."""
    return list(iter(lambda: next(order, END), END))
