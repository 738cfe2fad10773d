"""Numbers that the user logs."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from lampwork._core.errors import InputError
from lampwork.watching.scalars import Scalars
from tests.watching.training import far


class Written(list):
    """Stands in for the writer."""

    def scalar(self, step, name, value):
        """Note one number."""
        assert type(value) is float
        self.append((step, name, value))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.5, 0.5),
        (3, 3.0),
        (True, 1.0),
        (np.float32(0.25), 0.25),
        (np.int64(7), 7.0),
        (np.array(0.5), 0.5),
        (np.array([[0.5]]), 0.5),
        (Fraction(1, 4), 0.25),
        (Decimal("0.25"), 0.25),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([0.5]), 0.5),
        (torch.tensor([[2]]), 2.0),
        (torch.tensor(True), 1.0),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (torch.tensor(1e300, dtype=torch.float64), 1e300),
        (float("inf"), float("inf")),
        (10**300, 1e300),
    ],
)
def test_whatever_is_one_number_is_kept(value, number):
    """Python's, NumPy's and torch's numbers, of one element in any shape, become a float."""
    written = Written()
    Scalars(written).add(4, "loss", value)
    assert written == [(4, "loss", number)]


def test_nan_is_kept():
    """A loss that became NaN is what one wants to see."""
    written = Written()
    Scalars(written).add(0, "loss", torch.tensor(torch.nan))
    assert np.isnan(written[0][2])


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("0.5", "str"),
        (b"0.5", "bytes"),
        (np.str_("0.5"), "str_ of shape ()"),
        (None, "NoneType"),
        (1 + 2j, "complex"),
        ([0.5], "list"),
        ({}, "dict"),
        (10**400, "int"),
        (torch.zeros(2), "Tensor of shape (2,)"),
        (torch.zeros(0, 3), "Tensor of shape (0, 3)"),
        (torch.tensor(1j), "Tensor of shape ()"),
        (np.zeros((2, 2)), "ndarray of shape (2, 2)"),
        (np.array(["a"]), "ndarray of shape (1,)"),
        (torch.zeros(2, device="meta"), "Tensor of shape (2,)"),
    ],
)
def test_whatever_is_not_one_number_is_refused(value, what):
    """The error names the number, tells type and shape, and how to make one number of it."""
    written = Written()
    with pytest.raises(InputError) as error:
        Scalars(written).add(0, "loss", value)
    assert str(error.value) == f"loss is a {what}, not one number: log for example its mean"
    assert written == []


def test_numbers_on_an_accelerator_wait_and_keep_their_order():
    """They are read together when asked for, in the order they came, whatever their dtype."""
    written = Written()
    scalars = Scalars(written)
    for step, value in enumerate([0.5, 0.25, 2, 0.75]):
        scalars.add(step, "loss", far(value))
    assert written == []
    scalars.resolve()
    floats = [item for item in written if item[0] != 2]
    assert floats == [(0, "loss", 0.5), (1, "loss", 0.25), (3, "loss", 0.75)]
    assert (2, "loss", 2.0) in written
    scalars.resolve()
    assert len(written) == 4


def test_a_waiting_number_is_that_of_its_moment():
    """A sum that the user goes on adding to in place is logged as it was."""
    written, total = Written(), far(1.0)
    scalars = Scalars(written)
    scalars.add(0, "total", total)
    total += 1.0
    scalars.resolve()
    assert written == [(0, "total", 1.0)]


def test_not_more_than_a_thousand_numbers_wait():
    """Numbers of a long epoch without a recorded step are read now and then all the same."""
    written = Written()
    scalars = Scalars(written)
    for step in range(1001):
        scalars.add(step, "loss", far(0.5))
    assert len(written) == 1000
