"""Which examples are kept, and how their class is found."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lampwork.watching.pictures import probe as probing
from lampwork.watching.pictures.probe import Waiting, few, true_classes
from tests.watching.specimen import hooks_of


def waiting(model):
    """Hooks that wait."""
    found = Waiting(model, lambda callback: callback)
    found.install()
    return found


def test_the_first_examples_of_every_batched_tensor_are_copied():
    """Tensors, dicts and keywords are cut alike; a mask of another size is whole."""
    ids, mask = torch.arange(60).view(6, 10), torch.ones(10, 10)
    found = few("m", nn.Identity(), (({"ids": ids},), {"mask": mask, "labels": ids[:, 0], "n": 3}))
    args, kwargs = found.inputs
    assert found.count == 4
    assert torch.equal(args[0]["ids"], ids[:4])
    assert torch.equal(kwargs["labels"], ids[:4, 0])
    assert torch.equal(kwargs["mask"], mask)
    assert kwargs["n"] == 3
    ids.zero_()
    assert args[0]["ids"].any()


def test_few_and_large_examples(monkeypatch):
    """What is too large comes as fewer examples, or not at all; so does an empty batch."""
    monkeypatch.setattr(probing, "MOST_BYTES", 1000)
    counts = {size: few("", nn.Identity(), ((torch.zeros(8, size),), {})) for size in (1, 100, 999)}
    assert [found and found.count for found in counts.values()] == [4, 2, None]
    for value in (torch.zeros(0, 3), torch.zeros(()), torch.zeros(2, 2).to_sparse()):
        assert few("", nn.Identity(), ((value,), {})) is None
    assert few("", nn.Identity(), ((), {})) is None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_true_class_is_read_off_the_loss(reduction):
    """The classes of the first examples come from the gradient of cross-entropy at the logits."""
    model, x, y = nn.Linear(3, 7), torch.randn(9, 3), torch.randint(7, (9,))
    found = waiting(model)
    F.cross_entropy(model(x), y, reduction=reduction).backward()
    model(x + 1).sum().backward()
    found.remove()
    assert hooks_of(model) == []
    assert torch.equal(found.probe.labels, y[:4])


def test_other_losses_tell_no_class():
    """Where no class, or more than one, is to rise, there is none."""
    gradient = torch.tensor([[1.0, 2, 3], [-1, -1, 2], [0.5, -1, 0.5], [0, 0, 0]])
    assert true_classes(gradient).tolist() == [-1, -1, 1, -1]


def test_validation_passes_are_waited_out():
    """The first batch under autograd is the probe, not one that is evaluated before."""
    model = nn.Linear(2, 2)
    found = waiting(model)
    with torch.no_grad():
        model(torch.zeros(3, 2))
    model(torch.ones(3, 2))
    model(torch.zeros(3, 2))
    assert found.probe.inputs[0][0].sum() == 6
    found.remove()


def test_a_model_that_is_called_by_a_child_is_seen_there():
    """A LightningModule's own forward may never run: its child's is the probe's."""
    model = nn.ModuleDict({"other": nn.Linear(2, 2), "net": nn.Sequential(nn.Linear(2, 2))})
    found = waiting(model)
    model["net"](torch.ones(3, 2))
    found.remove()
    assert (found.probe.name, found.probe.module) == ("net", model["net"])


def test_data_parallel_is_looked_through():
    """The probe is run through the module that DataParallel holds."""
    model = nn.DataParallel(nn.Linear(2, 2))
    found = waiting(model)
    model(torch.ones(3, 2))
    found.remove()
    assert (found.probe.name, found.probe.module) == ("module", model.module)
