"""What can go wrong, as a tree.

LampworkError
├── InputError (ValueError)      an argument that cannot be meant: wrong range, wrong combination
├── NameNotFound (LookupError)   a name or glob that matches nothing; lists the nearest names
└── RecordError (OSError)        a run folder that cannot be written, read or found

Every message tells cause, values and cure, in that order.
"""

from __future__ import annotations


class LampworkError(Exception):
    """Everything that lampwork raises on purpose."""


class InputError(LampworkError, ValueError):
    """An argument that cannot be meant as it stands."""


class NameNotFound(LampworkError, LookupError):
    """A name or glob that matches nothing in the model."""


class RecordError(LampworkError, OSError):
    """A run folder that cannot be written, read or found."""
