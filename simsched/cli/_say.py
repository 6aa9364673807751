"""Sentences on stdout or stderr, which a terminal gets in lines that fit it."""

from __future__ import annotations

import os
import shutil
import sys

import click


def terminal_width(*, err: bool = False) -> int | None:
    """Letters of a line of stdout (`err`: of stderr), as `COLUMNS` or the terminal says; None where neither
    does, as of a file, which takes any."""
    stream = sys.stderr if err else sys.stdout
    asked = os.environ.get("COLUMNS", "")
    return shutil.get_terminal_size().columns if stream.isatty() or asked.isdecimal() else None


def say(text: str, *, err: bool = False) -> None:
    """Print a text; on a terminal its sentences break between words, and its tables stay as they are."""
    from simsched.text.table import wrapped_prose

    width = terminal_width(err=err)
    click.echo(text if width is None else wrapped_prose(text, width), err=err)
