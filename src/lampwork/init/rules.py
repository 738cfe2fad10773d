"""Rules by which a user overrules the plan: by name, by type of module, by role; the last wins.

    rules = [
        ("head.*", "zeros"),  # a glob over dotted names
        Rule(nn.Linear, ("normal", {"std": 0.02}), role="weight"),
        Rule("*", "keep", role="embedding"),
    ]

A rule that matches a parameter means parameters: `("*", …)` does not touch running statistics.
One that matches nothing but buffers means these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch import nn

from lampwork._core.errors import InputError, NameNotFound
from lampwork._core.names import matches, nearest, not_found
from lampwork.init.recipes import RECIPES
from lampwork.init.registry import LSUV, NAMES, Scheme, parse
from lampwork.init.survey import Site

ROLES = (
    "weight",
    "bias",
    "norm",
    "embedding",
    "recurrent",
    "packed",
    "convolution",
    "transposed",
    "expert",
    "buffer",
    "other",
)


@dataclass(frozen=True)
class Rule:
    """Which tensors get which scheme.

    Attributes:
        pattern: a glob over dotted names, `"blocks.*.proj.weight"`, or a type of module: then all
            tensors that such modules hold themselves.
        scheme: a name, or a pair of a name and options; `"keep"` leaves a tensor alone.
        role: of those only the ones of this role, as in `Row.role`; None for all.
    """

    pattern: str | type[nn.Module]
    scheme: Any
    _: KW_ONLY
    role: str | None = None

    def __str__(self) -> str:
        shown = repr(self.pattern) if isinstance(self.pattern, str) else self.pattern.__name__
        return f"rule {shown}" + (f" for role {self.role!r}" if self.role else "")


@dataclass(frozen=True)
class Match:
    """A checked rule and the sites that it means, by identity."""

    rule: Rule
    scheme: Scheme
    sites: frozenset[int]


def read(rules: Iterable[Any], sites: Sequence[Site]) -> list[Match]:
    """The user's rules, checked, with the tensors that they mean.

    Args:
        rules: rules, or pairs of a pattern and a scheme.
        sites: every tensor of the model.

    Raises:
        InputError: something that is no rule, or an unknown scheme or role.
        NameNotFound: a rule that matches nothing; lists the nearest names.
    """
    if isinstance(rules, Rule | str):
        raise InputError(f"rules is a list, it was given {rules!r}: pass [{rules!r}]")
    return [_match(_rule(rule), sites) for rule in rules]


def matching(found: Sequence[Match], site: Site) -> list[Match]:
    """The rules that mean a tensor, the one that wins last."""
    return [match for match in found if id(site) in match.sites]


def _rule(given: Any) -> Rule:
    if isinstance(given, tuple | list) and len(given) == 2:
        given = Rule(*given)
    if not isinstance(given, Rule) or not _is_pattern(given.pattern):
        raise InputError(
            f"{given!r} is not a rule: pass pairs such as ('head.*', 'zeros') or "
            "('head.weight', ('normal', {'std': 0.02})), or lampwork.init.Rule(nn.Linear, …)"
        )
    if given.role is not None and given.role not in ROLES:
        near = nearest(given.role, ROLES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"there is no role {given.role!r}: {hint}Known: {', '.join(ROLES)}")
    name = given.scheme[0] if isinstance(given.scheme, tuple | list) else given.scheme
    if name == "auto" or (name in RECIPES and name not in NAMES):
        raise InputError(
            f"{name!r} is for a whole model, not for a {given}: pass it as scheme={name!r}, and "
            "here the name of a scheme"
        )
    return given


def _is_pattern(pattern: Any) -> bool:
    return isinstance(pattern, str) or (
        isinstance(pattern, type) and issubclass(pattern, nn.Module)
    )


def _match(rule: Rule, sites: Sequence[Site]) -> Match:
    meant = [site for site in sites if _names(rule, site)]
    if not meant:
        raise NameNotFound(_no_match(rule, sites))
    of_role = [site for site in meant if rule.role in (None, site.kind.role)]
    if not of_role:
        roles = ", ".join(dict.fromkeys(site.kind.role for site in meant))
        raise NameNotFound(f"{rule} matches nothing: what it names has the roles {roles}")
    parameters = [site for site in of_role if site.kind.role != "buffer"]
    return Match(
        rule,
        parse(rule.scheme, known=(*NAMES, LSUV)),
        frozenset(id(site) for site in parameters or of_role),
    )


def _names(rule: Rule, site: Site) -> bool:
    if isinstance(rule.pattern, str):
        return any(matches(name, rule.pattern) for name in site.names)
    return any(isinstance(owner, rule.pattern) for owner in site.owners)


def _no_match(rule: Rule, sites: Sequence[Site]) -> str:
    if isinstance(rule.pattern, str):
        names = [name for site in sites for name in site.names]
        return not_found(rule.pattern, names, what="parameter or buffer")
    types = list(dict.fromkeys(type(owner).__name__ for site in sites for owner in site.owners))
    return not_found(rule.pattern.__name__, types, what="type of a module with tensors")
