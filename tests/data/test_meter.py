import gc
from collections import namedtuple

import numpy as np
import pytest
import torch

from lampwork._core.meters import KEPT, entered
from lampwork.data.meter import LoaderStats, Meter, samples_in


def pass_over(meter, clock, waits_s, work_s, workers=0, starting=False, persistent=False):
    """One epoch of batches of 10: waits as given, and the same work after each."""
    epoch = meter.start(workers, starting=starting, persistent=persistent)
    for wait_s in waits_s:
        asked_s = clock.now_s
        clock.go(wait_s)
        epoch.got(10, since_s=asked_s)
        clock.go(work_s)
    return epoch


def test_before_the_first_epoch():
    """A meter that never ran tells zeros, and that nothing has been loaded."""
    assert Meter("Digits").stats() == LoaderStats(
        batches=0,
        samples=0,
        wait_s=0.0,
        epoch_s=0.0,
        wait_share=0.0,
        skipped=[],
        engine="torch",
        bottleneck="No batch has been loaded yet: iterate over the loader first.",
    )


def test_waits_are_summed_exactly(clock):
    """Waits and epoch are exact, and the work on the last batch is not part of an open epoch."""
    meter = Meter("Digits")
    pass_over(meter, clock, waits_s=[2.0, 0.5, 0.5], work_s=1.5)
    stats = meter.stats()
    assert (stats.batches, stats.samples) == (3, 30)
    assert (stats.wait_s, stats.epoch_s, stats.wait_share) == (3.0, 6.0, 0.5)


def test_the_end_of_an_epoch_is_an_answer(clock):
    """Once the loader was asked in vain for another batch, the work on the last one counts too."""
    meter = Meter("Digits")
    epoch = pass_over(meter, clock, waits_s=[2.0], work_s=1.0)
    asked_s = clock.now_s
    clock.go(0.25)
    epoch.waited(since_s=asked_s)
    stats = meter.stats()
    assert (stats.batches, stats.wait_s, stats.epoch_s) == (1, 2.25, 3.25)


def test_a_new_epoch_starts_over(clock):
    """The figures are those of the latest epoch, whatever an older iterator still does."""
    meter = Meter("Digits")
    old = pass_over(meter, clock, waits_s=[5.0, 5.0], work_s=0.0)
    pass_over(meter, clock, waits_s=[1.0], work_s=0.0)
    old.got(10, since_s=clock.now_s)
    assert (meter.stats().batches, meter.stats().wait_s) == (1, 1.0)


def test_stats_change_nothing(clock):
    """Asking for the figures, however often and late, changes none of them."""
    meter = Meter("Digits")
    pass_over(meter, clock, waits_s=[1.0, 1.0], work_s=1.0)
    before = meter.stats()
    clock.go(60.0)
    assert meter.stats() == before


@pytest.mark.parametrize(
    ("waits_s", "options", "sentence"),
    [
        ([1.0], {}, "Only one batch has been loaded: too few to tell who waits."),
        (
            [0.03125, 0.03125],
            {"workers": 2},
            "The data waits for the training loop, which waits 6% of the time: "
            "a faster loader would gain next to nothing.",
        ),
        (
            [1.0, 3.0],
            {},
            "The training loop waits for the data 80% of the time: "
            "load in the background with num_workers=2 or more.",
        ),
        (
            [1.0, 3.0],
            {"workers": 4, "starting": True},
            "The training loop waits for the data 80% of the time: "
            "raise num_workers above 4, or do less per sample in __getitem__.",
        ),
        (
            [3.0, 1.0],
            {"workers": 4, "starting": True},
            "The training loop waits for the data 80% of the time: most of that is the first "
            "batch, for which the workers had to start, and with persistent_workers=True they "
            "would stay for the next epoch.",
        ),
        (
            [3.0, 1.0],
            {"workers": 4, "starting": True, "persistent": True},
            "The training loop waits for the data 80% of the time: most of that is the first "
            "batch, for which the workers had to start, and they stay for the next epoch.",
        ),
        (
            [3.0, 1.0],
            {"workers": 4, "persistent": True},
            "The training loop waits for the data 80% of the time: "
            "raise num_workers above 4, or do less per sample in __getitem__.",
        ),
    ],
)
def test_bottleneck(clock, waits_s, options, sentence):
    """The sentence names who waits for whom, how much, and the cure that fits."""
    meter = Meter("Digits")
    pass_over(meter, clock, waits_s, work_s=1.0, **options)
    assert meter.stats().bottleneck == sentence


def test_stats_read_as_a_sentence(clock):
    """Printed, the figures are one line."""
    meter = Meter("Digits")
    pass_over(meter, clock, waits_s=[1.0, 2.0], work_s=1.0)
    assert str(meter.stats()).startswith("2 batches, 20 samples in 4 s, 3 s of it waiting. The ")
    assert "\n" not in str(meter.stats())


def test_meters_lists_what_has_started():
    """Meters are listed once, in the order in which they first began."""
    first, second, third = Meter("A"), Meter("B"), Meter("C")
    for meter in (third, first, third):
        meter.start(0, starting=False, persistent=False)
    assert [meter for meter in entered() if meter in (first, second, third)] == [third, first]
    assert third.dataset == "C"


def test_meters_outlive_their_loaders():
    """A meter stays listed when nobody else holds it, until many others have come."""
    Meter("nobody's").start(0, starting=False, persistent=False)
    gc.collect()
    assert "nobody's" in [meter.dataset for meter in entered()]
    for _ in range(KEPT):
        Meter("other").start(0, starting=False, persistent=False)
    assert "nobody's" not in [meter.dataset for meter in entered()]
    assert len(entered()) == KEPT


class Refuses:
    @property
    def shape(self):
        raise RuntimeError("a nested tensor has no shape")


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (torch.zeros(4, 3), 4),
        (torch.tensor(1.0), 1),
        (np.zeros((5, 2)), 5),
        ([torch.zeros(4, 3), torch.zeros(4)], 4),
        ({"text": ["a", "b"], "x": torch.zeros(2)}, 2),
        ({"x": {"y": torch.zeros(7, 1)}}, 7),
        ([("a", "b", "c"), torch.zeros(3)], 3),
        (namedtuple("Pair", "x y")(torch.zeros(6), torch.zeros(6)), 6),
        (["a", "b"], 2),
        ([object(), object(), object()], 3),
        ("text", 1),
        (None, 1),
        ({}, 1),
        ([], 0),
        (Refuses(), 1),
    ],
)
def test_samples_in(batch, samples):
    """A collated batch shows its samples in the leading dimension of its first tensor."""
    assert samples_in(batch) == samples


def test_totals_go_over_all_epochs(clock):
    """Waits and samples of every pass are in the totals, one that goes on only once."""
    meter = Meter("Digits")
    assert meter.totals() == (0.0, 0)
    pass_over(meter, clock, waits_s=[2.0, 0.5], work_s=1.0)
    pass_over(meter, clock, waits_s=[4.0], work_s=1.0)
    assert meter.totals() == (6.5, 30)
    going = pass_over(meter, clock, waits_s=[1.0], work_s=0.0)
    meter.start(2, starting=True, persistent=False)
    meter.go_on(going)
    going.got(10, since_s=clock.now_s)
    assert meter.totals() == (7.5, 50)
