"""Download public traces by name, checked before they take their name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from simsched.errors import InputError
from simsched.files import atomic_file

RAW = "https://raw.githubusercontent.com"
LFS = "https://media.githubusercontent.com/media"
_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without a byte
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class PublicTrace:
    """Where a public trace lies, and what it must be."""

    repository: str
    commit: str
    path: str
    licence: str
    about: str
    base: str = RAW
    sha256: str | None = None
    """None: not on record."""

    def url(self, base: str | None = None) -> str:
        """Its address, at another server if a base is given."""
        return f"{(base or self.base).rstrip('/')}/{self.repository}/{self.commit}/{self.path}"


_AZURE = ("Azure/AzurePublicDataset", "790921015d50dd6aae7f7e47f39ba0e235ad6b08")
PUBLIC_TRACES: dict[str, PublicTrace] = {
    "azure-conv-2023": PublicTrace(
        *_AZURE, "data/AzureLLMInferenceTrace_conv.csv", "CC-BY-4.0", "Azure chat, one hour, 19,366 requests"
    ),
    "azure-code-2023": PublicTrace(
        *_AZURE, "data/AzureLLMInferenceTrace_code.csv", "CC-BY-4.0", "Azure code completion, one hour"
    ),
    "mooncake-conversation": PublicTrace(
        "kvcache-ai/Mooncake",
        "a2a4b18ac537fd798d50e6e9f57031ce86419a37",
        "FAST25-release/traces/conversation_trace.jsonl",
        "Apache-2.0",
        "Kimi chat with shared prefixes, one hour, 12,031 requests",
    ),
    "mooncake-synthetic": PublicTrace(
        "kvcache-ai/Mooncake",
        "3cca71daccf2a7afb8fe3f0295358f70e3a69fdb",
        "FAST25-release/traces/synthetic_trace.jsonl",
        "Apache-2.0",
        "Mooncake's synthetic mixture with shared prefixes",
    ),
    "burstgpt": PublicTrace(
        "HPMLL/BurstGPT",
        "5d93d820d9b6bee4e26914df003e5713538164ae",
        "data/BurstGPT_without_fails_1.csv",
        "licence: see its repository",
        "ChatGPT and GPT-4 on a campus, two months, failed requests left out (51 MB)",
        base=LFS,
        sha256="a4d068a7113ec0290e74063a1b3447dc6001a30e4298eb313581b71006dda1f4",
    ),
}


def fetch(
    name: str,
    path: Path,
    *,
    url_base: str | None = None,
    sha256: str | None = None,
    verify: bool = True,
    progress: Progress = lambda done, total: None,
) -> str:
    """Download the public trace to `path`, whole and checked, or leave nothing.

    Args:
        name: one of `PUBLIC_TRACES`.
        path: the file to write; its folder must exist.
        url_base: another server with the same paths.
        sha256: the checksum to expect, where none is on record or another is wanted.
        verify: False keeps the file whatever its checksum is.
        progress: called with the bytes so far and in all (None = not told).

    Returns:
        The file's sha256.

    Raises:
        InputError: unknown name, no connection, an incomplete transfer, a checksum that differs or is not
            on record.
    """
    if name not in PUBLIC_TRACES:
        raise InputError(f"trace fetch {name}: unknown; expected one of {', '.join(PUBLIC_TRACES)}")
    public = PUBLIC_TRACES[name]
    expected = sha256.lower() if sha256 is not None else public.sha256
    url = public.url(url_base)
    digest = hashlib.sha256()
    with atomic_file(path) as file:
        for chunk in _download(url, progress):
            digest.update(chunk)
            file.write(chunk)
        found = digest.hexdigest()
        if verify and expected is None:
            raise InputError(
                f"{url}: no checksum is on record; its sha256 is {found}; pass --sha256 with the one you "
                "trust, or --no-verify"
            )
        if verify and found != expected:
            raise InputError(f"{url}: sha256 {found}: expected {expected}")
    return found


def _download(url: str, progress: Progress) -> Iterator[bytes]:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url-base: {url}: expected an address that starts with http:// or https://")
    done = 0
    try:
        with urlopen(url, timeout=_TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length is not None and length.isdigit() else None
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                progress(done, total)
                yield chunk
    except HTTPError as error:
        raise InputError(f"{url}: the server answered {error.code} {error.reason}") from None
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url}: cannot fetch it: {reason}") from None
    if total is not None and done != total:
        raise InputError(f"{url}: an incomplete transfer: {done} of {total} bytes")
