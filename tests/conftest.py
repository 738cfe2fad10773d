"""For all tests: no deadlines, and Triton's interpreter where there is no CUDA device."""

import logging
import os

import torch
from hypothesis import settings

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("lampwork", deadline=None)
settings.load_profile("lampwork")

if not torch.cuda.is_available():
    # Triton asks when it is imported, which other tests may bring about as well.
    os.environ["TRITON_INTERPRET"] = "1"

# After a compilation torch logs every later step of its tracer, which is not for a test's caplog.
logging.getLogger("torch.__trace").propagate = False
