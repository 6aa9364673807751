"""`simsched capacity`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from simsched.cli._say import say
from simsched.cli.run import study_options
from simsched.errors import InputError
from simsched.text.table import counted

if TYPE_CHECKING:
    from simsched.capacity import ArmRates, ArmSize, Question, Rate
    from simsched.sweep.study import Study

_NOT_ASKED = (
    "request_rate", "duration", "num_requests", "warmup", "cooldown", "goodput", "baseline", "log_steps",
)  # fmt: skip

_LONG = 2.0  # seconds of a simulation that is worth a line


@click.command("capacity")
@study_options(without=_NOT_ASKED)
@click.option("--slo", metavar="TEXT", help='"p99_ttft<500ms,p99_tpot<50ms" or "95% ttft<500ms,tpot<50ms".')
@click.option("--by", type=click.Choice(["tenant", "class", "priority"]), help="Judge the SLO of each apart.")
@click.option("--burst", type=click.IntRange(0), default=1500, show_default=True, metavar="N",
              help="Requests of the burst that is to drain; 0: do not ask.")  # fmt: skip
@click.option("--request-rate", type=float, metavar="R", help="How many replicas serve so many requests/s?")
@click.option("--json", "json_file", metavar="FILE", help="Write the answer as JSON; - is stdout.")
@click.option("--figure", metavar="FILE", help="Draw SLO attainment against rate (PNG, SVG or PDF).")
@click.option("--data", type=click.Path(), help="Outside data, for options with $SIMSCHED_DATA in a path.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes.  [default: one per core]")
def capacity_command(
    slo: str | None,
    by: str | None,
    burst: int,
    request_rate: float | None,
    json_file: str | None,
    figure: str | None,
    data: str | None,
    jobs: int | None,
    **options: Any,
) -> None:
    """Find the largest request rate that each policy, engine or predictor can take.

    stable: an hour of arrivals from an empty engine without a growing backlog. recovers: the largest rate at
    which a burst at the start still drains; between the two an overload feeds itself. slo: the largest stable
    rate at which the objective is met. All by bisection over the same requests.

    With --request-rate, how many replicas serve a load: so many of these, dealt to at random; with --router
    the smallest number that does behind that router, all of them simulated. Of sessions, rates count turns.

    \b
    simsched capacity --policy fcfs,mlfq,ranking,srtf
    simsched capacity --max-num-seqs 128,256,512 --policy fcfs --slo "95% ttft<500ms,tpot<50ms"
    simsched capacity --policy fcfs,ranking --slo "p99_ttft<2s" --request-rate 100 --json capacity.json
    simsched capacity --policy fcfs --router least-requests,random --slo "p99_ttft<2s" --request-rate 60
    """
    from simsched.capacity import Question, arm_rates, arm_sizes
    from simsched.slo import parse_slo
    from simsched.sweep.study import make_study

    if data is not None:
        os.environ["SIMSCHED_DATA"] = data
    if request_rate is not None and not 0 < request_rate < float("inf"):
        raise InputError(f"--request-rate {request_rate:g}: expected requests/s, above 0")
    objective = parse_slo(slo) if slo is not None else None
    for option, value in (("--figure", figure), ("--by", by)):
        if value is not None and objective is None:
            raise InputError(f"{option} {value}: needs an objective (--slo)")
    if figure is not None:
        from simsched.plotting.figures import kind_of

        kind_of(figure)
    given = {name: value for name, value in options.items() if value is not None}
    question = Question(objective, burst, by)
    if "router" in given and request_rate is not None and not given.keys() & {"num_replicas", "replicas"}:
        if figure is not None:
            raise InputError(f"--figure {figure}: --router with --request-rate searches no rates to draw")
        study = make_study({"num_runs": 1, **given, "num_replicas": 1})
        sizes, notes = arm_sizes(
            study, question, request_rate, jobs=jobs, on_arm=_say_done, on_start=_say_start, on_try=_say_try
        )
        _answer(sizes, notes, question, request_rate, json_file)
        return
    study = make_study({"num_runs": 1, **given})
    rates, notes = arm_rates(
        study, question, jobs=jobs, on_arm=_say_done, on_start=_say_start, on_try=_say_try
    )
    for note in notes:
        say(note, err=True)
    if json_file != "-":
        _show(rates, question, request_rate)
    if json_file is not None:
        _write(json_file, [arm.to_dict(question, request_rate) for arm in rates])
    if figure is not None:
        _draw(figure, rates, question, study)


def _say_start(arms: int) -> None:
    say(f"{counted(arms, 'arm')} to search, each by many long simulations, which may take minutes", err=True)


def _say_try(arm: str, what: str, seconds: float) -> None:
    """A line for each simulation that one has to wait for."""
    if seconds >= _LONG:
        say(f"{arm}: {what} ({seconds:.0f} s)", err=True)


def _say_done(arm: str) -> None:
    say(f"{arm}: done", err=True)


def _show(rates: list[ArmRates], question: Question, request_rate: float | None) -> None:
    from simsched.cli._table import show_table

    several = len({arm.workload for arm in rates}) > 1
    sessions = ["sessions/s"] if any(arm.turns is not None for arm in rates) else []
    headers = ["arm", *(["workload"] if several else []), "stable req/s", "interval", *sessions]
    headers += ["recovers", "interval"] if question.burst else []
    headers += ["SLO", "interval", *sessions] if question.slo is not None else []
    groups = list(dict.fromkeys(group for arm in rates for group in arm.slo_by))
    headers += [f"SLO {group}" for group in groups]
    headers += ["replicas", "GPU h/h"] if request_rate is not None else []
    rows = []
    for arm in rates:
        row: list[Any] = [arm.name, *([arm.workload] if several else []), *_cells(arm.stable)]
        row += [arm.sessions(arm.stable)] if sessions else []
        row += _cells(arm.recovers) if question.burst else []
        row += _cells(arm.slo) if question.slo is not None else []
        row += [arm.sessions(arm.slo)] if sessions and question.slo is not None else []
        row += [arm.slo_by[group].rate if group in arm.slo_by else None for group in groups]
        if request_rate is not None:
            row += [arm.replicas(question, request_rate), arm.gpus(question, request_rate)]
        rows.append(row)
    show_table(headers, rows, left=[0, *([1] if several else [])])
    for arm in rates:
        for reason in dict.fromkeys(arm.reasons.values()):
            say(f"{arm.name}: {reason}")
    for name, turns in {arm.workload: arm.turns for arm in rates if arm.turns is not None}.items():
        say(f"{name}: requests are turns, {turns:.3g} a session in the mean")
    for arm in rates:
        if arm.stable.rate and arm.recovers.rate and arm.recovers.rate < 0.95 * arm.stable.rate:
            say(
                f"{arm.name} is metastable from {arm.recovers.rate:.3g} to {arm.stable.rate:.3g} req/s: "
                f"steady from an empty engine, but a burst of {question.burst:,} requests does not drain"
            )
    if request_rate is not None:
        what = "within the objective" if question.slo is not None else "stably"
        grouped = any(arm.num_replicas > 1 for arm in rates)
        dealt = "dealt out at random" + (" to groups of an arm's replicas" if grouped else "")
        say(
            f"replicas: to serve {request_rate:g} requests/s {what}, {dealt}; GPU h/h: GPU-hours for every "
            "hour of it"
        )


def _answer(
    sizes: list[ArmSize], notes: list[str], question: Question, request_rate: float, json_file: str | None
) -> None:
    from simsched.cli._table import show_table

    for note in notes:
        say(note, err=True)
    if json_file is not None:
        _write(json_file, [arm.to_dict(question, request_rate) for arm in sizes])
    if json_file == "-":
        return
    several = len({arm.workload for arm in sizes}) > 1
    headers = ["arm", *(["workload"] if several else []), "replicas", "GPU h/h"]
    rows = [[arm.name, *([arm.workload] if several else []), arm.replicas, arm.num_gpus] for arm in sizes]
    show_table(headers, rows, left=[0, *([1] if several else [])])
    for arm in sizes:
        if arm.reason is not None:
            say(f"{arm.name}: {arm.reason}")
    for name, turns in {arm.workload: arm.turns for arm in sizes if arm.turns is not None}.items():
        say(f"{name}: requests are turns, {turns:.3g} a session in the mean")
    what = f"with {question.slo.text}" if question.slo is not None else "without a growing backlog"
    say(
        f"replicas: the fewest that serve {request_rate:g} requests/s {what}, all behind one router; "
        "GPU h/h: GPU-hours for every hour of it"
    )


def _cells(rate: Rate) -> list[Any]:
    if rate.rate is None or rate.low is None or rate.high is None:
        return [None, ""]
    return [rate.rate, f"{rate.low:.2f} to {rate.high:.2f}"]


def _write(path: str, rows: list[dict[str, Any]]) -> None:
    import json
    from pathlib import Path

    from simsched.files import write_file

    text = json.dumps(rows, indent=1) + "\n"
    if path == "-":
        click.echo(text, nl=False)
    else:
        write_file(Path(path), text.encode())


def _draw(path: str, rates: list[ArmRates], question: Question, study: Study) -> None:
    from simsched.plotting.attainment import Attainment, AttainmentDisplay
    from simsched.plotting.figures import save
    from simsched.plotting.looks import looks_among

    slo = question.slo
    assert slo is not None
    if slo.share is None:
        raise InputError(f"--figure: {slo.text} asks for several shares; a figure has one line")
    one = len({arm.workload for arm in rates}) == 1
    names = [arm.name if one else f"{arm.name}, {arm.workload}" for arm in rates]
    chosen = [{**arm.chosen, "workload": arm.workload} for arm in rates]
    arms = [
        Attainment(
            name,
            [probe.rate for probe in arm.probes],
            [min(probe.attained.get("", (0.0,))) for probe in arm.probes],
            [probe.steady for probe in arm.probes],
        )
        for name, arm in zip(names, rates, strict=True)
    ]
    limits = ", ".join(f"{metric.upper()} {limit:g} ms" for metric, limit in slo.limits.items())
    looks = looks_among(dict(zip(names, chosen, strict=True)), chosen)
    where = ", ".join(study.workload or study.trace)
    save(AttainmentDisplay(arms, slo.share, limits, where, looks).plot().figure_, path)
    click.echo(path)
