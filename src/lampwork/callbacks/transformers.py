"""Watching what the Trainer of transformers trains: `Trainer(…, callbacks=[WatchCallback()])`."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lampwork.callbacks.running import Running


class WatchCallback(TrainerCallback):
    """Keeps a statistic of every tensor of the model that is trained, see `lampwork.watch`.

    What the Trainer logs is kept too, under its names, every `logging_steps`.

    Args:
        options: `every`, `budget`, `dir`, `name`, `pictures` as of `lampwork.watch`; `quiet=True`
            prints no verdict at the end.

    Attributes:
        run: the latest training's run, with `findings` and `path`; None before.
    """

    def __init__(self, **options: Any) -> None:
        self._running = Running(**options)

    @property
    def run(self) -> Any:
        return self._running.run

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        if model is not None:
            self._running.begin(model)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self._running.tell(logs or {})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._running.end()
