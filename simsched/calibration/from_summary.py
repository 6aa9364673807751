"""`simsched calibrate --from-summary`: a profile from the means of a server's runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from simsched.calibration import NOT_ASKED, REFUSED
from simsched.calibration.measured import MeasuredRun, Measurements, read_measurements
from simsched.calibration.summary_fit import POOR, TERMS, SummaryFit, UnidentifiedError, fit_means, terms_of
from simsched.cost_model.calibrate import Target
from simsched.cost_model.models import LinearCost
from simsched.cost_model.profile import ProfileFile, Provenance, load_profile
from simsched.engine.config import EngineConfig
from simsched.errors import InputError
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.inputs import Inputs, prepare
from simsched.sweep.requests import DEFAULT_DURATION
from simsched.sweep.study import OF_TRACES, Study, axes, make_study
from simsched.text.options import option_flag
from simsched.text.table import counted
from simsched.workload.arrivals import Arrivals

_OF_REQUESTS = ("workload", "trace", *OF_TRACES, "arrivals", "num_requests", "duration")
_BLANK = LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0)


@dataclass(frozen=True)
class _Rest:
    """The terms that are not fitted."""

    cost: LinearCost
    known: bool
    """Does it have the terms that are fitted, too, where the means don't tell them?"""
    said: tuple[str, ...]
    """Where they come from."""


def calibrate_from_summary(
    path: Path, target: Target, options: Mapping[str, Any], *, seed: int = 0, command: str = ""
) -> tuple[ProfileFile, list[str]]:
    """A profile, and what is to be said of it.

    Args:
        path: a CSV of means a rate, or a results directory.
        target: the card and the model.
        options: of `Study`, how the server was run: workload, engine, policies; `cost_profile` is where terms
            that the means don't tell are taken from.
        seed: of the requests that are drawn.
        command: recorded in the profile.

    Raises:
        InputError: bad input, or terms that the means don't tell and no profile to take them from.
    """
    given = {name: value for name, value in options.items() if value is not None}
    study, notes = _study(path, given)
    if target.gpu is None or target.model is None:
        missing = [name for name in ("num_gpu_blocks", "max_model_len") if not getattr(study, name)]
        if missing:
            flags = " and ".join(map(option_flag, missing))
            raise InputError(f"--from-summary needs --gpu and --model, or else {flags}")
    found = read_measurements(path, study.policy if "policy" in given else None)
    said = dict.fromkeys([*notes, *found.notes])
    rest = _rest(study, target)
    with tempfile.TemporaryDirectory() as folder:
        blank = Path(folder) / "blank.json"
        blank.write_text(_profile(target, _BLANK).to_text(), encoding="utf-8")

        def inputs(run: MeasuredRun, draw: int) -> Inputs:
            prepared = prepare(_cell(study, run, str(blank), seed + draw), trace=run.trace)
            said.update(dict.fromkeys(prepared.notes))
            return prepared

        fit, held = _fit(path, found.runs, inputs, rest)
    if held:
        rest = replace(rest, said=(*rest.said, *(f"{TERMS[name]} ({name}) as in {study.cost_profile[0]}: "
                                                 "the means don't tell it" for name in held)))  # fmt: skip
    sized = study.num_requests or study.duration or not study.workload
    if not sized and any(not (run.trace or run.num_requests or run.duration) for run in found.runs):
        said[f"{DEFAULT_DURATION:g} s of arrivals a row; --duration or --num-requests say otherwise"] = None
    warnings = [f"not fitted: {each}" for each in rest.said]
    if fit.mean_error > POOR:
        warnings.append(
            f"the means are not met (mean error {fit.mean_error:.0%}): the server's workload or engine may "
            "differ from what was simulated"
        )
    provenance = _provenance(found, study, fit, rest, list(said), command)
    file = _profile(target, fit.cost)
    return file.model_copy(update={"warnings": tuple(warnings), "provenance": provenance}), list(said)


def _study(path: Path, given: Mapping[str, Any]) -> tuple[Study, list[str]]:
    """How the server was run, and a line on what of it is not used."""
    study = make_study({"policy": "fcfs", **given})
    for name in axes("load", "engine", "order"):
        if name in REFUSED and name in given:
            raise InputError(f"{option_flag(name)}: a summary is of one engine whose host is not told apart")
        if name not in (*NOT_ASKED, "policy") and len(getattr(study, name)) > 1:
            raise InputError(f"{option_flag(name)}: expected one value, that of the server")
    if path.is_dir():
        for name in _OF_REQUESTS:
            if name in given:
                raise InputError(f"{option_flag(name)}: {path} has its own requests")
    elif any(not Arrivals.parse(each).rated for each in study.arrivals):
        raise InputError(f"--arrivals {study.arrivals[0]}: has no rate; the table's rows have one")
    unused = [name for name in NOT_ASKED if name in given]
    return study, [f"of the study, not used: {', '.join(unused)}"] if unused else []


