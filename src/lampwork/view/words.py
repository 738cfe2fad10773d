"""Numbers, findings and key facts in words: what the page and the terminal both say."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape as _escape

import numpy as np

from lampwork.diagnose.finding import Finding
from lampwork.record.reader import Record

LONGEST = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: object) -> str:
    """Text without control characters, so that a name cannot steer a terminal or a page."""
    return _CONTROL.sub("�", str(text)).encode("utf-8", "replace").decode()


def cut(text: str, letters: int = LONGEST) -> str:
    """The text, its end left out where it is longer than `letters`."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def escape(text: object) -> str:
    """Text for HTML, also within quotes; a web address in it does not look like a link."""
    return _escape(plain(text)).replace("://", "&#58;//")


def number(value: object) -> str:
    """A value as a person writes it: four digits, thousands apart, `–` for nothing."""
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{int(value):,}"
    if isinstance(value, (float, np.floating)):
        return _decimal(float(value))
    if isinstance(value, Mapping):
        return cut(", ".join(f"{plain(key)} {number(item)}" for key, item in value.items()))
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes)):
        return cut(", ".join(number(item) for item in value))
    return cut(plain(value))


def _decimal(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) < 1e7 and (value.is_integer() or abs(value) >= 1e3):
        return f"{value:,.0f}"
    return re.sub(r"e([+-])0*(\d+)", lambda m: f"e{m[1].strip('+')}{m[2]}", f"{value:.4g}")


def share(value: object) -> str:
    """A share of 1 in percent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return number(value)
    percent = 100 * value
    whole = percent == 0 or 1 <= percent <= 99 or percent >= 100
    return f"{percent:.0f} %" if whole else f"{percent:.2f} %"


def duration(seconds: float) -> str:
    """A time span in the two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def evidence(finding: Finding) -> list[tuple[str, str]]:
    """The numbers that a finding rests on, as name and value with its unit."""
    return [_with_unit(plain(key), value) for key, value in finding.evidence.items()]


def _with_unit(key: str, value: object) -> tuple[str, str]:
    name = key.replace("_", " ")
    if key.endswith("share"):
        return name, share(value)
    if key.endswith("_s") and isinstance(value, (int, float)):
        return name[:-2], f"{number(value)} s"
    return name, number(value)


def advice(finding: Finding) -> tuple[str, str]:
    """The sentence and the code of a finding's advice; either may be empty."""
    sentence, *code = finding.advice.expandtabs(4).split("\n")
    return plain(sentence), "\n".join(plain(line) for line in code)


def place(finding: Finding) -> str:
    """Where and since when: `at layers.3 since step 40`."""
    where = "" if finding.where is None else f"at {cut(plain(finding.where)) or '(model)'} "
    return f"{where}since step {finding.step}"


def steps_taken(record: Record) -> int:
    """How many optimizer steps the run took, as far as the record knows."""
    known = record.meta.get("steps")
    if isinstance(known, int):
        return known
    return int(record.steps[-1]) + 1 if len(record.steps) else 0


def summary(record: Record, findings: Sequence[Finding]) -> str:
    """The verdict's reason in one line: the first of the worst findings, or that there is none."""
    if not findings:
        count = steps_taken(record)
        steps = f"{count:,} step" + "s" * (count != 1)
        return f"nothing wrong found in {steps}" if count else "no optimizer step was recorded"
    first = next((f for f in findings if f.severity == "fail"), findings[0])
    more = f" (+{len(findings) - 1} more)" if len(findings) > 1 else ""
    return f"{plain(first.code)} {place(first)}{more}"


def final_loss(record: Record) -> float | None:
    """The last logged value of `loss`, or of the first scalar with that word in its name."""
    names = [name for name in record.scalar_names if "loss" in name.lower()]
    if not names:
        return None
    values = record.scalar("loss" if "loss" in names else names[0])[1]
    return float(values[-1])


def facts(record: Record) -> list[tuple[str, str]]:
    """What there is to know of the run as a whole, as name and value."""
    meta = record.meta
    found = [
        ("model", number(meta.get("model"))),
        ("parameters", number(meta.get("parameters"))),
        ("steps", number(steps_taken(record))),
        ("recorded steps", number(len(record.steps))),
        ("duration", duration(float(record.seconds[-1])) if len(record.seconds) else "–"),
        ("final loss", number(final_loss(record))),
        ("optimizer", number(meta.get("optimizers") or None)),
        ("started", number(meta.get("started")).replace("T", " ")[:16]),
        ("ended", "in order" if meta.get("finished") else "not closed: running or killed"),
    ]
    return [(name, value) for name, value in found if value != "–"]
