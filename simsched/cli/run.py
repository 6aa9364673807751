"""`simsched run`."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

import click

from simsched.cli._say import say
from simsched.errors import InputError
from simsched.sweep.study import OF_TRACES, Study, make_study, read_study
from simsched.text.options import option_flag, value_type
from simsched.text.table import short_number

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from simsched.results import Results
    from simsched.sweep.plan import Plan

Command = Callable[..., Any]


def study_options(*, without: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Decorator: an option for every field of `simsched.sweep.study.Study` but those `without`, None where it
    is not given."""

    def decorate(command: Command) -> Command:
        for name, field in reversed(Study.model_fields.items()):
            if name not in _ONLY_IN_FILES and name not in without:
                command = _option(name, field)(command)
        return command

    return decorate


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    flag, kind = option_flag(name), value_type(field.annotation)
    swept = get_origin(field.annotation) is tuple
    if name == "label":
        return click.option(
            flag, name, metavar=_METAVARS[name], multiple=True, help=field.description,
            callback=lambda context, parameter, given: ",".join(given) or None,
        )  # fmt: skip
    if kind is bool:
        flags = f"{flag}/--no-{flag[2:]}" if swept else flag
        return click.option(flags, name, is_flag=True, default=None, help=field.description)
    return click.option(
        flag,
        name,
        metavar="LIST" if swept else _METAVARS.get(name) or _METAVARS[kind],
        help=field.description,
    )


HOST_BOUND_WARNING = 0.2
"""Share of the time that the host bounds, beyond which the user is warned."""
_FEW_STARTS = 0.9  # of a run's time; where sessions start in less, throughputs are those of its end too
_ONLY_IN_FILES = ("title", "figures")
_METAVARS: dict[Any, str] = {
    int: "N",
    float: "SECONDS",
    str: "NAME",
    dict: "M:MS,...",
    "label": "NAME=ARM",
}


@click.command("run")
@click.argument("study", required=False, type=click.Path(), metavar="[STUDY.yaml|DIR]")
@study_options()
@click.option(
    "-o", "--output-dir", default="simsched-results", show_default=True, metavar="DIR", help="Results."
)
@click.option("--data", type=click.Path(), help="Outside data, for studies with $SIMSCHED_DATA in a path.")
@click.option("--resume", is_flag=True, help="Continue the results in DIR.")
@click.option("--overwrite", is_flag=True, help="Replace the results in DIR.")
@click.option("--extend", is_flag=True, help="Add values or runs to the results in DIR.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes.  [default: as many as pay off]")
@click.option("--executor", type=click.Choice(["joblib", "dask"]), default="joblib", help="Where cells run.")
@click.option("--dask-scheduler", metavar="ADDRESS", help="tcp://HOST:8786; its workers see DIR too.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the grid, and stop.")
@click.option("--no-plot", is_flag=True, help="Do not draw.")
def run_command(
    study: str | None,
    data: str | None,
    output_dir: str,
    resume: bool,
    overwrite: bool,
    extend: bool,
    jobs: int | None,
    executor: str,
    dask_scheduler: str | None,
    dry_run: bool,
    no_plot: bool,
    **options: Any,
) -> None:
    """Simulate policies over rates and seeds, compare them, and draw the comparison.

    Lists (a,b,c) make a grid. With no argument: the paper's five policies at six rates, three runs each.
    A STUDY.yaml holds the same options with underscores (policy: [fcfs, ranking]); flags override it.

    \b
    simsched run
    simsched run --policy fcfs,ranking --request-rate 4,8,0.9x --num-runs 5 -o out/
    simsched run --trace T.jsonl --policy "ranking(starvation_threshold=200,starvation_period=10)"
    simsched run --workload lmsys --policy ranking --tau 0.3,0.5,0.7 --request-rate 16
    simsched run plots/latency.yaml --jobs 4
    simsched run out/ --extend --policy ./mine.py:Mine --num-runs 10
    """
    from simsched.sweep.extend import plan_extension
    from simsched.sweep.plan import make_plan

    if data is not None:
        os.environ["SIMSCHED_DATA"] = data
    given = {name: value for name, value in options.items() if value is not None}
    if extend and (resume or overwrite):
        raise InputError(
            "--extend excludes --resume and --overwrite; given again, it goes on where it was cut"
        )
    if extend and study is not None and Path(study).is_dir():
        output_dir, study = study, None
    if study is not None and Path(study).is_dir():
        raise InputError(
            f"{study}: a directory; expected a study file. --extend adds to the results in it; what was cut "
            "short goes on with the same command and --resume"
        )
    if study is not None:
        of_file = read_study(study)
        make_study(of_file, origin=study)  # so that an error names the file
        for pair, of_it in ((("workload", "trace"), OF_TRACES), (("num_requests", "duration"), ())):
            if any(name in given for name in pair):
                of_file = {name: of_file[name] for name in of_file if name not in (*pair, *of_it)}
        given = {**of_file, **given}
    plan = plan_extension(output_dir, given) if extend else make_plan(make_study(given))
    if dry_run:
        _show_notes(plan)
        _show_grid(plan)
        return
    results = _execute(
        plan, output_dir, jobs=jobs, resume=resume, overwrite=overwrite, extend=extend, executor=executor,
        dask_scheduler=dask_scheduler,
    )  # fmt: skip
    _show_results(results)
    _show_verdict(results)
    _show_beyond_fit(results)
    _show_host_bound(results)
    written = [output_dir] if no_plot else [output_dir, *_draw_or_say(results, study)]
    say(f"written: {', '.join(written)}", err=True)
    if len(results.manifest["study"]["policy"]) > 1:
        say(f"more on it: simsched compare {shlex.quote(output_dir)}", err=True)
    if results.failed:
        for cell, reason in results.failed.items():
            say(f"failed: {cell}: {reason}", err=True)
        cells = len(results.failed) + len(results.cells)
        say(f"{len(results.failed)} of {cells} cells failed; the others are complete", err=True)
        sys.exit(1)


