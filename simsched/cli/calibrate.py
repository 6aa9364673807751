"""`simsched calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from simsched.calibration import NOT_ASKED, REFUSED
from simsched.cli.run import study_options
from simsched.errors import InputError
from simsched.text.options import option_flag

if TYPE_CHECKING:
    from simsched.cost_model.calibrate import Calibration, Form, Target
    from simsched.cost_model.profile import ProfileFile

INPUT = click.Path(path_type=Path)


@click.command("calibrate")
@click.option(
    "--from-kernels", type=INPUT, metavar="DIR", help="Folder of Vidur's and AIConfigurator's tables."
)
@click.option("--from-composed", type=INPUT, metavar="FILE", help="Parquet of batches with known times.")
@click.option(
    "--from-steps", type=INPUT, metavar="PATH", multiple=True, help="Step logs, or results with them."
)
@click.option("--from-summary", type=INPUT, metavar="PATH",
              help="CSV of mean latencies by request rate, or results (of import, too).")  # fmt: skip
@click.option(
    "--host",
    type=click.Choice(["serial", "apart"]),
    help="With --from-kernels: in a step's time as in a published run, or a block of its own, as measured "
    "beside an H100.  [default: serial]",
)
@click.option("--form", type=click.Choice(["table", "linear"]), default="table", show_default=True)
@click.option("--gpu", metavar="NAME", help="a100-80gb, h100-80gb, …, or any name with --gpu-memory.")
@click.option("--gpu-memory", type=click.FloatRange(0, min_open=True), metavar="GIB", help="Of one GPU.")
@click.option("--model", metavar="NAME", help="llama-3-8b, llama-3.1-8b, llama-3-70b.")
@click.option("--tp", type=click.IntRange(1), default=1, show_default=True, help="GPUs of one engine.")
@click.option("--reserve", type=click.FloatRange(0), metavar="GIB",
              help="Of each GPU, beside weights and KV blocks.  [default: 1.5; 2 with --tp]")  # fmt: skip
@click.option("--time", "time_column", type=click.Choice(["step_time", "exec_time"]), default="step_time",
              show_default=True, help="Of a log: whole steps, or model execution alone.")  # fmt: skip
@click.option("--name", help="Name of the profile.  [default: GPU/MODEL, or the output file's]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of batches and split.")
@click.option("-o", "--output", type=INPUT, metavar="FILE.json", help="Profile to write.  [default: stdout]")
@click.option("--overwrite", is_flag=True, help="Replace FILE.json.")
@click.option("--no-plot", is_flag=True, help="Do not draw FILE.png, predicted against measured.")
@click.option("--study", type=INPUT, metavar="STUDY.yaml",
              help="How the server was run, for --from-summary; or by the options below.")  # fmt: skip
@study_options(without=(*NOT_ASKED, *REFUSED))
def calibrate_command(
    from_kernels: Path | None,
    from_composed: Path | None,
    from_steps: tuple[Path, ...],
    from_summary: Path | None,
    host: Literal["serial", "apart"] | None,
    form: Form,
    gpu: str | None,
    gpu_memory: float | None,
    model: str | None,
    tp: int,
    reserve: float | None,
    time_column: Literal["step_time", "exec_time"],
    name: str | None,
    seed: int,
    output: Path | None,
    overwrite: bool,
    no_plot: bool,
    study: Path | None,
    **server: Any,
) -> None:
    """Fit a cost profile by relative error, with its error on data that the fit has not seen.

    \b
    simsched calibrate --from-steps out/ --gpu a100-80gb --model llama-3-8b -o mine.json
    simsched calibrate --from-kernels tables/ --gpu a100-80gb --model llama-3-8b -o mine.json
    simsched calibrate --from-summary real/ --gpu a100-80gb --model llama-3-8b -o mine.json
    simsched run --cost-profile mine.json
    """
    given = [each for each in (from_kernels, from_composed, from_steps, from_summary) if each]
    if len(given) != 1:
        raise InputError(
            "calibrate: give one of --from-kernels, --from-composed, --from-steps, --from-summary"
        )
    if host is not None and not from_kernels:
        raise InputError(f"--host {host}: only with --from-kernels")
    if output and output.exists() and not overwrite:
        raise InputError(f"-o {output}: exists; give --overwrite to replace it")

    from simsched.cost_model import calibrate

    target = _target(gpu, gpu_memory, model, tp, reserve, name, output.stem if output else "unnamed")
    options = {"--gpu": gpu, "--gpu-memory": gpu_memory, "--model": model, "--tp": tp, "--form": form,
               "--reserve": reserve, "--seed": seed, "--host": host}  # fmt: skip
    words = " ".join(f"{option} {value}" for option, value in options.items() if value is not None)
    server = {name: value for name, value in server.items() if value is not None}
    if from_summary:
        from simsched.calibration.from_summary import calibrate_from_summary
        from simsched.sweep.study import read_study

        asked = [f"{option_flag(name)} {value}" for name, value in server.items()]
        asked = ["--study FILE", *asked] if study else asked
        of_target = [f"{option} {value}" for option, value in options.items() if value is not None]
        of_target.remove(f"--form {form}")
        command = " ".join(["simsched calibrate --from-summary PATH", *of_target, *asked])
        server = {**(read_study(study) if study else {}), **server}
        file, notes = calibrate_from_summary(from_summary, target, server, seed=seed, command=command)
        _write(file, output)
        for note in notes:
            click.echo(note, err=True)
        for line in file.provenance.derived:
            click.echo(f"{file.name}: {line}", err=True)
        for warning in file.warnings:
            click.echo(f"warning: {warning}", err=True)
        _tell_memory(file)
        if output:
            click.echo(f"wrote {output}", err=True)
        return
    for option in ("study", *server) if study else server:
        raise InputError(f"{option_flag(option)}: only with --from-summary")
    if from_kernels:
        command = f"simsched calibrate --from-kernels DIR {words}"
        from simsched.cost_model import kernel_calibration

        apart = host == "apart"
        done = kernel_calibration.from_kernels(from_kernels, target, form, seed, command, host_apart=apart)
    elif from_composed:
        command = f"simsched calibrate --from-composed FILE {words}"
        done = calibrate.from_composed(from_composed, target, form, command)
    else:
        command = f"simsched calibrate --from-steps PATH --time {time_column} {words}"
        done = calibrate.from_steps(from_steps, target, form, seed, command, time_column=time_column)
    _write(done.file, output)
    _tell(done, output)
    if output and not no_plot:
        _draw(done, output.with_suffix(".png"))


def _target(
    gpu: str | None,
    memory: float | None,
    model: str | None,
    tp: int,
    reserve: float | None,
    name: str | None,
    stem: str,
) -> Target:
    from simsched.cost_model.calibrate import Target, known_gpu, known_model
    from simsched.cost_model.facts import GIB, Gpu

    card = None
    if gpu and memory:
        card = Gpu(gpu, int(memory * GIB))
    elif gpu:
        card = known_gpu(gpu)
    elif memory:
        raise InputError("--gpu-memory: name the card with --gpu")
    shape = known_model(model) if model else None
    if reserve is None:
        reserve = 1.5 if tp == 1 else 2.0
    gpus = f"{tp}x{gpu}" if tp > 1 else gpu
    default = f"{gpus}/{model}" if gpu and model else stem
    return Target(name or default, card, shape, tp, int(reserve * GIB))


def _write(file: ProfileFile, output: Path | None) -> None:
    text = file.to_text()
    if output is None:
        click.echo(text, nl=False)
        return
    from simsched.files import atomic_file

    with atomic_file(output) as stream:
        stream.write(text.encode())


def _tell(done: Calibration, output: Path | None) -> None:
    error = done.file.fit
    assert error is not None
    click.echo(
        f"{done.file.name}: {done.cost.form}, fitted to {error.num_train:,} steps; "
        f"error on {error.num_test:,} others: mean {error.mean:.1%}, median {error.median:.1%}, "
        f"95th percentile {error.p95:.1%}",
        err=True,
    )
    if error.total is not None:
        from simsched.cost_model.overlap_calibration import describe_error

        click.echo(f"mean error {describe_error(error)}", err=True)
    for warning in done.file.warnings:
        click.echo(f"warning: {warning}", err=True)
    _tell_memory(done.file)
    if output:
        click.echo(f"wrote {output}", err=True)


def _tell_memory(file: ProfileFile) -> None:
    """Say so where nothing is known of memory, or none is left for KV blocks."""
    from simsched.cost_model.profile import parse_profile

    try:
        known = parse_profile(file.to_text().encode(), file.name).num_gpu_blocks(16) is not None
    except InputError as error:
        click.echo(f"warning: {error}", err=True)
        return
    if not known:
        click.echo(
            f"{file.name}: knows no memory without both --gpu and --model; give --num-gpu-blocks and "
            "--max-model-len to `simsched run`",
            err=True,
        )


def _draw(done: Calibration, path: Path) -> None:
    from simsched.files import atomic_file
    from simsched.plotting.calibration import CalibrationDisplay
    from simsched.plotting.style import image_bytes

    image = image_bytes(CalibrationDisplay(done.test, done.predicted, done.file.name).plot(), "png")
    with atomic_file(path) as stream:
        stream.write(image)
    click.echo(f"wrote {path}", err=True)
