"""`python -m validate prepare`."""

from __future__ import annotations

import sys

import click


@click.command("prepare")
@click.argument("version")
def prepare_command(version: str) -> None:
    """Fetch the Python files of a vLLM VERSION for lock-step and print their folder.

    Exit code 3: the package index can't be reached, or does not have the version.
    """
    from simsched.vllm_versions import parse_version
    from validate.vllm_files import UnavailableError, prepare

    parse_version(version)
    try:
        click.echo(prepare(version))
    except UnavailableError as error:
        click.echo(f"validate: {error}", err=True)
        sys.exit(3)
