"""Local geometry of each residue: backbone dihedrals, contacts and relative accessibility, standardised."""

from __future__ import annotations

import itertools

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.structure.parsing import Chain

NAMES = ("sin φ", "cos φ", "sin ψ", "cos ψ", "sin ω", "cos ω", "contacts 8 Å", "contacts 12 Å", "accessibility")
WIDTH = len(NAMES)
CENTRE = np.array([0, 0, 0, 0, 0, 0, 5.0, 21.0, 0.3], dtype=np.float32)
SPREAD = np.array([1, 1, 1, 1, 1, 1, 2.5, 8.0, 0.23], dtype=np.float32)
"""Rounded means and deviations over 10,763 residues of 90 domains; fixed, so that a residue's values are too."""
SEPARATION = 3
BOND = 2.0
"""Å between C and the next N; more is a break in the chain."""
PROBE = 1.4
RADII = {"C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8, "Se": 1.9}
"""Van der Waals radii in Å (Bondi 1964)."""
POINTS = 96
ATOMS_AT_ONCE = 256
MAX_AREA = {
    **{"A": 129, "R": 274, "N": 195, "D": 193, "C": 167, "E": 223, "Q": 225, "G": 104, "H": 224, "I": 197},
    **{"L": 201, "K": 236, "M": 224, "F": 240, "P": 159, "S": 155, "T": 172, "W": 285, "Y": 263, "V": 174},
}
"""Å² that a residue exposes at most (Tien et al. 2013, theoretical)."""


def local_geometry(chain: Chain) -> np.ndarray:
    """What a residue's surroundings look like, (L, 9) float32 in the order of `NAMES`.

    Sines and cosines of φ, ψ and ω are 0 where an angle is undefined (ends, breaks, missing atoms). Contacts
    are CA atoms within 8 and 12 Å at least three residues away along the chain. Accessibility is the area
    that a water probe reaches (Shrake & Rupley 1973) over the most that the residue can expose. The last three
    are standardised by `CENTRE` and `SPREAD`. Only this chain's atoms count, not its partners'.

    Raises
    ------
    StateshiftError
        The chain is a CA trace, which has neither dihedrals nor side chains.
    """
    if chain.is_trace:
        raise StateshiftError(
            f"chain `{chain.label}` holds CA atoms alone: local geometry needs whole residues; leave out --geometry."
        )
    near, far = contacts(chain, 8.0), contacts(chain, 12.0)
    raw = np.column_stack([*dihedrals(chain), near, far, accessibility(chain)]).astype(np.float32)
    return (raw - CENTRE) / SPREAD


def dihedrals(chain: Chain) -> list[np.ndarray]:
    """Sine and cosine of φ, ψ and ω of each residue (the ω before it), six arrays (L,)."""
    n, ca, c = (chain.backbone[:, i].astype(np.float64) for i in range(3))
    joined = np.linalg.norm(n[1:] - c[:-1], axis=1) < BOND
    phi, psi, omega = (np.full(len(chain), np.nan) for _ in range(3))
    phi[1:] = np.where(joined, dihedral(c[:-1], n[1:], ca[1:], c[1:]), np.nan)
    psi[:-1] = np.where(joined, dihedral(n[:-1], ca[:-1], c[:-1], n[1:]), np.nan)
    omega[1:] = np.where(joined, dihedral(ca[:-1], c[:-1], n[1:], ca[1:]), np.nan)
    return [np.nan_to_num(f(angle)) for angle in (phi, psi, omega) for f in (np.sin, np.cos)]


def dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The angle between the planes abc and bcd, in radians, (N,), from positions (N, 3)."""
    first, axis, last = b - a, c - b, d - c
    left, right = np.cross(first, axis), np.cross(axis, last)
    along = np.linalg.norm(axis, axis=1) * (first * right).sum(axis=1)
    return np.arctan2(along, (left * right).sum(axis=1))


def contacts(chain: Chain, distance: float) -> np.ndarray:
    """CA atoms within a distance in Å and `SEPARATION` or more residues away along the chain, (L,)."""
    from scipy.spatial import cKDTree

    ca = chain.backbone[:, 1]
    there = np.flatnonzero(np.isfinite(ca).all(axis=1))
    pairs = there[cKDTree(ca[there]).query_pairs(distance, output_type="ndarray")]
    apart = pairs[np.abs(pairs[:, 0] - pairs[:, 1]) >= SEPARATION]
    return np.bincount(apart.ravel(), minlength=len(chain))


def accessibility(chain: Chain) -> np.ndarray:
    """Accessible area of each residue over the most it can expose, (L,); may pass 1 at the ends."""
    areas = np.bincount(chain.atom_residue, weights=accessible_area(chain.atoms, chain.elements), minlength=len(chain))
    return areas / np.array([MAX_AREA.get(letter, 200) for letter in chain.sequence])


def accessible_area(atoms: np.ndarray, elements: list[str]) -> np.ndarray:
    """Å² of each atom that the centre of a water probe reaches, (A,), by `POINTS` points a sphere.

    The point a + r s on the sphere of an atom at a is hidden by one of radius q at b where
    |a + r s − b| < q, that is s · (a − b) < (q² − r² − |a − b|²) / 2r.
    """
    from scipy.spatial import cKDTree

    radii = np.array([RADII.get(element, 1.8) for element in elements]) + PROBE
    pairs = cKDTree(atoms).query_pairs(2 * radii.max(), output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    free = np.ones(len(atoms))
    first = np.searchsorted(both[:, 0], np.arange(0, len(atoms) + ATOMS_AT_ONCE, ATOMS_AT_ONCE))
    for start, end in itertools.pairwise(first):
        a, b = both[start:end].T
        if len(a):
            apart = atoms[a].astype(np.float64) - atoms[b]
            least = (radii[b] ** 2 - radii[a] ** 2 - (apart**2).sum(axis=1)) / (2 * radii[a])
            hidden = apart @ _sphere().T < least[:, None]
            atom, begins = np.unique(a, return_index=True)
            free[atom] = 1 - np.logical_or.reduceat(hidden, begins, axis=0).mean(axis=1)
    return 4 * np.pi * radii**2 * free


def _sphere() -> np.ndarray:
    """Points spread evenly on the unit sphere by the golden angle, (POINTS, 3)."""
    z = 1 - (2 * np.arange(POINTS) + 1) / POINTS
    turn = np.arange(POINTS) * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - z * z)
    return np.column_stack([flat * np.cos(turn), flat * np.sin(turn), z])
