"""`python -m validate all`."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any, Literal

import click


@click.command("all")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cpu]")
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), default="fidelity", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace DIR, if it holds such results.")
@click.option("--resume", is_flag=True, help="Go on with DIR, with the options that it was begun with.")
@click.option("--seed", type=int, help="[default: 0]")
@click.option(
    "--repeats",
    type=click.IntRange(1),
    help="Replays of everything; their differences are the machine's own spread.  [default: 3]",
)
@click.option("--policy", help="A list of policies, FCFS among them.  [default: three; on a cpu five]")
@click.option("--load", help="Shares of the capacity.  [default: 0.9x,1.5x; on a cpu 0.6x, too]")
@click.option(
    "--clock",
    type=click.Choice(["cpu", "wall"]),
    help="Processor time of this process, or time as it passes.  [default: cpu on a cpu, wall on cuda]",
)
@click.option(
    "--limit",
    type=click.FloatRange(min=1),
    help="Seconds, the engine's start among them, after which nothing more is measured; what there is is "
    "compared, and --resume goes on.  [default: 500 on cuda, none on a cpu]",
)
@click.option(
    "--max-cudagraph-capture-size",
    "capture_size",
    type=click.IntRange(1),
    help="The largest CUDA graph in tokens.  [default: vLLM's choice]",
)
@click.option("--strict", is_flag=True, help="Exit 1 if times are outside tolerance, too.")
def all_command(
    output_dir: Path, overwrite: bool, resume: bool, limit: float | None, strict: bool, **given: Any
) -> None:
    """Calibrate on one workload, predict others, compare; exit 1 if a decision of any policy differs.

    \b
    python -m validate all --device cpu -o fidelity/
    """
    from simsched.errors import InputError
    from validate.chain import judge
    from validate.run_clock import check_clock
    from validate.session import SETTINGS, Session
    from validate.setups import SETUPS

    begin = time.monotonic()
    if overwrite and resume:
        raise InputError("--resume and --overwrite exclude each other")
    if output_dir.exists() and any(output_dir.iterdir()) and not resume:
        if not (overwrite and (output_dir / SETTINGS).is_file()):
            raise InputError(
                f"{output_dir}: exists; give --resume, --overwrite, or another directory with -o"
            )
        shutil.rmtree(output_dir)
    settings = _settings(output_dir, given)
    check_clock(settings.clock, settings.device, "offline")
    if limit is None:
        limit = 500.0 if settings.device == "cuda" else float("inf")

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - begin:6.1f} s] {line}", err=True)

    setup = SETUPS[settings.device]
    with _engines(settings, setup.model) as engines:
        session = Session(settings, setup, output_dir, engines, say, deadline=begin + limit)
        complete = session.run()
    result = judge(session, say)
    if not complete:
        say(f"cut off after {limit:.0f} s; --resume -o {output_dir} goes on")
    if result is None:
        click.echo("no replay is finished: nothing to compare")
        sys.exit(1)
    different = _print(result, settings.clock)
    sys.exit(1 if different or (strict and not result["verdict"]["within_tolerance"]) else 0)


def _settings(out: Path, given: dict[str, Any]) -> Any:
    """As given; the rest as the session in `out` was begun with, or defaults."""
    from importlib.util import find_spec

    from simsched.text.specs import split_specs
    from simsched.vllm.version import check_installed, installed_version
    from validate.session import SETTINGS, Settings, read_settings
    from validate.setups import SETUPS

    known = read_settings(out) if (out / SETTINGS).is_file() else None
    if known is None or find_spec("vllm") is not None:
        check_installed()
        version = installed_version()
    else:
        version = known.vllm_version  # all is measured, or the engine will say that it is missing
    device = given["device"] or (known.device if known else "cpu")
    setup = SETUPS[device]
    clock: Literal["cpu", "wall"] = "cpu" if device == "cpu" else "wall"
    base = known or Settings(device, clock, 0, 3, setup.policies, setup.loads, version)
    chosen = {name: given[name] for name in ("device", "clock", "seed", "repeats", "capture_size")}
    if given["policy"]:
        chosen["policies"] = tuple(split_specs(given["policy"]))
    if given["load"]:
        chosen["loads"] = tuple(given["load"].split(","))
    changed = {name: value for name, value in chosen.items() if value is not None}
    return Settings(**{**vars(base), **changed, "vllm_version": version})


def _engines(settings: Any, model: str) -> Any:
    from validate.job import Job
    from validate.offline_engine import OfflineEngine
    from validate.replay import Engine, Engines

    def start(job: Job) -> Engine:
        return OfflineEngine(
            job,
            device=settings.device,
            model=model,
            enforce_eager=False,
            clock=settings.clock,
            capture_size=settings.capture_size,
        )

    return Engines(start)


def _print(result: dict[str, Any], clock: Literal["cpu", "wall"]) -> int:
    """The comparison; returns the number of replays in which a decision differs."""
    from validate.comparison_text import to_summary, to_table
    from validate.run_clock import CLOCKS
    from validate.verdicts import to_lines

    click.echo(to_table(result))
    click.echo(f"clock {CLOCKS[clock]}")
    cells = [cell for cells in result["step_error"].values() for cell in cells.values()]
    if cells:
        totals = [cell["total"] for cell in cells]
        absolute = [cell["mean_absolute"] for cell in cells]
        click.echo(
            f"steps really taken, predicted: total {sum(totals) / len(totals):+.1%} ({min(totals):+.1%} to "
            f"{max(totals):+.1%} a run), a step {sum(absolute) / len(absolute):.1%} in the mean"
        )
        click.echo("the same, simulated at the speed that the machine had (windows of a quarter second):")
    else:
        speeds = [speed for speeds in result["host_speed"].values() for speed in speeds.values()]
        click.echo(
            f"the same, each run simulated at its own host speed ({min(speeds):.2f} to {max(speeds):.2f}):"
        )
    click.echo(to_summary(result["at_machine_speed"]))
    for line in to_lines(result["verdicts"]):
        click.echo(line)
    return len(result["verdicts"]["decisions"]["different"])
