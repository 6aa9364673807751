"""Named workloads: lengths as quantile tables from published figures, and the predictors published on them.

Every table's source is in its `source`. Prompt and output lengths are drawn independently (in the two real
traces below their rank correlation is 0.07).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from simsched.errors import InputError
from simsched.streams import stream
from simsched.text.specs import Value, check_parameters, number, parse_spec
from simsched.workload.arrivals import Arrivals
from simsched.workload.lengths import QuantileTable, exponential, lognormal
from simsched.workload.named_sessions import SessionWorkload, chat_sessions, coding_agent, vllm_multi_turn
from simsched.workload.prefixes import Conversations
from simsched.workload.trace import Trace

# where the two real traces below are tabulated, in percent
_PERCENTILES = (0, 1, 2.5, *range(5, 85, 5), 82.5, 85, 87.5, 90, 92.5, 95, 97, 98, 99, 99.5, 99.9, 100)
# the serving script of the paper drops prompts under 4 and over 1,024 tokens and outputs under 4
MIN_TOKENS, MAX_PROMPT, MAX_TOTAL = 4, 1024, 8192
MAX_OUTPUT = MAX_TOTAL - MAX_PROMPT
# Published taus by column. A classifier's is that of the hidden score from which it says its class: 0.60 and
# 0.62 give classes of 820 tokens the taus published for them, 0.21 on ShareGPT and 0.17 on LMSYS.
DEFAULT_TAU: Mapping[str, float] = {"score": 0.52, "predicted_class": 0.60, "predicted_length": 0.51}

# Llama-3-8B on ShareGPT, 960 requests of the reproduction anshsarkar/vllm-ltr-sched at 16 req/s
_SHAREGPT_OUTPUT = QuantileTable.of(
    {0: 4, 1: 14, 5: 47, 10: 129, 20: 213, 25: 240, 30: 267, 40: 316, 50: 366, 60: 432, 70: 519, 75: 564}
    | {80: 599, 90: 724, 95: 878, 99: 1202, 99.9: 2330, 100: 6328}
)
# Vicuna-13B on LMSYS-Chat-1M (James-QiuHaoran/LLM-serving-with-proxy-models @ 4b866866), cut at 511: its
# quantiles up to 90 %, continued above by the ratios of the ShareGPT table to its own 90 %
_VICUNA_LMSYS_OUTPUT = QuantileTable.of(
    {0: 2, 1: 2, 5: 9, 10: 13, 20: 31, 25: 41, 30: 57, 40: 95, 50: 140, 60: 201, 70: 263, 75: 294, 80: 325}
    | {90: 397, 95: 397 * 878 / 724, 99: 397 * 1202 / 724, 99.9: 397 * 2330 / 724, 100: 397 * 6328 / 724}
)


@dataclass(frozen=True)
class Workload:
    """A distribution of requests; `generate` makes a trace of it."""

    name: str
    prompt: QuantileTable
    output: QuantileTable
    source: str
    predictor_tau: Mapping[str, float] = field(default_factory=dict)
    """Kendall's tau of the predictors published for this workload, by the column they fill; empty if none."""
    conversations: Conversations | None = None
    """How prompts share prefixes; None = they share nothing."""

    @property
    def kendall_tau(self) -> float:
        """The published ranker's tau; ShareGPT's where none is published."""
        return self.predictor_tau.get("score", DEFAULT_TAU["score"])

    @property
    def mean_tokens(self) -> tuple[float, float]:
        """Of a request: prompt and output."""
        return self.prompt.mean, self.output.mean

    @property
    def mean_turns(self) -> float:
        """Requests of a session: each is one by itself."""
        return 1.0

    @property
    def run_in(self) -> float:
        """Seconds until as many come as the rate says: at once."""
        return 0.0

    @property
    def default_arrivals(self) -> str:
        """Requests come one by one."""
        return "poisson"

    def sample(self, num_requests: int, seed: int = 0) -> Trace:
        """So many requests, all there at 0."""
        return self.generate(num_requests, arrivals="burst", seed=seed)

    def generate(
        self,
        num_requests: int,
        request_rate: float | None = None,
        *,
        arrivals: str = "poisson",
        seed: int = 0,
    ) -> Trace:
        """A trace of this workload.

        Args:
            num_requests: at least 1.
            request_rate: requests/s; not used by the arrivals `burst` and `closed(users=...)`.
            arrivals: the process, such as `gamma(cv=2)`.
            seed: the same seed gives the same lengths and the same unit-rate arrivals at every rate, and a
                longer trace of the same seed begins with the shorter one.

        Raises:
            InputError: a number or process out of its bounds.
        """
        if num_requests < 1:
            raise InputError(f"--num-requests {num_requests}: expected at least 1")
        process = Arrivals.parse(arrivals)
        prompts = self.prompt.sample(stream(seed, "prompts"), num_requests)
        shared = self.conversations
        return Trace(
            arrival_time=process.times(num_requests, request_rate, seed),
            num_prompt_tokens=prompts,
            num_output_tokens=self.output.sample(stream(seed, "outputs"), num_requests),
            hash_ids=shared.hash_ids(prompts, seed) if shared is not None else None,
            hash_block_size=shared.block_size if shared is not None else None,
            name=self.name,
            closed_loop_users=process.users,
            think_time=process.think_time,
            meta={"predictor_tau": dict(self.predictor_tau)} if self.predictor_tau else {},
        )


