"""Weights from a checkpoint: what fits is loaded, and what was not is told by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lampwork._core.errors import InputError, NameNotFound
from lampwork._core.names import not_found

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Report:
    """What became of each name.

    Every name of the model is in exactly one of `loaded`, `missing` and `mismatched`.

    Attributes:
        loaded: names of the model that got the checkpoint's values.
        missing: names of the model that the checkpoint does not have; they keep their values.
        unexpected: names of the checkpoint, after `rename`, that the model does not have.
        mismatched: name → (shape in the model, shape in the checkpoint); they keep their values.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, Shapes] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"loaded {len(self.loaded)} of {self._count()}"]
        for what in ("missing", "unexpected"):
            names = getattr(self, what)
            if names:
                lines.append(f"{what} {len(names)}: {', '.join(names)}")
        for name, (here, there) in self.mismatched.items():
            lines.append(f"mismatched {name}: {here} in the model, {there} in the checkpoint")
        return "\n".join(lines)

    def _count(self) -> int:
        return len(self.loaded) + len(self.missing) + len(self.mismatched)


@torch.no_grad()
def pretrained(model: nn.Module, source: Any, *, rename: Iterable[tuple[str, str]] = ()) -> Report:
    r"""Loads a checkpoint as far as its names and shapes fit, and reports the rest.

    Values are cast to the model's dtype and device. A tensor that goes by several names is loaded
    by any of them and then counts as loaded under all.

    Args:
        model: not on meta.
        source: a state dict (name → tensor), or the path of a `.safetensors` file. Pickled files
            are refused: loading one can run any code.
        rename: `(pattern, replacement)` pairs for the checkpoint's names, applied in turn with
            `re.sub`, e.g. `(r"^module\.", "")`.

    Returns:
        A report with `loaded`, `missing`, `unexpected` and `mismatched`.

    Raises:
        InputError: no such file, a pickled file, something else than tensors, two names of the
            checkpoint that become one, shared tensors that the checkpoint gives two values, or a
            model on meta.
        NameNotFound: a pattern that matches no name.
    """
    values = _renamed(_read(source), rename)
    own = {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    _require_memory(own)
    report = Report(unexpected=[name for name in values if name not in own])
    fitting: dict[int, str] = {}
    for name in (name for name in own if name in values):
        if own[name].shape != values[name].shape:
            report.mismatched[name] = (tuple(own[name].shape), tuple(values[name].shape))
            continue
        _require_agreement(name, fitting.get(id(own[name])), values)
        fitting[id(own[name])] = name
    for name in fitting.values():
        own[name].copy_(values[name])
    for name in (name for name in own if name not in report.mismatched):
        (report.loaded if id(own[name]) in fitting else report.missing).append(name)
    return report


def _read(source: Any) -> dict[str, Tensor]:
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source))
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
    return dict(source)


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path.name!r} is not a .safetensors file, and loading a pickle can run any code: "
            "load it yourself with torch.load(path, weights_only=True) and pass the dict"
        )
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}: check the path")
    # Imported late: not every user loads a file.
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"{path.name!r} is not a whole .safetensors file ({error}): fetch it again"
        ) from error


def _renamed(values: dict[str, Tensor], rename: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    for pattern, replacement in rename:
        renamed: dict[str, Tensor] = {}
        if values and not any(re.search(pattern, name) for name in values):
            raise NameNotFound(not_found(pattern, list(values), what="name in the checkpoint"))
        for name, value in values.items():
            new = re.sub(pattern, replacement, name)
            if new in renamed:
                raise InputError(
                    f"rename ({pattern!r}, {replacement!r}) gives two tensors the name {new!r}: "
                    "make the pattern narrower"
                )
            renamed[new] = value
        values = renamed
    return values


def _require_memory(own: Mapping[str, Tensor]) -> None:
    for name, tensor in own.items():
        if tensor.is_meta:
            raise InputError(
                f"{name!r} is on meta and holds no memory: call model.to_empty(device='cpu') first"
            )


def _require_agreement(name: str, other: str | None, values: Mapping[str, Tensor]) -> None:
    if other is not None and not torch.equal(values[name], values[other]):
        raise InputError(
            f"{other!r} and {name!r} are one tensor in the model and two different ones in the "
            "checkpoint: untie the model, or drop one of them from the checkpoint"
        )
