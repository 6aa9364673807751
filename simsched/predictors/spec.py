"""`--predictor`: the predictor that a spec names, and the one that a policy gets where none is given."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.policies.base import Policy, Reads
from simsched.predictors import empirical, emulated_predictor, given, oracle  # noqa: F401 - they register
from simsched.predictors.base import Buckets, Predictor, registered
from simsched.predictors.emulated_predictor import EmulatedPredictor
from simsched.predictors.given import Given
from simsched.predictors.oracle import Oracle
from simsched.predictors.trained import Trained
from simsched.text.specs import check_parameters, parse_spec
from simsched.workload.trace import Trace


def make_predictor(spec: str) -> Predictor:
    """The predictor that a spec names: `trace`, `oracle`, `emulated(tau=0.52)`, `empirical(file=...)`, or the
    path of a trained model.

    Raises:
        InputError: an unknown predictor or parameter, or a value out of bounds.
    """
    known = registered()
    word = spec.split("(")[0].strip()
    if word not in known and ("/" in spec or Path(spec).suffix != "" or Path(spec).exists()):
        return Trained(spec)
    name, parameters = parse_spec(spec, "--predictor")
    if name not in known:
        raise InputError(f"--predictor {name}: expected one of {', '.join(known)}, or the path of a model")
    kind: Any = known[name]
    check_parameters("--predictor", name, parameters, tuple(field.name for field in fields(kind)))
    predictor: Predictor = kind(**parameters)
    return predictor


def choose_predictor(spec: str | None, policy: Policy, trace: Trace) -> Predictor | None:
    """The predictor of a policy over these requests; None for a policy that reads no prediction.

    Where none is given, what the policy asks for (the oracle for sjf, srtf and ljf); else the trace's own
    column; else an emulated one.
    """
    if policy.reads is None:
        return None
    if spec is None and policy.predictor == "oracle":
        return Oracle()
    return make_predictor(spec) if spec is not None else _default(policy.reads, trace)


def _default(column: Reads, trace: Trace) -> Predictor:
    return EmulatedPredictor() if getattr(trace, column) is None else Given()


def buckets_of(policy: Policy) -> Buckets:
    """The length classes that the policy, or the one it wraps, is set to; the paper's if it has none."""
    inner: Any = getattr(policy, "inner", policy)
    if not hasattr(inner, "num_buckets"):
        return Buckets()
    return Buckets(inner.buckets, width=-(-inner.max_length // inner.num_buckets), count=inner.num_buckets)


def apply_predictor(
    spec: str | None, policy: Policy, trace: Trace, *, seed: int, tau: float | None = None
) -> tuple[Trace, str]:
    """Fill the column that the policy reads (`choose_predictor`, `Predictor.fill`); a policy that reads none
    leaves the trace as it is.

    Returns:
        The trace, and one line that says which predictor was used.

    Raises:
        InputError: unknown predictor, a value out of bounds, or a column that is not there.
    """
    predictor = choose_predictor(spec, policy, trace)
    if predictor is None or policy.reads is None:
        return trace, f"{policy.name}: reads no prediction"
    filled, line = predictor.fill(trace, policy.reads, buckets_of(policy), seed=seed, tau=tau)
    return filled, f"{policy.name}: {line}"


def predict_column(
    spec: str | None, column: Reads, trace: Trace, *, seed: int, tau: float | None = None
) -> tuple[Trace, str]:
    """Fill one column, whoever reads it, in the paper's classes; see `choose_predictor`."""
    predictor = _default(column, trace) if spec is None else make_predictor(spec)
    return predictor.fill(trace, column, Buckets(), seed=seed, tau=tau)
