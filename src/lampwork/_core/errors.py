"""What can go wrong, as a tree.

LampworkError
├── InputError (ValueError)      an argument that cannot be meant: wrong range, wrong combination
├── NameNotFound (KeyError)       a name or glob that matches nothing; lists the nearest names
├── CheckFailed (AssertionError)  a model that does not pass `Plan.verify`
└── RecordError (OSError)        a run folder that cannot be written, read or found

Every message tells cause, values and cure, in that order.
"""

from __future__ import annotations


class LampworkError(Exception):
    """Everything that lampwork raises on purpose."""


class InputError(LampworkError, ValueError):
    """An argument that cannot be meant as it stands."""


class NameNotFound(LampworkError, KeyError):
    """A name or glob that matches nothing in the model."""

    def __str__(self) -> str:
        # KeyError would print the repr of its message, quotes and escapes included.
        return str(self.args[0])


class CheckFailed(LampworkError, AssertionError):
    """A model whose first weights do not pass the check; lists what is wrong."""


class RecordError(LampworkError, OSError):
    """A run folder that cannot be written, read or found."""
