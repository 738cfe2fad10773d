"""Where there is no CUDA device, Triton's kernels are run by its interpreter."""

import os

import torch

if not torch.cuda.is_available():
    # Triton asks when it is imported, which other tests may bring about as well.
    os.environ["TRITON_INTERPRET"] = "1"
