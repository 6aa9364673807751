"""Replays on an offline engine of this process: vLLM's `LLMEngine`, stepped by us, arrivals in real time."""

from __future__ import annotations

import gc
import os
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from simsched.engine.config import ResolvedConfig
from simsched.engine.source import Source, source_of
from simsched.errors import InputError
from simsched.vllm.version import check_version, installed_version
from simsched.vllm.view import HINT
from simsched.workload.trace import Trace
from validate.engine_options import engine_arguments, engine_failure, environment
from validate.hints import Hints
from validate.job import Job, Outcome
from validate.probe import Block
from validate.probe_player import play_blocks
from validate.prompts import TokenIds
from validate.recording import RealRecorder, read_steps
from validate.run_clock import ClockName, ProcessorClock, RunClock, WallClock, check_one_thread


class OfflineEngine:
    """One engine for many runs; each run may have its own policy."""

    def __init__(
        self,
        job: Job,
        *,
        device: str,
        model: str,
        enforce_eager: bool,
        clock: ClockName = "wall",
        capture_size: int | None = None,
    ) -> None:
        """Start it.

        Raises:
            InputError: vLLM is missing or unsupported, refuses an option, or runs out of memory.
        """
        os.environ.update(environment(device, clock), VLLM_ENABLE_V1_MULTIPROCESSING="0")
        self.version = installed_version()
        check_version(self.version)
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        arguments = engine_arguments(
            job.config,
            job.given,
            model,
            device=device,
            folder=folder,
            enforce_eager=enforce_eager,
            settings={},
            capture_size=capture_size,
        )
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine

            options = EngineArgs(**arguments, skip_tokenizer_init=True, disable_log_stats=True)
            self._engine = LLMEngine.from_engine_args(options)
        except InputError:
            raise
        except Exception as error:
            raise engine_failure(error) from error
        self._core = self._engine.engine_core.engine_core
        if clock == "cpu":
            check_one_thread()
        self.num_gpu_blocks = int(self._core.vllm_config.cache_config.num_gpu_blocks)
        self.config = job.config.model_copy(update={"num_gpu_blocks": self.num_gpu_blocks})
        self.graphs = self._core.scheduler.launch_modes.facts()
        self._vocabulary = int(self._core.vllm_config.model_config.get_vocab_size())
        self._clock = clock
        self._runs = 0

    def run(self, job: Job) -> Outcome:
        """Play the trace: requests at their time stamps, turns when what they wait for has been answered.

        Raises:
            InputError: the engine died, or requests were lost.
        """
        if job.router is not None:
            raise InputError("--num-replicas: one engine runs in this process; expected --engine http")
        recorder = RealRecorder(job.trace)
        source = source_of(job.trace)

        def play(clock: RunClock) -> None:
            tokens, hints = TokenIds(job.trace, self._vocabulary), Hints(job.trace)

            def request_of(row: int) -> Any:
                return self._request(job.trace, row, tokens, hints)

            if tokens.share:
                # a prompt may go on from an answer, so it is made when it is due
                clock.restart()
                self._play(request_of, source, recorder, clock, tokens)
                return
            requests = list(map(request_of, range(len(job.trace))))
            clock.restart()
            self._play(requests.__getitem__, source, recorder, clock)

        settings = {"policy": job.policy, "decodes_first": job.config.decodes_first}
        steps, end = self._logged(job.config, settings, play)
        return Outcome(recorder.record(steps, end, source.arrival_times()), steps, recorder.lateness)

    def probe(
        self, blocks: Sequence[Block], marker_block: Block, limit: float
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Play blocks of the probe workload under FCFS: their steps, and the blocks that there was time for.

        Raises:
            InputError: the engine died.
        """
        played: list[str] = []
        made = [*blocks, *[marker_block] * (int(limit) + 2)]
        names = [f"{block.name}.{number}" for number, block in enumerate(made)]
        trace = _trace_of(made, names)

        def play(clock: RunClock) -> None:
            tokens, hints = TokenIds(trace, self._vocabulary), Hints(trace)
            requests = iter([self._request(trace, index, tokens, hints) for index in range(len(trace))])
            shares = [list(islice(requests, block.num_requests())) for block in made]
            ours = list(zip(blocks, shares, strict=False))
            clock.restart()
            played.extend(play_blocks(self._stepped, ours, shares[len(blocks) :], marker_block, clock, limit))

        steps, _ = self._logged(self.config, {"policy": "fcfs"}, play)
        return steps, played

    def _logged(
        self, config: ResolvedConfig, settings: dict[str, Any], play: Callable[[RunClock], None]
    ) -> tuple[list[dict[str, Any]], float]:
        """Steps of what `play` does, on a clock that it starts, and when it was done."""
        self._runs += 1
        log = Path(self._folder.name) / f"steps-{self._runs}.jsonl"
        settings = {**settings, "step_log": str(log)}
        self._core.scheduler.restart(settings)
        self._warm_up(config)
        gc.collect()  # what is left of the last run is not this one's to clear up
        clock: RunClock = ProcessorClock() if self._clock == "cpu" else WallClock()
        self._core.scheduler.clock = clock
        self._core.scheduler.restart(settings)
        log.write_text("")
        self._stepped = SteppedEngine(self._engine, self._core.scheduler, clock)
        try:
            play(clock)
            end = clock.now()
        except Exception as error:
            raise engine_failure(error) from error
        self._core.scheduler.restart({})  # closes the log
        steps = read_steps(log, 0.0)
        returns = self._stepped.returns
        for step in steps:
            step["returned"] = returns[bisect_left(returns, step["update_end"])]
        return steps, end

    def close(self) -> None:
        """Stop the engine."""
        self._engine.engine_core.shutdown()
        self._folder.cleanup()

    def _warm_up(self, config: ResolvedConfig) -> None:
        """Batches of all sizes, so that no measured step pays for first use; a few after the first run."""
        from vllm import SamplingParams

        longest = min(config.max_num_batched_tokens, config.max_model_len - 16)
        alone = [max(1, longest * part // 12) for part in range(1, 13)] if self._runs == 1 else [longest]
        together = [8] * config.max_num_seqs
        for number, length in enumerate([*alone, *together]):
            prompt = {"prompt_token_ids": [3 + number % 900] * length}
            tokens = 2 if number < len(alone) else 2 + number % 16
            sampling = SamplingParams(max_tokens=tokens, ignore_eos=True, detokenize=False)
            self._engine.add_request(f"warm-{number}", prompt, sampling)
            while number < len(alone) and self._engine.has_unfinished_requests():
                self._engine.step()
        while self._engine.has_unfinished_requests():
            self._engine.step()

    def _request(self, trace: Trace, index: int, tokens: TokenIds, hints: Hints) -> Any:
        """A request as the engine's core takes it; made before the run, as a server's front end would."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        name = trace.request_ids()[index]
        sampling = SamplingParams(
            max_tokens=int(trace.num_output_tokens[index]),
            ignore_eos=True,
            temperature=0.0,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={**hints.of(index), HINT + "request_id": name},
        )
        prompt = {"prompt_token_ids": tokens.prompt(index)}
        tasks = self._engine.get_supported_tasks()
        return self._engine.input_processor.process_inputs(str(index), prompt, sampling, tasks)

    def _play(
        self,
        request_of: Callable[[int], Any],
        source: Source,
        recorder: RealRecorder,
        clock: RunClock,
        tokens: TokenIds | None = None,
    ) -> None:
        """Play what comes from the source; `tokens` are told the answers, if given."""
        engine = self._stepped
        answers: dict[int, list[int]] = {}
        free = 0.0  # when the loop last came to look for arrivals
        while source.next_time < inf or engine.num_unfinished():
            # First, what has arrived by now.
            now = clock.now()
            while source.next_time <= now:
                due = source.next_time
                request = request_of(source.pop().row)
                request.arrival_time = due
                engine.add(request)
                recorder.lateness.append(clock.now() - max(due, free))
            if not engine.num_unfinished():
                clock.wait_until(source.next_time)
                free = 0.0
                continue
            # Then a step. Its answers may bring further requests.
            outputs = engine.step()
            free = engine.returns[-1]
            for output in outputs:
                row, new = int(output.request_id), list(output.outputs[0].token_ids)
                recorder.tokens(row, len(new), free)
                if tokens is not None:
                    answers.setdefault(row, []).extend(new)
                if output.finished:
                    if tokens is not None:
                        tokens.answered(row, answers.pop(row))
                    source.finished(row, free)


class SteppedEngine:
    """The engine as what plays on it sees it; notes when each step was back."""

    def __init__(self, engine: Any, scheduler: Any, clock: RunClock) -> None:
        self._engine, self._scheduler, self._clock = engine, scheduler, clock
        self.returns: list[float] = []

    def add(self, request: Any) -> None:
        """A request of `_request`."""
        self._engine.add_request(request.request_id, request, request.params)

    def step(self) -> list[Any]:
        """One call of the engine's loop; what it has put out."""
        outputs: list[Any] = self._engine.step()
        self.returns.append(self._clock.now())
        return outputs

    def num_unfinished(self) -> int:
        return int(self._engine.get_num_unfinished_requests())

    def only_decodes(self) -> bool:
        scheduler = self._scheduler
        return not scheduler.waiting and not any(each.is_prefill_chunk for each in scheduler.running)


def _trace_of(blocks: Sequence[Block], names: Sequence[str]) -> Trace:
    """The requests of these blocks, named after them, all at time 0."""
    requests = [
        (f"{name}-{number}", prompt, output)
        for name, block in zip(names, blocks, strict=True)
        for number, (prompt, output) in enumerate(each for part in block.parts for each in part.requests)
    ]
    ids, prompts, outputs = zip(*requests, strict=True)
    return Trace(
        arrival_time=np.zeros(len(ids)),
        num_prompt_tokens=np.array(prompts),
        num_output_tokens=np.array(outputs),
        request_id=ids,
        name="probe",
    )
