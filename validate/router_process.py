"""A real router as a child process: `vllm-router` or `sglang-router`, from PyPI."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from simsched.errors import InputError
from validate.process_group import stop_group

MODULES = {"vllm-router": "vllm_router.launch_router", "sglang-router": "sglang_router.launch_router"}
"""Package -> the module that starts its router."""
COMPARED = {"vllm-router": "0.1.17", "sglang-router": "0.3.2"}
"""Package -> the version whose source our rules follow."""
START_LIMIT = 90.0  # seconds


def version_of(package: str, python: str) -> str | None:
    """The version of a package that this interpreter has; None: it has none."""
    if python == sys.executable and importlib.util.find_spec(MODULES[package].partition(".")[0]) is None:
        return None
    code = f"from importlib.metadata import version; print(version({package!r}))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise InputError(f"--python {python}: {error.strerror}") from None
    return done.stdout.strip() if done.returncode == 0 else None


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RouterProcess:
    """A router in front of these workers.

    Raises:
        InputError: it dies, or does not answer in time.
    """

    def __init__(
        self, package: str, python: str, workers: Sequence[str], options: Sequence[str], log: Path
    ) -> None:
        port = free_port()
        self._num_workers = len(workers)
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        command = [python, "-m", MODULES[package], "--host", "127.0.0.1", "--port", str(port)]
        command += ["--worker-urls", *workers, "--prometheus-port", str(free_port()), "--log-level", "error"]
        # what would change the choices in the middle of a comparison is off
        command += ["--disable-retries", "--disable-circuit-breaker", "--health-check-interval-secs", "3600"]
        command += ["--worker-startup-check-interval", "1", *options]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def await_start(self) -> None:
        """Wait until it knows all its workers; they have to answer meanwhile."""
        limit = time.monotonic() + START_LIMIT
        while time.monotonic() < limit:
            if self._process.poll() is not None:
                lines = self._log.read_text(errors="replace").split("\n")
                said = next((line for line in reversed(lines) if line.strip()), "no output")
                raise InputError(f"the router died (exit code {self._process.returncode}): {said[:300]}")
            try:
                if len(self.loads()) == self._num_workers:
                    return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.2)
        self.stop()
        raise InputError(f"the router: no answer within {START_LIMIT:.0f} s")

    def loads(self) -> dict[str, int]:
        """The requests in flight at each worker that is healthy, as the router counts them."""
        with urllib.request.urlopen(f"{self.url}/workers", timeout=5) as response:
            known = json.load(response)["workers"]
        return {worker["url"]: worker["load"] for worker in known if worker["is_healthy"]}

    def stop(self) -> None:
        """Ask it to stop, then insist."""
        stop_group(self._process, 5)
