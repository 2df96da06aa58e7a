"""A run straight to a `.vcc` file: emitted counts, killed and resumed, every gene of the list."""

from __future__ import annotations

import errno
import io
import json
import shutil
import tarfile
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import zstandard
from scipy.sparse import csr_matrix

from stateshift.challenge import export_run
from stateshift.challenge.export import submission
from stateshift.challenge.export.parts import Parts
from stateshift.challenge.seasons import competition_folder
from stateshift.errors import StateshiftError
from stateshift.prediction.emission import Emitter, SignificanceMatch
from stateshift.training import train

GENES = [f"GENE{i}" for i in range(20)]
FAST = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.max_steps=4",
    "training.val_every=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, cell_maker):
    """A run on counts of three contexts, and a season's bundle of two of them with 20 genes."""
    from stateshift.feature_table import FeatureTable

    folder = tmp_path_factory.mktemp("from_run")
    cell_maker(folder / "cells.h5ad", counts=True, n_cells=32)
    vectors = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    FeatureTable(["G1", "G2", "G3", "G4"], vectors, {"source": "made"}).save(folder / "features.pt")
    (folder / "made.toml").write_text(
        f'[datasets]\nmade = "{folder / "cells.h5ad"}"\n[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n'
        '[fewshot."made.K562"]\nval = ["G3"]\ntest = ["G4"]\n'
    )
    train(folder / "made.toml", FAST, pert_features=folder / "features.pt", output_dir=folder, name="run")
    lists = folder / "lists"
    lists.mkdir()
    (lists / "gene_names.csv").write_text("\n".join(reversed(GENES)) + "\n")
    (lists / "pert_counts.csv").write_text("target_gene\nG1\nG3\nG4\n")
    (lists / "manifest.json").write_text(json.dumps({"contexts": ["K562", "T98G"]}))
    text = (competition_folder() / "2026" / "rules.toml").read_text()
    (lists / "rules.toml").write_text(text.replace("18_533", "20").replace("each = 400", "each = 40"))
    return folder


@pytest.fixture
def export(bundle, tmp_path):
    def run(name="s.vcc", **changed):
        lists = bundle / "lists"
        options = {
            "cells": bundle / "cells.h5ad",
            "season": lists / "rules.toml",
            "genes": lists / "gene_names.csv",
            "pert_counts": lists / "pert_counts.csv",
            **changed,
        }
        return export_run(bundle / "run", output=tmp_path / name, **options)

    return run


def inside(vcc, folder):
    with tarfile.open(vcc) as tar:
        packed = tar.extractfile("pred.h5ad.zst").read()
    (folder / "inside.h5ad").write_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
    return ad.read_h5ad(folder / "inside.h5ad")


def test_every_target_of_the_list_is_predicted_in_every_context_as_whole_counts(export, tmp_path):
    done = export()
    cells = inside(done.path, tmp_path)
    sizes = cells.obs.groupby(["context", "target_gene"], observed=True).size()
    assert sizes.to_dict() == {(c, t): 40 for c in ("K562", "T98G") for t in ("G1", "G3", "G4")}
    assert cells.var_names.tolist() == GENES[::-1]
    assert (cells.X.data == np.rint(cells.X.data)).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inside.h5ad", "s.vcc"]
    # GENE0 is what G1 raises; K562 was trained on
    k562 = cells[cells.obs["context"] == "K562"]
    counts = {t: k562[k562.obs["target_gene"] == t].X.toarray() for t in ("G1", "G4")}
    shares = {t: x[:, 19].sum() / x.sum() for t, x in counts.items()}
    assert shares["G1"] > 1.3 * shares["G4"]


