"""The traceback of a script as it would read without us.

Our own frames go. Where a module has a hook of ours, torch takes another way through
`Module._call_impl` (over an inner function `inner`); unless the user has hooks there too, that
way is turned back into the one it takes without hooks.
"""

from __future__ import annotations

import dis
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

_OURS = str(Path(__file__).parents[1])
_LAUNCH = "<frozen runpy>"


def strip(error: BaseException) -> None:
    """Rewrite the tracebacks of the error, its cause and its context in place."""
    todo: list[BaseException | None] = [error]
    done: set[int] = set()
    while todo:
        current = todo.pop()
        if current is not None and id(current) not in done:
            done.add(id(current))
            current.__traceback__ = _stripped(current.__traceback__)
            todo += [current.__cause__, current.__context__]


def _stripped(traceback: TracebackType | None) -> TracebackType | None:
    entries: list[tuple[FrameType, int, int]] = []
    while traceback is not None:
        frame = traceback.tb_frame
        file = frame.f_code.co_filename
        if _is_detour(frame) and entries:
            entries[-1] = _straight(*entries[-1])
        elif not file.startswith(_OURS) and file != _LAUNCH:
            entries.append((frame, traceback.tb_lasti, traceback.tb_lineno))
        traceback = traceback.tb_next
    kept: TracebackType | None = None
    for frame, lasti, line in reversed(entries):
        kept = TracebackType(kept, frame, lasti, line)
    return kept


def _is_detour(frame: FrameType) -> bool:
    """Whether this is torch's `inner`, entered only because of a hook of ours."""
    if frame.f_code.co_name != "inner" or not _is_torch_module(frame.f_code):
        return False
    module = frame.f_locals.get("self")
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    held = [getattr(module, name, {}) for name in names]
    held += [frame.f_globals.get(f"_global{name}", {}) for name in names]
    return all(_is_ours(hook) for hooks in held for hook in hooks.values())


def _straight(frame: FrameType, lasti: int, line: int) -> tuple[FrameType, int, int]:
    """The place in `_call_impl` from which the forward is called where there are no hooks."""
    for step in dis.get_instructions(frame.f_code):
        position = step.positions
        if step.opname == "CALL_FUNCTION_EX" and position is not None and position.lineno:
            return frame, step.offset, position.lineno
    return frame, lasti, line


def _is_torch_module(code: CodeType) -> bool:
    return Path(code.co_filename).parts[-4:] == ("torch", "nn", "modules", "module.py")


def _is_ours(hook: Any) -> bool:
    function = getattr(hook, "func", hook)  # a partial's
    return str(getattr(function, "__module__", "")).startswith("lampwork.")
