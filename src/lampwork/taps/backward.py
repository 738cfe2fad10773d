"""Hearing of each backward pass just before it begins, with the tensor that it starts from.

It is the one moment at which the whole graph of a step exists, with what each operation saved.
`Tensor.backward` has no hook of its own, so it is replaced by a wrapper as long as somebody
listens. A backward pass that is begun in another way (`torch.autograd.grad`, or
`torch.autograd.backward` itself) is not heard of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from lampwork.taps.tap import in_backward

Listener = Callable[[Tensor], None]

_listeners: tuple[Listener, ...] = ()  # replaced and never changed: one may go while all are told
_original: Callable[..., Any] = Tensor.backward
_wrapper: Callable[..., Any] | None = None


class Listening:
    """Ends with `remove`, as torch's handles do."""

    def __init__(self, listener: Listener) -> None:
        self._listener: Listener | None = listener

    def remove(self) -> None:
        """Hear no more; does nothing the second time."""
        listener, self._listener = self._listener, None
        if listener is not None:
            _leave(listener)


def on_backward(before: Listener) -> Listening:
    """Call `before` with each tensor whose `backward()` is called, before anything is computed.

    Not from inside of a backward pass, where a function of the user's may call it once more.
    """
    global _listeners
    _listeners = (*_listeners, before)
    if len(_listeners) == 1:
        _put_on()
    return Listening(before)


def _put_on() -> None:
    global _original, _wrapper
    if Tensor.backward is _wrapper:  # still there, since somebody else had wrapped it meanwhile
        return
    original = Tensor.backward

    @functools.wraps(original)
    def backward(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if _listeners and not in_backward():
            for listener in _listeners:
                listener(tensor)
        return original(tensor, *args, **kwargs)

    _original, _wrapper = original, backward
    Tensor.backward = backward  # pyright: ignore[reportAttributeAccessIssue]


def _leave(listener: Listener) -> None:
    global _listeners
    # Not by equality: two bound methods of one object are equal.
    place = next(i for i, other in enumerate(_listeners) if other is listener)
    _listeners = _listeners[:place] + _listeners[place + 1 :]
    # Whoever wrapped our wrapper keeps it, and it passes everything on.
    if not _listeners and Tensor.backward is _wrapper:
        Tensor.backward = _original  # pyright: ignore[reportAttributeAccessIssue]
