"""`python -m validate predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click


class SpeedType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.3
    """`given`, or a number above 0."""

    name = "given|X"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | Literal["given"]:
        if value == "given":
            return "given"
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0.01 <= speed <= 100:
            self.fail(f"{value}: expected given, or a number from 0.01 to 100", param, ctx)
        return speed


@click.command("predict")
@click.argument("real", type=click.Path(path_type=Path))
@click.option("--cost-profile", required=True, metavar="PROFILE", help="A profile's name, or a file.")
@click.option(
    "--trace",
    "traces",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where a replayed trace lies now, if it has been moved away from the replay. Repeatable.",
)
@click.option(
    "--host-speed",
    type=SpeedType(),
    default=1.0,
    show_default=True,
    help="2: a host that takes twice as long as the profile's; given: each cell at the speed that its own "
    "step log shows.",
)
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--overwrite", is_flag=True, help="Replace the results in DIR.")
def predict_command(
    real: Path,
    cost_profile: str,
    traces: tuple[Path, ...],
    host_speed: float | Literal["given"],
    output_dir: Path,
    overwrite: bool,
) -> None:
    """Simulate every cell of a replay (REAL), to be compared with it. No vLLM is needed.

    \b
    python -m validate predict real/ --cost-profile mine.json --host-speed given -o sim/
    python -m validate compare real/ sim/ --json fidelity.json
    """
    from validate.predict import predict

    done = predict(
        real,
        cost_profile,
        output_dir,
        traces=traces,
        host_speed=host_speed,
        overwrite=overwrite,
        say=lambda line: click.echo(line, err=True),
    )
    click.echo(f"written: {done.results.path}", err=True)
