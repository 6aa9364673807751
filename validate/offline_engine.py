"""Replays on an offline engine of this process: vLLM's `LLMEngine`, stepped by us, arrivals in real time."""

from __future__ import annotations

import gc
import os
import tempfile
from bisect import bisect_left
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.vllm.version import check_version, installed_version
from simsched.vllm.view import HINT
from simsched.workload.trace import Trace
from validate.engine_options import engine_arguments, engine_failure, environment
from validate.hints import request_hints
from validate.job import Job, Outcome
from validate.prompts import prompt_tokens
from validate.recording import RealRecorder, read_steps
from validate.run_clock import ClockName, ProcessorClock, RunClock, WallClock, check_one_thread


class OfflineEngine:
    """One engine for many runs; each run may have its own policy."""

    def __init__(
        self, job: Job, *, device: str, model: str, enforce_eager: bool, clock: ClockName = "wall"
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
        self.graphs = self._core.scheduler.launch_modes.facts()
        self._vocabulary = int(self._core.vllm_config.model_config.get_vocab_size())
        self._clock = clock
        self._runs = 0

    def run(self, job: Job) -> Outcome:
        """Play the trace at its time stamps.

        Raises:
            InputError: the engine died, or requests were lost.
        """
        self._runs += 1
        log = Path(self._folder.name) / f"steps-{self._runs}.jsonl"
        settings = {"policy": job.policy, "decodes_first": job.config.decodes_first, "step_log": str(log)}
        self._core.scheduler.restart(settings)
        self._warm_up(job)
        gc.collect()  # what is left of the last run is not this one's to clear up
        clock: RunClock = ProcessorClock() if self._clock == "cpu" else WallClock()
        self._core.scheduler.clock = clock
        self._core.scheduler.restart(settings)
        log.write_text("")
        recorder = RealRecorder(job.trace)
        self._returns: list[float] = []
        requests = [self._request(job.trace, index) for index in range(len(job.trace))]
        try:
            self._play(job.trace, requests, recorder, clock)
            end = clock.now()
        except Exception as error:
            raise engine_failure(error) from error
        self._core.scheduler.restart({})  # closes the log
        steps = read_steps(log, 0.0)
        for step in steps:
            step["returned"] = self._returns[bisect_left(self._returns, step["update_end"])]
        return Outcome(recorder.record(steps, end), steps, recorder.lateness)

    def close(self) -> None:
        """Stop the engine."""
        self._engine.engine_core.shutdown()
        self._folder.cleanup()

    def _warm_up(self, job: Job) -> None:
        """Batches of all sizes, so that no measured step pays for first use; a few after the first run."""
        from vllm import SamplingParams

        longest = min(job.config.max_num_batched_tokens, int(job.config.max_model_len or 64) - 16)
        alone = [max(1, longest * part // 12) for part in range(1, 13)] if self._runs == 1 else [longest]
        together = [8] * job.config.max_num_seqs
        for number, length in enumerate([*alone, *together]):
            prompt = {"prompt_token_ids": [3 + number % 900] * length}
            tokens = 2 if number < len(alone) else 2 + number % 16
            sampling = SamplingParams(max_tokens=tokens, ignore_eos=True, detokenize=False)
            self._engine.add_request(f"warm-{number}", prompt, sampling)
            while number < len(alone) and self._engine.has_unfinished_requests():
                self._engine.step()
        while self._engine.has_unfinished_requests():
            self._engine.step()

    def _request(self, trace: Trace, index: int) -> Any:
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
            extra_args={**request_hints(trace, index), HINT + "request_id": name},
        )
        prompt = {"prompt_token_ids": prompt_tokens(trace, index, self._vocabulary)}
        tasks = self._engine.get_supported_tasks()
        return self._engine.input_processor.process_inputs(str(index), prompt, sampling, tasks)

    def _play(self, trace: Trace, requests: list[Any], recorder: RealRecorder, clock: RunClock) -> None:
        engine = self._engine
        arrivals = trace.arrival_time.tolist()
        arrived = 0
        running: dict[str, int] = {}
        free = 0.0  # when the loop last came to look for arrivals
        while arrived < len(arrivals) or engine.has_unfinished_requests():
            now = clock.now()
            while arrived < len(arrivals) and arrivals[arrived] <= now:
                request, due = requests[arrived], arrivals[arrived]
                request.arrival_time = due
                engine.add_request(str(arrived), request, request.params)
                running[str(arrived)] = arrived
                recorder.lateness.append(clock.now() - max(due, free))
                arrived += 1
            if not engine.has_unfinished_requests():
                clock.wait_until(arrivals[arrived])
                free = 0.0
                continue
            outputs = engine.step()
            free = clock.now()
            self._returns.append(free)
            for output in outputs:
                index = running[output.request_id]
                recorder.tokens(index, len(output.outputs[0].token_ids), free)
