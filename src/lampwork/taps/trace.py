"""Which function consumes which layer: one forward pass, watched at torch's function level.

A `TorchFunctionMode` sees every torch function that the model calls, whether a module or a line
of `forward` calls it. For each tensor it keeps a short note: which layers' outputs flow in it that
no nonlinearity has met yet (`unmet`), which layers came last on the way (`last`), through how many
layers it went (`depth`), and from which inputs it comes (`roots`). From these follow

- the consumer: the first nonlinearity that meets a layer's output. Everything that is not known
  to be a nonlinearity, a product of data with data or another layer is looked through:
  normalisation, dropout, pooling, reshaping, scaling, addition. A nonlinearity that is written
  out as a product of the signal with a function of itself counts as what it spells: x·σ(x) is
  `silu`, x·(1 + tanh(…x³…))/2 is `gelu`;
- the closed residual branch: an addition of two tensors of one shape that come from the same
  input, one of them through more layers than the other. The last layers of the longer way close
  the branch; the shorter way is the skip;
- what each parameter does (`place`): the matrix of a product, a scale, a token;
- which layer feeds which through an activation alone (`feeds`).

Layers are named by their parameters, so a call like `F.linear(x, self.w)` counts as well as a
module. What runs inside one fused function (LSTM, GRU) stays unseen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lampwork.taps.forward import as_it_was, call_of, explain, on_meta_as_the_model
from lampwork.taps.structure import tensors
from lampwork.taps.uses import Branch, Feed, Trace, Use
from lampwork.taps.watcher import Watcher

__all__ = ["Branch", "Feed", "Trace", "Use", "consumers", "trace"]


def consumers(model: nn.Module, example: Any) -> dict[str, Use]:
    """Runs the model once on the example and tells for each parameter what its layer feeds.

    The `uses` of `trace`.
    """
    return dict(trace(model, example).uses)


def trace(model: nn.Module, example: Any) -> Trace:
    """Runs the model once on the example and tells what becomes of each parameter.

    The pass runs in evaluation mode without gradients. Training flags, buffers and torch's random
    state are afterwards what they were. The activations of the one pass are held until it ends.

    Args:
        model: any module; on meta it is traced on meta tensors.
        example: a tensor, a tuple (positional) or a dict (keyword), as the model takes them.

    Raises:
        InputError: the model does not run on the example; names the layer that failed.
    """
    args, kwargs = on_meta_as_the_model(model, call_of(example))
    watcher = Watcher(model, tensors((args, kwargs)))
    with as_it_was(model):
        try:
            with torch.no_grad(), watcher:
                result = model(*args, **kwargs)
        except Exception as error:
            failed = watcher.failed
            raise explain(
                model, (args, kwargs), error, failed and (failed.name, failed.inputs)
            ) from error
    return watcher.found(result)
