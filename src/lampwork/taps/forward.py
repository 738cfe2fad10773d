"""One forward pass on an example: how it is called, what it must not change, and why it failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lampwork._core.errors import InputError
from lampwork.taps.structure import map_tensors, tensors

Call = tuple[tuple, dict[str, Any]]


def call_of(example: Any) -> Call:
    """The arguments that an example stands for: a tensor, a tuple (positional) or a dict."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


def on_meta_as_the_model(model: nn.Module, call: Call) -> Call:
    """The call moved to meta where a parameter of the model is.

    Raises:
        InputError: the example lies elsewhere than the model, which is not on meta.
    """
    owners = dict(model.named_parameters())
    if any(parameter.is_meta for parameter in owners.values()):
        return map_tensors(lambda tensor: tensor.to("meta"), call)
    devices = {parameter.device for parameter in owners.values()}
    if len(devices) == 1:  # a model that is spread over several knows where its inputs belong
        (device,) = devices
        for tensor in tensors(call):
            if tensor.device != device:
                raise InputError(
                    f"the example {tuple(tensor.shape)} is on {tensor.device}, the model on "
                    f"{device}: pass example.to({str(device)!r})"
                )
    return call


def explain(
    model: nn.Module, call: Call, error: Exception, failed: tuple[str, Sequence[Tensor]] | None
) -> InputError:
    """Why the model does not run on the example: the layer, what it expects, what it was given.

    Args:
        model: that was run.
        call: its arguments.
        error: that it raised.
        failed: the torch function that raised it and its tensors, if it was one.
    """
    name, module = _where(model, error)
    kind = type(module).__name__
    layer = f"{kind} {name!r}" if name else kind
    cause = f"{type(error).__name__}: {error}"
    cure = (
        "pass a tensor, a tuple (positional) or a dict (keyword) as "
        f"{type(model).__name__}.forward takes them"
    )
    given = [t for t in failed[1] if not _is_own(module, t)] if failed else []
    if given:
        expected = _mismatch(module, given[0])
        where = f"{layer} fails on {_shapes(given)}"
        where, cure = (f"{layer} {expected[0]}", expected[1]) if expected else (where, cure)
        cause = f"{where} in {failed[0] if failed else ''}: {cause}"
    elif name:
        cause = f"{layer}: {cause}"
    return InputError(f"the model does not run on the example ({_shapes(call)}): {cause}: {cure}")


def _where(model: nn.Module, error: Exception) -> tuple[str, nn.Module]:
    """The innermost module of the model whose code was running."""
    names = {id(module): name for name, module in model.named_modules()}
    found: nn.Module = model
    trace = error.__traceback__
    while trace:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in names:
            found = module
        trace = trace.tb_next
    return names[id(found)], found


def _mismatch(module: nn.Module, given: Tensor) -> tuple[str, str] | None:
    """What the layer expects where the example plainly differs, and the cure."""
    own = next((p for p in module.parameters(recurse=False) if p.is_floating_point()), None)
    if own is None:
        return None
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return _of_embedding(module.num_embeddings, given)
    if given.dtype != own.dtype:
        return (
            f"is {own.dtype}, was given {given.dtype} {tuple(given.shape)}",
            f"pass floating point tensors as {own.dtype}",
        )
    if isinstance(module, nn.Linear) and given.shape[-1:] != (module.in_features,):
        last = given.shape[-1] if given.dim() else "none"
        return (
            f"expects {module.in_features} features, was given {last} in {tuple(given.shape)}",
            f"pass an example by which its input ends in {module.in_features}",
        )
    return _of_convolution(module, given) if isinstance(module, _ConvNd) else None


def _of_embedding(rows: int, given: Tensor) -> tuple[str, str] | None:
    if given.is_floating_point():
        shape = tuple(given.shape)
        return f"expects indices, was given {given.dtype} {shape}", "pass integers, torch.long"
    largest = 0 if given.is_meta or not given.numel() else int(given.max())
    if largest < rows:
        return None
    return f"has {rows} rows, was given the index {largest}", f"pass indices below {rows}"


def _of_convolution(module: _ConvNd, given: Tensor) -> tuple[str, str] | None:
    shape, spatial, channels = tuple(given.shape), len(module.kernel_size), module.in_channels
    wanted = f"(N, {channels}, {'L' if spatial == 1 else '…'})"
    cure = f"pass an example by which its input is {wanted}"
    if len(shape) not in (spatial + 1, spatial + 2):
        return f"expects {spatial + 2} dimensions {wanted}, was given {len(shape)} in {shape}", cure
    found = shape[-spatial - 1]
    if found == channels:
        return None
    return f"expects {channels} channels, was given {found} in {shape}", cure


def _is_own(module: nn.Module, tensor: Tensor) -> bool:
    owned = [*module.parameters(), *module.buffers()]
    return any(tensor is own for own in owned)


def _shapes(tree: Any) -> str:
    shapes = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors(tree)]
    return ", ".join(shapes) or "no tensor"


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; flags, buffers and torch's random state restored afterwards."""
    # A scripted module keeps its buffers elsewhere, and its inside is not seen anyway.
    eager = [module for module in model.modules() if isinstance(module._buffers, dict)]
    buffers = [(module, dict(module._buffers)) for module in eager]
    values = [(buffer, buffer._version, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {p.device.index or 0 for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices)), training(model, False):
        try:
            yield
        finally:
            for module, own in buffers:
                module._buffers.update(own)
            with torch.no_grad():
                for buffer, version, value in values:
                    if buffer._version != version:
                        buffer.copy_(value)


@contextmanager
def training(model: nn.Module, flag: bool) -> Iterator[None]:
    """Training mode, or evaluation mode, inside; each module's own flag restored afterwards.

    The flag alone: `train()` and `eval()` may be overridden to do more.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = flag
        yield
    finally:
        for module, before in flags:
            module.training = before