def test_effects_are_shrunk_to_the_training_perturbations_unless_told_otherwise(export, tmp_path, monkeypatch):
    monkeypatch.setattr(SignificanceMatch, "shrink", lambda self, effect, n_cells: 0 * effect)

    def rise(vcc):
        cells = inside(vcc, tmp_path)
        cells = cells[cells.obs["context"] == "K562"]
        shares = {t: cells[cells.obs["target_gene"] == t].X.toarray().sum(0) for t in ("G1", "G4")}
        return shares["G1"][19] / shares["G1"].sum() / (shares["G4"][19] / shares["G4"].sum())

    assert rise(export("zero.vcc").path) < 1.15
    assert rise(export("as_is.vcc", match_significant=False).path) > 1.3


def test_killed_and_resumed_it_ends_with_the_same_bytes(export, tmp_path, monkeypatch):
    whole = export("whole.vcc").checksum
    emit, calls = Emitter.emit, []

    def dying(self, *args, **kwargs):
        calls.append(kwargs["target"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return emit(self, *args, **kwargs)

    monkeypatch.setattr(Emitter, "emit", dying)
    with pytest.raises(KeyboardInterrupt):
        export()
    assert not (tmp_path / "s.vcc").exists()
    assert len(list((tmp_path / "s.vcc.parts").glob("*.zst"))) == 2
    assert export().checksum == whole
    assert calls == ["G1", "G3", "G4", "G4", "G1", "G3", "G4"]


def test_a_disk_that_fills_half_way_keeps_the_finished_populations_for_the_next_time(export, tmp_path, monkeypatch):
    whole = export("whole.vcc").checksum
    write, calls = Path.write_bytes, []

    def filling(self, content):
        calls.append(self.name)
        if len(calls) == 3:
            write(self, content[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", filling)
    kept = r"(?s)000002\.npz\.zst could not be written: no room is left.*s\.vcc\.parts keeps 2 finished populations"
    with pytest.raises(StateshiftError, match=kept):
        export()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.vcc.parts", "whole.vcc"]
    assert sorted(p.name for p in (tmp_path / "s.vcc.parts").glob("*.zst")) == ["000000.npz.zst", "000001.npz.zst"]
    assert export().checksum == whole
    assert not (tmp_path / "s.vcc.parts").exists()


def test_what_a_kill_would_leave_half_written_lies_in_the_folder_that_goes_in_the_end(export, tmp_path, monkeypatch):
    pack, seen = submission.write_package, []

    def packing(path, matrix, *rest):
        seen.extend([path.parent, matrix.parent])
        pack(path, matrix, *rest)

    monkeypatch.setattr(submission, "write_package", packing)
    export()
    assert seen == [tmp_path / "s.vcc.parts"] * 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.vcc"]


def test_the_output_of_a_run_is_none_of_its_inputs(bundle, export, tmp_path):
    controls = tmp_path / "controls.h5ad"
    shutil.copy(bundle / "cells.h5ad", controls)
    before = controls.read_bytes()
    with pytest.raises(StateshiftError, match=r"controls\.h5ad is read for the export: choose another name"):
        export("controls.h5ad", cells=controls, overwrite=True)
    assert controls.read_bytes() == before


def test_parts_of_other_settings_are_refused(bundle, export, tmp_path, monkeypatch):
    monkeypatch.setattr(Parts, "remove", lambda self: None)
    export()
    with pytest.raises(StateshiftError, match=r"holds parts of an export with another seed: finish that one"):
        export(seed=1, overwrite=True)
    with pytest.raises(StateshiftError, match=r"with another columns, features, missing: finish that one"):
        export(features=bundle / "features.pt", missing="fallback", columns={"batch": "b"}, overwrite=True)


def test_a_mistake_before_the_first_population_leaves_nothing_that_stands_in_the_way(export, tmp_path):
    with pytest.raises(StateshiftError, match="There is no model `stak`"):
        export(model="stak")
    assert list(tmp_path.iterdir()) == []
    Parts(tmp_path / "s.vcc.parts", {"model": "stak"})  # killed there
    assert export().path.is_file()


def test_a_damaged_part_is_named(export, tmp_path, monkeypatch):
    monkeypatch.setattr(Parts, "remove", lambda self: None)
    export()
    part = tmp_path / "s.vcc.parts" / "000001.npz.zst"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(StateshiftError, match=r"000001\.npz\.zst is damaged: .*\. Remove it and export again"):
        export(overwrite=True)


def test_no_altered_byte_of_a_part_goes_unnoticed(tmp_path):
    X = csr_matrix(np.random.default_rng(0).poisson(0.5, (9, 7)).astype(np.float32))
    parts = Parts(tmp_path / "p", {"seed": 0})
    parts.write(0, X)
    whole, noticed = parts.path(0).read_bytes(), 0
    for at in range(len(whole)):
        parts.path(0).write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            assert (parts.read(0) != X).nnz == 0
        except StateshiftError as error:
            noticed += "000000.npz.zst is damaged" in str(error)
    assert noticed > 0.9 * len(whole)
    for about in (b"{", b"[]", b"\xff"):
        (tmp_path / "p" / "about.json").write_bytes(about)
        with pytest.raises(StateshiftError, match=r"about\.json is damaged: .*\. Remove .*p and export again"):
            Parts(tmp_path / "p", {"seed": 0})


def test_a_season_with_controls_gets_the_very_control_cells(bundle, export, tmp_path):
    text = (competition_folder() / "2025" / "rules.toml").read_text()
    rules = tmp_path / "rules.toml"
    rules.write_text(text.replace("18_080", "20"))
    (tmp_path / "counts.csv").write_text("target_gene,n_cells\nG1,10\nG4,12\n")
    given = {"season": rules, "pert_counts": tmp_path / "counts.csv"}
    with pytest.raises(
        StateshiftError, match=r"control cells of A549, K562, T98G: the season's file holds one context"
    ):
        export(genes=_copied(bundle, tmp_path), **given)
    done = export(genes=_copied(bundle, tmp_path), contexts=["T98G"], **given)
    cells = inside(done.path, tmp_path)
    assert cells.obs["target_gene"].value_counts().to_dict() == {"non-targeting": 32, "G4": 12, "G1": 10}
    source = ad.read_h5ad(bundle / "cells.h5ad")
    source = source[(source.obs.cell_type == "T98G") & (source.obs.target_gene == "non-targeting"), GENES[::-1]]
    ours = np.expm1(cells[cells.obs["target_gene"] == "non-targeting"].X.toarray())
    counts = source.X.toarray()
    np.testing.assert_allclose(
        ours / ours.sum(1, keepdims=True), counts / counts.sum(1, keepdims=True), rtol=1e-4, atol=1e-7
    )


def _copied(bundle, folder):
    """The gene list away from the manifest."""
    path = folder / "gene_names.csv"
    path.write_text((bundle / "lists" / "gene_names.csv").read_text())
    return path


def test_what_can_not_be_emitted_is_said(bundle, export, tmp_path):
    longer = tmp_path / "genes.csv"
    longer.write_text("\n".join([*GENES, "NEW1"]))
    with pytest.raises(StateshiftError, match=r"not 1 of the season's 21: NEW1"):
        export(genes=longer, contexts=["T98G"])
    with pytest.raises(StateshiftError, match=r"no control cells of context `t98g` \(did you mean `T98G`\?\)"):
        export("b.vcc", genes=_copied(bundle, tmp_path), contexts=["t98g"])
    scaled = logged_cells(bundle, tmp_path)
    scaled.X = scaled.X.multiply(0.9).tocsr()
    scaled.uns["stateshift"] = {"scale": "log1p_1e4"}
    scaled.write_h5ad(tmp_path / "scaled.h5ad")
    with pytest.raises(StateshiftError, match=r"fractions that are not log1p of scaled counts"):
        export("c.vcc", cells=tmp_path / "scaled.h5ad")


def logged_cells(bundle, folder):
    """The bundle's cells as log1p of 1e4."""
    logged = ad.read_h5ad(bundle / "cells.h5ad")
    totals = logged.X.sum(axis=1).A1
    logged.X = logged.X.multiply(1e4 / totals[:, None]).log1p().tocsr()
    logged.uns["log1p"] = {"base": None}
    logged.write_h5ad(folder / "logged.h5ad")
    return logged


def test_log1p_of_counts_serves_as_control_cells_like_the_counts_themselves(bundle, export, tmp_path):
    logged_cells(bundle, tmp_path)
    from_logs = inside(export("a.vcc", cells=tmp_path / "logged.h5ad").path, tmp_path)
    from_counts = inside(export("b.vcc").path, tmp_path)
    assert abs(from_logs.X - from_counts.X).max() == 0


def test_genes_that_the_run_does_not_predict_are_drawn_as_in_the_control_cells_where_that_is_asked(
    bundle, export, tmp_path, caplog
):
    cells = ad.read_h5ad(bundle / "cells.h5ad")
    new = cells[:, ["GENE5"]].copy()
    new.var_names = ["NEW1"]
    ad.concat([cells, new], axis=1, merge="first").write_h5ad(tmp_path / "wider.h5ad")
    (tmp_path / "genes.csv").write_text("\n".join([*GENES, "NEW1"]))
    wider = {"cells": tmp_path / "wider.h5ad", "genes": tmp_path / "genes.csv", "expected_gene_dim": 21}
    done = inside(export(unmodelled="control", contexts=["K562", "T98G"], **wider).path, tmp_path)
    assert "1 genes that the run doesn't predict are drawn as in the control cells" in caplog.text
    k562 = done[done.obs["context"] == "K562", "NEW1"].X.mean()
    controls = cells[(cells.obs.cell_type == "K562") & (cells.obs.target_gene == "non-targeting"), "GENE5"].X.mean()
    assert k562 == pytest.approx(controls, rel=0.1)


def test_an_amplitude_multiplies_the_effects_and_has_to_be_above_zero(export, tmp_path):
    shares = {}
    for amplitude in (0.5, 2.0):
        export(f"{amplitude}.vcc", amplitude=amplitude, match_significant=False)
        cells = inside(tmp_path / f"{amplitude}.vcc", tmp_path)
        g1 = cells[cells.obs["target_gene"] == "G1"].X.toarray()
        shares[amplitude] = g1[:, 19].sum() / g1.sum()
    assert shares[2.0] > 1.3 * shares[0.5]
    with pytest.raises(StateshiftError, match="--amplitude -1: a number above 0"):
        export("none.vcc", amplitude=-1.0)
    with pytest.raises(StateshiftError, match="--n-cells 0 has to be at least 1"):
        export("none.vcc", n_cells=0)


def test_control_cells_may_lie_in_a_file_for_each_context(bundle, export, tmp_path):
    cells, files = ad.read_h5ad(bundle / "cells.h5ad"), []
    for context in ("K562", "T98G"):
        genes = GENES[::-1] if context == "T98G" else GENES
        files.append(tmp_path / f"{context}.h5ad")
        cells[(cells.obs["cell_type"] == context).to_numpy()].copy()[:, genes].copy().write_h5ad(files[-1])
    apart = inside(export("a.vcc", cells=files).path, tmp_path)
    together = inside(export("b.vcc").path, tmp_path)
    assert abs(apart.X - together.X).max() == 0
    with pytest.raises(StateshiftError, match=r"K562.h5ad has no control cells of context `T98G`"):
        export("c.vcc", cells=files[:1])
    cells[:, 1:].copy().write_h5ad(files[1])
    with pytest.raises(StateshiftError, match=r"hold other genes \(GENE0 in one alone\)"):
        export("d.vcc", cells=files)


def test_control_cells_may_be_a_zarr_store(bundle, export, tmp_path):
    ad.read_h5ad(bundle / "cells.h5ad").write_zarr(tmp_path / "cells.zarr")
    from_zarr = inside(export("a.vcc", cells=tmp_path / "cells.zarr").path, tmp_path)
    assert abs(from_zarr.X - inside(export("b.vcc").path, tmp_path).X).max() == 0
