"""Sentences on stdout or stderr, which a terminal gets in lines that fit it."""

from __future__ import annotations

import shutil
import sys

import click


def terminal_width(*, err: bool = False) -> int | None:
    """Letters of a line of stdout (`err`: of stderr); None where it is no terminal, which takes any."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def say(text: str, *, err: bool = False) -> None:
    """Print a text; on a terminal its sentences break between words, and its tables stay as they are."""
    from simsched.text.table import wrapped_prose

    width = terminal_width(err=err)
    click.echo(text if width is None else wrapped_prose(text, width), err=err)
