"""A server on this machine that behaves as badly as the net does."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stateshift.catalogue import Entry, PublicFile, downloader, fetch
from stateshift.errors import StateshiftError


class Site:
    """What the server serves, how it misbehaves, and what it was asked for."""

    CONTENT = bytes(range(256)) * 4000
    HALF = 9 * downloader.CHUNK

    def __init__(self, address: str) -> None:
        self.address = address
        self.content, self.etag, self.modified = self.CONTENT, '"v1"', None
        self.break_after: list[int] = []
        self.statuses: list[int] = []
        self.ranges, self.if_range, self.lengths = True, True, True
        self.type, self.redirect = "application/octet-stream", False
        self.asked: list[dict[str, str]] = []
        self.sent = 0

    def entry(self, **file: object) -> Entry:
        """An entry of one file on this server."""
        named = {"name": "file.bin", "url": f"{self.address}/file.bin", **file}
        return Entry("made", "a made file", "https://example.org/page", "CC0", "nobody", (PublicFile(**named),))

    def break_for_good(self, folder: Path, **file: object) -> None:
        """Five tries that all get no further than `HALF`."""
        goes_on = (self.etag or "").startswith('"') or "checksum" in file
        self.break_after = [self.HALF, 0, 0, 0, 0] if goes_on else [self.HALF] * 5
        with pytest.raises(StateshiftError, match=r"could not be fetched in 5 tries \(it broke off after"):
            fetch(self.entry(**file), folder)
        self.asked.clear()
        self.sent = 0

    def hashed(self, algorithm: str, content: bytes = CONTENT) -> str:
        """A checksum as the catalogue writes it."""
        return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"

    def left_in(self, folder: Path) -> set[str]:
        """Everything in a folder, hidden files too."""
        return {path.name for path in folder.iterdir()}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request, answered as the settings say."""
        self.asked.append(dict(handler.headers))
        if self.redirect and handler.path != "/elsewhere":
            place = "/elsewhere" if self.redirect is True else self.redirect
            self._head(handler, 302, {"Location": place}, 0)
        elif self.statuses:
            page = b"<html>no</html>"
            self._head(handler, self.statuses.pop(0), {"Content-Type": "text/html"}, len(page))
            handler.wfile.write(page)
        else:
            self._serve(handler)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {"ETag": self.etag, "Last-Modified": self.modified, "Content-Type": self.type}
        headers = {key: value for key, value in headers.items() if value}
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.ranges else 0
        if self.if_range and handler.headers.get("If-Range") not in (None, self.etag, self.modified):
            start = 0
        whole = len(self.content)
        if start and start >= whole:
            self._head(handler, 416, {"Content-Range": f"bytes */{whole}"}, 0)
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        self._head(handler, 206 if start else 200, headers, whole - start)
        body = self.content[start:]
        if self.break_after:
            body = body[: self.break_after.pop(0)]
        handler.wfile.write(body)
        self.sent += len(body)

    def _head(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], length: int) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        if self.lengths:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    """A server that runs as long as the test; tries follow each other without a pause."""
    monkeypatch.setattr(downloader, "PAUSE", 0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
