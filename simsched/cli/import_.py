"""`simsched import`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option("-o", "--output-dir", required=True, metavar="DIR", help="The results directory.")
@click.option("--format", metavar="NAME", help="Of the file.  [default: recognised by its content]")
@click.option("--policy", default="fcfs", show_default=True, help="The server's policy, by our name.")
@click.option("--goodput", metavar="M:MS,...", help="A good request's limits in ms: ttft:200,tpot:50.")
@click.option("--overwrite", is_flag=True, help="Replace the results in DIR.")
def import_command(
    file: str, output_dir: str, format: str | None, policy: str, goodput: str | None, overwrite: bool
) -> None:
    """Make a results directory of a benchmark's result file, to set beside simulated ones.

    Reads what vLLM bench (--save-detailed), SGLang bench, GuideLLM, aiperf and inference-perf write; keeps
    the measured TTFT, ITL and end-to-end latency of every request.

    \b
    simsched import bench.json -o real/
    simsched compare sim/ real/
    """
    from simsched.errors import InputError
    from simsched.metrics import parse_goodput
    from simsched.results.imported import import_runs
    from simsched.text.table import counted
    from simsched.workload.formats import load_bench

    limits = None
    if goodput is not None:
        try:
            limits = parse_goodput(goodput)
        except ValueError as error:
            raise InputError(f"--goodput {goodput}: {error}") from None
    tool, runs = load_bench(file, format=format)
    results, notes = import_runs(
        Path(file), runs, output_dir, tool=tool, policy=policy, goodput=limits, overwrite=overwrite
    )
    for note in notes:
        click.echo(note, err=True)
    requests = sum(results.summary["num_requests"].to_list())
    click.echo(
        f"{output_dir}: {counted(len(results.cells), 'run')} of {tool}, {counted(requests, 'request')}"
    )
