"""Attention maps, recomputed from queries and keys while the probe runs.

The model keeps its fused attention. Only during the probe's forward a function mode looks at
three calls: `F.scaled_dot_product_attention`, of which softmax(QK^T · scale + mask) is computed
beside it; `F.multi_head_attention_forward`, which is asked for its weights; and a softmax over
the last of (examples, heads, queries, keys), which is attention written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lampwork.watching.pictures.pixels import MAX_SIDE, Snapshot, from_zero, spread

MOST_LAYERS = 4
MOST_HEADS = 8
MOST_QUERIES = 256
"""Of longer sequences as many evenly spaced queries are computed, against all keys."""

_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)


class Attention(TorchFunctionMode):
    """Collects the maps of the first example.

    Args:
        examples: in the batch.
        place: tells the name of the module that is running.

    Attributes:
        maps: by name of the module, shape (heads, queries, keys), each row a distribution.
    """

    def __init__(self, examples: int, place: Callable[[], str]) -> None:
        super().__init__()
        self._examples, self._place = examples, place
        self.maps: dict[str, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._packed(func, args, kwargs)
        if func is F.scaled_dot_product_attention:
            with torch.no_grad():
                self._keep(weights(*args, **kwargs))
        output = func(*args, **kwargs)
        if func in _SOFTMAX and _along(args, kwargs) in (-1, output.dim() - 1):
            self._keep(self._by_head(output))
        return output

    def _packed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if "need_weights" not in kwargs:
            return func(*args, **kwargs)
        asked, averaged = kwargs["need_weights"], kwargs.get("average_attn_weights", True)
        output, found = func(
            *args, **{**kwargs, "need_weights": True, "average_attn_weights": False}
        )
        self._keep(found if found.dim() == 4 else found[None])
        if not asked:
            return output, None
        return output, found.mean(found.dim() - 3) if averaged else found

    def _by_head(self, output: Tensor) -> Tensor | None:
        """(examples, heads, queries, keys) of what a softmax gave; None if it is no attention."""
        if output.dim() == 4 and len(output) == self._examples:
            return output
        if output.dim() == 3 and output.shape[1] == output.shape[2] > 1:
            heads, rest = divmod(len(output), self._examples)
            return output.unflatten(0, (self._examples, heads)) if not rest else None
        return None

    def _keep(self, found: Tensor | None) -> None:
        if found is not None and found.dim() == 4 and min(found.shape) > 0 and found.shape[-1] > 1:
            heads = spread(found.shape[1], MOST_HEADS)
            name, call = self._place(), 2
            key = name
            while key in self.maps:
                key, call = f"{name}#{call}", call + 1
            self.maps[key] = small(found.detach()[0][heads])


def weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """softmax(QK^T · scale + mask) of the first example and some heads and queries.

    The arguments are those of `torch.nn.functional.scaled_dot_product_attention`, and so are the
    masks: a causal one is aligned to the first query and key, True takes part.

    Returns:
        Shape (1, heads, queries, keys) in float32: at most `MOST_HEADS` and `MOST_QUERIES`, the
        same evenly spaced ones each time; None for other than four dimensions.
    """
    if query.dim() != 4 or key.dim() != 4:
        return None
    heads, queries = spread(query.shape[1], MOST_HEADS), spread(query.shape[2], MOST_QUERIES)
    shared = query.shape[1] // max(key.shape[1], 1)  # grouped queries: so many heads a key
    q = query[0][heads][:, queries].float()
    k = key[0][[head // max(shared, 1) for head in heads]].float()
    logits = q @ k.transpose(1, 2) * (1 / math.sqrt(query.shape[3]) if scale is None else scale)
    if is_causal:
        seen = torch.tensor(queries, device=q.device)[:, None] >= torch.arange(
            key.shape[2], device=q.device
        )
        logits = logits.masked_fill(~seen, -torch.inf)
    if attn_mask is not None:
        mask = attn_mask.expand(*query.shape[:-1], key.shape[2])[0][heads][:, queries]
        logits = (
            logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        )
    return logits.softmax(-1).nan_to_num(0.0)[None]


def small(maps: Tensor) -> Tensor:
    """Maps of at most 64 × 64: neighbouring queries averaged, weights of neighbouring keys added.

    A row stays a distribution over the keys.
    """
    maps = maps.float()[:, spread(maps.shape[1], MOST_QUERIES)]
    size = (min(maps.shape[1], MAX_SIDE), min(maps.shape[2], MAX_SIDE))
    if size == tuple(maps.shape[1:]):
        return maps
    # The bins of adaptive pooling overlap where sizes do not divide, so each row is scaled anew.
    pooled = F.adaptive_avg_pool2d(maps[None], size)[0] * (maps.shape[2] / size[1])
    return pooled / pooled.sum(-1, keepdim=True).clamp_min(1e-12)


def attention(maps: dict[str, Tensor]) -> list[Snapshot]:
    """Evenly spaced layers; each row, which is one query, from zero to its largest weight."""
    names = list(maps)
    return [
        Snapshot(names[i], "attention", from_zero(maps[names[i]], (-1,)))
        for i in spread(len(names), MOST_LAYERS)
    ]


def _along(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("dim", args[1] if len(args) > 1 else None)
