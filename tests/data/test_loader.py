"""Against torch's own loader: everything alike, and the measuring on top."""

import copy
import inspect
import pickle
import time
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.utils.data as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork._core.meters import entered
from lampwork.data import DataLoader

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class Numbers(reference.Dataset):
    """Samples of one form or another, with noise from torch's generator; may fail at one index."""

    def __init__(self, form, size, fails_at=None):
        self.form, self.size, self.fails_at = form, size, fails_at

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index == self.fails_at:
            raise KeyError(f"no sample {index}")
        noise = torch.rand(3)
        return {
            "tensor": noise + index,
            "tuple": (noise + index, index),
            "dict": {"x": noise, "y": (index, str(index))},
            "number": float(index),
        }[self.form]


class Stream(reference.IterableDataset):
    """The same samples one after another; each worker yields them all."""

    def __init__(self, *args):
        self.samples = Numbers(*args)

    def __iter__(self):
        return (self.samples[index] for index in range(len(self.samples)))


class SizedStream(Stream):
    def __len__(self):
        return len(self.samples)


@dataclass(frozen=True)
class Program:
    """What is done with a loader: how it is made, how far it is followed, how often."""

    kind: type
    form: str
    size: int
    fails_at: int | None
    options: dict[str, Any]
    own_generator: bool
    seed: int
    stop: int | None
    epochs: int

    def run(self, loader_class):
        """All that can be seen from outside: batches, length, errors, random state."""
        torch.manual_seed(self.seed)
        generator = torch.Generator().manual_seed(self.seed) if self.own_generator else None
        dataset = self.kind(self.form, self.size, self.fails_at)
        seen, sizes, loader, iterators = [], [], None, []
        try:
            loader = loader_class(dataset, generator=generator, **self.options)
            for _ in range(self.epochs):
                seen.append("epoch")
                sizes.append([])
                iterators.append(iter(loader))
                for number, batch in enumerate(iterators[-1]):
                    seen.append(batch)
                    sizes[-1].append(self.samples_in(batch))
                    if number == self.stop:
                        break
            seen.append(len(loader))
        except Exception as error:
            seen.append((type(error), without_frames(str(error))))
        end_workers(*iterators)
        states = [torch.get_rng_state()] + ([generator.get_state()] if generator else [])
        return seen, states, sizes, loader

    def samples_in(self, batch):
        if self.options["batch_size"] is None and self.options["batch_sampler"] is None:
            return 1
        batch = batch["x"] if isinstance(batch, dict) else batch
        return len(batch[0]) if isinstance(batch, list) else len(batch)


def without_frames(text):
    """An error's text without the lines of the traceback that it carries: those are of the engine.

    What stays are the words that lead to it, and the error itself.
    """
    head, mark, traceback = text.partition("Original Traceback")
    return head + mark + traceback.strip().rpartition("\n")[2]


def end_workers(*iterators):
    """Ends the workers now: left to the garbage collector, each keeps it for five seconds."""
    for iterator in iterators:
        if hasattr(iterator, "_workers"):
            iterator._shutdown_workers()


def identical(one, other):
    """Equal to the last bit, in type, dtype and value."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    return one == other


@st.composite
def programs(draw, workers):
    """Anything one may do with a loader that has so many workers."""
    kind = draw(st.sampled_from([Numbers, Numbers, Numbers, Stream, SizedStream]))
    size = draw(st.integers(0, 17))
    indices = st.integers(0, max(size - 1, 0))
    orders = ["given", "shuffle", "sampler", "batch_sampler"] if kind is Numbers else ["given"]
    order = draw(st.sampled_from(orders))
    options = {"num_workers": workers, "batch_size": 1, "batch_sampler": None}
    if order == "batch_sampler":
        options["batch_sampler"] = draw(st.lists(st.lists(indices, min_size=1, max_size=6)))
    elif draw(st.booleans()):
        options["batch_size"] = draw(st.sampled_from([None, 3]))
    else:
        options |= {"batch_size": draw(st.integers(1, 5)), "drop_last": draw(st.booleans())}
    if order == "shuffle":
        options["shuffle"] = True
    if order == "sampler":
        options["sampler"] = draw(st.lists(indices, max_size=9))
    if workers:
        options["persistent_workers"] = draw(st.booleans())
        options["prefetch_factor"] = draw(st.integers(1, 3))
    return Program(
        kind=kind,
        form=draw(st.sampled_from(["tensor", "tuple", "dict", "number"])),
        size=size,
        fails_at=draw(st.sampled_from([None, None, draw(indices)])),
        options=options,
        own_generator=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32)),
        stop=draw(st.none() | st.integers(0, 3)),
        epochs=draw(st.integers(1, 2)),
    )


def assert_alike(program):
    """Torch's loader and ours show the same, and ours has counted right."""
    seen, states, _, _ = program.run(reference.DataLoader)
    our_seen, our_states, sizes, loader = program.run(DataLoader)
    assert identical(our_seen, seen)
    assert identical(our_states, states)
    if sizes:
        assert (loader.stats().batches, loader.stats().samples) == (len(sizes[-1]), sum(sizes[-1]))


