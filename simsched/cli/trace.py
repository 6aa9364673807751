"""`simsched trace`: generate, convert, describe and fetch traces."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from simsched.errors import InputError
from simsched.text.table import counted
from simsched.workload.formats import load_trace, row_notes
from simsched.workload.named import named_workload, rescale
from simsched.workload.rows import Loaded, estimate_tokens
from simsched.workload.shapes import renamed
from simsched.workload.trace import Trace
from simsched.workload.trace_io import write_trace
from simsched.workload.window import Window, cut, drift_note

output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write (replaced)."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Write onto the trace that is read, too.")
format_option = click.option(
    "--format",
    "format_",
    metavar="NAME",
    help="Default: recognised by its content. A benchmark's may say which run: vllm-bench(run=2).",
)
time_unit_option = click.option(
    "--time-unit", metavar="UNIT", help="Of the time stamps: s, ms, us, ns.  [default: as the format says]"
)
hash_block_option = click.option(
    "--hash-block-size", type=click.IntRange(1), help="Tokens of a hash id.  [default: as the file says]"
)
columns_option = click.option(
    "--columns", metavar="OURS=THEIRS,...", help='Which columns to read: "input_length=prompt_tokens,...".'
)
window_option = click.option(
    "--trace-window", metavar="FROM..TO", help="Only what arrives then, in seconds of the trace's own time."
)
skip_option = click.option("--skip-invalid", is_flag=True, help="Drop and count rows that can't be used.")
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
rate_option = click.option("--request-rate", type=float, help="Requests/s; inf = all at once.")


@click.group()
def trace_command() -> None:
    """Generate, convert, describe and fetch traces.

    \b
    simsched trace generate --workload lmsys --num-requests 1000 --request-rate 8 -o lmsys.jsonl
    simsched trace convert AzureLLMInferenceTrace_conv.csv -o azure.jsonl
    simsched trace convert log.csv --columns "input_length=prompt_tokens,output_length=out" -o log.jsonl
    simsched trace stats azure.jsonl
    simsched trace fetch burstgpt -o burstgpt.csv
    """


@trace_command.command()
@click.option(
    "--workload", default="sharegpt", show_default=True, help="A name, such as lmsys(shape=sharegpt)."
)
@click.option("--resample", type=click.Path(path_type=Path), help="Draw requests from this trace instead.")
@click.option("--num-requests", type=click.IntRange(1, 100_000_000), default=1000, show_default=True)
@rate_option
@click.option(
    "--arrivals",
    help="poisson, gamma(cv=2), uniform, burst or sessions(rate=R).  [default: poisson; of sessions, as many "
    "as make --request-rate turns/s]",
)
@click.option("--predictor", help="Add score, predicted_class and predicted_length, as in emulated(tau=0.5).")
@seed_option
@output_option
@overwrite_option
def generate(
    workload: str,
    resample: Path | None,
    num_requests: int,
    request_rate: float | None,
    arrivals: str | None,
    predictor: str | None,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Write a trace of a named workload, or of requests drawn from another trace."""
    if resample is not None:
        from simsched.workload.resample import resample as draw

        _spare(resample, output, overwrite)
        source, _ = load_trace(resample)
        trace = draw(source, num_requests, request_rate, arrivals=arrivals or "poisson", seed=seed)
    else:
        named = named_workload(workload)
        trace = named.generate(
            num_requests, request_rate, arrivals=arrivals or named.default_arrivals, seed=seed
        )
    if trace.closed_loop_users is not None:
        raise InputError(f"--arrivals {arrivals}: a trace file has fixed arrivals; a closed loop needs a run")
    _write(_with_predictions(trace, predictor, seed), output)


