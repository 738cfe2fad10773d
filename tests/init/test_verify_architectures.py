"""The check of real architectures, tiny from their configs: as built they are sound."""

import pytest
import torch

import lampwork as lw
from tests.init.architectures import ARCHITECTURES

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_as_built_is_not_accused(name):
    """With the init of its authors, on inputs that vary."""
    torch.manual_seed(0)
    model, example = ARCHITECTURES[name].build()
    example = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in example.items()}
    check = lw.init.plan(model, example).verify(example)
    assert check.findings == []
    assert check.ok