def _rest(study: Study, target: Target) -> _Rest:
    """What means at one workload don't tell: as in the profile that is named, else what the card can do."""
    if study.cost_profile:
        name = study.cost_profile[0]
        profile = load_profile(name)
        if profile.host is not None:
            raise InputError(f"--cost-profile {name}: has host times, which a summary does not tell apart")
        fitted = {} if isinstance(profile.cost, LinearCost) else dict.fromkeys(TERMS, 0.0) | {"t0": 1.0}
        own = {field.name for field in fields(LinearCost) if field.init}
        terms = {term: value for term, value in terms_of(profile.cost).items() if term in own}
        values: dict[str, Any] = {**fitted, **terms}
        cost = replace(_BLANK, **values)
        said = [f"{', '.join(term for term in terms if term not in TERMS)}: as in {name}"]
        return _Rest(cost, isinstance(profile.cost, LinearCost), tuple(said))
    gpu, model = target.gpu, target.model
    if gpu is None or model is None or gpu.bandwidth is None:
        return _Rest(_BLANK, False, ("a token of context (c): 0, it is in that of a sequence (b)", _PAIR))
    context = float(f"{model.kv_bytes_per_token / (target.tp * gpu.bandwidth):.4g}")
    said = [f"a token of context (c): its KV read at the card's {gpu.bandwidth / 1e9:,.0f} GB/s", _PAIR]
    return _Rest(replace(_BLANK, c=context), False, tuple(said))


_PAIR = "attention in a prompt (d): 0, it is in that of a prefill token (a), for prompts as long as these"


def _cell(study: Study, run: MeasuredRun, profile: str, seed: int) -> Cell:
    def first(name: str) -> Any:
        return next(iter(getattr(study, name)), None)

    config = EngineConfig(
        **{name: first(name) for name in EngineConfig.model_fields if first(name) is not None}
    )
    arm = Arm(
        policy=run.policy, config=config, cost_profile=profile,
        predictor=first("predictor"), tau=first("tau"), predictor_time=first("predictor_time"),
    )  # fmt: skip
    if run.trace is not None:
        return Cell(Load(trace=run.where, seed=seed), arm)
    sized = run.num_requests or run.duration
    load = Load(
        workload=first("workload"), trace=first("trace"),
        **{name: getattr(study, name) for name in OF_TRACES},
        request_rate=run.request_rate, arrivals=first("arrivals") or ("poisson" if study.workload else None),
        num_requests=run.num_requests if sized else study.num_requests,
        duration=run.duration if sized else study.duration, seed=seed,
        skip_invalid=study.skip_invalid, truncate=study.truncate,
    )  # fmt: skip
    return Cell(load, arm)


def _fit(
    path: Path, runs: Sequence[MeasuredRun], inputs: Callable[[MeasuredRun, int], Inputs], rest: _Rest
) -> tuple[SummaryFit, list[str]]:
    """The fit, and the terms that had to be left as they are in the profile that was named."""
    held: list[str] = []
    while True:
        try:
            return fit_means(runs, inputs, rest.cost, [name for name in TERMS if name not in held]), held
        except UnidentifiedError as error:
            # one at a time, a sequence's first: the others may then be told
            held.append(error.terms[-1])
            if not rest.known or len(held) == len(TERMS):
                raise InputError(
                    f"--from-summary {path}: its means don't tell {error}. Give runs at more rates, from one "
                    "request at a time to near the capacity, or a linear profile to take it from "
                    "(--cost-profile)"
                ) from None


def _profile(target: Target, cost: LinearCost) -> ProfileFile:
    terms = cost.to_json()
    terms |= {name: float(f"{value:.4g}") for name, value in terms.items() if isinstance(value, float)}
    return target.profile(terms, predictor_time=0.0)


def _provenance(
    found: Measurements, study: Study, fit: SummaryFit, rest: _Rest, said: Sequence[str], command: str
) -> Provenance:
    rates = ", ".join(dict.fromkeys(f"{run.request_rate:g}" for run in found.runs if run.request_rate))
    policies = ", ".join(dict.fromkeys(run.policy for run in found.runs))
    metrics = ", ".join(dict.fromkeys(name for run in found.runs for name in run.means))
    what = f"{metrics} of {policies}{f' at {rates} requests/s' if rates else ''}, {found.source}"
    drawn = ", ".join([*study.workload, *study.trace])
    requests = "those of the runs" if found.runs[0].trace is not None else drawn
    told = [
        f"{TERMS[name]} ({name}): 95 % interval {low:.3g} to {high:.3g} s"
        for name, (low, high) in fit.intervals.items()
    ]
    return Provenance(
        measured=(what,) if found.measured else (),
        derived=(
            *(() if found.measured else (what,)),
            f"fitted by simulating {counted(len(found.runs), 'run')} on {study.preset[0]}, requests: "
            f"{requests}; error on these means {fit.mean_error:.1%} in the mean, {fit.worst_error:+.1%} "
            "at worst",
            *told,
        ),
        assumed=(*rest.said, *said),
        command=command,
    )
