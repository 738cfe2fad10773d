"""What a loader does beyond torch's: keyed randomness, skipping, sharing out samples, devices."""

import random
import time
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import Dataset, IterableDataset, TensorDataset, default_collate

from lampwork._core.errors import InputError
from lampwork.data import DataLoader
from lampwork.data.workers import auto
from tests.data.test_loader import identical
from tests.data.test_state import Noisy, epoch, followed, numbers

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

Point = namedtuple("Point", "x tags")


def generators():
    """The states of python's, numpy's and torch's generator, comparable with ==."""
    return (
        random.getstate(),
        repr(np.random.get_state(legacy=False)),
        torch.get_rng_state().tolist(),
    )


# rng="keyed"


def keyed(seed=3, size=17, **options):
    """A keyed, shuffled loader of noisy samples, whose generator has this seed."""
    generator = torch.Generator().manual_seed(seed)
    options = {"shuffle": True, "generator": generator} | options
    return DataLoader(Noisy(size), 3, rng="keyed", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 1},
        {"num_workers": 2, "persistent_workers": True},
        {"num_workers": 3, "prefetch_factor": 1},
        {"num_workers": 2, "parallel": "sample"},
        {"num_workers": 0, "parallel": "sample"},
        {"num_workers": "auto"},
    ],
)
def test_keyed_samples_do_not_depend_on_the_workers(options):
    """Random augmentation is the same to the last bit whoever does it, in each epoch another."""
    here, there = keyed(), keyed(**options)
    first, second = epoch(here), epoch(here)
    # Not ended in between: persistent workers are to make both epochs.
    assert identical(list(there), first)
    assert identical(epoch(there), second)
    for field in (1, 2, 3):  # drawn from python's, numpy's and torch's generator
        noise = torch.cat([batch[field].reshape(len(batch[0]), -1) for batch in first + second])
        assert len(noise.unique(dim=0)) == 2 * 17


@pytest.mark.parametrize("workers", [(0, 2), (2, 0), (2, 2)])
def test_keyed_samples_after_a_resume(workers):
    """A resumed epoch draws what the whole one would have drawn, by any number of workers."""
    whole = epoch(keyed())
    had, state = followed(keyed(num_workers=workers[0]), 2)
    resumed = keyed(seed=4, num_workers=workers[1])
    resumed.load_state_dict(state)
    assert identical(had + epoch(resumed), whole)


@pytest.mark.parametrize("stop", [1, 3])
def test_keyed_loading_leaves_the_generators_alone(stop):
    """Keyed samples loaded in the training process draw nothing from its three generators."""
    loader = keyed(num_workers=0)
    iterator = iter(loader)
    before = generators()
    for _ in range(stop):
        next(iterator)
    assert generators() == before


class Jittered(IterableDataset):
    def __iter__(self):
        return (torch.rand(()) for _ in range(7))


def test_keyed_stream():
    """A stream is keyed by the position too: one worker draws what no worker draws."""
    made = lambda workers: DataLoader(  # noqa: E731
        Jittered(),
        2,
        num_workers=workers,
        rng="keyed",
        generator=torch.Generator().manual_seed(1),
    )
    assert identical(epoch(made(0)), epoch(made(1)))


# on_error="skip"


class Broken(Dataset):
    """Fails at some indices; with `together` it has `__getitems__`, which fails as a whole."""

    def __init__(self, size, *broken):
        self.size, self.broken = size, broken

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index in self.broken:
            raise ValueError(f"no sample {index}")
        return torch.tensor(index)


class BrokenTogether(Broken):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


SKIPPING = [{}, {"num_workers": 2}, {"num_workers": 2, "parallel": "sample"}]


