"""Chains out of PDB and mmCIF: names, conformers, modified residues, limits, against files whose content is known."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins import read_fasta
from stateshift.structure.parsing import read_assemblies, read_chain, read_chains


def test_every_file_of_the_data_folder_is_read_and_the_globins_have_scop_s_sequences(shared_data):
    folder = shared_data / "structure"
    files = [f for f in folder.rglob("*") if f.name.endswith((".pdb", ".pdb.gz", ".cif"))]
    chains = {f.name.split(".")[0]: read_chains(f) for f in files}
    assert len(chains) == 89
    scop = {p.id: p.sequence for p in read_fasta(shared_data / "proteins" / "scop40.fasta")}
    known = [name for name in chains if name in scop]
    assert len(known) == 26
    assert all(chains[name][0].sequence == scop[name] for name in known)
    assert [(c.label, len(c)) for c in chains["1tim"]] == [("A", 247), ("B", 247)]


def test_label_and_author_chains_of_an_mmcif(shared_data):
    path = shared_data / "structure" / "esm3" / "1acb.cif"
    chains = read_chains(path)
    assert [(c.label, c.author, len(c), c.missing) for c in chains] == [("A", "E", 241, 4), ("B", "I", 63, 7)]
    assert read_chain(path, "I", names="author").sequence == read_chain(path, "B").sequence
    with pytest.raises(StateshiftError, match="no protein chain `Z` by label name: there are A, B"):
        read_chain(path, "Z")
    with pytest.raises(StateshiftError, match=r"the author chain `E` has the label name `A`"):
        read_chain(path, "E")


def test_an_assembly_of_the_file_and_one_that_is_not_there(shared_data, write_pdb, caplog):
    path = shared_data / "structure" / "esm3" / "1acb.cif"
    (assembly,) = read_assemblies(path)
    assert (assembly.name, [c.label for c in assembly.chains], assembly.residues) == ("1", ["A", "B"], 304)
    (cut,) = read_assemblies(path, max_residues=100)
    assert ([c.label for c in cut.chains], cut.left_out) == (["A"], ["B"])
    assert caplog.messages == [f"{path}: assembly `1` is past --max-residues 100 without B."]
    with pytest.raises(StateshiftError, match="no assembly `7`: there are 1"):
        read_assemblies(path, "7")
    with pytest.raises(StateshiftError, match="describes no biological assembly"):
        read_assemblies(write_pdb("plain.pdb", {"A": "MKV"}))


def test_a_dimer_made_by_two_operators_holds_its_chain_twice(made):
    remark = [
        "REMARK 350 BIOMOLECULE: 1",
        "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A",
        "REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000",
        "REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000",
        "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000",
        "REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000        0.00000",
        "REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000        0.00000",
        "REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        9.00000",
    ]
    path = made.file([*remark, made.text("MKVLA").rstrip(), "END"])
    (assembly,) = read_assemblies(path)
    assert [c.label for c in assembly.chains] == ["A", "A"]
    assert assembly.residues == 10


def test_modified_and_unknown_residues_stand_as_letters_and_water_ligands_and_caps_do_not_count(made):
    lines = made.residue("ACE", 0, record="HETATM") + made.residue("ALA", 1) + made.residue("MSE", 2, record="HETATM")
    lines += made.residue("SEP", 3, record="HETATM") + made.residue("XQZ", 4) + made.residue("SEC", 5) + ["TER"]
    lines += [made.line(1, "O", "HOH", "A", 101, (9, 9, 9), record="HETATM")]
    lines += [made.line(1, "FE", "HEM", "A", 102, (8, 9, 9), record="HETATM")]
    (chain,) = read_chains(made.file(lines))
    assert chain.sequence == "AMSXU"
    assert chain.numbers == ["1", "2", "3", "4", "5"]


def test_insertion_codes_keep_their_order_and_gaps_are_no_residues(made):
    lines = made.residue("ALA", 52) + made.residue("GLY", 52, code="A", at=3) + made.residue("VAL", 52, code="B", at=6)
    (chain,) = read_chains(made.file([*lines, *made.residue("LEU", 60)]))
    assert (chain.sequence, chain.numbers) == ("AGVL", ["52", "52A", "52B", "60"])


def test_of_alternative_atoms_and_residues_the_fuller_one_stays(made):
    lines = made.residue("ALA", 1)
    lines += made.residue("SER", 2, altloc="A", occupancy=0.3) + made.residue("GLY", 2, altloc="B", occupancy=0.7)
    lines += [made.line(1, "CA", "LEU", "A", 3, (1, 1, 1), altloc="A", occupancy=0.4)]
    lines += [made.line(1, "CA", "LEU", "A", 3, (2, 2, 2), altloc="B", occupancy=0.6)]
    (chain,) = read_chains(made.file(lines))
    assert chain.sequence == "AGL"
    np.testing.assert_array_equal(chain.backbone[2, 1], [2, 2, 2])


def test_a_chain_whose_numbers_begin_anew_keeps_all_residues(made):
    lines = made.residue("ALA", 9999) + made.residue("GLY", 0, at=3) + made.residue("VAL", 1, at=6)
    (chain,) = read_chains(made.file([*made.residue("LEU", 1, at=-3), *lines]))
    assert (chain.sequence, chain.numbers) == ("LAGV", ["1", "9999", "0", "1"])
    with pytest.raises(StateshiftError, match="residue 1 LEU of chain `A` is there several times"):
        read_chains(made.file([*made.residue("LEU", 1, at=-3), *lines, *made.residue("LEU", 1, at=9)]))


def test_a_model_is_chosen_by_its_place(made):
    models = [
        "MODEL        1",
        made.text("MKV").rstrip(),
        "ENDMDL",
        "MODEL        2",
        made.text("MKVL").rstrip(),
        "ENDMDL",
    ]
    path = made.file(models)
    assert [len(read_chains(path, model=m)[0]) for m in (1, 2)] == [3, 4]
    with pytest.raises(StateshiftError, match="no model 3: it holds 2"):
        read_chains(path, model=3)


def test_chains_outside_the_limits_are_left_out_and_one_asked_for_by_name_is_an_error(write_pdb):
    path = write_pdb("three.pdb", {"A": "MK", "B": "MKVLAGS", "C": "MKVLAGSTRWYV"})
    assert [c.label for c in read_chains(path, min_residues=3, max_residues=10)] == ["B"]
    with pytest.raises(StateshiftError, match="chain `A` has 2 residues, not at least 10 residues"):
        read_chain(path, "A", min_residues=10)
    with pytest.raises(StateshiftError, match=r"no protein chain of 50 to 60 residues \(residues: A: 2, B: 7, C: 12\)"):
        read_chains(path, min_residues=50, max_residues=60)


def test_a_ca_trace_is_read_and_knows_that_it_is_one(write_pdb, made):
    (chain,) = read_chains(write_pdb("trace.pdb", {"A": "MKVLA"}, atoms=("CA",)))
    assert (chain.sequence, chain.is_trace) == ("MKVLA", True)
    np.testing.assert_allclose(chain.backbone[:, 1], made.helix(5)[:, 1], atol=6e-4)
    assert np.isnan(chain.backbone[:, 0]).all()


def test_twenty_thousand_residues_are_one_chain(tmp_path):
    rows = [f"ATOM {i} C CA ALA A 1 {i} {i % 100} {i // 100 % 100} {i / 50:.2f} 1 20 {i} A ." for i in range(1, 20001)]
    names = "group_PDB id type_symbol label_atom_id label_comp_id label_asym_id label_entity_id label_seq_id Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id label_alt_id"
    header = "data_big\nloop_\n" + "".join(f"_atom_site.{name}\n" for name in names.split())
    path = tmp_path / "big.cif.gz"
    path.write_bytes(gzip.compress((header + "\n".join(rows) + "\n").encode()))
    (chain,) = read_chains(path)
    assert len(chain) == 20000


def test_a_dna_entry_names_its_chains(made):
    lines = [made.line(i, "P", "DG", "B", i, (i, 0, 0)) for i in range(1, 6)]
    with pytest.raises(StateshiftError, match=r"holds no protein chain: its chains are B \(DG …\)"):
        read_chains(made.file(lines))
