"""Files as strangers bring them: validated and exported all the same, or one sentence."""

from __future__ import annotations

import errno
import io
import json
import tarfile

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zstandard
from scipy.sparse import csc_matrix

from stateshift.challenge import export_submission, validate
from stateshift.challenge.export import package
from stateshift.challenge.lists import read_targets
from stateshift.challenge.seasons import competition_folder, read_season
from stateshift.errors import InputProblems, StateshiftError


@pytest.fixture
def export(gene_file, tmp_path):
    """Export a written prediction; returns the cells that the file holds."""

    def run(path, **options):
        given = {"season": "2025", "genes": gene_file, "expected_gene_dim": 30, **options}
        export_submission(path, output=tmp_path / "o.vcc", overwrite=True, **given)
        with tarfile.open(tmp_path / "o.vcc") as tar:
            packed = next(tar.extractfile(m).read() for m in tar.getmembers() if m.name.endswith(".zst"))
        (tmp_path / "inside.h5ad").write_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
        return ad.read_h5ad(tmp_path / "inside.h5ad")

    return run


@pytest.fixture
def written(make, genes, tmp_path):
    """A prediction of the season, edited, on the disk; its X dense."""

    def run(edit=None, scale="log1p"):
        cells = make(genes, scale=scale, control="non-targeting")
        del cells.uns["stateshift"]
        X = cells.X.toarray()
        edited = None if edit is None else edit(cells)
        (cells if edited is None else edited).write_h5ad(tmp_path / "p.h5ad")
        return tmp_path / "p.h5ad", X

    return run


def as_type(dtype):
    def edit(cells):
        cells.X = cells.X.toarray().astype(dtype)

    return edit


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64, np.uint8, np.float16])
def test_any_type_of_numbers_gives_the_same_file(written, export, dtype):
    plain = export(written(scale="counts")[0])
    assert np.array_equal(export(written(as_type(dtype), "counts")[0]).X.toarray(), plain.X.toarray())
    totals = np.expm1(plain.X.toarray()).sum(axis=1)
    assert totals == pytest.approx(np.full(16, np.median(totals)), rel=1e-5)


def legacy(cells, path, genes):
    """The file as anndata before 0.7 wrote it."""
    labels = cells.obs["target_gene"].astype("category")
    with h5py.File(path, "r+") as handle:
        for name in ("obs", "var", "uns"):
            del handle[name]
        rows = list(zip([n.encode() for n in cells.obs_names], labels.cat.codes))
        handle["obs"] = np.array(rows, [("index", "S10"), ("target_gene", "i1")])
        handle["var"] = np.array([(g.encode(),) for g in genes], [("index", "S10")])
        handle["uns/target_gene_categories"] = np.array([c.encode() for c in labels.cat.categories])
        X, shape = handle["X"], handle["X"].attrs["shape"]
        for name in list(X.attrs):
            del X.attrs[name]
        X.attrs.update({"h5sparse_format": "csr", "h5sparse_shape": shape})


def test_a_file_of_an_old_anndata_is_read_as_anndata_reads_it(written, export, genes):
    path, X = written()
    legacy(ad.read_h5ad(path), path, genes)
    inside = export(path)
    assert np.array_equal(inside.X.toarray(), X[:, ::-1])
    assert inside.obs["target_gene"].tolist() == ad.read_h5ad(path).obs["target_gene"].tolist()


def test_values_beyond_the_last_row_are_of_no_cell_and_two_of_one_place_are_their_sum(written, export):
    path, X = written()
    with h5py.File(path, "r+") as handle:
        for name in ("data", "indices"):
            values = handle["X"][name][:]
            del handle["X"][name]
            handle["X"][name] = np.concatenate([values, values[:3]])
    assert np.array_equal(export(path).X.toarray(), X[:, ::-1])
    with h5py.File(path, "r+") as handle:
        one, two = handle["X/indices"][1:3]
        handle["X/indices"][2] = one
    X[0, one], X[0, two] = X[0, one] + X[0, two], 0
    assert export(path).X.toarray() == pytest.approx(X[:, ::-1])


def test_columns_that_lead_beyond_the_cells_are_called_damage(written, export):
    def by_column(cells):
        cells.X = csc_matrix(cells.X)

    path, _ = written(by_column)
    with h5py.File(path, "r+") as handle:
        handle["X/indices"][2] = 99
    with pytest.raises(StateshiftError, match="X is damaged: it holds indices beyond its 16 places"):
        export(path)


