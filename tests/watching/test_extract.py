"""Outputs of chosen modules from a call that ends early, and edits of what modules give."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import lampwork
from lampwork._core.errors import InputError, NameNotFound
from tests.watching.specimen import Of, Pair, Specimen, X, hooks_of, leaves, net
from tests.watching.zoo import ZOO


def captured(model: nn.Module, specimen: Specimen, found: dict[str, Any]) -> None:
    """The outputs of all calls, by name, from one whole pass."""
    torch.manual_seed(1)
    args, kwargs = specimen.example(), specimen.keywords()
    with specimen.context(), lampwork.capture(model, gradients=False) as seen:
        model(*args, **kwargs)
    found |= {name: seen[name].output for name in seen}


def assert_equal(ours: Any, expected: Any) -> None:
    """Two outputs have equal leaves."""
    pairs = list(zip(leaves(ours), leaves(expected), strict=True))
    for one, other in pairs:
        same = torch.equal(one, other) if isinstance(one, Tensor) else one == other
        assert same


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("specimen", ZOO.values(), ids=ZOO)
def test_every_architecture_gives_what_capture_sees(specimen: Specimen) -> None:
    """Each call of each module alone, and all of them together, equal a whole pass."""
    expected: dict[str, Any] = {}
    captured(specimen.model(), specimen, expected)
    alone = [[name] for name in list(expected)[:: max(1, len(expected) // 4)]]
    for names in [*alone, list(expected)]:
        model = specimen.model()
        before = hooks_of(model)  # lazy layers have their own
        torch.manual_seed(1)
        args, kwargs = specimen.example(), specimen.keywords()
        with specimen.context():
            found = lampwork.extract(model, names, *args, **kwargs)
        assert list(found) == names
        for name in names:
            assert_equal(found[name], expected[name])
        assert set(hooks_of(model)) <= set(before)


class Stages(nn.Module):
    """Counts which of its parts were run."""

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.again, self.ran = again, []
        self.a, self.b, self.c = (Of(self.note(name)) for name in "abc")

    def note(self, name: str) -> Any:
        def run(x: Tensor) -> Tensor:
            self.ran.append(name)
            return x + 1

        return run

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        return self.c(self.a(x) if self.again else x)


def test_nothing_runs_behind_the_last_module() -> None:
    """The call ends with the last module that was asked for, whatever the order of the names."""
    model = Stages()
    found = lampwork.extract(model, ["b", "a"], X)
    assert model.ran == ["a", "b"]
    assert list(found) == ["b", "a"]
    assert torch.equal(found["b"], X + 1 + 1)

    model = Stages(again=True)
    assert torch.equal(lampwork.extract(model, "a#2", X)["a#2"], X + 1 + 1 + 1)
    assert model.ran == ["a", "b", "a"]


def test_a_model_that_catches_everything_runs_to_its_end() -> None:
    """`except Exception` lets us pass; a bare `except` swallows us, and the result is the same."""
    for caught, runs in ((Exception, ["a"]), (BaseException, ["a", "c"])):

        class Careful(Stages):
            def forward(self, x: Tensor, caught: Any = caught) -> Tensor:
                try:
                    x = self.a(x)
                except caught:
                    pass
                return self.c(x)

        model = Careful()
        assert torch.equal(lampwork.extract(model, ["a"], X)["a"], X + 1)
        assert model.ran == runs


def test_the_models_own_errors_are_untouched() -> None:
    """An exception of the forward comes out as it is, and no hook stays."""
    model = Pair(lambda x: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        lampwork.extract(model, ["then"], X)
    assert hooks_of(model) == []
    assert set(lampwork.extract(model, ["linear"], X)) == {"linear"}  # ends before the fault


def test_an_extraction_inside_of_another_ends_only_itself() -> None:
    """A model that extracts from a part of itself is not left at that part's end."""
    inner = net()
    model = nn.Sequential(nn.Linear(4, 4), Of(lambda x: lampwork.extract(inner, ["1"], x)["1"]))
    found = lampwork.extract(model, ["0", "1"], X)
    assert torch.equal(found["1"], inner[1](inner[0](found["0"])))


def test_gradients_flow_through_features() -> None:
    """Features are part of the graph, so that something can be trained on them."""
    model = net()
    lampwork.extract(model, ["1"], X)["1"].sum().backward()
    expected = torch.autograd.grad(model[:2](X).sum(), model[0].weight)[0]
    assert torch.equal(model[0].weight.grad, expected)
    assert model[2].weight.grad is None
    with torch.no_grad():
        assert not lampwork.extract(model, ["1"], X)["1"].requires_grad


def test_globs_stand_for_the_modules_that_are_called() -> None:
    """A glob gives those of its modules that ran; the empty name is the model."""
    found = lampwork.extract(net(), ["[01]", ""], X)
    assert list(found) == ["0", "1", ""]
    assert list(lampwork.extract(ZOO["Experts"].model(), "experts.*", X.repeat(2, 1))) == [
        "experts.one",
        "experts.two",
    ]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["thn"], NameNotFound, "'thn' matches no module: did you mean 'then'?"),
        ([], InputError, "no names"),
        (["then#x"], InputError, "call 'x'"),
        (["then#0"], InputError, "call '0'"),
        (["then#2"], NameNotFound, "did not come to call 2 of 'then'"),
    ],
)
def test_names_that_cannot_be_had_are_told(names: Any, error: Any, message: str) -> None:
    """Unknown names come with the nearest, and what the call did not come to is an error."""
    model = Pair(lambda x: x)
    with pytest.raises(error, match=message.replace("?", r"\?")):
        lampwork.extract(model, names, X)
    assert hooks_of(model) == []