@trace_command.command()
@click.argument("source", type=click.Path(path_type=Path))
@format_option
@time_unit_option
@hash_block_option
@columns_option
@window_option
@click.option("--max-requests", type=click.IntRange(min=1), help="Keep the first ones only.")
@rate_option
@click.option("--arrivals", help="Replace the arrivals by poisson, gamma(cv=2), uniform or burst ones.")
@click.option("--tokenizer", help="A Hugging Face tokenizer, for formats that hold text.")
@click.option("--predictor", help="Add score, predicted_class and predicted_length, as in emulated(tau=0.5).")
@seed_option
@skip_option
@output_option
@overwrite_option
def convert(
    source: Path,
    format_: str | None,
    time_unit: str | None,
    hash_block_size: int | None,
    columns: str | None,
    trace_window: str | None,
    max_requests: int | None,
    request_rate: float | None,
    arrivals: str | None,
    tokenizer: str | None,
    predictor: str | None,
    seed: int,
    skip_invalid: bool,
    output: Path,
    overwrite: bool,
) -> None:
    """Write a trace of a public format as our JSON Lines."""
    _spare(source, output, overwrite)
    count_tokens = estimate_tokens if tokenizer is None else _tokenizer(tokenizer)
    loaded = load_trace(
        source, format=format_, skip_invalid=skip_invalid, count_tokens=count_tokens, time_unit=time_unit,
        hash_block_size=hash_block_size, columns=None if columns is None else renamed(columns),
    )  # fmt: skip
    trace = _windowed(loaded, trace_window)
    if max_requests is not None and max_requests < len(trace):
        import numpy as np

        trace = trace.take(np.arange(max_requests))
    if arrivals is not None:
        from simsched.workload.arrivals import Arrivals
        from simsched.workload.starts import with_arrivals

        process = Arrivals.parse(arrivals)
        if process.users is not None:
            raise InputError(
                f"--arrivals {arrivals}: a trace file has fixed arrivals; a closed loop needs a run"
            )
        trace = with_arrivals(trace, arrivals, request_rate, seed)
    elif request_rate is not None:
        trace = rescale(trace, request_rate)
    _write(_with_predictions(trace, predictor, seed), output)


@trace_command.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list with one entry a trace.")
@format_option
@time_unit_option
@hash_block_option
@columns_option
@window_option
@skip_option
def stats(
    sources: tuple[Path, ...],
    as_json: bool,
    format_: str | None,
    time_unit: str | None,
    hash_block_size: int | None,
    columns: str | None,
    trace_window: str | None,
    skip_invalid: bool,
) -> None:
    """Describe traces: load, lengths, shared prefixes."""
    from simsched.workload.stats import describe

    figures = []
    for source in sources:
        loaded = load_trace(
            source, format=format_, skip_invalid=skip_invalid, time_unit=time_unit,
            hash_block_size=hash_block_size, columns=None if columns is None else renamed(columns),
        )  # fmt: skip
        trace = _windowed(loaded, trace_window)
        if (drift := drift_note(trace)) is not None:
            click.echo(drift, err=True)
        figures.append(describe(trace))
    if as_json:
        click.echo(json.dumps(figures, indent=2))
    else:
        _print_table(figures)


@trace_command.command()
@click.argument("name", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write. [default: its own name]"
)
@click.option("--url-base", help="Another server that has the same paths.")
@click.option("--sha256", help="The checksum to expect.")
@click.option("--no-verify", is_flag=True, help="Keep the file whatever its checksum.")
@click.option("--list", "list_them", is_flag=True, help="List the traces known by name.")
def fetch(
    name: str | None,
    output: Path | None,
    url_base: str | None,
    sha256: str | None,
    no_verify: bool,
    list_them: bool,
) -> None:
    """Download a public trace by name and check it."""
    from simsched.workload.fetch import PUBLIC_TRACES
    from simsched.workload.fetch import fetch as download

    if list_them:
        for known, public in PUBLIC_TRACES.items():
            click.echo(f"{known:24}{public.about} ({public.licence})")
        return
    if name is None:
        raise InputError(f"trace fetch: expected a name: {', '.join(PUBLIC_TRACES)}")
    public_name = PUBLIC_TRACES[name].path if name in PUBLIC_TRACES else name
    path = output if output is not None else Path(Path(public_name).name)
    with _Bar(name) as bar:
        found = download(
            name, path, url_base=url_base, sha256=sha256, verify=not no_verify, progress=bar.update
        )
    click.echo(f"{path}: sha256 {found}", err=True)


