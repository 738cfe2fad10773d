"""Rules: `(glob, scheme)` pairs by which a user overrules the plan; the last match wins.

A glob that matches a parameter means parameters: `("*", …)` does not touch running statistics.
One that matches nothing but buffers means these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lampwork._core.errors import InputError
from lampwork._core.names import matches, select
from lampwork.init.registry import Scheme, parse


@dataclass(frozen=True)
class Rule:
    """One rule: every parameter whose name matches the glob gets the scheme.

    Attributes:
        glob: pattern over dotted names.
        scheme: what they get.
        means_buffers: whether the glob matches buffers and no parameter.
    """

    glob: str
    scheme: Scheme
    means_buffers: bool = False


def read(rules: Iterable[Any], parameters: Sequence[str], buffers: Sequence[str]) -> list[Rule]:
    """The user's rules, checked.

    Args:
        rules: pairs of a glob over dotted names of parameters or buffers, and a scheme.
        parameters: every name that a parameter goes by.
        buffers: every name that a buffer goes by.

    Raises:
        InputError: something that is not such a pair, or an unknown scheme.
        NameNotFound: a glob that matches nothing; lists the nearest names.
    """
    checked = []
    for rule in rules:
        if not isinstance(rule, tuple | list) or len(rule) != 2 or not isinstance(rule[0], str):
            raise InputError(
                f"{rule!r} is not a rule: pass pairs such as ('head.*', 'zeros') or "
                "('head.weight', ('normal', {'std': 0.02}))"
            )
        glob, scheme = rule
        found = select([*parameters, *buffers], [glob], what="parameter or buffer")
        checked.append(Rule(glob, parse(scheme), means_buffers=not {*found} & {*parameters}))
    return checked


def last_match(
    rules: Sequence[Rule], names: Sequence[str], *, is_buffer: bool = False
) -> Rule | None:
    """The last rule whose glob means one of the names of a tensor, if any does."""
    for rule in reversed(rules):
        means = rule.means_buffers == is_buffer
        if means and any(matches(name, rule.glob) for name in names):
            return rule
    return None
