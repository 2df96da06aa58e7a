"""Damaged files of every format: what comes of each, as a table in docs/reliability.md.

    python scripts/bench/faults.py --files 500
Every file is read in a process of its own, so that a crash or a hang is counted and ends nothing.
"""

from __future__ import annotations

import collections
import gzip
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import typer

from stateshift.errors import StateshiftError

SECONDS = 60
"""Reading one small file for longer is a hang."""
KINDS = {"bit": 0.35, "bytes": 0.25, "cut": 0.15, "zero": 0.1, "repeat": 0.08, "insert": 0.07}
"""Kinds of damage and how often each is done."""
SEQUENCES = {f"G{i}": "MKVLAAGICDEFGHIKLMNPQRSTVWY"[i % 5 :] * (1 + i % 3) for i in range(12)}


class Outcome(NamedTuple):
    """What became of a damaged file: `said` is ``sentence``, ``same``, ``changed``, ``traceback``, ``hang`` or ``crash``."""

    kind: str
    said: str
    detail: str


def damaged(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Some bytes after an accident, and its kind."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    changed, n = bytearray(content), len(content)
    start, other = (int(v) for v in rng.integers(0, n, 2))
    if kind == "bit":
        for place in rng.integers(0, n, int(rng.choice([1, 3, 20]))):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == "bytes":
        for place in rng.integers(0, n, int(rng.choice([1, 5, 50]))):
            changed[place] = int(rng.integers(256))
    elif kind == "cut":
        del changed[start:]
    elif kind == "zero":
        changed[start : start + 4096] = bytes(len(changed[start : start + 4096]))
    elif kind == "repeat":
        changed[start : start + 256] = changed[other : other + 256]
    else:
        changed[start:start] = rng.bytes(int(rng.integers(1, 64)))
    return kind, bytes(changed)


def digest(content: Any) -> str:
    """A checksum of arrays, tables, texts and containers of them."""
    told = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, dict):
            add(list(part.items()))
        elif isinstance(part, list | tuple):
            told.update(b"(")
            for each in part:
                add(each)
        elif hasattr(part, "to_csv"):
            told.update(part.to_csv().encode())
        elif hasattr(part, "dtype") and hasattr(part, "shape"):
            array = np.asarray(part)
            told.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        else:
            told.update(repr(part).encode())

    add(content)
    return told.hexdigest()


def outcomes(read: Callable[[Path], Any], whole: Path, count: int, seed: int = 0) -> list[Outcome]:
    """Damage a file in `count` ways, read each in a child process, and tell what became of it."""
    due, content, found = read(whole), whole.read_bytes(), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / whole.name
        while len(found) < count:
            numbers = range(len(found), count)
            lines, end = _in_child(lambda numbers=numbers: _tried(read, content, path, numbers, seed, due))
            found += [Outcome(*json.loads(line)) for line in lines]
            if len(found) < count:
                kind, _ = damaged(content, np.random.default_rng([seed, len(found)]))
                found.append(Outcome(kind, end, f"number {len(found)}"))
    return found


