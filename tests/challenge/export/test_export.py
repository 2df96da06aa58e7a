"""The `.vcc` file, taken apart here and held to cell-eval's own checks."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zstandard

from stateshift.challenge import export_submission
from stateshift.challenge.export import submission
from stateshift.errors import InputProblems, StateshiftError


@pytest.fixture
def export(make, genes, gene_file, tmp_path):
    """Write a prediction and export it as `submission.vcc`."""

    def run(predicted=None, name="submission.vcc", **options):
        path = tmp_path / "predicted.h5ad"
        (predicted if predicted is not None else make(genes)).write_h5ad(path)
        options = {"season": "2025", "genes": gene_file, "expected_gene_dim": 30, **options}
        return export_submission(path, output=tmp_path / name, **options)

    return run


def unpacked(vcc, folder):
    """The AnnData within a `.vcc`, and the tar's members."""
    with tarfile.open(vcc, "r:") as tar:
        members = tar.getmembers()
        packed = tar.extractfile("pred.h5ad.zst").read()
        mark = tar.extractfile("watermark.txt").read()
    plain = folder / "unpacked.h5ad"
    plain.write_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
    return ad.read_h5ad(plain), members, mark


def test_the_file_holds_the_season_and_nothing_else(make, genes, export, tmp_path):
    predicted = make([*genes, "MORE"])
    done = export(predicted)
    inside, members, mark = unpacked(done.path, tmp_path)
    assert [m.name for m in members] == ["pred.h5ad.zst", "watermark.txt"]
    assert mark == b"vcc-prep"
    assert inside.obs.columns.tolist() == ["target_gene"]
    assert inside.obs["target_gene"].value_counts().to_dict() == dict.fromkeys(
        ["non-targeting", "G01", "G02", "G03"], 4
    )
    assert inside.var_names.tolist() == genes[::-1]
    assert inside.X.format == "csr"
    assert inside.X.dtype == np.float32
    assert np.array_equal(inside.X.toarray(), predicted.X.toarray()[:, 29::-1])
    assert (done.cells, done.controls, done.perturbations, done.genes, done.dropped_genes) == (16, 4, 3, 30, 1)
    assert done.dropped_controls == 0


def test_the_same_prediction_gives_the_same_bytes_at_any_time(export, tmp_path):
    first, second = export(name="one.vcc"), export(name="two.vcc")
    assert first.path.read_bytes() == second.path.read_bytes()
    _, members, _ = unpacked(first.path, tmp_path)
    assert [(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members] == [(0, 0, 0, "", 0o644)] * 2
    times = []
    with h5py.File(tmp_path / "unpacked.h5ad") as handle:
        handle.visititems(lambda _, item: times.append(h5py.h5o.get_info(item.id).mtime))
    assert len(times) > 5
    assert set(times) == {0}


@pytest.fixture
def prep():
    """cell-eval's own packaging, which needs two programs."""
    module = pytest.importorskip("cell_eval._cli._prep", reason="the official extra is not installed")
    for tool in ("zstd", "tar"):
        if shutil.which(tool) is None:
            pytest.skip(f"cell-eval prep needs the program {tool}")
    return module


def test_cell_eval_accepts_the_file_and_makes_the_same_of_it(export, prep, tmp_path):
    inside, _, _ = unpacked(export().path, tmp_path)
    theirs = tmp_path / "theirs.vcc"
    prep.strip_anndata(inside.copy(), str(theirs), inside.var_names.tolist(), encoding=32, exp_gene_dim=inside.n_vars)
    again, _, mark = unpacked(theirs, tmp_path)
    assert mark == b"vcc-prep"
    assert np.array_equal(again.X.toarray(), inside.X.toarray())
    assert again.X.dtype == inside.X.dtype
    pd.testing.assert_frame_equal(again.obs, inside.obs)
    pd.testing.assert_frame_equal(again.var, inside.var)


@pytest.mark.parametrize("at_once", [2**24, 60])
def test_counts_become_what_cell_eval_makes_of_them_in_one_block_or_many(
    make, genes, export, tmp_path, monkeypatch, at_once
):
    official = pytest.importorskip("cell_eval._evaluator", reason="the official extra is not installed")
    monkeypatch.setattr("stateshift.cells.matrix.stored.VALUES_AT_ONCE", at_once)
    counts = make(genes, scale="counts")
    inside, _, _ = unpacked(export(counts).path, tmp_path)
    theirs = counts[:, genes[::-1]].copy()
    official._convert_to_normlog(theirs)
    assert inside.X.toarray() == pytest.approx(theirs.X.toarray(), abs=1e-6)
    assert inside.X.max() < 15


@pytest.mark.parametrize("more", [[], ["MORE"]])
def test_a_cell_of_one_count_or_none_and_left_out_genes_change_no_other_cells_total(
    make, genes, export, tmp_path, more
):
    official = pytest.importorskip("cell_eval._evaluator", reason="the official extra is not installed")
    counts = make([*genes, *more], scale="counts")
    X = counts.X.toarray()
    X[9], X[6] = 0, np.eye(X.shape[1])[3]
    X[::2, 30:] = 500
    counts.X = X
    inside, _, _ = unpacked(export(counts).path, tmp_path)
    theirs = counts[:, genes[::-1]].copy()
    official._convert_to_normlog(theirs)
    assert inside.X.toarray() == pytest.approx(theirs.X, abs=1e-6)


def test_the_disk_has_to_have_room_for_the_matrix_and_half_of_it_again(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=3_000_000_000))
    submission.announce(tmp_path, 2_000_000_000)
    assert caplog.messages == ["2.00 GB of scratch beside the output (3.0 GB are free)"]
    said = r"has 3\.0 GB free, and the file needs 2\.2 GB uncompressed and up to 1\.1 GB compressed: make room"
    with pytest.raises(StateshiftError, match=said):
        submission.announce(tmp_path, 2_200_000_000)