def _execute(plan: Plan, output_dir: str, **options: Any) -> Results:
    """Run the cells behind a progress bar; Ctrl-C says how to go on."""
    from simsched.cli._progress import cells_progress
    from simsched.sweep.execute import run_study

    try:
        with cells_progress(plan.num_requests) as advance:
            return run_study(plan, output_dir, on_start=lambda: _show_start(plan), on_cell=advance, **options)
    except KeyboardInterrupt:
        done = sum((Path(output_dir) / "cells" / name).is_dir() for name in plan.cells)
        again = [word for word in sys.argv[1:] if word not in ("--overwrite", "--resume")]
        say(f"\ninterrupted after {done} of {len(plan.cells)} cells; continue with", err=True)
        how = [] if options["extend"] else ["--resume"]
        click.echo(f"  {shlex.join(['simsched', *again, *how])}", err=True)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise InputError(
            f"{output_dir}: {error.strerror}; --resume continues once it can be written"
        ) from None


def _show_start(plan: Plan) -> None:
    """What a run is in for: its notes and how much there is to simulate."""
    _show_notes(plan)
    say(_size_text(plan), err=True)


def _size_text(plan: Plan) -> str:
    """`"2 cells, about 4,300,000 requests"`."""
    from simsched.text.table import counted

    return f"{counted(len(plan.cells), 'cell')}, about {counted(plan.total_requests, 'request')}"


def _show_notes(plan: Plan) -> None:
    for note in plan.notes:
        say(note, err=True)


def _show_grid(plan: Plan) -> None:
    from simsched.cli._table import show_table

    columns = list(next(iter(plan.options.values())))
    rows = [[*options.values(), plan.num_requests[name]] for name, options in plan.options.items()]
    show_table([*columns, "requests"], rows)
    say(_size_text(plan))


def _show_results(results: Results) -> None:
    """A row per policy and setting: means over runs. What is the same or zero everywhere is left out."""
    from simsched.cli._table import show_table
    from simsched.compare.phrases import option_text, steady_text
    from simsched.compare.samples import ascending
    from simsched.text.columns import brief_columns

    shown = [
        "mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_tpot_ms", "mean_latency_per_token_ms",
        "p99_latency_per_token_ms", "request_throughput", "request_goodput", "num_preemptions", "unfinished",
        "rejected", "prefix_cache_hit_rate",
    ]  # fmt: skip
    groups = results.over_runs
    settings = [name for name in groups[0] if not isinstance(groups[0][name], dict) and name != "steady"]
    settings = [name for name in settings if name == "policy" or len({group[name] for group in groups}) > 1]
    if "replicas" in settings and "cost_profile" in settings:
        settings.remove("cost_profile")  # that of the first replicas, which are named whole
    if all(group["request_goodput"]["mean"] is None for group in groups):
        shown.remove("request_goodput")
    for metric in ("num_preemptions", "unfinished", "rejected", "prefix_cache_hit_rate"):
        if not any(group[metric]["mean"] for group in groups):
            shown.remove(metric)
    groups = ascending(groups, settings)
    columns = brief_columns({metric: [group[metric]["mean"] for group in groups] for metric in shown})
    if "request_goodput" in shown:
        shares = [group["good_share"]["mean"] for group in groups]
        columns.append(("good %", [None if share is None else 100 * share for share in shares]))
    fleets, key = _short_fleets([group["replicas"] for group in groups] if "replicas" in settings else [])
    rows: list[list[Any]] = [
        [*(fleets.get(group[name]) or option_text(group[name]) for name in settings), *values]
        for group, *values in zip(groups, *(values for _, values in columns), strict=True)
    ]
    words = [i for i, name in enumerate(settings) if any(isinstance(group[name], str) for group in groups)]
    runs = max(group["duration"]["n"] for group in groups)
    say(
        "Time to first token (TTFT), time per output token (TPOT) and latency per token: "
        f"mean and P99 over requests{f', averaged over {runs} runs' if runs > 1 else ''}"
    )
    for row, group in zip(rows, groups, strict=True):
        row.append(steady_text(group["steady"], group["growth"]["mean"], group["growth_low"]["mean"]))
    headers = ["req/s" if name == "request_rate" else name for name in settings]
    titles = [*headers, *(header for header, _ in columns), "steady"]
    for line in key:
        say(line)
    names = range(len(settings))
    show_table(titles, rows, left=[*words, len(titles) - 1], names=names)
    say("\n".join(_window_text(results)))


