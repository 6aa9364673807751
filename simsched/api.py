"""The public face: `simulate` for one setting, `run_study` for a grid; the same options as `simsched run`."""

from __future__ import annotations

import difflib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simsched.engine.config import EngineConfig
from simsched.errors import InputError
from simsched.policies.adopted import Adopted, adopt
from simsched.results import Results
from simsched.routers.adopted import adopt_router
from simsched.simulation import Simulation
from simsched.sweep.execute import run_study as run_plan
from simsched.sweep.inputs import profile_of
from simsched.sweep.plan import make_plan
from simsched.sweep.study import Study, make_study, read_study
from simsched.workload.frames import write_rows


def simulate(
    policy: str | Adopted = "fcfs",
    *,
    workload: str | None = None,
    trace: Any = None,
    request_rate: float | str | None = None,
    config: EngineConfig | None = None,
    **options: Any,
) -> Simulation:
    """Simulate one setting, in this process.

    Args:
        policy: a name with parameters (`"mlfq(base_quantum=0.03)"`, `"./mine.py:Mine"`), a policy class, or
            an object, which is copied.
        workload: a named workload (`simsched list workloads`), or
        trace: the path of a trace, a `Trace`, a data frame of polars or pandas, or a list of dicts, with the
            keys of a trace file (`timestamp` in seconds, `input_length` and `output_length` in tokens, ...).
        request_rate: requests/s, or a share of the engine's capacity, such as `"0.9x"`; a trace needs none.
        config: the engine; its options may also be given by themselves, as in `max_num_seqs=64`.
        options: whatever else `simsched run` takes, by the same name: `num_requests`, `duration` (s), `seed`,
            `arrivals`, `cost_profile`, `predictor`, `tau`, `goodput`, `log_steps`, ... A `router` may be a
            class.

    Raises:
        InputError: anything wrong with the inputs, or more than one setting.
    """
    _check_names("simulate", options)
    if trace is None and request_rate is None and "arrivals" not in options:
        raise InputError('simulate: expected request_rate, such as 8 or "0.9x", or a trace')
    folder = Path(tempfile.mkdtemp(prefix="simsched-"))
    chosen = {"policy": policy, "workload": workload, "trace": trace, "request_rate": request_rate}
    try:
        with _rows_named(folder):
            given = _options({**chosen, **options}, config, folder)
            plan = make_plan(make_study(given, origin="simulate"))
            if len(plan.cells) != 1:
                raise InputError(
                    f"simulate: {len(plan.cells)} settings; expected one value of each option, and a "
                    "request_rate where a workload is given (run_study runs a grid)"
                )
            (cell,) = plan.cells.values()
            results = run_plan(plan, folder / "results", jobs=1)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Simulation(results, cell.arm.config.resolve(profile_of(cell.arm.cost_profile)), folder)


def run_study(
    study: Study | Mapping[str, Any] | str | Path | None = None,
    out: str | Path = "simsched-results",
    *,
    jobs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: EngineConfig | None = None,
    **options: Any,
) -> Results:
    """Run a grid of settings into a results directory, as `simsched run` does.

    Args:
        study: a `Study`, its options, or the path of a YAML file with them; `options` override it.
        out: the results directory. A trace that is no file is kept beside it, in `OUT-inputs`.
        jobs: worker processes; None: as many as pay off.
        resume: continue what `out` holds.
        overwrite: replace what `out` holds.
        config: the engine; its options may also be given by themselves.
        options: of `simsched run`, by the same names; each may be a list, and lists make a grid. A policy may
            be a class or an object, a router a class, a trace a data frame or a list of dicts.

    Raises:
        InputError: anything wrong with the inputs.
    """
    if isinstance(study, Study):
        given = {name: value for name, value in study if name in study.model_fields_set}
    elif isinstance(study, str | Path):
        given = read_study(study)
    else:
        given = dict(study or {})
    _check_names("run_study", options)
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
        raise InputError(f"run_study: jobs {jobs!r}: expected a number of processes, at least 1")
    folder = Path(out).with_name(f"{Path(out).name}-inputs")
    chosen = _options({**given, **options}, config, folder)
    with _rows_named(folder):
        plan = make_plan(make_study(chosen, origin="run_study"))
    return run_plan(plan, out, jobs=jobs, resume=resume, overwrite=overwrite)


def _check_names(function: str, options: Mapping[str, Any]) -> None:
    """Raises:
    InputError: an option that there is not; names the one that is nearest.
    """
    for name in options:
        if name not in Study.model_fields:
            near = difflib.get_close_matches(name, Study.model_fields, 1)
            expected = near[0] if near else f"one of {', '.join(Study.model_fields)}"
            raise InputError(f"{function}: {name}: unknown; expected {expected}")


@contextmanager
def _rows_named(folder: Path) -> Iterator[None]:
    """Errors speak of the rows that were given where they name the file that these were written into."""
    try:
        yield
    except InputError as error:
        said = str(error)
        if str(folder) not in said:
            raise
        said = re.sub(rf"{re.escape(str(folder))}/\w+/trace\.jsonl(?::(\d+))?", _row_of_trace, said)
        raise type(error)(said.replace("--skip-invalid ", "skip_invalid=True ")) from None


def _row_of_trace(match: re.Match[str]) -> str:
    return f"trace, row {match[1]}" if match[1] else "trace"


def _options(given: Mapping[str, Any], config: EngineConfig | None, folder: Path) -> dict[str, Any]:
    """Options of a study, with objects in place of names: policies get a spec, traces a file in `folder`."""
    if config is not None and not isinstance(config, EngineConfig):
        raise InputError(
            f"config: a {type(config).__name__}; expected an EngineConfig, or its options by themselves"
        )
    options = {name: value for name, value in given.items() if value is not None}
    if config is not None:
        default = EngineConfig(preset=config.preset)
        chosen = {name: value for name, value in config if value != getattr(default, name)}
        options = {"preset": config.preset, **chosen, **options}
    if "policy" in options and not isinstance(options["policy"], str):
        policies = options["policy"]
        several = policies if isinstance(policies, list | tuple) else [policies]
        options["policy"] = [each if isinstance(each, str) else adopt(each) for each in several]
    if "router" in options and not isinstance(options["router"], str | Mapping):
        routers = options["router"]
        several = routers if isinstance(routers, list | tuple) else [routers]
        options["router"] = [
            each if isinstance(each, str | Mapping) else adopt_router(each) for each in several
        ]
    if "trace" in options and not isinstance(options["trace"], str):
        traces = options["trace"]
        rows = isinstance(traces, list | tuple) and all(isinstance(each, Mapping) for each in traces)
        several = traces if isinstance(traces, list | tuple) and not rows else [traces]
        options["trace"] = [_file(each, folder) for each in several]
    for name in ("cost_profile", "predictor"):
        if isinstance(options.get(name), Path):
            options[name] = str(options[name])
    return options


def _file(trace: Any, folder: Path) -> str:
    """The path of a trace. What is no file is written into the folder, where its content has a place."""
    if isinstance(trace, str | Path):
        return str(trace)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trace.jsonl"
    write_rows(trace, path)
    place = folder / hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    place.mkdir(exist_ok=True)
    return str(path.rename(place / path.name))
