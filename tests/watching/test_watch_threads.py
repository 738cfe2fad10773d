"""Watching where several threads call the model at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.watching.specimen import Of
from tests.watching.threads import Meeting, side_by_side
from tests.watching.training import record_of, sgd, watched

X = torch.linspace(-1, 1, 20).reshape(5, 4)


def shared(meet: Meeting) -> nn.Sequential:
    """A model in the middle of which threads meet."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4), Of(meet.wait), nn.Tanh(), nn.Linear(4, 2)]
    return nn.Sequential(Of(meet.enter), *layers)


def one_step(folder, meet: Meeting, work):
    """The record of a step before which `work(model)` went forward and backward."""
    model = shared(meet)
    optimizer = sgd(model)
    with watched(model, folder, every=1) as run:
        work(model)
        optimizer.step()
    return record_of(run)


@pytest.mark.parametrize("both_train", [True, False])
def test_threads_keep_their_passes_apart(tmp_path, both_train):
    """Two threads that are in the model together leave the record that the same two passes leave
    one after the other: what a pass gave that nobody trains on is no part of it.
    """
    meet = Meeting(2)

    def work(model, k):
        out = model(X + k)
        if k == 0 or both_train:
            out.square().sum().backward()

    def threads(model):
        side_by_side(lambda k: (meet.in_turn(k), work(model, k)), 2)
        meet.over()

    def in_turn(model):
        for k in range(2):
            work(model, k)

    found = one_step(tmp_path / "threads", meet, threads)
    expected = one_step(tmp_path / "in_turn", meet, in_turn)
    assert found.notes[0]["forwards"] == 1 + both_train
    assert found.tensors == expected.tensors
    assert "grad_output" in {tensor.kind for tensor in found.tensors}
    for tensor in expected.tensors:  # a sum of two has no order
        theirs, ours = (record.summary(tensor).rows for record in (expected, found))
        np.testing.assert_array_equal(ours, theirs, err_msg=str(tensor))
