"""A pooch downloader that goes on where a broken-off download stopped."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateshift.errors import StateshiftError
from stateshift.progress import track

if TYPE_CHECKING:
    from requests import Response

TRIES = 5
PAUSE = 1.0
TIMEOUT = (15, 60)
# at most this many bytes are lost when a connection breaks off
CHUNK = 2**16
BUSY = (408, 425, 429, 500, 502, 503, 504)


class _BrokenOff(Exception):
    """The transfer stopped for a reason that another try may mend."""


class ResumingDownloader:
    """Fetch over HTTP into a hidden ``.part`` file beside the target; a later call goes on from its end.

    The part is continued only if it is still the same file: its ETag or modification date is sent
    along (If-Range, RFC 9110, section 13.1.5) and compared with what comes back. A server that names neither is
    trusted to go on only where a checksum tells afterwards.

    Parameters
    ----------
    target
        The final file: the part lies beside it.
    way_out
        A sentence for whoever can't fetch it.
    checked
        Whether a checksum is held against the whole file afterwards.

    Attributes
    ----------
    etag
        The server's mark of the version that was fetched.
    """

    def __init__(self, target: Path, way_out: str, checked: bool):
        self.target, self.way_out, self.checked = target, way_out, checked
        self.part = target.with_name(f".{target.name}.part")
        self.state = self.part.with_name(f"{self.part.name}.json")
        self.etag: str | None = None

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Fetch `url` and move the whole file to `output_file`, as pooch asks of a downloader."""
        try:
            with self._alone():
                self._fetch(url)
            os.replace(self.part, output_file)
            self.state.unlink(missing_ok=True)
        finally:
            if self.part.exists() and not self.part.stat().st_size:
                self.part.unlink()
                self.state.unlink(missing_ok=True)

    def _fetch(self, url: str) -> None:
        """Try a few times, each a little later than the last."""
        import requests
        from requests.exceptions import ChunkedEncodingError

        for attempt in range(TRIES):
            try:
                return self._go_on(url)
            except (_BrokenOff, requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as error:
                if attempt == TRIES - 1:
                    raise StateshiftError(self._gave_up(url, error)) from error
                time.sleep(PAUSE * 2**attempt)
            except StateshiftError:
                raise
            except (requests.RequestException, ValueError) as error:  # the latter of an address that a server leads to
                raise StateshiftError(f"{url} can't be fetched ({error}). {self.way_out}") from error

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes must not write one part; the system forgets the lock of a process that dies."""
        with open(self.part, "ab") as handle:
            with contextlib.suppress(ImportError):
                import fcntl

                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise StateshiftError(f"{self.target} is being fetched by another process: wait for it.") from error
            yield

    def _go_on(self, url: str) -> None:
        """One request: the rest of the part, or all of it."""
        import requests

        known = self._known_part(url)
        start = self.part.stat().st_size if known else 0
        headers = {"Accept-Encoding": "identity", "User-Agent": "stateshift"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if known["validator"]:
                headers["If-Range"] = known["validator"]
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            self._refuse(answer, url, (200, 206, 416) if start else (200,))
            if answer.status_code == 200:
                return self._write(answer, url, 0, _length(answer))
            self.etag = known["etag"]
            if answer.status_code == 416 and _range(answer)[1] == start:
                return None
            if not self._continues(answer, known, start):
                self.state.unlink()
                raise _BrokenOff("the server doesn't go on where the download stopped")
            return self._write(answer, url, start, _range(answer)[1])

    def _known_part(self, url: str) -> dict[str, Any] | None:
        """Which file the part is the beginning of, where that is known well enough to go on."""
        try:
            known = json.loads(self.state.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        same = isinstance(known, dict) and known.get("url") == url
        return known if same and (known.get("validator") or self.checked) else None

    def _continues(self, answer: Response, known: dict[str, Any], start: int) -> bool:
        """Whether an answer is the rest of the same file, whatever the server made of If-Range."""
        first, total = _range(answer)
        came, expected = _validator(answer), known["validator"]
        # a 206 has to repeat the ETag, but may leave out the date
        same = came == expected if expected and expected.startswith('"') else came in (None, expected)
        same = same and (total == known["total"] or None in (total, known["total"]))
        return answer.status_code == 206 and first == start and same

    def _refuse(self, answer: Response, url: str, expected: tuple[int, ...]) -> None:
        """Raise where an answer is no part of any file."""
        status = answer.status_code
        if url.startswith("https:") and not answer.url.startswith("https:"):
            raise StateshiftError(f"{url} leads to {answer.url}, which is not https: nothing was fetched.")
        if status in BUSY:
            raise _BrokenOff(f"it answers {status} {answer.reason}")
        if status not in expected:
            raise StateshiftError(f"{url} answers {status} {answer.reason}: nothing was fetched. {self.way_out}")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise StateshiftError(f"{url} answers with an HTML page instead of the file. {self.way_out}")

    def _write(self, answer: Response, url: str, start: int, total: int | None) -> None:
        """Append the answer to the part, or begin it anew."""
        name = self.target.name
        if total is not None:
            need_room(self.part.parent, total - start, name)
        chunks = answer.iter_content(CHUNK)
        steps = None if total is None else math.ceil((total - start) / CHUNK)
        with open(self.part, "ab" if start else "wb") as part:
            if not start:
                self._begin(answer, url, total)
            for number, chunk in enumerate(track(chunks, f"Fetching {name}", total=steps)):
                if not start and not number and is_html(chunk):
                    raise StateshiftError(f"{url} answers with an HTML page instead of the file. {self.way_out}")
                part.write(chunk)
        arrived = self.part.stat().st_size
        if total is not None and arrived != total:
            raise _BrokenOff(f"it broke off after {arrived:,} of {total:,} bytes")
        if not arrived:
            raise StateshiftError(f"{url} answers with an empty file. {self.way_out}")

    def _begin(self, answer: Response, url: str, total: int | None) -> None:
        """Write down of which file the part is going to be the beginning."""
        self.etag = answer.headers.get("ETag")
        known = {"url": url, "validator": _validator(answer), "total": total, "etag": self.etag}
        if "Content-Encoding" in answer.headers:
            # bytes of the part are not those of the server: nothing to go on from
            self.state.unlink(missing_ok=True)
        else:
            self.state.write_text(json.dumps(known), encoding="utf-8")

    def _gave_up(self, url: str, error: Exception) -> str:
        import requests

        reason = str(error)
        if isinstance(error, requests.Timeout):
            reason = "no answer in time"
        elif isinstance(error, requests.exceptions.ChunkedEncodingError):
            reason = f"it broke off after {self.part.stat().st_size:,} bytes"
        elif isinstance(error, requests.ConnectionError):
            reason = "no connection"
        kept = " What arrived is kept: the same command goes on from there." if self._known_part(url) else ""
        return f"{url} could not be fetched in {TRIES} tries ({reason}).{kept} {self.way_out}"


def is_html(beginning: bytes) -> bool:
    """Whether a file's first bytes are those of an HTML page.

    Examples
    --------
    >>> is_html(b"\\n<!DOCTYPE html><html>"), is_html(b"\\x89HDF\\r\\n")
    (True, False)
    """
    text = beginning[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head"))


def need_room(folder: Path, size: int, name: str) -> None:
    """Raise where a folder's disk has less than `size` bytes left."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StateshiftError(
            f"{name} needs {size:,} bytes and {folder} has {free:,} left: make room or choose another folder with --to."
        )


def _length(answer: Response) -> int | None:
    """Bytes of a whole answer; unknown where the server compresses on the way or doesn't say."""
    said = answer.headers.get("Content-Length", "")
    return int(said) if said.isdecimal() and "Content-Encoding" not in answer.headers else None


def _range(answer: Response) -> tuple[int | None, int | None]:
    """First byte and whole length of a Content-Range header."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    first, total = found.groups() if found else (None, None)
    return (int(first) if first else None), (int(total) if total and total != "*" else None)


def _validator(answer: Response) -> str | None:
    """What If-Range may name: a strong ETag, or the date of the last change."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")