def _sharegpt() -> Workload:
    return Workload(
        "sharegpt",
        lognormal(240, 1.4, MIN_TOKENS, MAX_PROMPT),
        _SHAREGPT_OUTPUT.scaled_to(412, MIN_TOKENS, MAX_OUTPUT),
        "ShareGPT on Llama-3-8B: means 240 in and 412 out (arXiv 2408.15792); outputs have the shape of a "
        "real sample of 960 (anshsarkar/vllm-ltr-sched, mean 419); prompts are lognormal, sigma 1.4 assumed",
        DEFAULT_TAU,
    )


def _lmsys(shape: Value = "vicuna", sigma: Value = 1.0) -> Workload:
    mean = 293
    width = number("--workload", "lmsys", "sigma", sigma, 0.1, 1.4)
    outputs: dict[str, Callable[[], QuantileTable]] = {
        "vicuna": lambda: _VICUNA_LMSYS_OUTPUT.scaled_to(mean, MIN_TOKENS, MAX_OUTPUT),
        "lognormal": lambda: lognormal(mean, width, MIN_TOKENS, MAX_OUTPUT),
        "exponential": lambda: exponential(mean, MIN_TOKENS, MAX_OUTPUT),
        "sharegpt": lambda: _SHAREGPT_OUTPUT.scaled_to(mean, MIN_TOKENS, MAX_OUTPUT),
    }
    if shape not in outputs:
        raise InputError(f"--workload lmsys: shape={shape}: expected one of {', '.join(outputs)}")
    return Workload(
        "lmsys",
        lognormal(85, 1.4, MIN_TOKENS, MAX_PROMPT),
        outputs[str(shape)](),
        "LMSYS-Chat-1M on Llama-3-8B: means 85 in and 293 out (arXiv 2408.15792); no sample of its outputs "
        "is public, so their shape is an assumption: by default Vicuna-13B's on the same prompts, else "
        "shape=lognormal (sigma=), exponential or sharegpt; prompts are lognormal (sigma 1.4, assumed)",
        {"score": 0.64, "predicted_class": 0.62, "predicted_length": 0.67},
    )


def _table(values: tuple[int, ...]) -> QuantileTable:
    return QuantileTable(tuple(q / 100 for q in _PERCENTILES), tuple(map(float, values)))


def _azure_conv() -> Workload:
    prompts = (2, 29, 120, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020, 1045, 1071, 1097, 1130, 1189)
    longer_prompts = (1315, 1434, 1876, 2309, 2734, 4075, 4083, 4090, 4098, 4142, 4831, 6179, 7200)
    outputs = (7, 16, 28, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129, 151, 177, 217, 384, 395, 400, 406, 411)
    longer_outputs = (416, 424, 430, 451, 509, 540, 601, 643, 954, 992)
    return Workload(
        "azure-conv",
        _table(prompts + longer_prompts),
        _table(outputs + longer_outputs),
        "quantiles of Azure/AzurePublicDataset @ b469a113, AzureLLMInferenceTrace_conv.csv (CC-BY-4.0), "
        "19,366 requests; longest prompt and output cut so that any pair fits in 8,192 tokens",
    )


def _azure_code() -> Workload:
    return Workload(
        "azure-code",
        QuantileTable.of(
            {0: 3, 1: 22, 5: 80, 10: 138, 20: 376, 25: 522, 30: 639, 40: 1017, 50: 1358, 60: 1682, 70: 2264}
            | {75: 2631, 80: 3026, 90: 5595, 95: 7435, 99: 7436, 100: 7437}
        ).scaled_to(2048, 3, 7437),
        QuantileTable.of(
            {0: 6, 1: 6, 5: 6, 10: 7, 20: 9, 25: 9, 30: 10, 40: 12, 50: 14, 60: 17, 70: 21, 75: 24, 80: 30}
            | {90: 50, 95: 80, 99: 256, 100: 503}
        ).scaled_to(28, 6, MAX_TOTAL - 7437),
        "shape of 440 consecutive rows of Azure/AzurePublicDataset @ 79092101, AzureLLMInferenceTrace_code"
        ".csv (CC-BY-4.0), scaled to means of 2,048 in and 28 out, quoted from memory, unchecked",
    )


