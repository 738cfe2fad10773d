import copy
import pickle

import pytest
import torch

from lampwork._core.errors import InputError
from lampwork.init import schemes
from lampwork.init.registry import NAMES, Scheme, expected_std, fans_used, fill, parse


def test_a_scheme_is_its_name_and_carries_its_options():
    """It compares as a string, and its options cannot be changed from outside."""
    scheme = parse(("normal", {"std": 0.02}))
    assert scheme == "normal"
    scheme.options["std"] = 5.0
    assert scheme.options == {"std": 0.02}


def test_a_scheme_can_be_copied_and_pickled():
    """Options travel along."""
    scheme = Scheme("normal", {"std": 0.02})
    for twin in (copy.deepcopy(scheme), pickle.loads(pickle.dumps(scheme)), parse(scheme)):
        assert (twin, twin.options) == (scheme, scheme.options)


def test_every_public_function_of_schemes_has_a_name():
    """What can be called can be planned, and has a spread."""
    functions = {name.rstrip("_") for name in schemes.__all__ if name.endswith("_")}
    assert functions | {"keep"} == set(NAMES)
    for name in functions:
        shape = {"lstm_bias": (8,), "dirac": (8, 4, 3), "delta_orthogonal": (8, 4, 3)}.get(name)
        shape = shape or (8, 4)
        assert expected_std(Scheme(name), shape, fan_in=4, fan_out=8) is not None


def test_fill_passes_the_fans_only_to_those_that_use_them():
    """Filling by name is calling the function with the true fans."""
    for name in ("kaiming_normal", "xavier_uniform", "lecun_normal", "orthogonal", "normal"):
        by_name, called = torch.empty(4, 6), torch.empty(4, 6)
        fill(Scheme(name), by_name, torch.Generator().manual_seed(0), fan_in=3, fan_out=5)
        fans = {"fan_in": 3, "fan_out": 5} if fans_used(Scheme(name)) else {}
        function = getattr(schemes, f"{name}_")
        function(called, generator=torch.Generator().manual_seed(0), **fans)
        assert torch.equal(by_name, called)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kaming_normal", "no scheme 'kaming_normal': did you mean 'kaiming_normal'.*Known: keep"),
        ("zzz", "no scheme 'zzz': Known: keep, constant"),
        (("normal", {"sd": 1}), "'normal' takes no option 'sd': its options are mean, std"),
        (("zeros", {"std": 1}), "'zeros' takes no option 'std': its options are none"),
        (("keep", {"std": 1}), "'keep' takes no option 'std': its options are none"),
        ("constant", r"'constant' needs the option 'val': pass \('constant', \{'val': …\}\)"),
        (0.02, "0.02 is not a scheme: pass a name such as 'kaiming_normal'"),
        (("normal", 0.02), r"\('normal', 0.02\) is not a scheme"),
        (("normal", {}, 1), "is not a scheme"),
    ],
)
def test_a_scheme_that_cannot_be_read_is_refused(spec, message):
    """Each message shows what was given and what there is."""
    with pytest.raises(InputError, match=message):
        parse(spec)
