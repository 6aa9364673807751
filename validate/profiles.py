"""A cost profile from the chain's calibrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from simsched.cost_model.calibrate import Calibration, Form, Target, from_steps, known_model
from simsched.cost_model.facts import Gpu
from simsched.cost_model.overlapped import is_overlapped
from simsched.files import write_file
from validate.replayed import read_facts
from validate.setups import Setup

GPU_MEMORY = "gpu_memory_bytes"


def fit_profile(
    setup: Setup,
    device: str,
    logs: Sequence[Path],
    path: Path,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Fit to the calibrations' step logs and write the profile: of several forms the one that predicts
    held-out steps better (host and device of an asynchronous engine: always a table)."""
    machine = read_facts(logs[0]).get("machine", {})
    card = None
    if "gpu" in machine and GPU_MEMORY in machine:
        card = Gpu(machine["gpu"], int(machine[GPU_MEMORY]))
    model = known_model(setup.model) if device == "cuda" else None
    target = Target(f"{card.name if card else device}/{setup.model}", card, model)
    command = f"python -m validate all --device {device} --seed {seed}"
    forms: tuple[Form, ...] = ("table",) if is_overlapped(logs[0]) else ("linear", "table")
    fits = [from_steps(list(logs), target, form, seed, command) for form in forms]
    best = min(fits, key=lambda each: each.file.fit.mean if each.file.fit else float("inf"))
    for each in fits:
        error = each.file.fit
        if error is not None:
            say(f"{each.cost.form}: held-out error mean {error.mean:.1%}, P95 {error.p95:.1%}")
    for warning in best.file.warnings:
        say(f"warning: {warning}")
    write_file(path, best.file.to_text().encode())
    return best
