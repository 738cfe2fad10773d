"""Watching what a loop with Accelerate trains: `Accelerator(log_with=WatchTracker(model))`."""

from __future__ import annotations

from typing import Any

from accelerate.tracking import GeneralTracker
from torch import nn

from lampwork.callbacks.running import Running


class WatchTracker(GeneralTracker):
    """Keeps a statistic of every tensor of the model, and what `accelerator.log` is told.

    Begins with `accelerator.init_trackers` and ends with `accelerator.end_training`; on each rank.

    Args:
        model: the model, before or after `accelerator.prepare`.
        options: `every`, `budget`, `dir`, `name`, `pictures` as of `lampwork.watch`; `quiet=True`
            prints no verdict at the end.
    """

    name = "lampwork"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__()
        self._model = model
        self._running = Running(**options)

    @property
    def tracker(self) -> Any:
        """The `watch` in progress; None before `init_trackers`."""
        return self._running.run

    run = tracker

    def start(self) -> None:
        self._running.begin(self._model)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        if self.run is not None and values:
            self.run.note(", ".join(f"{name}={value}" for name, value in values.items()))

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._running.tell(values)

    def finish(self) -> None:
        self._running.end()
