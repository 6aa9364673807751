"""Replays over HTTP: fresh `vllm serve`s for each run, and clients in several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.record import RunRecord
from simsched.vllm.step_log import log_path
from simsched.vllm.version import check_version
from simsched.workload.sessions import sessions_of
from simsched.workload.trace import IntArray, Trace
from validate.engine_options import engine_arguments, environment
from validate.http_client import Answer, Share, run_client
from validate.job import Job, Outcome
from validate.models import MODELS, write_tokenizer
from validate.recording import RealRecorder, read_steps
from validate.server import Server

LEAD = 2.0  # seconds between the clients' start and the first request's due time
WARM_UP = "warm-up"


class HttpEngine:
    """A server per replica and run: a policy is fixed when a server starts, and each run begins with nothing
    cached."""

    graphs: dict[str, Any] | None = None  # a server does not tell

    def __init__(
        self,
        job: Job,
        *,
        device: str,
        model: str,
        enforce_eager: bool,
        clients: int,
        data_parallel: bool = False,
    ) -> None:
        """Start the first job's servers.

        Args:
            data_parallel: one server with all replicas in it, whose own balancer chooses among them.

        Raises:
            InputError: vLLM refuses an option or dies.
        """
        self._data_parallel = data_parallel
        self._device, self._model, self._eager, self._clients = device, model, enforce_eager, clients
        self._folder = tempfile.TemporaryDirectory()
        self._servers: list[Server] = []
        self._logs: list[Path] = []
        self._start(job)

    def _start(self, job: Job) -> None:
        self._started_for = job
        path = str(Path(self._folder.name) / "steps.jsonl")
        self._logs = [Path(log_path(path, number)) for number in range(job.num_replicas)]
        try:
            for log in self._logs:
                log.unlink(missing_ok=True)
            for number, log in enumerate(self._logs[:1] if self._data_parallel else self._logs):
                self._servers.append(self._serve_one(job, number, log))
            self.version = str(json.loads(self._servers[0].get("/version"))["version"])
            check_version(self.version)
            # a server with several engines counts the blocks of all of them
            engines = job.num_replicas // len(self._servers)
            self.num_gpu_blocks = self._servers[0].num_gpu_blocks() // engines
        except InputError:
            self.close()
            raise

    def _serve_one(self, job: Job, number: int, log: Path) -> Server:
        folder = Path(self._folder.name)
        arguments = engine_arguments(
            job.config,
            job.given,
            self._model,
            device=self._device,
            folder=folder,
            enforce_eager=self._eager,
            settings={"policy": job.policy, "step_log": str(log)},
            timed=self._device != "cpu",  # on a CPU, vLLM serves with an executor of several processes
        )
        if self._model in MODELS:
            write_tokenizer(Path(arguments["model"]), MODELS[self._model]["vocab_size"])
        arguments["served_model_name"] = "model"
        arguments["enable_prompt_tokens_details"] = True  # so that answers say what was cached
        numbers = [number]
        if self._data_parallel:
            count = getattr(job.router, "api_servers", 1)
            arguments |= {"data_parallel_size": job.num_replicas, "api_server_count": count}
            numbers = list(range(job.num_replicas))
        variables = environment(self._device)
        # clients keep connections; a server closes idle ones after 5 s, perhaps as one is taken up again
        variables["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] = "600"
        if self._device == "cpu" and job.num_replicas > 1 and "VLLM_CPU_OMP_THREADS_BIND" not in os.environ:
            # a core for each, as far as there are any
            cores = os.cpu_count() or 1
            variables["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(str(each % cores) for each in numbers)
        return Server(arguments, variables, folder / f"server-{number}.log")

    def run(self, job: Job) -> Outcome:
        """Serve the trace.

        Raises:
            InputError: a server that does not start or dies, or lost requests.
        """
        if not self._servers or self._started_for is not job:
            self._stop()
            self._start(job)
        try:
            return self._serve(job)
        finally:
            self._stop()

    def close(self) -> None:
        """Stop the servers, if any are running."""
        self._stop()
        self._folder.cleanup()

    def _stop(self) -> None:
        while self._servers:
            self._servers.pop().stop()

    def _serve(self, job: Job) -> Outcome:
        vocabulary = int(MODELS[self._model]["vocab_size"]) if self._model in MODELS else 1000
        urls = tuple(server.url for server in self._servers)
        for server in self._servers:
            # in turn, where there are several engines in it
            for _ in range(job.num_replicas // len(self._servers)):
                self._warm_up(server)
        parts = shares_of(job.trace, self._clients if len(urls) == 1 else 1)
        router = None if self._data_parallel else job.router
        shares = [Share(urls, job.trace, part, vocabulary, router, job.seed) for part in parts]
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(len(shares), mp_context=spawn) as pool:
            list(pool.map(time.sleep, [0.0] * len(shares)))  # processes are up before the clock starts
            start = time.monotonic() + LEAD
            futures = [pool.submit(run_client, share, start) for share in shares]
            answers = [answer for future in futures for answer in future.result()]
        _check(answers, self._servers)
        steps = []
        for number, log in enumerate(self._logs):
            mine = [step for step in read_steps(log, start) if WARM_UP not in step["scheduled"]]
            for step in mine:
                step["arrived"].pop(WARM_UP, None)
                if len(self._logs) > 1:
                    step["replica"] = number
            steps += mine
        steps.sort(key=lambda step: float(step["time"]))
        record, lateness = _record(job.trace, answers, steps)
        if self._data_parallel:
            record.replica = _replicas_by_log(job.trace, steps)
        elif job.router is not None:
            record.replica = np.array([answer.replica for answer in sorted(answers)])
        return Outcome(record, steps, lateness)

    def _warm_up(self, server: Server) -> None:
        """A first request, so that none of the run pays for what a first one costs."""
        one = np.ones(1, dtype=np.int64)
        trace = Trace(np.zeros(1), 64 * one, 8 * one, request_id=[WARM_UP])
        answer = run_client(Share((server.url,), trace, (0,), 900), time.monotonic())[0]
        if answer.error is not None:
            server.check()
            raise InputError(f"vllm serve refuses a request: {answer.error}")


def _replicas_by_log(trace: Trace, steps: list[dict[str, Any]]) -> IntArray:
    """(n,) the engine that each request arrived at."""
    replica_of = {name: step.get("replica", 0) for step in steps for name in step["arrived"]}
    return np.array([replica_of[name] for name in trace.request_ids()])


def shares_of(trace: Trace, clients: int) -> list[tuple[int, ...]]:
    """The rows that each of so many client processes plays: whole sessions, and all in one where so many
    users are alive."""
    if trace.closed_loop_users is not None:
        clients = 1
    of = np.arange(len(trace)) if trace.think_times is None else sessions_of(trace)
    parts = [tuple(np.flatnonzero(of % clients == client).tolist()) for client in range(clients)]
    return [part for part in parts if part]


def _record(
    trace: Trace, answers: list[Answer], steps: list[dict[str, Any]]
) -> tuple[RunRecord, list[float]]:
    recorder = RealRecorder(trace)
    arrival = np.full(len(trace), np.nan)
    cached = np.zeros(len(trace), dtype=np.int64)
    for answer in answers:
        recorder.lateness.append(answer.lateness)
        arrival[answer.request] = answer.due
        cached[answer.request] = answer.cached or 0
        for moment, count in answer.tokens:
            recorder.tokens(answer.request, count, moment)
    end = max((moment for answer in answers for moment, _ in answer.tokens), default=0.0)
    record = recorder.record(steps, end, arrival)
    if all(answer.cached is not None for answer in answers):
        record.num_cached_tokens = cached
    return record, recorder.lateness


def _check(answers: list[Answer], servers: list[Server]) -> None:
    failed = [answer for answer in answers if answer.error is not None]
    if failed:
        for server in servers:
            server.check()
        first = f"the first, {failed[0].request}: {failed[0].error}"
        raise InputError(f"{len(failed)} of {len(answers)} requests were lost; {first}")
