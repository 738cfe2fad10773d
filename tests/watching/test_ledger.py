"""From rows by key to rows by id."""

import numpy as np
import pytest
import torch

from lampwork._core.summary import COLUMN, WIDTH, merge
from lampwork._native.stats import summary_row
from lampwork.watching.activations import Key, Seen
from lampwork.watching.ledger import DEAD_AFTER, Ledger

FIRST, SECOND, THIRD = Key("output", "a"), Key("weight", "a.weight"), Key("output", "a", 2, 1)
SEEN = Seen((2, 3), "float32", {"module": "Linear"})


class Told(list):
    """Stands in for the writer."""

    def tensor(self, tensor):
        """Note one announcement."""
        self.append(tensor)


def test_ids_count_up_in_the_order_of_first_sight():
    """A tensor is announced once, and again under its old id when more is known of it."""
    ledger, told = Ledger(), Told()
    ledger.announce({FIRST: SEEN, SECOND: SEEN}, told)
    ledger.announce(
        {FIRST: SEEN, SECOND: SEEN._replace(facts={"optimized": True}), THIRD: SEEN}, told
    )
    assert [(t.id, t.name, t.kind, t.call, t.part) for t in told] == [
        (0, "a", "output", 1, 0),
        (1, "a.weight", "weight", 1, 0),
        (1, "a.weight", "weight", 1, 0),
        (2, "a", "output", 2, 1),
    ]
    assert told[2].facts == {"optimized": True}
    assert (told[0].shape, told[0].dtype) == ((2, 3), "float32")


def test_rows_of_one_key_are_merged():
    """Micro-batches of a step become one row, that of all their elements."""
    ledger = Ledger()
    ledger.announce({FIRST: SEEN, SECOND: SEEN}, Told())
    a, b, c = (summary_row(torch.randn(4)).numpy() for _ in range(3))
    rows = ledger.rows([(FIRST, a), (SECOND, b), (FIRST, c)])
    assert list(rows) == [0, 1]
    np.testing.assert_array_equal(rows[0], merge(a, c))
    np.testing.assert_array_equal(rows[1], b)


@pytest.mark.parametrize("repeated", [False, True])
def test_a_table_has_the_rows_of_each_step(repeated):
    """Whatever the keys of the step before, a table says what its rows say one by one."""
    one, other = Ledger(), Ledger()
    steps = [[FIRST, SECOND], [FIRST, SECOND], [SECOND, FIRST], [THIRD], [FIRST, SECOND]]
    steps += [[FIRST, SECOND, FIRST]] if repeated else []
    for ledger in (one, other):
        ledger.announce({FIRST: SEEN, SECOND: SEEN, THIRD: SEEN}, Told())
    for keys in steps:
        table = np.stack([summary_row(torch.randn(4)).numpy() for _ in keys])
        expected = one.rows(zip(keys, table.copy(), strict=True))
        found = other.table(list(keys), table)
        found = found if isinstance(found, dict) else dict(zip(*found, strict=True))
        assert list(found) == list(expected)
        for number, row in expected.items():
            np.testing.assert_array_equal(found[number], row)
        for ledger in (one, other):
            ledger.count_silent([(FIRST, np.array([True, False, False]))])


def test_no_rows_are_no_rows():
    """A step at which nothing was measured has none."""
    assert Ledger().rows([]) == {}


def test_dead_channels_are_those_silent_for_the_last_steps():
    """A channel is dead when it was zero in each of the last five recorded steps, or in all there
    are; one living step starts the count anew.
    """
    ledger = Ledger()
    ledger.announce({FIRST: SEEN}, Told())
    history = [
        # channel 0 always speaks, 1 never, 2 only at step 0, 3 only at step 4
        torch.tensor([True, False, step == 0, step == 4])
        for step in range(12)
    ]
    dead = []
    for channels in history:
        ledger.count_silent([(FIRST, channels.numpy())])
        row = ledger.rows([(FIRST, np.zeros(WIDTH))])[0]
        assert row[COLUMN["units"]] == 4
        dead.append(int(row[COLUMN["dead"]]))
    expected = []
    for step in range(12):
        window = torch.stack(history[max(0, step + 1 - DEAD_AFTER) : step + 1])
        expected.append(int((~window.any(dim=0)).sum()))
    assert dead == expected
    assert expected[0] == 2
    assert expected[-1] == 3


def test_another_number_of_channels_starts_anew():
    """An output whose channels change in number is counted from that step on."""
    ledger = Ledger()
    ledger.announce({FIRST: SEEN}, Told())
    for channels in (torch.zeros(3, dtype=torch.bool), torch.tensor([False, True])):
        ledger.count_silent([(FIRST, channels.numpy())])
        row = ledger.rows([(FIRST, np.zeros(WIDTH))])[0]
    assert (row[COLUMN["units"]], row[COLUMN["dead"]]) == (2, 1)


def test_a_tensor_without_channels_keeps_its_row():
    """Of weights no channels are counted."""
    ledger = Ledger()
    ledger.announce({SECOND: SEEN}, Told())
    row = summary_row(torch.randn(3))
    np.testing.assert_array_equal(ledger.rows([(SECOND, row.numpy())])[0], row.numpy())
