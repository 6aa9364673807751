"""`simsched evaluate`: judge a ranker on prompts with real output lengths."""

from __future__ import annotations

import click


@click.command("evaluate")
@click.argument("model")
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="FILE",
    help="Parquet or JSON Lines: prompt, output_length. Repeat it for a table of data sets.",
)
@click.option("--json", "output", metavar="OUT", help="Write all measures here.")
@click.option("--prompt-column", default="prompt", show_default=True)
@click.option("--length-column", default="output_length", show_default=True)
@click.option(
    "--sample-column",
    multiple=True,
    metavar="NAME",
    help="Another sample's length of the same prompt: gives the ceiling.",
)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows with this value.")
@click.option("--skip-invalid", is_flag=True, help="Drop and count rows without prompt or length.")
@click.option("--resamples", default=300, show_default=True, type=click.IntRange(min=20), help="Bootstrap.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def evaluate_command(
    model: str,
    data: tuple[str, ...],
    output: str | None,
    prompt_column: str,
    length_column: str,
    sample_column: tuple[str, ...],
    where: tuple[str, ...],
    skip_invalid: bool,
    resamples: int,
    seed: int,
) -> None:
    """Kendall's tau with a bootstrap interval, where the error sits, baselines, ceiling, time per prompt.

    \b
    simsched evaluate ranker/ --data test.parquet --json result.json
    simsched evaluate ranker/ --data test.parquet --data other.jsonl      a row for each
    """
    from pathlib import Path

    from simsched.files import require_writable
    from simsched.predictors.data import describe_dropped, read_prompts, usable_rows
    from simsched.predictors.judgement import evaluate, table, write_json
    from simsched.predictors.model import load_model

    if output is not None:
        require_writable(Path(output), "--json")
    ranker = load_model(model)
    results = {}
    for path in data:
        file = usable_rows(
            read_prompts(path, where), prompt_column, (length_column, *sample_column), skip_invalid
        )
        if file.dropped:
            click.echo(f"{path}: dropped {describe_dropped(file.dropped)}", err=True)
        results[path] = evaluate(
            ranker, file, prompt_column, length_column, sample_column, seed=seed, resamples=resamples
        )
        if results[path]["data_hash"] == ranker.card["data_hash"]:
            held_out = ranker.card["validation"]["kendall_tau"]
            click.echo(
                f"{path}: {model} was trained on these prompts, so this flatters it; on those that it had "
                f"not seen its tau was {held_out:.3f}",
                err=True,
            )
    click.echo(table(results))
    if output is not None:
        first = next(iter(results.values()))
        write_json(output, first if len(results) == 1 else {**first, "datasets": results})
