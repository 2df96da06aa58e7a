"""Indices of structures, hits and their page, edges from both sides, clusters."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.structure import StructureEmbedding
from stateshift.structure.pipeline import Machine, Models, Output, embed, read_vectors
from stateshift.structure.pipeline.tables import write_named
from stateshift.structure.search import (
    build_index,
    cluster_index,
    search_index,
    similarity_graph,
    update_index,
    write_hits,
    write_page,
)
from stateshift.vector_index import VectorIndex

pytest.importorskip("faiss", reason="indices need the extra `structure`")


@pytest.fixture
def models(aggregator_file):
    return Models(aggregator=aggregator_file)


def angles(**degrees: float) -> dict[str, torch.Tensor]:
    """Unit vectors in the plane, so that cosines are known."""
    radians = {name: np.radians(angle) for name, angle in degrees.items()}
    return {name: torch.tensor([np.cos(a), np.sin(a)], dtype=torch.float32) for name, a in radians.items()}


@pytest.fixture
def plane(tmp_path):
    """Two groups of vectors, far from each other, and one alone."""
    path = write_named(angles(a1=0, a2=4, a3=9, b1=90, b2=94, c=200), tmp_path / "v.parquet")
    build_index(path, tmp_path / "plane")
    return tmp_path / "plane"


def test_a_structure_finds_itself_and_a_sequence_finds_its_structure(write_pdb, models, tmp_path):
    path = write_pdb("one.pdb", {"A": "MKVLAGSTRWYVQEDN", "B": "GGSLLKKDEAPW"})
    meta = tmp_path / "meta.csv"
    meta.write_text("name,fold\none.A,helix\nother,none\n")
    index = build_index(path, tmp_path / "i", models, meta)
    assert set(index.row_of) == {"one.A", "one.B"}
    hits = search_index(tmp_path / "i", path, top_k=1, models=models)
    assert {query: found[0][0] for query, found in hits.items()} == {"one.A": "one.A", "one.B": "one.B"}
    assert hits["one.A"][0][1] == pytest.approx(1, abs=1e-5)
    fasta = tmp_path / "q.fasta"
    fasta.write_text(">query\nGGSLLKKDEAPW\n")
    assert search_index(tmp_path / "i", fasta, top_k=1, models=models)["query"][0][0] == "one.B"
    assert VectorIndex.load(tmp_path / "i").metadata["one.A"] == {"fold": "helix"}


def test_an_update_adds_and_replaces(plane, tmp_path):
    more = write_named(angles(a1=2, d=91), tmp_path / "more.pt")
    _, new, replaced = update_index(plane, more)
    assert (new, replaced) == (1, 1)
    query = write_named(angles(q=90.4), tmp_path / "q.csv")
    assert [name for name, _ in search_index(plane, query, top_k=2)["q"]] == ["b1", "d"]


def test_hits_are_ranked_and_those_below_the_threshold_left_out(plane, tmp_path):
    query = write_named(angles(q=1), tmp_path / "q.parquet")
    hits = search_index(plane, query, threshold=np.cos(np.radians(5)))
    assert [name for name, _ in hits["q"]] == ["a1", "a2"]
    assert hits["q"][1][1] == pytest.approx(np.cos(np.radians(3)), abs=1e-5)
    write_hits(hits, tmp_path / "hits.csv")
    with (tmp_path / "hits.csv").open() as lines:
        assert list(csv.reader(lines))[:2] == [
            ["Query", "Rank", "Match", "Score"],
            ["q", "1", "a1", f"{hits['q'][0][1]:.6f}"],
        ]


def test_the_page_holds_hits_and_metadata_and_escapes_both(tmp_path):
    hits = {"<b>query</b>": [("1abc.A", 0.91)], "none": []}
    write_page(hits, tmp_path / "hits.html", {"1abc.A": {"title": "a & b"}}, {"least cosine": 0.8})
    page = (tmp_path / "hits.html").read_text()
    for words in (
        "&lt;b&gt;query",
        "1abc.A",
        "0.910",
        "a &amp; b",
        "No entry passes the threshold",
        "least cosine: 0.8",
    ):
        assert words in page
    assert "<b>query" not in page
    assert "http" not in page


def test_edges_are_kept_from_both_sides_once(plane):
    edges = {(a, b): score for a, b, score in similarity_graph(plane, top_k=1, threshold=0.5)}
    # a3's nearest is a2, whose own nearest is a1: the edge stands by a3's side alone
    assert set(edges) == {("a1", "a2"), ("a2", "a3"), ("b1", "b2")}
    assert edges["a2", "a3"] == pytest.approx(np.cos(np.radians(5)), abs=1e-5)


def test_clusters_are_the_groups_and_the_largest_comes_first(plane):
    found = cluster_index(plane, threshold=0.5)
    assert {name: found[name] for name in ("a1", "a2", "a3")} == dict.fromkeys(("a1", "a2", "a3"), 0)
    assert found["b1"] == found["b2"] == 1
    assert found["c"] == 2
    assert found == cluster_index(plane, threshold=0.5)


def test_another_width_another_aggregator_and_an_existing_folder_are_refused(plane, models, write_pdb, tmp_path):
    path = write_pdb("one.pdb", {"A": "MKVLAGSTRWYVQEDN"})
    with pytest.raises(StateshiftError, match="The index holds vectors 2 wide"):
        search_index(plane, path, models=models)
    with pytest.raises(StateshiftError, match="exists already"):
        build_index(path, plane, models)
    index = build_index(path, tmp_path / "i", models)
    index.about["aggregator"] = "f" * 64
    index.save(tmp_path / "i")
    with pytest.raises(StateshiftError, match="pass the same --aggregator"):
        search_index(tmp_path / "i", path, models=models)


def test_an_index_of_vectors_knows_from_their_record_what_made_them(models, write_pdb, tmp_path):
    path = write_pdb("one.pdb", {"A": "MKVLAGSTRWYVQEDN"})
    for place, form in (("grouped", "grouped"), ("separated", "separated")):
        embed("chains", path, Output(tmp_path / place, "v", form, "csv"), models, machine=Machine(accelerator="cpu"))
        source = tmp_path / place if form == "separated" else tmp_path / place / "v.csv"
        index = build_index(source, tmp_path / f"{place}.index")
        assert index.search(index.vectors(), 1)[0][0].name == "one.A"
        with pytest.raises(StateshiftError, match="made by the aggregator .* pass the same --aggregator"):
            search_index(index, path)
        assert search_index(index, path, models=models)["one.A"][0][0] == "one.A"
    index.about["residues"]["model_sha256"] = "f" * 64
    with pytest.raises(StateshiftError, match="made by the residue model .* pass the same --checkpoint"):
        search_index(index, path, models=models)


def test_queries_by_a_model_that_the_aggregator_was_not_trained_on_are_refused(aggregator_file, write_pdb, tmp_path):
    content = torch.load(aggregator_file, weights_only=True)
    content["residues"]["model_sha256"] = "f" * 64
    torch.save(content, tmp_path / "other.pt")
    path = write_pdb("one.pdb", {"A": "MKVLAGSTRWYVQEDN"})
    with pytest.raises(StateshiftError, match="The aggregator was trained on rows of"):
        build_index(path, tmp_path / "i", Models(aggregator=tmp_path / "other.pt"))
    with pytest.raises(StateshiftError, match="The aggregator was trained on rows of"):
        StructureEmbedding(tmp_path / "other.pt")


def test_a_folder_of_structures_is_none_of_vectors_whatever_their_suffix(models, write_pdb, tmp_path):
    (tmp_path / "s").mkdir()
    write_pdb("s/one.pdb", {"A": "MKVLAGSTRWYVQEDN"}).rename(tmp_path / "s" / "one.mmcif")
    assert set(build_index(tmp_path / "s", tmp_path / "i", models).row_of) == {"one.A"}


def test_one_name_in_two_files_of_a_folder_is_refused(tmp_path):
    write_named(angles(a=0), tmp_path / "a.csv")
    write_named(angles(a=0, b=9), tmp_path / "all.csv")
    with pytest.raises(StateshiftError, match="one name in several files: a"):
        read_vectors(tmp_path)


def test_a_folder_of_vectors_is_read_without_what_a_killed_run_left(tmp_path):
    write_named(angles(a=0), tmp_path / "a.csv")
    (tmp_path / ".b.12.part.csv").write_text("")
    assert set(read_vectors(tmp_path)) == {"a"}


def test_residue_rows_are_no_vectors(tmp_path):
    torch.save(torch.zeros(4, 8), tmp_path / "rows.pt")
    with pytest.raises(StateshiftError, match="vectors of one width are needed"):
        read_vectors(tmp_path / "rows.pt")
