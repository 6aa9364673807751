"""`python -m validate release`."""

from __future__ import annotations

import sys

import click


@click.command("release")
@click.argument("versions", nargs=-1, metavar="[VERSION]...")
@click.option(
    "--record", "keep", is_flag=True, help="Support these versions from now on, if no step differs."
)
def release_command(versions: tuple[str, ...], keep: bool) -> None:
    """Compare the simulator with each VERSION of vLLM (default: all supported ones); exit 1 on divergence.

    Each takes some minutes of one core: every policy on six engines, 100 random engines, 60 under vLLM's own
    priority with few KV blocks, 64 with shared prefixes and few KV blocks. Files of other versions than the
    installed one are fetched once.

    \b
    python -m validate release
    python -m validate release 0.34.0 --record      widen the range, if nothing differs
    """
    from simsched.vllm_versions import TESTED
    from validate.release import compare_version, record, to_table

    found = {version: compare_version(version) for version in versions or TESTED}
    click.echo(to_table(found))
    different = [version for version, result in found.items() if result["divergent_steps"]]
    if different:
        click.echo(f"steps differ on {', '.join(different)}: nothing recorded", err=True)
    elif keep:
        record({**TESTED, **found})
        click.echo("recorded in simsched/vllm_tested.json, docs/fidelity.md and setup.cfg", err=True)
    sys.exit(1 if different else 0)
