"""Structures written by hand, so that every number in them is known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("gemmi", reason="structures need the extra `structure`")

THREE = {
    **{"A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY", "H": "HIS"},
    **{"I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER", "T": "THR", "W": "TRP"},
    **{"Y": "TYR", "V": "VAL"},
}


def helix(length: int) -> np.ndarray:
    """Backbone N, CA, C of an ideal α-helix in Å, (L, 3, 3)."""
    parts = ((1.546, -27.0, -0.87), (2.29, 0.0, 0.0), (1.69, 26.0, 1.07))
    turns = np.arange(length)[:, None] * np.array([100.0, 100.0, 100.0]) + np.array([a for _, a, _ in parts])
    radius = np.array([r for r, _, _ in parts])
    rise = np.arange(length)[:, None] * 1.5 + np.array([z for _, _, z in parts])
    angle = np.radians(turns)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), rise], axis=-1)


def pdb_line(serial, atom, residue, chain, number, xyz, *, record="ATOM", altloc=" ", code=" ", occupancy=1.0):
    """One line of a PDB file by its columns."""
    x, y, z = xyz
    return (
        f"{record:<6}{serial:>5} {f' {atom}' if len(atom) < 4 else atom:<4}{altloc}{residue:>3} {chain}{number:>4}{code}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{20.0:6.2f}          {atom[0]:>2}"
    )


def pdb_text(sequence: str, chain: str = "A", atoms=("N", "CA", "C"), start: int = 1, shift: float = 0.0) -> str:
    """A helix of a sequence as PDB lines."""
    places = helix(len(sequence)) + shift
    lines = [
        pdb_line(3 * i + j, atom, THREE.get(letter, "UNK"), chain, start + i, places[i, j])
        for i, letter in enumerate(sequence)
        for j, atom in enumerate(("N", "CA", "C"))
        if atom in atoms
    ]
    return "\n".join(lines) + "\nTER\n"


@pytest.fixture
def write_pdb(tmp_path: Path):
    """Write chains (name → sequence) as one PDB file."""

    def write(name: str, chains: dict[str, str], **options) -> Path:
        path = tmp_path / name
        parts = [pdb_text(s, c, shift=40.0 * i, **options) for i, (c, s) in enumerate(chains.items())]
        path.write_text("".join(parts) + "END\n")
        return path

    return write


def residue_lines(name, number, chain="A", record="ATOM", code=" ", altloc=" ", occupancy=1.0, at=0.0):
    """N, CA and C of a residue, one Å apart."""
    places = [(at + j, float(number), 0.0) for j in range(3)]
    return [
        pdb_line(1, atom, name, chain, number, xyz, record=record, code=code, altloc=altloc, occupancy=occupancy)
        for atom, xyz in zip(("N", "CA", "C"), places)
    ]


@pytest.fixture
def made(tmp_path: Path) -> SimpleNamespace:
    """What files are written with: lines, residues, helices, and a file of lines."""

    def file(lines: list[str]) -> Path:
        path = tmp_path / "made.pdb"
        path.write_text("\n".join(lines) + "\n")
        return path

    return SimpleNamespace(file=file, line=pdb_line, text=pdb_text, residue=residue_lines, helix=helix)


@pytest.fixture(scope="session")
def aggregator_file(tmp_path_factory) -> Path:
    """A small aggregator with random weights, made for rows of the demo ESM2."""
    import torch

    from stateshift.proteins import load_esm2
    from stateshift.structure.aggregator import Aggregator, AggregatorShape, TrainedAggregator, save_aggregator
    from stateshift.structure.residues import Esm2Residues

    torch.manual_seed(0)
    model = Aggregator(AggregatorShape.for_width(128, layers=1, blocks=1)).eval()
    path = tmp_path_factory.mktemp("aggregator") / "small.pt"
    return save_aggregator(TrainedAggregator(model, Esm2Residues(load_esm2()).identity), path)
