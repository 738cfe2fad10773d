"""Tensors that are not dense floats: each is captured, extracted and watched, or passed over."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import lampwork
from lampwork._core.summary import COLUMN
from lampwork._native.stats import summary_row
from tests.watching.specimen import Of, hooks_of
from tests.watching.training import batches, record_of, rows, seeded, sgd, train, watched

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*quantize:UserWarning",
    "ignore:.*PyTorch API of nested tensors:UserWarning",
    "ignore:Sparse CSR tensor support:UserWarning",
    "ignore:None of the inputs have requires_grad=True:UserWarning",
)


class Kind(NamedTuple):
    """To the odd kind of tensor and back, whether gradients pass it, and the numbers in it."""

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    gradients: bool
    count: int | None  # None where nothing can be read


def nested(x: Tensor, layout: torch.layout = torch.strided) -> Tensor:
    """The rows of a matrix as two sequences of one and two rows."""
    return torch.nested.as_nested_tensor([x[:1], x[1:3]], layout=layout)


def padded(x: Tensor) -> Tensor:
    """A dense tensor again."""
    return x.to_padded_tensor(0.0)  # pyright: ignore[reportCallIssue]


def real(x: Tensor) -> Tensor:
    """Both parts of complex numbers."""
    return torch.view_as_real(x.resolve_conj())


FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
KINDS = {
    "zero elements": Kind(lambda x: x[:, :0], lambda x: x.sum() + torch.ones(3), True, 0),
    "complex": Kind(lambda x: torch.complex(x, -x), real, True, 24),
    "conjugated": Kind(lambda x: torch.complex(x, -x).conj(), real, True, 24),
    "sparse": Kind(lambda x: x.to_sparse(), lambda x: x.to_dense(), True, 12),
    "sparse rows": Kind(lambda x: x.to_sparse_csr(), lambda x: x.to_dense(), True, None),
    "nested": Kind(nested, padded, True, None),
    "jagged": Kind(lambda x: nested(x, torch.jagged), padded, True, None),
    "quantised": Kind(
        lambda x: torch.quantize_per_tensor(x.detach(), 0.1, 0, torch.qint8),
        lambda x: x.dequantize(),
        False,
        None,
    ),
    "booleans": Kind(lambda x: x > 0, lambda x: x.float(), False, None),
    "indices": Kind(lambda x: x.argmax(1), lambda x: x.float(), False, None),
    **{str(f8): Kind(lambda x, f8=f8: x.to(f8), lambda x: x.float(), True, 12) for f8 in FLOAT8},
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each in turn."""
    return request.param


