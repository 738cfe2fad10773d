"""Accelerate with our loader: what `prepare` makes of it, and how our engine can stay.

`prepare` makes a loader of torch's own class from the dataset, samplers and arguments of whatever
it is given, so that a subclass loses its engine and its own arguments. `loads_with_ours` of
conftest.py puts them back. Saving and loading in mid-epoch rests on `DataLoader.state_dict`.
"""

from typing import Any

import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader
from tests.frameworks.conftest import (
    BATCH,
    BATCHES,
    LOADERS,
    SIZE,
    WORKERS,
    Noisy,
    loads_with_ours,
    loss_of,
    regression,
    shown,
    weights,
)

accelerate = pytest.importorskip("accelerate")
data_loader = pytest.importorskip("accelerate.data_loader")

pytestmark = [
    pytest.mark.usefixtures("fresh_accelerate"),
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


def prepare_as_torchs(accelerator, options):
    """Torch's loader, prepared."""
    return accelerator.prepare(reference.DataLoader(Noisy(), **options))


def prepare_ours(accelerator, options):
    """Our loader, prepared: torch's engine."""
    return accelerator.prepare(DataLoader(Noisy(), **options))


def prepare_and_keep(accelerator, options):
    """Our loader, prepared, with our engine put back."""
    loader = DataLoader(Noisy(), **options)
    return loads_with_ours(accelerator.prepare(loader), loader)


def trained(prepare, options, epochs=2):
    """What a training loop with gradient accumulation sees, step by step, and ends with."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=3)
    prepared = prepare(accelerator, {"batch_size": BATCH, "shuffle": True, **options})
    model = regression()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    torch.manual_seed(0)
    seen = []
    for _ in range(epochs):
        for batch in prepared:
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model, batch))
                optimizer.step()
                optimizer.zero_grad()
            last = prepared.end_of_dataloader
            seen.append((batch[1].tolist(), accelerator.sync_gradients, last, prepared.remainder))
    return seen, weights(model).tolist(), prepared


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("prepare", [prepare_ours, prepare_and_keep])
def test_trains_as_with_torchs(prepare, workers):
    """Batches, accumulation, the end of the epoch and the weights are those of torch's loader."""
    seen, end, _ = trained(prepare_as_torchs, workers)
    our_seen, our_end, _ = trained(prepare, workers)
    assert our_seen == seen
    assert our_end == end
    # The fourth batch is the last: it is known as such, and gradients are not carried over it.
    assert [(sync, last) for _, sync, last, _ in our_seen[:BATCHES]] == [
        (False, False),
        (False, False),
        (True, False),
        (True, True),
    ]


def test_prepare_takes_the_engine_away():
    """What `prepare` returns loads with torch's engine, and knows nothing of our arguments."""
    prepared = prepare_ours(accelerate.Accelerator(cpu=True), {"on_error": "skip"})
    assert type(prepared.base_dataloader) is reference.DataLoader
    assert not hasattr(prepared, "on_error")


@pytest.mark.parametrize(("workers", "engine"), [(0, "inline"), (2, "arena")])
def test_the_engine_can_stay(workers, engine):
    """With our loader inside, the prepared one loads with our engine and tells our figures."""
    _, _, prepared = trained(prepare_and_keep, {"num_workers": workers, "on_error": "skip"})
    assert isinstance(prepared, data_loader.DataLoaderShard)
    assert (prepared.on_error, prepared.stats().engine) == ("skip", engine)
    assert prepared.stats().samples == SIZE


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_shards_as_with_torchs(rank, split, workers):
    """Each of two ranks is given the batches that it would be given from torch's loader."""
    accelerate.Accelerator(cpu=True)
    seen = []
    for cls in LOADERS:
        torch.manual_seed(0)
        loader = cls(Noisy(), batch_size=2, shuffle=True, num_workers=workers)
        prepared = data_loader.prepare_data_loader(
            loader, num_processes=2, process_index=rank, split_batches=split
        )
        if cls is DataLoader:
            prepared = loads_with_ours(prepared, loader)
        seen.append([shown(prepared), shown(prepared)])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("prepare", [prepare_ours, prepare_and_keep, None])
def test_skips_first_batches(prepare):
    """`skip_first_batches` leaves out as many, of a prepared loader and of a bare one."""
    accelerator = accelerate.Accelerator(cpu=True)
    options: dict[str, Any] = {"batch_size": BATCH, "num_workers": 2}
    loader = prepare(accelerator, options) if prepare else DataLoader(Noisy(), **options)
    assert shown(accelerator.skip_first_batches(loader, 2)) == [[6, 7, 8], [9, 10]]


class Stream(reference.IterableDataset):
    def __iter__(self):
        return iter(Noisy()[index] for index in range(SIZE))


def test_a_stream_is_dispatched():
    """Of a stream accelerate makes another kind of loader, which shows every sample as well."""
    prepared = accelerate.Accelerator(cpu=True).prepare(DataLoader(Stream(), batch_size=BATCH))
    assert isinstance(prepared, data_loader.DataLoaderDispatcher)
    assert shown(prepared) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]


@pytest.mark.parametrize("workers", [0, 2])
def test_saves_and_loads_in_mid_epoch(tmp_path, workers):
    """`save_state` and `load_state` carry our loader's state: exactly the rest comes, then all."""
    options = {"batch_size": BATCH, "shuffle": True, "num_workers": workers}
    accelerator = accelerate.Accelerator(cpu=True)
    iterator = iter(prepare_and_keep(accelerator, options))
    shown([next(iterator), next(iterator)])
    accelerator.save_state(tmp_path / "state")
    rest = shown(iterator)

    accelerator.free_memory()
    torch.manual_seed(99)
    again = prepare_and_keep(accelerator, {**options, "num_workers": 2 - workers})
    accelerator.load_state(tmp_path / "state")
    assert shown(again) == rest
    assert sorted(index for rows in shown(again) for index in rows) == list(range(SIZE))


def sharded(seed, **options):
    """The second of two ranks' loader, in a process with a random state of its own."""
    torch.manual_seed(seed)
    loader = DataLoader(Noisy(), batch_size=2, shuffle=True)
    return loads_with_ours(
        data_loader.prepare_data_loader(loader, num_processes=2, process_index=1, **options),
        loader,
    )


@pytest.mark.parametrize(
    "options", [{}, {"use_seedable_sampler": True, "data_seed": 5}], ids=["plain", "seedable"]
)
def test_a_shard_resumes(options):
    """A rank resumes in its own shard, in the order of the epoch that the state was saved in."""
    accelerate.Accelerator(cpu=True)
    prepared = sharded(seed=0, **options)
    shown(prepared)
    iterator = iter(prepared)
    next(iterator)
    state = prepared.state_dict()
    rest = shown(iterator)
    again = sharded(seed=1, **options)
    again.load_state_dict(state)
    assert shown(again) == rest
