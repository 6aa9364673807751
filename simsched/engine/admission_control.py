"""Requests that vLLM's API server turns away (HTTP 503) before its engine hears of them.

As `check_admission` in vllm/v1/engine/async_llm.py (vLLM 0.29 and later), of a server that is one process. It
counts what it knows when a request arrives: which answers have ended, and which have begun.
"""

from __future__ import annotations

from typing import NamedTuple

from simsched.engine.arrival import Arrival
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder


class _Sent(NamedTuple):
    """A request that an engine has: its number there, and where its times are noted."""

    recorder: Recorder
    number: int
    num_prompt_tokens: int


class AdmissionControl:
    """`max_num_queued_reqs` and `max_num_queued_tokens`."""

    def __init__(self, config: ResolvedConfig) -> None:
        self._max_reqs = config.max_num_queued_reqs
        self._max_tokens = config.max_num_queued_tokens
        self._unfinished: list[_Sent] = []  # as far as looked at
        self._prefilling: list[_Sent] = []  # likewise
        self.refused: dict[int, str] = {}
        """By row, the option for which a request was refused."""

    def admits(self, arrival: Arrival) -> bool:
        """May this request go to an engine (then `sent` is to follow)? To be asked in order of arrival, when
        all that has happened until it arrived is on record."""
        time = arrival.arrival_time
        if self._max_reqs is not None:
            # a time that is not there yet is NaN
            waited_for = self._unfinished
            self._unfinished = [each for each in waited_for if not _finish_time(each) <= time]
            if len(self._unfinished) >= self._max_reqs:
                self.refused[arrival.row] = "max_num_queued_reqs"
                return False
        if self._max_tokens is not None:
            # a prompt counts in full until its first token is out
            waited_for = self._prefilling
            self._prefilling = [each for each in waited_for if not _first_token_time(each) <= time]
            if sum(each.num_prompt_tokens for each in self._prefilling) >= self._max_tokens:
                self.refused[arrival.row] = "max_num_queued_tokens"
                return False
        return True

    def sent(self, arrival: Arrival, recorder: Recorder, number: int) -> None:
        """It went to an engine, where it has this number."""
        sent = _Sent(recorder, number, arrival.num_prompt_tokens)
        if self._max_reqs is not None:
            self._unfinished.append(sent)
        if self._max_tokens is not None:
            self._prefilling.append(sent)


def _finish_time(sent: _Sent) -> float:
    return sent.recorder.finish_time[sent.number]


def _first_token_time(sent: _Sent) -> float:
    return sent.recorder.first_token_time[sent.number]


def admission_control(config: ResolvedConfig) -> AdmissionControl | None:
    """None where nothing is ever refused."""
    if config.max_num_queued_reqs is None and config.max_num_queued_tokens is None:
        return None
    return AdmissionControl(config)
