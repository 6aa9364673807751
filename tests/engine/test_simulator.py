"""The clock, arrivals, predictor time, and what is refused."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from simsched.engine.admissible import check_admissible
from simsched.engine.config import engine_config
from simsched.engine.simulator import Watch, simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.routers.spec import make_router
from simsched.workload.trace import FloatArray, Trace
from tests.engine.scenarios import STEP_KEYS, Linear, trace

CONFIG = engine_config(num_gpu_blocks=500, max_model_len=2048)


def requests(arrivals: list[float], prompts: list[int], outputs: list[int], **columns: Any) -> Trace:
    return Trace(np.array(arrivals), np.array(prompts), np.array(outputs), **columns)


def run(work: Trace, spec: str = "fcfs", **options: Any) -> tuple[RunRecord, list[dict[str, Any]]]:
    log: list[dict[str, Any]] = []
    config = options.pop("config", CONFIG)
    record = simulate(work, make_policy(spec), Linear(), config, step_log=log.append, **options)
    return record, log


def test_one_request_by_hand() -> None:
    cost = Linear()
    record, log = run(requests([2.0], [100], [3]))
    prefill = cost.t0 + cost.a * 100 + cost.d * 100 * 50
    decodes = [cost.t0 + cost.b + cost.c * context for context in (101, 102)]
    assert [line["scheduled"] for line in log] == [{"0": 100}, {"0": 1}, {"0": 1}]
    assert record.first_scheduled_time[0] == 2.0
    assert record.first_token_time[0] == pytest.approx(2 + prefill)
    assert record.finish_time[0] == pytest.approx(2 + prefill + sum(decodes))
    assert record.max_itl[0] == pytest.approx(decodes[1])
    assert record.itl.count == 2
    assert record.itl.mean == pytest.approx(sum(decodes) / 2)
    assert log[0].keys() == STEP_KEYS
    assert [line["kv_blocks_used"] for line in log] == [7, 7, 7]


def test_an_arrival_during_a_step_is_seen_after_it() -> None:
    _, log = run(requests([0.0, 0.001], [100, 50], [3, 3]))
    assert [line["scheduled"] for line in log[:2]] == [{"0": 100}, {"0": 1, "1": 50}]


def test_gaps_of_a_preempted_request_are_its_own() -> None:
    """Two requests outgrow the cache: the later one waits, and the wait is its longest gap."""
    config = engine_config(num_gpu_blocks=12, max_model_len=176, enable_prefix_caching=False)
    record, log = run(requests([0.0, 0.0], [60, 60], [60, 60]), config=config)
    assert record.num_preemptions.tolist() == [0, 1]
    assert sum(len(line["preempted"]) for line in log) == 1
    assert record.max_itl[1] > 10 * record.max_itl[0]
    assert record.itl.count == 118
    total = record.finish_time - record.first_token_time
    assert record.itl.total == pytest.approx(total.sum(), rel=1e-9)


def test_gaps_sum_to_the_time_between_first_and_last_token() -> None:
    config = engine_config(max_num_seqs=16, num_gpu_blocks=160, max_model_len=2048)
    for spec in ("fcfs", "priority", "srtf", "mlfq"):
        record = simulate(trace(80, 30.0, 4), make_policy(spec), Linear(), config)
        total = (record.finish_time - record.first_token_time).sum()
        assert record.num_preemptions.sum() > 0
        assert record.itl.total == pytest.approx(total, rel=1e-9)
        assert record.itl.count == (record.trace.num_output_tokens - 1).sum()


def test_predictor_time_lengthens_the_step_in_which_a_request_is_first_seen() -> None:
    work = requests([0.0, 0.0, 1.0], [100, 100, 100], [5, 5, 5], score=np.zeros(3))
    plain, _ = run(work, "ranking")
    slower, log = run(work, "ranking", predictor_time=0.25)
    assert slower.first_token_time[0] == pytest.approx(plain.first_token_time[0] + 0.5)
    assert slower.first_token_time[2] == pytest.approx(plain.first_token_time[2] + 0.25)
    assert log[0]["step_time"] > 0.5


def test_closed_loop_users_wait_for_their_answers() -> None:
    work = trace(30, 0.0, 6, closed_loop_users=3, think_time=0.5)
    record, log = run(work)
    assert record.finished.all()
    assert max(line["num_running"] + line["num_waiting"] for line in log) == 3
    assert record.arrival_time[:3].tolist() == [0.0, 0.0, 0.0]
    finished = np.sort(record.finish_time)[: len(work) - 3]
    assert np.sort(record.arrival_time)[3:] == pytest.approx(finished + 0.5)


def test_nothing_runs_in_an_empty_trace() -> None:
    record, log = run(requests([], [], []))
    assert (record.num_steps, log) == (0, [])


def test_priority_ties_go_by_arrival_then_by_id() -> None:
    """vLLM's heap compares ids as text: "10" comes before "9"."""
    ids = ["9", "10", "8"]
    work = requests(
        [0.0] * 3, [30] * 3, [2] * 3, request_id=ids, priority=np.array([1, 1, 0], dtype=np.int64)
    )
    _, log = run(work, "priority", config=engine_config(max_num_seqs=1, num_gpu_blocks=50, max_model_len=64))
    assert [next(iter(line["scheduled"])) for line in log[::2]] == ["8", "10", "9"]


