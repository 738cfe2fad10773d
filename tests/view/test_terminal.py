from __future__ import annotations

import io

import pytest
from rich.console import Console

from lampwork.diagnose.finding import Finding
from lampwork.view.terminal import print_report, verdict_line

DEAD = Finding(
    "act-dead", "fail", "layers.3", 40, {"dead_share": 0.97, "units": 128},
    "Its units are zero whatever comes in, so no gradient passes: lower the learning rate.\n"
    "optimizer.param_groups[0]['lr'] *= 0.1  # this line of code is longer than all of the rest",
)  # fmt: skip
STARVED = Finding("data-starved", "warn", None, 0, {"wait_s": 1.5}, "Use more workers.")


def printed(record, findings, **options):
    """What `print_report` writes on a console with these options."""
    stream = io.StringIO()
    print_report(record, findings, Console(file=stream, **options))
    return stream.getvalue()


def test_a_pass_names_the_steps(mlp):
    """A healthy run is told in one line."""
    line = verdict_line(mlp.read(), [])
    assert line == "verdict: pass — nothing wrong found in 31 steps"


def test_a_fail_names_code_place_and_step(mlp):
    """The worst finding stands in the line, the others are counted."""
    record = mlp.read()
    line = "verdict: fail — act-dead at layers.3 since step 40"
    assert verdict_line(record, [DEAD]) == line
    assert verdict_line(record, [STARVED, DEAD]) == f"{line} (+1 more)"
    assert verdict_line(record, [STARVED]) == "verdict: warn — data-starved since step 0"


def test_a_run_without_steps_is_not_praised(build):
    """No step, no praise."""
    assert verdict_line(build().read(), []) == "verdict: pass — no optimizer step was recorded"


def test_in_a_pipe_every_line_is_whole(mlp):
    """Piped output has no colour codes and no wrapped line, whatever the width."""
    text = printed(mlp.read(), [DEAD, STARVED], width=60)
    assert text.splitlines() == [
        "verdict: fail — act-dead at layers.3 since step 40 (+1 more)",
        "",
        "act-dead (fail) at layers.3 since step 40",
        "  dead share 97 %, units 128",
        "  Its units are zero whatever comes in, so no gradient passes: lower the learning rate.",
        "    optimizer.param_groups[0]['lr'] *= 0.1  # this line of code is longer than all "
        "of the rest",
        "",
        "data-starved (warn) since step 0",
        "  wait 1.5 s",
        "  Use more workers.",
        "",
        "model Net · parameters 1,234 · steps 31 · recorded steps 4 · duration 15.0 s · "
        "final loss 0.09957 · optimizer SGD · started 2026-01-02 03:04 · ended in order",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_in_a_terminal_lines_are_wrapped_between_words(mlp, width):
    """No line but code is longer than the terminal, and no word is lost or cut."""
    record = mlp.read()
    text = printed(record, [DEAD], width=width, force_terminal=True, color_system=None)
    for line in text.splitlines():
        assert len(line) <= width or line.startswith("    optimizer")
        assert line == line.rstrip()
    assert text.split() == printed(record, [DEAD]).split()


def test_a_terminal_gets_colours(mlp):
    """The verdict's word has the colour of its severity."""
    text = printed(mlp.read(), [], force_terminal=True, color_system="standard", width=80)
    assert text.startswith("\x1b[1;32mverdict: pass\x1b[0m — nothing wrong found")


def test_names_with_markup_are_printed_as_they_are(mlp):
    """Square brackets and colons are no markup and no emoji; escape codes do not get through."""
    finding = Finding("act-dead", "warn", "[red]a[/red] :smile: \x1b[2J", 0)
    text = printed(mlp.read(), [finding])
    assert "at [red]a[/red] :smile: �[2J since step 0" in text


def test_a_terminal_of_ascii_does_not_end_the_script(mlp):
    """What the encoding lacks becomes a dash or a question mark."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_report(mlp.read(), [], Console(file=stream))
    stream.flush()
    first, *_, last = raw.getvalue().decode("ascii").splitlines()
    assert first == "verdict: pass - nothing wrong found in 31 steps"
    assert last.startswith("model Net ? parameters 1,234")
