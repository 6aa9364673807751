"""Reading any trace: our JSON Lines, and the public formats."""

from __future__ import annotations

from pathlib import Path

from simsched.errors import InputError
from simsched.workload.trace import Trace
from simsched.workload.trace_io import read_text, trace_of_lines

FORMATS = ("jsonl",)


def load_trace(
    path: Path | str, *, format: str | None = None, skip_invalid: bool = False
) -> tuple[Trace, dict[str, int]]:
    """Read a trace."""
    path = Path(path)
    if format not in (None, *FORMATS):
        raise InputError(f"--format {format}: expected one of {', '.join(FORMATS)}")
    return trace_of_lines(path, read_text(path), skip_invalid=skip_invalid)
