"""The pictures of a run: what there are, and the pixels of one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core.errors import InputError
from lampwork.record.schema import Tensor
from lampwork.record.timeline import Timeline
from lampwork.view import words


def pictures(timeline: Timeline, known: list[Tensor]) -> list[dict[str, Any]]:
    """What pictures there are, without their pixels."""
    modules = {one.name: one.facts.get("module", "") for one in known if one.kind == "output"}
    return [
        {
            "index": shot.id,
            "step": shot.step,
            "name": words.plain(shot.name),
            "kind": shot.kind,
            "module": words.plain(modules.get(shot.name, "")),
            "images": shot.shape[0],
            "height": shot.shape[1],
            "width": shot.shape[2],
            "colours": len(shot.shape) > 3,
        }
        for shot in timeline.shots()
        if math.prod(shot.shape)
    ]


def film(timeline: Timeline, index: int) -> NDArray[np.uint8]:
    """The images of one picture below each other, shape (images · height, width) or (…, 3).

    Raises:
        InputError: there is no such picture.
    """
    picture = timeline.picture(index)
    if picture is None:
        raise InputError(f"picture {index} is unknown: there are {len(timeline.shots())}")
    pixels = picture.pixels
    return pixels.reshape(-1, *pixels.shape[2:])
