"""Structure files into gemmi: a path or an address, PDB or mmCIF, plain or gzipped, every damage named."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from stateshift.errors import StateshiftError, some, suggestion

if TYPE_CHECKING:
    import gemmi

FORMATS = ("auto", "mmcif", "pdb", "binarycif")
SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".bcif", ".pdb.gz", ".ent.gz", ".cif.gz", ".mmcif.gz", ".bcif.gz")
"""Names that a folder is searched for; BinaryCIF among them, so that it is refused by name and not passed over."""
NEEDED = ("id", "type_symbol", "label_asym_id", "auth_seq_id", "Cartn_y", "Cartn_z")
"""Columns of an mmCIF's atoms without which gemmi finds none."""
MOST_BYTES = 2**31
URL_SECONDS = 60


def gemmi_module():
    """gemmi, or a sentence that says how to install it."""
    try:
        import gemmi
    except ImportError as error:
        raise StateshiftError(
            "Reading structures needs gemmi: install it with `pip install 'stateshift[structure]'`."
        ) from error
    return gemmi


def is_url(source: str | Path) -> bool:
    """Whether a source is an address on the web.

    Examples
    --------
    >>> is_url("https://files.rcsb.org/download/1ACB.cif"), is_url("1acb.cif")
    (True, False)
    """
    return re.match(r"https?://", str(source)) is not None


def structure_stem(source: str | Path) -> str:
    """The name of a structure: that of its file without the suffixes of a structure.

    Examples
    --------
    >>> structure_stem("models/AF-P04637-F1-model_v4.cif.gz")
    'AF-P04637-F1-model_v4'
    """
    name = str(source).rsplit("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]
    ending = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), "")
    return name[: len(name) - len(ending)] if ending else Path(name).stem


def read_structure(source: str | Path, format: str = "auto") -> gemmi.Structure:
    """Read a structure with all its models, entities and assemblies.

    Parameters
    ----------
    source
        A file or an http(s) address, plain or gzipped under any name.
    format
        ``mmcif``, ``pdb``, or ``auto``, which looks at the content.

    Returns
    -------
    gemmi.Structure
        With entities set up; at least one model with at least one atom.

    Raises
    ------
    StateshiftError
        It is missing, empty, no structure, a web page, BinaryCIF, damaged, or gemmi isn't installed.
    """
    gemmi = gemmi_module()
    if format not in FORMATS:
        raise StateshiftError(f"--structure-format {format} is no format{suggestion(format, FORMATS)}.")
    content = unzipped(_bytes_of(source), str(source))
    found = format_of(content, str(source))
    if format not in ("auto", found):
        raise StateshiftError(f"{source} reads like {found}, not {format}: mend --structure-format or the file.")
    if found == "binarycif":
        raise StateshiftError(f"{source} is BinaryCIF, which can't be read here: fetch the mmCIF (.cif.gz) instead.")
    try:
        # both formats are ASCII by their columns; a stray byte must neither shift one nor come back from gemmi
        text = content.decode("ascii", errors="replace").replace("\ufffd", "?")
        structure = gemmi.read_pdb_string(text) if found == "pdb" else _from_cif(gemmi, text, str(source))
        structure.setup_entities()
    except StateshiftError:
        raise
    except Exception as error:  # gemmi raises a dozen kinds, each with a line that says where
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise StateshiftError(f"{source} is no whole {found} file: {reason}.") from error
    if not any(len(residue) for model in structure for chain in model for residue in chain):
        raise StateshiftError(f"{source} holds no atoms.")
    return structure


def format_of(content: bytes, where: str) -> str:
    """The format that some bytes are in, by what they hold.

    Examples
    --------
    >>> format_of(b"data_1ACB", "x"), format_of(b"ATOM      1  N   LYS", "x")
    ('mmcif', 'pdb')

    Raises
    ------
    StateshiftError
        They are empty, a web page, or none of the formats.
    """
    if not content.strip():
        raise StateshiftError(f"{where} is empty.")
    head = content[:4096]
    if re.match(rb"\s*<(!doctype\s+html|html|head|\?xml)", head, re.IGNORECASE):
        raise StateshiftError(f"{where} is a web page, not a structure: check the address.")
    if b"encoder" in head and (0x80 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return "binarycif"
    if re.search(rb"^\s*data_", head, re.IGNORECASE | re.MULTILINE) or b"\n_atom_site." in content:
        return "mmcif"
    if re.search(rb"^(HEADER|ATOM  |HETATM|MODEL |CRYST1|TITLE |REMARK|COMPND)", content, re.MULTILINE):
        return "pdb"
    raise StateshiftError(f"{where} is neither mmCIF nor PDB: it has no `data_` block and no ATOM line.")


def unzipped(content: bytes, where: str) -> bytes:
    """Bytes as they are, or out of gzip where they begin like it."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            plain = stream.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, OSError) as error:
        raise StateshiftError(f"{where} is a damaged gzip file ({error}): fetch it again.") from error
    if len(plain) > MOST_BYTES:
        raise StateshiftError(f"{where} unpacks to more than {MOST_BYTES >> 30} GB, which no structure does.")
    return plain


def _bytes_of(source: str | Path) -> bytes:
    """What a file or an address holds."""
    if is_url(source):
        return _fetched(str(source))
    path = Path(source)
    if path.is_dir():
        raise StateshiftError(f"{path} is a folder, not a structure file.")
    if not path.is_file():
        near = suggestion(path.name, [f.name for f in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise StateshiftError(f"{path}: there is no such structure file{near}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise StateshiftError(f"{path} can't be read: {error.strerror or error}.") from error


def _fetched(url: str) -> bytes:
    """The answer of an address; whatever goes wrong is one sentence."""
    import http.client
    import urllib.request as web

    opener = web.OpenerDirector()  # of the web alone: no answer leads to ftp or a file
    for part in (web.ProxyHandler, web.UnknownHandler, web.HTTPHandler, web.HTTPSHandler, web.HTTPRedirectHandler):
        opener.add_handler(part())
    opener.add_handler(web.HTTPDefaultErrorHandler())
    opener.add_handler(web.HTTPErrorProcessor())
    try:
        with opener.open(url, timeout=URL_SECONDS) as answer:
            content = answer.read(MOST_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StateshiftError(f"{url} can't be fetched ({error}).") from error
    if len(content) > MOST_BYTES:
        raise StateshiftError(f"{url} sends more than {MOST_BYTES >> 30} GB, which no structure is.")
    return content


def _from_cif(gemmi, text: str, where: str) -> gemmi.Structure:
    """The first block that holds atoms."""
    document = gemmi.cif.read_string(text)
    for block in document:
        if block.find_values("_atom_site.Cartn_x"):
            lacking = [c for c in NEEDED if not block.find_values(f"_atom_site.{c}")]
            if lacking:
                raise StateshiftError(
                    f"{where} can't be read: its atoms lack {some(f'`_atom_site.{c}`' for c in lacking)}."
                )
            return gemmi.make_structure_from_block(block)
    raise StateshiftError(f"{where} holds no atoms: none of its {len(document)} blocks has `_atom_site`.")
