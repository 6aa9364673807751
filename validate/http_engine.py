"""Replays over HTTP: a fresh `vllm serve` for each run, and clients in several processes."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.vllm.version import check_version
from simsched.vllm.view import HINT
from simsched.workload.trace import Trace
from validate.engine_options import engine_arguments, environment
from validate.hints import request_hints
from validate.http_client import Answer, Send, run_client
from validate.job import Job, Outcome
from validate.models import MODELS, write_tokenizer
from validate.prompts import TokenIds
from validate.recording import RealRecorder, read_steps
from validate.server import Server

LEAD = 2.0  # seconds between the clients' start and the first request's due time


class HttpEngine:
    """A server per run: a policy is fixed when a server starts, and each run begins with nothing cached."""

    graphs: dict[str, Any] | None = None  # a server does not tell

    def __init__(self, job: Job, *, device: str, model: str, enforce_eager: bool, clients: int) -> None:
        """Start the first job's server.

        Raises:
            InputError: vLLM refuses an option or dies.
        """
        self._device, self._model, self._eager, self._clients = device, model, enforce_eager, clients
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "steps.jsonl"
        self._server: Server | None = None
        self._start(job)

    def _start(self, job: Job) -> Server:
        folder = Path(self._folder.name)
        self._log.unlink(missing_ok=True)
        arguments = engine_arguments(
            job.config,
            job.given,
            self._model,
            device=self._device,
            folder=folder,
            enforce_eager=self._eager,
            settings={"policy": job.policy, "step_log": str(self._log)},
            timed=self._device != "cpu",  # on a CPU, vLLM serves with an executor of several processes
        )
        if self._model in MODELS:
            write_tokenizer(Path(arguments["model"]), MODELS[self._model]["vocab_size"])
        arguments["served_model_name"] = "model"
        server = Server(arguments, environment(self._device), folder / "server.log")
        self._server, self._started_for = server, job
        try:
            self.version = str(json.loads(server.get("/version"))["version"])
            check_version(self.version)
            self.num_gpu_blocks = server.num_gpu_blocks()
        except InputError:
            self.close()
            raise
        return server

    def run(self, job: Job) -> Outcome:
        """Serve the trace.

        Raises:
            InputError: a server that does not start or dies, or lost requests.
        """
        server = self._server if self._server is not None and self._started_for is job else self._start(job)
        try:
            return self._serve(job, server, self._log)
        finally:
            self._stop()

    def close(self) -> None:
        """Stop the server, if one is running."""
        self._stop()
        self._folder.cleanup()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _serve(self, job: Job, server: Server, log: Path) -> Outcome:
        vocabulary = int(MODELS[self._model]["vocab_size"]) if self._model in MODELS else 1000
        tokens = TokenIds(job.trace, vocabulary)
        sends = [_send(job.trace, index, tokens) for index in range(len(job.trace))]
        warm = [Send(-1, 0.0, {**_payload([3] * 64, 8), "vllm_xargs": {HINT + "request_id": "warm-up"}})]
        warmed = run_client(server.url, warm, time.monotonic())[0]
        if warmed.error is not None:
            server.check()
            raise InputError(f"vllm serve refuses a request: {warmed.error}")
        recorder = RealRecorder(job.trace)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self._clients, mp_context=spawn) as pool:
            list(pool.map(time.sleep, [0.0] * self._clients))  # processes are up before the clock starts
            start = time.monotonic() + LEAD
            shares = [sends[first :: self._clients] for first in range(self._clients)]
            futures = [pool.submit(run_client, server.url, share, start) for share in shares if share]
            answers = [answer for future in futures for answer in future.result()]
        _check(answers, server)
        for answer in answers:
            recorder.lateness.append(answer.lateness)
            for moment, count in answer.tokens:
                recorder.tokens(answer.request, count, moment)
        end = max(moment for answer in answers for moment, _ in answer.tokens)
        steps = [step for step in read_steps(log, start) if "warm-up" not in step["scheduled"]]
        for step in steps:
            step["arrived"].pop("warm-up", None)
        return Outcome(recorder.record(steps, end), steps, recorder.lateness)


def _check(answers: list[Answer], server: Server) -> None:
    failed = [answer for answer in answers if answer.error is not None]
    if failed:
        server.check()
        first = f"the first, {failed[0].request}: {failed[0].error}"
        raise InputError(f"{len(failed)} of {len(answers)} requests were lost; {first}")


def _send(trace: Trace, index: int, tokens: TokenIds) -> Send:
    payload = _payload(tokens.prompt(index), int(trace.num_output_tokens[index]))
    payload["vllm_xargs"] = {**request_hints(trace, index), HINT + "request_id": trace.request_ids()[index]}
    return Send(index, float(trace.arrival_time[index]), payload)


def _payload(prompt: list[int], max_tokens: int) -> dict[str, Any]:
    return {
        "model": "model",
        "prompt": prompt,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
