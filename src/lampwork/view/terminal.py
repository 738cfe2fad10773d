"""The report in a terminal: the verdict first, then what to mend, then the key facts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from lampwork.diagnose.finding import Finding
from lampwork.diagnose.verdict import verdict
from lampwork.record.reader import Record
from lampwork.view import words

_COLOUR = {"pass": "bold green", "warn": "bold yellow", "fail": "bold red"}


def verdict_line(record: Record, findings: Sequence[Finding]) -> str:
    """The verdict in one line of plain text: `verdict: pass — nothing wrong found in 310 steps`."""
    return f"verdict: {verdict(findings)} — {words.summary(record, findings)}"


def print_report(record: Record, findings: Sequence[Finding], console: Console) -> None:
    """Print the verdict, every finding and the key facts.

    In a terminal, lines are wrapped between words. In a pipe every line stays whole, for `grep`.
    Code is never wrapped, so that it can be copied.
    """
    line = verdict_line(record, findings)
    word = line.split()[1]
    head = Text(line)
    head.stylize(_COLOUR.get(word, "bold"), 0, line.index(word) + len(word))
    _print(console, head)
    for finding in findings:
        console.print()
        _finding(console, finding)
    console.print()
    _print(console, Text(" · ".join(f"{name} {value}" for name, value in words.facts(record))))


def _finding(console: Console, finding: Finding) -> None:
    head = Text.assemble(
        (words.plain(finding.code), _COLOUR.get(finding.severity, "bold")),
        f" ({finding.severity}) {words.place(finding)}",
    )
    _print(console, head)
    numbers = ", ".join(f"{name} {value}" for name, value in words.evidence(finding))
    sentence, code = words.advice(finding)
    for text in filter(None, (numbers, sentence)):
        _print(console, Text(text), indent=2)
    for row in filter(None, code.split("\n")):
        _print(console, Text(row, style="cyan"), indent=4, whole=True)


def _print(console: Console, text: Text, *, indent: int = 0, whole: bool = False) -> None:
    text = _encodable(text, console.encoding)
    whole = whole or not console.is_terminal
    lines = [text] if whole else text.wrap(console, max(20, console.width - indent))
    for line in lines:
        line.rstrip()
        console.print(Text(" " * indent).append_text(line), soft_wrap=True)


def _encodable(text: Text, encoding: str) -> Text:
    """The text with `?` for what the terminal cannot show: a report must not end a script."""
    shown = text.plain.replace("—", "-") if not encoding.startswith("utf") else text.plain
    text.plain = shown.encode(encoding, "replace").decode(encoding)
    return text
