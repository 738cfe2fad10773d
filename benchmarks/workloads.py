"""What the loader's benchmarks load: datasets whose samples cost next to nothing to make.

What is left is the loader's own work. All of them can be pickled, for workers that are not forked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

Sample = dict[str, Tensor]


def rows(samples: int) -> TensorDataset:
    """Ten features and a label."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(samples, 10, generator=generator)
    return TensorDataset(features, torch.randint(10, (samples,), generator=generator))


class Arrays(Dataset):
    """Images with a label, of which `stored` different ones are held as tensors.

    Args:
        samples: length of the dataset.
        side: of the images, (3, side, side) float32.
        stored: how many different images there are.
    """

    def __init__(self, samples: int, side: int, stored: int = 256) -> None:
        generator = torch.Generator().manual_seed(0)
        self.samples = samples
        self.images = [torch.randn(3, side, side, generator=generator) for _ in range(stored)]

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index % len(self.images)], index % 10


class Dicts(Dataset):
    """A dict of three scalars: an int, a float, a bool."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, float]:
        return {"a": index, "b": 0.5 * index, "c": index % 2 == 0}


class Scenes(Dataset):
    """A small image, its mask, and the seven tensors that object detection wants of each image."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.image = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
        self.mask = torch.zeros(32, 32, dtype=torch.bool)
        self.target = {
            "boxes": torch.full((3, 4), 0.5),
            "labels": torch.arange(3),
            "image_id": torch.tensor([0]),
            "area": torch.full((3,), 0.25),
            "iscrowd": torch.zeros(3, dtype=torch.int64),
            "orig_size": torch.tensor([32, 32]),
            "size": torch.tensor([32, 32]),
        }

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Sample]:
        # New tensors each time, as a dataset makes them: torch hands over for less what it has
        # handed over before.
        return self.image, self.mask, {name: part.clone() for name, part in self.target.items()}


def scene_batch(samples: list[tuple[Tensor, Tensor, Sample]]) -> tuple[Any, Any, list[Sample]]:
    """Images and masks stacked, targets left as they are: 2 + 7 tensors for each sample."""
    images, masks, targets = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(masks), list(targets)


class Strings(Dataset):
    """Distinct byte strings of 64 bytes, as a list of paths would be; a sample is a length.

    Args:
        size_bytes: of all strings together.
    """

    def __init__(self, size_bytes: int) -> None:
        self.strings = [b"train/%058d" % number for number in range(size_bytes // 64)]

    def __len__(self) -> int:
        return len(self.strings)

    def __getitem__(self, index: int) -> int:
        return len(self.strings[index])


class Indices(Dataset):
    """As many samples as wanted, each its own index, read in whole batches."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> int:
        return int(index)

    def __getitems__(self, indices: list[int]) -> list[int]:
        return indices


def tensors_in(batch: Any) -> int:
    """How many tensors a batch is made of."""
    if isinstance(batch, Tensor):
        return 1
    if isinstance(batch, dict):
        return sum(map(tensors_in, batch.values()))
    return sum(map(tensors_in, batch)) if isinstance(batch, list | tuple) else 0
