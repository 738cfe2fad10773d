"""Feed: from a dataset to a batch.

`DataLoader` is torch's with another engine; `LoaderStats` is what it measured, `DistributedOrder`
shares samples out over ranks. `check` tells what is wrong with a custom dataset, as a list of
`Problem`.
"""

from lampwork.data.check import Problem, check
from lampwork.data.loader import DataLoader
from lampwork.data.meter import LoaderStats
from lampwork.data.shard import DistributedOrder

__all__ = ["DataLoader", "DistributedOrder", "LoaderStats", "Problem", "check"]
