"""The clock of asynchronous scheduling, against the recursion as it is written down, in absolute times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.alone import alone_time
from simsched.cost_model.base import StepFeatures
from simsched.cost_model.host import Graphs, HostCost, HostedCost, LaunchMode
from simsched.cost_model.models import LinearCost, TableCost
from simsched.engine.clock import DeviceClock
from simsched.engine.config import engine_config
from simsched.engine.host_clock import HostClock
from simsched.engine.simulator import simulate
from simsched.engine.step_cost import SerialCost
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.routers.base import Replicas, RoutedRequest, Router
from simsched.sweep.capacity import capacity
from tests.engine.scenarios import same, trace

HOST = HostCost(
    full=0.004,
    piecewise=0.0121,
    none=0.0305,
    per_sequence=5.1e-5,
    per_chunk=3e-4,
    per_prefill_token=1e-6,
    before_first_kernel=(0.0031, 0.91),
    output_per_sequence=2.13e-5,
    tail=0.0034,
    copy=0.00026,
)
DEVICE = TableCost(knots=(1, 307, 8192), g=(0.00627, 0.00627, 0.1671), c=4.6e-8, d=1.8e-9, h=8.5e-6)
CAPTURE = Graphs().capture(256, 2048)
COST = HostedCost(device=DEVICE, host=HOST)


def recursion(
    host: HostCost, batches: list[StepFeatures], idle: list[bool]
) -> tuple[list[float], list[float]]:
    """Seconds of each step as the engine and the users see it, and whether the host decided its end.

    `idle[k]`: batch k is formed with nothing under way, so that batch k - 1 had none launched behind it.
    """
    device = DEVICE.on_graphs(CAPTURE.sizes_of)
    durations, bound = [], []
    last = 0.0  # e(k-1)
    out = 0.0  # o(k-1)
    finished, launched, begins = -inf, 0.0, 0.0  # F(k-1), launched(k), when the first kernel of k may run
    for k, batch in enumerate(batches):
        mode = CAPTURE.mode(batch)
        H, h0, G = host.launch(batch, mode), host.before(batch, mode), device.step_time(batch)
        if idle[k]:
            last, out = last + out, 0.0  # the step begins when the outputs are out
            finished, launched, begins = -inf, last + H, last + h0
            turns_to_next = launched
        else:
            turns_to_next = last
        done = max(finished, begins) + G
        if mode is not LaunchMode.FULL:
            done = max(done, launched + host.tail)
        end = max(done + host.copy, turns_to_next, last + out)
        if k + 1 < len(batches) and not idle[k + 1]:
            following = batches[k + 1]
            next_mode = CAPTURE.mode(following)
            launched = turns_to_next + max(host.launch(following, next_mode), out)
            begins = turns_to_next + host.before(following, next_mode)
            end = max(end, launched)
        bound.append(float(end > done + host.copy))
        durations.append(end + host.output(batch) - (last + out))
        last, out, finished = end, host.output(batch), done
    return durations, bound


@st.composite
def batches(draw: st.DrawFn) -> list[StepFeatures]:
    chosen = []
    for _ in range(draw(st.integers(1, 40))):
        N = draw(st.integers(0, 256))
        P, S = draw(st.sampled_from([(0, 0), (0, 0), (1, 1), (30, 1), (400, 3), (1700, 2)]))
        if not N and not S:
            N = 1
        chosen.append(StepFeatures(P, N, S, K=N * draw(st.integers(1, 4000)), Q=P * P / 2))
    return chosen


@settings(deadline=None)
@given(
    steps=batches(),
    pauses=st.lists(st.integers(0, 9), min_size=40, max_size=40),
    speed=st.sampled_from([0.1, 0.7, 1.0, 3.0]),
)
def test_the_clock_is_the_recursion(steps: list[StepFeatures], pauses: list[int], speed: float) -> None:
    host = replace(HOST, speed=speed)
    idle = [k == 0 or pauses[k] == 0 for k in range(len(steps))]
    expected, bound = recursion(host, steps, idle)
    clock = HostClock(DEVICE, host, CAPTURE)
    durations = []
    for k, step in enumerate(steps):
        if idle[k]:
            assert clock.begin(step) == host.launch(step, CAPTURE.mode(step))
        follows = k + 1 < len(steps) and not idle[k + 1]
        durations.append(clock.step(step, steps[k + 1] if follows else None))
    np.testing.assert_allclose(durations, expected, rtol=1e-9, atol=1e-12)
    assert min(durations) >= 0
    assert clock.host_bound == pytest.approx(np.dot(expected, bound), rel=1e-9, abs=1e-12)


def test_where_the_launch_is_hidden_a_decode_takes_what_the_device_takes() -> None:
    clock = HostClock(DEVICE, HOST, CAPTURE)
    step = StepFeatures(N=100, K=100_000)
    clock.begin(step)
    times = [clock.step(step, step) for _ in range(5)]
    assert times[-1] == DEVICE.on_graphs(CAPTURE.sizes_of).step_time(step)
    assert HOST.launch(step, LaunchMode.FULL) < times[-1]


def test_where_the_host_is_slow_a_decode_takes_its_launch() -> None:
    host = replace(HOST, speed=2.0)
    clock = HostClock(DEVICE, host, CAPTURE)
    step = StepFeatures(N=100, K=10_000)
    clock.begin(step)
    assert [clock.step(step, step) for _ in range(5)][-1] == host.launch(step, LaunchMode.FULL)


def test_a_prefill_shows_in_the_step_before_it() -> None:
    """The launch of a batch without graphs outlasts the decodes that the device computes meanwhile."""
    decode, prefill = StepFeatures(N=3, K=900), StepFeatures(P=700, N=3, S=2, K=900, Q=1e5)
    clock = HostClock(DEVICE, HOST, CAPTURE)
    clock.begin(decode)
    for _ in range(3):
        clock.step(decode, decode)
    assert clock.step(decode, prefill) == pytest.approx(HOST.launch(prefill, LaunchMode.NONE))


def test_without_host_times_steps_take_what_the_device_takes() -> None:
    cost = LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9)
    clock = DeviceClock(cost, predictor_time=0.001)
    step = StepFeatures(P=100, N=3, S=1, K=900, Q=5000.0, num_predicted=2)
    assert clock.begin(step) == 0.0
    assert clock.step(step, step) == cost.step_time(step) + 0.002


def test_an_estimate_of_capacity_and_of_the_time_alone() -> None:
    """Both agree with what is simulated."""
    config = engine_config(num_gpu_blocks=5000, max_model_len=1500, async_scheduling=True)
    for speed in (0.2, 1.0, 3.0):
        cost = replace(COST, host=replace(HOST, speed=speed))
        apart = trace(12, 1.0, 5).with_columns(arrival_time=np.arange(12) * 60.0)
        record = simulate(apart, make_policy("fcfs"), cost, config)
        alone = alone_time(apart, cost, config)
        np.testing.assert_allclose(record.finish_time - record.arrival_time, alone, rtol=0.05, atol=0.02)
    crowd = trace(1500, 0.0, 5)
    for cost in (COST, replace(COST, host=replace(HOST, speed=3.0))):
        small = engine_config(max_num_seqs=64, num_gpu_blocks=5000, max_model_len=1500, async_scheduling=True)
        record = simulate(crowd, make_policy("fcfs"), cost, small)
        assert len(crowd) / record.end_time == pytest.approx(capacity(crowd, cost, small).rate, rel=0.08)


def test_the_share_of_the_host() -> None:
    config = engine_config(num_gpu_blocks=500, max_model_len=1500, async_scheduling=True)
    work = trace(60, 20.0, 2)

    def share(speed: float, leap: bool) -> float:
        cost = replace(COST, host=replace(HOST, speed=speed))
        return simulate(work, make_policy("fcfs"), cost, config, leap=leap).host_bound_share

    assert share(0.01, True) < 0.01
    assert 0.05 < share(1.0, True) < 0.5
    assert share(20.0, True) > 0.98
    assert share(1.0, True) == pytest.approx(share(1.0, False), rel=1e-9)
    assert np.isnan(simulate(work, make_policy("fcfs"), DEVICE, config).host_bound_share)


@pytest.mark.parametrize("speed", [0.05, 1.0, 4.0])
def test_the_share_of_the_host_in_sequence(speed: float) -> None:
    """It is what the run takes longer by when the host does: of a burst, whose schedule knows no time."""
    config = engine_config(num_gpu_blocks=200, max_num_seqs=8, max_model_len=1500)
    work = trace(60, 0.0, 2)

    def run(speed: float, leap: bool = True) -> RunRecord:
        cost = replace(COST, host=replace(HOST, speed=speed, tail=0.0, copy=0.0))
        return simulate(work, make_policy("fcfs"), cost, config, leap=leap)

    shares = [run(speed, leap).host_bound_share for leap in (True, False)]
    longer = (run(speed * (1 + 1e-6)).end_time / run(speed).end_time - 1) / 1e-6
    assert shares == pytest.approx([longer, longer], rel=1e-4)


@dataclass(eq=False)
class AllButTheFirst(Router):
    """The first request has a replica of its own."""

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._sent = 0

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        self._sent += 1
        return int(self._sent == 1)


@pytest.mark.parametrize("ahead", [True, False])
def test_shares_of_replicas_are_weighed_by_their_time(ahead: bool) -> None:
    config = engine_config(num_gpu_blocks=500, max_model_len=1500, async_scheduling=ahead)
    work = trace(60, 20.0, 2)
    parts = [work.take(np.array([0])), work.take(np.arange(1, 60))]
    runs = [simulate(each, make_policy("fcfs"), COST, config) for each in parts]
    both = simulate(work, make_policy("fcfs"), COST, config, num_replicas=2, router=AllButTheFirst())
    busy = [run.end_time - part.arrival_time[0] for run, part in zip(runs, parts, strict=True)]
    expected = np.average([run.host_bound_share for run in runs], weights=busy)
    assert both.host_bound_share == pytest.approx(expected, rel=1e-9)


def test_who_arrives_while_the_first_step_is_launched_is_in_the_second() -> None:
    """With nothing under way the next step is formed when the first one has been launched, after 30.5 ms."""
    arrivals = [0.0, 0.02, 0.04]
    work = trace(3, 1.0, 0).with_columns(
        arrival_time=np.array(arrivals), num_prompt_tokens=np.full(3, 600), num_output_tokens=np.full(3, 5)
    )
    steps: list[dict[str, object]] = []
    config = engine_config(num_gpu_blocks=500, max_model_len=1500, async_scheduling=True)
    simulate(work, make_policy("fcfs"), COST, config, step_log=steps.append)
    assert [sorted(step["scheduled"]) for step in steps[:3]] == [["0"], ["0", "1"], ["0", "1", "2"]]  # type: ignore[call-overload]
    simulate(work, make_policy("fcfs"), DEVICE, config, step_log=steps.append)
    assert steps[1]["time"] == pytest.approx(steps[0]["step_time"])


def test_synchronous_steps_put_host_and_device_in_sequence() -> None:
    serial = SerialCost(COST, engine_config(num_gpu_blocks=500, max_model_len=1500))
    device = DEVICE.on_graphs(CAPTURE.sizes_of)
    decode = StepFeatures(N=100, K=100_000)
    first = 0.0031 + 0.91 * 100 * 5.1e-5
    assert serial.step_time(decode) == pytest.approx(first + device.step_time(decode) + 0.00026)
    base, slope = serial.decode_line(100, 0)
    assert base + slope * 100_000 == serial.step_time(decode)
    small = StepFeatures(P=600, S=1, Q=600 * 300.0)  # its launch outlasts the device
    assert serial.step_time(small) == pytest.approx(0.0305 + 3e-4 + 600e-6 + 0.0034 + 0.00026)


@pytest.mark.parametrize("policy", ["fcfs", "srtf", "mlfq"])
def test_synchronous_leaping_equals_stepping_with_a_host(policy: str) -> None:
    work, config = trace(80, 20.0, 1), engine_config(num_gpu_blocks=300, max_model_len=1500)
    stepped = simulate(work, make_policy(policy), COST, config, leap=False)
    same(stepped, simulate(work, make_policy(policy), COST, config))


def test_jitter_has_a_seed_and_touches_no_full_graph() -> None:
    work = trace(60, 20.0, 2)
    config = engine_config(num_gpu_blocks=500, max_model_len=1500, async_scheduling=True)
    noisy = replace(COST, host=replace(HOST, sd=0.2))

    def run(cost: HostedCost, seed: int) -> float:
        return simulate(work, make_policy("fcfs"), cost, config, seed=seed).end_time

    assert run(noisy, 0) == run(noisy, 0)
    assert len({run(noisy, 0), run(noisy, 1), run(COST, 0)}) == 3
    assert run(COST, 0) == run(COST, 1)
    decode = StepFeatures(N=10, K=900)
    clocks = [HostClock(DEVICE, host, CAPTURE, seed=5) for host in (HOST, noisy.host)]
    assert clocks[0].begin(decode) == clocks[1].begin(decode)
