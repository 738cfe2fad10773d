"""Small architectures, one for each thing that makes reading a model's insides hard.

Everything is seeded, so two runs of equal models are bitwise the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from tests.watching.specimen import Of, Pair, Specimen, rows, tensor

ZOO: dict[str, Specimen] = {}


def specimen(*shapes: tuple[int, ...], **options: Any) -> Callable[[type[nn.Module]], Any]:
    """Put a module class without arguments into the zoo; it is called with normal tensors."""

    def add(kind: type[nn.Module]) -> type[nn.Module]:
        example = options.pop("example", lambda: tuple(tensor(*shape) for shape in shapes))
        ZOO[kind.__name__] = Specimen(kind, example, **options)
        return kind

    return add


def add_pair(name: str, function: Callable[..., Any], width: int = 4) -> None:
    """Put a `Pair` into the zoo."""
    ZOO[name] = Specimen(partial(Pair, function, width), rows)


# Operations in place -----------------------------------------------------------------------------


@specimen((2, 3, 6, 6))
class ConvNormReluInPlace(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))


@specimen((2, 3, 6, 6))
class ResidualInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.conv1(x)))
        out += x
        return self.relu(out)


@specimen((3, 4))
class SliceInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        h[:, :2] *= 3
        h[:, 2:].relu_()
        return self.b(h)


add_pair("InPlaceOnInput", lambda x: x.mul_(2).add_(1))

# What goes in and comes out ----------------------------------------------------------------------


@specimen((3, 4), keywords=lambda: {"scale": tensor(3, 1), "mode": "twice", "mask": None})
class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Of(lambda *, b, a, times: (a - b) * times)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, *, scale: Tensor, mode: str, mask: Tensor | None) -> Tensor:
        times = 2 if mode == "twice" and mask is None else 1
        return self.inner(b=self.linear(x), a=x * scale, times=times)


class Named(NamedTuple):
    logits: Tensor
    label: str
    hidden: Tensor | None


@dataclass(frozen=True)
class Output:
    logits: Tensor
    states: tuple[Tensor, ...]
    loss: Tensor | None = None


add_pair("DictOutput", lambda x: {"a": x * 2, "b": x.argmax(-1), "c": x.exp()})
add_pair("NamedTupleOutput", lambda x: Named(x * 2, "label", x.exp()))
add_pair("DataclassOutput", lambda x: Output(x * 2, (x + 1, x.exp())))
add_pair("NestedOutput", lambda x: {"a": [x * 2, (x + 1, 7)], "b": None, "c": {"d": x.tanh()}})
add_pair("NoneOutput", lambda x: (None, x * 2, None))
add_pair("Views", lambda x: (x.view(-1), x.t(), x[:, None].expand(3, 2, 4), x.unfold(1, 2, 1)))
add_pair("ChunkOutput", lambda x: x.chunk(3, dim=-1), width=6)
add_pair("SplitOutput", lambda x: torch.split(x, [1, 3], dim=-1))
add_pair("OutputTwice", lambda x: (x, x))
add_pair("IntegerOutput", lambda x: (x.sigmoid(), x > 0))
add_pair("Complex", lambda x: torch.fft.fft(x) * torch.complex(x, -x))


@specimen((5, 4))
class UnusedParts(nn.Module):
    """Parts of one operation's output that nothing consumes: their gradient never comes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.unbind = nn.Linear(4, 4), Of(lambda x: x.unbind(0))
        self.split = Of(lambda x: x.split(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.unbind(self.linear(x))[1] + self.split(x)[0].sum(0)


@specimen((3, 4))
class InputReturned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both, self.linear = Of(lambda x, flag: (x, x * 2 if flag else x)), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        same, double = self.both(self.linear(x), True)
        return same * double


@specimen((3, 4), (3, 2))
class ListInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.join, self.linear = Of(lambda parts, dim: torch.cat(parts, dim)), nn.Linear(6, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.linear(self.join([x, y], -1))


class _Twins(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor:
        return sum(k * g for k, g in zip((2, 3), grads, strict=True) if g is not None)


add_pair("CustomFunction", _Twins.apply)

# Modules that are called more than once, or not as usual -----------------------------------------


@specimen((3, 4))
class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(self.block(x)))


@specimen((5, 2, 3))
class CellInLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(2, 4)
        for step in x:
            h = self.cell(step, h)
        return h


@specimen(example=lambda: (torch.randint(0, 7, (2, 5)),))
class TiedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.decode = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.decode.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.decode(self.embed(ids).mean(1))


@specimen((6, 4))
class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("one", "two", "idle")})

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for name, chosen in (("one", [0, 2]), ("two", [1, 3, 5])):
            index = torch.tensor(chosen)
            out.index_add_(0, index, self.experts[name](x[index]))
        return out


@specimen((3, 4))
class FunctionalResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.linear(relu(self.a(x)), self.b.weight)  # b is never called


# Layers of their own kind ------------------------------------------------------------------------


def add_layers(name: str, *layers: Callable[[], nn.Module], example: Any = rows) -> None:
    """Put one layer or a sequence of them into the zoo."""

    def build() -> nn.Module:
        built = [layer() for layer in layers]
        return built[0] if len(built) == 1 else nn.Sequential(*built)

    ZOO[name] = Specimen(build, example)


def linear() -> nn.Linear:
    """A layer for `rows`."""
    return nn.Linear(4, 4)


def ids() -> tuple[Tensor]:
    """Indices with repetition."""
    return (torch.tensor([[1, 2], [2, 6]]),)


add_layers("Lstm", lambda: nn.LSTM(4, 3, num_layers=2, dropout=0.5))
add_layers("Gru", lambda: nn.GRU(4, 3, bidirectional=True), example=lambda: (*rows(), tensor(2, 3)))
add_layers("Embedding", lambda: nn.Embedding(7, 4), example=ids)
add_layers("SparseEmbedding", lambda: nn.Embedding(7, 4, sparse=True), example=ids)
add_layers("Identity", linear, nn.Identity, nn.Tanh)
add_layers("BatchNormEval", linear, lambda: nn.BatchNorm1d(4).eval())
add_layers("Dropout", linear, nn.Dropout, nn.AlphaDropout)
add_layers("WeightNorm", lambda: weight_norm(linear()), nn.ReLU)
add_layers("LazyLayers", lambda: nn.LazyLinear(4), nn.ReLU, lambda: nn.LazyLinear(2))
add_layers("Transformer", lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True))


