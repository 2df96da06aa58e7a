"""Protein chains of a structure: their residues in order, one conformer, modified residues by their parents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.structure.parsing.files import gemmi_module, read_structure

if TYPE_CHECKING:
    import gemmi

BACKBONE = ("N", "CA", "C")
FARTHEST = 1e6
"""Å from the origin: nothing real lies beyond."""


@dataclass(frozen=True, eq=False)
class Chain:
    """The observed residues of one protein chain.

    Parameters
    ----------
    label, author
        Its two names: ``label_asym_id`` and ``auth_asym_id``; the same where the file knows one alone (PDB).
    sequence
        L letters of the ESM alphabet; a modified residue stands as its parent (MSE → M), an unknown one as X.
    numbers
        Author numbers with insertion codes, ``"52A"``; L of them.
    backbone
        N, CA and C in Å, (L, 3, 3) float32, NaN where an atom is missing.
    atoms, atom_residue, elements
        All heavy atoms: positions (A, 3) in Å, the residue (A,) each belongs to, and its element.
    missing
        Residues of the deposited sequence that have no coordinates; 0 where the file holds no sequence.
    """

    label: str
    author: str
    sequence: str
    numbers: list[str]
    backbone: np.ndarray
    atoms: np.ndarray
    atom_residue: np.ndarray
    elements: list[str]
    missing: int = 0

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def is_trace(self) -> bool:
        """Whether the model holds CA atoms alone."""
        return len(self.atoms) == len(self) and bool(np.isnan(self.backbone[:, 0]).all())


def read_chains(
    source: str | Path,
    format: str = "auto",
    model: int = 1,
    min_residues: int = 0,
    max_residues: int | None = None,
) -> list[Chain]:
    """All protein chains of one model, in the order of the file.

    Parameters
    ----------
    source, format
        As `read_structure` takes them.
    model
        Which model, counted from 1.
    min_residues, max_residues
        Chains with fewer or more residues are left out.

    Raises
    ------
    StateshiftError
        The structure can't be read, has no such model, no protein chain, or none within the limits.
    """
    chains = chains_of(read_structure(source, format), str(source), model)
    fitting = [c for c in chains if len(c) >= min_residues and (max_residues is None or len(c) <= max_residues)]
    if not fitting:
        lengths = some(f"{c.label}: {len(c)}" for c in chains)
        raise StateshiftError(
            f"{source} has no protein chain of {_limits(min_residues, max_residues)} (residues: {lengths})."
        )
    return fitting


def read_chain(
    source: str | Path,
    chain: str,
    names: str = "label",
    format: str = "auto",
    model: int = 1,
    min_residues: int = 0,
    max_residues: int | None = None,
) -> Chain:
    """One protein chain of a file, by its label or author name.

    Parameters
    ----------
    source, format, model, min_residues, max_residues
        As in `read_chains`; a chain outside the limits is an error here.
    chain
        Its name.
    names
        ``label`` (mmCIF's ``label_asym_id``) or ``author``. A PDB file has author names alone.

    Raises
    ------
    StateshiftError
        As `read_chains`, or the chain doesn't exist: those that do are listed.
    """
    found = named_chain(read_chains(source, format, model), chain, names, str(source))
    if len(found) < min_residues or (max_residues is not None and len(found) > max_residues):
        raise StateshiftError(
            f"{source}: chain `{chain}` has {len(found)} residues, not {_limits(min_residues, max_residues)}."
        )
    return found


def named_chain(chains: Iterable[Chain], name: str, names: str, where: str) -> Chain:
    """The chain of a name; several with one author name are an error, since an author may name ligands alike."""
    if names not in ("label", "author"):
        raise StateshiftError(f"--chain-names {names} is neither label nor author.")
    chains = list(chains)
    found = [c for c in chains if getattr(c, names) == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise StateshiftError(
            f"{where}: author chain `{name}` holds the chains {some(c.label for c in found)}: name one."
        )
    there = [getattr(c, names) for c in chains]
    other = "author" if names == "label" else "label"
    swapped = [c for c in chains if getattr(c, other) == name]
    hint = f" (the {other} chain `{name}` has the {names} name `{getattr(swapped[0], names)}`)" if swapped else ""
    raise StateshiftError(f"{where} has no protein chain `{name}` by {names} name{hint}: there are {some(there, 30)}.")


def chains_of(structure: gemmi.Structure, where: str, model: int = 1) -> list[Chain]:
    """The protein chains of a structure's model, in the order of the file.

    Residues count as protein where gemmi's table says amino acid, or where they have N, CA and C; solvent,
    ligands, sugars and caps don't. Of alternative atoms and residues the one of highest occupancy stays.

    Raises
    ------
    StateshiftError
        There is no such model or no protein in it.
    """
    if not 1 <= model <= len(structure):
        raise StateshiftError(f"{where} has no model {model}: it holds {len(structure)}.")
    chosen = structure[model - 1]
    groups: dict[tuple[str, str], list[gemmi.Residue]] = {}
    has_labels = structure.input_format != gemmi_module().CoorFormat.Pdb
    for chain in chosen:
        for residue in chain:
            if _is_protein(residue):
                label = residue.subchain if has_labels else chain.name
                groups.setdefault((label, chain.name), []).append(residue)
    chains = [_chain(label, author, residues, structure, where) for (label, author), residues in groups.items()]
    if not chains:
        other = {chain.name: chain[0].name for chain in chosen if len(chain)}
        listed = some(f"{name} ({residue} …)" for name, residue in other.items())
        raise StateshiftError(f"{where} holds no protein chain: its chains are {listed or 'empty'}.")
    return chains


def _is_protein(residue: gemmi.Residue) -> bool:
    gemmi = gemmi_module()
    if residue.entity_type in (gemmi.EntityType.Water, gemmi.EntityType.NonPolymer, gemmi.EntityType.Branched):
        return False
    known = gemmi.find_tabulated_residue(residue.name)
    if known.found() and not known.is_amino_acid():
        return False
    return (known.is_amino_acid() and "CA" in residue) or all(name in residue for name in BACKBONE)


def _chain(label: str, author: str, residues: list[gemmi.Residue], structure: gemmi.Structure, where: str) -> Chain:
    """Residues into arrays, one conformer each."""
    kept = _one_conformer(residues)
    positions, owner, elements, corners = [], [], [], []
    for i, residue in enumerate(kept):
        atoms: dict[str, gemmi.Atom] = {}
        if sum(atom.name == "CA" and not atom.has_altloc() for atom in residue) > 1:
            raise StateshiftError(
                f"{where}: residue {residue.seqid} {residue.name} of chain `{label}` is there several times: its numbers "
                "begin anew, or models lack MODEL lines; fetch the mmCIF instead."
            )
        for atom in residue:
            if not atom.is_hydrogen() and (atom.name not in atoms or atom.occ > atoms[atom.name].occ):
                atoms[atom.name] = atom
        for name, atom in atoms.items():
            if name in BACKBONE:
                corners.append((i, BACKBONE.index(name), len(positions)))
            positions.append(atom.pos.tolist())
            owner.append(i)
            elements.append(atom.element.name)
    placed = np.array(positions, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(placed).all() or np.abs(placed).max(initial=0.0) > FARTHEST:
        raise StateshiftError(f"{where}: chain `{label}` has atoms without sensible coordinates: the file is damaged.")
    placed = placed.astype(np.float32)
    backbone = np.full((len(kept), 3, 3), np.nan, dtype=np.float32)
    for i, corner, atom in corners:
        backbone[i, corner] = placed[atom]
    sequence = "".join(_letter(residue.name) for residue in kept)
    numbers = [str(residue.seqid) for residue in kept]
    missing = _missing(structure, kept)
    return Chain(label, author, sequence, numbers, backbone, placed, np.array(owner), elements, missing)


def _one_conformer(residues: list[gemmi.Residue]) -> list[gemmi.Residue]:
    """One residue a position: of several (microheterogeneity) the one of highest mean occupancy."""
    best: dict[str, gemmi.Residue] = {}
    for i, residue in enumerate(residues):
        # without alternative locations one number twice is no alternative: after 9999 a PDB file may count anew
        place = str(residue.seqid) if any(atom.has_altloc() for atom in residue) else f"residue {i}"
        if place not in best or _occupancy(residue) > _occupancy(best[place]):
            best[place] = residue
    return list(best.values())


def _occupancy(residue: gemmi.Residue) -> float:
    return float(np.mean([atom.occ for atom in residue]))


def _letter(name: str) -> str:
    """The ESM letter of a residue name.

    Examples
    --------
    >>> "".join(map(_letter, ["GLY", "MSE", "SEP", "SEC", "UNK", "A1B2C"]))
    'GMSUXX'
    """
    known = gemmi_module().find_tabulated_residue(name)
    letter = known.one_letter_code.upper() if known.is_amino_acid() else "X"
    return letter if letter in "ACDEFGHIKLMNPQRSTVWYUOBZ" else "X"


def _missing(structure: gemmi.Structure, residues: list[gemmi.Residue]) -> int:
    """Residues of the deposited sequence without coordinates."""
    entity = structure.get_entity_of(structure[0].get_subchain(residues[0].subchain))
    deposited = len(entity.full_sequence) if entity is not None else 0
    return max(deposited - len(residues), 0)


def _limits(least: int, most: int | None) -> str:
    return f"at least {least} residues" if most is None else f"{least} to {most} residues"
