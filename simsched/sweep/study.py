"""A study: every option of `simsched run`, from a YAML file or from flags. Lists make a grid.

Each option is declared once, as a field of `Study`; its docstring is its help on the command line. The
engine's own options are those of `EngineConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)

from simsched.engine.config import DEFAULT_PRESET, EngineConfig
from simsched.errors import InputError
from simsched.policies.base import registered
from simsched.text.arm_names import parse_labels, stands_for, study_labels
from simsched.text.options import is_no_number, option_flag, value_type
from simsched.text.specs import specs_of, split_specs

PAPER_POLICIES = ("fcfs", "mlfq", "po", "classification", "ranking")
PAPER_RATES = ("2", "4", "8", "16", "32", "64")
DEFAULT_WORKLOAD = "sharegpt"
DATA_VARIABLE = "$SIMSCHED_DATA"

T = TypeVar("T")


def _values(given: Any) -> Any:
    try:
        values = split_specs(given) if isinstance(given, str) else given
    except InputError:
        raise ValueError("parentheses don't match") from None
    if isinstance(values, list | tuple):
        if not values or any(value is None or value == "" for value in values):
            raise ValueError("expected values, separated by commas")
        return tuple(values)
    return (values,)


def _once(values: tuple[T, ...]) -> tuple[T, ...]:
    """Checked on what is meant, not on how it is typed: 16 and 16.0 are one value."""
    if len(set(values)) < len(values):
        raise ValueError("each value once")
    return values


def _rate(given: Any) -> str:
    """A rate in requests/s, or with an x behind it as a share of the capacity."""
    rate, share = parse_rate(str(given))
    return repr(rate).removesuffix(".0") + ("x" if share else "")


def _seconds_or_auto(given: Any) -> Any:
    """`auto`, or seconds as text."""
    if given is None or given == "auto":
        return given
    try:
        seconds = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError("expected seconds, or auto")
    return f"{seconds:g}"


def _goodput(given: Any) -> Any:
    if isinstance(given, dict):
        given = ",".join(f"{metric}:{limit}" for metric, limit in given.items())
    if isinstance(given, str):
        from simsched.metrics import parse_goodput

        return parse_goodput(given)
    return given


def _labels(given: Any) -> Any:
    """`"mine=./mine.py:Mine(cap=512),Sticky=router=session"` -> {"mine": "./mine.py:Mine(cap=512)", "Sticky":
    "router=session"}."""
    if not isinstance(given, str):
        return given
    options = axes("load", "engine", "order")
    return {name: stands_for(label) for name, label in parse_labels([given], options).items()}


Part = Literal["load", "engine", "order"]
"""What an axis of the grid belongs to: the load that is offered, the engine that serves it, or the order in
which it does. Engine and order together are an arm: what the user chooses between."""


class Axis:
    """Marks a field of `Study` whose values are an axis of the grid."""

    def __init__(self, part: Part) -> None:
        self.part = part


Swept = Annotated[tuple[T, ...], BeforeValidator(_values), AfterValidator(_once)]
OfLoad = Annotated[Swept[T], Axis("load")]
OfEngine = Annotated[Swept[T], Axis("engine")]
OfOrder = Annotated[Swept[T], Axis("order")]
Rate = Annotated[str, BeforeValidator(_rate)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
EdgeOfWindow = Annotated[str | None, BeforeValidator(_seconds_or_auto)]
Factor = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Spread = Annotated[float, Field(ge=0, le=2)]
Tau = Annotated[float, Field(ge=-1, le=1)]


class Figure(BaseModel):
    """A figure of a study; see `simsched.plotting.figures.draw`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal[
        "latency", "cdf", "decile", "backlog", "pareto", "heatmap", "groups", "occupancy", "tau"
    ] = "latency"
    metric: str | tuple[str, ...] | None = None
    where: dict[str, str | float | bool | None] | None = None
    """Swept options to hold fixed."""
    along: str | tuple[str, ...] | None = None
    """latency: the option on the horizontal axis; heatmap: the two on its axes."""
    relative_to: str | None = None
    """latency, tau: draw ratios to this arm."""
    by: str | None = None
    """groups: tenant, class or another column that the trace brings."""
    title: str | None = None