def test_the_room_that_is_asked_for_holds_the_matrix(make, export, monkeypatch, tmp_path):
    names = [f"GENE{i}" for i in range(2000)]
    (tmp_path / "many.csv").write_text("\n".join(names))
    sizes, pack = [], submission.write_package
    monkeypatch.setattr(submission, "announce", lambda folder, size: sizes.append(size))
    monkeypatch.setattr(
        submission,
        "write_package",
        lambda path, matrix, *a: (sizes.append(matrix.stat().st_size), pack(path, matrix, *a)),
    )
    export(make(names, cells=60), genes=tmp_path / "many.csv", expected_gene_dim=2000)
    asked, taken = sizes
    assert taken <= asked < taken + 2**22


def test_cell_evals_own_evaluator_reads_the_file(export, tmp_path):
    cell_eval = pytest.importorskip("cell_eval", reason="the official extra is not installed")
    inside, _, _ = unpacked(export().path, tmp_path)
    evaluator = cell_eval.MetricsEvaluator(
        adata_pred=inside,
        adata_real=inside.copy(),
        control_pert="non-targeting",
        pert_col="target_gene",
        num_threads=1,
        outdir=str(tmp_path / "out"),
        skip_de=True,
    )
    results, _ = evaluator.compute(profile="pds", write_csv=False, break_on_error=True)
    assert results["discrimination_score_l1"].to_list() == [1.0, 1.0, 1.0]


def test_the_full_gene_list_of_the_season_is_packed_and_accepted(make, shared_data, tmp_path):
    gene_names = shared_data / "challenge" / "gene_names_2025.csv"
    genes = gene_names.read_text().split()
    predicted = make(genes[::-1], perturbations=("SH3BP4", "ZNF581"), cells=3, control="non-targeting")
    path = tmp_path / "predicted.h5ad"
    predicted.write_h5ad(path)
    done = export_submission(path, season="2025", genes=gene_names, output=tmp_path / "full.vcc")
    inside, _, _ = unpacked(done.path, tmp_path)
    assert done.genes == 18_080
    assert inside.var_names.tolist() == genes
    assert np.array_equal(inside.X.toarray(), predicted.X.toarray()[:, ::-1])


