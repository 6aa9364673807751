"""Training a ranker: one split, one objective, and the backbone's own way of fitting."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from simsched._version import __version__
from simsched.errors import InputError
from simsched.predictors.base import Buckets
from simsched.predictors.data import Examples
from simsched.predictors.evaluation import tau_b, tau_interval, time_per_prompt
from simsched.predictors.light import LightFit, LightModel
from simsched.predictors.model import FORMAT, Backbone, Ranker
from simsched.predictors.readout import Readout
from simsched.predictors.targets import LossName, Objective, make_objective
from simsched.workload.trace import FloatArray, IntArray

DECILES = Buckets("percentile", count=10)
MIN_EXAMPLES = 20
MAX_VALIDATION = 500  # tells epochs and penalties apart; more is better spent on training
TORCH_DEFAULTS: dict[str, Any] = {
    "epochs": 5,
    "batch_size": 32,
    "learning_rate": 2e-5,
    "max_tokens": 2048,
    "patience": 2,
}
"""The paper's (Fu et al., 2024), but for the patience."""
ENCODER_DEFAULTS: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-4, "max_tokens": 128}
PENALTIES = (8.0, 4.0, 2.0, 1.0, 0.3, 0.1)
Progress = Callable[[int, int, str], None]
"""(done, in all, a note)."""


@dataclass(frozen=True)
class Options:
    """How to train. None: the backbone's own default (`defaults`)."""

    backbone: str = "light"
    """`light`, `encoder`, or a Hugging Face model by name or path."""
    loss: LossName | None = None
    buckets: Buckets = DECILES
    seed: int = 0
    validation_share: float | None = None
    """None: a tenth of the prompts, but no more than `MAX_VALIDATION`."""
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    max_tokens: int | None = None
    patience: int | None = None

    def resolved(self) -> Options:
        """With the defaults filled in: the encoder's are ours, any other torch backbone's the paper's.

        Raises:
            InputError: an option of the torch backbones is given to `light`, which has none of them.
        """
        if self.backbone == "light":
            for name in TORCH_DEFAULTS:
                if getattr(self, name) is not None:
                    option = name.replace("_", "-")
                    raise InputError(
                        f"--{option}: the light backbone has no such setting; expected another --backbone"
                    )
            return replace(self, loss=self.loss or "percentile")
        own = TORCH_DEFAULTS | (ENCODER_DEFAULTS if self.backbone == "encoder" else {})
        missing = {name: value for name, value in own.items() if getattr(self, name) is None}
        return replace(self, loss=self.loss or "listmle", **missing)


@dataclass
class Fitted:
    """What a backbone's fit hands back."""

    backbone: Backbone
    outputs: FloatArray
    """Scores of the validation prompts, by a model that has not seen them."""
    notes: dict[str, Any]
    """For the card."""


def train_ranker(data: Examples, options: Options, checkpoint: Path, progress: Progress) -> Ranker:
    """Train, calibrate on the validation split, and write the card's facts.

    Args:
        checkpoint: a folder for runs that can be resumed (torch backbones); goes on where it holds one.

    Raises:
        InputError: too few examples, one single length, or what the backbone refuses.
    """
    options = options.resolved()
    if len(data) < MIN_EXAMPLES:
        raise InputError(f"--data: {len(data)} usable prompts; expected at least {MIN_EXAMPLES}")
    wall, cpu = time.perf_counter(), time.process_time()
    held_out, rest = _split(len(data), options)
    train, validation = data.take(rest), data.take(held_out)
    assert options.loss is not None
    objective = make_objective(options.loss, options.buckets, train.lengths)
    if options.backbone == "light":
        fitted = _fit_light(data, train, validation, objective, options, progress)
    else:
        fitted = _fit_torch(train, validation, objective, options, data.hash, checkpoint, progress)
    readout = Readout.fit(objective, train.lengths, fitted.outputs, validation.lengths)
    scores = readout.columns(fitted.outputs)["score"]
    card = {
        "format": FORMAT,
        "backbone": options.backbone,
        "loss": options.loss,
        "buckets": str(options.buckets),
        "num_outputs": objective.num_outputs,
        "options": asdict(options),
        "prompts": len(data),
        "data_hash": data.hash,
        "validation": {
            "n": len(validation),
            "kendall_tau": tau_b(scores, validation.lengths),
            "kendall_tau_ci": list(tau_interval(scores, validation.lengths, options.seed)),
        },
        **fitted.notes,
        "seconds_per_prompt": time_per_prompt(fitted.backbone, validation.prompts),
        "train_seconds": round(time.perf_counter() - wall, 1),
        "train_cpu_seconds": round(time.process_time() - cpu, 1),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": _versions(),
    }
    return Ranker(fitted.backbone, readout, card)