class _LoadsAndProfiles(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    title: str | None = None
    """For a reader: what the study shows."""
    figures: tuple[Figure, ...] = ()
    """What to draw; none: latency against rate, or distributions at the one rate."""

    policy: OfOrder[str] = PAPER_POLICIES
    """Policies: fcfs,"mlfq(base_quantum=0.03,threshold=2)",./mine.py:Mine."""
    workload: OfLoad[str] = ()
    """Named workloads (simsched list workloads)."""
    trace: OfLoad[str] = ()
    """Trace files, replayed as they are without --request-rate or --arrivals."""
    format: str | None = None
    """Format of the traces.  [default: recognised by their content]"""
    time_unit: str | None = None
    """Unit of the traces' time stamps: s, ms, us, ns.  [default: as the format says]"""
    hash_block_size: int | None = Field(None, ge=1)
    """Tokens of a hash id.  [default: as the file or its format says]"""
    trace_window: str | None = None
    """FROM..TO: the part of a trace, in seconds of its own time.  [default: all]"""
    resample: str | None = None
    """block(SECONDS): each run is drawn from blocks of the trace.  [default: replayed]"""
    request_rate: OfLoad[Rate] = ()
    """Requests/s, or a share of the capacity: 4,8,0.9x."""
    arrivals: OfLoad[str] = ()
    """poisson, "gamma(cv=2,exact=true)", uniform, burst, "closed(users=32)", "sessions(2)", "users(8)"."""
    num_requests: int | None = Field(None, ge=1, le=100_000_000)
    """Requests a cell.  [default: those of --duration]"""
    duration: Positive | None = None
    """Seconds of arrivals.  [default: enough for a steady state, 60 in overload; traces: all]"""
    warmup: EdgeOfWindow = None
    """Seconds left out at the start, or auto.  [default: auto where --duration is; else 0]"""
    cooldown: EdgeOfWindow = None
    """Seconds left out before the last arrival, or auto.  [default: as --warmup's]"""
    num_runs: int = Field(1, ge=1, le=10_000)
    """Runs, with seeds S, S+1, ...  [default: 1; bare: 3]"""
    seed: int = Field(0, ge=0, le=2**62)
    """First seed.  [default: 0]"""

    preset: OfEngine[str] = (DEFAULT_PRESET,)
    """Engines and their defaults (simsched list presets).  [default: vllm-v1]"""
    cost_profile: OfEngine[str] = ()
    """Profiles (simsched list profiles) or files.  [default: the preset's]"""


if TYPE_CHECKING:
    _WithEngine = _LoadsAndProfiles
else:
    # bounds are checked by `EngineConfig`
    _WithEngine = create_model(
        "_WithEngine",
        __base__=_LoadsAndProfiles,
        **{
            name: (OfEngine[value_type(field.annotation)], Field((), description=field.description))
            for name, field in EngineConfig.model_fields.items()
            if name != "preset"
        },
    )


class Study(_WithEngine):
    """What to simulate. An empty tuple or None: not given."""

    host_speed: OfEngine[Factor] = ()
    """Factor on the profile's host times: 2 = a host that takes twice as long.  [default: 1]"""
    host_jitter: OfEngine[Spread] = ()
    """Spread of launch times (sd of the logarithm).  [default: the profile's, mostly 0]"""
    num_replicas: OfEngine[Annotated[int, Field(ge=1, le=4096)]] = ()
    """Engines behind a router.  [default: one, no router]"""
    replicas: OfEngine[str] = ()
    """Replicas that differ: "4*PROFILE+2*OTHER(max_num_seqs=512)", in place of --num-replicas."""
    router: OfEngine[str] = ()
    """Which replica serves a request (simsched list routers).  [default: least-requests]"""
    predictor: OfOrder[str] = ()
    """trace, oracle, "emulated(tau=0.52)", "empirical(file=F.csv)", a model."""
    tau: OfOrder[Tau] = ()
    """Kendall's tau of an emulated predictor."""
    predictor_time: OfOrder[Seconds] = ()
    """Seconds of predictor a request.  [default: from the profile]"""

    label: Annotated[dict[str, str] | None, BeforeValidator(_labels)] = None
    """Names: "mine=./mine.py:Mine(cap=512)", which is run too, or "Sticky=router=session"."""
    goodput: Annotated[dict[str, float] | None, BeforeValidator(_goodput)] = None
    """A good request's limits in ms: ttft:200,tpot:50."""
    baseline: str | None = None
    """The arm that ratios, and rates such as 0.9x, refer to: "fcfs,max_num_seqs=256".  [default: FCFS]"""
    log_steps: bool = False
    """Write steps/CELL.jsonl."""
    skip_invalid: bool = False
    """Drop and count requests that can't be used."""
    truncate: bool = False
    """Cut and count requests that are too long."""


def times_itself(study: Study) -> bool:
    """Does the study leave it open how long requests arrive, at rates that say how many there are?"""
    from simsched.workload.arrivals import Arrivals

    rated = all(Arrivals.parse(each).rated for each in study.arrivals)
    return study.duration is None and study.num_requests is None and not study.trace and rated


def window_of(study: Study) -> dict[str, str | float]:
    """`warmup` and `cooldown` of the study's metrics, in seconds or `auto`; 0 and 0 are the whole run."""
    default = "auto" if times_itself(study) else "0"
    given = {name: getattr(study, name) or default for name in ("warmup", "cooldown")}
    return {name: value if value == "auto" else float(value) for name, value in given.items()}


def axes(*parts: Part) -> tuple[str, ...]:
    """The options of these parts whose values make a grid, in the order in which results show them."""
    return tuple(
        name
        for name, field in Study.model_fields.items()
        if any(isinstance(mark, Axis) and mark.part in parts for mark in field.metadata)
    )


OF_TRACES = ("format", "time_unit", "hash_block_size", "trace_window", "resample")
"""Options that say how a trace is taken."""
RUN_COMPARES = ("policy", "workload", "trace", "request_rate", "arrivals")
"""With none of these given, a study is the built-in comparison, over three runs."""


def make_study(given: Mapping[str, Any], origin: str | None = None) -> Study:
    """A study from its options (None = not given); `origin` is the file they came from, None for flags.

    Raises:
        InputError: an unknown option or a value out of bounds.
    """
    options = {name: value for name, value in given.items() if value is not None}
    for name in ("policy", "router"):
        if name in options:
            options[name] = specs_of(options[name])
    if not any(name in options for name in RUN_COMPARES):
        options.setdefault("num_runs", 3)
    if "workload" not in options and "trace" not in options:
        options["workload"] = DEFAULT_WORKLOAD
    for name, value in options.items():
        field = Study.model_fields.get(name)
        if field is not None and is_no_number(value, field.annotation):
            shown = f"{origin}: {name}" if origin else option_flag(name)
            raise InputError(f"{shown} {value}: expected a number")
    try:
        study = _labelled(Study(**options))
    except ValidationError as error:
        first = error.errors()[0]
        name, *_ = (str(part) for part in first["loc"])
        shown = f"{origin}: {name}" if origin else option_flag(name)
        if first["type"] == "extra_forbidden":
            known = Figure.model_fields if name == "figures" else Study.model_fields
            unknown = ".".join(str(part) for part in first["loc"])
            shown = f"{origin}: {unknown}" if origin else shown
            raise InputError(f"{shown}: unknown; expected {', '.join(known)}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{shown} {options[name]}: {message}") from None
    if study.router and not (study.num_replicas or study.replicas):
        raise InputError(f"--router {','.join(study.router)}: only with --num-replicas or --replicas")
    if study.replicas and (study.num_replicas or study.cost_profile):
        both = "--num-replicas" if study.num_replicas else "--cost-profile"
        raise InputError(f"--replicas and {both} exclude each other: --replicas says both")
    if study.num_requests is not None and study.duration is not None:
        raise InputError("--num-requests and --duration exclude each other")
    for name in OF_TRACES:
        if getattr(study, name) is not None and not study.trace:
            raise InputError(f"{option_flag(name)} {getattr(study, name)}: only with --trace")
    if study.trace_window is not None:
        from simsched.workload.window import Window

        Window.parse(study.trace_window)
    if study.resample is not None:
        from simsched.workload.blocks import block_seconds

        block_seconds(study.resample)
        if study.arrivals:
            raise InputError("--resample and --arrivals exclude each other: both make the arrivals of a run")
    return study


def _labelled(study: Study) -> Study:
    """The study with the specifications of its labels among its policies, once, in place of their names.

    Raises:
        InputError: a name that is another policy's, or two of one policy.
    """
    if not study.label:
        return study
    labels = policy_labels(study.label)
    for name in study.label:
        if set(name) & set("(),=:;") or name in registered():
            raise InputError(
                f"--label {name}={study.label[name]}: expected a name that is no policy's, without (),=:;"
            )
    names = {spec: name for name, spec in labels.items()}
    for name, spec in labels.items():
        if names[spec] != name:
            raise InputError(f"--label {name}={spec}: {names[spec]} is that policy already")
        if name in names:
            raise InputError(f"--label {name}={spec}: expected a name that is no policy's, without (),=:;")
    policies = (labels.get(policy, policy) for policy in study.policy)
    return study.model_copy(update={"policy": tuple(dict.fromkeys([*policies, *names]))})


def policy_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Those of a study's labels that are of policies alone: name -> specification."""
    of_arms = study_labels(labels, axes("load", "engine", "order"))
    return {name: text for name, text in (labels or {}).items() if name not in of_arms}


def read_study(path: str | Path) -> dict[str, Any]:
    """The options in a study file: a YAML mapping whose keys are those of `Study`.

    Raises:
        InputError: not there, not text, not YAML, or not a mapping.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        twice = _key_given_twice(yaml.compose(text, Loader=yaml.SafeLoader))
    except OSError as error:
        raise InputError(f"{path}: cannot read the study: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected a study in YAML") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply; expected a mapping of options") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if twice is not None:
        raise InputError(
            f"{path}:{twice.start_mark.line + 1}: {twice.value} is given twice; expected it once"
        )
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of options, such as `policy: [fcfs, ranking]`")
    return {str(name): value for name, value in content.items()}


def _key_given_twice(node: Any) -> Any:
    """The node of a YAML mapping's key that is there before, anywhere in the text; None: there is none."""
    children: list[Any] = node.value if node is not None and node.id != "scalar" else []
    if node is not None and node.id == "mapping":
        seen: set[str] = set()
        for key, _ in children:
            if key.value in seen:
                return key
            seen.add(str(key.value))
        children = [value for _, value in children]
    found = (_key_given_twice(child) for child in children)
    return next((each for each in found if each is not None), None)


def parse_rate(text: str) -> tuple[float, bool]:
    """`"8"` -> (8.0, False) in requests/s; `"0.9x"` -> (0.9, True), a share of the capacity."""
    share = text.endswith("x")
    try:
        rate = float(text.removesuffix("x"))
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ValueError("expected requests/s above 0, or a share of the capacity, such as 0.9x")
    return rate, share