def test_a_module_that_is_not_called_is_an_error() -> None:
    """A module that exists but does not run says so."""
    with pytest.raises(NameNotFound, match=r"did not come to 'experts\.idle'"):
        lampwork.extract(ZOO["Experts"].model(), ["experts.idle"], X.repeat(2, 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_model_is_refused() -> None:
    """torch.jit takes no hooks; the cure is named."""
    with pytest.raises(InputError, match=r"before torch\.jit\.script"):
        lampwork.extract(torch.jit.script(nn.Linear(4, 4)), [""], X)


@pytest.mark.filterwarnings("ignore")  # of torch's compiler, about itself
@pytest.mark.parametrize("how", ["wrapper", "in place"])
def test_a_compiled_model_runs_uncompiled_for_this_call(how: str) -> None:
    """Both ways to compile, called before or not, give the plain model's features."""
    plain, model = net(), net()
    if how == "wrapper":
        model = torch.compile(model, backend="eager")
    else:
        model.compile(backend="eager")
    model(X)
    assert torch.equal(lampwork.extract(model, ["1"], X)["1"], plain[:2](X))
    assert torch.equal(model(X), plain(X))
    torch.compiler.reset()  # torch would run what it compiled here, without hooks, for other models


def test_threads_extract_side_by_side() -> None:
    """Two threads that use one model at a time get each their own features."""
    model, found, errors = net(), {}, []

    def work(k: int) -> None:
        try:
            for _ in range(50):
                found[k] = lampwork.extract(model, ["0", "1"], X + k)["1"]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    for k in range(4):
        assert torch.equal(found[k], model[:2](X + k))
    assert hooks_of(model) == []


def test_nothing_is_kept_alive() -> None:
    """What the left forward had computed is freed at once, though it ended by an exception."""
    alive = []

    def watch_output(x: Tensor) -> Tensor:
        y = x * 2
        alive.append(weakref.ref(y))
        return y

    model = nn.Sequential(nn.Linear(4, 4), Of(watch_output), nn.Linear(4, 4))
    gc.disable()
    try:
        features = lampwork.extract(model, ["2"], X)["2"].detach()
        assert features.shape == (3, 4)
        assert alive[0]() is None
    finally:
        gc.enable()


# Edits -------------------------------------------------------------------------------------------


def test_an_edit_changes_what_the_rest_of_the_model_gets() -> None:
    """Output, gradients and what is captured are those of the model with the function inside."""
    model, k = net(), torch.tensor(3.0, requires_grad=True)
    with lampwork.capture(model, edit={"0": lambda h: h * k}) as seen:
        model(X).sum().backward()
    grad_k, grad_weight = k.grad, model[0].weight.grad
    k.grad = None
    model.zero_grad()
    h = model[0](X) * k
    h.retain_grad()
    output = model[2](torch.relu(h))
    output.sum().backward()
    assert torch.equal(seen[""].output, output)
    assert torch.equal(seen["0"].output, h)
    assert torch.equal(seen["0"].grad_output, h.grad)
    assert torch.equal(grad_k, k.grad)
    assert torch.equal(grad_weight, model[0].weight.grad)
    assert torch.equal(lampwork.extract(model, [""], X, edit={"0": lambda h: h * k})[""], output)
    assert hooks_of(model) == []


@pytest.mark.parametrize("reentrant", [False, True])
def test_an_edit_is_made_again_where_the_forward_is(reentrant: bool) -> None:
    """A checkpointed segment is recomputed with the edit, so its gradients are right."""
    model, x = net(), X.clone().requires_grad_()
    with lampwork.capture(model, "2", edit={"0": lambda h: h * 3}):
        checkpoint(model, x, use_reentrant=reentrant).sum().backward()
    (expected,) = torch.autograd.grad(model[2](torch.relu(model[0](x) * 3)).sum(), x)
    assert torch.equal(x.grad, expected)


def test_structures_are_kept_by_edits() -> None:
    """A dict stays a dict; edits of one module follow one another."""
    model = ZOO["DictOutput"].model()
    double = {"then": lambda out: {**out, "a": out["a"] * 2}, "th*": lambda out: dict(out)}
    plain = lampwork.extract(model, [""], X)[""]
    edited = lampwork.extract(model, [""], X, edit=double)[""]
    assert torch.equal(edited["a"], plain["a"] * 2)
    assert torch.equal(edited["c"], plain["c"])


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        ({"0": lambda h: None}, InputError, "returned None for a tensor"),
        ({"0": lambda h: (h, h)}, InputError, "a tuple with 2 tensors for a tensor"),
        ({"0": 3}, InputError, "holds a int"),
        ({"zero": lambda h: h}, NameNotFound, "'zero' matches no module"),
        ({"0": lambda h: 1 // 0}, ZeroDivisionError, "division"),
    ],
)
def test_edits_that_cannot_be_made_are_told(edit: Any, error: Any, message: str) -> None:
    """Another structure, no function, an unknown name: each with its cause, and no hook stays."""
    model = net()
    with pytest.raises(error, match=message):
        lampwork.extract(model, ["2"], X, edit=edit)
    with pytest.raises(error, match=message), lampwork.capture(model, edit=edit):
        model(X)
    assert hooks_of(model) == []