@specimen((2, 5, 8))
class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, weights = self.attention(x, x, value=x, average_attn_weights=False)
        return out + weights.sum()


@specimen((2, 5, 8), (2, 3, 6))
class CrossAttention(nn.Module):
    """Queries and keys of different sizes, masks, no weights asked for: torch's fast way."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        padding = torch.tensor([[False, False, True], [False, False, False]])
        mask = torch.zeros(5, 3, dtype=torch.bool).index_fill_(0, torch.tensor([0]), False)
        out, weights = self.attention(
            x, memory, memory, key_padding_mask=padding, attn_mask=mask, need_weights=False
        )
        assert weights is None
        return out


class Packed(nn.Module):
    """A recurrent layer over sequences of lengths 5, 4 and 2."""

    def __init__(self, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x: Tensor) -> tuple[PackedSequence, Any]:
        return self.recurrent(pack_padded_sequence(x, [5, 4, 2]))


for _kind in (nn.RNN, nn.LSTM, nn.GRU):
    ZOO[f"Packed{_kind.__name__}"] = Specimen(
        lambda _kind=_kind: Packed(_kind(3, 4, bidirectional=True)), lambda: (tensor(5, 3, 3),)
    )


# Parts outside of the graph, and graphs that are made again --------------------------------------


@specimen((3, 4))
class Frozen(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
        self[1].requires_grad_(False)


@specimen((3, 4))
class NoGradPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.student = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.teacher(x)
        return self.student(x) - target + self.student(x.detach())


class Checkpointed(nn.Module):
    """`reentrant` None calls the segments plainly: the reference for the two kinds."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem, self.norm, self.drop = nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(0.3)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))

    def again(self, function: Callable[..., Any], *args: Any) -> Any:
        if self.reentrant is None:
            return function(*args)
        return checkpoint(function, *args, use_reentrant=self.reentrant)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = h + self.again(self.block, h)  # the segment's input has a consumer outside of it
        h = self.again(self.segment, h)
        return self.again(self.block, h) * h

    def segment(self, h: Tensor) -> Tensor:
        h = self.drop(h)
        return h + self.again(self.norm, h)  # a segment within a segment


for _name, _kind in (("CheckpointNonReentrant", False), ("CheckpointReentrant", True)):
    ZOO[_name] = Specimen(partial(Checkpointed, _kind), rows)

ZOO["AutocastBfloat16"] = Specimen(
    lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 2)),
    rows,
    context=lambda: torch.autocast("cpu", torch.bfloat16),
)