def _short_fleets(fleets: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Fleet -> a number for it, and lines that say which is which; nothing where all are short."""
    from simsched.text.table import WIDEST_NAME

    known = list(dict.fromkeys(fleets))
    if max(map(len, known), default=0) <= WIDEST_NAME:
        return {}, []
    short = {fleet: f"#{number}" for number, fleet in enumerate(known, start=1)}
    return short, [f"replicas {number}: {fleet}" for fleet, number in short.items()]


def _window_text(results: Results) -> list[str]:
    """What the numbers of the table are of."""
    from simsched.compare.sessions import start_share

    asked = results.manifest.get("window") or {}
    whole = (
        "served/s: requests over the time from the first arrival to the last finish, so that it is below the "
        "request rate even where no queue grows"
    )
    share = start_share(results)
    if share is not None and share < _FEW_STARTS:
        whole += (
            f"; sessions start in {share:.0%} of that time, the rest is left for the last turns and their "
            "think times. Without --duration and --num-requests it is counted while they start"
        )
    steady = "steady: whether the backlog has stopped growing, else the requests/s by which it grows"
    rows = [row for row in results.summary.to_dicts() if row["steady"]]
    if not any(asked.values()) or not rows:
        return [whole, steady]
    lengths = [row["window_end"] - row["window_start"] for row in rows]
    low, high = (short_number(each) for each in (min(lengths), max(lengths)))
    lasting = low if low == high else f"{low} to {high}"
    return [
        f"Where a load has a steady arm: over {lasting} s of its arrivals, "
        "without warm-up and end; where it has none, over the whole run. served/s: finished in that time",
        steady,
    ]


def _show_verdict(results: Results) -> None:
    from simsched.compare import compare, verdict
    from simsched.compare.arm_table import with_letters

    (lettered,), key = with_letters([results])
    comparison = compare(lettered, results.manifest["study"].get("baseline"))
    lines = [*comparison.notes, *verdict(comparison)]
    if comparison.tested:
        lines.insert(0, f"In brackets: 95 % intervals over {comparison.runs} runs, paired by their requests.")
    if lines:
        say("\n" + "\n".join([*([key, ""] if key else []), *lines]))


def _show_beyond_fit(results: Results) -> None:
    shares = [share for share in results.beyond_fit.values() if share]
    if shares:
        say(
            f"up to {max(shares):.0%} of a run's steps (in {len(shares)} of {len(results.cells)} runs) have "
            "more decodes than the cost profile was fitted on: their times are extrapolated",
            err=True,
        )


def _show_host_bound(results: Results) -> None:
    """What part of the time hangs on the host, whose speed is known least."""
    summary = results.summary
    if "host_bound_share" not in summary.columns:
        return  # of an older version
    shares = summary["host_bound_share"].drop_nulls().to_list()
    if not shares:
        say(
            "what share of the time the host bounds is not known: host and device are not told apart",
            err=True,
        )
        return
    least, most = min(shares), max(shares)
    span = f"{most:.0%}" if f"{least:.0%}" == f"{most:.0%}" else f"{least:.0%} to {most:.0%}"
    words = {
        True: "steps that end when the next one is launched",
        False: "launches, and what the device waits for",
    }
    meant = ", or ".join(words[each] for each in results.manifest["async_scheduling"])
    line = f"the host bounds {span} of the time: {meant}"
    if most > HOST_BOUND_WARNING:
        line += (
            "; warning: so much of these results is as uncertain as the host's speed, which differs by 30 % "
            "between hosts and runs (--host-speed 0.7,1.3 shows what hangs on it)"
        )
    say(line, err=True)


def _draw_or_say(results: Results, study: str | None) -> list[str]:
    """`_draw`, where the results hold what to draw; a run that is finished has not failed if they don't."""
    from simsched.plotting.style import NoDataError

    try:
        return _draw(results, study)
    except NoDataError as error:
        say(f"nothing drawn: {error}", err=True)
        return []


def _draw(results: Results, study: str | None) -> list[str]:
    """Draw the figures that the study asks for (a study file's also beside it), else one that fits."""
    from simsched.files import write_file
    from simsched.plotting.figures import draw, draw_all, save

    asked = results.manifest["study"]["figures"]
    if asked:
        figures = draw_all(results)
    else:
        varies = {name for name, of in results.summary.to_dict().items() if of.n_unique() > 1}
        kind = "latency" if "request_rate" in varies else "tau" if "tau" in varies else "cdf"
        figures = {kind: draw(results, kind)}
    written = []
    for name, figure in figures.items():
        path = results.path / "figures" / f"{name}.png"
        save(figure, path)
        written.append(str(path))
        if study is not None and asked:
            stem = Path(study).stem if len(figures) == 1 else f"{Path(study).stem}-{name}"
            beside = Path(study).with_name(f"{stem}.png")
            write_file(beside, path.read_bytes())  # drawn again it would be laid out a hair differently
            written.append(str(beside))
    return written
