"""What other libraries rely on in torch's loader and its iterators, beyond the documented part.

Lightning, Fabric, Ignite and torch's own checkpoints each ask for some of it: names of classes and
attributes, how a loader is made anew, and what becomes of its state.
"""

import inspect
import warnings
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp
import torch.utils.data as reference
from torch.distributed.checkpoint.stateful import Stateful
from torch.utils.data import dataloader as torchs

from lampwork.data import DataLoader

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

NUMBERS: Any = range(10)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_workers": 1},
    {"num_workers": "auto"},
    {"num_workers": 1, "persistent_workers": True, "parallel": "sample", "rng": "keyed"},
    {"on_error": "skip", "device": "cpu", "arena_bytes": 1000},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_public_attributes_are_arguments(options):
    """A loader can be made anew from its public attributes, as Ignite does, also once used."""
    loader = DataLoader(NUMBERS, batch_size=2, **options)
    whole = [batch.tolist() for batch in loader]
    arguments = {name: value for name, value in vars(loader).items() if not name.startswith("_")}
    assert arguments.keys() <= inspect.signature(DataLoader).parameters.keys()
    for dealt_with_by in ("batch_size", "sampler", "drop_last", "batch_sampler"):
        del arguments[dealt_with_by]
    again = type(loader)(**arguments, batch_sampler=loader.batch_sampler)
    assert [batch.tolist() for batch in again] == whole


@pytest.mark.parametrize("options", OPTIONS)
def test_attributes_of_torchs_are_there(options):
    """What torch's loader keeps for its iterators, ours keeps, of the same type and value."""
    ours = DataLoader(NUMBERS, batch_size=2, **options)
    theirs = reference.DataLoader(NUMBERS, batch_size=2, num_workers=ours.num_workers)
    for name in ("_auto_collation", "_dataset_kind", "_IterableDataset_len_called", "_iterator"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert type(ours._index_sampler) is type(theirs._index_sampler)
    assert type(ours.num_workers) is int


@pytest.mark.parametrize(
    "name", ["batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"]
)
def test_attributes_that_torch_guards(name):
    """What torch forbids to change once a loader is made cannot be changed in ours either."""
    with pytest.raises(ValueError, match=f"{name} attribute should not be set"):
        setattr(DataLoader(NUMBERS), name, None)


def test_the_iterator_is_kept_only_while_persistent():
    """`_iterator` holds persistent workers; Lightning asks for its class, ends them, and drops it.

    Afterwards the loader starts over with new workers.
    """
    passing = DataLoader(NUMBERS, num_workers=1)
    held = iter(passing)
    assert isinstance(held, torchs._MultiProcessingDataLoaderIter)
    assert passing._iterator is None
    held._shutdown_workers()

    loader = DataLoader(NUMBERS, num_workers=1, persistent_workers=True)
    whole = list(loader)
    kept: Any = loader._iterator
    assert isinstance(kept, torchs._MultiProcessingDataLoaderIter)
    for _ in range(2):  # as often as one likes
        kept._shutdown_workers()
    assert not any(worker.is_alive() for worker in kept._workers)
    loader._iterator = None
    assert list(loader) == whole
    assert loader._iterator is not kept


def test_is_stateful():
    """Ours counts as stateful to whoever checks for it; nobody has to register it."""
    assert isinstance(DataLoader(NUMBERS), Stateful)
    assert not isinstance(reference.DataLoader(NUMBERS), Stateful)


@pytest.mark.parametrize("workers", [0, 1])
def test_resumes_from_a_distributed_checkpoint(tmp_path, workers):
    """`torch.distributed.checkpoint` saves and loads a loader beside model and optimizer.

    It loads only what the state of the loader at hand has a place for.
    """
    loader = DataLoader(NUMBERS, batch_size=2, shuffle=True, num_workers=workers)
    iterator = iter(loader)
    next(iterator)
    with warnings.catch_warnings(action="ignore"):  # torch says that one process is not many
        dcp.save({"loader": loader}, checkpoint_id=tmp_path, no_dist=True)
        rest = [batch.tolist() for batch in iterator]
        again = DataLoader(NUMBERS, batch_size=2, shuffle=True, num_workers=workers)
        dcp.load({"loader": again}, checkpoint_id=tmp_path, no_dist=True)
    assert [batch.tolist() for batch in again] == rest
    assert sorted(index for batch in again for index in batch.tolist()) == list(NUMBERS)
