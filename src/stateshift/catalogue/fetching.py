"""An entry's files on disk: fetched once, checked each time they are asked for, unpacked where needed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from stateshift.catalogue.downloader import CHUNK, ResumingDownloader, is_html, need_room
from stateshift.catalogue.entries import Entry, PublicFile, entry
from stateshift.errors import StateshiftError
from stateshift.files import written_beside
from stateshift.progress import track

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where files go unless told otherwise: ``$STATESHIFT_CACHE``, or the system's folder for caches."""
    import pooch

    return Path(os.environ.get("STATESHIFT_CACHE") or pooch.os_cache("stateshift"))


def is_here(found: Entry) -> bool:
    """Whether all files of an entry lie in the cache; `get` also checks them."""
    return bool(found.files) and all((cache_folder() / found.name / file.name).is_file() for file in found.files)


def get(name: str, to: str | Path | None = None) -> list[Path]:
    """The files of an entry: fetched where they are not here, checked where they are.

    A file whose source publishes a checksum is held to it. Any other is trusted the first time: its
    address, date, size, SHA-256 and ETag are written to ``FILE.origin.json``, and it has to stay the same.

    Parameters
    ----------
    name
        An entry's name.
    to
        A folder for the files; by default a folder of that name in `cache_folder`.

    Returns
    -------
    list of Path
        The files in the catalogue's order; in place of an archive that was unpacked, its folder.

    Raises
    ------
    StateshiftError
        There is no such entry, it has to be fetched by hand, it can't be fetched, the disk is too
        small, or a file is not what it should be.
    """
    return fetch(entry(name), cache_folder() / name if to is None else Path(to).expanduser())


def fetch(found: Entry, folder: Path) -> list[Path]:
    """`get` for an entry of one's own."""
    if found.manual:
        raise StateshiftError(f"{found.name} can't be fetched by a program: {found.manual} See {found.source}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateshiftError(f"{folder} can't be made: {error.strerror or error}.") from error
    paths = []
    for file in found.files:
        path = folder / file.name
        if path.exists():
            _check(path, file, found)
        else:
            _download(path, file, found)
        paths.append(_unpacked(path) if file.unpack else path)
    return paths


def _download(path: Path, file: PublicFile, found: Entry) -> None:
    """Through pooch, which holds the file to its checksum before it gets its name."""
    import pooch

    origin = _origin(path)
    expected = file.checksum or (f"sha256:{origin['sha256']}" if origin else None)
    way_out = f"{found.note} The source is {found.source}: a file fetched there by hand and put at {path} is checked and taken.".strip()
    downloader = ResumingDownloader(path, way_out, checked=expected is not None)
    pooch.get_logger().setLevel("WARNING")
    logger.info("Fetching %s into %s.", file.url, path.parent)
    shelf = pooch.create(path=path.parent, base_url="", registry={file.name: expected}, urls={file.name: file.url})
    try:
        shelf.fetch(file.name, downloader=downloader)
    except StateshiftError:
        raise
    except ValueError as error:
        if origin and not file.checksum:
            raise StateshiftError(
                f"{file.url} serves another file than on {origin['date'][:10]} (its SHA-256 is not {origin['sha256']}): "
                f"nothing was kept. To accept the new one, delete {_origin_path(path)} and get it again."
            ) from error
        raise StateshiftError(
            f"{file.url} serves another file than the one {found.source} describes (its checksum is not {expected}): "
            "nothing was kept. Try again later."
        ) from error
    if file.size not in (None, path.stat().st_size):
        logger.warning("%s has %s bytes; the catalogue says %s.", path, f"{path.stat().st_size:,}", f"{file.size:,}")
    if not origin:
        _write_origin(path, file, downloader.etag)


def _check(path: Path, file: PublicFile, found: Entry) -> None:
    """Raise unless a file that is here is the published one, or the one first trusted."""
    origin = _origin(path)
    if file.checksum:
        algorithm, _, expected = file.checksum.partition(":")
        if _digest(path, algorithm) != expected:
            raise StateshiftError(
                f"{path} is not the file that {found.source} describes (its {algorithm} is not {expected}): "
                "delete it, or choose another folder with --to."
            )
    elif origin and _digest(path, "sha256") != origin["sha256"]:
        raise StateshiftError(
            f"{path} has changed since {origin['date'][:10]} (its SHA-256 was {origin['sha256']}): "
            f"delete it to fetch it again, or delete {_origin_path(path)} to accept it as it is."
        )
    elif not origin:
        with open(path, "rb") as handle:
            if is_html(handle.read(512)):
                raise StateshiftError(f"{path} is an HTML page and not the file: delete it and get it again.")
    if not origin:
        _write_origin(path, file, None)


def _origin_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.origin.json")


def _origin(path: Path) -> dict[str, Any] | None:
    """What was written down when a file was first trusted."""
    record = _origin_path(path)
    if not record.exists():
        return None
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return {"date": str(content["date"]), "sha256": str(content["sha256"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateshiftError(f"{record} can't be read: delete it to trust {path} as it is.") from error


def _write_origin(path: Path, file: PublicFile, etag: str | None) -> None:
    content = {
        "address": file.url,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": path.stat().st_size,
        "sha256": _digest(path, "sha256"),
        "etag": etag,
    }
    with written_beside(_origin_path(path)) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with open(path, "rb") as handle:
        steps = path.stat().st_size // CHUNK + 1
        for chunk in track(iter(lambda: handle.read(CHUNK), b""), f"Checking {path.name}", total=steps):
            digest.update(chunk)
    return digest.hexdigest()


def _unpacked(archive: Path) -> Path:
    """The folder of a zip file's content, made once, beside the file and named like it."""
    folder = archive.with_suffix("")
    if folder.is_dir():
        return folder
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {_parts(info, archive): info for info in opened.infolist() if not info.is_dir()}
            if all(parts[0] == folder.name and len(parts) > 1 for parts in members):
                members = {parts[1:]: info for parts, info in members.items()}
            need_room(archive.parent, sum(info.file_size for info in members.values()), f"{archive.name}, unpacked,")
            with written_beside(folder) as beside:
                for parts, info in track(members.items(), f"Unpacking {archive.name}", total=len(members)):
                    path = beside.joinpath(*parts)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(info) as packed, open(path, "wb") as out:
                        shutil.copyfileobj(packed, out, CHUNK)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise StateshiftError(f"{archive} is no whole zip file ({error}): delete it and get it again.") from error
    return folder


def _parts(info: zipfile.ZipInfo, archive: Path) -> tuple[str, ...]:
    """Where a member goes, below the folder and nowhere else."""
    path = PurePosixPath(info.filename)
    outside = path.is_absolute() or ".." in path.parts or not path.parts or set(info.filename) & set("\\:")
    if outside or stat.S_ISLNK(info.external_attr >> 16):
        raise StateshiftError(f"{archive} holds `{info.filename}`, which would lie outside its folder: not unpacked.")
    return path.parts
