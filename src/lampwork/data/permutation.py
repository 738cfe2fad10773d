"""A shuffled order of any length that costs no memory: a keyed bijection of range(n).

A Feistel network: a position is a cell (row, column) of a grid with at least n cells. In turn each
row is rotated by an amount that is a hash of the row, and each column by a hash of the column;
every such step can be undone, so the whole is a bijection of the grid. A position that lands on
one of the few cells beyond n goes through again until it lands inside ("cycle walking"), which
keeps it a bijection. So any part of the order can be made at once, without what comes before it.

Feistel networks on grids and cycle walking: Black and Rogaway, "Ciphers with arbitrary finite
domains", CT-RSA 2002. It shuffles; it is no cipher.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lampwork._core import seeds
from lampwork._core.errors import InputError

ROUNDS = 16
"""Rotations of rows and columns together. With 8, chi-square tests over 6,000 permutations of 5
elements still tell them from uniformly drawn ones, with 12 nearly; with 16 they do not."""

LARGEST = 2**62
"""The longest order: rows and columns then still fit 32 bits, so that a product fits 64."""

Indices = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

# Odd, with about half of their bits set: the multipliers of MurmurHash3's finaliser.
_SPREAD, _FOLD = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_HALF = np.uint64(32)


class Permutation:
    """A permutation of range(n), the same on every platform and for ever.

    Args:
        n: how many; 0 or more.
        seed: any integer; another seed gives an unrelated permutation,
        epoch: and so does another epoch.

    Raises:
        InputError: n is negative or more than `LARGEST`.
    """

    def __init__(self, n: int, seed: int, epoch: int = 0) -> None:
        if not 0 <= n <= LARGEST:
            raise InputError(f"n is {n}: a permutation has 0 to 2**62 elements")
        self.n = n
        # Nearly square and hardly larger than n: 1 + 1/√n passes are enough on average.
        rows = math.isqrt(max(n - 1, 0)) + 1
        self._rows, self._columns = np.uint64(rows), np.uint64(max(1, -(-n // rows)))
        key = seeds.derive(seed, "order", epoch)
        self._keys = [np.uint64(seeds.derive(key, "round", index)) for index in range(ROUNDS)]

    def __len__(self) -> int:
        return self.n

    def at(self, positions: Indices) -> Indices:
        """What stands at these positions, (k,) int64 → (k,) int64.

        Raises:
            InputError: a position outside of range(n).
        """
        if positions.size and not 0 <= positions.min() <= positions.max() < self.n:
            raise InputError(
                f"positions reach from {positions.min()} to {positions.max()}, "
                f"but the permutation has {self.n}: ask for 0 to {self.n - 1}"
            )
        found = self._pass(positions.astype(np.uint64))
        while (beyond := np.flatnonzero(found >= self.n)).size:
            found[beyond] = self._pass(found[beyond])
        return found.view(np.int64)

    def slice(self, start: int, stop: int, step: int = 1) -> Indices:
        """What stands at range(start, stop, step)."""
        return self.at(np.arange(start, stop, step, dtype=np.int64))

    def _pass(self, cells: _Words) -> _Words:
        row = cells // self._columns
        column = cells - row * self._columns
        spare = np.empty_like(cells)
        for index, key in enumerate(self._keys):
            if index % 2 == 0:
                _rotate(row, column, key, self._rows, spare)
            else:
                _rotate(column, row, key, self._columns, spare)
        row *= self._columns
        row += column
        return row


def _rotate(moved: _Words, by: _Words, key: np.uint64, size: np.uint64, spare: _Words) -> None:
    """Moved ← (moved + hash of `by`) mod size, in place; both terms are below `size`."""
    np.add(by, key, out=spare)
    spare *= _SPREAD
    spare ^= spare >> _HALF
    spare *= _FOLD
    # The upper 32 bits as a fraction of `size`: a division would cost more than all the rest.
    spare >>= _HALF
    spare *= size
    spare >>= _HALF
    moved += spare
    # The sum is below 2 · size, and where it is below `size` the difference wraps round to a
    # number near 2**64: the smaller of the two is the remainder.
    np.subtract(moved, size, out=spare)
    np.minimum(moved, spare, out=moved)
