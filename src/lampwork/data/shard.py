"""Which rank gets which samples: one order for all, dealt out in turn.

Unlike torch's `DistributedSampler` it neither repeats samples nor leaves any out unless told to,
so an evaluation over ranks counts each sample once; and it begins at once, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch.distributed
from torch.utils.data import DistributedSampler

from lampwork._core import ranks
from lampwork._core.errors import InputError
from lampwork.data.permutation import Indices, Permutation

CHUNK = 1 << 14
"""Indices that are worked out at a time: enough to make numpy's overhead small."""


class DistributedOrder(DistributedSampler[int]):
    """The samples of one rank: positions rank, rank + num_replicas, … of one order for all ranks.

        sampler = DistributedOrder(dataset)
        loader = lw.DataLoader(dataset, batch_size=64, sampler=sampler)
        for epoch in range(10):
            sampler.set_epoch(epoch)

    Args:
        dataset: whose samples; only its length counts.
        num_replicas: how many ranks share them, by default all of `torch.distributed`, or else
            what `torchrun` says.
        rank: whose samples, by default this process's.
        shuffle: whether the order is a random one, another in each epoch.
        seed: of the order; the same on all ranks.
        drop_last: leave out what would make ranks uneven.
        pad: repeat from the beginning what makes ranks even, as torch's `DistributedSampler`.

    Without `drop_last` and `pad` the numbers of samples differ by at most one between ranks: what
    an evaluation needs, while training under DDP needs one of the two.

    Raises:
        InputError: no replicas, a rank that is not below their number, or both `drop_last` and
            `pad`.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        *,
        pad: bool = False,
    ) -> None:
        self.dataset = dataset
        self.num_replicas = _world_size() if num_replicas is None else num_replicas
        self.rank = _rank() if rank is None else rank
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.pad = pad
        self.epoch = 0
        if self.num_replicas < 1:
            raise InputError(f"num_replicas is {self.num_replicas}: pass 1 or more")
        if not 0 <= self.rank < self.num_replicas:
            raise InputError(
                f"rank is {self.rank} of {self.num_replicas} replicas: pass a rank from 0 to "
                f"{self.num_replicas - 1}"
            )
        if drop_last and pad:
            raise InputError(
                "drop_last and pad are both True: leave out the last samples or repeat the first, "
                "not both"
            )

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch from the next pass on; without a call it stays the same."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count(0)

    def __iter__(self) -> Iterator[int]:
        for first in range(0, len(self), CHUNK):
            yield from self.indices(first, first + CHUNK).tolist()

    def count(self, taken: int) -> int:
        """How many samples this rank still has when all ranks together have taken so many."""
        rest = max(0, len(self.dataset) - taken)
        if self.drop_last:
            return rest // self.num_replicas
        if self.pad:
            return -(-rest // self.num_replicas)
        return max(0, -(-(rest - self.rank) // self.num_replicas))

    def indices(
        self,
        first: int,
        last: int,
        *,
        taken: int = 0,
        seed: int | None = None,
        epoch: int | None = None,
    ) -> Indices:
        """This rank's samples from its `first` to before its `last`, after `taken` of all ranks.

        `seed` and `epoch` are the sampler's own unless told. What comes back is (k,) int64, with
        k = last - first or fewer at the end.
        """
        last = min(last, self.count(taken))
        own = np.arange(first, last, dtype=np.int64)
        size = len(self.dataset)
        positions = (taken + self.rank + own * self.num_replicas) % max(1, size)
        if not self.shuffle:
            return positions
        seed = self.seed if seed is None else seed
        epoch = self.epoch if epoch is None else epoch
        return Permutation(size, seed, epoch).at(positions)


def torchs_share(
    sampler: DistributedSampler[Any], *, taken: int, seed: int, epoch: int
) -> torch.Tensor:
    """What torch's `DistributedSampler` has for its rank after `taken` samples of all ranks.

    With none taken that is what it yields. What is left of the order of all ranks is dealt out
    among as many ranks as there are now, and at its end padded from the beginning of the order, or
    cut, as torch does it. (k,) int64.
    """
    size = len(sampler.dataset)  # type: ignore[arg-type]
    if sampler.shuffle:
        generator = torch.Generator()
        generator.manual_seed(seed + epoch)
        order = torch.randperm(size, generator=generator)
    else:
        order = torch.arange(size, device="cpu")
    rest, ranks = order[taken:], sampler.num_replicas
    beyond = len(rest) % ranks
    if beyond and sampler.drop_last:
        rest = rest[: len(rest) - beyond]
    elif beyond:
        missing = ranks - beyond
        rest = torch.cat([rest, order.repeat(-(-missing // size))[:missing]])
    return rest[sampler.rank :: ranks].contiguous()


def _world_size() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else ranks.world_size()


def _rank() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ready else ranks.rank()
