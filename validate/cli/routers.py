"""`python -m validate routers`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click


@click.command("routers")
@click.option("--against", type=click.Choice(["vllm-router", "sglang-router"]), multiple=True,
              help="The package.  [default: both]")  # fmt: skip
@click.option("--python", default=sys.executable, show_default=False, metavar="PATH",
              help="The interpreter that has it.  [default: this one]")  # fmt: skip
@click.option(
    "--choices", type=click.IntRange(100, 20_000), default=400, show_default=True, help="Of a case."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "json_file", metavar="FILE", help="Write the answer as JSON; - is stdout.")
def routers_command(
    against: tuple[str, ...], python: str, choices: int, seed: int, json_file: str | None
) -> None:
    """Compare our routers with the real ones, choice by choice; exit 1 if any choice differs.

    The real router runs in front of stub workers that hold their answers until they are told: no model, no
    GPU. What it draws at random is compared in distribution.

    \b
    pip install vllm-router==0.1.17 sglang-router==0.3.2
    python -m validate routers
    python -m validate routers --against vllm-router --python ~/venv/bin/python --choices 2000
    """
    from simsched.cli._table import show_table
    from simsched.errors import InputError
    from simsched.files import write_file
    from validate.router_process import COMPARED, MODULES, version_of
    from validate.routers import FALSE_ALARM, cases, compare

    found = []
    for package in against or tuple(MODULES):
        version = version_of(package, python)
        if version is None:
            raise InputError(f"--against {package}: {python} does not have it: pip install {package}")
        if version != COMPARED[package]:
            click.echo(f"{package} {version}: our rules follow {COMPARED[package]}", err=True)
        for case in cases(package):
            result = compare(package, python, case, choices, seed)
            click.echo(f"{package} {version}: {case.ours}: {result.choices} choices", err=True)
            found.append((package, version, result))
    rows = [
        [package, version, each.ours, each.workers, each.choices, each.differ, each.p_value]
        for package, version, each in found
    ]
    if json_file != "-":
        headers = ["router", "version", "ours", "workers", "choices", "differ", "p"]
        show_table(headers, rows, left=[0, 1, 2])
        click.echo(f"p: of choices at random; less than {FALSE_ALARM:g} is called different")
    if json_file is not None:
        given = [{"package": package, "version": version, **asdict(each)} for package, version, each in found]
        text = json.dumps(given, indent=1) + "\n"
        if json_file == "-":
            click.echo(text, nl=False)
        else:
            write_file(Path(json_file), text.encode())
    for package, _, each in found:
        if not each.agrees:
            click.echo(f"{package}: {each.ours}: {each.first or f'p = {each.p_value:.2g}'}", err=True)
    sys.exit(0 if all(each.agrees for _, _, each in found) else 1)