def _chat_sessions(turns: Value = 3.5, think_time: Value = 100) -> SessionWorkload:
    sharegpt = _sharegpt()
    return chat_sessions(sharegpt.prompt, sharegpt.output, turns, think_time)


def _mooncake_conversation() -> Workload:
    prompts = (891, 894, 896, 901, 964, 1261, 1662, 2306, 3263, 4251, 4993, 5870, 6909, 8187, 9570, 11238)
    longer_prompts = (13196, 15367, 17869, 19403, 21464, 24393, 27367, 31519, 39550, 52215, 66449, 85400)
    longest_prompts = (100810, 121301, 126195)
    outputs = (1, 3, 3, 10, 24, 46, 100, 156, 213, 256, 291, 322, 350, 375, 399, 423, 447, 472, 504, 522)
    longer_outputs = (543, 566, 597, 639, 698, 800, 892, 1119, 1568, 2000, 2000)
    return Workload(
        "mooncake-conversation",
        _table(prompts + longer_prompts + longest_prompts),
        _table(outputs + longer_outputs),
        "quantiles of kvcache-ai/Mooncake @ 3b5a5941, conversation_trace.jsonl (Apache-2.0), 12,031 "
        "requests; shared prefixes by a model of conversations, set to the trace's 39 % of requests that go "
        "on from an earlier one, 123 s before in the median, and its 37 % of prompt tokens shared over an "
        "hour (less in a short run); needs a context of 131,072 tokens",
        # 123 s at 3.4 requests/s; share and reach are fitted
        conversations=Conversations(512, share=0.5, gap=418, spread=1.03, reach=9),
    )


WORKLOADS: dict[str, tuple[Callable[..., Workload | SessionWorkload], tuple[str, ...]]] = {
    "sharegpt": (_sharegpt, ()),
    "lmsys": (_lmsys, ("shape", "sigma")),
    "azure-conv": (_azure_conv, ()),
    "azure-code": (_azure_code, ()),
    "mooncake-conversation": (_mooncake_conversation, ()),
    "chat-sessions": (_chat_sessions, ("turns", "think_time")),
    "vllm-multi-turn": (vllm_multi_turn, ()),
    "coding-agent": (coding_agent, ("turns", "think_time")),
}


@lru_cache(maxsize=16)  # what a workload knows of itself is computed once
def named_workload(spec: str) -> Workload | SessionWorkload:
    """The workload of this name, such as `sharegpt` or `lmsys(shape=lognormal)`.

    Raises:
        InputError: unknown name or parameter.
    """
    name, given = parse_spec(spec, "--workload")
    if name not in WORKLOADS:
        raise InputError(f"--workload {name}: unknown; expected one of {', '.join(WORKLOADS)}")
    make, parameters = WORKLOADS[name]
    check_parameters("--workload", name, given, parameters)
    return make(**given)


def rescale(trace: Trace, request_rate: float) -> Trace:
    """The trace with its arrivals stretched to this mean rate (requests/s; inf = all at once).

    The rate of n requests whose first and last arrive D seconds apart is (n - 1) / D, and the first keeps
    its place at 0.

    Raises:
        InputError: a rate that is not above 0, or a trace whose requests arrive all at once.
    """
    if not request_rate > 0:
        raise InputError(f"--request-rate {request_rate}: expected a number above 0 (inf = all at once)")
    if trace.think_times is not None:
        raise InputError(
            f"{trace.name}: its turns wait for answers, so it can't be offered at {request_rate:g} requests/s"
            '; expected --arrivals sessions, or without --request-rate "sessions(rate=R)" or "users(n)"'
        )
    gaps = trace.arrival_time - trace.arrival_time[0]
    if np.isinf(request_rate) or len(trace) == 1:
        return trace.with_columns(arrival_time=np.zeros(len(trace)))
    if gaps[-1] <= 0:
        raise InputError(f"--request-rate {request_rate:g}: {trace.name} arrives all at once")
    return trace.with_columns(arrival_time=gaps * ((len(trace) - 1) / gaps[-1] / request_rate))
