"""What a policy may see of a request.

`RequestView` is the whole of it, on one clock, in the simulator and inside vLLM alike. The true output
length is absent on purpose: only oracle predictors read it (see `simsched.predictors`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol


class PromptBlocks(Protocol):
    """The full KV blocks of a prompt, in order; none without prefix caching. Block i of two requests has the
    same name, which can be hashed, if and only if their prompts are the same up to its end."""

    @property
    def block_size(self) -> int:
        """Tokens in a block."""

    def __len__(self) -> int: ...
    def __getitem__(self, block: int) -> Hashable: ...


class RequestView(Protocol):
    """A request as its scheduler's policy sees it. Times are seconds on the run's clock.

    The counters are computed when asked, from engine-wide clocks minus an offset, so holding a view costs
    nothing per step.
    """

    @property
    def request_id(self) -> str: ...
    @property
    def arrival_time(self) -> float: ...
    @property
    def num_prompt_tokens(self) -> int: ...
    @property
    def score(self) -> float | None:
        """Predicted rank; lower = expected shorter."""

    @property
    def predicted_class(self) -> int | None:
        """Predicted length class; 0 = shortest."""

    @property
    def predicted_length(self) -> float | None:
        """Predicted number of output tokens."""

    @property
    def length_quantiles(self) -> tuple[float, ...] | None:
        """A predicted distribution of the number of output tokens: n rising lengths, each as probable as any
        other (the quantiles at (k + 1/2) / n, k = 0 to n - 1)."""

    @property
    def priority(self) -> int:
        """The client's own priority; lower is served first."""

    @property
    def tenant(self) -> str | None: ...
    @property
    def request_class(self) -> str | None:
        """What kind of request it is (the trace's `class`)."""

    @property
    def slo_ttft(self) -> float | None:
        """Seconds from its arrival to its first token that are asked of it; None: nothing is."""

    @property
    def slo_tpot(self) -> float | None:
        """Seconds a further token that are asked of it."""

    @property
    def deadline(self) -> float | None:
        """Seconds from its arrival in which all of its answer is asked."""

    @property
    def session_id(self) -> str | None: ...
    @property
    def turn(self) -> int | None:
        """Its number in its session, from 0, in the order of the trace."""

    @property
    def session_service(self) -> float:
        """Seconds of service that this engine has given to turns of its session that are done. For policies
        that say `reads_sessions`."""

    @property
    def session_wait(self) -> float:
        """Seconds that those turns have waited here: from arrival to end, less their service. For policies
        that say `reads_sessions`."""

    @property
    def critical_path_service(self) -> float:
        """Seconds of service of the longest chain of requests that led to it: over its parents that were done
        here as it arrived, the largest sum of a parent's own critical path and service. A turn without a
        `parent` goes on from the one that arrived before it in its session. For policies that say
        `reads_sessions`."""

    @property
    def num_cached_tokens(self) -> int:
        """How many tokens of it admission would have found in the cache as the step began; of a request that
        runs, as the step began that admitted it. For policies that say `reads_cache`; 0 in its first moment,
        until a step begins."""

    @property
    def prompt_blocks(self) -> PromptBlocks:
        """What its prompt has in common with others. For policies that say `reads_prompts`."""

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far (never the final number)."""

    @property
    def num_computed_tokens(self) -> int: ...
    @property
    def num_preemptions(self) -> int: ...
    @property
    def attained_service(self) -> float:
        """Seconds of steps in which it ran."""

    @property
    def steps_run(self) -> int:
        """Steps in which it ran, since its arrival."""

    @property
    def steps_idle(self) -> int:
        """Consecutive steps, up to now, in which it was unfinished and not run; 0 right after it ran."""


def left_to_compute(request: RequestView) -> int:
    """Tokens that were given, or are computed again after a preemption, and are not computed yet; at most
    1 for a request that decodes."""
    return request.num_prompt_tokens + request.num_output_tokens - request.num_computed_tokens
