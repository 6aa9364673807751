"""Shared fixtures. `shared_data` is the only path outside the repository."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# Tables would keep to it, also those of processes that tests start: pytest imports readline, which sets it
# for them unseen by `os.environ`.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The optional folder of real traces, tables and prompts; tests that need it skip without it."""
    folder = Path(os.environ.get("SIMSCHED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set SIMSCHED_DATA)")
    return folder


@pytest.fixture(scope="session")
def h100(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Replays on an H100 as `validate replay` wrote them, unpacked."""
    archives = sorted((shared_data / "h100").glob("*.tar.xz"))
    if not archives:
        pytest.skip(f"no replays at {shared_data / 'h100'}")
    folder = tmp_path_factory.mktemp("h100")
    for archive in archives:
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
    for trace in (shared_data / "h100").glob("*.json*"):
        shutil.copy(trace, folder)
    return folder


@pytest.fixture(scope="session")
def shared_cases(shared_data: Path) -> Path:
    """Small files beside the real data that once were read wrong; tests that need them skip without."""
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no small files at {folder}")
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """An engine that was compiled from other sources than these would be tested in their place."""
    for library in (REPOSITORY / "simsched").rglob("*.so"):
        source = library.with_name(library.name.split(".")[0] + ".py")
        if source.is_file() and source.stat().st_mtime > library.stat().st_mtime:
            pytest.exit(f"{library} is older than {source.name}: compile again, or delete it", returncode=2)


def pytest_report_header() -> str:
    from simsched.engine.vllm_v1 import uncontended

    file = uncontended.__file__
    return f"engine: {'interpreted' if file.endswith('.py') else 'compiled'}, {file}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Benchmarks run only when their folder or file is named."""
    named = any("benchmarks" in word for word in config.invocation_params.args)
    return True if collection_path.name == "benchmarks" and not named else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests run only where a marker expression (`-m slow`) was given."""
    if not config.getoption("markexpr"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with `pytest -m slow`"))


@pytest.fixture
def policies_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies and routers that a test registers or adopts are forgotten after it."""
    from simsched.policies import adopted, base
    from simsched.routers import base as routers

    monkeypatch.setattr(routers, "_registry", dict(routers._registry))
    monkeypatch.setattr(base, "_registry", dict(base._registry))
    monkeypatch.setattr(adopted, "_objects", {})
