"""Files that are no structures, and five hundred damaged ones: a sentence or a result, never a crash."""

from __future__ import annotations

import gzip
import http.server
import threading

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.structure.parsing import read_chains, read_structure


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"  \n \n", "is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"\x83\xa7encoder\xa5gemmi\xa7version", "is BinaryCIF, which can't be read here"),
        (b"hello, this is text\n", "neither mmCIF nor PDB"),
        (b"data_x\nloop_\n_a.b\n_a.c\n1 2 3\n", "is no whole mmcif file"),
        (b"data_x\n_cell.length_a 1\n", "none of its 1 blocks has `_atom_site`"),
        (b"HEADER    NOTHING\nEND\n", "holds no atoms"),
        (gzip.compress(b"ATOM" * 1000, mtime=0)[:40], "damaged gzip"),
    ],
)
def test_what_is_no_structure_is_told(tmp_path, content, told):
    path = tmp_path / "x.cif"
    path.write_bytes(content)
    with pytest.raises(StateshiftError, match=told):
        read_structure(path)


def test_a_missing_file_is_suggested_its_neighbour_and_a_wrong_format_is_told(write_pdb):
    path = write_pdb("protein.pdb", {"A": "MKVLA"})
    with pytest.raises(StateshiftError, match=r"did you mean `protein.pdb`"):
        read_structure(path.with_name("protien.pdb"))
    with pytest.raises(StateshiftError, match="is a folder"):
        read_structure(path.parent)
    with pytest.raises(StateshiftError, match="reads like pdb, not mmcif"):
        read_structure(path, "mmcif")
    with pytest.raises(StateshiftError, match="did you mean `mmcif`"):
        read_structure(path, "mmcf")


def test_an_mmcif_without_a_column_of_its_atoms_names_it(tmp_path):
    columns = ("id", "type_symbol", "label_asym_id", "Cartn_x", "Cartn_y", "Cartn_z")
    header = "".join(f"_atom_site.{c}\n" for c in columns)
    (tmp_path / "x.cif").write_text(f"data_x\nloop_\n{header}1 C A 0 0 0\n")
    with pytest.raises(StateshiftError, match=r"its atoms lack `_atom_site\.auth_seq_id`"):
        read_structure(tmp_path / "x.cif")


def test_gzip_is_seen_by_content_under_any_name(write_pdb):
    path = write_pdb("plain.pdb", {"A": "MKVLA"})
    packed = path.with_name("packed.pdb")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_chains(packed)[0].sequence == "MKVLA"


@pytest.fixture
def served(write_pdb):
    """The address of a folder served on this machine, with a structure and a page."""
    folder = write_pdb("served.pdb", {"A": "MKVLA"}).parent
    (folder / "page.cif").write_text("<html><body>Not found</body></html>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words):
            super().__init__(*words, directory=str(folder))

        def log_message(self, *_):
            pass

        def do_GET(self):
            if not self.path.startswith("/to="):
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to="))
            return self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_is_read_and_one_that_answers_a_page_or_nothing_is_told(served):
    assert read_chains(f"{served}/served.pdb")[0].sequence == "MKVLA"
    with pytest.raises(StateshiftError, match="is a web page, not a structure"):
        read_chains(f"{served}/page.cif")
    with pytest.raises(StateshiftError, match=r"can't be fetched \(HTTP Error 404"):
        read_chains(f"{served}/nothing.cif")


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/x.pdb", "/to=/to="])
def test_an_address_leads_nowhere_but_to_the_web(served, place):
    assert read_chains(f"{served}/to={served}/served.pdb")[0].sequence == "MKVLA"
    with pytest.raises(StateshiftError, match=r"can't be fetched \("):
        read_chains(f"{served}/to={place}")


def damaged(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    if kind == "flipped":
        flipped = bytearray(content)
        for place in rng.integers(0, len(content), size=rng.integers(1, 200)):
            flipped[place] ^= int(rng.integers(1, 256))
        return bytes(flipped)
    if kind == "truncated":
        return content[: rng.integers(0, len(content))]
    lines = content.split(b"\n")
    for place in rng.integers(0, len(lines), size=rng.integers(1, 100)):
        cut = int(rng.integers(0, 30))
        lines[place] = lines[place][:cut] + b" " * int(rng.integers(1, 9)) + lines[place][cut:]
    return b"\n".join(lines)


def test_five_hundred_damaged_files_end_in_a_sentence_or_a_result(shared_data, tmp_path):
    folder = shared_data / "structure"
    sources = ["cath/1a6qA02.pdb", "cath/1irxA02.pdb", "esm3/1acb.cif", "globins/1tim.pdb.gz"]
    contents = [(folder / name).read_bytes() for name in sources]
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged"
    refused: list[str] = []
    read = 0
    for i in range(500):
        content = contents[(0, 1, 0, 1, 2, 3)[i % 6]]
        path.write_bytes(damaged(content, ("flipped", "truncated", "shifted")[i % 3], rng))
        try:
            chains = read_chains(path)
        except StateshiftError as error:
            refused.append(str(error))
        else:
            assert all(len(c.sequence) == len(c.backbone) == len(c.numbers) for c in chains)
            assert all(np.isfinite(c.atoms).all() for c in chains)
            read += 1
    assert len(refused) + read == 500
    assert all(str(path) in told for told in refused)
    assert min(len(refused), read) > 50
