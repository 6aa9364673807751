"""Named workloads of sessions: turns that go on from each other, from published figures.

Every source, and what is assumed where none is known, is in a workload's `source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import log, sqrt

import numpy as np

from simsched.errors import InputError
from simsched.streams import stream
from simsched.text.specs import Value, number
from simsched.workload.arrivals import Arrivals
from simsched.workload.lengths import QuantileTable, exponential, lognormal
from simsched.workload.starts import thinking_before
from simsched.workload.trace import FloatArray, IntArray, Trace

_SAMPLE = 4000  # turns


@dataclass(frozen=True)
class ThinkTime:
    """Seconds between an answer and the next turn: lognormal, cut at the longest."""

    median: float
    sigma: float
    longest: float

    def sample(self, generator: np.random.Generator, n: int) -> FloatArray:
        """n of them, one normal draw each."""
        seconds: FloatArray = np.minimum(
            self.longest, self.median * np.exp(self.sigma * generator.standard_normal(n))
        )
        return seconds


@dataclass(frozen=True)
class SessionWorkload:
    """A distribution of sessions; `generate` makes a trace of them.

    A prompt is all that was said before, prompt and answer, and new tokens.
    """

    name: str
    turns: QuantileTable
    """Of a session, before those are left out that would be longer than `longest`."""
    first: QuantileTable
    """Tokens of a session's first prompt, without `shared`."""
    added: QuantileTable
    """Tokens that each later prompt adds."""
    output: QuantileTable
    think: ThinkTime
    source: str
    longest: int
    """Most tokens of a turn, prompt and answer: a session ends before it would have more."""
    shared: int = 0
    """Tokens that all sessions begin with."""
    predictor_tau: Mapping[str, float] = field(default_factory=dict)
    """As of a `Workload`: none is published."""

    @cached_property
    def _means(self) -> tuple[float, float, float]:
        """Mean prompt, mean output (tokens) and mean turns of a session, of some thousand turns."""
        made = self.sample(_SAMPLE, 0)
        assert made.session_id is not None
        turns = len(made) / len(set(made.session_id))
        return float(made.num_prompt_tokens.mean()), float(made.num_output_tokens.mean()), turns

    @property
    def kendall_tau(self) -> float | None:
        """Of the published ranker: none is."""
        return self.predictor_tau.get("score")

    @property
    def mean_tokens(self) -> tuple[float, float]:
        """Of a turn: prompt and output."""
        return self._means[:2]

    @property
    def mean_turns(self) -> float:
        """Of a session."""
        return self._means[2]

    @cached_property
    def run_in(self) -> float:
        """Seconds after a session's start by which 99 % of all turns have come, did answers take no time."""
        return float(np.percentile(thinking_before(self.sample(_SAMPLE, 0)), 99.0))

    @property
    def default_arrivals(self) -> str:
        """Sessions start one by one; their later turns come by themselves."""
        return "sessions"

    def sample(self, num_requests: int, seed: int = 0) -> Trace:
        """So many turns of sessions that all start at 0."""
        return self._trace(num_requests, None, None, seed)

    def generate(
        self,
        num_requests: int,
        request_rate: float | None = None,
        *,
        arrivals: str = "sessions(rate=1)",
        seed: int = 0,
    ) -> Trace:
        """A trace of so many turns, session by session; the last session may be cut short.

        Args:
            num_requests: turns, at least 1.
            request_rate: turns/s that `sessions` make, once as many end as start; None: arrivals say
                themselves how many start.
            arrivals: `sessions`, `sessions(rate=R)` or `users(n)`.
            seed: the same seed gives the same sessions, and a longer trace begins with the shorter one.

        Raises:
            InputError: a number out of its bounds, or arrivals of single requests.
        """
        if num_requests < 1:
            raise InputError(f"--num-requests {num_requests}: expected at least 1")
        process = Arrivals.parse(arrivals)
        if not process.by_session:
            raise InputError(
                f"--arrivals {arrivals}: turns of {self.name} wait for answers; expected "
                "sessions, sessions(rate=R) or users(n)"
            )
        if process.rated and request_rate is None:
            raise InputError(
                f"--arrivals {arrivals}: expected --request-rate in turns/s, of which {self.name} has "
                f"{self.mean_turns:.3g} a session, or sessions(rate=R) or users(n)"
            )
        if process.rated and request_rate is not None:
            request_rate /= self.mean_turns
        return self._trace(num_requests, process, request_rate, seed)

    def _trace(
        self, num_requests: int, process: Arrivals | None, session_rate: float | None, seed: int
    ) -> Trace:
        session, prompts, outputs = self._turns(num_requests, seed)
        count = int(session[-1]) + 1
        starts = np.zeros(count) if process is None else process.times(count, session_rate, seed)
        begins = np.ones(num_requests, dtype=np.bool_)
        begins[1:] = session[1:] != session[:-1]
        thinks = self.think.sample(stream(seed, "think times"), num_requests)
        trace = Trace(
            arrival_time=starts[session],
            num_prompt_tokens=prompts,
            num_output_tokens=outputs,
            session_id=[f"s{each}" for each in session.tolist()],
            think_times=np.where(begins, np.nan, thinks),
            name=self.name,
            closed_loop_users=None if process is None else process.users,
        )
        if not self.shared:
            return trace
        # a session's first prompt begins as the first session's does, and waits for nobody
        goes_on = [("0",) if first and row else () for row, first in enumerate(begins.tolist())]
        known = np.where(begins, self.shared, -1)
        known[0] = -1
        return trace.with_columns(parent=goes_on, history_length=known)

    def _turns(self, n: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
        """(n,) of each turn the number of its session, its prompt and its output."""
        drawn = 16 + n // 4
        while True:
            counts = self.turns.sample(stream(seed, "turns"), drawn)
            session = np.repeat(np.arange(drawn), counts)
            begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
            added = self.added.sample(stream(seed, "prompts"), len(session))
            added[begins] = self.first.sample(stream(seed, "first prompts"), drawn) + self.shared
            outputs = self.output.sample(stream(seed, "outputs"), len(session))
            total = np.cumsum(added + outputs)  # of all sessions so far, and of this one:
            total -= np.repeat(total[begins] - added[begins] - outputs[begins], counts)
            fits = total <= self.longest
            if fits.sum() >= n:
                kept = np.flatnonzero(fits)[:n]
                _, dense = np.unique(session[kept], return_inverse=True)
                return dense.astype(np.int64), (total - outputs)[kept], outputs[kept]
            drawn *= 2


def chat_sessions(
    message: QuantileTable, answer: QuantileTable, turns: Value = 3.5, think_time: Value = 100
) -> SessionWorkload:
    """Conversations of people; `message` and `answer`: tokens of each turn."""
    mean = number("--workload", "chat-sessions", "turns", turns, 1.1, 20)
    pause = number("--workload", "chat-sessions", "think_time", think_time, 0, 1e6)
    return SessionWorkload(
        "chat-sessions",
        turns=exponential(mean, 1, 12 * mean),
        first=message,
        added=message,
        output=answer,
        think=ThinkTime(pause, 1.0, 36 * pause),
        source="each turn's message and answer as in sharegpt; 3.5 turns in the mean and 100 s between them "
        "in the median, with a long tail (ServeGen, arXiv 2505.09999, of conversations with several "
        "turns; LMSYS-Chat-1M and WildChat, which count single turns, have 2.0 and 2.5): "
        "an exponential and a lognormal (sigma 1), assumed; ends before 8,192 tokens",
        longest=8192,
    )


def vllm_multi_turn() -> SessionWorkload:
    """What vLLM's benchmark of conversations generates."""
    return SessionWorkload(
        "vllm-multi-turn",
        # 12 to 18 messages, rounded up to an even number: 6 to 9 of them are answered, 6 half as often
        turns=QuantileTable(
            (0, 1 / 7, 1 / 7 + 1e-9, 3 / 7, 3 / 7 + 1e-9, 5 / 7, 5 / 7 + 1e-9, 1), (6, 6, 7, 7, 8, 8, 9, 9)
        ),
        first=_first_of_vllm(),
        added=_uniform(120, 160),
        output=_uniform(80, 120),
        think=ThinkTime(0.0, 0.0, 0.0),
        source="vllm-project/vllm @ 07b13497, benchmarks/multi_turn/generate_multi_turn.json (Apache-2.0): 6 "
        "to 9 turns, 500 tokens that all share, 1,000 of a session's own (lognormal with a median of 850, at "
        "most 5,000), messages of 120 to 160 and answers of 80 to 120 tokens; no think time",
        longest=8192,
        shared=500,
    )


def coding_agent(turns: Value = 40, think_time: Value = 1.0) -> SessionWorkload:
    """Agents that call tools in a loop."""
    mean = number("--workload", "coding-agent", "turns", turns, 2, 200)
    pause = number("--workload", "coding-agent", "think_time", think_time, 0, 1e6)
    return SessionWorkload(
        "coding-agent",
        turns=lognormal(mean, 0.6, 1, 6 * mean),
        first=lognormal(4000, 0.8, 200, 30_000),
        added=QuantileTable.of({0: 16, 10: 60, 50: 790, 90: 3700, 99: 12_800, 100: 20_000}),
        output=lognormal(523, 1.2, 16, 16_000),
        think=ThinkTime(pause, 1.5, 600 * pause),
        source="tokens a step adds: quantiles of TraceLab (arXiv 2606.30560, Claude Code with 64 to 128 "
        "thousand tokens cached: P50 793, P90 3,700, P99 12,800); its mean answer of 523 tokens, reasoning "
        "included (186.9 million in 357,161 steps; lognormal, sigma 1.2 assumed); 40 turns in the mean, "
        "within the 12 to 62 of arXiv 2605.26297 (lognormal, sigma 0.6 assumed; TraceLab's sessions have a "
        "median of 15 and a mean of 73.6); assumed: 12,000 tokens of system prompt and tools that all share "
        "(TraceLab's caches begin at 8 to 16 thousand), a task of 4,000, tool times of 1 s in the median "
        "(lognormal, sigma 1.5); needs a context of 131,072 tokens",
        longest=131_072,
        shared=12_000,
    )


def _uniform(low: float, high: float) -> QuantileTable:
    return QuantileTable.of({100 * i // 8: low + (high - low) * i / 8 for i in range(9)})


def _first_of_vllm() -> QuantileTable:
    """A session's own tokens, whose median is 0.85 of their mean, and a message of 140."""
    message = 140.0
    own = lognormal(1000, sqrt(2 * log(1 / 0.85)), 16, 5000)
    return QuantileTable(own.probabilities, tuple(value + message for value in own.values))
