"""Rules over a record: what is wrong, where, the evidence, what to do. No torch."""

from __future__ import annotations

from lampwork.diagnose.verdict import diagnose, report, verdict

__all__ = ["diagnose", "report", "verdict"]