def _in_child(lines: Callable[[], Iterator[str]]) -> tuple[list[str], str]:
    """The lines that a forked process gives until it ends or is ended, and how it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1), os.dup2(quiet, 2)
            with os.fdopen(writing, "w") as out:
                for line in lines():
                    out.write(line + "\n")
                    out.flush()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as given:
        whole = [line for line in given if line.endswith("\n")]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return whole, "hang" if code == -signal.SIGALRM else "crash"


def _tried(
    read: Callable[[Path], Any], content: bytes, path: Path, numbers: range, seed: int, due: Any
) -> Iterator[str]:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number in numbers:
        kind, changed = damaged(content, np.random.default_rng([seed, number]))
        path.write_bytes(changed)
        signal.alarm(SECONDS)
        try:
            said, detail = ("same" if read(path) == due else "changed"), ""
        except StateshiftError as error:
            said, detail = "sentence", str(error)
        except Exception as error:
            places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
            said, detail = "traceback", f"{type(error).__name__}: {error} at {' '.join(places[-4:])}"
        signal.alarm(0)
        yield json.dumps([kind, said, detail])


def make_files(folder: Path, cells: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A small file of each format and what reads it.

    Parameters
    ----------
    folder
        Where they are made.
    cells
        An h5ad file of cells, log1p, with controls.
    """
    import anndata as ad
    import torch

    from stateshift.cells import read_cells, read_experiment
    from stateshift.feature_table import FeatureTable
    from stateshift.features.table_files import read_vectors
    from stateshift.proteins import EmbeddingStore, read_fasta
    from stateshift.proteins.embed_file import embed_fasta
    from stateshift.proteins.esm2.checkpoint import read_checkpoint
    from stateshift.proteins.esm2.models import DEMO_FILE
    from stateshift.proteins.explore import read_embeddings
    from stateshift.structure.residues.tensors import read_residues

    rng = np.random.default_rng(0)
    adata = ad.read_h5ad(cells)
    adata.write_h5ad(folder / "plain.h5ad")
    adata.write_h5ad(folder / "zipped.h5ad", compression="gzip")
    (folder / "experiment.toml").write_text(
        f'[datasets]\nmade = "{cells}"\n[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n'
        '[fewshot."made.K562"]\nval = ["G3"]\ntest = ["G4"]\n[features]\nsource = "onehot"\n'
    )
    (folder / "proteins.fasta").write_text("".join(f">sp|P{g}|{g} GN={g} PE=1\n{s}\n" for g, s in SEQUENCES.items()))
    (folder / "proteins.fasta.gz").write_bytes(gzip.compress((folder / "proteins.fasta").read_bytes(), mtime=0))
    embed_fasta(folder / "proteins.fasta", folder / "store.h5", level="both")
    vectors = rng.standard_normal((len(SEQUENCES), 6)).astype(np.float32)
    FeatureTable(list(SEQUENCES), vectors, {"source": "made"}).save(folder / "vectors.pt")
    (folder / "vectors.pt.json").unlink()
    torch.save(torch.from_numpy(rng.standard_normal((40, 8)).astype(np.float32)), folder / "residues.pt")
    np.savez(folder / "vectors.npz", names=np.array(list(SEQUENCES)), x=vectors)
    lines = [f"{gene},{','.join(f'{x:.6g}' for x in row)}\n" for gene, row in zip(SEQUENCES, vectors)]
    (folder / "vectors.csv").write_text("".join(["gene,0,1,2,3,4,5\n", *lines]))
    (folder / "embeddings.pkl").write_bytes(_pickled(dict(zip(SEQUENCES, vectors))))
    shutil.copy(DEMO_FILE, folder / "esm2.pt")

    def of_cells(path: Path) -> str:
        read = read_cells(path)
        return digest([read.X.csr().toarray(), read.obs, read.genes, read.scale])

    def of_table(path: Path) -> str:
        read = FeatureTable.load(path)
        return digest([read.genes, read.vectors])

    def of_vectors(path: Path) -> str:
        read = read_vectors(path)
        return digest([read.genes, read.vectors])

    def of_store(path: Path) -> str:
        with EmbeddingStore(path) as store:
            return digest([(i, store.sequence(i), store.residue(i), store.protein(i)) for i in store.ids])

    def of_embeddings(path: Path) -> str:
        with read_embeddings(path) as held:
            return digest([(i, held.protein(i)) for i in held.ids])

    def of_experiment(path: Path) -> str:
        read = read_experiment(path)
        return digest(
            [read.patterns, read.training, read.zeroshot, read.fewshot, read.columns, read.features, read.run]
        )

    def of_esm2(path: Path) -> str:
        shape, weights = read_checkpoint(path)
        return digest([shape, weights])

    readers = {
        "h5ad": ("plain.h5ad", of_cells),
        "h5ad, gzip": ("zipped.h5ad", of_cells),
        "h5 store of embeddings": ("store.h5", of_store),
        "TOML": ("experiment.toml", of_experiment),
        "FASTA": ("proteins.fasta", lambda path: digest(read_fasta(path))),
        "FASTA, gzip": ("proteins.fasta.gz", lambda path: digest(read_fasta(path))),
        "pt, features": ("vectors.pt", of_table),
        "pt, residues": ("residues.pt", lambda path: digest(read_residues(path))),
        "pt, ESM2": ("esm2.pt", of_esm2),
        "npz": ("vectors.npz", of_vectors),
        "csv": ("vectors.csv", of_table),
        "pickle": ("embeddings.pkl", of_embeddings),
    }
    made = {name: (folder / file, read) for name, (file, read) in readers.items()}
    return made | _structures(folder)


