"""Told of a module that `Module.compile` has compiled, when it is called and not yet traced.

Torch calls what it made of such a module in place of all that could be hooked from outside, hooks
of the whole process among them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Compiling:
    """While this is on, modules that are compiled are told of at each of their calls.

    Args:
        called: gets the module, before torch traces the call or runs what it traced before.
    """

    def __init__(self, called: Callable[[nn.Module], None]) -> None:
        self._called: Callable[[nn.Module], None] | None = called
        self._torchs = compile = nn.Module.compile

        @functools.wraps(compile)
        def told(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            compile(module, *args, **kwargs)
            made: Any = module._compiled_call_impl

            def call(*args: Any, **kwargs: Any) -> Any:
                # Inside of another module that is traced, it is that one that is called.
                if not torch.compiler.is_compiling() and self._called is not None:
                    self._called(module)
                return made(*args, **kwargs)

            module._compiled_call_impl = call

        self._ours = nn.Module.compile = told  # pyright: ignore[reportAttributeAccessIssue]

    def remove(self) -> None:
        """Leave torch as it was; does nothing the second time."""
        self._called = None
        if nn.Module.compile is self._ours:
            nn.Module.compile = self._torchs
