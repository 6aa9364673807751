"""`--predictor`: which predictor fills the column that a policy reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.policies.base import Policy, Reads
from simsched.predictors.base import Buckets
from simsched.predictors.oracle import oracle
from simsched.text.specs import Value, check_parameters, number, parse_spec
from simsched.workload.named import DEFAULT_TAU
from simsched.workload.trace import Trace

PREDICTORS: dict[str, str] = {
    "trace": "the column that comes with the trace",
    "oracle": "the true output length",
    "emulated": "noise with a chosen Kendall tau: emulated(tau=0.52,region=all|shortest|longest,share=0.7)",
    "empirical": "resampled from a real sample: empirical(file=FILE.csv,higher=longer|shorter)",
}


def apply_predictor(
    spec: str | None, policy: Policy, trace: Trace, *, seed: int, tau: float | None = None
) -> tuple[Trace, str]:
    """Fill the column that the policy reads.

    Args:
        spec: `trace`, `oracle`, `emulated(tau=0.52)`, `empirical(file=...)` or the path of a trained model.
            None: what the policy asks for (the oracle for sjf, srtf and ljf); else the trace's own column;
            else emulated with the workload's published tau.
        policy: its `reads` names the column; a policy that reads none leaves the trace as it is.
        trace: n requests.
        seed: of the predictor's noise; the same for all policies, so they share it.
        tau: of an emulated predictor whose spec gives none.

    Returns:
        The trace, and one line that says which predictor was used.

    Raises:
        InputError: unknown predictor, a value out of bounds, or a column that is not there.
    """
    column = policy.reads
    if column is None:
        return trace, f"{policy.name}: reads no prediction"
    if spec is None and policy.predictor == "oracle":
        spec = "oracle"
    filled, line = predict_column(spec, column, trace, buckets=_buckets(policy), seed=seed, tau=tau)
    return filled, f"{policy.name}: {line}"


def predict_column(
    spec: str | None,
    column: Reads,
    trace: Trace,
    *,
    buckets: Buckets | None = None,
    seed: int,
    tau: float | None = None,
) -> tuple[Trace, str]:
    """Fill one column, whoever reads it; see `apply_predictor`. `buckets`: None = the paper's classes."""
    buckets = buckets or Buckets()
    if spec is None:
        spec = "emulated" if getattr(trace, column) is None else "trace"
    if _is_path(spec):
        return _model(Path(spec), column, trace)
    name, given = parse_spec(spec, "--predictor")
    if name not in PREDICTORS:
        raise InputError(
            f"--predictor {name}: expected one of {', '.join(PREDICTORS)}, or the path of a model"
        )
    known = {"emulated": ("tau", "region", "share"), "empirical": ("file", "higher")}.get(name, ())
    check_parameters("--predictor", name, given, known)
    if name == "trace":
        if getattr(trace, column) is None:
            raise InputError(f"--predictor trace: {trace.name} has no column {column}")
        return trace, f"{column} as given in the trace"
    if name == "oracle":
        return oracle(trace, column, buckets), f"{column} from the oracle"
    if name == "emulated":
        return _emulated(given, column, trace, buckets, seed, tau)
    return _empirical(given, column, trace, seed)


def uses_tau(spec: str | None, policy: Policy, trace: Trace) -> bool:
    """Does `apply_predictor` look at its `tau`?"""
    if policy.reads is None:
        return False
    if spec is None:
        return policy.predictor != "oracle" and getattr(trace, policy.reads) is None
    return spec.startswith("emulated") and "tau" not in parse_spec(spec, "--predictor")[1]


def _is_path(spec: str) -> bool:
    name = spec.split("(")[0].strip()
    return name not in PREDICTORS and ("/" in spec or Path(spec).suffix != "" or Path(spec).exists())


