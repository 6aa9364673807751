"""Make a cost profile: from composed steps, or from step logs (from kernel tables: `kernel_calibration`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simsched.cost_model.facts import ARCHITECTURES, GPUS, Architecture, Gpu
from simsched.cost_model.fit import FloatArray, Steps, fit_error, fit_linear, fit_table, level, split
from simsched.cost_model.identify import unidentified
from simsched.cost_model.models import LinearCost, TableCost
from simsched.cost_model.overlap_calibration import calibrate_overlapped, describe_error
from simsched.cost_model.overlapped import captured, is_overlapped, measured_on
from simsched.cost_model.profile import Hardware, ModelFacts, ProfileFile, Provenance
from simsched.cost_model.step_log import log_files, read_step_logs
from simsched.errors import InputError

Form = Literal["linear", "table"]

POOR = 0.15
"""A mean error on held-out steps beyond which the fit is warned of."""
MIN_STEPS = 50  # fewer say too little

# Mean latency of ranking in the paper's burst of 2,000 ShareGPT requests is 0.56 s a token x 412 tokens =
# 231 s, of which the predictor takes 1.11 % = 2.6 s, 1.3 ms a request (arXiv 2408.15792, Llama-3-8B).
PREDICTOR_TIME = 0.0013


@dataclass(frozen=True)
class Target:
    """What a profile is for."""

    name: str
    gpu: Gpu | None = None
    model: Architecture | None = None
    tp: int = 1
    reserve_bytes: int = 0
    """Of each GPU, beside weights and KV blocks."""

    def profile(self, terms: dict[str, Any], **rest: Any) -> ProfileFile:
        """A profile of it with a cost file's terms (seconds), and the rest of its fields."""
        gpu, model = self.gpu, self.model
        return ProfileFile(
            name=self.name,
            hardware=Hardware(
                gpu=gpu.name if gpu else "unknown",
                num_gpus=self.tp,
                memory_bytes=gpu.memory_bytes if gpu else None,
            ),
            model=ModelFacts(
                name=model.name if model else "unknown",
                max_model_len=model.max_model_len if model else None,
                weight_bytes=model.weight_bytes if model else None,
                kv_bytes_per_token=model.kv_bytes_per_token if model else None,
            ),
            reserve_bytes=self.reserve_bytes,
            cost=terms,
            **rest,
        )


@dataclass(frozen=True)
class Calibration:
    """A profile, and what shows how good it is."""

    file: ProfileFile
    cost: LinearCost | TableCost
    test: Steps
    """Steps that the fit has not seen."""
    predicted: FloatArray
    """Seconds of each of them."""


def from_composed(path: Path, target: Target, form: Form, command: str) -> Calibration:
    """A profile from a Parquet file of batches with known times (ms) and their split in train and test.

    Raises:
        InputError: not such a file.
    """
    import polars as pl

    columns = ("prefill_tokens", "n_decode", "n_prefill", "sum_ctx", "Q", "t_ms")
    try:
        table = pl.read_parquet(path, columns=[*columns, "split"])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"--from-composed {path}: {str(error).splitlines()[0]}") from None
    values = table.select(columns).cast(pl.Float64).to_numpy().T
    if not np.isfinite(values).all() or values.min() < 0 or values[-1].min() <= 0:
        raise InputError(f"--from-composed {path}: expected numbers, 0 or more, and times above 0")
    steps = Steps(*[*values[:-1], values[-1] / 1e3])
    train, test = (steps.select((table["split"] == part).to_numpy()) for part in ("train", "test"))
    provenance = Provenance(derived=("coefficients: fitted to composed step times",), command=command)
    return calibrated(train, test, target, form, provenance)


