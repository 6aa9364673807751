"""`python -m validate calibrate`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from validate.cli.options import engine_options, given_engine_options


@click.command("calibrate")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--model", help="As for `validate replay`.  [default: tiny-llama on a cpu, llama-3-8b on cuda]")
@engine_options
@click.option("--enforce-eager", is_flag=True, help="No CUDA graphs.")
@click.option(
    "--max-cudagraph-capture-size",
    type=click.IntRange(1),
    help="The largest CUDA graph in tokens; 2048 leaves no step without one.  [default: vLLM's choice]",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--limit",
    type=click.FloatRange(min=1),
    default=90.0,
    show_default=True,
    help="Seconds for both halves together, the engine's start apart; what there is no time for is named.",
)
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--overwrite", is_flag=True, help="Replace DIR, if it holds such logs.")
def calibrate_command(
    device: str,
    model: str | None,
    enforce_eager: bool,
    max_cudagraph_capture_size: int | None,
    seed: int,
    limit: float,
    output_dir: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Run the probe workload on real vLLM; its step logs are for `simsched calibrate --from-steps DIR`.

    \b
    python -m validate calibrate --device cuda -o calibration/
    simsched calibrate --from-steps calibration/ --gpu h100-80gb --model llama-3-8b -o profile.json
    """
    from simsched.errors import InputError
    from simsched.vllm.version import check_installed, installed_version
    from validate.offline_engine import OfflineEngine
    from validate.probe import HALVES
    from validate.probe_player import probe_job, write_half
    from validate.replayed import FACTS
    from validate.setups import SETUPS

    check_installed()
    setup = SETUPS[device]
    model = model or setup.model
    if output_dir.exists() and any(output_dir.iterdir()):
        if not (overwrite and (output_dir / FACTS).is_file()):
            raise InputError(f"{output_dir}: exists; give --overwrite, or another directory with -o")
        shutil.rmtree(output_dir)
    given = {**setup.engine, **given_engine_options(options)}
    given["vllm_version"] = installed_version()
    engine = OfflineEngine(
        probe_job(given),
        device=device,
        model=model,
        enforce_eager=enforce_eager,
        capture_size=max_cudagraph_capture_size,
    )
    facts = {"device": device, "model": model, "engine": "offline", "clock": "wall"}
    try:
        for half in range(HALVES):
            write_half(
                engine,
                half,
                output_dir,
                facts,
                seed=seed,
                limit=limit / HALVES,
                say=lambda line: click.echo(line, err=True),
            )
    finally:
        engine.close()
    click.echo(f"written: {output_dir}", err=True)
