"""Which modules are tapped, and which models are refused."""

import pytest
import torch
from torch import nn

from lampwork._core.errors import InputError, NameNotFound
from lampwork.taps import select

# torch itself uses what it calls deprecated when it compiles.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Scaled(nn.Module):
    """A module with a parameter of its own and a child."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())


def test_globs_name_modules_in_the_order_of_registration():
    """Modules come by dotted name, the model itself under the empty one."""
    model = nn.Sequential(nn.Linear(2, 2), Scaled())
    chosen = select.by_glob(model, ["1.*", "0"])
    assert list(chosen) == ["0", "1.inner", "1.inner.0", "1.inner.1"]
    assert chosen["1.inner"] is model[1].inner
    assert select.by_glob(model, [""]) == {"": model}
    assert next(iter(select.by_glob(model, ["*"]))) == ""


def test_a_glob_without_a_module_is_an_error():
    """A name that no module has is told with the nearest one."""
    with pytest.raises(NameNotFound, match=r"'1.iner' matches no module: did you mean '1.inner'"):
        select.by_glob(nn.Sequential(nn.Linear(2, 2), Scaled()), ["1.iner"])


def test_a_module_with_two_names_counts_once():
    """A shared module is named by the first of its names."""
    shared = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": shared, "b": shared})
    assert list(select.by_glob(model, ["*"])) == ["", "a"]
    with pytest.raises(NameNotFound):
        select.by_glob(model, ["b"])


def test_worth_watching_are_the_model_leaves_and_owners_of_parameters():
    """Containers are left out, since their output is that of their last child."""
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), Scaled())
    assert list(select.with_values(model)) == ["", "0.0", "0.1", "1", "1.inner.0", "1.inner.1"]


def test_owners_are_found_whatever_their_values():
    """A module counts by having parameters or children, not by their truth or length."""
    attention = nn.MultiheadAttention(4, 2)
    assert list(select.with_values(attention)) == ["", "out_proj"]
    zero = Scaled()
    nn.init.zeros_(zero.scale)
    model = nn.Sequential(attention, zero, nn.Sequential(nn.Sequential()))
    names = ["", "0", "0.out_proj", "1", "1.inner.0", "1.inner.1", "2.0"]
    assert list(select.with_values(model)) == names


def test_a_compiled_model_is_refused():
    """torch.compile gives an object whose hooks torch would ignore: said before training."""
    compiled = torch.compile(nn.Linear(2, 2), backend="eager")
    for choose in (lambda m: select.by_glob(m, ["*"]), select.with_values):
        with pytest.raises(InputError) as error:
            choose(compiled)
        assert str(error.value) == (
            "'OptimizedModule' is already compiled, and torch ignores hooks added after that: "
            "open the block on the plain model first, then torch.compile it"
        )


def test_a_compiled_part_is_refused_by_its_name():
    """`compile()` in place and a compiled child are found wherever they stand."""
    in_place = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    in_place[1].compile(backend="eager")
    with pytest.raises(InputError, match="'1' is already compiled"):
        select.with_values(in_place)
    wrapped = nn.Sequential(nn.Linear(2, 2), torch.compile(nn.Linear(2, 2), backend="eager"))
    with pytest.raises(InputError, match="'1' is already compiled"):
        select.with_values(wrapped)


def test_a_scripted_part_is_refused_by_its_name():
    """TorchScript takes no hooks: said with the cure instead of torch's own error."""
    model = nn.Sequential(nn.ReLU(), torch.jit.script(nn.Linear(2, 2)))
    with pytest.raises(InputError) as error:
        select.with_values(model)
    assert str(error.value) == (
        "'1' is a ScriptModule, which takes no hooks: use the plain model, "
        "before torch.jit.script or trace"
    )
