"""Fetching from a server on this machine that behaves as badly as the net does."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from stateshift.catalogue import downloader, fetch
from stateshift.errors import StateshiftError

HTML = b"<!DOCTYPE html>\n<html><body>Please log in.</body></html>"


@pytest.mark.parametrize("mark", [{"etag": '"v1"'}, {"etag": None, "modified": "Tue, 01 Jul 2025 10:00:00 GMT"}])
def test_a_download_that_breaks_off_goes_on_within_one_call_and_only_the_rest_is_sent(site, tmp_path, mark):
    vars(site).update(mark)
    site.break_after = [site.HALF]
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == site.CONTENT
    assert site.sent == len(site.CONTENT)
    assert [asked.get("Range") for asked in site.asked] == [None, f"bytes={site.HALF}-"]
    assert site.asked[1]["If-Range"] == next(iter(v for v in mark.values() if v))


def test_a_later_call_goes_on_from_the_part_that_an_earlier_one_left(site, tmp_path):
    site.break_for_good(tmp_path)
    assert (tmp_path / ".file.bin.part").read_bytes() == site.CONTENT[: site.HALF]
    assert not (tmp_path / "file.bin").exists()
    (path,) = fetch(site.entry(checksum=site.hashed("md5")), tmp_path)
    assert path.read_bytes() == site.CONTENT
    assert site.sent == len(site.CONTENT) - site.HALF
    assert site.left_in(tmp_path) == {"file.bin", "file.bin.origin.json"}
    assert json.loads((tmp_path / "file.bin.origin.json").read_text())["etag"] == '"v1"'


def test_a_part_that_is_already_whole_is_taken_without_fetching_anything(site, tmp_path):
    site.break_for_good(tmp_path)
    (tmp_path / ".file.bin.part").write_bytes(site.CONTENT)
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == site.CONTENT
    assert site.sent == 0


@pytest.mark.parametrize("honest", [True, False], ids=["If-Range is obeyed", "If-Range is ignored"])
def test_a_file_that_changed_between_the_halves_is_fetched_anew_and_never_glued(site, tmp_path, honest):
    site.break_for_good(tmp_path)
    site.content, site.etag, site.if_range = site.CONTENT[::-1], '"v2"', honest
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == site.CONTENT[::-1]
    assert json.loads((tmp_path / "file.bin.origin.json").read_text())["etag"] == '"v2"'


def test_a_file_that_grew_under_the_same_mark_is_fetched_anew(site, tmp_path):
    site.break_for_good(tmp_path)
    site.content = site.CONTENT[::-1] + b"more"
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == site.CONTENT[::-1] + b"more"


def test_a_server_that_refuses_ranges_is_asked_for_the_whole_again(site, tmp_path):
    site.ranges = False
    site.break_after = [site.HALF]
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == site.CONTENT
    assert site.sent == site.HALF + len(site.CONTENT)


def test_without_a_mark_of_the_version_only_a_checksum_allows_to_go_on(site, tmp_path):
    site.etag = None
    site.break_for_good(tmp_path)
    (path,) = fetch(site.entry(), tmp_path)
    assert site.asked[0].get("Range") is None
    path.unlink()
    (tmp_path / "file.bin.origin.json").unlink()
    site.break_for_good(tmp_path, checksum=site.hashed("sha256"))
    fetch(site.entry(checksum=site.hashed("sha256")), tmp_path)
    assert site.asked[0]["Range"] == f"bytes={site.HALF}-"
    assert path.read_bytes() == site.CONTENT


def test_a_weak_etag_is_not_trusted_for_going_on(site, tmp_path):
    site.etag = 'W/"v1"'
    site.break_for_good(tmp_path)
    fetch(site.entry(), tmp_path)
    assert site.asked[0].get("Range") is None


def test_redirects_are_followed(site, tmp_path):
    site.redirect = True
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == site.CONTENT


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "ftp://127.0.0.1/x", "http://[::bad/", "http://127.0.0.1:99999/"]
)
def test_a_redirect_to_a_file_or_to_nowhere_is_refused(site, tmp_path, place):
    site.redirect = place
    with pytest.raises(StateshiftError, match=r"file\.bin can't be fetched \(.*The source is"):
        fetch(site.entry(), tmp_path / "to")
    assert site.left_in(tmp_path / "to") == set()


def test_a_redirect_away_from_https_is_refused(tmp_path):
    led = SimpleNamespace(status_code=200, reason="OK", url="http://example.org/file.bin", headers={})
    fetching = downloader.ResumingDownloader(tmp_path / "file.bin", "", checked=True)
    with pytest.raises(StateshiftError, match="leads to http://example.org/file.bin, which is not https"):
        fetching._refuse(led, "https://example.org/file.bin", (200,))


def test_a_server_that_says_no_length_is_read_to_the_end(site, tmp_path):
    site.lengths = False
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == site.CONTENT


def test_a_busy_server_is_asked_again(site, tmp_path):
    site.statuses = [503, 429, 500]
    (path,) = fetch(site.entry(), tmp_path)
    assert path.read_bytes() == site.CONTENT
    assert len(site.asked) == 4


def test_a_server_that_stays_busy_ends_in_a_sentence(site, tmp_path):
    site.statuses = [503] * 9
    with pytest.raises(
        StateshiftError, match=r"could not be fetched in 5 tries \(it answers 503 Service Unavailable\)"
    ):
        fetch(site.entry(), tmp_path)
    assert len(site.asked) == 5
    assert site.left_in(tmp_path) == set()


def test_a_server_that_isnt_there_ends_in_a_sentence(site, tmp_path):
    nowhere = site.entry(url="http://127.0.0.1:9/file.bin")
    with pytest.raises(
        StateshiftError, match=r"127.0.0.1:9/file.bin could not be fetched in 5 tries \(no connection\)"
    ):
        fetch(nowhere, tmp_path)
    assert site.left_in(tmp_path) == set()


@pytest.mark.parametrize("status", [403, 404, 202])
def test_a_refusal_names_the_address_the_source_and_the_way_by_hand(site, tmp_path, status):
    site.statuses = [status]
    with pytest.raises(StateshiftError, match=f"answers {status}") as refused:
        fetch(site.entry(), tmp_path)
    for needed in (f"{site.address}/file.bin", "https://example.org/page", str(tmp_path / "file.bin")):
        assert needed in str(refused.value)
    assert site.left_in(tmp_path) == set()


@pytest.mark.parametrize("type_", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("page", [HTML, b"\xef\xbb\xbf \n<html>\n"])
def test_an_html_page_in_place_of_the_file_is_refused(site, tmp_path, type_, page):
    site.content, site.type = page, type_
    with pytest.raises(StateshiftError, match="answers with an HTML page instead of the file"):
        fetch(site.entry(), tmp_path)
    assert site.left_in(tmp_path) == set()


def test_an_empty_answer_is_refused(site, tmp_path):
    site.content = b""
    with pytest.raises(StateshiftError, match="empty file"):
        fetch(site.entry(), tmp_path)
    assert site.left_in(tmp_path) == set()


def test_a_full_disk_shows_before_the_first_byte(site, tmp_path, monkeypatch):
    monkeypatch.setattr(downloader.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(StateshiftError, match=r"file.bin needs 1,024,000 bytes and .* has 1,000 left"):
        fetch(site.entry(), tmp_path)
    assert site.left_in(tmp_path) == set()


def test_a_part_that_another_process_writes_is_left_to_it(site, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with open(tmp_path / ".file.bin.part", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StateshiftError, match="is being fetched by another process"):
            fetch(site.entry(), tmp_path)
    assert site.asked == []
