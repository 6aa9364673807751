"""`python -m validate decisions`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("decisions")
@click.argument("replays", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="REPLAY...")
@click.option(
    "--trace",
    "traces",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where a replayed trace lies now, if it has been moved away from the replay. Repeatable.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write what was found as JSON.")
def decisions_command(replays: tuple[Path, ...], traces: tuple[Path, ...], json_path: Path | None) -> None:
    """Check every decision in the step logs of replays against the simulator; exit 1 if one differs.

    \b
    python -m validate decisions real/
    """
    from validate.decisions import decisions_of
    from validate.json_file import write_json

    checked = different = 0
    found = {}
    for replay in replays:
        found[str(replay)] = cells = decisions_of(replay, traces)
        for cell, result in cells.items():
            checked += result["steps"]
            different += result["first_difference"] is not None
            what = result["first_difference"] or (
                f"not judged: {result['not_judged']}" if result["not_judged"] else "none differs"
            )
            click.echo(f"{replay.name}/{cell}: {result['steps']:,} steps, {what}")
    click.echo(f"{checked:,} steps checked, {different} runs differ")
    if json_path is not None:
        write_json(json_path, found)
    sys.exit(1 if different else 0)
