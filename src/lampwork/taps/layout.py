"""Which modules a model is made of, so that it is noticed when one of them is another."""

from __future__ import annotations

from itertools import chain
from operator import eq

from torch import nn


class Layout:
    """The modules of a model, and their parameters, as they were when last looked at."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._look()

    def _look(self) -> None:
        modules = list(self._model.modules())
        self._children = [module._modules for module in modules]
        self._known = [dict(children) for children in self._children]
        self._owned = [module._parameters for module in modules]
        self._numbers = self._parameters()

    def _parameters(self) -> list[int]:
        return [*map(id, chain.from_iterable(map(dict.values, self._owned)))]

    def changed(self) -> bool:
        """Whether a module was added, replaced or removed since this was asked last.

        Nothing here runs in Python for each module, so that it may be asked at every step.
        """
        if all(map(eq, self._children, self._known)):  # of modules that is identity
            return False
        self._look()
        return True

    def parameters_changed(self) -> bool:
        """As `changed`, of parameters; not for use during a pass, which may be a functional call.

        They are told apart by their numbers, of which none is another one's as long as the watch
        holds the parameters.
        """
        before, self._numbers = self._numbers, self._parameters()
        return before != self._numbers


def difference(before: dict[str, nn.Module], after: dict[str, nn.Module]) -> str:
    """What happened to modules that are known by name, for people to read."""
    both = [name for name in after if name in before]
    kinds = {
        "replaced": [name for name in both if after[name] is not before[name]],
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
    }
    return "; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
