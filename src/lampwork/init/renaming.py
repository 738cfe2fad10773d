r"""Renaming: from a checkpoint's names to the model's, by glob or by regular expression.

("module.*", "*")                          a prefix goes
("encoder.layer.*.attn.*", "blocks.*.*")   what each * stands for is kept, in order
(r"^module\.", "")                         any other pair is for re.sub
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from lampwork._core.errors import InputError, NameNotFound
from lampwork._core.names import not_found

T = TypeVar("T")


def renamed(values: Mapping[str, T], rules: Iterable[Any]) -> dict[str, T]:
    """The values under their new names, each rule in turn.

    A rule is a glob where its replacement holds a `*`: then both have as many, a name has to match
    as a whole, and others keep theirs. Any other pair is a regular expression for `re.sub`.

    Raises:
        InputError: something that is no rule, an expression that is none, stars that do not pair
            up, or two names that become one.
        NameNotFound: a rule that matches no name.
    """
    found = dict(values)
    for rule in rules.items() if isinstance(rules, Mapping) else rules:
        if not (isinstance(rule, tuple | list) and len(rule) == 2):
            raise _no_rule(rule)
        pattern, replacement = rule
        if not isinstance(pattern, str) or not isinstance(replacement, str):
            raise _no_rule(rule)
        found = _applied(found, pattern, replacement)
    return found


def _no_rule(rule: Any) -> InputError:
    return InputError(
        f"{rule!r} is no rule: rename is a list of pairs such as ('module.*', '*') or "
        r"(r'^module\.', '')"
    )


def _applied(values: Mapping[str, T], pattern: str, replacement: str) -> dict[str, T]:
    expression, template = _read(pattern, replacement)
    if values and not any(expression.search(name) for name in values):
        raise NameNotFound(not_found(pattern, list(values), what="name in the checkpoint"))
    found: dict[str, T] = {}
    for name, value in values.items():
        try:
            new = expression.sub(template, name)
        except (re.error, IndexError) as error:
            raise InputError(
                f"rename ({pattern!r}, {replacement!r}) cannot be carried out ({error}): the "
                "replacement may name groups of the pattern only"
            ) from error
        if new in found:
            raise InputError(
                f"rename ({pattern!r}, {replacement!r}) gives two tensors the name {new!r}: "
                "make the pattern narrower"
            )
        found[new] = value
    return found


def _read(pattern: str, replacement: str) -> tuple[re.Pattern[str], str]:
    if "*" not in replacement:
        try:
            return re.compile(pattern), replacement
        except re.error as error:
            raise InputError(
                f"rename pattern {pattern!r} is no regular expression ({error}): a glob needs a "
                "replacement with as many *, ('module.*', '*')"
            ) from error
    if pattern.count("*") != replacement.count("*"):
        raise InputError(
            f"rename ({pattern!r}, {replacement!r}) has {pattern.count('*')} * on one side and "
            f"{replacement.count('*')} on the other: each * keeps what it stood for"
        )
    # The shortest way, but for the last star, which takes the rest.
    *parts, last = [re.escape(part) for part in pattern.split("*")]
    expression = re.compile("^" + "(.*?)".join([*parts, last]) + "$")
    first, *others = [part.replace("\\", r"\\") for part in replacement.split("*")]
    groups = "".join(rf"\g<{number}>{part}" for number, part in enumerate(others, 1))
    return expression, first + groups
