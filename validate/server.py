"""`vllm serve` as a child process: started, watched and stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from validate.process_group import stop_group

START_LIMIT = 600.0  # seconds


class Server:
    """A server on a free port of this machine.

    Raises:
        InputError: it refuses an option or dies before it answers; with the last line that tells why.
    """

    def __init__(self, arguments: dict[str, Any], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        model, *options = command_line(arguments)
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model, *options]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its workers are stopped with it
            )
        self._await()

    def _await(self) -> None:
        limit = time.monotonic() + START_LIMIT
        while time.monotonic() < limit:
            self.check()
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        self.stop()
        raise InputError(f"vllm serve: no answer within {START_LIMIT:.0f} s")

    def check(self) -> None:
        """Is it still there?

        Raises:
            InputError: it has died.
        """
        code = self._process.poll()
        if code is not None:
            raise InputError(f"vllm serve died ({_exit(code)}): {self._reason()}")

    def get(self, path: str) -> str:
        """The text that it answers to GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as response:
                text: str = response.read().decode()
                return text
        except (urllib.error.URLError, OSError) as error:
            self.check()
            raise InputError(f"vllm serve: GET {path}: {error}") from None

    def num_gpu_blocks(self) -> int:
        """The KV blocks that vLLM has settled on."""
        found = re.search(r'num_gpu_blocks="(\d+)"', self.get("/metrics"))
        if found is None:
            raise InputError("vllm serve: its metrics do not say num_gpu_blocks")
        return int(found[1])

    def stop(self) -> None:
        """Ask it to stop, then insist."""
        stop_group(self._process, 20)

    def _reason(self) -> str:
        """The last line of its output that names an error."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        telling = [line for line in lines if re.search(r"\b\w*(Error|error:|out of memory)", line)]
        return re.sub(r"\s+", " ", (telling or lines or ["no output"])[-1])[:300]


def command_line(arguments: dict[str, Any]) -> list[str]:
    """`EngineArgs` keywords as arguments of `vllm serve`, the model first."""
    words = [str(arguments["model"])]
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if name == "model":
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, dict):
            words += [flag, json.dumps(value)]
        else:
            words += [flag, str(value)]
    return words


def _exit(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed; perhaps out of memory"
    return f"exit code {code}"
