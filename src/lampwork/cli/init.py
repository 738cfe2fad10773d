"""`lampwork init`: the plan for a model of the user's, and the check of what it does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lampwork._core.errors import InputError
from lampwork._core.names import nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lampwork.init import Plan
    from lampwork.init.check import Check

# So many tell a unit that is dead from one that is silent by chance.
_SAMPLES = 16


def init(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY",
            help="What builds the model, called without arguments: net:Net, package.nets:build, "
            "net.py:Net",
        ),
    ],
    example: Annotated[
        list[str] | None,
        typer.Option(
            help="Shape of an input, 1,3,32,32; 2,16:int64 for indices. Once per positional input."
        ),
    ] = None,
    scheme: Annotated[str, typer.Option(help="auto, a scheme's name, or a recipe.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the weights that are checked.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan and check as JSON.")] = False,
    strict: Annotated[bool, typer.Option(help="Exit with 3 when the check fails.")] = False,
) -> None:
    """Print what each tensor of a model gets and why; with an example, check that it works."""
    shapes = [_shape(text) for text in example or []]  # before anything of the user's is run
    model = _build(target)

    from lampwork.init import plan

    inputs = tuple(_input(shape, dtype, model) for shape, dtype in shapes)
    made = plan(model, inputs or None, scheme=scheme)
    check = None
    if inputs:
        made.apply(seed=seed)
        check = _checked(made, model, shapes, inputs)
    _print(made, check, as_json=as_json)
    if strict and check is not None and not check.ok:
        raise typer.Exit(3)


def _checked(
    plan: Plan,
    model: nn.Module,
    shapes: list[tuple[tuple[int, ...], str]],
    inputs: tuple[Tensor, ...],
) -> Check:
    """The check on sixteen samples, or on the example where its first dimension is no batch."""
    larger = tuple(_input((_SAMPLES, *shape[1:]), dtype, model) for shape, dtype in shapes)
    if max(shape[0] for shape, _ in shapes) < _SAMPLES:
        try:
            return plan.verify(larger)
        except InputError:
            pass  # its first dimension is none
    return plan.verify(inputs)


def _print(plan: Plan, check: Check | None, *, as_json: bool) -> None:
    if not as_json:
        typer.echo(str(plan))
        if check is not None:
            typer.echo(f"\n{check}")
        return
    import json

    content: dict[str, Any] = {"schema": 1, "plan": json.loads(plan.to_json()), "check": None}
    if check is not None:
        findings = [
            {
                "code": finding.code,
                "severity": finding.severity,
                "where": finding.where,
                "evidence": {key: _plain(value) for key, value in finding.evidence.items()},
                "advice": finding.advice,
            }
            for finding in check.findings
        ]
        content["check"] = {"ok": check.ok, "findings": findings}
    typer.echo(json.dumps(content, indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no infinity."""
    return value if isinstance(value, int) or _is_finite(value) else str(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _shape(text: str) -> tuple[tuple[int, ...], str]:
    """Sizes and dtype of `1,3,32,32` or `2,16:int64`."""
    import torch

    sizes, _, dtype = text.partition(":")
    try:
        shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        fits = min(shape) > 0 and isinstance(getattr(torch, dtype or "float32", None), torch.dtype)
    except ValueError:
        fits, shape = False, ()
    if not fits:
        raise InputError(
            f"--example {text!r} is no shape: pass sizes and, for anything but float32, a dtype: "
            "1,3,32,32 or 2,16:int64"
        )
    return shape, dtype or "float32"


def _input(shape: tuple[int, ...], dtype: str, model: nn.Module) -> Tensor:
    """Gaussian values, or indices that every embedding of the model has."""
    import torch
    from torch import nn

    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(kind)
    rows = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    count = torch.Size(shape).numel()
    return (torch.arange(count) % max(1, min(rows, default=2))).view(shape).to(kind)


def _build(target: str) -> nn.Module:
    from torch import nn

    name, _, attribute = target.rpartition(":")
    if not name or not attribute:
        raise InputError(
            f"{target!r} does not say what builds the model: pass MODULE:FACTORY, such as net:Net"
        )
    found: Any = _module(name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = nearest(part, [own for own in dir(found) if not own.startswith("_")])
            hint = f": did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise InputError(f"{name!r} has no {part!r}{hint}")
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise InputError(f"{target!r} is {type(found).__name__}, neither a model nor a function")
    try:
        model = found()
    except Exception as error:
        raise InputError(
            f"{target!r} raises {type(error).__name__} when called without arguments: {error}: "
            "write a function that builds the model, and name it"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{target!r} returns {type(model).__name__}: it has to return an nn.Module"
        )
    return model


def _module(name: str) -> Any:
    """The module of that name, or file, as Python would find it from here."""
    import importlib
    import runpy
    import sys
    import types
    from pathlib import Path

    sys.path.insert(0, "")
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        if Path(name).is_file():
            sys.path.insert(0, str(Path(name).resolve().parent))
            return types.SimpleNamespace(**runpy.run_path(name, run_name=Path(name).stem))
    except Exception as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != name:
            raise InputError(f"{name!r} raises {type(error).__name__}: {error}") from error
    raise InputError(
        f"there is no module {name!r} here: run the command where `import` finds it, or pass a "
        "file, FILE.py:FACTORY"
    )
