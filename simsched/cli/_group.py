"""A click group that imports a command only when it runs."""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Commands known by name: `PACKAGE.NAME` holds the click command `NAME_command`; the module is `NAME_`
    where Python has the name for itself."""

    def __init__(self, *, package: str, lines: Mapping[str, str], **attributes: Any) -> None:
        """`lines`: command -> its line in `--help`."""
        super().__init__(**attributes)
        self.package, self.lines = package, lines

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lines:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        module = importlib.import_module(f"{self.package}.{name}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lines.items()))
