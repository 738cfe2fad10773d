"""Checkpoints by name: safetensors, in one file or many, and state dicts; never a pickle.

What a checkpoint holds is known from its headers, before one value is read: so that names and
shapes can be held against the model before anything is written, and each tensor, or the part of it
that belongs to this rank, is read only when its turn comes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lampwork._core.errors import InputError
from lampwork.init.placement import is_distributed, pieces

Box = tuple[slice, ...]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint.

    Attributes:
        shape: of the whole tensor.
        dtype: as stored; None for one that torch does not name.
        read: gives the whole, or the box of it that is asked for.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    read: Callable[[Box | None], Tensor]


def open_checkpoint(source: Any) -> dict[str, Stored]:
    """The tensors of a checkpoint by name.

    Args:
        source: a state dict; the path of a `.safetensors` file, of a `.safetensors.index.json`,
            or of a folder that holds one of them.

    Raises:
        InputError: no such file, a pickled, truncated or damaged one, shards that are missing or
            do not hold what the index says, or something else than tensors.
    """
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(source))
    if not isinstance(source, Mapping):
        raise InputError(
            f"a {type(source).__name__} is no checkpoint: pass a state dict, or the path of a "
            ".safetensors file"
        )
    for name, value in source.items():
        if isinstance(value, Mapping):
            raise InputError(f"{name!r} of the checkpoint is a dict itself: pass source[{name!r}]")
        if not isinstance(value, Tensor):
            raise InputError(
                f"{name!r} of the checkpoint is a {type(value).__name__}, not a tensor: "
                "pass the state dict alone"
            )
    return {name: _of_tensor(value) for name, value in source.items()}


def _of_tensor(value: Tensor) -> Stored:
    def read(box: Box | None) -> Tensor:
        whole = getattr(value, "full_tensor", lambda: value)()  # a DTensor's
        return whole if box is None else whole[box]

    return Stored(tuple(value.shape), value.dtype, read)


def _of_path(path: Path) -> dict[str, Stored]:
    if path.is_dir():
        return _of_folder(path)
    if path.name.endswith(".index.json"):
        return _of_index(path)
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path.name!r} is not a .safetensors file, and loading a pickle can run any code: "
            "load it yourself with torch.load(path, weights_only=True) and pass the dict"
        )
    return _of_file(path)


def _of_folder(path: Path) -> dict[str, Stored]:
    indices, files = (
        sorted(path.glob("*.safetensors.index.json")),
        sorted(path.glob("*.safetensors")),
    )
    if len(indices) == 1:
        return _of_index(indices[0])
    if len(files) == 1:
        return _of_file(files[0])
    found = [file.name for file in (*indices, *files)] or [file.name for file in path.iterdir()][:5]
    raise InputError(
        f"the folder {path.name!r} holds not one checkpoint but {', '.join(found) or 'nothing'}: "
        "pass the path of one .safetensors file or of its .safetensors.index.json"
    )


def _of_index(path: Path) -> dict[str, Stored]:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards: dict[str, list[str]] = {}
        for name, file in weight_map.items():
            shards.setdefault(str(file), []).append(name)
    except OSError as error:
        raise InputError(f"there is no file {str(path)!r}: check the path") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path.name!r} is no index of a checkpoint ({type(error).__name__}: {error}): fetch "
            "it again"
        ) from error
    found: dict[str, Stored] = {}
    for file, names in shards.items():
        if Path(file).name != file:
            raise InputError(f"{path.name!r} names {file!r}, which lies elsewhere: fetch it again")
        held = _of_file(path.with_name(file))
        gone = [name for name in names if name not in held]
        if gone:
            raise InputError(
                f"{file!r} does not hold {gone[0]!r}, which {path.name!r} says it does: fetch both "
                "again"
            )
        twice = [name for name in held if name in found]
        if twice:
            raise InputError(f"{twice[0]!r} is in two files of {path.name!r}: fetch it again")
        found |= held
    return found


def _of_file(path: Path) -> dict[str, Stored]:
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}: check the path")
    # Imported late: not every user loads a file.
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt")
        return {name: _of_slice(file, name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{path.name!r} is not a whole .safetensors file ({error}): fetch it again"
        ) from error


def _of_slice(file: Any, name: str) -> Stored:
    header = file.get_slice(name)

    def read(box: Box | None) -> Tensor:
        return file.get_tensor(name) if box is None else file.get_slice(name)[box]

    return Stored(tuple(header.get_shape()), _DTYPES.get(str(header.get_dtype())), read)


def boxes(tensor: Tensor) -> list[tuple[Tensor, Box | None]]:
    """What this process stores of a tensor, each part with its box in the whole tensor.

    All of a plain tensor, without a box; of a DTensor its shard.

    Raises:
        InputError: a DTensor whose values are sums that are still to be made.
    """
    if not is_distributed(tensor):
        return [(tensor, None)]
    return [
        (
            piece.local,
            tuple(slice(a, a + n) for a, n in zip(piece.start, piece.local.shape, strict=True)),
        )
        for piece in pieces(tensor)
    ]
