"""What the loaders of this process measured during a run, told while it goes on and at its end."""

from __future__ import annotations

from typing import Any

from lampwork._core import meters
from lampwork._core.clock import monotonic_s
from lampwork.record.writer import Writer

TELL_EVERY_S = 2.0


class Loaders:
    """The loaders that are active from now on.

    Each keeps its number in the record, so that what is told again takes the place of what was
    told before: a run that is killed has the figures of its last seconds.
    """

    def __init__(self) -> None:
        self._began = self._told = monotonic_s()
        # Waiting that belongs to no step of this run.
        self._before = [(meter, meter.totals()) for meter in meters.entered()]
        self._numbers: list[Any] = []

    def so_far(self) -> dict[str, float]:
        """Seconds that training has waited and samples that it got, all loaders together."""
        active = meters.entered(since_s=self._began)
        if not active:
            return {}
        wait_s = samples = 0.0
        for meter in active:
            now, then = meter.totals(), self._at_start(meter)
            wait_s += now[0] - then[0]
            samples += now[1] - then[1]
        return {"wait_s": round(wait_s, 6), "samples": int(samples)}

    def tell_at_times(self, writer: Writer) -> None:
        """`tell`, if the last time is a while ago."""
        if monotonic_s() - self._told >= TELL_EVERY_S:
            self.tell(writer)

    def tell(self, writer: Writer) -> None:
        """Write down what each of them shows."""
        self._told = monotonic_s()
        for meter in meters.entered(since_s=self._began):
            if not any(meter is known for known in self._numbers):
                self._numbers.append(meter)
            number = next(i for i, known in enumerate(self._numbers, 1) if known is meter)
            writer.loader(meter.dataset, meter.figures(), number)

    def _at_start(self, meter: Any) -> tuple[float, int]:
        return next((totals for known, totals in self._before if known is meter), (0.0, 0))
