"""What differs between two plans, row by row and field by field."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lampwork.init.plan import Row

_SHOWN = 60


@dataclass(frozen=True)
class Change:
    """One field of one row that differs; None on the side that has no such row.

    Attributes:
        name: of the tensor.
        field: of the row, or `"row"` where only one plan has it.
        ours: in the plan that was asked.
        theirs: in the other.
    """

    name: str
    field: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        if self.field == "row":
            return f"{self.name}: only in the {'first' if self.theirs is None else 'second'} plan"
        return f"{self.name}: {self.field} {_short(self.ours)} → {_short(self.theirs)}"


@dataclass(frozen=True)
class Difference:
    """All changes, in the order of the first plan's rows. False where there are none."""

    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __str__(self) -> str:
        return "\n".join(str(change) for change in self.changes) or "the plans are the same"


def difference(ours: Sequence[Row], theirs: Sequence[Row]) -> Difference:
    """Compares rows of one name; a scheme differs where its name or its options do."""
    first = {row.name: row for row in ours}
    second = {row.name: row for row in theirs}
    changes: list[Change] = []
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name), second.get(name)
        if one is None or other is None:
            changes.append(Change(name, "row", one, other))
            continue
        changes += [
            Change(name, field.name, a, b)
            for field in dataclasses.fields(one)
            # Who chose it is told by the reason.
            if field.name != "chosen_by"
            and _key(a := getattr(one, field.name)) != _key(b := getattr(other, field.name))
        ]
    return Difference(tuple(changes))


def _key(value: Any) -> Any:
    options = getattr(value, "options", None)
    return (str(value), options) if options is not None else value


def _short(value: Any) -> str:
    options = getattr(value, "options", None)
    text = (
        f"{value} {options}"
        if options
        else f"{value:.4g}"
        if isinstance(value, float)
        else str(value)
    )
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
