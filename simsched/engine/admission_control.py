"""Requests that vLLM's API server turns away (HTTP 503) before its engine hears of them.

As `check_admission` in vllm/v1/engine/async_llm.py (vLLM 0.29 and later), of a server that is one process. It
counts what it knows when a request arrives: which answers have ended, and which have begun.
"""

from __future__ import annotations

from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder


class AdmissionControl:
    """`max_num_queued_reqs` and `max_num_queued_tokens`."""

    def __init__(self, config: ResolvedConfig, recorder: Recorder) -> None:
        self._max_reqs = config.max_num_queued_reqs
        self._max_tokens = config.max_num_queued_tokens
        self._recorder = recorder
        self._prompts: list[int] = recorder.trace.num_prompt_tokens.tolist()
        self._unfinished: list[int] = []  # as far as looked at
        self._prefilling: list[int] = []  # likewise

    def admits(self, index: int) -> bool:
        """May this request (by its index in the trace) go to the engine? To be asked in order of arrival,
        when all that has happened until it arrived is on record. What is refused is recorded."""
        recorder = self._recorder
        time = recorder.arrival_time[index]
        if self._max_reqs is not None:
            # a time that is not there yet is NaN
            ended = recorder.finish_time
            self._unfinished = [each for each in self._unfinished if not ended[each] <= time]
            if len(self._unfinished) >= self._max_reqs:
                recorder.rejected(index, "max_num_queued_reqs")
                return False
            self._unfinished.append(index)
        if self._max_tokens is not None:
            # a prompt counts in full until its first token is out
            began = recorder.first_token_time
            self._prefilling = [each for each in self._prefilling if not began[each] <= time]
            if sum(self._prompts[each] for each in self._prefilling) >= self._max_tokens:
                recorder.rejected(index, "max_num_queued_tokens")
                if self._max_reqs is not None:
                    self._unfinished.pop()
                return False
            self._prefilling.append(index)
        return True


def admission_control(config: ResolvedConfig, recorder: Recorder) -> AdmissionControl | None:
    """None where nothing is ever refused."""
    if config.max_num_queued_reqs is None and config.max_num_queued_tokens is None:
        return None
    return AdmissionControl(config, recorder)
