"""Put on the path of a script that is scored: keeps a digest of the weights that it ends with.

The script does not know. It is seeded from outside where it does not seed itself, alike with and
without `lampwork run`; at its exit every parameter that an optimizer has stepped, and the state of
torch's random numbers, go into one digest, which is written to the file `$VERDICT_DIGEST`.
"""

import atexit
import os
import random

from lampwork.cli.after_import import after_import

_owner, _optimizers = os.getpid(), []


def _begin():
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    random.seed(0)
    torch.manual_seed(0)
    register_optimizer_step_post_hook(_note)


def _note(optimizer, *_):
    if all(optimizer is not other for other in _optimizers):
        _optimizers.append(optimizer)  # kept alive, and with it its parameters


def _finish():
    if os.getpid() != _owner:
        return  # a worker's
    from hashlib import blake2b

    digest = blake2b(digest_size=16)
    if _optimizers:
        import torch

        for optimizer in _optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    values = parameter.detach().contiguous().view(-1).view(torch.uint8)
                    digest.update(values.numpy().tobytes())
        digest.update(torch.get_rng_state().numpy().tobytes())
    with open(os.environ["VERDICT_DIGEST"], "w") as file:
        file.write(digest.hexdigest() if _optimizers else "nothing was trained")


if "VERDICT_DIGEST" in os.environ:
    after_import("torch", _begin)
    atexit.register(_finish)
    random.seed(0)
