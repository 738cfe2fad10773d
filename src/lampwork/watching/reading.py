"""The parameters of one moment, read together, and their values before the optimizer's step.

One call of the kernel reads all plain tensors, by several threads where that pays; what is sparse,
complex or full of gaps is read one by one.

The old values lie in memory that on the CPU is kept from step to step: fresh memory would cost a
page fault for every 4 KiB. Where one recorded step follows the other, the pass that reads an update
also puts the new values into the place of the old ones. Then nothing has to be read before the next
step: the old values are what the weights are, as long as torch's version counter and a sample of
their bits say that nobody has changed them in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from lampwork.taps.statistic import Batch, Job, RawRow, measure, readable
from lampwork.watching.activations import Key

Rows = list[tuple[Key, RawRow]]


@lru_cache(maxsize=1 << 16)
def key_of(kind: str, name: str) -> Key:
    """The key of a parameter's row, the same object at every step."""
    return Key(kind, name)


class Reading:
    """Tensors of which `rows` is to give the rows; they must not change until then."""

    def __init__(self) -> None:
        self._batch = Batch()
        self._keys: list[Key | None] = []  # of the batch's rows, one after the other
        self._alive: list[Tensor] = []
        self._rows: Rows = []

    def add(self, key: Key, tensor: Tensor) -> None:
        """Read a tensor."""
        if self._batch.add_plain(tensor):
            self._keys.append(key)
            self._alive.append(tensor)
            return
        local = readable(tensor)
        if local is None:
            return
        if Batch.takes(local):
            self.add_dense(local, key)
        elif (row := measure(local)) is not None:
            self._rows.append((key, row))

    def add_dense(
        self,
        tensor: Tensor,
        *keys: Key | None,
        old: int = 0,
        compare: bool = False,
        keep: bool = False,
    ) -> None:
        """Read a tensor that the batch takes; a key for each row that it gives, None to drop it."""
        self._batch.add(tensor, old=old, compare=compare, keep=keep)
        self._keys += keys
        self._alive.append(tensor)

    def add_again(self, tensor: Tensor, job: Job, *keys: Key | None) -> None:
        """Read a dense tensor once more, of which all is known."""
        self._batch.add_again(job)
        self._keys += keys
        self._alive.append(tensor)

    def hold(self, tensor: Tensor) -> None:
        """Let memory that is read live until the reading ends."""
        self._alive.append(tensor)

    def rows(self) -> Rows:
        """The rows of all that can be read."""
        batched = zip(self._keys, self._batch.rows(), strict=True) if self._keys else ()
        return [(key, row) for key, row in batched if key is not None] + self._rows


@dataclass(slots=True)
class _Kept:
    """Where the old values of one parameter lie, as its own do.

    Attributes:
        memory: the values, in the order of the parameter's memory.
        shape: of the parameter.
        strides: of the parameter.
        source: the parameter's own address when its values came here.
        version: torch's counter of changes then; -1 where the values are of an earlier time.
        job: how the parameter and these are read where both lie as they lay.
    """

    memory: Tensor
    shape: torch.Size
    strides: tuple[int, ...]
    source: int = 0
    version: int = -1
    job: Job | None = None

    @classmethod
    def like(cls, local: Tensor) -> _Kept:
        memory = torch.empty(local.numel(), dtype=local.dtype, device=local.device)
        return cls(memory, local.shape, local.stride())

    def holds(self, local: Tensor) -> bool:
        """Whether a tensor lies in its own memory as this one does here."""
        found = local.shape, local.stride(), local.dtype, local.device
        expected = self.shape, self.strides, self.memory.dtype, self.memory.device
        return found == expected and Batch.takes(local)

    def current(self, parameter: Tensor) -> bool:
        """Whether these are the parameter's values still, as far as torch's counter tells."""
        return (
            self.version >= 0
            and self.version == parameter._version
            and self.source == parameter.data_ptr()
        )

    def lies_as_before(self, parameter: Tensor) -> bool:
        """Whether a parameter has the memory that it had when its values came here."""
        return (
            self.source == parameter.data_ptr()
            and self.shape == parameter.shape
            and self.strides == parameter.stride()
            and self.memory.dtype == parameter.dtype
        )

    def note(self, parameter: Tensor) -> None:
        """From now on these are the values of the parameter."""
        self.version, source = parameter._version, parameter.data_ptr()
        if source != self.source or self.job is None:
            self.source, self.job = source, Batch.replaced(parameter, self.memory.data_ptr())

    def view(self) -> Tensor:
        return self.memory.as_strided(self.shape, self.strides)


