"""What the commands mutations and map leave on the disk, on the toy set that is shipped."""

from __future__ import annotations

import json
import pickle
import re
import warnings

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.proteins.explore import map_proteins, mutations, read_embeddings, scan
from stateshift.proteins.explore.figures import map_figure, mutations_figure, scan_figure
from stateshift.proteins.explore.projection import project
from stateshift.proteins.explore.toy import EMBEDDINGS, FASTA


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "made"
    return folder, mutations(FASTA, folder, score=True)


def test_embeddings_made_here_and_those_shipped_say_the_same(seen, tmp_path):
    folder, made = seen
    stored = mutations(FASTA, tmp_path / "stored", embeddings=EMBEDDINGS)
    for column in ("cosine", "distance", "cosine_at_site"):
        np.testing.assert_allclose(made.table[column], stored.table[column], rtol=1e-3, atol=1e-5)
    assert sorted(p.name for p in folder.iterdir()) == ["embeddings.h5", "mutations.csv", "mutations.png", "thirds.csv"]
    assert not (tmp_path / "stored" / "embeddings.h5").exists()


def test_the_tables_on_disk_are_those_returned(seen):
    folder, made = seen
    table = pd.read_csv(folder / "mutations.csv")
    assert table["id"].tolist() == [f"M{i}_{i}" for i in range(1, 37)]
    assert table["position"].tolist() == list(range(1, 37))
    assert table["third"].value_counts().to_dict() == {"start": 12, "middle": 12, "end": 12}
    assert table["score"].between(-5, 5).all()
    np.testing.assert_allclose(table["cosine"], made.table["cosine"])
    assert pd.read_csv(folder / "thirds.csv")["mutants"].tolist() == [12, 12, 12]


def test_the_picture_shows_each_mutant_at_its_position_and_the_change_along_the_sequence(seen):
    folder, made = seen
    proteins, residues = mutations_figure(made).axes[:2]
    points = np.concatenate([line.get_xydata() for line in proteins.lines])
    np.testing.assert_allclose(points[:, 0], range(1, 37))
    np.testing.assert_allclose(points[:, 1], 1 - made.table["cosine"])
    drawn = residues.images[0].get_array()
    assert drawn.shape == (36, 36)
    assert (drawn.argmax(axis=1) == np.arange(36)).all()
    assert matplotlib.image.imread(folder / "mutations.png").std() > 0.05


def test_a_scan_writes_every_mutant_and_two_pictures(tmp_path):
    (tmp_path / "one.fasta").write_text(">only\nMKTAY\n")
    table = scan(tmp_path / "one.fasta", tmp_path / "scan", score=True)
    assert sorted(p.name for p in (tmp_path / "scan").iterdir()) == ["scan.csv", "scan.h5", "scan.png", "score.png"]
    assert len(pd.read_csv(tmp_path / "scan" / "scan.csv")) == len(table) == 95
    drawn = scan_figure(table, "MKTAY", "cosine").axes[0]
    image = np.asarray(drawn.images[0].get_array(), dtype=float)
    assert image.shape == (20, 5)
    column = drawn.get_yticklabels()
    at = [label.get_text() for label in column].index("W")
    assert image[at, 2] == pytest.approx(1 - table.set_index("id").loc["T3W", "cosine"])
    with pytest.raises(StateshiftError, match=r"scan holds scan.csv already"):
        scan(tmp_path / "one.fasta", tmp_path / "scan", score=True)


def test_a_scan_that_ended_between_its_outputs_goes_on_and_scores_can_be_added_to_a_whole_one(tmp_path):
    (tmp_path / "one.fasta").write_text(">only\nMKTAY\n")
    folder = tmp_path / "scan"
    scan(tmp_path / "one.fasta", folder)
    made = (folder / "scan.h5").stat().st_mtime_ns
    (folder / "scan.csv").unlink()
    (folder / "scan.png").write_bytes(b"half a picture")
    scan(tmp_path / "one.fasta", folder)
    assert matplotlib.image.imread(folder / "scan.png").std() > 0.05
    assert "score" not in pd.read_csv(folder / "scan.csv")
    scan(tmp_path / "one.fasta", folder, score=True)
    assert pd.read_csv(folder / "scan.csv")["score"].notna().all()
    assert (folder / "scan.h5").stat().st_mtime_ns == made
    with pytest.raises(StateshiftError, match="scan holds scan.csv already"):
        scan(tmp_path / "one.fasta", folder)


def test_mutations_that_ended_between_their_outputs_go_on(seen, tmp_path):
    for name in ("thirds.csv", "mutations.png"):
        (tmp_path / name).write_text("left over")
    mutations(FASTA, tmp_path, embeddings=EMBEDDINGS)
    assert pd.read_csv(tmp_path / "thirds.csv")["mutants"].tolist() == [12, 12, 12]
    with pytest.raises(StateshiftError, match="holds mutations.csv already"):
        mutations(FASTA, tmp_path, embeddings=EMBEDDINGS)