@pytest.mark.parametrize("options", SKIPPING)
@pytest.mark.parametrize("kind", [Broken, BrokenTogether])
def test_skipped_samples(kind, options):
    """A sample that raises is left out and listed; a batch of which nothing is left is none."""
    loader = DataLoader(kind(10, 1, 4, 5, 9), 2, on_error="skip", **options)
    batches = epoch(loader)
    assert [batch.tolist() for batch in batches] == [[0], [2, 3], [6, 7], [8]]
    stats = loader.stats()
    assert stats.skipped == [(index, f"ValueError: no sample {index}") for index in (1, 4, 5, 9)]
    assert (stats.batches, stats.samples) == (4, 6)
    assert [batch.tolist() for batch in epoch(loader)] == [[0], [2, 3], [6, 7], [8]]
    assert len(loader.stats().skipped) == 4


@pytest.mark.parametrize("options", SKIPPING)
def test_all_samples_skipped(options):
    """Where every sample raises, the epoch has no batch, and ends."""
    loader = DataLoader(Broken(5, *range(5)), 2, on_error="skip", **options)
    assert epoch(loader) == []
    assert len(loader.stats().skipped) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_single_samples(workers):
    """Without automatic batching a sample that raises is left out as well."""
    loader = DataLoader(Broken(5, 1, 2), None, num_workers=workers, on_error="skip")
    assert [int(sample) for sample in epoch(loader)] == [0, 3, 4]
    assert [index for index, _ in loader.stats().skipped] == [1, 2]


class BrokenStream(IterableDataset):
    """Goes on after an error, as a generator would not."""

    def __iter__(self):
        self.at = -1
        return self

    def __next__(self):
        self.at += 1
        if self.at == 7:
            raise StopIteration
        if self.at in (1, 4, 5):
            raise ValueError(f"no sample {self.at}")
        return self.at


@pytest.mark.parametrize("workers", [0, 1])
def test_skipped_samples_of_a_stream(workers):
    """In a stream a sample that raises costs its place; it is listed by its position."""
    loader = DataLoader(BrokenStream(), 2, num_workers=workers, on_error="skip")
    assert [batch.tolist() for batch in epoch(loader)] == [[0], [2, 3], [6]]
    assert loader.stats().skipped == [(at, f"ValueError: no sample {at}") for at in (1, 4, 5)]


@pytest.mark.parametrize("options", SKIPPING)
def test_a_collate_fn_that_fails_is_not_skipped(options):
    """Only samples are left out: an error of `collate_fn` is raised."""
    loader = DataLoader(Broken(4, 1), 2, collate_fn=refuse, on_error="skip", **options)
    with pytest.raises(KeyError, match="refused"):
        epoch(loader)


def refuse(samples):
    """A `collate_fn` that fails."""
    raise KeyError("refused")


# parallel="sample"


def in_pairs(samples):
    """A `collate_fn` that makes no tensors."""
    return [
        (int(first), int(second))
        for first, second in zip(samples[::2], samples[1::2], strict=False)
    ]


@pytest.mark.parametrize("collate_fn", [None, in_pairs])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 20])
def test_sharing_out_samples_changes_no_batch(collate_fn, workers, batch_size):
    """The batches are those of `parallel="batch"`, in content and in order."""
    options = {"batch_size": batch_size, "collate_fn": collate_fn}
    want = epoch(DataLoader(Broken(20), **options))
    shared = DataLoader(Broken(20), num_workers=workers, parallel="sample", **options)
    assert identical(epoch(shared), want)
    assert shared.stats().samples == 20


def test_samples_of_a_batch_go_to_all_workers():
    """One batch is made by all the workers together."""
    loader = DataLoader(Whose(), 16, num_workers=2, parallel="sample")
    assert {int(worker) for worker in next(iter(loader))} == {0, 1}