def _buckets(policy: Policy) -> Buckets | None:
    """The length classes that the policy, or the one it wraps, is set to; None if it has none."""
    inner: Any = getattr(policy, "inner", policy)
    if not hasattr(inner, "num_buckets"):
        return None
    return Buckets(inner.buckets, width=-(-inner.max_length // inner.num_buckets), count=inner.num_buckets)


def _published_tau(trace: Trace, column: Reads, buckets: Buckets) -> float:
    """The tau published for this workload, or for ShareGPT where it has none."""
    table: dict[str, float] = trace.meta.get("predictor_tau", DEFAULT_TAU)
    if column == "predicted_class" and not buckets.as_published:
        return table["score"]  # other buckets: as good as the ranker
    return table[column]


def _origin(trace: Trace, column: Reads, buckets: Buckets) -> str:
    hidden = column == "predicted_class" and buckets.as_published
    if "predictor_tau" not in trace.meta:
        origin = f"nothing published for {trace.name}: this is sharegpt's"
        return f"of its hidden score; {origin}" if hidden else origin
    if hidden:
        return f"of its hidden score, from which its classes get the tau published for {trace.name}"
    return f"published for {trace.name}"


def _emulated(
    given: dict[str, Value], column: Reads, trace: Trace, buckets: Buckets, seed: int, tau: float | None
) -> tuple[Trace, str]:
    from simsched.predictors.emulated import REGIONS, Emulated

    published = tau is None and "tau" not in given
    if published:
        tau = _published_tau(trace, column, buckets)
    tau = number("--predictor", "emulated", "tau", given.get("tau", tau), 0.0, 1.0)
    region = REGIONS.get(str(given.get("region", "all")))
    if region is None:
        raise InputError(f"--predictor emulated: region={given['region']}: expected {', '.join(REGIONS)}")
    if ("share" in given) != (region != "all"):
        raise InputError("--predictor emulated: expected region=shortest|longest and share= together")
    share = number("--predictor", "emulated", "share", given.get("share", 1.0), 0.01, 1.0)
    noise = Emulated(tau, region, share)
    lengths = trace.num_output_tokens
    fill: dict[Reads, Callable[[], Any]] = {
        "score": lambda: noise.scores(lengths, seed),
        "predicted_class": lambda: noise.classes(lengths, buckets, seed),
        "predicted_length": lambda: noise.lengths(lengths, seed),
    }
    where = "" if region == "all" else f" in the {region} {share:.0%}"
    kind = f" ({buckets})" if column == "predicted_class" else ""
    origin = f" ({_origin(trace, column, buckets)})" if published else ""
    line = f"{column}{kind} from an emulated predictor, tau {tau:g}{where}{origin}"
    return trace.with_columns(**{column: fill[column]()}), line


def _empirical(given: dict[str, Value], column: Reads, trace: Trace, seed: int) -> tuple[Trace, str]:
    from simsched.predictors.empirical import read_sample

    if "file" not in given:
        raise InputError("--predictor empirical: expected empirical(file=FILE.csv)")
    higher = given.get("higher")
    sample = read_sample(Path(str(given["file"])), None if higher is None else str(higher))
    filled: Any = sample.resample(column, trace.num_output_tokens, seed)
    if column == "predicted_class":
        filled = filled.astype(np.int64)
    line = f"{column} resampled from the {len(sample.lengths)} requests of {sample.path.name}"
    return trace.with_columns(**{column: filled}), line


def _model(path: Path, column: Reads, trace: Trace) -> tuple[Trace, str]:
    if not path.exists():
        raise InputError(f"--predictor {path}: no such model, and not one of {', '.join(PREDICTORS)}")
    if trace.prompt is None:
        raise InputError(f"--predictor {path}: a trained model reads prompts, and {trace.name} has none")
    from simsched.predictors.model import load_model

    predicted = load_model(path).predict(list(trace.prompt))
    values = predicted.get(column)
    if values is None:
        raise InputError(f"--predictor {path}: the model gives no {column}")
    return trace.with_columns(**{column: values}), f"{column} from the model {path}"