def test_cell_eval_accepts_the_full_size(make, shared_data, prep, tmp_path):
    gene_names = shared_data / "challenge" / "gene_names_2025.csv"
    genes = gene_names.read_text().split()
    path = tmp_path / "predicted.h5ad"
    make(genes, perturbations=("SH3BP4", "ZNF581"), cells=3).write_h5ad(path)
    done = export_submission(path, season="2025", genes=gene_names, output=tmp_path / "full.vcc")
    inside, _, _ = unpacked(done.path, tmp_path)
    prep.strip_anndata(inside, str(tmp_path / "theirs.vcc"), genes, encoding=32)
    again, _, _ = unpacked(tmp_path / "theirs.vcc", tmp_path)
    assert again.shape == (9, 18_080)
    assert np.array_equal(again.X.toarray(), inside.X.toarray())


def test_the_validation_list_of_the_season_is_checked(make, shared_data, tmp_path):
    folder = shared_data / "challenge"
    genes = (folder / "gene_names_2025.csv").read_text().split()
    targets = pd.read_csv(folder / "pert_counts_validation_2025.csv")["target_gene"].tolist()
    path = tmp_path / "predicted.h5ad"
    make(genes, perturbations=targets[:-1], cells=1).write_h5ad(path)
    with pytest.raises(InputProblems) as error:
        export_submission(
            path,
            season="2025",
            genes=folder / "gene_names_2025.csv",
            output=tmp_path / "full.vcc",
            pert_counts=folder / "pert_counts_validation_2025.csv",
        )
    assert error.value.problems == [f"perturbations: 1 of the list are not predicted: {targets[-1]}."]


def test_one_context_of_several_is_handed_in(make, genes, export, tmp_path):
    predicted = make(genes)
    predicted.obs["context"] = ["H1", "K562"] * 8
    with pytest.raises(InputProblems, match="--contexts"):
        export(predicted)
    done = export(predicted, contexts=["K562"])
    inside, _, _ = unpacked(done.path, tmp_path)
    assert np.array_equal(inside.X.toarray(), predicted.X.toarray()[1::2, ::-1])


def test_a_refused_prediction_leaves_nothing_behind(make, genes, export, tmp_path):
    predicted = make(genes)
    predicted.X.data[0] = np.nan
    with pytest.raises(InputProblems, match="1 values are NaN"):
        export(predicted)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gene_names.csv", "predicted.h5ad"]


def test_an_existing_file_is_kept_unless_told_otherwise(export):
    first = export()
    with pytest.raises(StateshiftError, match="exists already"):
        export()
    assert export(overwrite=True).checksum == first.checksum


def test_a_truncated_prediction_is_a_sentence(export, gene_file, tmp_path):
    export()
    cut = tmp_path / "cut.h5ad"
    cut.write_bytes((tmp_path / "predicted.h5ad").read_bytes()[:3000])
    with pytest.raises(StateshiftError, match=r"cut\.h5ad can't be read"):
        export_submission(cut, season="2025", genes=gene_file, output=tmp_path / "cut.vcc")
    assert not (tmp_path / "cut.vcc").exists()


def test_a_disk_that_takes_no_more_is_a_sentence_and_leaves_nothing(make, genes, gene_file, tmp_path):
    path = tmp_path / "predicted.h5ad"
    make(genes).write_h5ad(path)
    program = (
        "import resource, sys\n"
        "from stateshift.challenge import export_submission\n"
        "from stateshift.errors import StateshiftError\n"
        "import anndata, scanpy, zstandard\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))\n"
        "predicted, genes, output = sys.argv[1:]\n"
        "try:\n"
        "    export_submission(predicted, season='2025', genes=genes, expected_gene_dim=30, output=output)\n"
        "except StateshiftError as error:\n"
        "    print(error)\n"
    )
    vcc = tmp_path / "full.vcc"
    done = subprocess.run(
        [sys.executable, "-c", program, path, gene_file, vcc], capture_output=True, text=True, check=True
    )
    assert "full.vcc could not be written: no room is left" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gene_names.csv", "predicted.h5ad"]
