"""The tree of errors: what a user may catch, and what is printed."""

import pytest

from lampwork._core.errors import InputError, LampworkError, NameNotFound, RecordError


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(InputError, ValueError), (NameNotFound, KeyError), (RecordError, OSError)],
)
def test_each_error_is_also_the_builtin_one(error, builtin):
    """Whoever catches the builtin error, or all of lampwork's, catches this one."""
    assert issubclass(error, builtin)
    assert issubclass(error, LampworkError)


def test_messages_are_printed_as_written():
    """A NameNotFound prints its message and not, as KeyError does, its repr."""
    assert str(NameNotFound("'a' matches no module")) == "'a' matches no module"
    assert str(RecordError("no record")) == "no record"