@settings(max_examples=300, deadline=None)
@given(programs(workers=0))
def test_like_torch(program):
    """Whatever is done with it, a loader does what torch's does, to the last bit."""
    assert_alike(program)


@settings(max_examples=40, deadline=None)
@given(programs(workers=2))
def test_like_torch_with_workers(program):
    """The same with two workers, persistent or not."""
    assert_alike(program)


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": [0], "shuffle": True},
        {"batch_sampler": [[0]], "batch_size": 2},
        {"batch_sampler": [[0]], "shuffle": True},
        {"batch_sampler": [[0]], "sampler": [0]},
        {"batch_sampler": [[0]], "drop_last": True},
        {"batch_size": None, "drop_last": True},
        {"batch_size": 0},
        {"num_workers": -1},
        {"timeout": -1},
        {"prefetch_factor": 2},
        {"num_workers": 1, "prefetch_factor": -1},
        {"persistent_workers": True},
        {"multiprocessing_context": "spawn"},
        {"num_workers": 1, "multiprocessing_context": "by magic"},
        {"dataset": Stream("number", 3), "shuffle": True},
        {"dataset": Stream("number", 3), "sampler": [0]},
        {"dataset": Stream("number", 3), "batch_sampler": [[0]]},
        {"speed": "high"},
    ],
)
def test_refuses_what_torch_refuses(options):
    """An argument that torch refuses is refused in the same words."""
    options = {"dataset": range(3), **options}
    with pytest.raises((TypeError, ValueError)) as theirs:
        reference.DataLoader(**options)
    with pytest.raises(theirs.type) as ours:
        DataLoader(**options)
    assert str(ours.value) == str(theirs.value)


def test_a_collate_fn_is_used():
    """A custom collate_fn makes the batches, and the samples are still counted."""
    loader = DataLoader(range(7), batch_size=3, collate_fn=sum)
    assert list(loader) == [3, 12, 6]
    assert loader.stats().samples == 7


def test_takes_what_torch_takes():
    """Every argument of torch's is there, in its place, with its default; ours are keywords."""
    theirs = inspect.signature(reference.DataLoader).parameters
    ours = inspect.signature(DataLoader).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default)
    assert {ours[name].kind for name in [*ours][len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}
    assert issubclass(DataLoader, reference.DataLoader)


@pytest.mark.parametrize("workers", [0, 1])
def test_profiles_and_errors_name_what_torch_names(workers):
    """The iterators carry torch's names into profiles and into the refusal to be pickled."""
    ours, theirs = (
        iter(cls(range(3), num_workers=workers)) for cls in (DataLoader, reference.DataLoader)
    )
    assert isinstance(ours, type(theirs))
    assert ours._profile_name == theirs._profile_name
    with pytest.raises(NotImplementedError) as their_refusal:
        pickle.dumps(theirs)
    with pytest.raises(NotImplementedError) as our_refusal:
        pickle.dumps(ours)
    assert our_refusal.value.args == their_refusal.value.args
    end_workers(ours, theirs)


def test_a_warning_points_at_the_users_line():
    """What torch warns the caller of next() about is still attributed to the caller."""

    class TooLong(Stream):
        def __len__(self):
            return 1

    loader = DataLoader(TooLong("number", 2), batch_size=None)
    assert len(loader) == 1
    with pytest.warns(UserWarning, match="was reported to be 1") as warned:
        list(loader)
    assert warned[0].filename == __file__


def test_a_loader_is_no_iterator():
    """next() is for what iter() returns."""
    loader = DataLoader(range(3))
    assert next(iter(loader)) == 0
    with pytest.raises(TypeError, match="'DataLoader' object is not an iterator"):
        next(loader)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, "pickle"])
