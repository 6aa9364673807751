"""Fetching from a real HTTP server on this machine: checked, whole, or nothing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.cli.trace import trace_command
from simsched.errors import InputError
from simsched.workload.fetch import PUBLIC_TRACES, fetch

CONTENT = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"2023-11-16 18:17:03.9799600,374,44\n" * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        public = PUBLIC_TRACES["azure-conv-2023"]
        if not self.path.endswith(f"/{public.repository}/{public.commit}/{public.path}"):
            self.send_error(404)
            return
        self.send_response(200)
        if "/unsized/" not in self.path:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:9000] if "/cut/" in self.path else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_a_fetched_trace_is_whole_and_its_progress_told(server: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = tmp_path / "t.csv"
    found = fetch(
        "azure-conv-2023", path, url_base=server, sha256=SHA256.upper(), progress=lambda *s: seen.append(s)
    )
    assert path.read_bytes() == CONTENT
    assert found == SHA256
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 1


def test_a_server_that_tells_no_size(server: str, tmp_path: Path) -> None:
    fetch("azure-conv-2023", tmp_path / "t.csv", url_base=f"{server}/unsized", sha256=SHA256)
    assert (tmp_path / "t.csv").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "base", "options", "message"),
    [
        ("azure-conv-2023", "", {"sha256": "0" * 64}, f"sha256 {SHA256}: expected {'0' * 64}"),
        ("azure-conv-2023", "", {}, f"no checksum is on record; its sha256 is {SHA256}"),
        (
            "azure-conv-2023",
            "/cut",
            {"verify": False},
            f"an incomplete transfer: 9000 of {len(CONTENT)} bytes",
        ),
        ("azure-conv-2023", "/unsized/cut", {"sha256": SHA256}, "expected " + SHA256),
        ("burstgpt", "", {}, "the server answered 404"),
        ("azure", "", {}, "expected one of azure-conv-2023"),
    ],
)
def test_a_failed_fetch_leaves_what_was_there(
    server: str, tmp_path: Path, name: str, base: str, options: dict[str, object], message: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("before")
    with pytest.raises(InputError) as error:
        fetch(name, path, url_base=server + base, **options)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("base", ["http://127.0.0.1:9", "file:///etc", "nonsense"])
def test_no_server(tmp_path: Path, base: str) -> None:
    with pytest.raises(InputError, match=r"cannot fetch it|--url-base"):
        fetch("azure-conv-2023", tmp_path / "t.csv", url_base=base)
    assert not list(tmp_path.iterdir())


def test_checksums_on_record_are_sha256() -> None:
    for public in PUBLIC_TRACES.values():
        assert public.sha256 is None or len(bytes.fromhex(public.sha256)) == 32
        assert len(bytes.fromhex(public.commit)) == 20
        assert public.url().startswith("https://")


def test_the_command(server: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    arguments = ["fetch", "azure-conv-2023", "--url-base", server, "-o", str(path), "--no-verify"]
    result = CliRunner().invoke(trace_command, arguments)
    assert result.exit_code == 0, result.output
    assert f"sha256 {SHA256}" in result.stderr
    assert path.read_bytes() == CONTENT
    listed = CliRunner().invoke(trace_command, ["fetch", "--list"])
    assert all(name in listed.stdout for name in PUBLIC_TRACES)
