"""A report that stays small: what reads it may be a pipe, a pull request, a chat."""

from __future__ import annotations

import json
from typing import Any

LIMIT_BYTES = 256_000
LONGEST_TEXT, LONGEST_LIST = 2000, 100


def within_limit(report: dict[str, Any]) -> dict[str, Any]:
    """The report in at most `LIMIT_BYTES` of JSON, as `json.dumps(…, indent=1)` writes it.

    Texts and lists that are longer than anybody reads are cut. If that is not enough, findings are
    left out from the end, where the least causes stand, and `left_out` says how many.
    """
    report = {**report, "findings": [_short(finding) for finding in report["findings"]]}
    report = {key: _short(value) if key != "findings" else value for key, value in report.items()}
    left_out = 0
    while _size(report) > LIMIT_BYTES and report["findings"]:
        half = max(1, len(report["findings"]) // 2)
        left_out += half
        report = {**report, "findings": report["findings"][:-half], "left_out": left_out}
    return report


def _size(report: dict[str, Any]) -> int:
    return len(json.dumps(report, indent=1, default=str).encode())


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return value[: LONGEST_TEXT - 1] + "…"
    if isinstance(value, dict):
        return {_short(str(k)): _short(v) for k, v in list(value.items())[:LONGEST_LIST]}
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value[:LONGEST_LIST]]
    return value