class Whose(Dataset):
    """Each sample is the number of the worker that loaded it."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        info = torch.utils.data.get_worker_info()
        return -1 if info is None else info.id


@pytest.mark.parametrize("parallel", ["batch", "sample"])
def test_an_error_of_a_sample_is_wrapped_as_by_torch(parallel):
    """The error of a sample arrives with its type, its worker and its traceback."""
    loader = DataLoader(Broken(8, 3), 4, num_workers=2, parallel=parallel)
    with pytest.raises(ValueError, match=r"(?s)^Caught ValueError in DataLoader worker process \d"):
        epoch(loader)
    with pytest.raises(ValueError, match=r"(?s)Original Traceback.*no sample 3"):
        epoch(loader)


def test_a_stream_cannot_share_out_samples():
    """parallel="sample" is refused for a stream, which has no indices to share out."""
    text = "parallel='sample' spreads the indices of a batch, and Jittered is an IterableDataset"
    with pytest.raises(InputError, match=text):
        DataLoader(Jittered(), 2, parallel="sample")


# num_workers="auto"


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("wanted", [0, 1, 2])
@pytest.mark.parametrize("size", [5, 40])
def test_auto_loads_each_sample_once(monkeypatch, wanted, persistent, size):
    """Before, while and after it settles, each epoch has each sample once, and is counted whole."""
    monkeypatch.setattr(auto, "needed", lambda load_s, loop_s, cores: wanted)
    loader = DataLoader(
        Broken(size), 2, shuffle=True, num_workers="auto", persistent_workers=persistent
    )
    for _ in range(3):
        batches = list(loader)
        assert sorted(numbers(batches)) == list(range(size))
        assert (loader.stats().batches, loader.stats().samples) == (len(batches), size)
    assert loader.num_workers == wanted
    assert loader.stats().engine == ("arena" if wanted else "inline")
    epoch(loader)


def test_auto_again_before_it_settled():
    """An epoch that is left before it settled may be begun again, with persistent workers too."""
    loader = DataLoader(Broken(40), 2, num_workers="auto", persistent_workers=True)
    next(iter(loader))
    assert sorted(numbers(list(loader))) == list(range(40))
    epoch(loader)


def test_auto_leaves_a_stream_in_one_piece():
    """More than one worker would repeat a stream that does not share itself out: none is taken."""
    loader = DataLoader(Jittered(), 1, num_workers="auto")
    assert len(epoch(loader)) == len(epoch(loader)) == 7
    assert loader.num_workers == 0


@pytest.mark.parametrize(
    ("load_s", "loop_s", "cores", "workers"),
    [
        ([], [], 8, 0),  # nothing is known
        ([1.0], [], 8, 0),
        ([0.04], [1.0], 8, 0),  # 4 % of the time
        ([0.06], [1.0], 8, 1),
        ([0.8], [1.0], 8, 1),  # exactly with the spare quarter
        ([0.81], [1.0], 8, 2),
        ([3.0], [1.0], 8, 4),
        ([3.0], [1.0], 2, 2),  # no more than there are cores
        ([1.0], [0.0], 8, 8),  # a loop that does nothing
        ([0.0], [0.0], 8, 1),
        ([3.0, 0.001, 0.001], [1.0], 8, 0),  # one slow batch is not the rule
    ],
)
def test_workers_needed(load_s, loop_s, cores, workers):
    """Workers that load a quarter faster than the loop trains; none where loading is negligible."""
    assert auto.needed(load_s, loop_s, cores) == workers


@given(
    st.lists(st.floats(0, 10), min_size=1),
    st.lists(st.floats(0, 10), min_size=1),
    st.integers(1, 64),
)
def test_workers_needed_in_bounds(load_s, loop_s, cores):
    """Never more workers than cores, and more cores never mean fewer workers."""
    workers = auto.needed(load_s, loop_s, cores)
    assert 0 <= workers <= cores
    assert workers <= auto.needed(load_s, loop_s, cores + 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_workers": "many"}, "num_workers is 'many': pass a number or 'auto'"),
        ({"parallel": "both"}, "parallel is 'both': pass 'batch' or 'sample'"),
        ({"rng": "seeded"}, "rng is 'seeded': pass 'torch' or 'keyed'"),
        ({"on_error": "ignore"}, "on_error is 'ignore': pass 'raise' or 'skip'"),
        ({"arena_bytes": -1}, "arena_bytes is -1: pass a number of bytes, 0 or more"),
    ],
)
def test_values_there_are_not(options, text):
    """A value that an argument cannot have is refused, with those that it can."""
    with pytest.raises(InputError, match=text):
        DataLoader(Broken(3), **options)


# device


def as_point(samples):
    """A batch in containers of several kinds."""
    return {"points": [Point(default_collate(samples), ("a", 3))], "none": None}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_batches_arrive_on_the_device(device, workers):
    """All tensors are on the device, and whatever holds them is as it was."""
    loader = DataLoader(Broken(7), 3, num_workers=workers, collate_fn=as_point, device=device)
    batches = epoch(loader)
    assert [len(batch["points"][0].x) for batch in batches] == [3, 3, 1]
    for batch in batches:
        (point,) = batch["points"]
        assert type(point) is Point
        assert point.x.device.type == device
        assert (point.tags, batch["none"]) == (("a", 3), None)
    if device == "cpu":
        assert [batch["points"][0].x.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]


def as_packed(samples):
    """A batch that is neither tensor nor plain container."""
    return pack_sequence([torch.ones(2), torch.ones(1)])


@pytest.mark.parametrize("workers", [0, 2])
def test_packed_sequences_move_themselves(workers):
    """A PackedSequence goes to the device as its own `to` says: its sizes stay on the CPU."""
    loader = DataLoader(Broken(2), 2, collate_fn=as_packed, num_workers=workers, device="meta")
    (packed,) = epoch(loader)
    assert isinstance(packed, PackedSequence)
    assert (packed.data.device.type, packed.batch_sizes.device.type) == ("meta", "cpu")


def test_data_in_memory_arrives_on_the_device():
    """So does what is gathered at once."""
    data = TensorDataset(torch.arange(4))
    for workers in (0, 2):
        loader = DataLoader(data, 2, num_workers=workers, device="meta")
        assert [batch[0].device.type for batch in epoch(loader)] == ["meta", "meta"]


@pytest.mark.parametrize("device", [None, "meta"])
def test_an_error_comes_in_its_turn(device):
    """A batch that was sent ahead is handed over before the error of the next is raised."""
    loader = DataLoader(Broken(6, 4), 2, num_workers=2, device=device)
    iterator = iter(loader)
    assert [len(next(iterator)), len(next(iterator))] == [2, 2]
    with pytest.raises(ValueError, match="no sample 4"):
        next(iterator)
    assert next(iterator, None) is None


# stats()


@pytest.mark.parametrize(
    ("dataset", "options", "engine"),
    [
        (Broken(6), {}, "inline"),
        (Broken(6), {"num_workers": 2}, "arena"),
        (Broken(6), {"num_workers": 2, "parallel": "sample"}, "arena"),
        (TensorDataset(torch.arange(6)), {"num_workers": 2}, "inline"),
    ],
)
def test_engine_is_told(dataset, options, engine):
    """The figures tell who loaded."""
    loader = DataLoader(dataset, 2, **options)
    epoch(loader)
    stats = loader.stats()
    assert (stats.engine, stats.batches, stats.samples) == (engine, 3, 6)
    assert 0 <= stats.wait_share <= 1
    assert (stats.busy_share is None) == (engine == "inline")
    assert stats.busy_share is None or 0 < stats.busy_share <= 1
    assert 0 <= stats.ready_share <= 1


class Dawdling(Broken):
    """Takes a while for its broken samples, rather than fail at them."""

    def __getitem__(self, index):
        if index in self.broken:
            time.sleep(0.25)  # longer than a busy machine keeps a worker waiting
        return index


@pytest.mark.parametrize("options", SKIPPING)
def test_slowest_samples_are_told(options):
    """The samples that took longest are told by their index, the slowest first."""
    loader = DataLoader(Dawdling(24, 5, 18), 4, **options)
    epoch(loader)
    slowest = loader.stats().slowest
    assert {index for index, _ in slowest[:2]} == {5, 18}
    assert [seconds for _, seconds in slowest] == sorted((s for _, s in slowest), reverse=True)
    assert len(slowest) <= 5
