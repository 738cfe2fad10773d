"""Whether a dataset can be sent to a spawned worker, and which of its parts cannot.

Workers that are spawned, or started by a fork server, get the dataset pickled. `obstacles`
pickles it into nowhere and, where that fails, follows the failing parts down to the last ones.
"""

from __future__ import annotations

import types
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import torch


class Obstacle(NamedTuple):
    """A part that cannot be pickled: where it is, e.g. `.transform`, what it is, and the error."""

    path: str
    part: Any
    error: Exception


def obstacles(value: Any) -> list[Obstacle]:
    """The innermost parts of `value` that keep it from being pickled; empty if nothing does.

    Where none of its parts is at fault alone, the obstacle is `value` itself, with an empty path.
    """
    return _search(value, "", visited=set())


def _search(value: Any, path: str, visited: set[int]) -> list[Obstacle]:
    if id(value) in visited or not (error := _refusal(value, visited)):
        return []
    visited.add(id(value))
    inner = [found for step, part in _parts(value) for found in _search(part, path + step, visited)]
    return inner or [Obstacle(path, value, error)]


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        return [(f"[{position}]", part) for position, part in enumerate(value)]
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, type | types.ModuleType | types.FunctionType):
        return []  # pickled by their name, whatever they hold
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]


def _refusal(value: Any, visited: set[int]) -> Exception | None:
    try:
        _Probe(visited).dump(value)
    except Exception as error:
        return error
    return None


class _Probe(ForkingPickler):
    """Pickles as for a new process, but keeps nothing.

    Left out are tensors, for sending one would move it to shared memory; the locks and queues of
    multiprocessing, which may be sent only while a process is being started; and the objects that
    were `visited`, so that a part is not to blame for referring back to what holds it.
    """

    def __init__(self, visited: set[int]) -> None:
        self._visited = visited
        # Protocol 5 hands the memory of arrays to the callback instead of copying it.
        super().__init__(_Nowhere(), 5, True, lambda _: None)

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor | torch.UntypedStorage | torch.TypedStorage):
            return _nothing, ()
        if type(value).__module__.startswith(("multiprocessing.", "torch.multiprocessing.")):
            return _nothing, ()
        if id(value) in self._visited:
            return _nothing, ()
        return NotImplemented


class _Nowhere:
    def write(self, data: Any) -> int:
        return len(data)


def _nothing() -> None:
    """Stands in a pickle for what is left out."""
