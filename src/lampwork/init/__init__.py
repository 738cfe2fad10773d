"""The first weights of a model: planned from what the model computes, printed, applied.

    plan = lw.init.plan(model, x)  # what each tensor gets, and why
    print(plan)
    plan.apply(seed=0)

    lw.init.initialize(model, x)  # both at once
    model.apply(lw.init.layerwise("xavier_uniform"))  # layer by layer, as torch users know it
    lw.init.pretrained(model, "weights.safetensors")  # what fits, and a report of the rest

`lw.init.schemes` holds the schemes as functions, one by one.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lampwork.init import schemes
from lampwork.init.data_driven import data_dependent, lsuv
from lampwork.init.layerwise import layerwise
from lampwork.init.plan import Plan, Row
from lampwork.init.planning import plan
from lampwork.init.pretrained import pretrained
from lampwork.init.rules import Rule

__all__ = [
    "Plan",
    "Row",
    "Rule",
    "data_dependent",
    "initialize",
    "layerwise",
    "lsuv",
    "plan",
    "pretrained",
    "schemes",
]


def initialize(model: nn.Module, example: Any = None, *, seed: int = 0, **options: Any) -> Plan:
    """Plans and applies at once.

    Args:
        model: the model to write into.
        example: as in `plan`.
        seed: as in `Plan.apply`.
        **options: `scheme` and `rules`, as in `plan`.

    Returns:
        The plan, to print or keep.

    Raises:
        InputError: as `plan` and `Plan.apply`.
    """
    made = plan(model, example, **options)
    made.apply(seed=seed)
    return made
