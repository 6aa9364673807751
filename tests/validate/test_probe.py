"""The probe workload on the simulator's scheduler: its batches, on a GPU's engine and on a small one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.host import Graphs, LaunchMode
from simsched.engine.arrival import arrivals_of
from simsched.engine.config import ResolvedConfig, engine_config
from simsched.engine.recorder import Recorder
from simsched.engine.vllm_v1.stepping import VllmV1
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace
from validate.offline_engine import _trace_of
from validate.probe import Block, make_half, marker
from validate.probe_player import play_blocks

GPU = engine_config(
    max_num_seqs=256, max_num_batched_tokens=2048, num_gpu_blocks=29_005, max_model_len=8192, block_size=16
)
SMALL = engine_config(
    max_num_seqs=16, max_num_batched_tokens=256, num_gpu_blocks=140, max_model_len=1024, block_size=32
)


class Simulated:
    """The simulator's scheduler, stepped; a step takes about what it takes on an H100."""

    def __init__(self, trace: Trace, config: ResolvedConfig) -> None:
        self._scheduler = VllmV1(make_policy("fcfs"), config, Recorder(len(trace)))
        self._arrivals = arrivals_of(trace)
        self._added: list[int] = []  # the scheduler numbers requests as they come
        self.time = 0.0
        self.batches: list[StepFeatures] = []
        self.preempted = 0
        self._unfinished: set[int] = set()
        self._prefilling: dict[int, int] = {}
        self._prompts = trace.num_prompt_tokens.tolist()
        self._capture = Graphs().capture(config.max_num_seqs, config.max_num_batched_tokens)

    def now(self) -> float:
        return self.time

    def add(self, request: int) -> None:
        self._scheduler.add_request(self._arrivals[request], self.time)
        self._added.append(request)
        self._unfinished.add(request)
        self._prefilling[request] = self._prompts[request]

    def step(self) -> None:
        batch = self._scheduler.schedule(self.time)
        if batch is None:
            return
        f = batch.features
        self.batches.append(f)
        self.preempted += len(batch.preempted)
        launch = (0.004, 0.0121, 0.0305)[self._capture.mode(f)] + 5.1e-5 * f.N
        device = max(6.3e-3, 2.04e-5 * self._capture.padded(f.P + f.N)) + 4.6e-8 * f.K + 1e-3 * f.S
        self.time += max(launch, device)
        for number, tokens in batch.scheduled.items():
            request = self._added[number]
            if request in self._prefilling:
                self._prefilling[request] -= tokens
                if self._prefilling[request] <= 0:
                    del self._prefilling[request]
        finished = self._scheduler.update(batch, self.time, 0.0, 0.0)
        self._unfinished -= {self._added[number] for number in finished}

    def num_unfinished(self) -> int:
        return len(self._unfinished)

    def only_decodes(self) -> bool:
        return not self._prefilling


def play(config: ResolvedConfig, half: int, limit: float = 1e9) -> tuple[Simulated, list[Block], list[str]]:
    blocks, mark = make_half(config, half), marker(config)
    made = [*blocks, *[mark] * 60]
    trace = _trace_of(made, [str(number) for number in range(len(made))])
    shares: list[list[Any]] = []
    first = 0
    for block in made:
        shares.append(list(range(first, first + block.num_requests())))
        first += block.num_requests()
    engine = Simulated(trace, config)
    ours = list(zip(blocks, shares, strict=False))
    played = play_blocks(engine, ours, shares[len(blocks) :], mark, engine, limit)  # type: ignore[arg-type]
    return engine, blocks, played


@pytest.mark.parametrize("half", [0, 1])
def test_on_a_gpu_the_batches_tell_every_term(half: int) -> None:
    engine, blocks, played = play(GPU, half)
    assert played == [block.name for block in blocks]
    assert engine.num_unfinished() == engine.preempted == 0
    assert engine.time < 45  # seconds, on an H100, roughly
    capture = Graphs().capture(256, 2048)
    modes = Counter(capture.mode(batch) for batch in engine.batches)
    assert all(modes[mode] > 100 for mode in LaunchMode)
    decodes = {batch.N for batch in engine.batches if not batch.P}
    assert len(decodes & set(range(1, 257))) > 250  # the ramps pass through nearly every number
    full = [batch for batch in engine.batches if batch.P + batch.N == 2048]
    assert len({batch.N for batch in full}) > 20  # 2,048 tokens, of ever more decodes
    assert min(batch.N for batch in full) == 0
    assert max(batch.N for batch in full) > 240
    alone = {batch.P for batch in engine.batches if not batch.N and batch.S == 1}
    assert alone >= {64, 128, 256, 384, 512, 640, 768, 1024, 1536, 2048}
    piecewise = {(b.N, b.S) for b in engine.batches if b.P and capture.mode(b) == LaunchMode.PIECEWISE}
    assert piecewise >= {(n, s) for n in (1, 64, 192) for s in (1, 4)}
    none = {(b.N, b.S) for b in engine.batches if capture.mode(b) == LaunchMode.NONE}
    assert none >= {(n, s) for n in (1, 64, 192) for s in (1, 3, 8)}
    assert max(batch.Q for batch in engine.batches) > 2048 * 4096
    columns = np.array([[b.P, b.N, b.S, b.K, b.Q, 1] for b in engine.batches], dtype=float)
    assert np.linalg.cond(columns / np.linalg.norm(columns, axis=0)) < 20  # no term hides behind another


def test_halves_have_the_same_blocks_in_other_orders() -> None:
    first, second = (make_half(GPU, half) for half in (0, 1))
    assert sorted(block.name for block in first) == sorted(block.name for block in second)
    assert [block.name for block in first] != [block.name for block in second]
    assert make_half(GPU, 0) == first
    assert make_half(GPU, 0, seed=1) != first


def test_a_small_engine_gets_what_fits() -> None:
    for half in (0, 1):
        engine, blocks, played = play(SMALL, half)
        assert played == [block.name for block in blocks]
        assert engine.num_unfinished() == engine.preempted == 0
        assert len({batch.N for batch in engine.batches if not batch.P} & set(range(1, 17))) >= 15
        assert max(batch.P + batch.N for batch in engine.batches) == 256


def test_a_marker_is_played_every_second_and_none_after_the_limit() -> None:
    engine, blocks, played = play(GPU, 0)
    markers = [batch for batch in engine.batches if (batch.P, batch.N, batch.S) == (32, 8, 1)]
    assert engine.time / 4 < len(markers) <= engine.time + 1  # blocks of more than a second have none inside
    cut, _, some = play(GPU, 0, limit=10.0)
    assert some == [block.name for block in blocks][: len(some)]
    assert 0 < len(some) < len(played)
    assert cut.time < 10 + 16  # the block that is under way is finished