def _split(n: int, options: Options) -> tuple[IntArray, IntArray]:
    """(validation rows, training rows)."""
    order = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(1,))).permutation(n)
    share = options.validation_share
    count = min(MAX_VALIDATION, round(0.1 * n)) if share is None else round(share * n)
    count = max(5, count)
    return order[:count], order[count:]


def _fit_light(
    data: Examples,
    train: Examples,
    validation: Examples,
    objective: Objective,
    options: Options,
    progress: Progress,
) -> Fitted:
    """From the strongest penalty down to the best validation tau; then all examples with that one."""
    fit = LightFit(train.prompts, train.lengths, objective, options.seed)
    total = len(PENALTIES) + 1
    tried: list[tuple[float, float, FloatArray]] = []
    for done, penalty in enumerate(PENALTIES, start=1):
        outputs = fit.solve(penalty).outputs(validation.prompts)
        readout = Readout.fit(objective, train.lengths, outputs, validation.lengths)
        tau = tau_b(readout.columns(outputs)["score"], validation.lengths)
        tried.append((tau, penalty, outputs))
        progress(done, total, f"penalty {penalty:g}: validation tau {tau:.4f}")
        if len(tried) > 1 and tau < tried[-2][0]:
            break  # tau has one peak along the penalty
    _, penalty, outputs = max(tried, key=lambda entry: entry[0])
    model: LightModel = LightFit(data.prompts, data.lengths, objective, options.seed).solve(penalty)
    progress(total, total, f"all prompts, penalty {penalty:g}")
    history = [{"penalty": p, "validation_tau": tau} for tau, p, _ in tried]
    return Fitted(model, outputs, {"penalty": penalty, "history": history})


def _fit_torch(
    train: Examples,
    validation: Examples,
    objective: Objective,
    options: Options,
    data_hash: str,
    checkpoint: Path,
    progress: Progress,
) -> Fitted:
    from simsched.predictors.backbone import TorchModel
    from simsched.predictors.fine_tuning import Schedule, fine_tune

    chosen = asdict(options)
    model = TorchModel.pretrained(options.backbone, objective.num_outputs, chosen["max_tokens"], options.seed)
    schedule = Schedule(**{field.name: chosen[field.name] for field in fields(Schedule)})
    fingerprint = hashlib.sha256(json.dumps([data_hash, asdict(options)]).encode()).hexdigest()
    checkpoint.mkdir(parents=True, exist_ok=True)
    state = fine_tune(model, train, validation, objective, schedule, checkpoint, fingerprint, progress)
    notes = {
        "pooling": model.pooling,
        "max_tokens": model.max_tokens,
        "best_epoch": state.best_epoch,
        "history": state.history,
        "epoch_seconds": round(state.seconds, 1),
    }
    return Fitted(model, model.outputs(validation.prompts), notes)


def _versions() -> dict[str, str]:
    found = {"simsched": __version__}
    for name in ("numpy", "scipy", "torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def discard(checkpoint: Path) -> None:
    """Remove a finished or unwanted run's checkpoint."""
    shutil.rmtree(checkpoint, ignore_errors=True)
