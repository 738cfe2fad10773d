"""One random stream per purpose and name: integers by hashing, the same on every platform."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def derive(seed: int, *purpose: str | int) -> int:
    """A 64-bit seed for one purpose, e.g. `derive(0, "init", "layer1.0.weight")`.

    Streams of different purposes do not depend on one another, so adding a layer leaves the
    values of all others alone.
    """
    return int.from_bytes(_digest(seed, purpose, 8), "little")


def derive_pair(seed: int, *purpose: str | int) -> tuple[int, int]:
    """Two 64-bit numbers for one purpose: with 128 bits no two purposes ever share a stream."""
    digest = _digest(seed, purpose, 16)
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _digest(seed: int, purpose: Iterable[str | int], size_bytes: int) -> bytes:
    text = "\x1f".join([str(int(seed)), *(str(part) for part in purpose)])
    return blake2b(text.encode(), digest_size=size_bytes).digest()