class _Bar:
    """A bar on stderr that learns its length with the first bytes."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, total: int | None) -> None:
        self._bar.update(self._task, completed=done, total=total)


def _spare(source: Path, output: Path, overwrite: bool) -> None:
    """Refuse to write onto the trace that is read, unless that is wanted."""
    try:
        same = output.samefile(source)
    except OSError:
        return  # one of the two is not there, or cannot be looked at: reading and writing will say so
    if same and not overwrite:
        raise InputError(f"--output {output}: this is the trace that is read; --overwrite replaces it")


def _with_predictions(trace: Trace, predictor: str | None, seed: int) -> Trace:
    if predictor is None:
        return trace
    from simsched.policies.base import Reads
    from simsched.predictors.spec import predict_column

    columns: tuple[Reads, ...] = ("score", "predicted_class", "predicted_length")
    for column in columns:
        trace, line = predict_column(predictor, column, trace, seed=seed)
        click.echo(line, err=True)
    return trace


def _tokenizer(name: str) -> Callable[[str], int]:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise InputError("--tokenizer: needs transformers: pip install 'simsched[train]'") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"--tokenizer {name}: cannot load it: {str(error).splitlines()[0]}") from None
    return lambda text: len(tokenizer.encode(text))


def _windowed(loaded: Loaded, window: str | None) -> Trace:
    """The trace, in its window where one is given; says what was taken for what, and dropped."""
    trace, counts = loaded
    _report(trace, counts)
    return trace if window is None else cut(trace, Window.parse(window))


def _report(trace: Trace, counts: dict[str, int]) -> None:
    for note in (*trace.notes, *row_notes(trace, counts)):
        click.echo(note, err=True)


def _write(trace: Trace, output: Path) -> None:
    write_trace(trace, output)
    click.echo(f"{output}: {counted(len(trace), 'request')}", err=True)


def _print_table(figures: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("")
    for trace in figures:
        table.add_column(str(trace["name"]), justify="right")

    def row(label: str, show: Callable[[dict[str, Any]], str]) -> None:
        table.add_row(label, *(show(trace) for trace in figures))

    row("requests", lambda t: f"{t['num_requests']:,}")
    waits = any("think_time" in trace["columns"] for trace in figures)
    timed = "duration (s), of timestamps" if waits else "duration (s)"
    row(timed, lambda t: f"{t['duration']:,.1f}")
    row("rate (req/s)", lambda t: _or_dash(t["request_rate"], ".3g"))
    row("rate, median tenth", lambda t: _or_dash(t["median_rate"], ".3g"))
    row("rate, busiest tenth", lambda t: _or_dash(t["peak_rate"], ".3g"))
    row("CV of arrival gaps", lambda t: _or_dash(t["arrival_cv"], ".2f"))
    if any(trace["sessions"] is not None for trace in figures):
        row("sessions", lambda t: _of_sessions(t, "num_sessions", ","))
        row("sessions started (1/s)", lambda t: _of_sessions(t, "session_rate", ".3g"))
        for key, label, form in (
            ("turns", "turns a session", ",.1f"),
            ("think_time", "think time (s)", ",.2f"),
        ):
            for figure in ("mean", "median", "p90", "p99", "max"):
                row(
                    f"{label}, {figure}",
                    lambda t, k=key, d=form, f=figure: _of_sessions(t, k, d, f),  # type: ignore[misc]
                )
    for key, label in (("input_length", "prompt tokens"), ("output_length", "output tokens")):
        for figure in ("mean", "median", "p90", "p99", "max"):
            row(f"{label}, {figure}", lambda t, k=key, f=figure: f"{t[k][f]:,.0f}")  # type: ignore[misc]
    row("prompt tokens shared before", lambda t: _or_dash(t["shared_prefix"], ".1%"))
    row("further columns", lambda t: "\n".join(t["columns"]) or "–")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _of_sessions(trace: dict[str, Any], key: str, form: str, figure: str | None = None) -> str:
    found = (trace["sessions"] or {}).get(key)
    return _or_dash(found if figure is None or found is None else found[figure], form)


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
