"""One run inside somebody else's training loop: begun, told things, ended with a verdict."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from lampwork._core import ranks
from lampwork._core.errors import LampworkError
from lampwork.watching.session import Watch, watch_uncalled

log = logging.getLogger("lampwork")


class Running:
    """Begins and ends one `watch`, and never ends the training that it is about.

    Args:
        every: record steps 0, every, 2·every, …
        budget: share of the training time that watching may take.
        dir: the folder that holds the runs.
        name: the run's folder in it; by default the time.
        pictures: also keep small pictures.
        quiet: print no verdict at the end.

    Attributes:
        run: the `watch` of the latest training, None before the first.
    """

    def __init__(
        self,
        *,
        every: int = 10,
        budget: float | None = None,
        dir: str | os.PathLike[str] = "runs",
        name: str | None = None,
        pictures: bool = True,
        quiet: bool = False,
    ) -> None:
        self.run: Watch | None = None
        self._options: dict[str, Any] = {
            "every": every,
            "budget": budget,
            "dir": dir,
            "name": name,
            "pictures": pictures,
        }
        self._quiet = quiet
        self._underway = False

    def begin(self, model: nn.Module) -> None:
        """Watch a model; where that cannot be done, say why and let it train."""
        self.end()
        try:
            self.run = watch_uncalled(model, **self._options).start()
            self._underway = True
        except LampworkError as error:
            self.run = None
            log.warning("this training is not watched: %s", error)

    def tell(self, numbers: Mapping[str, Any]) -> None:
        """Keep those of the values that are one number each."""
        if self.run is None or not self._underway:
            return
        for name, value in numbers.items():
            if _is_number(value):
                self.run.log(**{name: value})

    def end(self) -> None:
        """Finish the run and print its verdict on rank 0; idle when there is none under way."""
        if self.run is None or not self._underway:
            return
        self._underway = False
        self.run.stop()
        if not self._quiet and ranks.rank() == 0 and self.run.path is not None:
            _print_verdict(self.run)


def _print_verdict(run: Watch) -> None:
    try:
        from lampwork.record import runs
        from lampwork.record.reader import Record
        from lampwork.view.terminal import verdict_line

        assert run.path is not None
        print(f"lampwork: {verdict_line(Record(run.path), run.findings)}", file=sys.stderr)
        print(f"lampwork: more: lampwork report {runs.shown(run.path)}", file=sys.stderr)
    except Exception:  # a trained model must not be lost over a line of text
        log.exception("no verdict of %s", run)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