def test_what_never_fits_is_refused_dropped_or_cut() -> None:
    work = requests([0.0, 1.0, 2.0], [100, 3000, 100], [10, 10, 1990], request_id=["a", "b", "c"])
    with pytest.raises(InputError, match=r"2 of 3 requests can never be scheduled; the first is b with 3000"):
        check_admissible(work, CONFIG)
    kept, counts = check_admissible(work, CONFIG, skip_invalid=True)
    assert (kept.request_ids(), counts) == (
        ["a"],
        {"dropped: over 2048 tokens in all (max_model_len 2048)": 2},
    )
    cut, counts = check_admissible(work, CONFIG, truncate=True)
    assert counts == {"truncated: over 2048 tokens in all (max_model_len 2048)": 2}
    assert (cut.num_prompt_tokens + cut.num_output_tokens).tolist() == [110, 2048, 2048]
    assert cut.num_output_tokens[1] == 1
    assert simulate(cut, make_policy("fcfs"), Linear(), CONFIG).finished.all()


def test_the_cache_limits_what_fits() -> None:
    config = engine_config(num_gpu_blocks=11, max_model_len=2048)
    most = 10 * 16 + 1  # the last token needs no block
    check_admissible(requests([0.0], [100], [most - 100]), config)
    with pytest.raises(InputError, match="10 usable KV blocks"):
        check_admissible(requests([0.0], [100], [most - 99]), config)


def test_a_request_as_large_as_the_cache_still_finishes() -> None:
    config = engine_config(num_gpu_blocks=11, max_model_len=2048, watermark=0.5)
    work = requests([0.0, 0.0], [100, 100], [61, 61])
    for leap in (True, False):
        assert simulate(work, make_policy("fcfs"), Linear(), config, leap=leap).finished.all()


@pytest.mark.parametrize(("num_replicas", "router"), [(1, None), (2, "round-robin"), (2, "least-requests")])
def test_a_watch_sees_what_has_finished_and_may_end_the_run(num_replicas: int, router: str | None) -> None:
    """It is asked at its times, in order, sees what the whole run says of them, and changes nothing."""
    work = trace(60, 20.0, 3)
    options: dict[str, Any] = {"num_replicas": num_replicas}
    if router is not None:
        options["router"] = make_router(router)

    def simulated(watch: Watch | None) -> RunRecord:
        again = {**options, "router": make_router(router)} if router is not None else options
        return simulate(work, make_policy("fcfs"), Linear(), CONFIG, watch=watch, **again)

    whole = simulated(None)
    times = tuple(np.quantile(whole.finish_time, [0.2, 0.5, 0.8]).tolist())
    asked: list[float] = []

    def look(last: float, now: float, arrival: FloatArray, finish: FloatArray) -> bool:
        asked.append(now)
        assert arrival.tolist() == whole.arrival_time.tolist()
        known = np.isfinite(finish)
        assert finish[known].tolist() == whole.finish_time[known].tolist()
        assert known[whole.finish_time < now].all()
        return now >= last

    seen = simulated(Watch(times, partial(look, math.inf)))
    assert asked == list(times)
    assert seen.finish_time.tolist() == whole.finish_time.tolist()
    asked.clear()
    cut = simulated(Watch(times, partial(look, times[1])))
    assert asked == list(times[:2])
    finished = np.isfinite(cut.finish_time)
    assert finished[whole.finish_time < times[1]].all()
    assert cut.finish_time[finished].tolist() == whole.finish_time[finished].tolist()
