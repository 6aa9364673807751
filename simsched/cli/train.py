"""`simsched train`: a length ranker from prompts with real output lengths."""

from __future__ import annotations

import sys
from pathlib import Path

import click

BACKBONE_HELP = "light, encoder, or a Hugging Face encoder or decoder by name or path."


@click.command("train")
@click.option("--data", required=True, metavar="FILE", help="Parquet or JSON Lines: prompt, output_length.")
@click.option("--output", "-o", required=True, metavar="MODEL", help="Folder to write.")
@click.option("--backbone", default="light", show_default=True, help=BACKBONE_HELP)
@click.option(
    "--loss",
    type=click.Choice(
        ["listmle", "pairwise", "regression", "percentile", "classification", "quantile", "log-t"]
    ),
    help="Default: percentile (light), listmle (others).",
)
@click.option(
    "--buckets",
    default="percentile(count=10)",
    show_default=True,
    help="Length classes; fixed(width=820) are the paper's.",
)
@click.option("--prompt-column", default="prompt", show_default=True)
@click.option("--length-column", default="output_length", show_default=True)
@click.option(
    "--sample-column", multiple=True, metavar="NAME", help="Another sample's length of the same prompt."
)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows with this value.")
@click.option("--skip-invalid", is_flag=True, help="Drop and count rows without prompt or length.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--validation-share",
    type=click.FloatRange(0.01, 0.5),
    help="Of the prompts, held out to choose by. Default: 0.1, at most 500 prompts.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Default: 4 (encoder), 5 (others).")
@click.option("--batch-size", type=click.IntRange(min=2), help="Prompts in a list. Default: 32.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Default: 1e-4 (encoder), 2e-5 (others).",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=2),
    help="Of a prompt. Default: 128 (encoder), 2048 (others).",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    help="Stop after this many epochs without a better validation tau. Default: 2.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of a stopped run.")
@click.option("--overwrite", is_flag=True, help="Replace a MODEL or checkpoint that is there.")
def train_command(
    data: str,
    output: str,
    prompt_column: str,
    length_column: str,
    sample_column: tuple[str, ...],
    where: tuple[str, ...],
    skip_invalid: bool,
    resume: bool,
    overwrite: bool,
    buckets: str,
    **options: object,
) -> None:
    """Train a ranker that predicts from a prompt how long the answer gets.

    \b
    simsched train --data prompts.parquet --output ranker/
    simsched train --data prompts.jsonl --output ranker/ --backbone encoder
    """
    from simsched.cli._progress import training_progress
    from simsched.predictors import data as prompts
    from simsched.predictors.targets import parse_buckets
    from simsched.predictors.training import Options, discard, train_ranker

    folder = Path(output)
    checkpoint = folder.parent / f"{folder.name}.checkpoint"
    _check_output(folder, checkpoint, resume, overwrite)
    chosen = Options(buckets=parse_buckets(buckets), **options).resolved()  # type: ignore[arg-type]
    columns = (length_column, *sample_column)
    file = prompts.usable_rows(prompts.read_prompts(data, where), prompt_column, columns, skip_invalid)
    examples = prompts.examples(file, prompt_column, columns)
    if file.dropped:
        click.echo(f"dropped {prompts.describe_dropped(file.dropped)}", err=True)
    if examples.duplicates:
        click.echo(f"{examples.duplicates} rows repeat a prompt: taken as further samples of it", err=True)
    if overwrite and not resume:
        discard(checkpoint)
    try:
        with training_progress() as progress:
            ranker = train_ranker(examples, chosen, checkpoint, progress)
    except KeyboardInterrupt:
        _say_stopped(checkpoint)
        sys.exit(130)
    ranker.card["data"] = {
        "file": file.path.name,
        "where": list(where),
        "columns": {"prompt": prompt_column, "length": list(columns)},
        "rows": len(file),
        "dropped": file.dropped,
        "repeated_prompts": examples.duplicates,
    }
    ranker.save(folder)
    discard(checkpoint)
    validation = ranker.card["validation"]
    low, high = validation["kendall_tau_ci"]
    click.echo(
        f"{folder}: {chosen.backbone}, {ranker.card['loss']}: tau {validation['kendall_tau']:.3f} "
        f"(95 % CI {low:.3f} to {high:.3f}) on {validation['n']} held-out prompts, "
        f"{ranker.seconds_per_prompt * 1e3:.2f} ms a prompt, trained in {ranker.card['train_seconds']:.0f} s"
    )


def _check_output(folder: Path, checkpoint: Path, resume: bool, overwrite: bool) -> None:
    """Refuse what could not be written, or would replace what is not ours, before anything is read."""
    from simsched.errors import InputError
    from simsched.files import require_writable
    from simsched.predictors.model import is_model

    if not folder.name:
        raise InputError(f"--output {folder}: expected the name of a folder to write")
    for path in (folder, checkpoint):
        if path.exists() and not overwrite and not (resume and path == checkpoint):
            raise InputError(
                f"--output {path}: is there already; expected --overwrite"
                + (" or --resume" if path == checkpoint else "")
            )
    if folder.exists() and not is_model(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"--output {folder}: is there and is no ranker; expected a ranker to overwrite")
    require_writable(folder, "--output")


def _say_stopped(checkpoint: Path) -> None:
    """Ctrl-C: what is left, and how to go on; a checkpoint without a whole epoch is removed."""
    from simsched.predictors.training import discard

    if (checkpoint / "state.json").exists():
        click.echo("\nstopped; the same command with --resume goes on after the last whole epoch", err=True)
    else:
        discard(checkpoint)
        click.echo("\nstopped; nothing is kept", err=True)