class Old:
    """Parameters as they were before the optimizer's step."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._known: set[str] = set()  # whose rows come with those of the updates
        self._names: list[str] = []
        self._clones: dict[str, Tensor] = {}
        self._asked: tuple[list[str], list[Job], Batch] = ([], [], Batch())

    def add_weights(
        self,
        reading: Reading,
        ready: Iterable[tuple[str, nn.Parameter]],
        owned: Mapping[str, Tensor],
    ) -> None:
        """Read the weights, and keep the values of those that the optimizer is about to change."""
        self._names, self._clones = [], {}
        self._known = self._unchanged(owned)
        for name, parameter in ready:
            if name in self._known:
                self._names.append(name)
                continue
            local = readable(parameter)
            if name not in owned or local is None:
                reading.add(key_of("weight", name), parameter)
            elif Batch.takes(local):
                kept = self._kept.get(name)
                if kept is None or not kept.holds(local):
                    kept = self._kept[name] = _Kept.like(local)
                kept.version = -1
                old = kept.memory.data_ptr()
                reading.add_dense(local, key_of("weight", name), old=old, keep=True)
                self._names.append(name)
            else:
                reading.add(key_of("weight", name), parameter)
                self._clones[name] = parameter.detach().clone()

    def _unchanged(self, owned: Mapping[str, Tensor]) -> set[str]:
        """The parameters whose values are in memory."""
        found: list[str] = []
        jobs: list[Job] = []
        for name, parameter in owned.items():
            kept = self._kept.get(name)
            if kept is not None and kept.job is not None and kept.current(parameter):
                found.append(name)
                jobs.append(kept.job)
        if not found:
            return set()
        if (found, jobs) != self._asked[:2]:
            batch = Batch()
            for job in jobs:
                batch.add_again(job)
            self._asked = found, jobs, batch
        same = self._asked[2].same()  # changes through `.data` pass by the counter
        return {name for name, unchanged in zip(found, same, strict=True) if unchanged}

    def add_updates(self, reading: Reading, now: Mapping[str, Tensor], *, again: bool) -> None:
        """Read new minus old of each that was kept; of half types in float32.

        Args:
            reading: what reads.
            now: the parameters.
            again: the next step is likely to be recorded too.
        """
        # Last first: the caches have what the optimizer wrote last.
        for name in reversed(self._names):
            kept, parameter = self._kept[name], now[name]
            known = name in self._known
            if known and kept.job is not None and kept.lies_as_before(parameter):
                keys = key_of("update", name), key_of("weight", name)
                reading.add_again(parameter, kept.job, *keys)
                kept.note(parameter)
                continue
            local = readable(parameter)
            if local is not None and kept.holds(local):
                # The memory of a sharded parameter has another counter than the parameter.
                keep = known or (again and local is parameter and local.is_cpu)
                told: list[Key | None] = [key_of("update", name)]
                if keep:
                    told.append(key_of("weight", name) if known else None)
                    kept.note(parameter)
                old = kept.memory.data_ptr()
                reading.add_dense(local, *told, old=old, compare=True, keep=keep)
                if local.is_cuda:
                    reading.hold(self._kept.pop(name).memory)  # goes back to torch afterwards
                continue
            if known:
                reading.add(key_of("weight", name), kept.view().clone())
            if local is not None and local.shape == kept.shape:  # was given other memory meanwhile
                reading.add(key_of("update", name), _difference(local, kept.view()))
            kept.version = -1
        for name, old in self._clones.items():
            reading.add(key_of("update", name), _difference(now[name].detach(), old))
        self._names, self._clones = [], {}

    def forget(self, names: Iterable[str]) -> None:
        """What is kept by these names is of parameters that the model has no more."""
        for name in names:
            self._kept.pop(name, None)
            self._clones.pop(name, None)
            self._known.discard(name)
            self._names = [other for other in self._names if other != name]

    def release(self) -> None:
        """Give the memory back."""
        self._names, self._clones, self._kept = [], {}, {}


@torch.no_grad()
def _difference(new: Tensor, old: Tensor) -> Tensor:
    # Of short types the difference of neighbours would be rounded, and float8 knows none.
    if new.is_floating_point() and new.itemsize < 4:
        return new.to(torch.float32) - old.to(torch.float32)
    return new - old