def no_names(cells):
    cells.obs["target_gene"] = pd.Categorical(cells.obs["target_gene"].where(np.arange(16) != 6))


def two_contexts(cells):
    cells.obs["context"] = ["A", "B"] * 8


def raw_alone(cells):
    cells.raw = cells
    cells.X = None


def named_twice(cells):
    cells.var_names = [*cells.var_names[:-1], "G00"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda cells: cells[:0].copy(), "number of cells: 0 cells; the season allows 1 to 200,000"),
        (lambda cells: cells[:1].copy(), "predictions: there is no perturbed cell"),
        (lambda cells: cells[8:9].copy(), "control: no control cells: none is labelled `non-targeting`"),
        (no_names, "labels: 1 cells name no perturbation"),
        (two_contexts, r"context: the prediction holds 2 contexts \(A, B\): choose one with --contexts"),
        (raw_alone, "is no AnnData file: it has no X"),
        (named_twice, "var_names hold G00 more than once"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(written, export, edit, said):
    with pytest.raises(StateshiftError, match=said):
        export(written(edit)[0])


def spaced(cells):
    cells.obs["target_gene"] = cells.obs["target_gene"].replace("G01", "G 01, the first")
    cells.obs_names = ["a cell"] * 16
    cells.obs["cell_type"] = ["early", "late"] * 8
    del cells.obs["context"]
    cells.uns["stateshift"] = "not ours"


def test_odd_names_foreign_columns_and_marks_do_no_harm(written, export, gene_file):
    path, X = written(spaced)
    inside = export(path)
    assert np.array_equal(inside.X.toarray(), X[:, ::-1])
    assert inside.obs["target_gene"].cat.categories.tolist() == ["G 01, the first", "G02", "G03", "non-targeting"]
    outcome = validate(path, "2025", gene_file, expected_gene_dim=30)
    assert outcome.warnings == ["context: the prediction holds 2 contexts (early, late): choose one with --contexts."]


def test_logarithms_of_another_base_are_a_warning(written, gene_file):
    def base_2(cells):
        cells.uns["log1p"] = {"base": 2.0}

    outcome = validate(written(base_2)[0], "2025", gene_file, expected_gene_dim=30)
    assert outcome.passed
    assert 'uns["log1p"] says base 2' in outcome.warnings[0]


def test_a_season_names_columns_and_control_as_it_likes(zero_shot, genes, export, bundle, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text(
        'season = "2031"\ntitle = "Invented"\n'
        '[cells]\nperturbation = "knocked_out"\ncontext = "tissue"\ncontrol = "untouched"\ncontrols = true\n'
        'genes = 30\nmost = 100\neach = 4\n[values]\nscale = "counts"\n'
        '[file]\nmeta = "about.json"\nmatrix = "cells.h5ad"\nzstd_level = 1\n[score]\nlike = "2026"\n'
    )
    cells = zero_shot(genes)
    cells.obs = cells.obs.rename(columns={"target_gene": "knocked_out", "context": "tissue"})
    cells.obs["knocked_out"] = cells.obs["knocked_out"].replace("non-targeting", "untouched")
    cells.obs["context"], cells.obs["gene"] = "another", "another"
    cells.uns.clear()
    cells.write_h5ad(tmp_path / "p.h5ad")
    lists = {"genes": bundle / "gene_names.csv", "pert_counts": bundle / "pert_counts.csv", "expected_gene_dim": None}
    outcome = validate(tmp_path / "p.h5ad", rules, lists["genes"], pert_counts=lists["pert_counts"])
    assert (outcome.problems, outcome.warnings) == ([], [])
    inside = export(tmp_path / "p.h5ad", season=rules, **lists)
    assert inside.obs.columns.tolist() == ["knocked_out", "tissue"]
    assert inside.obs.to_numpy().tolist() == cells.obs[["knocked_out", "tissue"]].to_numpy().tolist()
    assert np.array_equal(inside.X.toarray(), cells.X.toarray()[:, ::-1])
    with tarfile.open(tmp_path / "o.vcc") as tar:
        assert tar.getnames() == ["about.json", "cells.h5ad.zst"]
        about = json.loads(tar.extractfile("about.json").read())
    assert (about["nnz"], about["n_obs"], about["contexts"]) == (cells.X.nnz, 36, ["A", "B"])


def test_a_list_with_a_header_is_told_from_one_without_by_the_season(written, gene_file):
    gene_file.write_text("\ufeffgene_name\r\n" + "\r\n".join(gene_file.read_text().split()) + "\r\n")
    path, _ = written()
    assert validate(path, "2025", gene_file, expected_gene_dim=30).problems == [
        "gene list: gene_names.csv begins with `gene_name`, which looks like a header: the list has none, remove it."
    ]
    rules = (competition_folder() / "2025" / "rules.toml").read_text()
    (gene_file.parent / "rules.toml").write_text(rules.replace("genes =", "gene_header = true\ngenes ="))
    outcome = validate(path, gene_file.parent / "rules.toml", gene_file, expected_gene_dim=30)
    assert outcome.passed


def test_every_bad_line_of_the_targets_is_named_and_the_lists_number_counts(tmp_path):
    path, season = tmp_path / "pert_counts.csv", read_season("2026")
    path.write_text("target_gene,n_cells,context\nG01,many,A\nG02,4.0,A\nG03,-2,B\nG04,4,\n")
    with pytest.raises(InputProblems) as error:
        read_targets(path, season)
    assert error.value.problems == [
        "line 2: n_cells of G01 is `many`, a whole number is needed.",
        "line 4: n_cells of G03 is `-2`, a whole number is needed.",
        "line 5: G04 has no context.",
    ]
    path.write_text("target_gene,n_cells\nG01,300.0\nG02,\nG03,0\nnon-targeting,9\n")
    targets = read_targets(path, season)
    assert targets.cells == {None: {"G01": 300, "G02": 400, "G03": 400}}
    vcc = pytest.importorskip("vcc.panel", reason="the official extra is not installed")
    assert targets.fingerprint == vcc.perts_fingerprint(str(path))


def test_a_template_asks_for_each_target_as_often_as_it_has_rows_of_it(tmp_path):
    obs = pd.DataFrame({"target_gene": pd.Categorical(["G02", "G01", "non-targeting", "G02"])})
    ad.AnnData(np.zeros((4, 1), np.float32), obs.set_axis(list("abcd"))).write_h5ad(tmp_path / "template.h5ad")
    targets = read_targets(tmp_path / "template.h5ad", read_season("2026"))
    assert targets.cells == {None: {"G01": 1, "G02": 2}}
    assert targets.names == {"G01", "G02", "non-targeting"}


def test_the_output_is_none_of_the_inputs(written, gene_file):
    path, _ = written()
    before = path.read_bytes()
    given = {"season": "2025", "genes": gene_file, "expected_gene_dim": 30}
    with pytest.raises(StateshiftError, match=r"p\.h5ad is read for the export: choose another name"):
        export_submission(path, output=path, overwrite=True, **given)
    with pytest.raises(StateshiftError, match=r"gene_names\.csv is read for the export"):
        export_submission(path, output=gene_file, overwrite=True, **given)
    assert path.read_bytes() == before


def test_a_disk_that_fills_while_the_file_is_packed_leaves_nothing(written, export, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    path, _ = written()
    monkeypatch.setattr(package, "_pad", full)  # called when the matrix is compressed and the tar is not complete
    with pytest.raises(StateshiftError, match=r"o\.vcc could not be written: no room is left"):
        export(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gene_names.csv", "p.h5ad"]


def test_the_bytes_do_not_depend_on_the_number_of_processors(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 40, 2_000_000, dtype=np.int32)
    (tmp_path / "cells.h5ad").write_bytes(values.tobytes())
    files = []
    for processors in (1, 2, 5):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=processors: set(range(n)))
        package.write_package(tmp_path / "o.vcc", tmp_path / "cells.h5ad", "cells.h5ad.zst", 1, {}, {})
        files.append((tmp_path / "o.vcc").read_bytes())
    assert files[0] == files[1] == files[2]
    with tarfile.open(tmp_path / "o.vcc") as tar:
        packed = tar.extractfile("cells.h5ad.zst").read()
    assert zstandard.ZstdDecompressor().decompress(packed) == values.tobytes()