def _structures(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A helix as mmCIF and PDB; nothing where gemmi isn't installed."""
    try:
        import gemmi
    except ImportError:
        return {}
    from stateshift.structure.parsing.chains import read_chains

    lines = []
    for i in range(90):
        x, y, z = 2 * np.cos(i), 2 * np.sin(i), 0.5 * i
        atom = ("N", "CA", "C")[i % 3]
        lines.append(
            f"ATOM  {i + 1:>5}  {atom:<3} ALA A{i // 3 + 1:>4}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00          {atom[0]:>2}\n"
        )
    (folder / "helix.pdb").write_text("".join([*lines, "TER\nEND\n"]))
    structure = gemmi.read_pdb_string((folder / "helix.pdb").read_text())
    structure.setup_entities()
    (folder / "helix.cif").write_text(structure.make_mmcif_document().as_string())

    def of_structure(path: Path) -> str:
        return digest([repr(chain) for chain in read_chains(path)])

    return {"mmCIF": (folder / "helix.cif", of_structure), "PDB": (folder / "helix.pdb", of_structure)}


def _pickled(content: Any) -> bytes:
    import pickle

    return pickle.dumps(content)


def make_screen(folder: Path) -> dict[str, Path]:
    """Cells of three contexts with four perturbations, their features and their experiment."""
    import anndata as ad
    import pandas as pd
    from scipy.sparse import csr_matrix

    from stateshift.feature_table import FeatureTable

    rng, labels = np.random.default_rng(0), ["non-targeting", "G1", "G2", "G3", "G4"]
    rows = [(context, label) for context in ("A549", "K562", "T98G") for label in labels for _ in range(24)]
    obs = pd.DataFrame(rows, columns=["cell_type", "target_gene"], dtype="category")
    obs.index = [f"cell{i}" for i in range(len(obs))]
    X = np.clip(1 + 0.5 * rng.standard_normal((len(obs), 20)), 0, None)
    for i, label in enumerate(labels[1:]):
        X[(obs["target_gene"] == label).to_numpy(), i] += 1
    adata = ad.AnnData(
        csr_matrix(X.astype(np.float32)), obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(20)])
    )
    adata.uns["log1p"] = {"base": None}
    adata.write_h5ad(folder / "cells.h5ad")
    vectors = rng.standard_normal((4, 6)).astype(np.float32)
    FeatureTable(labels[1:], vectors, {"source": "made"}).save(folder / "features.pt")
    (folder / "made.toml").write_text(
        f'[datasets]\nmade = "{folder / "cells.h5ad"}"\n[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n'
        '[fewshot."made.K562"]\nval = ["G3"]\ntest = ["G4"]\n'
    )
    return {name: folder / name for name in ("cells.h5ad", "features.pt", "made.toml")}


def main(files: int = 500, seed: int = 0, only: str = "") -> None:
    """Print a row a format: what became of so many damaged files."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_files(Path(folder), make_screen(Path(folder))["cells.h5ad"])
        header = ("format", "a sentence", "the same", "other values", "traceback", "hang", "crash")
        print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
        for name, (path, read) in made.items():
            if only and only not in name:
                continue
            found = outcomes(read, path, files, seed)
            said = collections.Counter(one.said for one in found)
            counts = [said[key] for key in ("sentence", "same", "changed", "traceback", "hang", "crash")]
            print(f"| {name} | {' | '.join(map(str, counts))} |", flush=True)
            for one in found:
                if one.said in ("traceback", "hang", "crash"):
                    print(f"    {one}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
