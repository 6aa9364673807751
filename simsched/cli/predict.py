"""`simsched predict`: a ranker's columns into a trace."""

from __future__ import annotations

import click


@click.command("predict")
@click.argument("model")
@click.option("--data", required=True, metavar="FILE", help="Parquet or JSON Lines with prompts.")
@click.option("--output", "-o", required=True, metavar="TRACE", help="NAME.jsonl or NAME.parquet.")
@click.option("--prompt-column", default="prompt", show_default=True)
@click.option("--length-column", default="output_length", show_default=True)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows with this value.")
@click.option("--skip-invalid", is_flag=True, help="Drop and count rows without a prompt.")
@click.option("--overwrite", is_flag=True, help="Replace a TRACE that is there.")
def predict_command(
    model: str,
    data: str,
    output: str,
    prompt_column: str,
    length_column: str,
    where: tuple[str, ...],
    skip_invalid: bool,
    overwrite: bool,
) -> None:
    """Add score (lower = shorter), predicted_class (0 = shortest) and predicted_length to every row.

    All columns of FILE are kept. A trace also needs timestamp and input_length: where they are missing, 0.0
    and an estimate are written, with a warning.

    \b
    simsched predict ranker/ --data prompts.jsonl --output trace.jsonl
    simsched run --trace trace.jsonl --policy fcfs,ranking --request-rate 8
    """
    from pathlib import Path

    from simsched.errors import InputError
    from simsched.files import require_writable
    from simsched.predictors.data import describe_dropped, read_prompts, usable_rows, write_trace
    from simsched.predictors.model import load_model
    from simsched.predictors.prediction import as_trace

    if Path(output).exists() and not overwrite:
        raise InputError(f"--output {output}: is there already; expected --overwrite")
    require_writable(Path(output), "--output")
    ranker = load_model(model)
    file = usable_rows(read_prompts(data, where), prompt_column, (), skip_invalid)
    if file.dropped:
        click.echo(f"dropped {describe_dropped(file.dropped)}", err=True)
    trace, warnings = as_trace(ranker, file, prompt_column, length_column)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    write_trace(trace, output)
    click.echo(f"{output}: {len(trace)} requests scored by {model}")