def test_a_copy_measures_its_own(duplicate):
    """A copied or unpickled loader gives the same batches, and has figures of its own."""
    if duplicate == "pickle":
        duplicate = lambda loader: pickle.loads(pickle.dumps(loader))  # noqa: E731
    loader = DataLoader(range(10), batch_size=4)
    batches = list(loader)
    twin = duplicate(loader)
    assert twin.stats().batches == 0
    assert identical(list(twin), batches)
    next(iter(twin))
    assert (loader.stats().batches, twin.stats().batches) == (3, 1)


def test_made_again_from_its_attributes():
    """A framework that makes a loader anew from its attributes gets one that works and measures."""
    loader = DataLoader(Numbers("dict", 9), batch_size=4, drop_last=True, sampler=[8, 1, 2, 3, 5])
    names = inspect.signature(type(loader)).parameters
    arguments = {name: value for name, value in vars(loader).items() if name in names}
    del arguments["batch_sampler"]
    again = type(loader)(**arguments)
    torch.manual_seed(0)
    batches = list(loader)
    torch.manual_seed(0)
    assert identical(list(again), batches)
    assert again.stats().samples == loader.stats().samples == 4


def test_samples_are_exact_out_of_order():
    """With in_order=False each batch is counted with its own size as it arrives."""
    sizes = [3, 1, 4, 1, 5, 2, 6]
    batches = [[slow] + [1] * (size - 1) for slow, size in zip([0] + [1] * 6, sizes, strict=True)]
    loader = DataLoader(SlowAtZero(), batch_sampler=batches, num_workers=2, in_order=False)
    arrived = []
    for batch in loader:
        arrived.append(len(batch))
        assert loader.stats().samples == sum(arrived)
    assert arrived[0] != 3
    assert sorted(arrived) == sorted(sizes)


class SlowAtZero(reference.Dataset):
    def __getitem__(self, index):
        time.sleep(0 if index else 0.5)
        return index


def test_a_batch_that_failed_is_not_counted():
    """After an error the loader goes on as torch's does, and counts only what was handed over."""
    loader = DataLoader(Numbers("number", 7, fails_at=3), batch_size=2, num_workers=1)
    batches, errors, iterator = [], [], iter(loader)
    while True:
        try:
            batches.append(next(iterator))
        except KeyError as error:
            errors.append(error)
        except StopIteration:
            break
    assert len(errors) == 1
    assert (loader.stats().batches, loader.stats().samples) == (3, 5)


@pytest.mark.parametrize("index", [slice(2, 5), (i for i in (2, 3, 4))])
def test_a_batch_of_indices_without_a_length(index):
    """Where the sampler's batch has no length, the samples are counted in what it became."""

    class Sliced(Numbers):
        def __getitems__(self, indices):
            return list(range(9)[indices] if isinstance(indices, slice) else indices)

    loader = DataLoader(Sliced("number", 9), batch_sampler=[index])
    assert next(iter(loader)).tolist() == [2, 3, 4]
    assert loader.stats().samples == 3


def test_lists_of_indices_without_batching():
    """A sampler that gives lists while batch_size=None loads that many samples at once."""
    loader = DataLoader(torch.arange(10), batch_size=None, sampler=[[1, 2, 3], [4]])
    assert [batch.tolist() for batch in loader] == [[1, 2, 3], [4]]
    assert loader.stats().samples == 4


def test_a_stream_is_never_counted_beyond_what_was_asked_for():
    """Where collating leaves another dimension in front, a batch counts as its batch size."""
    loader = DataLoader(Stream("tensor", 4), batch_size=2, collate_fn=torch.cat)
    assert [len(batch) for batch in loader] == [6, 6]
    assert loader.stats().samples == 4


