"""Feed: from a dataset to a batch.

`DataLoader` is torch's, and it measures; `LoaderStats` is what it measured. `check` tells what is
wrong with a custom dataset, as a list of `Problem`.
"""

from lampwork.data.check import Problem, check
from lampwork.data.loader import DataLoader
from lampwork.data.meter import LoaderStats

__all__ = ["DataLoader", "LoaderStats", "Problem", "check"]
