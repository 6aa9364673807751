"""`--predictor`: which predictor fills the column that a policy reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.policies.base import Policy, Reads
from simsched.predictors.base import Buckets
from simsched.predictors.oracle import oracle
from simsched.specs import Value, check_parameters, number, parse_spec
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
    if spec is None:
        spec = _default(policy, trace)
    path = Path(spec)
    if spec.split("(")[0].strip() not in PREDICTORS and ("/" in spec or path.suffix or path.exists()):
        return _model(path, policy, column, trace)
    name, given = parse_spec(spec, "--predictor")
    if name == "trace":
        check_parameters("--predictor", name, given, ())
        if getattr(trace, column) is None:
            raise InputError(f"--predictor trace: {trace.name} has no {column}, which {policy.name} reads")
        return trace, f"{policy.name}: {column} as given in the trace"
    if name == "oracle":
        check_parameters("--predictor", name, given, ())
        return oracle(trace, column, _buckets(policy)), f"{policy.name}: {column} from the oracle"
    if name == "emulated":
        return _emulated(given, policy, column, trace, seed, tau)
    if name == "empirical":
        return _empirical(given, policy, column, trace, seed)
    raise InputError(f"--predictor {name}: expected one of {', '.join(PREDICTORS)}, or the path of a model")


def _default(policy: Policy, trace: Trace) -> str:
    if policy.predictor == "oracle":
        return "oracle"
    assert policy.reads is not None
    return "emulated" if getattr(trace, policy.reads) is None else "trace"


def _buckets(policy: Policy) -> Buckets:
    """The policy's own length classes, where it has any."""
    buckets = getattr(policy, "length_classes", None)
    return buckets if isinstance(buckets, Buckets) else Buckets()


def _published_tau(trace: Trace, column: Reads, buckets: Buckets) -> float:
    """The tau published for this workload, or for ShareGPT where it has none."""
    table: dict[str, float] = trace.meta.get("predictor_tau", DEFAULT_TAU)
    if column == "predicted_class" and buckets != Buckets():
        return table["score"]  # other buckets: as good as the ranker
    return table[column]


def _emulated(
    given: dict[str, Value], policy: Policy, column: Reads, trace: Trace, seed: int, tau: float | None
) -> tuple[Trace, str]:
    from simsched.predictors.emulated import Emulated

    check_parameters("--predictor", "emulated", given, ("tau", "region", "share"))
    buckets = _buckets(policy)
    published = tau is None and "tau" not in given
    if published:
        tau = _published_tau(trace, column, buckets)
    tau = number("--predictor", "emulated", "tau", given.get("tau", tau), 0.0, 1.0)
    region = given.get("region", "all")
    if region not in ("all", "shortest", "longest"):
        raise InputError(f"--predictor emulated: region={region}: expected all, shortest or longest")
    if ("share" in given) != (region != "all"):
        raise InputError("--predictor emulated: expected region=shortest|longest and share= together")
    share = number("--predictor", "emulated", "share", given.get("share", 1.0), 0.01, 1.0)
    noise = Emulated(tau, region, share)  # type: ignore[arg-type]
    lengths = trace.num_output_tokens
    if column == "score":
        filled: Any = noise.scores(lengths, seed)
    elif column == "predicted_class":
        filled = noise.classes(lengths, buckets, seed)
    else:
        filled = noise.lengths(lengths, seed)
    where = "" if region == "all" else f" in the {region} {share:.0%}"
    kind = f" ({buckets})" if column == "predicted_class" else ""
    origin = ", the published tau" if published else ""
    line = f"{policy.name}: {column}{kind} from an emulated predictor, tau {tau:g}{where}{origin}"
    return trace.with_columns(**{column: filled}), line


def _empirical(
    given: dict[str, Value], policy: Policy, column: Reads, trace: Trace, seed: int
) -> tuple[Trace, str]:
    from simsched.predictors.empirical import read_sample

    check_parameters("--predictor", "empirical", given, ("file", "higher"))
    if "file" not in given:
        raise InputError("--predictor empirical: expected empirical(file=FILE.csv)")
    higher = given.get("higher")
    sample = read_sample(Path(str(given["file"])), None if higher is None else str(higher))
    filled: Any = sample.resample(column, trace.num_output_tokens, seed)
    if column == "predicted_class":
        filled = filled.astype(np.int64)
    line = f"{policy.name}: {column} resampled from the {len(sample.lengths)} requests of {sample.path.name}"
    return trace.with_columns(**{column: filled}), line


def _model(path: Path, policy: Policy, column: Reads, trace: Trace) -> tuple[Trace, str]:
    if not path.exists():
        raise InputError(f"--predictor {path}: no such model, and not one of {', '.join(PREDICTORS)}")
    if trace.prompt is None:
        raise InputError(f"--predictor {path}: a trained model reads prompts, and {trace.name} has none")
    from simsched.predictors.model import load_model

    predicted = load_model(path).predict(list(trace.prompt))
    values = predicted.get(column)
    if values is None:
        raise InputError(f"--predictor {path}: the model gives no {column}, which {policy.name} reads")
    return trace.with_columns(**{column: values}), f"{policy.name}: {column} from the model {path}"
