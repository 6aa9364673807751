"""What lock-step finds on each supported vLLM, and how the range of supported versions is widened."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.vllm_versions import TRY
from validate.json_file import write_json

ROOT = Path(__file__).resolve().parents[1]
TESTED_FILE = ROOT / "simsched" / "vllm_tested.json"
PAGE = ROOT / "docs" / "fidelity.md"
SETUP = ROOT / "setup.cfg"
GROUPS = ("cases", "random", "priority", "shared")
"""Of `validate.cases.release_cases`, as the table shows them."""
_HEADERS = (
    "vLLM",
    "date",
    "every policy",
    "100 random",
    "60 under `priority`",
    "64 with shared prefixes",
    "divergent",
)

Found = dict[str, Any]
"""`date`, `steps` (group -> steps compared), `divergent_steps`."""


def compare_version(version: str) -> Found:
    """Compare all that a version must agree in, in a process of its own, which shows its progress.

    Raises:
        InputError: the comparison could not be made.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lockstep.json"
        command = [sys.executable, *_warnings(), "-m", "validate", "lockstep", "--release"]
        command += ["--vllm-version", version, "--json", str(path)]
        done = subprocess.run(command, env={**os.environ, TRY: version}, cwd=ROOT)
        if not path.is_file():
            raise InputError(f"vLLM {version}: not compared (exit code {done.returncode})")
        result = json.loads(path.read_text())
    return found_of(result)


def found_of(result: Mapping[str, Any]) -> Found:
    """What is kept of `lockstep --release --json`."""
    steps = dict.fromkeys(GROUPS, 0)
    for case in result["cases"]:
        steps[case["group"]] += case["steps"]
    today = datetime.date.today().isoformat()
    return {"date": today, "steps": steps, "divergent_steps": result["divergent_steps"]}


def _warnings() -> list[str]:
    return [f"-W{option}" for option in sys.warnoptions]


def to_table(tested: Mapping[str, Found]) -> str:
    """Version, steps and divergent steps, in Markdown."""
    rows = [_HEADERS, ("---",) * len(_HEADERS)]
    for version, found in sorted(tested.items(), key=lambda item: _key(item[0])):
        steps = [f"{found['steps'][group]:,}" for group in GROUPS]
        rows.append((version, found["date"], *steps, f"{found['divergent_steps']:,}"))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def record(tested: Mapping[str, Found]) -> None:
    """Support these versions from now on: in the table of versions, the page that shows it and the extra
    `vllm` of the package. Each must be without a divergent step."""
    assert not any(found["divergent_steps"] for found in tested.values())
    write_json(TESTED_FILE, dict(sorted(tested.items(), key=lambda item: _key(item[0]))))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_table.sub(lambda _: to_table(tested), page, count=1), encoding="utf-8")
    oldest, newest = (pick(tested, key=_key) for pick in (min, max))
    setup = SETUP.read_text(encoding="utf-8")
    (major, minor), (most, last) = _key(oldest)[:2], _key(newest)[:2]
    SETUP.write_text(
        re.sub(r"vllm>=.*", f"vllm>={major}.{minor},<{most}.{last + 1}", setup), encoding="utf-8"
    )


_table = re.compile(rf"\| {re.escape(' | '.join(_HEADERS))} \|\n(\|.*\n)*")


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