def test_a_map_comes_as_table_picture_and_a_page_that_needs_no_network(tmp_path, seen):
    found = map_proteins(EMBEDDINGS, tmp_path / "map", table=seen[0] / "mutations.csv", color="third")
    table = pd.read_csv(tmp_path / "map" / "map.csv")
    assert len(table) == 37
    assert table.loc[table["id"] == "M5_5", "third"].item() == "start"
    assert 0 < found.explained[1] < found.explained[0] < 1
    page = (tmp_path / "map" / "map.html").read_text()
    assert re.findall(r"<(?:script|link)[^>]+(?:src|href)=", page) == []
    assert "M36_36" in page
    assert "PC1 (" in page
    labels = {text.get_text() for text in map_figure(found, "third").axes[0].texts}
    assert {"WT", "M1_1", "M36_36"} <= labels


def test_numbers_colour_a_map_by_a_scale_and_texts_by_groups(seen, tmp_path):
    table = pd.read_csv(seen[0] / "mutations.csv").set_index("id")
    found = project(read_embeddings(EMBEDDINGS), table)
    assert len(map_figure(found, "cosine").axes) == 2
    legend = map_figure(found, "third").axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["(not in the table)", "end", "middle", "start"]


def test_a_protein_without_a_number_is_drawn_in_grey_and_named_so_in_picture_and_page(seen, tmp_path):
    found = map_proteins(EMBEDDINGS, tmp_path / "map", table=seen[0] / "mutations.csv", color="cosine")
    axes = map_figure(found, "cosine").axes[0]
    wt = found.table.set_index("id").loc["WT", ["PC1", "PC2"]].to_numpy(dtype=float)
    grey, coloured = axes.collections
    np.testing.assert_allclose(grey.get_offsets(), [wt])
    assert len(coloured.get_offsets()) == 36
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["(not in the table)"]
    traces = json.loads(
        re.search(r"Plotly.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\]),\s*\{\"", page_of(tmp_path), re.DOTALL)[1]
    )
    assert [trace["hovertext"] == ["WT"] for trace in traces] == [True, False]
    assert traces[0]["marker"]["color"] == "#b0b0b0"
    assert len(traces[1]["hovertext"]) == 36


def page_of(folder):
    return (folder / "map" / "map.html").read_text()


def test_mistakes_are_refused_before_anything_is_written(tmp_path):
    broken = {id: np.ones((9, 4), "f4") for id in ("WT", "M1_1")}
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(broken))
    (tmp_path / "alone.fasta").write_text(">WT\nMKTAY\n")
    out = tmp_path / "out"
    cases = [
        (lambda: mutations(FASTA, out, wt="wt"), r"No sequence is called `wt` \(did you mean `WT`\?\)"),
        (lambda: scan(FASTA, out, wt="wt"), r"holds no `wt` \(did you mean `WT`\?\)"),
        (lambda: mutations(tmp_path / "alone.fasta", out), "`WT` is alone"),
        (lambda: mutations(FASTA, out, embeddings=EMBEDDINGS, checkpoint="esm2_t6_8M_UR50D"), "need no --checkpoint"),
        (
            lambda: mutations(FASTA, out, embeddings=tmp_path / "other.pkl"),
            r"neither L nor L \+ 2: WT \(9 rows, L = 36\)",
        ),
        (lambda: mutations(FASTA, out, checkpoint="esm2_650M"), "esm2_t33_650M_UR50D"),
        (lambda: mutations(FASTA, out, embeddings=EMBEDDINGS, score=True), "name it with --checkpoint"),
        (lambda: map_proteins(EMBEDDINGS, out, color="third"), "name its file with --table"),
    ]
    for call, told in cases:
        with pytest.raises((StateshiftError, InputProblems), match=told):
            call()
        assert not out.exists()


def test_ids_of_any_length_and_letters_are_labels_in_pictures(tmp_path):
    ids = ["WT", "a$b", "unbalanced ${x", "Q" * 300, "r" * 40]
    sequences = dict(zip(ids, ("MKVLA", "AKVLA", "MAVLA", "MKALA", "MKVAA")))
    (tmp_path / "x.fasta").write_text("".join(f">{id.replace(' ', '_')}\n{s}\n" for id, s in sequences.items()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        seen = mutations(tmp_path / "x.fasta", tmp_path / "m")
        found = map_proteins(tmp_path / "m" / "embeddings.h5", tmp_path / "map")
    assert max(map(len, seen.table["id"])) == max(map(len, found.table["id"])) == 300
    drawn = {text.get_text() for text in map_figure(found).axes[0].texts}
    assert {r"a\$b", "Q" * 16 + "…" + "Q" * 15} < drawn


def test_a_tables_own_PC1_colours_the_points_and_not_the_component(tmp_path, sequences, store):
    (tmp_path / "x.csv").write_text("id,PC1\n" + "".join(f"{id},{word}\n" for id, word in zip(sequences, "aabb")))
    found = map_proteins(store, tmp_path / "map", table=tmp_path / "x.csv", color="PC1")
    assert found.table["PC1_table"].tolist() == list("aabb")
    page = (tmp_path / "map" / "map.html").read_text()
    assert '"legendgroup":"a"' in page
    assert '"legendgroup":"b"' in page
