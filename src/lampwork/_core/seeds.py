"""One random stream per purpose and name: integers by hashing, the same on every platform."""

from __future__ import annotations

from hashlib import blake2b


def derive(seed: int, *purpose: str | int) -> int:
    """A 64-bit seed for one purpose, e.g. `derive(0, "init", "layer1.0.weight")`.

    Streams of different purposes do not depend on one another, so adding a layer leaves the
    values of all others alone.
    """
    text = "\x1f".join([str(int(seed)), *(str(part) for part in purpose)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
