"""A dataset that holds something of every kind, and what a loader makes of it epoch by epoch."""

import numpy as np
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader

LOADERS = (reference.DataLoader, DataLoader)


class Held(reference.Dataset):
    """Eight samples that depend on what the dataset holds."""

    offset = 0
    array_of_class = np.zeros(2)

    def __init__(self):
        self.number = 1
        self.numbers = [1, {"two": 2}]
        self.array = np.arange(8.0)
        self.tensor = torch.arange(8.0)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        held = self.number + self.numbers[0] + self.numbers[1]["two"] + self.offset
        return index + held + self.array[index] + self.tensor[index] + self.array_of_class[0]


def plain(batches):
    """Batches as values that compare with ==."""
    if isinstance(batches, torch.Tensor):
        return batches.tolist()
    if isinstance(batches, list | tuple):
        return [plain(part) for part in batches]
    return batches


def epochs(loader_class, make, between=lambda dataset: None, count=2, **options):
    """What a loader gives in some epochs, something being done between them."""
    torch.manual_seed(0)
    dataset = make()
    loader = loader_class(dataset, **({"batch_size": 2, "num_workers": 2} | options))
    seen = []
    for epoch in range(count):
        if epoch:
            between(dataset)
        seen.append(plain(list(loader)))
    return seen
