"""What a `collate_fn` keeps in its worker stays as it was."""

import pytest
import torch
import torch.utils.data as reference
from torch.utils.data import default_collate

from lampwork.data import DataLoader


class Numbers(reference.Dataset):
    """Samples of a size that grows, so that slots have to move as well."""

    def __init__(self, grows):
        self.grows = grows

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.full((100 + index // 4 * 5_000 * self.grows,), float(index))


class WithTheSecond:
    """Hands over each batch together with the second one, which it keeps."""

    def __init__(self):
        self.kept = None
        self.batches = 0

    def __call__(self, samples):
        batch = default_collate(samples)
        self.batches += 1
        if self.batches == 2:
            self.kept = batch
        return [batch, batch if self.kept is None else self.kept]


@pytest.mark.parametrize("grows", [0, 1])
def test_a_tensor_kept_by_collate_fn_is_not_overwritten(grows):
    """A stacked tensor that a worker keeps looks in every later batch as it does with torch."""
    shown = []
    for loader_class in (reference.DataLoader, DataLoader):
        loader = loader_class(
            Numbers(grows), batch_size=2, num_workers=1, collate_fn=WithTheSecond()
        )
        shown.append([[tensor.clone() for tensor in batch] for batch in loader])
    for theirs, ours in zip(*shown, strict=True):
        assert all(map(torch.equal, ours, theirs))
