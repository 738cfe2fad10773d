"""What each code of a finding means, in a few words for somebody who meets it the first time."""

from __future__ import annotations

MEANING = {
    "data-starved": "training waits for data",
    "init-symmetric": "units start as copies of one another",
    "init-zero": "a weight starts at zero",
    "init-vanishing": "the signal fades with depth at the start",
    "init-exploding": "the signal grows with depth at the start",
    "act-dead": "units that always put out zero",
    "act-nonfinite": "NaN or infinity in an output",
    "grad-vanishing": "early layers get almost no gradient",
    "grad-exploding": "gradients grow out of bounds",
    "grad-none": "a parameter gets no gradient",
    "grad-nonfinite": "NaN or infinity in a gradient",
    "grad-accumulating": "gradients of earlier steps are still there",
    "optim-missing-params": "the optimizer does not know a parameter",
    "optim-lr-high": "steps are too large",
    "optim-lr-low": "steps are too small",
    "optim-frozen": "weights do not move",
    "mode-eval-in-training": "the model trains in evaluation mode",
    "loss-flat": "the loss does not fall",
    "loss-diverging": "the loss grows",
    "loss-nonfinite": "the loss is NaN or infinite",
}
