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

from lampwork.data.arena.packing import empty, is_plain, strided, whole

MOST_BYTES = 16 << 20
"""Beyond this, and beyond so many tensors, starting workers anew costs less than looking."""
MOST_TENSORS = 4096

_PYTHONS = tuple(path for name in ("stdlib", "platstdlib") if (path := sysconfig.get_path(name)))
_PACKAGES = {"site-packages", "dist-packages"}
"""Where packages are installed: the environment's, the base environment's, the user's own."""


class Unclear(Exception):
    """There is no telling whether something has changed."""


def fingerprint(dataset: Any, functions: tuple[Any, ...]) -> tuple[bytes, bytes] | None:
    """A digest of the code of a dataset and of functions that go with it; (None, dataset) pickled.

    The pickle has tensors by value; two that are equal, with their digests, tell that nothing has
    changed. None where there is none: the dataset cannot be pickled, shares memory with other
    processes, is larger than `MOST_BYTES` or of more tensors than `MOST_TENSORS`, or uses a global
    that is one of these.
    """
    try:
        pickler = _ByValue()
        pickled = pickler.pickled((None, dataset))
        digest = blake2b(digest_size=16)
        code = pickler.code
        seen: set[int] = set()
        for function in functions:
            code += [function, type(function)]
            if not isinstance(function, types.FunctionType | types.BuiltinFunctionType | None):
                digest.update(pickler.pickled(function))
        while code:
            part = code.pop()
            if id(part) not in seen:
                seen.add(id(part))
                digest.update(_told(part, pickler))
        return digest.digest(), pickled
    except Exception:
        return None


def _told(part: Any, pickler: _ByValue) -> bytes:
    """A function or class as bytes; the code that it refers to in turn is noted by the pickler."""
    name = f"{getattr(part, '__module__', '')}.{getattr(part, '__qualname__', part)}".encode()
    if _installed(getattr(part, "__module__", None)):
        return name
    if isinstance(part, type):
        return name + _members(part, pickler)
    if isinstance(part, types.FunctionType):
        held = [part.__defaults__, part.__kwdefaults__]
        held += [cell.cell_contents for cell in part.__closure__ or ()]
        told = [pickler.pickled(value) for value in (*held, *_read(part))]
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


def _members(part: type, pickler: _ByValue) -> bytes:
    """What a class holds, by value; its functions and bases are noted as code."""
    pickler.code += part.__bases__
    held = []
    for name, member in vars(part).items():
        value = getattr(member, _WRAPPERS.get(type(member), ""), member)
        if isinstance(value, types.FunctionType):
            if not _generated(part, value):
                pickler.code.append(value)
        elif not (name.startswith("__") or name == "_abc_impl" or isinstance(value, _MACHINERY)):
            held.append((name, value))
    # The members of an Enum are constants, which pickle by their names.
    return b"" if issubclass(part, enum.Enum) else pickler.pickled(held)


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


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MOST_BYTES:
            raise Unclear
        return super().write(data)


class _ByValue(ForkingPickler):
    """Pickles tensors by their values, and notes the functions and classes that are referred to.

    What it has pickled already it only points at, so all that belongs together is written once.

    Attributes:
        code: the functions and classes.
    """

    def __init__(self) -> None:
        self._file = _Bounded()
        super().__init__(self._file, pickle.HIGHEST_PROTOCOL)
        self.code: list[Any] = []
        self._memories: dict[int, tuple[torch.UntypedStorage, bytearray]] = {}
        self._whole: set[type] = set()

    def pickled(self, value: Any) -> bytes:
        """The pickle of a value; of the first one it can be loaded."""
        began = self._file.tell()
        self.dump(value)
        return bytes(self._file.getbuffer()[began:])

    def reducer_override(self, value: Any) -> Any:
        if type(value) is Tensor:  # first: a dataset may hold thousands
            return self._tensor(value)
        if isinstance(value, _CODE):
            self.code.append(value)
        elif isinstance(value, functools._lru_cache_wrapper):
            self.code.append(value.__wrapped__)
        elif isinstance(value, Tensor):
            raise Unclear
        elif type(value).__module__.partition(".")[0] in ("multiprocessing", "_multiprocessing"):
            raise Unclear  # it is there to be changed by others
        elif type(value) not in self._whole:
            if _has_own_pickle(type(value)):
                raise Unclear  # what is left out of the pickle a forked worker has all the same
            self._whole.add(type(value))
        return NotImplemented

    def _tensor(self, tensor: Tensor) -> Any:
        if not is_plain(tensor):
            raise Unclear
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if size > MOST_BYTES or size % tensor.element_size() or storage.is_shared():
            raise Unclear
        shape = tuple(tensor.shape)
        if not size:
            return empty, (tensor.dtype, shape, tensor.stride())
        # Views of one memory stay so: it is written down once. Plain bytes are what pickle is
        # quickest at. The storage is kept with them, so that no other gets its address.
        address = storage.data_ptr()
        if address not in self._memories:
            if len(self._memories) == MOST_TENSORS:
                raise Unclear
            held = (ctypes.c_char * size).from_address(address)
            self._memories[address] = (storage, bytearray(held))
        memory = self._memories[address][1]
        if size == tensor.nbytes and tensor.is_contiguous() and 1 not in shape:
            return whole, (memory, tensor.dtype, shape)
        return strided, (memory, tensor.dtype, shape, tensor.stride(), tensor.storage_offset())


_CODE = (types.FunctionType, type)
_OWN_PICKLE = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def _has_own_pickle(kind: type) -> bool:
    """Whether the user's code says how objects of this class are pickled."""
    own = [vars(part).get(name) for part in kind.__mro__ for name in _OWN_PICKLE]
    return any(isinstance(it, types.FunctionType) and not _installed(it.__module__) for it in own)
