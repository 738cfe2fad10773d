"""Watching what Lightning's Trainer trains: `Trainer(callbacks=[WatchCallback()])`.

Works with either package of Lightning, `lightning` and `pytorch_lightning`.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lampwork.callbacks.running import Running

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    # The one that the user has imported already; each knows its own callbacks only.
    _NAMES = ("lightning.pytorch", "pytorch_lightning")
    _NAMES = sorted(_NAMES, key=lambda name: name not in sys.modules)
    for _name in _NAMES:
        try:
            Callback = importlib.import_module(_name).Callback
            break
        except ModuleNotFoundError as _error:
            if _error.name != _name.partition(".")[0]:
                raise
    else:
        raise ModuleNotFoundError("this needs Lightning: pip install lightning", name="lightning")


class WatchCallback(Callback):
    """Keeps a statistic of every tensor of the module that is fitted, see `lampwork.watch`.

    The loss that `backward` is called on is kept for each step, summed over accumulated batches;
    so is what the module logs, as often as the Trainer does.

    Args:
        options: `every`, `budget`, `dir`, `name`, `pictures` as of `lampwork.watch`; `quiet=True`
            prints no verdict at the end.

    Attributes:
        run: the latest `fit`'s run, with `findings` and `path`; None before.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._running = Running(**options)
        self._losses: list[Tensor] = []
        self._step = 0

    @property
    def run(self) -> Any:
        return self._running.run

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._losses, self._step = [], 0
        self._running.begin(pl_module)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        if loss.numel() == 1:
            self._losses.append(loss.detach().reshape(()))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        if self.run is None or self.run.step == self._step:
            return  # gradients of this batch wait for the next ones
        self._step = self.run.step
        every = getattr(trainer, "log_every_n_steps", 0)  # set by a part of the trainer
        due = every and self._step % every == 0
        logged = dict(trainer.callback_metrics) if due else {}
        if self._losses:
            logged["loss"] = sum(self._losses[1:], self._losses[0])
            self._losses = []
        self._running.tell(logged)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._running.tell(trainer.callback_metrics)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._running.end()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._running.end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._running.end()
