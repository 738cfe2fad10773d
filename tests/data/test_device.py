"""Batches on their way to a CUDA device: pinned, copied ahead, and never overwritten meanwhile."""

import itertools

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import Dataset, TensorDataset

from lampwork.data import DataLoader, device

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SIZE = (3, 64, 64)
BATCHES = 24
CLOCKS = 20_000_000  # some 10 ms of a device that is late


class Images(Dataset):
    """Sample i is filled with i."""

    def __init__(self, count=4 * BATCHES):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return {"x": torch.full(SIZE, float(i)), "i": i, "name": f"sample {i}"}


class Box:
    """A batch of a kind of its own, which knows how to move."""

    def __init__(self, x):
        self.x = x

    def to(self, where):
        """The same on a device."""
        return Box(self.x.to(where))


def as_packed(samples):
    """A batch of sequences."""
    return pack_sequence([s["x"].flatten()[: 5 - n] for n, s in enumerate(samples)])


def as_box(samples):
    """A batch in a box."""
    return Box(torch.stack([s["x"] for s in samples]))


def loader(**options):
    """Of two workers, whose memory holds little more than what is under way."""
    return DataLoader(Images(), 4, **{"num_workers": 2, "arena_bytes": 0, **options})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("pin", [False, True])
def test_batches_on_the_device_are_those_of_the_cpu(workers, pin):
    """Tensors are there and equal; what is no tensor stays as it is."""
    moved = loader(device="cuda", num_workers=workers, pin_memory=pin)
    for batch, expected in zip(moved, loader(num_workers=workers), strict=True):
        assert batch["x"].is_cuda
        assert batch["i"].is_cuda
        assert torch.equal(batch["x"].cpu(), expected["x"])
        assert batch["name"] == expected["name"]


@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_batches_are_pinned(workers):
    """With `pin_memory=True` every tensor is in page-locked memory, and equal."""
    pinned = loader(pin_memory=True, num_workers=workers)
    for batch, expected in zip(pinned, loader(num_workers=workers), strict=True):
        assert batch["x"].is_pinned()
        assert batch["i"].is_pinned()
        assert torch.equal(batch["x"], expected["x"])


@pytest.mark.parametrize("workers", [0, 2])
def test_data_in_memory_arrives_on_the_device(workers):
    """So does what is gathered here, of CPU and of CUDA tensors."""
    for data in (torch.arange(40.0), torch.arange(40.0, device="cuda")):
        batches = list(DataLoader(TensorDataset(data), 8, num_workers=workers, device="cuda"))
        assert torch.equal(torch.cat([x for (x,) in batches]).cpu(), torch.arange(40.0))
        assert all(x.is_cuda for (x,) in batches)


class Reusing(device._ToCuda):
    """What must not be done: one page-locked buffer for all batches."""

    buffer = None

    def send(self, batch):
        """Copy through the buffer."""
        if self.buffer is None or self.buffer.shape != batch["x"].shape:
            self.buffer = torch.empty_like(batch["x"], pin_memory=True)
        self.buffer.copy_(batch["x"])
        return super().send({**batch, "x": self.buffer})


def contents(iterator):
    """What each batch was filled with, read only after all have been handed over late."""
    stream = iterator._handover._way._stream
    seen = []
    while True:
        with torch.cuda.stream(stream):
            torch.cuda._sleep(CLOCKS)  # the next copy comes late
        batch = next(iterator, None)
        if batch is None:
            break
        seen.append((batch["x"], batch["i"]))
    torch.cuda.synchronize()
    return all((x == i.view(-1, 1, 1, 1)).all() for x, i in seen)


def test_no_memory_is_used_again_while_it_is_copied():
    """However late the copies are, every batch has its own contents."""
    assert contents(iter(loader(device="cuda")))


def test_the_test_above_would_find_it():
    """A buffer that is used again while a copy out of it is under way is found."""
    iterator = iter(loader(device="cuda"))
    iterator._handover = device._Ahead(Reusing(torch.device("cuda")))
    assert not contents(iterator)


def test_what_the_loop_still_uses_is_not_overwritten():
    """A batch that is let go of while its stream works on it keeps its memory until then."""
    results = []
    for batch in loader(device="cuda"):
        torch.cuda._sleep(CLOCKS)
        results.append((batch["x"].mean((1, 2, 3)), batch["i"]))
        del batch
    torch.cuda.synchronize()
    for mean, i in results:
        assert torch.equal(mean, i.float())


def test_pinned_memory_is_not_used_again_while_it_is_copied():
    """The same for batches that the training loop copies itself."""
    seen = []
    for batch in loader(pin_memory=True):
        torch.cuda._sleep(CLOCKS)
        seen.append((batch["x"].to("cuda", non_blocking=True), batch["i"]))
        del batch
    torch.cuda.synchronize()
    assert all((x.cpu() == i.view(-1, 1, 1, 1)).all() for x, i in seen)


@pytest.mark.parametrize("collate", [as_packed, as_box])
def test_objects_that_move_themselves(collate):
    """What is inside of them is on the device, equal, and not overwritten while it is used."""
    seen = []
    pairs = zip(loader(device="cuda", collate_fn=collate), loader(collate_fn=collate), strict=True)
    for there, here in pairs:
        torch.cuda._sleep(CLOCKS // 4)
        packed = isinstance(there, PackedSequence)
        one, other = (there.data, here.data) if packed else (there.x, here.x)
        assert one.is_cuda
        seen.append((one * 1, other.clone()))
        del there, here, one, other
    assert all(torch.equal(one.cpu(), other) for one, other in seen)


def test_nothing_waits_for_the_device():
    """Taking batches is allowed where waiting is an error."""
    for workers in (0, 2):
        iterator = iter(loader(device="cuda", num_workers=workers))
        next(iterator)
        torch.cuda.set_sync_debug_mode("error")
        try:
            kept = list(itertools.islice(iterator, 5))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len(kept) == 5
