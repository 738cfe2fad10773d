"""Tensors in whatever a module takes or returns."""

import dataclasses
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lampwork.taps.structure import map_tensors, tensors

Named = namedtuple("Named", ["first", "second"])


@dataclasses.dataclass
class Box:
    """A dataclass that pytree does not know."""

    value: Any
    note: str = "kept"


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """One that neither assigns nor has a dict."""

    value: Any


def numbers(value):
    """The tensors as numbers."""
    return [int(tensor) for tensor in tensors(value)]


def t(number):
    """A tensor of one number."""
    return torch.tensor(number)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (t(1), [1]),
        (None, []),
        ("text", []),
        ((t(1), None, 3, t(2)), [1, 2]),
        ([t(1), (t(2), [t(3)])], [1, 2, 3]),
        ({"b": t(1), "a": {"c": t(2)}}, [1, 2]),
        (OrderedDict(z=t(1), y=t(2)), [1, 2]),
        (Named(t(1), [t(2)]), [1, 2]),
        (Box((t(1), Named(t(2), None))), [1, 2]),
        (Frozen(Box(t(1))), [1]),
        ({"x": [Frozen({"y": t(1)})]}, [1]),
        (Box, []),
        (((), [], {}), []),
    ],
)
def test_tensors_are_found_in_a_fixed_order(value, found):
    """Every tensor in any nesting is found, in the order in which it stands."""
    assert numbers(value) == found


VALUES = st.recursive(
    st.integers(0, 99).map(t) | st.none() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
        | st.builds(Named, inner, inner)
        | st.builds(Box, inner)
        | st.builds(Frozen, inner)
    ),
    max_leaves=8,
)


def plain(value):
    """The structure with numbers in place of tensors, built without pytree."""
    if isinstance(value, torch.Tensor):
        return int(value)
    if isinstance(value, Named):
        return Named(*map(plain, value))
    if isinstance(value, Box | Frozen):
        return type(value)(plain(value.value))
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


@given(VALUES)
def test_mapping_keeps_the_structure_and_the_order(value):
    """Mapping builds an equal structure with new leaves and leaves the old one as it was."""
    before, seen = plain(value), []

    def note(tensor):
        seen.append(int(tensor))
        return int(tensor)

    assert map_tensors(note, value) == before
    assert seen == numbers(value)
    assert plain(value) == before


def test_a_dataclass_is_copied_and_not_changed():
    """The original keeps its tensor, the copy has the new value and all other fields."""
    box = Box(t(1), note="mine")
    mapped = map_tensors(lambda tensor: tensor + 1, box)
    assert (int(mapped.value), mapped.note) == (2, "mine")
    assert int(box.value) == 1


def test_a_packed_sequence_is_found_and_mapped():
    """What an LSTM takes and returns keeps its class, also with None in place of tensors."""
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(3, 2, 4), [3, 2])
    assert [tuple(tensor.shape) for tensor in tensors(packed)] == [(5, 4), (3,)]
    mapped = map_tensors(lambda _: None, packed)
    assert isinstance(mapped, nn.utils.rnn.PackedSequence)
    assert mapped.data is None
