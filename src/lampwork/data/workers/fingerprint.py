"""Whether a dataset is still what it was: all it holds, and the code and globals that it uses.

A worker that is kept must load what a new one would. A new one would see the dataset as it is now,
and the module globals that its code reads; so both are pickled, in memory, up to a size. What
cannot be pickled, or is larger, has no fingerprint, and its workers are not kept.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import functools
import io
import os
import pickle
import sys
import sysconfig
import types
from collections.abc import Iterator
from hashlib import blake2b
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor

from lampwork.data.arena.packing import empty, is_plain, strided

MOST_BYTES = 16 << 20
"""Beyond this, starting workers anew costs less than looking."""

_PYTHONS = tuple(path for name in ("stdlib", "platstdlib") if (path := sysconfig.get_path(name)))
_PACKAGES = {"site-packages", "dist-packages"}
"""Where packages are installed: the environment's, the base environment's, the user's own."""


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
    if _installed(getattr(part, "__module__", None)):
        return name
    if isinstance(part, type):
        return name + _members(part, code)
    if isinstance(part, types.FunctionType):
        held = [part.__defaults__, part.__kwdefaults__]
        held += [cell.cell_contents for cell in part.__closure__ or ()]
        told = [_pickled(value, code) for value in (*held, *_read(part))]
        return b"\0".join([name, *_compiled(part.__code__), *told])
    return name


_WRAPPERS = {
    staticmethod: "__func__",
    classmethod: "__func__",
    property: "fget",
    functools.cached_property: "func",
    functools._lru_cache_wrapper: "__wrapped__",
}
_MACHINERY = types.MemberDescriptorType | types.GetSetDescriptorType


def _members(part: type, code: list[Any]) -> bytes:
    """What a class holds, by value; its functions and bases go onto `code`."""
    code += part.__bases__
    held = []
    for name, member in vars(part).items():
        value = getattr(member, _WRAPPERS.get(type(member), ""), member)
        if isinstance(value, types.FunctionType):
            if not _generated(part, value):
                code.append(value)
        elif not (name.startswith("__") or name == "_abc_impl" or isinstance(value, _MACHINERY)):
            held.append((name, value))
    # The members of an Enum are constants, which pickle by their names.
    return b"" if issubclass(part, enum.Enum) else _pickled(held, code)


def _generated(part: type, method: types.FunctionType) -> bool:
    """Whether dataclasses made the method: it follows from the fields, and no name leads to it."""
    made_in = ("<string>", dataclasses.__file__)
    return dataclasses.is_dataclass(part) and method.__code__.co_filename in made_in


def _read(function: types.FunctionType) -> Iterator[Any]:
    """What a function finds under the names it looks up: in its module, and in others by theirs."""
    words = sorted(_words(function.__code__))
    imported = {word: sys.modules[word] for word in words if word in sys.modules}
    spaces = [function.__globals__, imported]
    seen = {id(space) for space in spaces}
    for space in spaces:  # which grows
        for word in words:
            value = space.get(word)
            if not isinstance(value, types.ModuleType):
                yield value
            elif not _installed(value.__name__) and id(vars(value)) not in seen:
                seen.add(id(vars(value)))
                spaces.append(vars(value))


def _compiled(code: types.CodeType) -> Iterator[bytes]:
    """What a function does, without where it stands."""
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _compiled(const)
        else:
            yield repr(const).encode()


def _words(code: types.CodeType) -> set[str]:
    """The names that a function and those defined in it look up."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_words, inner))


def _installed(module: str | None) -> bool:
    """Whether a module belongs to Python or an installed package, whose globals are left alone."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if module == "builtins" or not file:
        return module == "builtins"
    return file.startswith(_PYTHONS) or not _PACKAGES.isdisjoint(file.split(os.sep))


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
        self._memories: dict[int, tuple[torch.UntypedStorage, bytearray]] = {}
        self._whole: set[type] = set()

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.FunctionType | type):
            self._code.append(value)
        elif isinstance(value, functools._lru_cache_wrapper):
            self._code.append(value.__wrapped__)
        elif isinstance(value, Tensor):
            return self._tensor(value)
        elif type(value).__module__.partition(".")[0] in ("multiprocessing", "_multiprocessing"):
            raise Unclear  # it is there to be changed by others
        elif type(value) not in self._whole:
            if _has_own_pickle(type(value)):
                raise Unclear  # what is left out of the pickle a forked worker has all the same
            self._whole.add(type(value))
        return NotImplemented

    def _tensor(self, tensor: Tensor) -> Any:
        if type(tensor) is not Tensor or not is_plain(tensor):
            raise Unclear
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if size > MOST_BYTES or size % tensor.element_size() or storage.is_shared():
            raise Unclear
        looks = (tensor.dtype, tuple(tensor.shape), tensor.stride())
        if not size:
            return empty, looks
        # Views of one memory stay so: it is written down once. Plain bytes are what pickle is
        # quickest at. The storage is kept with them, so that no other gets its address.
        address = storage.data_ptr()
        if address not in self._memories:
            held = (ctypes.c_char * size).from_address(address)
            self._memories[address] = (storage, bytearray(held))
        return strided, (self._memories[address][1], *looks, tensor.storage_offset())


_OWN_PICKLE = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def _has_own_pickle(kind: type) -> bool:
    """Whether the user's code says how objects of this class are pickled."""
    own = [vars(part).get(name) for part in kind.__mro__ for name in _OWN_PICKLE]
    return any(isinstance(it, types.FunctionType) and not _installed(it.__module__) for it in own)
