"""The wheel holds the library alone, with its data files."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytest.importorskip("build", reason="needs the dev extra")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    # setuptools writes its build folder beside the sources: build from a copy
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split("\n")
    for name in filter(None, files):
        if (REPOSITORY / name).is_file() and not name.startswith(("tests/", "plots/")):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((REPOSITORY / name).read_bytes())
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        return archive.namelist()


def test_wheel_holds_simsched_alone(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"simsched"}


def test_wheel_holds_every_module_and_data_file(wheel: list[str]) -> None:
    package = REPOSITORY / "simsched"
    wanted = {
        path.relative_to(REPOSITORY).as_posix()
        for path in package.rglob("*")
        if path.suffix in {".py", ".json", ".j2"} or path.name == "py.typed"
    }
    assert wanted <= set(wheel)


def test_base_install_has_no_heavy_dependency() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(REPOSITORY) / "setup.cfg")
    base = setup["options"]["install_requires"]
    for heavy in ("torch", "transformers", "vllm", "dask"):
        assert heavy not in base
