"""Clusters from alignments, groups, folders, data sets and classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.rag_esm.homologs.alignment import hamming
from stateshift.rag_esm.homologs.clusters import Cluster, read_clusters, write_clusters
from stateshift.rag_esm.homologs.data import make_data, read_data
from stateshift.rag_esm.homologs.sources import read_a3m, read_source

A3M = ">first\nMK-LA\n>second some words\nMKvvGL-\n>twin\nMK-LA\n>\nM-GLA\n"


def test_an_a3m_gives_sequences_with_insertions_and_columns_without(tmp_path):
    (tmp_path / "f.a3m").write_text("\ufeff" + A3M)  # as Windows saves a text
    cluster = read_a3m(tmp_path / "f.a3m")
    assert cluster.ids == ("first", "second", "f_4")
    assert cluster.sequences[:2] == ("MKLA", "MKVVGL")
    assert cluster.aligned[:2] == ("MK-LA", "MKGL-")
    np.testing.assert_allclose(hamming(("MK-LA", "MKGL-", "AK-LA"), 0), [0, 1 / 4, 1 / 4])


def test_rows_of_other_lengths_and_strange_letters_are_all_named(tmp_path):
    (tmp_path / "f.a3m").write_text(">a\nMKLA\n>b\nMKL\n>c\nMK1A\n")
    with pytest.raises(InputProblems) as caught:
        read_a3m(tmp_path / "f.a3m")
    assert len(caught.value.problems) == 2
    assert "row `b` has 3 columns, the first row 4" in str(caught.value)


def test_the_real_alignments_are_read_whole(shared_data):
    for file in sorted((shared_data / "proteins" / "msa").glob("*.a3m")):
        cluster = read_a3m(file)
        assert len(cluster) > 50
        assert len({len(row) for row in cluster.aligned}) == 1
        assert len(set(cluster.sequences)) == len(cluster)
        kept = [row.replace("-", "") for row in cluster.aligned]
        assert all(len(a) <= len(b) for a, b in zip(kept, cluster.sequences))


def test_groups_of_headers_folders_and_data_sets_give_the_same_clusters(tmp_path):
    groups = {"fam1": ["MKLAV", "MKLAG"], "fam2": ["GGWWT", "GGWWS", "GGWWA"]}
    rows = [(f"{g}_{i}", g, s) for g, members in groups.items() for i, s in enumerate(members)]
    (tmp_path / "named.fasta").write_text("".join(f">{n} cluster={g} x\n{s}\n" for n, g, s in rows))
    folder = tmp_path / "folder"
    folder.mkdir()
    for g in groups:
        (folder / f"{g}.fasta").write_text("".join(f">{n}\n{s}\n" for n, h, s in rows if h == g))
    table = tmp_path / "set"
    table.mkdir()
    pd.DataFrame(rows, columns=["id", "cluster", "sequence"]).to_parquet(table / "part-0.parquet")
    expected = {g: tuple(members) for g, members in groups.items()}
    for source in ("named.fasta", "folder", "set"):
        assert {c.name: c.sequences for c in read_source(tmp_path / source)} == expected, source
    pd.DataFrame({"cluster": ["a", None, "b"], "sequence": ["MK", "MA", None]}).to_parquet(table / "part-1.parquet")
    with pytest.raises(StateshiftError, match=rf"2 rows .* {len(rows) + 2}, {len(rows) + 3}; leave them out"):
        read_source(table)


def test_openproteinsets_folders_are_named_by_their_accession(tmp_path):
    place = tmp_path / "1abc_A" / "a3m"
    place.mkdir(parents=True)
    (place / "bfd_uniclust_hits.a3m").write_text(">q\nMKLA\n>r\nMKLG\n")
    assert [c.name for c in read_source(tmp_path)] == ["1abc_A"]


def test_clusters_come_back_from_their_file(tmp_path):
    clusters = [Cluster("a", ("x", "y"), ("MK", "MA"), ("MK", "MA")), Cluster("b", ("z",), ("GG",))]
    write_clusters(clusters, tmp_path / "c.jsonl")
    assert read_clusters(tmp_path / "c.jsonl") == clusters
    small = '{"name": "b", "ids": ["x"], "sequences": ["MkJ"], "aligned": []}'
    (tmp_path / "bad.jsonl").write_text('{"name": "a"}\nno\n' + small)
    with pytest.raises(InputProblems, match=r"(?s)3 problems.*line 3 is no cluster: sequences hold 'J', 'k', no amino"):
        read_clusters(tmp_path / "bad.jsonl")


def test_families_split_whole_and_lonely_ones_are_left_out_and_counted(families, tmp_path, caplog):
    fasta, classes = families
    told = make_data(fasta, tmp_path / "data", classes=classes, val_share=0.25)
    train, val = read_data(tmp_path / "data")
    assert (told["train_clusters"], told["val_clusters"], told["left_out_small"]) == (6, 2, 1)
    assert {c.name for c in train} & {c.name for c in val} == set()
    assert {s for c in train for s in c.sequences} & {s for c in val for s in c.sequences} == set()
    assert "fewer than 2 members are left out (1 of them): b.1.1.1" in caplog.text
    make_data(fasta, tmp_path / "few", classes=classes, val_share=0.25, max_members=2)
    assert max(map(len, train)) > 2
    assert {len(c) for side in read_data(tmp_path / "few") for c in side} == {2}
    with pytest.raises(StateshiftError, match="--max-members must be 2 or more"):
        make_data(fasta, tmp_path / "none", classes=classes, max_members=0)


def test_a_sequence_of_two_clusters_is_not_on_both_sides(tmp_path):
    members = ["MKLAV", "MKLAG", "MKLAW"]
    text = "".join(
        f">{g}/{i}\n{s}\n" for g in "ab" for i, s in enumerate([*members, g.upper() * 5, "C" + g.upper() * 5])
    )
    (tmp_path / "f.fasta").write_text(text)
    told = make_data(tmp_path / "f.fasta", tmp_path / "data", val_share=0.5)
    train, val = read_data(tmp_path / "data")
    assert told["left_out_shared"] == 3
    assert not {s for c in train for s in c.sequences} & {s for c in val for s in c.sequences}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (">a\nMK\n>b\nMA\n", r"records name no group \(a, b\)"),
        (">g/a\nMKV\n>h/b\nMAV\n", "2 different members or more are needed, and it has 0"),
    ],
)
def test_sequences_without_groups_and_families_of_one_are_refused(tmp_path, text, words):
    (tmp_path / "f.fasta").write_text(text)
    with pytest.raises(StateshiftError, match=words):
        make_data(tmp_path / "f.fasta", tmp_path / "data")


def test_scop_families_become_clusters(shared_data, tmp_path):
    proteins = shared_data / "proteins"
    told = make_data(proteins / "scop40.fasta", tmp_path / "d", classes=proteins / "scop40_classes.tsv", min_members=5)
    assert told["train_clusters"] + told["val_clusters"] == 466


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "x: there is no such file or folder"),
        ({"x.a3m": None}, "there is no such alignment"),
        ({"x.a3m": b">\xff\nMK\n"}, "is no alignment: it isn't text"),
        ({"x.a3m": b">a\n--\n"}, "holds no aligned sequences"),
        ({"x/notes.txt": b"nothing"}, r"holds no clusters: no \.a3m"),
        ({"x/a.a3m": b">a\nMK\n>b\nM\n", "x/b.fasta": b">a\nM1\n"}, r"(?s)2 problems.*row `b` has 1 columns.*b\.fasta"),
        ({"x.jsonl": b"{'cluster': 1"}, "can't be read as a table"),
        ({"x.jsonl": b'{"cluster": "f", "sequences": "MK"}\n'}, "has no column `sequence` .did you mean `sequences`"),
        (
            {"x.jsonl": b'{"cluster": "f", "id": "a", "sequence": "M1"}\n'},
            r"1 sequences of the table are no proteins: a",
        ),
    ],
)
def test_what_holds_no_clusters_is_told(tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(StateshiftError, match=words):
        read_source(tmp_path / (next(iter(files), "x").partition("/")[0]))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (None, "there is no such table of classes"),
        ("\n", "it is empty"),
        ("a\tf1\nb\n", "line 2 reads `b`, not a name and a class"),
        ("A1\tf1\nB1\tf1\n", "names none of the sequences.*`a1` isn't there .did you mean `A1`"),
    ],
)
def test_classes_that_name_no_sequence_are_told(tmp_path, classes, words):
    (tmp_path / "f.fasta").write_text(">a1\nMK\n>b1\nMA\n")
    if classes is not None:
        (tmp_path / "c.tsv").write_text(classes)
    with pytest.raises(StateshiftError, match=words):
        read_source(tmp_path / "f.fasta", tmp_path / "c.tsv")


def test_sequences_without_a_class_are_left_out_by_name(tmp_path, caplog):
    (tmp_path / "f.fasta").write_text(">a\nMK\n>b\nMA\n>c\nMG\n")
    (tmp_path / "c.csv").write_text("a,f1\nc,f1\n")
    (cluster,) = read_source(tmp_path / "f.fasta", tmp_path / "c.csv")
    assert cluster.ids == ("a", "c")
    assert "1 sequences have no class" in caplog.text
    assert caplog.text.rstrip().endswith("b.")


def test_alignments_of_one_accession_are_one_cluster_of_members_without_columns(tmp_path):
    place = tmp_path / "1abc_A" / "a3m"
    place.mkdir(parents=True)
    (place / "bfd.a3m").write_text(">q\nMKLA\n>r\nMK-G\n")
    (place / "uniref.a3m").write_text(">q\nMKLA\n>s\nMALA\n")
    (cluster,) = read_source(tmp_path)
    assert (cluster.name, cluster.sequences, cluster.aligned) == ("1abc_A", ("MKLA", "MKG", "MALA"), ())
