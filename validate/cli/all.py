"""`python -m validate all`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Literal

import click


@click.command("all")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), default="fidelity", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace DIR, if it holds such results.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Replays of everything; their differences are the machine's own spread.",
)
@click.option(
    "--clock",
    type=click.Choice(["cpu", "wall"]),
    help="Processor time of this process, or time as it passes.  [default: cpu on a cpu, wall on cuda]",
)
@click.option("--strict", is_flag=True, help="Exit 1 if times are outside tolerance, too.")
def all_command(
    device: str,
    output_dir: Path,
    overwrite: bool,
    seed: int,
    repeats: int,
    clock: Literal["cpu", "wall"] | None,
    strict: bool,
) -> None:
    """Calibrate on one trace, predict others, compare; exit 1 if a decision of any policy differs.

    \b
    python -m validate all --device cpu -o fidelity/
    """
    from simsched.errors import InputError
    from simsched.vllm.version import check_installed, installed_version
    from validate.chain import SETUPS, run_chain
    from validate.comparison_text import to_summary, to_table
    from validate.job import Job
    from validate.offline_engine import OfflineEngine
    from validate.replay import Engine, Engines
    from validate.run_clock import CLOCKS, check_clock

    check_installed()
    if output_dir.exists() and any(output_dir.iterdir()):
        if not (overwrite and (output_dir / "traces").is_dir()):
            raise InputError(f"{output_dir}: exists; give --overwrite, or another directory with -o")
        shutil.rmtree(output_dir)

    clock = clock or ("cpu" if device == "cpu" else "wall")
    check_clock(clock, device, "offline")

    def start(job: Job) -> Engine:
        return OfflineEngine(job, device=device, model=SETUPS[device].model, enforce_eager=False, clock=clock)

    with Engines(start) as engines:
        result = run_chain(
            device,
            output_dir,
            engines,
            clock=clock,
            seed=seed,
            repeats=repeats,
            vllm_version=installed_version(),
            say=lambda line: click.echo(line, err=True),
        )
    click.echo(to_table(result))
    click.echo(f"clock {CLOCKS[clock]}")
    totals = [cell["total"] for cells in result["step_error"].values() for cell in cells.values()]
    absolute = [cell["mean_absolute"] for cells in result["step_error"].values() for cell in cells.values()]
    click.echo(
        f"steps really taken, predicted: total {sum(totals) / len(totals):+.1%} ({min(totals):+.1%} to "
        f"{max(totals):+.1%} a run), a step {sum(absolute) / len(absolute):.1%} in the mean"
    )
    click.echo("the same, simulated at the speed that the machine had (windows of a quarter second):")
    click.echo(to_summary(result["at_machine_speed"]))
    decisions = {cell: found for cell, found in result["decisions"].items() if found}
    different = {cell: found for cell, found in decisions.items() if found["first_difference"]}
    checked = sum(found["steps"] for found in decisions.values())
    click.echo(f"{checked} decisions of the real engine checked, {len(different)} runs differ")
    for cell, found in different.items():
        click.echo(f"  {cell}: {found['first_difference']}")
    sys.exit(1 if different or (strict and not result["verdict"]["within_tolerance"]) else 0)
