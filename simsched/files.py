"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from simsched.errors import InputError

TEMPORARY = ".tmp-"
"""What the names of files and folders under way begin with: a kill leaves them, and they may be removed."""


def temporary_name(path: Path) -> Path:
    """A name beside `path`, of this process alone, for what will be renamed to it when it is complete."""
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only when it is complete; a device or pipe is written to as it is.

    Raises:
        InputError: its folder does not exist or can't be written to.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        try:
            with path.open("wb") as file:
                yield file
        except OSError as error:
            raise InputError(f"{path}: cannot write it: {error.strerror}") from None
        return
    path = path.resolve() if path.is_symlink() else path  # what a link points to is replaced, not the link
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.name}-")
    except OSError as error:
        raise InputError(f"{path}: cannot write it: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise InputError(f"{path}: cannot write it: {error.strerror}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes) -> None:
    """Write a file by `atomic_file`, into a folder that is made if need be."""
    make_folder_of(path)
    with atomic_file(path) as file:
        file.write(content)


def make_folder_of(path: Path) -> None:
    """Raises InputError where the folder that the file is to be in can't be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot make its folder: {error.strerror}") from None


def require_writable(path: Path, option: str) -> None:
    """Refuse, before a long run, a path that could not be written after it; makes nothing.

    Raises:
        InputError: the nearest folder above it that exists can't be written to.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        return  # a device or pipe needs no room beside it
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{option} {path}: cannot write there: {error.strerror}") from None
