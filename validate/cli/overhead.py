"""`python -m validate overhead`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("overhead")
@click.option("--policy", help="A list of policies.  [default: one of each kind]")
@click.option("--running", type=click.IntRange(1), default=256, show_default=True)
@click.option("--waiting", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=12, show_default=True, help="Of 15 steps each.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the table as JSON.")
def overhead_command(
    policy: str | None, running: int, waiting: int, rounds: int, json_path: Path | None
) -> None:
    """Time a step of the policy scheduler beside vLLM's own, in processor time, and what a step log costs.

    \b
    python -m validate overhead
    """
    from simsched.text.specs import split_specs
    from validate.json_file import write_json
    from validate.log_overhead import measure_log
    from validate.overhead import POLICIES, measure
    from validate.virtual_engine import prepare_vllm

    version = prepare_vllm()
    click.echo(f"vLLM {version}: a step with {running} running and {waiting} waiting, processor time")
    head = ("FCFS built in", "policy", "vLLM's part", "preemptions", "x built in", "x its batches")
    click.echo(f"{'':56}" + "".join(f"{name:>15}" for name in head))
    found = []
    for spec in split_specs(policy) if policy else POLICIES:
        row = measure(spec, running=running, waiting=waiting, rounds=rounds)
        found.append(row.as_json())
        cells = (f"{row.builtin_ms:.2f} ms", f"{row.step_ms:.2f} ms", f"{row.vllm_ms:.2f} ms")
        ratios = (f"{row.preemptions:.1f}", f"{row.against_builtin:.2f}", f"{row.same_batches:.2f}")
        click.echo(f"{spec:56}" + "".join(f"{cell:>15}" for cell in (*cells, *ratios)))
    log = measure_log(running=running, rounds=rounds)
    click.echo(
        f"step log: {log.line_us:.0f} us a step for a line with {running} requests, "
        f"{log.stamps_us:.1f} us for the stamps of launch and wait"
    )
    if json_path is not None:
        write_json(json_path, {"vllm_version": version, "policies": found, "step_log": log.as_json()})
