"""Whether a dataset is still what it was: all it holds, and the code and globals that it uses.

A worker that is kept must load what a new one would. A new one would see the dataset as it is now,
and the module globals that its code reads; so both are pickled, in memory, up to a size. What
cannot be pickled, or is larger, has no fingerprint, and its workers are not kept.
"""

from __future__ import annotations

import io
import pickle
import sysconfig
import types
from hashlib import blake2b
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lampwork.data.arena.packing import is_plain

MOST_BYTES = 16 << 20
"""Beyond this, starting workers anew costs less than looking."""

_INSTALLED = tuple(
    path for name in ("stdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))
)


class Unclear(Exception):
    """There is no telling whether something has changed."""


def fingerprint(dataset: Any, functions: tuple[Any, ...]) -> tuple[bytes, bytes] | None:
    """A digest of a dataset and of functions that go with it, and (None, dataset) pickled by value.

    None where there is none: the dataset cannot be pickled, shares memory with other processes, is
    larger than `MOST_BYTES`, or uses a global that is one of these.
    """
    try:
        code: list[Any] = []
        pickled = _pickled((None, dataset), code)
        digest = blake2b(pickled, digest_size=16)
        seen: set[int] = set()
        for function in functions:
            code += [function, type(function)]
            if not isinstance(function, types.FunctionType | types.BuiltinFunctionType | None):
                digest.update(_pickled(function, code))
        while code:
            part = code.pop()
            if id(part) not in seen:
                seen.add(id(part))
                digest.update(_told(part, code))
        return digest.digest(), pickled
    except Exception:
        return None


def _told(part: Any, code: list[Any]) -> bytes:
    """A function or class as bytes; what it refers to in turn goes onto `code`."""
    name = f"{getattr(part, '__module__', '')}.{getattr(part, '__qualname__', part)}".encode()
    if isinstance(part, type):
        if not _installed(part.__module__):
            members = [getattr(value, "__func__", value) for value in vars(part).values()]
            functions = [value for value in members if isinstance(value, types.FunctionType)]
            properties = [value.fget for value in members if isinstance(value, property)]
            code += [*functions, *filter(None, properties), *part.__bases__]
            plain = [
                (key, value)
                for key, value in vars(part).items()
                if not key.startswith("__") and isinstance(value, _PLAIN)
            ]
            return name + repr(plain).encode()
        return name
    if not isinstance(part, types.FunctionType) or _installed(part.__module__):
        return name
    held = [part.__defaults__, part.__kwdefaults__]
    held += [cell.cell_contents for cell in part.__closure__ or ()]
    for word in _words(part.__code__):
        if word in part.__globals__:
            held.append(part.__globals__[word])
    told = [name, part.__code__.co_code, repr(part.__code__.co_consts).encode()]
    for value in held:
        if isinstance(value, types.ModuleType):
            continue
        told.append(_pickled(value, code))
    return b"\0".join(told)


_PLAIN = (int, float, str, bytes, bool, tuple, list, dict, set, frozenset, type(None))


def _words(code: types.CodeType) -> set[str]:
    """The names that a function and those defined in it look up."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_words, inner))


def _installed(module: str | None) -> bool:
    """Whether a module belongs to Python or an installed package, whose globals are left alone."""
    import sys

    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return module == "builtins" or bool(file and file.startswith(_INSTALLED))


def _pickled(value: Any, code: list[Any]) -> bytes:
    file = _Bounded()
    _ByValue(file, code).dump(value)
    return file.getvalue()


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MOST_BYTES:
            raise Unclear
        return super().write(data)


class _ByValue(ForkingPickler):
    """Pickles tensors by their values, and notes the functions and classes that are referred to."""

    def __init__(self, file: io.BytesIO, code: list[Any]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._code = code
        self._storages: set[int] = set()

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.FunctionType | type):
            self._code.append(value)
        elif isinstance(value, Tensor):
            return self._tensor(value)
        elif type(value).__module__.partition(".")[0] in ("multiprocessing", "_multiprocessing"):
            raise Unclear  # it is there to be changed by others
        return NotImplemented

    def _tensor(self, tensor: Tensor) -> Any:
        storage = tensor.untyped_storage().data_ptr()
        if type(tensor) is not Tensor or not is_plain(tensor) or tensor.is_shared():
            raise Unclear
        if storage and storage in self._storages:
            raise Unclear  # two views of one memory would come apart
        self._storages.add(storage)
        values = (
            tensor.contiguous().view(torch.uint8)
            if tensor.dim()
            else tensor.reshape(1).view(torch.uint8)
        )
        return _tensor, (values.numpy(), tensor.dtype, tuple(tensor.shape))


def _tensor(values: np.ndarray[Any, Any], dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(values).view(dtype).view(shape)
