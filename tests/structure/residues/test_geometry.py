"""Local geometry against gemmi's dihedrals, spheres whose area is known, and counting by hand."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.structure.parsing import read_chains
from stateshift.structure.residues.geometry import (
    CENTRE,
    POINTS,
    SPREAD,
    accessible_area,
    contacts,
    dihedrals,
    local_geometry,
)


def test_dihedrals_are_gemmi_s_and_undefined_at_the_ends(shared_data):
    path = shared_data / "structure" / "globins" / "d1ecaa_.pdb"
    chain = read_chains(path)[0]
    residues = list(gemmi.read_structure(str(path))[0][0].first_conformer())[:136]
    assert len(chain) == 136
    got = np.column_stack(dihedrals(chain))
    for i in range(1, len(chain) - 1):
        phi, psi = gemmi.calculate_phi_psi(residues[i - 1], residues[i], residues[i + 1])
        omega = gemmi.calculate_omega(residues[i - 1], residues[i])
        expected = [f(angle) for angle in (phi, psi, omega) for f in (np.sin, np.cos)]
        np.testing.assert_allclose(got[i], expected, atol=1e-4)
    assert (got[0, :2] == 0).all()
    assert (got[-1, 2:4] == 0).all()
    # globins are helices: ω trans, φ near −60°
    assert np.median(got[:, 5]) < -0.99
    assert np.degrees(np.arctan2(np.median(got[:, 0]), np.median(got[:, 1]))) == pytest.approx(-62, abs=6)


def test_a_break_in_the_chain_has_no_dihedral_across_it(made):
    lines = made.residue("ALA", 1) + made.residue("GLY", 50)
    (chain,) = read_chains(made.file(lines))
    assert not np.any(dihedrals(chain))


def test_an_atom_alone_exposes_its_sphere_and_two_hide_the_caps_that_geometry_says():
    radius = 1.7 + 1.4
    alone = accessible_area(np.zeros((1, 3)), ["C"])
    np.testing.assert_allclose(alone, 4 * np.pi * radius**2)
    for distance in (1.0, 2.5, 4.0):
        pair = accessible_area(np.array([[0.0, 0, 0], [0, 0, distance]]), ["C", "C"])
        cap = 2 * np.pi * radius * (radius - distance / 2)
        np.testing.assert_allclose(pair, 4 * np.pi * radius**2 - cap, rtol=1.5 / POINTS * 2)
    np.testing.assert_allclose(accessible_area(np.array([[0.0, 0, 0], [0, 0, 7.0]]), ["C", "C"]), alone[0])


def test_areas_of_a_protein_equal_distances_counted_one_by_one(shared_data):
    from stateshift.structure.residues.geometry import _sphere

    chain = read_chains(shared_data / "structure" / "cath" / "1irxA02.pdb")[0]
    radii = np.array([{"C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8}[e] for e in chain.elements]) + 1.4
    got = accessible_area(chain.atoms, chain.elements)
    for i in range(0, len(radii), 13):
        shell = chain.atoms[i] + radii[i] * _sphere()
        far = np.linalg.norm(shell[:, None] - chain.atoms[None], axis=2) >= radii
        far[:, i] = True
        assert got[i] == pytest.approx(4 * np.pi * radii[i] ** 2 * far.all(axis=1).mean(), abs=2.6)


def test_contacts_are_counted_by_hand_and_neighbours_along_the_chain_are_none(shared_data):
    chain = read_chains(shared_data / "structure" / "cath" / "1irxA02.pdb")[0]
    ca = chain.backbone[:, 1]
    apart = np.linalg.norm(ca[:, None] - ca[None], axis=2)
    far_along = np.abs(np.arange(len(ca))[:, None] - np.arange(len(ca))) >= 3
    np.testing.assert_array_equal(contacts(chain, 8.0), ((apart <= 8) & far_along).sum(axis=1))


def test_values_are_standardised_and_whole(shared_data):
    values = [
        local_geometry(c) for f in sorted((shared_data / "structure" / "cath").glob("1a*.pdb")) for c in read_chains(f)
    ]
    values = np.concatenate(values)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    raw = values * SPREAD + CENTRE
    assert 0 <= raw[:, 8].min() < raw[:, 8].max() < 1.5
    assert np.abs(values[:, 6:].mean(axis=0)).max() < 0.5


def test_a_ca_trace_has_no_geometry(write_pdb):
    (chain,) = read_chains(write_pdb("trace.pdb", {"A": "MKVLA"}, atoms=("CA",)))
    with pytest.raises(StateshiftError, match="holds CA atoms alone"):
        local_geometry(chain)