def from_steps(
    paths: Sequence[Path], target: Target, form: Form, seed: int, command: str, *,
    time_column: str = "step_time", held_out: float = 0.25,
) -> Calibration:  # fmt: skip
    """A profile from step logs; steps far off the others' line count less or nothing.

    Of an asynchronous engine on a GPU, host and device apart: see `overlap_calibration`.

    Args:
        paths: log files or results directories.
        target: what the profile is for.
        form: linear or table.
        seed: of the split in train and test.
        command: recorded in the profile.
        time_column: `step_time` or `exec_time`.
        held_out: share of the steps kept for the test.

    Raises:
        InputError: as `read_step_logs`, or too few steps.
    """
    overlapped = [is_overlapped(path) for path in paths]
    if any(overlapped):
        if not all(overlapped):
            one, other = paths[overlapped.index(True)], paths[overlapped.index(False)]
            raise InputError(f"--from-steps {other}: of another kind of engine than {one}")
        if form != "table" or time_column != "step_time":
            option = "--form linear" if form != "table" else f"--time {time_column}"
            raise InputError(
                f"{option}: {paths[0]} is of an asynchronous engine, whose host and device are fitted "
                "together, as a table and to the time between updates"
            )
        return _overlapped(paths, target, seed, command)
    logs = read_step_logs(paths, time_column)
    train, test = split(logs.steps, held_out, seed)
    names = ", ".join(file.name for file in logs.files)
    provenance = Provenance(
        measured=(f"{time_column} and batch of {len(logs.steps)} steps: {names}",),
        derived=(
            "coefficients: least relative squares with Tukey's biweight against outliers; level: total time",
            *logs.notes,
        ),
        command=command,
    )
    done = calibrated(train, test, target, form, provenance, robust=True)
    warnings = (*done.file.warnings, *logs.warnings)
    return replace(done, file=done.file.model_copy(update={"warnings": warnings}))


def _overlapped(paths: Sequence[Path], target: Target, seed: int, command: str) -> Calibration:
    logs = [file for path in paths for file in log_files(path)]
    done = calibrate_overlapped(paths, seed, measured_on(paths[0]))
    provenance = Provenance(
        measured=(f"{len(done.train)} intervals between updates: {', '.join(file.name for file in logs)}",),
        derived=(
            *done.notes,
            f"error on the intervals held out: {describe_error(done.fit)}",
            "KV blocks: 0.9 x memory - weights - reserve, over the bytes of a block",
        ),
        assumed=("what else the machine does while it serves, as during these runs",),
        command=command,
    )
    file = target.profile(
        done.cost.to_json(),
        predictor_time=0.0,
        fit=done.fit,
        valid_range=_valid_range(done.train),
        warnings=done.warnings,
        provenance=provenance,
    )
    blocks = {"host": done.host.to_json(), "graphs": captured(paths).to_json()}
    return Calibration(file.model_copy(update=blocks), done.cost, done.test, done.predicted)


def calibrated(
    train: Steps,
    test: Steps,
    target: Target,
    form: Form,
    provenance: Provenance,
    *,
    robust: bool = False,
    predictor_time: float = 0.0,
) -> Calibration:
    """A profile fitted to the train steps, with its error on the others.

    Raises:
        InputError: too few steps.
    """
    if min(len(train), 4 * len(test)) < MIN_STEPS:
        raise InputError(
            f"{len(train) + len(test)} steps are too few to fit and to test; have {MIN_STEPS * 2}"
        )
    cost: LinearCost | TableCost
    cost = fit_linear(train, robust=robust) if form == "linear" else fit_table(train, robust=robust)
    if robust:
        cost = level(cost, train)
    fit, warnings = fit_error(cost, test, len(train)), unidentified(train, cost)
    if fit.mean > POOR:
        warnings.append(
            f"the mean error of {fit.mean:.0%} on the steps held out says that more than its batch decides "
            "how long a step takes; expected the steps of one engine, on a machine that does nothing else"
        )
    file = target.profile(
        cost.to_json(),
        predictor_time=predictor_time,
        fit=fit,
        valid_range=_valid_range(train),
        warnings=tuple(warnings),
        provenance=provenance,
    )
    return Calibration(file, cost, test, test.predict(cost))


def _valid_range(steps: Steps) -> dict[str, tuple[float, float]]:
    columns = {
        "tokens": steps.P + steps.N,
        "prefill_tokens": steps.P,
        "decodes": steps.N,
        "prefill_chunks": steps.S,
        "decode_context_sum": steps.K,
        "prefill_attention": steps.Q,
    }
    return {name: (float(column.min()), float(column.max())) for name, column in columns.items()}


def known_gpu(name: str) -> Gpu:
    """The card of this name; InputError if there is none."""
    if name not in GPUS:
        raise InputError(f"--gpu {name}: expected one of {', '.join(GPUS)}, or --gpu-memory with it")
    return GPUS[name]


def known_model(name: str) -> Architecture:
    """The model of this name; InputError if there is none."""
    if name not in ARCHITECTURES:
        raise InputError(f"--model {name}: expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
