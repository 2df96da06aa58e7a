"""Inputs made for sampling: lengths of clusters, motifs at random places."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from stateshift.errors import InputProblems
from stateshift.proteins import read_fasta
from stateshift.rag_esm.homologs.clusters import Cluster, write_clusters
from stateshift.rag_esm.inputs.clusters import cluster_inputs
from stateshift.rag_esm.inputs.scaffold import placed, scaffold_inputs
from stateshift.rag_esm.sampling.inputs import read_requests


def test_inputs_of_a_cluster_are_as_long_as_its_members_beside_one_of_them(tmp_path):
    clusters = [Cluster("a", ("x", "y"), ("MKV", "MKVLA")), Cluster("b", ("z", "w"), ("G" * 9, "W" * 9))]
    write_clusters(clusters, tmp_path / "c.jsonl")
    pairs = cluster_inputs(tmp_path / "c.jsonl", tmp_path / "out", per_cluster=100)
    lengths = Counter(len(p.masked) for p in pairs if p.group == "a")
    assert set(lengths) == {3, 5}
    assert 30 < lengths[3] < 70
    assert {p.context for p in pairs if p.group == "b"} == {"G" * 9, "W" * 9}
    requests = read_requests(tmp_path / "out" / "contexts.fasta", tmp_path / "out" / "inputs.fasta")
    assert [(r.masked, r.context) for r in requests] == [(p.masked, p.context) for p in pairs]
    assert (tmp_path / "out" / "clusters.txt").read_text().split() == ["a"] * 100 + ["b"] * 100


def test_segments_keep_their_order_and_every_arrangement_is_alike_likely():
    rng = np.random.default_rng(0)
    seen = Counter(placed(["AA", "C"], 5, rng) for _ in range(6000))
    assert set(seen) == {"AAC--", "AA-C-", "AA--C", "-AAC-", "-AA-C", "--AAC"}
    assert all(900 < count < 1100 for count in seen.values())


def test_a_scaffold_holds_its_motif_and_the_original_is_its_context(tmp_path, protein_maker):
    sequence = protein_maker(60)
    (tmp_path / "p.fasta").write_text(f">p\n{sequence}\n")
    (tmp_path / "m.csv").write_text("id,start,end\np,31,35\np,5,12\n")
    pairs = scaffold_inputs(
        tmp_path / "p.fasta", tmp_path / "m.csv", tmp_path / "out", per_motif=40, shortest=10, longest=30
    )
    for pair in pairs:
        assert pair.masked.replace("-", "") == sequence[4:12] + sequence[30:35]
        assert sequence[4:12] in pair.masked
        assert sequence[30:35] in pair.masked
        assert pair.context == sequence
    assert min(len(p.masked) for p in pairs) >= 13
    assert max(len(p.masked) for p in pairs) <= 30
    assert len({p.masked for p in pairs}) > 30
    assert len(read_fasta(tmp_path / "out" / "contexts.fasta")) == 40


def test_every_wrong_motif_is_named(tmp_path):
    (tmp_path / "p.fasta").write_text(">prot\nMKVLA\n>two\nMKVLAGG\n")
    (tmp_path / "m.csv").write_text("id,start,end\nprt,1,2\nprot,3,9\ntwo,1,3\ntwo,3,5\n")
    with pytest.raises(InputProblems) as caught:
        scaffold_inputs(tmp_path / "p.fasta", tmp_path / "m.csv", tmp_path / "out")
    assert len(caught.value.problems) == 3
    assert "did you mean `prot`" in str(caught.value)
    assert "residues 1 to 5, not 3 to 9" in str(caught.value)
