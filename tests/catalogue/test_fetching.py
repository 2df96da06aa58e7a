"""Files on disk: checked, trusted once, unpacked; the commands that ask for them."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import zipfile

import pytest

from stateshift.catalogue import entry, fetch, get, is_here
from stateshift.errors import StateshiftError

HTML = b"<!DOCTYPE html>\n<html><body>Please log in.</body></html>"


def test_a_file_is_fetched_once_and_its_origin_written_down(site, tmp_path):
    folder = tmp_path / "new" / "folder"
    (path,) = fetch(site.entry(), folder)
    assert path == folder / "file.bin"
    assert path.read_bytes() == site.CONTENT
    assert site.left_in(folder) == {"file.bin", "file.bin.origin.json"}
    origin = json.loads((folder / "file.bin.origin.json").read_text())
    assert origin.pop("date").endswith("+00:00")
    assert origin == {
        "address": f"{site.address}/file.bin",
        "size": len(site.CONTENT),
        "sha256": hashlib.sha256(site.CONTENT).hexdigest(),
        "etag": '"v1"',
    }
    assert fetch(site.entry(), folder) == [path]
    assert len(site.asked) == 1


def test_a_wrong_checksum_keeps_nothing(site, tmp_path):
    with pytest.raises(StateshiftError, match=r"its checksum is not md5:[0-9a-f]{32}.*nothing was kept"):
        fetch(site.entry(checksum=site.hashed("md5", b"other")), tmp_path)
    assert site.left_in(tmp_path) == set()
    (path,) = fetch(site.entry(checksum=site.hashed("md5")), tmp_path)
    assert path.read_bytes() == site.CONTENT


def test_a_file_put_there_by_hand_is_checked_and_taken(site, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(site.CONTENT)
    assert fetch(site.entry(checksum=site.hashed("sha256")), tmp_path) == [path]
    path.write_bytes(b"other")
    with pytest.raises(StateshiftError, match=f"{path} is not the file that https://example.org/page describes"):
        fetch(site.entry(checksum=site.hashed("sha256")), tmp_path)
    assert path.read_bytes() == b"other"
    assert site.asked == []


def test_a_file_put_there_by_hand_is_trusted_from_then_on_but_never_an_html_page(site, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(HTML)
    with pytest.raises(StateshiftError, match="is an HTML page and not the file"):
        fetch(site.entry(), tmp_path)
    path.write_bytes(b"mine")
    fetch(site.entry(), tmp_path)
    assert json.loads((tmp_path / "file.bin.origin.json").read_text())["sha256"] == site.hashed("sha256", b"mine")[7:]


def test_a_trusted_file_that_changed_on_disk_is_refused_until_that_is_accepted(site, tmp_path):
    (path,) = fetch(site.entry(), tmp_path)
    path.write_bytes(site.CONTENT + b"!")
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
    assert site.left_in(tmp_path) == {"file.bin.origin.json"}
    (tmp_path / "file.bin.origin.json").unlink()
    fetch(site.entry(), tmp_path)
    assert path.read_bytes() == b"another release"


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
    assert site.left_in(tmp_path) == {"pack", "pack.zip", "pack.zip.origin.json"}
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
    assert site.left_in(folder) == {"pack.zip", "pack.zip.origin.json"}
    assert site.left_in(tmp_path) == {"in"}


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
