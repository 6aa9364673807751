"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from simsched.errors import InputError
from simsched.files import atomic_file, require_writable, write_file


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("old")

    def fail() -> None:
        with atomic_file(file) as half:
            half.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    """So is /dev/null, which whoever may write to /dev would otherwise replace by a file."""
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_file(pipe, b"new")
    reader.join(timeout=10)
    assert found == [b"new"]
    assert pipe.is_fifo()


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("no /dev/full here")
    with pytest.raises(InputError, match="/dev/full: cannot write it: No space left on device"):
        write_file(Path("/dev/full"), b"new")


def test_what_could_not_be_written_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", tmp_path / "file" / "far" / "below"):
        with pytest.raises(InputError, match=f"--output {path}: cannot write there"):
            require_writable(path, "--output")
    for path in (tmp_path / "file", tmp_path / "new" / "folder" / "file", Path(os.devnull)):
        require_writable(path, "--output")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
