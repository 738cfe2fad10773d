"""A permutation that is worked out where it is asked for."""

import itertools
import math

import numpy as np
import pytest

from lampwork._core.errors import InputError
from lampwork.data import permutation
from lampwork.data.permutation import Permutation


def whole(n, seed=0, epoch=0):
    """All of it, as a list."""
    return Permutation(n, seed, epoch).slice(0, n).tolist()


def surprise(counts):
    """How many standard deviations chi-square is above what uniform counts would give."""
    counts = np.asarray(counts, dtype=float)
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def counted_orders(n, seeds):
    """How often each of the n! orders comes."""
    counts = dict.fromkeys(itertools.permutations(range(n)), 0)
    for seed in range(seeds):
        counts[tuple(whole(n, seed))] += 1
    return list(counts.values())


@pytest.mark.parametrize("seed", [0, -1, 2**64 + 3])
def test_each_index_comes_once_for_every_small_length(seed):
    """For 0 to 300 elements every index has exactly one place."""
    for n in range(301):
        assert sorted(whole(n, seed)) == list(range(n))


@pytest.mark.parametrize(
    "n", [997, 1009, 4096, 65521, 65536, 65537, 99991, 2**17, 316**2, 316**2 + 1]
)
def test_each_index_comes_once_near_primes_powers_and_squares(n):
    """Where the grid has no spare cell, or the most, every index has exactly one place."""
    found = Permutation(n, 7).slice(0, n)
    assert np.array_equal(np.bincount(found, minlength=n), np.ones(n))


@pytest.mark.parametrize("n", [10**9 + 7, 2**33, 10**15, 2**62])
def test_a_window_of_a_huge_permutation_has_no_index_twice(n):
    """Parts of a permutation of up to 2**62 elements lie inside it, and no index comes twice."""
    order = Permutation(n, 3)
    windows = [order.slice(start, start + 5000) for start in (0, n // 2, n - 5000)]
    found = np.concatenate(windows)
    assert len(set(found.tolist())) == found.size
    assert found.min() >= 0
    assert found.max() < n
    # Spread over the whole: of 15,000 some lie in each tenth.
    assert np.bincount(found // -(-n // 10), minlength=10).min() > 1000


def test_the_order_is_the_same_for_ever():
    """Seed, epoch and length name these permutations and no others, on every platform."""
    assert whole(10) == [8, 2, 4, 6, 7, 9, 1, 5, 3, 0]
    assert whole(10, epoch=1) == [1, 0, 8, 7, 6, 2, 9, 3, 5, 4]
    far = Permutation(10**12, 1, 2).slice(10**11, 10**11 + 3).tolist()
    assert far == [649276335267, 728542069554, 282133702826]


def test_epochs_and_seeds_differ():
    """Neither the next epoch nor the next seed, nor the two exchanged, gives the order again."""
    orders = [whole(50, seed, epoch) for seed in range(20) for epoch in range(20)]
    assert len({tuple(order) for order in orders}) == 400


def test_any_part_is_worked_out_alone():
    """Single positions, in any order and with a step, give what the whole has there."""
    order = Permutation(1000, 5)
    everything = order.slice(0, 1000)
    positions = np.array([999, 0, 500, 500, 3])
    assert np.array_equal(order.at(positions), everything[positions])
    assert np.array_equal(order.slice(7, 900, 13), everything[7:900:13])
    assert order.at(np.empty(0, dtype=np.int64)).dtype == np.int64
    assert len(order) == 1000


def test_the_positions_are_left_as_they_were():
    """The array that is asked with is not written to."""
    positions = np.arange(100)
    Permutation(100, 0).at(positions)
    assert np.array_equal(positions, np.arange(100))


@pytest.mark.parametrize("n", [3, 4, 5])
def test_all_orders_are_equally_likely(n):
    """Over seeds, each of the n! orders of a few elements comes as often as the others."""
    assert surprise(counted_orders(n, 3000)) < 4


def test_the_probe_tells_too_few_rounds(monkeypatch):
    """The same probe does see that four rounds would not be enough."""
    monkeypatch.setattr(permutation, "ROUNDS", 4)
    assert surprise(counted_orders(4, 3000)) > 8


@pytest.mark.parametrize("n", [7, 9, 16, 31])
def test_places_and_steps_are_uniform(n):
    """Over seeds, each index is as often at each place, and each step between neighbours as often.

    Rotating the whole would pass the first and fail the second.
    """
    seeds = 2000
    orders = np.array([whole(n, seed) for seed in range(seeds)])
    places = orders + n * np.arange(n)
    assert surprise(np.bincount(places.ravel(), minlength=n * n)) < 5
    steps = (orders[:, 1] - orders[:, 0]) % n
    assert surprise(np.bincount(steps, minlength=n)[1:]) < 4


def test_neighbours_in_a_long_order_are_unrelated():
    """In one order of a million, an index tells nothing of the next one."""
    n = 10**6
    order = Permutation(n, 11).slice(0, n)
    tenths = order * 16 // n
    pairs = tenths[:-1] * 16 + tenths[1:]
    assert surprise(np.bincount(pairs, minlength=256)) < 4
    # The mean way from a place to its index is a third of the length.
    assert abs(np.abs(order - np.arange(n)).mean() / n - 1 / 3) < 0.002


@pytest.mark.parametrize("positions", [[-1], [10], [0, 3, 12]])
def test_a_position_outside_is_told(positions):
    """The message has the positions and the length."""
    with pytest.raises(InputError, match=r"but the permutation has 10: ask for 0 to 9"):
        Permutation(10, 0).at(np.array(positions))


def test_nothing_can_be_asked_of_nothing():
    """Without elements there is no position to ask for."""
    with pytest.raises(InputError, match="the permutation has 0"):
        Permutation(0, 0).at(np.array([0]))


@pytest.mark.parametrize("n", [-1, 2**62 + 1])
def test_a_length_that_does_not_fit_is_told(n):
    """The message has the length and what there can be."""
    with pytest.raises(InputError, match=rf"n is {n}: a permutation has 0 to 2\*\*62 elements"):
        Permutation(n, 0)