class TakesASecond(Numbers):
    """A dataset whose samples take a second each on the fake clock."""

    def __init__(self, clock, size, fails_at=None):
        super().__init__("number", size, fails_at)
        self.clock = clock

    def __getitem__(self, index):
        self.clock.go(1.0)
        return super().__getitem__(index)


class SlowToBegin:
    """A sampler that takes eight seconds to make its order."""

    def __init__(self, clock, size):
        self.clock, self.size = clock, size

    def __iter__(self):
        self.clock.go(8.0)
        return iter(range(self.size))

    def __len__(self):
        return self.size


def timed(stats):
    """The figures that a test of time compares."""
    return stats.batches, stats.samples, stats.wait_s, stats.epoch_s


def test_the_wait_to_the_second(clock):
    """The loop waits exactly as long as the samples took, and the epoch adds the loop's work."""
    loader = DataLoader(TakesASecond(clock, 5), batch_size=2)
    for _ in loader:
        clock.go(4.0)
    assert timed(loader.stats()) == (3, 5, 5.0, 17.0)
    assert loader.stats().wait_share == 5.0 / 17.0


def test_a_broken_off_epoch(clock):
    """After a break the epoch lasts until the last batch was handed over."""
    loader = DataLoader(TakesASecond(clock, 9), batch_size=2)
    for number, _ in enumerate(loader):
        if number == 1:
            break
        clock.go(4.0)
    clock.go(100.0)
    assert timed(loader.stats()) == (2, 4, 4.0, 8.0)


def test_figures_while_the_epoch_runs(clock):
    """In the middle of an epoch the figures are those so far."""
    loader = DataLoader(TakesASecond(clock, 9), batch_size=2)
    so_far = []
    for _ in loader:
        so_far.append(timed(loader.stats()))
        clock.go(1.0)
    assert so_far[:3] == [(1, 2, 2.0, 2.0), (2, 4, 4.0, 5.0), (3, 6, 6.0, 8.0)]


def test_an_error_takes_time_too(clock):
    """The wait for a batch that failed is part of the figures."""
    loader = DataLoader(TakesASecond(clock, 9, fails_at=3), batch_size=2)
    with pytest.raises(KeyError):
        list(loader)
    assert timed(loader.stats()) == (1, 2, 4.0, 4.0)


def test_the_start_is_waiting(clock):
    """What happens before the first batch is asked for counts as waiting for it."""
    loader = DataLoader(TakesASecond(clock, 2), batch_size=2, sampler=SlowToBegin(clock, 2))
    list(loader)
    assert timed(loader.stats()) == (1, 2, 10.0, 10.0)


def test_persistent_workers(clock):
    """Each epoch of persistent workers is measured anew, from the start of the workers on."""
    loader = DataLoader(
        range(10),
        batch_size=4,
        num_workers=2,
        persistent_workers=True,
        sampler=SlowToBegin(clock, 10),
    )
    for epoch in range(3):
        iterator = iter(loader)
        clock.go(1.0)
        next(iterator)
        assert timed(loader.stats()) == (1, 4, 8.0, 9.0)
        clock.go(2.0)
        assert [len(batch) for batch in iterator] == [4, 2]
        assert timed(loader.stats()) == (3, 10, 8.0, 11.0)
        assert ("the workers had to start" in loader.stats().bottleneck) == (epoch == 0)


def test_the_latest_of_two_iterators_counts():
    """Of two iterators over one loader the later one is reported, in whatever turn they go."""
    loader = DataLoader(range(10), batch_size=4)
    older, newer = iter(loader), iter(loader)
    for iterator in (older, newer, older, older):
        next(iterator)
    assert (loader.stats().batches, loader.stats().samples) == (1, 4)


def test_a_loader_is_listed_under_its_dataset():
    """Once it has been iterated over, a loader's meter is listed, with the dataset's class."""
    loader = DataLoader(Numbers("number", 3))
    assert loader._meter not in entered()
    for _ in range(2):
        list(loader)
        assert entered()[-1] is loader._meter
        assert entered().count(loader._meter) == 1
        assert loader._meter.dataset == "Numbers"
