"""Public files by name, against a server on this machine that behaves as badly as the net does."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from stateshift.catalogue import Entry, PublicFile, downloader, entries, entry, fetch, get, is_here
from stateshift.errors import StateshiftError
from stateshift.proteins.esm2 import HUB, PUBLISHED

CONTENT = bytes(range(256)) * 4000
HALF = 9 * downloader.CHUNK
HTML = b"<!DOCTYPE html>\n<html><body>Please log in.</body></html>"


class Site:
    """What the server serves, how it misbehaves, and what it was asked for."""

    def __init__(self) -> None:
        self.content, self.etag, self.modified = CONTENT, '"v1"', None
        self.break_after: list[int] = []
        self.statuses: list[int] = []
        self.ranges, self.if_range, self.lengths = True, True, True
        self.type, self.redirect = "application/octet-stream", None
        self.asked: list[dict[str, str]] = []
        self.sent = 0

    def entry(self, **file: object) -> Entry:
        """An entry of one file on this server."""
        url = f"{self.address}/file.bin"
        named = {"name": "file.bin", "url": url, **file}
        return Entry("made", "a made file", "https://example.org/page", "CC0", "nobody", (PublicFile(**named),))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(dict(handler.headers))
        if self.redirect and handler.path != "/elsewhere":
            self._head(handler, 302, {"Location": "/elsewhere"}, 0)
            return
        if self.statuses:
            self._head(handler, self.statuses.pop(0), {"Content-Type": "text/html"}, len(HTML))
            handler.wfile.write(HTML)
            return
        marks = {k: v for k, v in (("ETag", self.etag), ("Last-Modified", self.modified)) if v}
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.ranges else 0
        if self.if_range and handler.headers.get("If-Range") not in (None, self.etag, self.modified):
            start = 0
        whole = len(self.content)
        if start and start >= whole:
            self._head(handler, 416, {"Content-Range": f"bytes */{whole}"}, 0)
            return
        if start:
            marks["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        self._head(handler, 206 if start else 200, {"Content-Type": self.type, **marks}, whole - start)
        body = self.content[start:]
        if self.break_after:
            body = body[: self.break_after.pop(0)]
            handler.close_connection = True
        handler.wfile.write(body)
        self.sent += len(body)

    def _head(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], length: int) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        if self.lengths:
            handler.send_header("Content-Length", str(length))
        else:
            handler.close_connection = True
        handler.end_headers()


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setattr(downloader, "PAUSE", 0)
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def hashed(algorithm: str, content: bytes = CONTENT) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def break_for_good(site: Site, folder: Path, **file: object) -> None:
    """Five tries that all get no further than `HALF`."""
    goes_on = (site.etag or "").startswith('"') or "checksum" in file
    site.break_after = [HALF, 0, 0, 0, 0] if goes_on else [HALF] * 5
    with pytest.raises(StateshiftError, match=r"could not be fetched in 5 tries \(it broke off after"):
        fetch(site.entry(**file), folder)
    site.asked.clear()
    site.sent = 0


def test_a_file_is_fetched_once_and_its_origin_written_down(site, tmp_path):
    folder = tmp_path / "new" / "folder"
    (path,) = fetch(site.entry(), folder)
    assert path == folder / "file.bin"
    assert path.read_bytes() == CONTENT
    assert left_in(folder) == {"file.bin", "file.bin.origin.json"}
    origin = json.loads((folder / "file.bin.origin.json").read_text())
    assert origin.pop("date").endswith("+00:00")
    assert origin == {
        "address": f"{site.address}/file.bin",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "etag": '"v1"',
    }
    assert fetch(site.entry(), folder) == [path]
    assert len(site.asked) == 1


@pytest.mark.parametrize("mark", [{"etag": '"v1"'}, {"etag": None, "modified": "Tue, 01 Jul 2025 10:00:00 GMT"}])
def test_a_download_that_breaks_off_goes_on_within_one_call_and_only_the_rest_is_sent(site, tmp_path, mark):
    vars(site).update(mark)
    site.break_after = [HALF]
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == CONTENT
    assert site.sent == len(CONTENT)
    assert [asked.get("Range") for asked in site.asked] == [None, f"bytes={HALF}-"]
    assert site.asked[1]["If-Range"] == next(iter(v for v in mark.values() if v))


def test_a_later_call_goes_on_from_the_part_that_an_earlier_one_left(site, tmp_path):
    break_for_good(site, tmp_path)
    assert (tmp_path / ".file.bin.part").read_bytes() == CONTENT[:HALF]
    assert not (tmp_path / "file.bin").exists()
    (path,) = fetch(site.entry(checksum=hashed("md5")), tmp_path)
    assert path.read_bytes() == CONTENT
    assert site.sent == len(CONTENT) - HALF
    assert left_in(tmp_path) == {"file.bin", "file.bin.origin.json"}
    assert json.loads((tmp_path / "file.bin.origin.json").read_text())["etag"] == '"v1"'


def test_a_part_that_is_already_whole_is_taken_without_fetching_anything(site, tmp_path):
    break_for_good(site, tmp_path)
    (tmp_path / ".file.bin.part").write_bytes(CONTENT)
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == CONTENT
    assert site.sent == 0


@pytest.mark.parametrize("honest", [True, False], ids=["If-Range is obeyed", "If-Range is ignored"])
def test_a_file_that_changed_between_the_halves_is_fetched_anew_and_never_glued(site, tmp_path, honest):
    break_for_good(site, tmp_path)
    site.content, site.etag, site.if_range = CONTENT[::-1], '"v2"', honest
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == CONTENT[::-1]
    assert json.loads((tmp_path / "file.bin.origin.json").read_text())["etag"] == '"v2"'


def test_a_file_that_grew_under_the_same_mark_is_fetched_anew(site, tmp_path):
    break_for_good(site, tmp_path)
    site.content = CONTENT[::-1] + b"more"
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == CONTENT[::-1] + b"more"


def test_a_server_that_refuses_ranges_is_asked_for_the_whole_again(site, tmp_path):
    site.ranges = False
    site.break_after = [HALF]
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == CONTENT
    assert site.sent == HALF + len(CONTENT)


def test_without_a_mark_of_the_version_only_a_checksum_allows_to_go_on(site, tmp_path):
    site.etag = None
    break_for_good(site, tmp_path)
    (path,) = fetch(site.entry(), tmp_path)
    assert site.asked[0].get("Range") is None
    path.unlink()
    (tmp_path / "file.bin.origin.json").unlink()
    break_for_good(site, tmp_path, checksum=hashed("sha256"))
    fetch(site.entry(checksum=hashed("sha256")), tmp_path)
    assert site.asked[0]["Range"] == f"bytes={HALF}-"
    assert path.read_bytes() == CONTENT


def test_a_weak_etag_is_not_trusted_for_going_on(site, tmp_path):
    site.etag = 'W/"v1"'
    break_for_good(site, tmp_path)
    fetch(site.entry(), tmp_path)
    assert site.asked[0].get("Range") is None


def test_redirects_are_followed(site, tmp_path):
    site.redirect = True
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_redirect_away_from_https_is_refused(tmp_path):
    led = SimpleNamespace(status_code=200, reason="OK", url="http://example.org/file.bin", headers={})
    fetching = downloader.ResumingDownloader(tmp_path / "file.bin", "", checked=True)
    with pytest.raises(StateshiftError, match="leads to http://example.org/file.bin, which is not https"):
        fetching._refuse(led, "https://example.org/file.bin", (200,))


def test_a_server_that_says_no_length_is_read_to_the_end(site, tmp_path):
    site.lengths = False
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(site, tmp_path):
    site.statuses = [503, 429, 500]
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == CONTENT
    assert len(site.asked) == 4


def test_a_server_that_stays_busy_ends_in_a_sentence(site, tmp_path):
    site.statuses = [503] * 9
    with pytest.raises(
        StateshiftError, match=r"could not be fetched in 5 tries \(it answers 503 Service Unavailable\)"
    ):
        fetch(site.entry(), tmp_path)
    assert len(site.asked) == 5
    assert left_in(tmp_path) == set()


def test_a_server_that_isnt_there_ends_in_a_sentence(site, tmp_path):
    nowhere = site.entry(url="http://127.0.0.1:9/file.bin")
    with pytest.raises(
        StateshiftError, match=r"127.0.0.1:9/file.bin could not be fetched in 5 tries \(no connection\)"
    ):
        fetch(nowhere, tmp_path)
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize("status", [403, 404, 202])
def test_a_refusal_names_the_address_the_source_and_the_way_by_hand(site, tmp_path, status):
    site.statuses = [status]
    with pytest.raises(StateshiftError, match=f"answers {status}") as refused:
        fetch(site.entry(), tmp_path)
    for needed in (f"{site.address}/file.bin", "https://example.org/page", str(tmp_path / "file.bin")):
        assert needed in str(refused.value)
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize("type_", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("page", [HTML, b"\xef\xbb\xbf \n<html>\n"])
def test_an_html_page_in_place_of_the_file_is_refused(site, tmp_path, type_, page):
    site.content, site.type = page, type_
    with pytest.raises(StateshiftError, match="answers with an HTML page instead of the file"):
        fetch(site.entry(), tmp_path)
    assert left_in(tmp_path) == set()


def test_an_empty_answer_is_refused(site, tmp_path):
    site.content = b""
    with pytest.raises(StateshiftError, match="empty file"):
        fetch(site.entry(), tmp_path)
    assert left_in(tmp_path) == set()


def test_a_wrong_checksum_keeps_nothing(site, tmp_path):
    with pytest.raises(StateshiftError, match=r"its checksum is not md5:[0-9a-f]{32}.*nothing was kept"):
        fetch(site.entry(checksum=hashed("md5", b"other")), tmp_path)
    assert left_in(tmp_path) == set()
    (path,) = fetch(site.entry(checksum=hashed("md5")), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_checked_and_taken(site, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    assert fetch(site.entry(checksum=hashed("sha256")), tmp_path) == [path]
    path.write_bytes(b"other")
    with pytest.raises(StateshiftError, match=f"{path} is not the file that https://example.org/page describes"):
        fetch(site.entry(checksum=hashed("sha256")), tmp_path)
    assert path.read_bytes() == b"other"
    assert site.asked == []


def test_a_file_put_there_by_hand_is_trusted_from_then_on_but_never_an_html_page(site, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(HTML)
    with pytest.raises(StateshiftError, match="is an HTML page and not the file"):
        fetch(site.entry(), tmp_path)
    path.write_bytes(b"mine")
    fetch(site.entry(), tmp_path)
    assert json.loads((tmp_path / "file.bin.origin.json").read_text())["sha256"] == hashed("sha256", b"mine")[7:]


def test_a_trusted_file_that_changed_on_disk_is_refused_until_that_is_accepted(site, tmp_path):
    (path,) = fetch(site.entry(), tmp_path)
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(
        StateshiftError, match="has changed since .* delete it to fetch it again, or delete .*origin.json"
    ):
        fetch(site.entry(), tmp_path)
    (tmp_path / "file.bin.origin.json").unlink()
    assert fetch(site.entry(), tmp_path) == [path]
    assert len(site.asked) == 1


def test_a_source_that_changed_since_it_was_trusted_is_refused_until_that_is_accepted(site, tmp_path):
    (path,) = fetch(site.entry(), tmp_path)
    path.unlink()
    site.content, site.etag = b"another release", '"v2"'
    with pytest.raises(
        StateshiftError, match="serves another file than on .* To accept the new one, delete .*origin.json"
    ):
        fetch(site.entry(), tmp_path)
    assert left_in(tmp_path) == {"file.bin.origin.json"}
    (tmp_path / "file.bin.origin.json").unlink()
    fetch(site.entry(), tmp_path)
    assert path.read_bytes() == b"another release"


def test_a_full_disk_shows_before_the_first_byte(site, tmp_path, monkeypatch):
    monkeypatch.setattr(downloader.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(StateshiftError, match=r"file.bin needs 1,024,000 bytes and .* has 1,000 left"):
        fetch(site.entry(), tmp_path)
    assert left_in(tmp_path) == set()


def test_a_part_that_another_process_writes_is_left_to_it(site, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with open(tmp_path / ".file.bin.part", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StateshiftError, match="is being fetched by another process"):
            fetch(site.entry(), tmp_path)
    assert site.asked == []


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return packed.getvalue()


def test_an_archive_that_is_of_use_only_unpacked_is_unpacked_once(site, tmp_path):
    site.content = zipped(**{"pack/a.h5": b"cells", "pack/deep/b.pt": b"features"})
    packed = site.entry(name="pack.zip", unpack=True)
    assert fetch(packed, tmp_path) == [tmp_path / "pack"]
    assert (tmp_path / "pack" / "a.h5").read_bytes() == b"cells"
    assert (tmp_path / "pack" / "deep" / "b.pt").read_bytes() == b"features"
    assert left_in(tmp_path) == {"pack", "pack.zip", "pack.zip.origin.json"}
    (tmp_path / "pack" / "a.h5").write_bytes(b"worked on")
    fetch(packed, tmp_path)
    assert (tmp_path / "pack" / "a.h5").read_bytes() == b"worked on"


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/outside.txt", "pack/../../outside.txt", "..\\outside.txt", "C:x.txt"]
)
def test_an_archive_that_reaches_outside_its_folder_is_not_unpacked(site, tmp_path, name):
    folder = tmp_path / "in"
    site.content = zipped(**{"pack/a.h5": b"cells", name: b"evil"})
    with pytest.raises(StateshiftError, match="would lie outside its folder: not unpacked"):
        fetch(site.entry(name="pack.zip", unpack=True), folder)
    assert left_in(folder) == {"pack.zip", "pack.zip.origin.json"}
    assert left_in(tmp_path) == {"in"}


def test_a_link_in_an_archive_is_not_unpacked(site, tmp_path):
    link = zipfile.ZipInfo("pack/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr(link, "/etc")
    site.content = packed.getvalue()
    with pytest.raises(StateshiftError, match="not unpacked"):
        fetch(site.entry(name="pack.zip", unpack=True), tmp_path)


def test_a_broken_archive_is_a_sentence(site, tmp_path):
    with pytest.raises(StateshiftError, match="is no whole zip file"):
        fetch(site.entry(name="pack.zip", unpack=True), tmp_path)


def test_every_entry_says_where_it_comes_from_and_under_which_terms():
    known = entries()
    assert len(known) >= 20
    names = [file.name for e in known.values() for file in e.files]
    assert len(names) == len(set(names))
    for e in known.values():
        assert e.what, e.name
        assert e.licence, e.name
        assert e.citation, e.name
        assert e.source.startswith("https://"), e.name
        assert bool(e.files) != bool(e.manual), e.name
        for file in e.files:
            assert file.url.startswith("https://"), file
            assert Path(file.name).name == file.name, file
            assert file.size is None or file.size > 0, file
            assert file.unpack == file.name.endswith(".zip"), file
            if file.checksum:
                algorithm, _, digest = file.checksum.partition(":")
                assert re.fullmatch(r"[0-9a-f]+", digest), file
                assert len(digest) == 2 * hashlib.new(algorithm).digest_size, file


def test_what_users_ask_for_is_there():
    asked = {
        "vcc2025_train",
        "vcc2025_val",
        "vcc2025_test",
        "vcc2025_support",
        "replogle_k562_essential",
        "norman_2019",
    }
    asked |= {"replogle_rpe1", "replogle_k562_gwps", "nadig_hepg2", "nadig_jurkat", "adamson_2016", "kang_2018"}
    asked |= {"jiang_2025_tgfb", "tahoe_starter", "uniprot_human", "hgnc", *PUBLISHED}
    assert asked <= set(entries())
    assert entry("adamson_2016").size == 34_557_246 + 139_059_637 + 471_286_951
    assert entry("hgnc").size is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_esm2_checkpoints_are_where_the_embedding_looks_for_them(name):
    model, regression = entry(name).files
    assert model == PublicFile(f"{name}.pt", f"{HUB}/{name}.pt", model.size)
    assert regression.name == f"{name}-contact-regression.pt"


def test_a_near_miss_is_suggested_and_a_manual_entry_says_how(tmp_path):
    with pytest.raises(StateshiftError, match="did you mean `replogle_rpe1`"):
        get("replogle_rpe")
    with pytest.raises(StateshiftError, match="can't be fetched by a program: register"):
        get("vcc2026_controls", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_the_cache_holds_a_folder_an_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path))
    tables = entry("hgnc")
    assert not is_here(tables)
    (tmp_path / "hgnc").mkdir()
    (tmp_path / "hgnc" / "hgnc_complete_set.txt").write_text("hgnc_id\tsymbol\n")
    assert is_here(tables)
    assert get("hgnc") == [tmp_path / "hgnc" / "hgnc_complete_set.txt"]
    assert not is_here(entry("vcc2026_controls"))


def test_the_commands_list_and_get(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from stateshift.cli.main import app

    monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, ["data", "list"])
    assert shown.exit_code == 0
    for needed in ("replogle_k562_gwps", "8.8 GB", "CC BY 4.0", "zenodo.org", "unknown"):
        assert needed in shown.stdout
    shown = CliRunner().invoke(app, ["data", "list", "kang_2018"])
    for needed in ("38,356,412 bytes", "sha256:e6a5adac", "10.1038/nbt.4042"):
        assert needed in shown.stdout
    to = tmp_path / "to"
    to.mkdir()
    (to / "hgnc_complete_set.txt").write_text("hgnc_id\tsymbol\n")
    done = CliRunner().invoke(app, ["data", "get", "hgnc", "--to", str(to)])
    assert done.stdout.strip() == str(to / "hgnc_complete_set.txt")
    refused = CliRunner().invoke(app, ["data", "get", "hgnc", "kang2018"])
    assert "did you mean `kang_2018`" in str(refused.exception)
