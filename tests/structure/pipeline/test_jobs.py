"""What a source names: folders, tables, FASTA; every bad line at once."""

from __future__ import annotations

import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.structure.pipeline.jobs import Job, read_jobs


def test_a_folder_a_file_an_address_and_a_fasta(write_pdb):
    path = write_pdb("one.pdb", {"A": "MKV"})
    write_pdb("two.ent", {"A": "MKV"})
    (path.parent / "notes.txt").write_text("no structure")
    assert [job.key for job in read_jobs(path.parent)] == ["one", "two"]
    assert read_jobs(path) == [Job("one", str(path))]
    assert read_jobs("https://host/models/1acb.cif.gz")[0].name == "1acb"
    fasta = path.with_name("s.fasta")
    fasta.write_text(">p1 first\nMKV\n>p2\nLAG\n>p1 again\nmkv\n")
    assert [(job.key, job.sequence) for job in read_jobs(fasta)] == [("p1", "MKV"), ("p2", "LAG")]


def test_a_part_beside_all_parts_of_its_structure_is_refused_unless_it_has_a_name(write_pdb):
    table = write_pdb("one.pdb", {"A": "MKV"}).with_name("t.csv")
    table.write_text("a,one.pdb,,\na,one.pdb,A,\n")
    with pytest.raises(InputProblems, match=r"beside them a\.A"):
        read_jobs(table)
    table.write_text("a,one.pdb,,\na,one.pdb,A,first\n")
    assert [job.key for job in read_jobs(table)] == ["a", "first"]


def test_a_table_names_parts_and_outputs_and_finds_files_beside_it(write_pdb):
    path = write_pdb("one.pdb", {"A": "MKV"})
    table = path.with_name("t.csv")
    table.write_text("name,path,part,output\n1abc,one.pdb,A,first\n1abc,one.pdb,,\n2xyz,https://host/2xyz.cif,B,\n")
    jobs = read_jobs(table)
    assert [(job.key, job.part, job.result("C")) for job in jobs] == [
        ("first", "A", "first"),
        ("1abc", None, "1abc.C"),
        ("2xyz.B", "B", "2xyz.B"),
    ]
    assert jobs[0].source == str(path)


def test_all_problems_of_a_table_are_told_at_once(write_pdb):
    path = write_pdb("one.pdb", {"A": "MKV"})
    table = path.with_name("t.csv")
    table.write_text("a,one.pdb,A\nb,none.pdb,A,x\n,one.pdb,A,y\nc,one.pdb,A,../up\n")
    with pytest.raises(InputProblems) as told:
        read_jobs(table)
    assert len(told.value.problems) == 4
    for words in ("line 1 has 3 columns", "no file none.pdb", "line 3 has no name", "may not hold '/'"):
        assert words in str(told.value)


def test_duplicate_output_names_are_refused(write_pdb):
    path = write_pdb("one.pdb", {"A": "MKV", "B": "MKV"})
    table = path.with_name("t.csv")
    table.write_text("a,one.pdb,A,same\nb,one.pdb,B,same\nc,gone.pdb,A,c\n")
    with pytest.raises(InputProblems) as told:
        read_jobs(table)
    assert "1 results would have one name: same" in str(told.value)
    assert "there is no file gone.pdb" in str(told.value)
    write_pdb("one.ent", {"A": "MKV"})
    with pytest.raises(InputProblems, match="one name: one"):
        read_jobs(path.parent)


def test_sources_that_are_none(tmp_path):
    (tmp_path / "x.xyz").write_text("x")
    (tmp_path / "empty.csv").write_text("\n")
    for source, told in [
        ("nothing", "no such folder or file"),
        ("x.xyz", "no source of structures"),
        ("empty.csv", "it is empty"),
        (".", "holds no structures"),
    ]:
        with pytest.raises(StateshiftError, match=told):
            read_jobs(tmp_path / source)
