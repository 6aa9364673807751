"""A study: every option of `simsched run`, from a YAML file or from flags. Lists make a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from simsched.errors import InputError
from simsched.metrics import parse_goodput
from simsched.text.specs import split_specs

PAPER_POLICIES = ("fcfs", "mlfq", "po", "classification", "ranking")
PAPER_RATES = ("2", "4", "8", "16", "32", "64")
DEFAULT_WORKLOAD = "sharegpt"
DEFAULT_PROFILES = {
    "vllm-v1": "a100-80gb/llama-3-8b",
    "vllm-0.4.1-ltr": "a100-40gb/llama-3-8b/vllm-0.4.1-ltr",  # the paper's machine, the fork's own overhead
}
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


def _goodput(given: Any) -> Any:
    if isinstance(given, dict):
        given = ",".join(f"{metric}:{limit}" for metric, limit in given.items())
    return parse_goodput(given) if isinstance(given, str) else given


Swept = Annotated[tuple[T, ...], BeforeValidator(_values), AfterValidator(_once)]
Rate = Annotated[str, BeforeValidator(_rate)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tau = Annotated[float, Field(ge=-1, le=1)]


class Figure(BaseModel):
    """A figure of a study; see `simsched.plotting.figures.draw`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["latency", "cdf", "decile", "occupancy", "tau"] = "latency"
    metric: str | tuple[str, ...] | None = None
    where: dict[str, str | float | bool | None] | None = None
    """Swept options to hold fixed."""
    relative_to: str | None = None
    """latency, tau: draw ratios to this policy."""
    title: str | None = None


class Study(BaseModel):
    """What to simulate. An empty tuple or None: not given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = None
    """For a reader: what the study shows."""
    figures: tuple[Figure, ...] = ()
    """What to draw; none: latency against rate, or distributions at the one rate."""

    policy: Swept[str] = PAPER_POLICIES
    workload: Swept[str] = ()
    trace: Swept[str] = ()
    """Trace files, replayed as they are unless `request_rate` or `arrivals` is given."""
    format: str | None = None
    """Of the trace files, one of `simsched.workload.formats.FORMATS`; None: recognised by their content."""
    request_rate: Swept[Rate] = ()
    arrivals: Swept[str] = ()
    num_requests: int | None = Field(None, ge=1, le=100_000_000)
    duration: Positive | None = None
    """Seconds of arrivals; how many requests that makes depends on the rate."""
    num_runs: int = Field(1, ge=1, le=10_000)
    """Run r has the seed `seed + r`."""
    seed: int = Field(0, ge=0, le=2**62)

    preset: Swept[str] = ("vllm-v1",)
    cost_profile: Swept[str] = ()
    """Not given: the preset's own, of `DEFAULT_PROFILES`."""
    gpu_memory_utilization: Swept[Annotated[float, Field(gt=0, le=1)]] = (0.9,)
    # the engine's own options: names and bounds are those of simsched.engine.config.EngineConfig
    vllm_version: Swept[str] = ()
    max_num_seqs: Swept[int] = ()
    max_num_batched_tokens: Swept[int] = ()
    block_size: Swept[int] = ()
    num_gpu_blocks: Swept[int] = ()
    max_model_len: Swept[int] = ()
    enable_prefix_caching: Swept[bool] = ()
    long_prefill_token_threshold: Swept[int] = ()
    scheduler_reserve_full_isl: Swept[bool] = ()
    watermark: Swept[float] = ()
    async_scheduling: Swept[bool] = ()
    decodes_first: Swept[bool] = ()
    random_ties: Swept[bool] = ()
    num_swap_blocks: Swept[int] = ()

    predictor: Swept[str] = ()
    tau: Swept[Tau] = ()
    predictor_time: Swept[Seconds] = ()

    goodput: Annotated[dict[str, float] | None, BeforeValidator(_goodput)] = None
    log_steps: bool = False
    skip_invalid: bool = False
    truncate: bool = False


_NAMES = tuple(Study.model_fields)
ENGINE_OPTIONS = _NAMES[_NAMES.index("vllm_version") : _NAMES.index("predictor")]
RUN_COMPARES = ("policy", "workload", "trace", "request_rate", "arrivals")
"""With none of these given, a study is the built-in comparison, over three runs."""


def make_study(given: Mapping[str, Any], origin: str | None = None) -> Study:
    """A study from its options (None = not given); `origin` is the file they came from, None for flags.

    Raises:
        InputError: an unknown option or a value out of bounds.
    """
    options = {name: value for name, value in given.items() if value is not None}
    if not any(name in options for name in RUN_COMPARES):
        options.setdefault("num_runs", 3)
    if "workload" not in options and "trace" not in options:
        options["workload"] = DEFAULT_WORKLOAD
    try:
        study = Study(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name, *_ = (str(part) for part in first["loc"])
        shown = f"{origin}: {name}" if origin else f"--{name.replace('_', '-')}"
        if first["type"] == "extra_forbidden":
            known = Figure.model_fields if name == "figures" else Study.model_fields
            unknown = ".".join(str(part) for part in first["loc"])
            shown = f"{origin}: {unknown}" if origin else shown
            raise InputError(f"{shown}: unknown; expected {', '.join(known)}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{shown} {options[name]}: {message}") from None
    if study.num_requests is not None and study.duration is not None:
        raise InputError("--num-requests and --duration exclude each other")
    if study.format is not None and not study.trace:
        raise InputError(f"--format {study.format}: only with --trace")
    return study


def read_study(path: str | Path) -> dict[str, Any]:
    """The options in a study file: a YAML mapping whose keys are those of `Study`.

    Raises:
        InputError: not there, not text, not YAML, or not a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
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
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of options, such as `policy: [fcfs, ranking]`")
    return {str(name): value for name, value in content.items()}


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
