"""`python -m validate replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from simsched.cli.run import study_options


@click.command("replay")
@study_options()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--model",
    default="tiny-llama",
    show_default=True,
    help="tiny-llama or llama-3-8b (dummy weights), or a model that vLLM loads.",
)
@click.option(
    "--engine",
    "kind",
    type=click.Choice(["offline", "http"]),
    default="offline",
    show_default=True,
    help="vLLM in this process, or `vllm serve` and a client in several processes.",
)
@click.option("--clients", type=click.IntRange(1), default=2, show_default=True, help="Client processes.")
@click.option(
    "--data-parallel",
    is_flag=True,
    help="One `vllm serve --data-parallel-size N` in place of N servers, and its own balancer; with --engine "
    "http, --num-replicas N and --router vllm-dp.",
)
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="Time as it passes, or processor time of this process with idle time skipped: for the offline "
    "engine on a CPU that others use, too.",
)
@click.option("--enforce-eager", is_flag=True, help="No CUDA graphs.")
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--overwrite", is_flag=True, help="Replace the results in DIR.")
def replay_command(
    device: str,
    model: str,
    kind: str,
    clients: int,
    data_parallel: bool,
    clock: Literal["wall", "cpu"],
    enforce_eager: bool,
    output_dir: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Play traces into real vLLM; takes the options of `simsched run`.

    Requests are sent at their time stamps, turns of sessions when what they wait for has been answered.

    The results have the simulator's format, with a step log for each cell: compare them with those of
    `simsched run` with the same options (and the engine's resolved --num-gpu-blocks, from replay.json).

    \b
    python -m validate replay --workload sharegpt --request-rate 2 --policy fcfs,srtf --block-size 32 \\
        --num-gpu-blocks 400 --max-num-seqs 16 --max-model-len 1024 -o real/
    """
    from simsched.errors import InputError
    from simsched.sweep.plan import make_plan
    from simsched.sweep.study import make_study
    from simsched.vllm.version import installed_version
    from validate.engine_options import environment
    from validate.job import check_data_parallel
    from validate.replay import Engine, Engines, replay
    from validate.run_clock import check_clock

    check_clock(clock, device, kind)
    given = {name: value for name, value in options.items() if value is not None}
    version = installed_version()
    if given.setdefault("vllm_version", version) != version:
        raise InputError(f"--vllm-version {given['vllm_version']}: installed is {version}")
    given.setdefault("async_scheduling", "true" if device == "cuda" else "false")  # as vLLM does
    plan = make_plan(make_study({**given, "log_steps": True}))
    if data_parallel:
        check_data_parallel(kind, [cell.arm for cell in plan.cells.values()])

    def start(job: Any) -> Engine:
        if kind == "http":
            from validate.http_engine import HttpEngine

            return HttpEngine(
                job, device=device, model=model, enforce_eager=enforce_eager, clients=clients,
                data_parallel=data_parallel,
            )  # fmt: skip
        from validate.offline_engine import OfflineEngine

        return OfflineEngine(job, device=device, model=model, enforce_eager=enforce_eager, clock=clock)

    facts = {
        "device": device,
        "model": model,
        "engine": kind,
        **({"data_parallel": True} if data_parallel else {}),
        "clock": clock,
        "environment": environment(device, clock),
    }
    with Engines(start) as engines:
        results = replay(
            plan,
            output_dir,
            engines,
            facts,
            overwrite=overwrite,
            on_cell=lambda cell: click.echo(cell, err=True),
        )
    click.echo(f"written: {results.path}", err=True)
