"""Simulated proteins for the perturbed genes of a simulated screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

LENGTHS, IDENTITIES = (80, 250), (0.60, 0.85)
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# Residue frequencies of UniProtKB/Swiss-Prot (release statistics), in the order of RESIDUES, per cent.
FREQUENCIES = (8.3, 1.4, 5.5, 6.7, 3.9, 7.1, 2.3, 5.9, 5.8, 9.7, 2.4, 4.1, 4.7, 3.9, 5.5, 6.6, 5.4, 6.9, 1.1, 2.9)


def simulate_proteins(screen: AnnData, seed: int = 0) -> str:
    """Simulated proteins of a simulated screen's perturbed genes, as FASTA text.

    A family has a random ancestor of 80–250 residues, its residue frequencies drawn about those of
    Swiss-Prot; each member keeps 60–85 % of the ancestor's residues and redraws the others from the
    family's frequencies. The real proteins of these genes look nothing like them.

    Parameters
    ----------
    screen
        What `simulate_screen` returned. Reads ``uns["simulation"]``.
    seed
        Of the sequences.

    Returns
    -------
    str
        Records ``>SIM|F3|GENE simulated protein of family 3 GN=GENE``.
    """
    rng = np.random.default_rng([seed, 1])
    truth = screen.uns["simulation"]
    residues, background = np.array(list(RESIDUES)), np.array(FREQUENCIES) / sum(FREQUENCIES)
    records = []
    for family in np.unique(truth["families"]):
        frequencies = rng.dirichlet(50 * background)
        ancestor = rng.choice(residues, rng.integers(LENGTHS[0], LENGTHS[1] + 1), p=frequencies)
        for gene in np.asarray(truth["genes"])[np.asarray(truth["families"]) == family]:
            sequence = _descendant(ancestor, rng.uniform(*IDENTITIES), residues, frequencies, rng)
            records.append(f">SIM|F{family}|{gene} simulated protein of family {family} GN={gene}\n{sequence}\n")
    return "".join(records)


def _descendant(
    ancestor: np.ndarray,
    identity: float,
    residues: np.ndarray,
    frequencies: np.ndarray,
    rng: np.random.Generator,
) -> str:
    """The ancestor with a share of 1 − identity of its residues replaced by others."""
    sequence = ancestor.copy()
    changed = rng.choice(len(ancestor), len(ancestor) - round(identity * len(ancestor)), replace=False)
    for position in changed:
        others = np.where(residues == ancestor[position], 0, frequencies)
        sequence[position] = rng.choice(residues, p=others / others.sum())
    return "".join(sequence)
