"""Where random values come from: a stream, and for each element its position in the whole tensor.

The functions of `lampwork.init.schemes` draw through this. It is what makes a value depend on
the stream and on the element's place alone: not on memory layout, dtype, threads or sharding.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lampwork._core.seeds import derive_pair
from lampwork._native import philox
from lampwork._native.philox import Box, Stream
from lampwork.init.placement import pieces


class Draws:
    """A stream of random values, from some position on.

    Args:
        stream: which of the 2^128 streams.
        offset: the position in it of a tensor's first element.
    """

    def __init__(self, stream: Stream, offset: int = 0) -> None:
        self._stream = stream
        self._offset = offset

    @classmethod
    def named(cls, seed: int, name: str) -> Draws:
        """The stream of one tensor of a model."""
        return cls(Stream(*derive_pair(seed, "init", name)))

    @classmethod
    def of(cls, source: Generator | Draws | None) -> Draws:
        """Draws themselves; or a stream that is chosen by a torch generator, which moves on.

        Args:
            source: None means torch's global CPU generator.
        """
        if isinstance(source, Draws):
            return source
        device = source.device if source is not None else "cpu"
        bits = torch.randint(-(2**31), 2**31, (4,), generator=source, device=device)
        a, b, c, d = (number & 0xFFFFFFFF for number in bits.tolist())
        return cls(Stream(a << 32 | b, c << 32 | d))

    def after(self, count: int) -> Draws:
        """The same stream, `count` positions further on."""
        return Draws(self._stream, self._offset + count)

    def normal_(self, tensor: Tensor, mean: float, std: float) -> Tensor:
        """N(mean, std²), in float32, cast last; of a DTensor the own shard only."""
        for local, box in self._boxes(tensor):
            philox.fill_normal(local, self._stream, mean, std, box)
        return tensor

    def uniform_(self, tensor: Tensor, low: float, high: float) -> Tensor:
        """Uniform between low and high; else as `normal_`."""
        for local, box in self._boxes(tensor):
            philox.fill_uniform(local, self._stream, low, high, box)
        return tensor

    def trunc_normal_(self, tensor: Tensor, mean: float, std: float, a: float, b: float) -> Tensor:
        """N(mean, std²) cut at a and b standard deviations; else as `normal_`."""
        for local, box in self._boxes(tensor):
            philox.fill_trunc_normal(local, self._stream, mean, std, a, b, box)
        return tensor

    def block_(self, tensor: Tensor, box: Box) -> Tensor:
        """N(0, 1) for a plain tensor that lies in the stream as the box says."""
        box = Box(self._offset + box.offset, box.strides)
        philox.fill_normal(tensor, self._stream, 0.0, 1.0, box)
        return tensor

    def words(self, count: int) -> Tensor:
        """The first random words as they are, int64 between 0 and 2^32 − 1."""
        found = philox.words(self._stream, self._offset, count)
        return found.to(torch.int64) & 0xFFFFFFFF

    def _boxes(self, tensor: Tensor) -> list[tuple[Tensor, Box]]:
        strides = philox.dense(tensor.shape).strides
        return [
            (piece.local, Box(self._offset + _dot(piece.start, strides), strides))
            for piece in pieces(tensor)
        ]


def _dot(start: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return sum(first * stride for first, stride in zip(start, strides, strict=True))
