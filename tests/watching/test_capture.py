from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.parameter import UninitializedParameter

import lampwork
from tests.watching.specimen import Specimen, hooks_of, leaves
from tests.watching.zoo import ZOO, Named, Output

# torch warns so of a reentrant segment within another one, and computes its gradients all the same.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")


@dataclass
class ByHand:
    """One call as plain forward hooks see it: values, and where their gradients will pass."""

    inputs: list[Tensor]
    parameters: dict[str, Tensor]
    output: list[Any] = field(default_factory=list)
    input_edges: list[GradientEdge | None] = field(default_factory=list)
    output_edges: list[GradientEdge | None] = field(default_factory=list)


def edges(found: list[Any]) -> list[GradientEdge | None]:
    """Where in the graph each tensor's gradient will pass, also if it is changed in place later."""
    wants = [isinstance(leaf, Tensor) and leaf.requires_grad for leaf in found]
    return [get_gradient_edge(t) if want else None for t, want in zip(found, wants, strict=True)]


def keep(leaf: Any) -> Any:
    """A copy, if it is a tensor."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def values(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters that have a value."""
    named = module.named_parameters()
    return {name: keep(p) for name, p in named if not isinstance(p, UninitializedParameter)}


def calls_by_hand(model: nn.Module) -> dict[str, ByHand]:
    """Its calls, from hooks that look at forward passes only; fills while the model runs."""
    calls: dict[str, ByHand] = {}
    count: Counter[str] = Counter()
    running: list[ByHand] = []

    def before(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        count[name] += 1
        label = name if count[name] == 1 else f"{name}#{count[name]}"
        found = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        calls[label] = ByHand([keep(t) for t in found], values(module), input_edges=edges(found))
        running.append(calls[label])

    def after(output: Any) -> None:
        call, found = running.pop(), list(leaves(output))
        call.output, call.output_edges = [keep(leaf) for leaf in found], edges(found)

    for name, module in model.named_modules():
        module.register_forward_pre_hook(partial(before, name), with_kwargs=True)
        module.register_forward_hook(lambda module, args, output: after(output))
    return calls


def gradients_of(loss: Tensor, targets: list[Any]) -> list[Tensor | None]:
    """`torch.autograd.grad`, with None for what is no target."""
    wanted = [target for target in targets if target is not None]
    if not wanted:  # torch refuses an empty list
        return targets
    found = iter(torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True))
    return [None if target is None else next(found) for target in targets]


def plain_twin(model: nn.Module) -> nn.Module:
    """A copy that computes the same without checkpointing."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if hasattr(module, "reentrant"):
            module.reentrant = None
    return twin


def same(one: Any, other: Any) -> bool:
    """Bitwise, dtype and layout included."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one is other or (not isinstance(one, Tensor) and one == other)
    if one.layout != other.layout or one.dtype != other.dtype:
        return False
    return (
        torch.equal(one.to_dense(), other.to_dense()) if one.is_sparse else torch.equal(one, other)
    )


def all_same(ones: Any, others: Any) -> bool:
    """The same leaves in the same order."""
    ones, others = list(leaves(ones)), list(leaves(others))
    return len(ones) == len(others) and all(map(same, ones, others))


@pytest.fixture(params=ZOO.values(), ids=ZOO)
def specimen(request: pytest.FixtureRequest) -> Specimen:
    """Each of the zoo in turn."""
    return request.param


def test_values_and_gradients_are_those_of_autograd(specimen: Specimen) -> None:
    """Every input, output, parameter and gradient is bitwise that of `torch.autograd.grad`."""
    model = specimen.model()
    twin = plain_twin(model)
    calls = calls_by_hand(twin)
    loss = specimen.loss(twin)

    with lampwork.capture(model) as seen:
        specimen.loss(model).backward()

    assert seen.names() == list(calls)
    for label, call in calls.items():
        captured = seen[label]
        assert all_same(captured.input, call.inputs), f"input of {label!r}"
        assert all_same(captured.output, call.output), f"output of {label!r}"
        expected = gradients_of(loss, call.input_edges)
        assert all_same(captured.grad_input, expected), f"grad_input of {label!r}"
        pairs = zip(call.output, gradients_of(loss, call.output_edges), strict=True)
        expected = [gradient if isinstance(leaf, Tensor) else leaf for leaf, gradient in pairs]
        assert all_same(captured.grad_output, expected), f"grad_output of {label!r}"


def test_parameters_and_their_gradients_are_those_of_autograd(specimen: Specimen) -> None:
    """Each call shows its module's parameters, and their gradients bitwise as autograd has them."""
    model = specimen.model()
    twin = plain_twin(model)
    calls = calls_by_hand(twin)
    loss = specimen.loss(twin)
    trained = {n: p for n, p in twin.named_parameters(remove_duplicate=False) if p.requires_grad}
    gradients = dict(zip(trained, gradients_of(loss, list(trained.values())), strict=True))

    with lampwork.capture(model) as seen:
        specimen.loss(model).backward()

    for label, call in calls.items():
        captured, prefix = seen[label], f"{label.partition('#')[0]}."
        expected = {
            n: (v, gradients.get((prefix + n).lstrip("."))) for n, v in call.parameters.items()
        }
        assert captured.parameters.keys() == expected.keys()
        assert all_same(captured.parameters, expected), label
        weight, bias = (expected.get(name, (None, None)) for name in ("weight", "bias"))
        assert all_same((captured.weight, captured.grad_weight), weight), label
        assert all_same((captured.bias, captured.grad_bias), bias), label


def test_the_model_does_not_notice(specimen: Specimen) -> None:
    """Loss, gradients, buffers, flags and torch's random state are bitwise those without us."""

    def train(model: nn.Module) -> list[Any]:
        loss = specimen.loss(model)
        loss.backward()
        modes = [module.training for module in model.modules()]
        gradients = [parameter.grad for parameter in model.parameters()]
        return [loss.detach(), gradients, list(model.buffers()), modes, torch.get_rng_state()]

    model = specimen.model()
    bare = train(copy.deepcopy(model))
    with lampwork.capture(model):
        watched = train(model)

    assert all_same(watched, bare)
    assert not hooks_of(model)


def test_structures_stay_what_the_module_returned() -> None:
    """Output and its gradient have the module's own types: dict, named tuple, dataclass, nested."""

    def captured(name: str) -> tuple[Any, Any]:
        model = ZOO[name].model()
        with lampwork.capture(model, "then") as seen:
            ZOO[name].loss(model).backward()
        return seen["then"].output, seen["then"].grad_output

    output, gradient = captured("DictOutput")
    assert list(output) == list(gradient) == ["a", "b", "c"]
    assert gradient["a"].shape == (3, 4)
    assert gradient["b"] is None  # indices have no gradient
    output, gradient = captured("NamedTupleOutput")
    assert type(output) is type(gradient) is Named
    assert output.label == gradient.label == "label"
    output, gradient = captured("DataclassOutput")
    assert type(output) is type(gradient) is Output
    assert gradient.states[1].shape == (3, 4)
    output, gradient = captured("NestedOutput")
    assert output["a"][1][1] == gradient["a"][1][1] == 7
    assert gradient["b"] is None
    assert gradient["c"]["d"].shape == (3, 4)
    _, gradient = captured("NoneOutput")
    assert gradient[0] is gradient[2] is None
