"""Weights from a checkpoint: what fits is loaded, and what was not is told by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lampwork._core.errors import InputError
from lampwork._core.names import nearest
from lampwork.init.checkpoint import Stored, boxes, open_checkpoint
from lampwork.init.loaded import remember
from lampwork.init.plan import Plan
from lampwork.init.renaming import renamed

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
        cast: name → (dtype of the model, dtype in the checkpoint), of loaded tensors.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, Shapes] = field(default_factory=dict)
    cast: dict[str, tuple[str, str]] = field(default_factory=dict)
    _model: nn.Module | None = field(default=None, repr=False, compare=False)

    def plan(self, example: Any = None, *, scheme: Any = "auto", rules: Iterable[Any] = ()) -> Plan:
        """The plan for what was not loaded: missing and mismatched tensors.

        As `lampwork.init.plan`, with `"keep"` for all that was loaded, but where a rule names it.

        Raises:
            InputError, NameNotFound: as `lampwork.init.plan`.
        """
        from lampwork.init.planning import planned

        if self._model is None:
            raise InputError("this report knows no model: take the one that pretrained() returned")
        return planned(self._model, example, scheme, rules, loaded=self.loaded)

    def initialize_missing(self, example: Any = None, *, seed: int = 0, **options: Any) -> Plan:
        """Initialises what was not loaded, and nothing else.

        Args:
            example: as in `lampwork.init.plan`.
            seed: as in `Plan.apply`.
            **options: `scheme` and `rules`, as in `lampwork.init.plan`.

        Returns:
            The plan that was applied.
        """
        made = self.plan(example, **options)
        made.apply(seed=seed)
        return made

    def __str__(self) -> str:
        lines = [f"loaded {len(self.loaded)} of {self._count()}"]
        for what in ("missing", "unexpected"):
            names = getattr(self, what)
            if names:
                lines.append(f"{what} {len(names)}: {', '.join(names)}")
        for name, (here, there) in self.mismatched.items():
            lines.append(f"mismatched {name}: {here} in the model, {there} in the checkpoint")
        for here, there in dict.fromkeys(self.cast.values()):
            count = list(self.cast.values()).count((here, there))
            lines.append(f"cast {count}: from {there} to {here}")
        return "\n".join(lines)

    def _count(self) -> int:
        return len(self.loaded) + len(self.missing) + len(self.mismatched)


@torch.no_grad()
def pretrained(model: nn.Module, source: Any, *, rename: Iterable[Any] = ()) -> Report:
    r"""Loads a checkpoint as far as its names and shapes fit, and reports the rest.

    Values are cast to the model's dtype and device. A tensor that goes by several names is loaded
    by any of them and then counts as loaded under all. Of a DTensor each process reads its own
    shard. Everything is checked before the first value is written.

    Args:
        model: not on meta.
        source: a state dict (name → tensor); the path of a `.safetensors` file, of a
            `.safetensors.index.json` with its files beside it, or of a folder that holds either.
            Pickled files are refused: loading one can run any code.
        rename: `(pattern, replacement)` pairs for the checkpoint's names, applied in turn: globs,
            `("module.*", "*")`, where the replacement holds a `*`, else for `re.sub`,
            `(r"^module\.", "")`.

    Returns:
        A report with `loaded`, `missing`, `unexpected` and `mismatched`, whose
        `initialize_missing(x)` does the rest.

    Raises:
        InputError: no such file, a pickled, truncated or damaged one, something else than tensors,
            no name that fits, two names of the checkpoint that become one, shared tensors that the
            checkpoint gives two values, integers for a floating point tensor, or a model on meta.
        NameNotFound: a rule of `rename` that matches no name.
    """
    values = renamed(open_checkpoint(source), rename)
    own = {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    _require_memory(own)
    report = Report(unexpected=[name for name in values if name not in own], _model=model)
    fitting: dict[int, str] = {}
    for name in (name for name in own if name in values):
        if own[name].shape != values[name].shape:
            report.mismatched[name] = (tuple(own[name].shape), values[name].shape)
            continue
        _require_numbers(name, own[name], values[name])
        _require_agreement(name, fitting.get(id(own[name])), values)
        fitting[id(own[name])] = name
    _require_fit(own, values, fitting)
    for name in fitting.values():
        _load(own[name], values[name])
    for name in (name for name in own if name not in report.mismatched):
        (report.loaded if id(own[name]) in fitting else report.missing).append(name)
    for name in fitting.values():
        if own[name].dtype != values[name].dtype:
            report.cast[name] = (_short(own[name].dtype), _short(values[name].dtype))
    remember(model, {name: own[name] for name in report.loaded})
    return report


def _load(tensor: Tensor, stored: Stored) -> None:
    for part, box in boxes(tensor):
        part.copy_(stored.read(box))


def _short(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def _require_memory(own: Mapping[str, Tensor]) -> None:
    for name, tensor in own.items():
        if tensor.is_meta:
            raise InputError(
                f"{name!r} is on meta and holds no memory: call model.to_empty(device='cpu') first"
            )


def _require_numbers(name: str, own: Tensor, stored: Stored) -> None:
    there = stored.dtype
    if there is not None and own.is_floating_point() and not there.is_floating_point:
        raise InputError(
            f"{name!r} is {own.dtype} in the model and {there} in the checkpoint, as quantised "
            "weights are: dequantise them first"
        )


def _require_agreement(name: str, other: str | None, values: Mapping[str, Stored]) -> None:
    if other is None:
        return
    if not torch.equal(values[name].read(None), values[other].read(None)):
        raise InputError(
            f"{other!r} and {name!r} are one tensor in the model and two different ones in the "
            "checkpoint: untie the model, or drop one of them from the checkpoint"
        )


def _require_fit(
    own: Mapping[str, Tensor], values: Mapping[str, Stored], fitting: Mapping[int, str]
) -> None:
    """Refuses the checkpoint of another model: nothing would be loaded."""
    if fitting or not own:
        return
    if not values:
        raise InputError("the checkpoint holds no tensor: pass another")
    first = next(iter(values))
    near = nearest(first, list(own), 1)
    hint = f", nearest to {near[0]!r} of the model" if near else ""
    raise InputError(
        f"none of the {len(values)} tensors of the checkpoint fits one of the {len(own)} of the "
        f"model by name and shape (the first is {first!r} {values[first].shape}{hint}): it is of "
        "another model, or needs rename=[('module.*', '*')]"
    )
