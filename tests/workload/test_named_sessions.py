"""Named workloads of sessions: their published figures, and that a session is one conversation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.sweep.plan import make_plan
from simsched.sweep.requests import requests_of
from simsched.sweep.study import make_study
from simsched.workload.content import contents
from simsched.workload.named import named_workload
from simsched.workload.named_sessions import SessionWorkload
from simsched.workload.starts import last_start
from simsched.workload.trace import Trace

NAMES = ("chat-sessions", "vllm-multi-turn", "coding-agent")


def sessions(name: str) -> SessionWorkload:
    found = named_workload(name)
    assert isinstance(found, SessionWorkload)
    return found


def by_session(trace: Trace) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    assert trace.session_id is not None
    for row, session in enumerate(trace.session_id):
        rows.setdefault(str(session), []).append(row)
    return rows


@pytest.mark.parametrize(
    ("name", "turns", "output", "think"),
    [
        ("chat-sessions", 3.5, 412, 100),
        ("chat-sessions(turns=2,think_time=30)", 2.0, 412, 30),
        ("vllm-multi-turn", 54 / 7, 100, 0),
        ("coding-agent", 40, 523, 1),
        ("coding-agent(turns=10)", 10, 523, 1),
    ],
)
def test_published_figures(name: str, turns: float, output: float, think: float) -> None:
    workload = sessions(name)
    counts = workload.turns.sample(np.random.default_rng(0), 100_000)
    assert counts.mean() == pytest.approx(turns, rel=0.03)  # rounded to whole turns
    made = workload.generate(100_000, seed=3)
    # where sessions end early, long answers are rarer
    assert made.num_output_tokens.mean() == pytest.approx(output, rel=0.03)
    assert made.think_times is not None
    assert np.nanmedian(made.think_times) == pytest.approx(think, rel=0.03)


def test_the_agents_steps_add_what_was_published() -> None:
    drawn = sessions("coding-agent").added.sample(np.random.default_rng(0), 200_000)
    assert np.percentile(drawn, [50, 90, 99]) == pytest.approx([793, 3700, 12_800], rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_is_all_that_was_said_and_more(name: str) -> None:
    workload = sessions(name)
    made = workload.generate(3000, arrivals="sessions(2)", seed=1)
    assert len(made) == 3000
    assert made.think_times is not None
    prompts, outputs = made.num_prompt_tokens, made.num_output_tokens
    assert (prompts + outputs).max() <= workload.longest
    first = [rows[0] for rows in by_session(made).values()]
    assert np.isnan(made.think_times).nonzero()[0].tolist() == first
    assert (np.diff(made.arrival_time[first]) > 0).all()
    paths = contents(made)
    assert paths is not None
    for rows in by_session(made).values():
        for before, after in pairwise(rows):
            said = prompts[before] + outputs[before]
            assert prompts[after] > said
            # all of it, and then the turn's own
            assert [*paths[before], paths[after][-1]] == paths[after]
            assert paths[before][-1].end == said
    if workload.shared:
        assert {(paths[row][0].node, paths[row][0].end) for row in first[1:]} == {(0, workload.shared)}


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_trace_begins_with_the_shorter_one(name: str) -> None:
    short, long = (sessions(name).generate(n, arrivals="sessions(rate=3)", seed=7) for n in (500, 4000))
    head = long.take(np.arange(500))
    for column in ("arrival_time", "num_prompt_tokens", "num_output_tokens", "think_times"):
        np.testing.assert_array_equal(getattr(head, column), getattr(short, column))
    assert head.session_id == short.session_id
    other = sessions(name).generate(500, arrivals="sessions(rate=3)", seed=8)
    assert not np.array_equal(other.num_output_tokens, short.num_output_tokens)


def test_sessions_start_at_their_rate_or_are_so_many() -> None:
    made = sessions("chat-sessions").generate(20_000, arrivals="sessions(rate=4)", seed=0)
    starts = made.arrival_time[[rows[0] for rows in by_session(made).values()]]
    assert len(starts) / starts[-1] == pytest.approx(4, rel=0.03)
    alive = sessions("chat-sessions").generate(100, arrivals="users(5)", seed=0)
    assert alive.closed_loop_users == 5
    assert not alive.arrival_time.any()


def test_a_duration_is_when_sessions_start() -> None:
    study = make_study(
        {"workload": "chat-sessions", "arrivals": "sessions(2)", "duration": 500, "policy": "fcfs"}
    )
    (cell,) = make_plan(study).cells.values()
    made, _ = requests_of(cell.load)
    assert made.arrival_time[-1] == pytest.approx(500, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_a_request_rate_counts_turns(name: str) -> None:
    workload = sessions(name)
    made = workload.generate(600, 7.0, arrivals="sessions", seed=2)
    same = workload.generate(600, arrivals=f"sessions(rate={7.0 / workload.mean_turns!r})", seed=2)
    assert made.arrival_time.tolist() == same.arrival_time.tolist()
    assert len(made) / last_start(made) == pytest.approx(7.0, rel=0.5)  # 16 sessions or more


def test_a_run_at_a_share_of_the_capacity_starts_as_many_sessions() -> None:
    """With no arrivals given; in the grid's units, so that loads compare."""
    study = make_study({"workload": "chat-sessions", "request_rate": ["0.5x"], "policy": "fcfs"})
    plan = make_plan(study)
    (name,) = plan.cells
    load = plan.cells[name].load
    assert load.arrivals == "sessions"
    assert load.request_rate == pytest.approx(0.5 * plan.capacity[name], rel=1e-3)
    assert load.duration is not None
    made, _ = requests_of(load)
    assert len(made) == round(load.request_rate * load.duration)
    assert plan.offered[name] == pytest.approx(len(made) / last_start(made), rel=1e-3)
    assert last_start(made) == pytest.approx(load.duration, rel=0.1)
    # as long as others, behind the time in which think times are run in
    assert load.duration > 2.4 * sessions("chat-sessions").run_in > 5000


@pytest.mark.parametrize(
    ("spec", "arrivals", "rate", "message"),
    [
        ("chat-sessions", "poisson", 2.0, "turns of chat-sessions wait for answers; expected sessions"),
        (
            "chat-sessions",
            "sessions(2)",
            2.0,
            "--request-rate 2: sessions arrivals have a rate of their own, 2; expected sessions",
        ),
        (
            "chat-sessions",
            "sessions",
            None,
            "--request-rate in turns/s, of which chat-sessions has 3.45",
        ),
        ("chat-sessions(turns=0)", "users(2)", None, "turns=0: expected"),
        ("coding-agent(think_time=x)", "users(2)", None, "think_time=x: expected a number"),
        ("vllm-multi-turn(turns=3)", "users(2)", None, "unknown parameter turns"),
    ],
)
def test_refused(spec: str, arrivals: str, rate: float | None, message: str) -> None:
    with pytest.raises(InputError) as error:
        named_workload(spec).generate(10, rate, arrivals=arrivals)
    assert message in str(error.value)
