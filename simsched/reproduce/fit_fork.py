"""Fit the embedded profiles of the paper's fork again: `python -m simsched.reproduce.fit_fork -o DIR`."""

from __future__ import annotations

from pathlib import Path

import click

from simsched.cost_model.calibrate import Target, known_gpu, known_model
from simsched.cost_model.facts import GIB
from simsched.files import write_file
from simsched.reproduce.fork_profile import calibrate_from_summary
from simsched.reproduce.settings import PROFILES, System

COMMAND = "python -m simsched.reproduce.fit_fork"
ROWS = Path(__file__).parent / "rep-sharegpt.csv"
# (GPU, model, tensor parallel, GiB of reserve)
MACHINES: dict[System, tuple[str, str, int, float]] = {
    "8b": ("a100-40gb", "llama-3-8b", 1, 1.5),
    "8b-80gb": ("a100-80gb", "llama-3-8b", 1, 1.5),
    "70b": ("a100-40gb", "llama-3-70b", 8, 2.0),
}


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR")
def main(output: Path) -> None:
    """Fit the reproduction's FCFS rows, and write a profile for each of the paper's machines."""
    output.mkdir(parents=True, exist_ok=True)
    for system, (gpu, model, tp, reserve) in MACHINES.items():
        name = PROFILES[system]
        target = Target(name, known_gpu(gpu), known_model(model), tp, int(reserve * GIB))
        file = calibrate_from_summary(ROWS, target, command=COMMAND)
        path = output / f"{name.replace('/', '--')}.json"
        write_file(path, file.to_text().encode())
        click.echo(path)


if __name__ == "__main__":
    main()
