"""A trace file's bytes: unpacked whatever packed them, and decoded whatever its encoding says."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from pathlib import Path

from simsched.errors import InputError

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}
"""What packed files begin with."""


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked if it is in gzip, zstd, xz or bzip2.

    Raises:
        InputError: missing, unreadable or truncated.
    """
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{path}: expected a trace file, found a folder") from None
    except OSError as error:
        raise InputError(f"{str(path)[:200]}: cannot read it: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{str(path)!r}: not the name of a file") from None
    for magic, name in _PACKED.items():
        if data.startswith(magic):
            return _unpacked(path, data, name)
    return data


def _unpacked(path: Path, data: bytes, name: str) -> bytes:
    try:
        if name == "gzip":
            return gzip.decompress(data)
        if name == "xz":
            return lzma.decompress(data)
        if name == "bzip2":
            return bz2.decompress(data)
        return _unpacked_zstd(path, data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        raise InputError(f"{path}: a damaged or truncated {name} file") from None


def _unpacked_zstd(path: Path, data: bytes) -> bytes:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise InputError(f"{path}: a zstd file needs the package backports.zstd") from None
    try:
        return zstd.decompress(data)
    except zstd.ZstdError:
        raise ValueError from None


def text_of(path: Path, data: bytes) -> str:
    """A file's content as text: UTF-8, or UTF-16 with or without a byte order mark.

    Raises:
        InputError: it is in neither, or binary.
    """
    encoding = "utf-8-sig"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif len(data) > 3 and data[1] == 0 != data[0] and data[3] == 0:
        encoding = "utf-16-le"
    elif len(data) > 3 and data[0] == 0 != data[1] and data[2] == 0:
        encoding = "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: expected text in UTF-8 or UTF-16, found a binary byte at {error.start}"
        ) from None
    if "\x00" in text:
        at = text.index("\x00")
        line = text.count("\n", 0, at) + 1
        raise InputError(f"{path}:{line}: expected text, found a binary byte at {at}")
    return text
