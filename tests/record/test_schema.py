"""How a tensor is labelled."""

import pytest

from lampwork.record.schema import Tensor


@pytest.mark.parametrize(
    ("name", "call", "part", "label"),
    [
        ("layer1.relu", 1, 0, "layer1.relu"),
        ("layer1.relu", 2, 0, "layer1.relu#2"),
        ("lstm", 1, 1, "lstm[1]"),
        ("lstm", 3, 2, "lstm[2]#3"),
        ("", 1, 0, "(model)"),
    ],
)
def test_labels_tell_call_and_part(name, call, part, label):
    """The label of a tensor says which call and which part, where there are several."""
    assert Tensor(0, name, "output", call, part, (), "float32", {}).label == label