class Shift(nn.Module):
    """Something to train behind the odd tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def model_of(kind: Kind) -> nn.Sequential:
    """A layer, then there and back again."""
    return seeded(lambda: nn.Sequential(nn.Linear(4, 4), Of(kind.there), Of(kind.back), Shift()))


X = batches(1, 3, 4)[0]


def numbers(tensor: Tensor | None) -> list[Any] | None:
    """What a tensor of any kind holds, as Python lists."""
    if tensor is None:
        return None
    if tensor.is_nested:
        return [numbers(part) for part in tensor.unbind()]
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    return (tensor.float() if tensor.itemsize == 1 else tensor).tolist()


def test_each_kind_is_captured_with_the_gradients_of_autograd(kind: Kind) -> None:
    """Values, kinds and gradients are those of plain autograd, over two passes of one block."""
    model, twin = model_of(kind), model_of(kind)
    with lampwork.capture(model) as seen:
        for _ in range(2):
            model(X).square().sum().backward()
    hidden = twin[0](X)
    odd = twin[1](hidden)
    back = twin[2](odd)
    loss = twin[3](back).square().sum()

    for name in ("1", "1#2"):
        call = seen[name]
        assert (call.output.layout, call.output.dtype) == (odd.layout, odd.dtype)
        assert numbers(call.output) == numbers(odd.detach())
        wanted = [hidden, odd] if kind.gradients else [back]
        expected = torch.autograd.grad(
            loss, wanted if kind.gradients else [twin[3].shift], retain_graph=True
        )
        found = (call.grad_input, call.grad_output) if kind.gradients else ()
        assert list(map(numbers, found)) == list(map(numbers, expected[: len(found)]))
        assert kind.gradients or call.grad_output is None
    assert not hooks_of(model)


# torch itself refuses to recompute nested tensors without reentry.
@pytest.mark.parametrize("reentrant", [True, False])
def test_each_kind_may_enter_a_checkpointed_segment(kind: Kind, reentrant: bool) -> None:
    """A recomputed call is told by its inputs, of whatever kind they are."""
    if kind in (KINDS["nested"], KINDS["jagged"]) and not reentrant:
        return
    model, twin = model_of(kind), model_of(kind)
    with lampwork.capture(model) as seen:
        hidden = checkpoint(model[:1], X.clone().requires_grad_(), use_reentrant=reentrant)
        checkpoint(model[1:], hidden, use_reentrant=reentrant).square().sum().backward()
    twin(X).square().sum().backward()
    assert numbers(seen["3"].parameters["shift"][1]) == numbers(twin[3].shift.grad)
    assert (seen["2"].grad_input is not None) == kind.gradients
    assert seen.names() == ["0", "1", "2", "3"]


def test_each_kind_is_extracted(kind: Kind) -> None:
    """A feature may be of any kind, also where the model goes on behind it."""
    model = model_of(kind)
    expected = numbers(model[:2](X).detach())
    for names in (["1"], ["1", "2"]):
        assert numbers(lampwork.extract(model, names, X)["1"].detach()) == expected


def test_each_kind_is_watched_or_passed_over(tmp_path: Any, kind: Kind, caplog: Any) -> None:
    """Training is bitwise the same; what can be read is recorded, and nothing is complained of."""
    model, twin = model_of(kind), model_of(kind)
    with watched(model, tmp_path) as run:
        train(model, sgd(model), [X] * 3)
    train(twin, sgd(twin), [X] * 3)
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
    assert caplog.records == []
    record = record_of(run)
    assert record.steps.tolist() == [0, 1, 2]
    found = record.find("1", "output")
    assert (found is None) == (kind.count is None)
    if found is not None:
        assert record.summary(found).count.tolist() == [kind.count] * 3


PARAMETERS: dict[str, Callable[[], Tensor]] = {
    "zero elements": lambda: torch.zeros(0, 4),
    "a number": lambda: torch.ones(()),
    "complex": lambda: torch.ones(4, 4, dtype=torch.complex64),
    "conjugated": lambda: torch.full((4, 4), 1 + 1j).conj(),
    "sparse": lambda: torch.eye(4).to_sparse(),
    "sparse rows": lambda: torch.eye(4).to_sparse_csr(),
    "gaps": lambda: torch.ones(4, 8)[:, ::2],
    "meta": lambda: torch.ones(4, 4, device="meta"),
    "jagged": lambda: nested(torch.ones(3, 2), torch.jagged),
    "nested": lambda: nested(torch.ones(3, 2)),
    **{
        str(dtype): lambda dtype=dtype: torch.ones(4, 4).to(dtype)
        for dtype in (*FLOAT8, torch.int8, torch.uint16, torch.bool)
    },
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8),
}
TRAINED = ("zero elements", "a number", "complex", "conjugated", "sparse", "sparse rows", "gaps")


class Holding(nn.Module):
    """A layer, and a parameter of an odd kind, which is trained where torch can do that."""

    def __init__(self, value: Tensor, trained: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.odd = nn.Parameter(value, requires_grad=trained)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        if not self.odd.requires_grad:
            return x
        if self.odd.layout != torch.strided:
            return torch.sparse.mm(self.odd, x.t())
        total = self.odd.sum()
        return x + (total.abs() if total.is_complex() else total)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_each_kind_are_watched_and_captured(
    tmp_path: Any, name: str, caplog: Any
) -> None:
    """Two steps train as without us, and every parameter that has numbers has its rows."""
    trained = name in TRAINED
    model, twin = (seeded(lambda: Holding(PARAMETERS[name](), trained)) for _ in range(2))
    optimizers = [
        sgd(nn.ParameterList(p for p in each.parameters() if p.requires_grad))
        for each in (model, twin)
    ]
    with watched(model, tmp_path) as run:
        train(model, optimizers[0], [X] * 2)
    train(twin, optimizers[1], [X] * 2)
    assert caplog.records == []
    assert numbers(model.layer.weight) == numbers(twin.layer.weight)
    record = record_of(run)
    assert record.steps.tolist() == [0, 1]
    readable = name not in ("sparse rows", "meta", "jagged", "nested", "quantised")
    weight = record.find("odd", "weight")
    seen = weight is not None and bool(np.isfinite(record.summary(weight).count).all())
    assert seen == readable

    with lampwork.capture(model) as captured:
        for _ in range(2):
            model(X).square().sum().backward()
    value, gradient = captured["#2"].parameters["odd"]
    assert (value.dtype, value.layout) == (model.odd.dtype, model.odd.layout)
    assert (gradient is not None) == trained
    assert hooks_of(copy.copy(model)) == []


@pytest.mark.parametrize("float8", FLOAT8)
def test_updates_of_float8_parameters_are_differences(tmp_path: Any, float8: torch.dtype) -> None:
    """An optimizer that steps float8 by way of float32 has its updates recorded as such."""

    class Cast(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p.copy_(p.float() + 1.0)

    model = nn.Module()
    model.w = nn.Parameter(torch.ones(2, 3).to(float8), requires_grad=False)
    with watched(model, tmp_path) as run:
        Cast(model.parameters(), lr=1.0).step()
    (update,) = rows(record_of(run), "w", "update")
    np.testing.assert_array_equal(update, summary_row(torch.ones(2, 3)).numpy())
    assert update[COLUMN["sum"]] == 6
