"""What the trainer has thrown away is not freed in a forked worker: on CUDA that would abort it."""

import gc
import os

import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


class Thrown:
    """Writes down who frees it; a part of a cycle."""

    def __init__(self, file):
        self.file, self.own = file, self

    def __del__(self):
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()}\n")


class Collecting(reference.Dataset):
    """Collects garbage with each sample, and tells whether that is otherwise done."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        gc.collect()
        return torch.tensor(gc.isenabled())


@pytest.mark.parametrize("enabled", [True, False])
def test_workers_free_nothing_of_the_trainers(tmp_path, enabled):
    """Only the trainer frees its garbage; whether garbage is collected is for the user to say."""
    file = tmp_path / "freed"
    gc.collect()
    gc.disable()
    try:
        Thrown(file)
        if enabled:
            gc.enable()
        batches = list(DataLoader(Collecting(), batch_size=2, num_workers=2))
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    gc.collect()
    assert set(file.read_text().split()) == {str(os.getpid())}
    assert [batch.tolist() for batch in batches] == [[enabled] * 2] * 2
