"""Globs over dotted names: one matcher for init's rules and for the taps.

A glob is a shell pattern (`*`, `?`, `[abc]`) over the whole dotted name. `*` crosses dots, so
`layer4.*` names everything below `layer4` and `*` names everything.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase, translate

from lampwork._core.errors import NameNotFound


def matches(name: str, glob: str) -> bool:
    """Whether the dotted `name` is one that `glob` names."""
    return fnmatchcase(name, glob)


def select(names: Sequence[str], globs: Iterable[str], *, what: str) -> list[str]:
    """The names that at least one glob matches, in the order of `names`.

    Args:
        names: all dotted names there are.
        globs: patterns; each must match something.
        what: what the names are called in the error, e.g. "module".

    Raises:
        NameNotFound: a glob that matches none of the names.
    """
    chosen: set[str] = set()
    for glob in globs:
        pattern = re.compile(translate(glob))
        found = [name for name in names if pattern.match(name)]
        if not found:
            raise NameNotFound(not_found(glob, names, what=what))
        chosen.update(found)
    return [name for name in names if name in chosen]


def not_found(glob: str, names: Sequence[str], *, what: str) -> str:
    """The message for a glob without a match: the glob, the nearest names, the cure."""
    near = nearest(glob, names)
    if near:
        cure = "did you mean " + " or ".join(repr(name) for name in near) + "?"
    elif names:
        shown = ", ".join(repr(name) for name in names[:8]) + (", …" if len(names) > 8 else "")
        cure = f"there are {len(names)}: {shown}"
    else:
        cure = f"there is no {what} at all"
    return f"{glob!r} matches no {what}: {cure}"


def nearest(glob: str, names: Sequence[str], count: int = 3) -> list[str]:
    """Up to `count` names that look like the glob, best first."""
    bare = glob.replace("*", "").strip(".")
    whole = difflib.get_close_matches(bare, names, n=count, cutoff=0.5)
    # `conv3` should suggest `features.conv1`: compare with the last part of each name too.
    by_tail = {name.rpartition(".")[2]: name for name in reversed(names)}
    tails = difflib.get_close_matches(bare.rpartition(".")[2], list(by_tail), n=count, cutoff=0.6)
    return list(dict.fromkeys([*whole, *(by_tail[tail] for tail in tails)]))[:count]
