"""Layers that a model uses but does not own: in a list, tuple or dict of Python's.

`self.layers = [nn.Linear(8, 8)]` registers nothing, so the layers are not among the model's
parameters, no optimizer gets them, `to(device)` and `state_dict` pass them by. Nothing complains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakValueDictionary

from torch import nn

_CONTAINERS = (list, tuple, dict)
_SEARCHED_EVERY = 16
"""Recorded steps: to search the 65 modules of a ResNet takes half a millisecond."""


class Strays:
    """Watches the parameters of such layers: do they get gradients, and does anybody move them?"""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._looks = 0
        self._known: WeakValueDictionary[str, nn.Parameter] = WeakValueDictionary()
        self._versions: dict[str, int] = {}
        self._pulled: dict[str, int] = {}

    def look(self) -> None:
        """At a recorded step, before gradients are cleared."""
        if self._looks % _SEARCHED_EVERY == 0:
            self._known = WeakValueDictionary(_strays(self._model))
        self._looks += 1
        for name, parameter in self._known.items():
            if not parameter.requires_grad or parameter.grad is None:
                continue
            # Whoever steps a parameter writes into it, which autograd counts.
            if self._versions.setdefault(name, parameter._version) == parameter._version:
                self._pulled[name] = self._pulled.get(name, 0) + 1
            else:
                self._pulled[name] = 0

    def told(self) -> list[str]:
        """Names of those that got gradients at two recorded steps and were not moved meanwhile."""
        return [name for name, count in self._pulled.items() if count >= 2]


def _strays(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    named = list(model.named_modules())
    own = {id(module) for _, module in named}
    for owner, module in named:
        for attribute, value in vars(module).items():
            # Most are no containers. With an underscore they are torch's own, or kept out on
            # purpose.
            if attribute[:1] == "_" or not isinstance(value, _CONTAINERS):
                continue
            for key, hidden in _modules_in(value):
                if id(hidden) in own:
                    continue
                place = ".".join(part for part in (owner, attribute, key) if part)
                yield from hidden.named_parameters(prefix=place)


def _modules_in(value: Any) -> Iterable[tuple[str, nn.Module]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return [(str(key), item) for key, item in pairs if isinstance(item, nn.Module)]
