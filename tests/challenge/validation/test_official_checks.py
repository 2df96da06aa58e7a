"""Every check of cell-eval prep and vcc prep, with a fault for each that ours find too.

Each `raise` of the installed packages is reached by a fault, or named here with the reason why none can be.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.challenge import export_submission, validate
from stateshift.challenge.seasons import competition_folder
from stateshift.errors import InputProblems, StateshiftError

GENES = [f"G{i:02d}" for i in range(30)]


def change(edit):
    """A fault of the prediction: read, edited, written."""

    def plant(folder):
        cells = ad.read_h5ad(folder / "predicted.h5ad")
        edited = edit(cells)
        (cells if edited is None else edited).write_h5ad(folder / "predicted.h5ad")

    return plant


def damage(edit):
    """A fault of the file's matrix."""

    def plant(folder):
        with h5py.File(folder / "predicted.h5ad", "r+") as handle:
            edit(handle["X"])

    return plant


def text(name, content):
    """Another list."""
    return lambda folder: (folder / name).write_text(content)


def put(group, name, values):
    del group[name]
    group[name] = values


def relabelled(column, old, new):
    def edit(cells):
        cells.obs[column] = cells.obs[column].astype(str).replace(old, new)

    return change(edit)


def valued(at, value):
    def edit(cells):
        cells.X.data[at] = value

    return change(edit)


def without(column):
    def edit(cells):
        del cells.obs[column]

    return change(edit)


def renamed(cells):
    cells.var_names = [*GENES[:-1], "G00"]


def emptied(cells):
    cells.X = csr_matrix(cells.X.multiply(((cells.obs["target_gene"] != "G01").to_numpy())[:, None]))


def add_to(value):
    def edit(cells):
        cells.X.data += value

    return change(edit)


def truncated(folder):
    path = folder / "predicted.h5ad"
    path.write_bytes(path.read_bytes()[:4000])


def a_folder(folder):
    (folder / "predicted.h5ad").unlink()
    (folder / "predicted.h5ad").mkdir()


def controls_too(cells):
    cells.obs["target_gene"] = cells.obs["target_gene"].astype(str)
    more = cells[:2].copy()
    more.obs["target_gene"] = "non-targeting"
    return ad.concat([cells, more])


def one_more_gene(cells):
    X = csr_matrix(np.hstack([cells.X.toarray(), np.ones((cells.n_obs, 1), np.float32)]))
    return ad.AnnData(X, obs=cells.obs, var=pd.DataFrame(index=[*cells.var_names, "MORE"]))


def fewer(folder):
    shorter = (folder / "rules.toml").read_text()
    shorter = re.sub(r"most = [\d_]+", "most = 5", shorter)
    (folder / "rules.toml").write_text(re.sub(r"most_stored = [\d_]+", "most_stored = 5", shorter))


OF_BOTH = [
    ("no matrix", damage(lambda X: X.parent.pop("X")), "is no AnnData file: it has no X"),
    ("no perturbation column", without("target_gene"), "perturbation column: obs has none"),
    (
        "genes missing",
        change(lambda cells: cells[:, :-1].copy()),
        "genes: 1 of the list's genes are not predicted: G29",
    ),
    ("other genes", change(one_more_gene), "other genes: 1 are not in the list"),
    ("too many cells", fewer, r"number of cells: \d+ cells; the season allows 1 to 5"),
]

FAULTS_2025 = [
    *OF_BOTH,
    ("no such context", lambda folder: None, "context: no cell has the context `celltype`"),
    ("no control", relabelled("target_gene", "non-targeting", "mock"), "control: no control cells"),
    ("negative", valued(0, -1.5), "not negative: 1 values are negative"),
    ("beyond logarithms", valued(0, 15.0), "scale: values reach 15"),
]

FAULTS_2026 = [
    *OF_BOTH,
    ("a folder", a_folder, "predicted.h5ad can't be read as an AnnData file"),
    ("no file", lambda folder: (folder / "predicted.h5ad").unlink(), "there is no such file"),
    ("truncated", truncated, "can't be read as an AnnData file"),
    ("row ends too few", damage(lambda X: put(X, "indptr", X["indptr"][:-1])), "X is damaged: its indptr"),
    ("row ends from 1", damage(lambda X: X["indptr"].write_direct(np.maximum(X["indptr"][:], 1))), "X is damaged"),
    ("row ends falling", damage(lambda X: X["indptr"].__setitem__(2, X["indptr"][5])), "X is damaged: its indptr"),
    ("fewer indices", damage(lambda X: put(X, "indices", X["indices"][:-3])), "X is damaged: its indptr"),
    ("row ends beyond", damage(lambda X: X["indptr"].__setitem__(-1, 10**6)), "X is damaged: its indptr"),
    ("an index beyond", damage(lambda X: X["indices"].__setitem__(4, 99)), "holds indices beyond its 30 places"),
    ("genes twice", change(renamed), "var_names hold G00 more than once"),
    ("no cells", change(lambda cells: cells[:0].copy()), "number of cells: 0 cells"),
    ("no gene list", lambda folder: (folder / "gene_names.csv").unlink(), "there is no such list of genes"),
    ("an empty gene list", text("gene_names.csv", ""), "names no genes"),
    ("blanks for genes", text("gene_names.csv", "\n\n"), "names no genes"),
    ("a header alone", text("gene_names.csv", "gene_name\n"), "names no genes"),
    ("a gene listed twice", text("gene_names.csv", "\n".join([*GENES[:-1], "G07"])), "names G07 more than once"),
    ("controls", change(controls_too), "control: the season wants no control cells"),
    ("no context column", without("context"), "contexts: obs has no column `context`"),
    ("an unknown context", relabelled("context", "B", "b"), "the season .* has no b .did you mean `B`"),
    ("a context missing", change(lambda cells: cells[cells.obs["context"] == "A"].copy()), "contexts: B is not predicted"),
    ("no list of targets", lambda folder: (folder / "pert_counts.csv").unlink(), "pert_counts.csv: there is no such file"),
    ("no such table", text("pert_counts.csv", ""), "pert_counts.csv can't be read as a table"),
    ("no such column", text("pert_counts.csv", "perturbed\nG01\n"), "has no column `target_gene`"),
    ("no targets", text("pert_counts.csv", "target_gene\nnon-targeting\n"), "names no perturbation"),
    ("targets of one context", text("pert_counts.csv", "target_gene,context\nG01,A\nG02,A\nG03,A\n"),
     r"manifest.json is of the contexts A, B, and .* of A"),
    ("another target", relabelled("target_gene", "G01", "G1"), "perturbations: 1 of the list are not predicted in A"),
    ("cells missing", change(lambda cells: cells[1:].copy()), "cells of each: 1 targets have another number than 4"),
    ("too many values", fewer, "stored values: .* the season allows 5"),
    ("a NaN", valued(7, np.nan), "finite: 1 values are NaN or infinite"),
    ("too many counts", valued(2, 2e6), "counts of a cell: 1 cells hold more than 1,000,000"),
    ("an empty target", change(emptied), "no empty perturbation: 2 hold nothing but zeros"),
    ("negative", valued(7, -1), "not negative: 1 values are negative"),
    ("fractions", add_to(0.5), "scale: fractions"),
    ("output exists", lambda folder: (folder / "ours.vcc").write_text("mine"), "ours.vcc exists already"),
    ("output is an input", lambda folder: None, "is read for the export: choose another name"),
]  # fmt: skip

OUT_OF_REACH = {
    "cell_eval._cli._prep": {
        "Encoding must be": "an option; ours writes float32",
        "does not match expected gene dimension": "the list has replaced that number a few lines above",
        "tar is not installed": "both are done in-process",
        "zstd is not installed": "both are done in-process",
    },
    "cell_eval.utils": {
        "adata.X is None": "a second time, and prep itself has failed on it by then",
        "Celltype column": "of its splitting by cell type, which is no part of prep",
    },
    "vcc.prep": {
        "Encoding must be": "an option",
        "--cells-per-pert must": "an option",
        "--max-counts-per-cell must": "an option",
        "Cell-type column": "an option of other seasons",
        "label '{ntc_name}' not found": "where controls are wanted, which is not this season",
        "adata.X is None": "a second time",
        "threshold": "of the way for logarithms, which this season doesn't take",
        "Invalid scale": "of the same way",
        "has no cells": "what names no cell has failed as missing",
        "Could not read the gene list": "an encoding, or no CSV",
        "Missing perturbation list": "an option left out: ours says that nothing was held to a list",
        "does not match the expected": "the list has replaced that number a few lines above",
        "Could not write": "a disk that fills, tested elsewhere",
        "' is empty": "pandas refuses an empty list before it",
    },
}


def faultless(season, folder, make, zero_shot):
    """A season's prediction, lists and rules for thirty genes."""
    (folder / "gene_names.csv").write_text("\n".join(GENES) + "\n")
    (folder / "pert_counts.csv").write_text("target_gene\nG01\nG02\nG03\n")
    rules = (competition_folder() / season / "rules.toml").read_text()
    for number in ("18_080", "18_533"):
        rules = rules.replace(number, "30")
    (folder / "rules.toml").write_text(rules.replace("each = 400", "each = 4"))
    if season == "2026":
        (folder / "manifest.json").write_text(json.dumps({"contexts": ["A", "B"]}))
        cells = zero_shot(GENES)
        cells = cells[cells.obs["target_gene"] != "non-targeting"].copy()
    else:
        cells = make(GENES, control="non-targeting")
    cells.uns.clear()
    cells.write_h5ad(folder / "predicted.h5ad")
    return folder


def found_by_ours(folder, output="ours.vcc", **options):
    """What validator and export say, a line each."""
    given = {"season": folder / "rules.toml", "genes": folder / "gene_names.csv", **options}
    given["pert_counts"] = folder / "pert_counts.csv"
    try:
        outcome = validate(folder / "predicted.h5ad", **given)
        if outcome.passed:
            export_submission(
                folder / "predicted.h5ad", output=folder / output, overwrite=output != "ours.vcc", **given
            )
        return [*outcome.problems, *outcome.warnings]
    except InputProblems as error:
        return error.problems
    except StateshiftError as error:
        return [str(error)]


def raised(modules, call):
    """The lines of these modules that a call's error came through, the last one first."""
    try:
        call()
    except Exception as error:
        lines, trace = [], error.__traceback__
        while trace is not None:
            lines.insert(0, (trace.tb_frame.f_globals.get("__name__"), trace.tb_lineno))
            trace = trace.tb_next
        return [line for line in lines if line[0] in modules] or [("elsewhere", str(error))]
    return []


def checks_of(module):
    """(module, line) → the source of each `raise` of a new error."""
    source = inspect.getsource(module)
    raises = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise) and node.exc is not None]
    return {(module.__name__, node.lineno): ast.get_source_segment(source, node) for node in raises}


def unreached(module, reached):
    """Checks that no fault reached and that are not named as out of reach."""
    told = OUT_OF_REACH[module.__name__]
    return [
        source
        for place, source in checks_of(module).items()
        if place not in reached and not any(words in source for words in told)
    ]


def test_every_check_of_cell_eval_prep_has_a_fault_that_ours_find(make, zero_shot, tmp_path, monkeypatch):
    prep = pytest.importorskip("cell_eval._cli._prep", reason="the official extra is not installed")
    import cell_eval.utils as utils

    monkeypatch.setattr("subprocess.run", lambda *args, **options: None)  # its programs: nothing is packed
    reached = set()
    for name, plant, ours in [("nothing", lambda folder: None, None), *FAULTS_2025]:
        folder = faultless("2025", fresh(tmp_path), make, zero_shot)
        plant(folder)

        def theirs(folder=folder, name=name, plant=plant):
            prep.strip_anndata(
                ad.read_h5ad(folder / "predicted.h5ad"), str(folder / "theirs.vcc"),
                (folder / "gene_names.csv").read_text().split(), encoding=32, exp_gene_dim=30,
                max_cell_dim=5 if plant is fewer else 200, celltype_col="celltype" if "context" in name else None,
            )  # fmt: skip

        lines = raised({prep.__name__, utils.__name__}, theirs)
        said = found_by_ours(folder, contexts=["celltype"] if "context" in name else None)
        assert bool(lines) == bool(ours), name
        assert (said == []) if ours is None else any(re.search(ours, line) for line in said), (name, said)
        reached.update(lines[:1])
    assert unreached(prep, reached) == []
    assert unreached(utils, reached) == []


def test_every_check_of_vcc_prep_has_a_fault_that_ours_find(make, zero_shot, tmp_path):
    prep = pytest.importorskip("vcc.prep", reason="the official extra is not installed")
    reached = set()
    for name, plant, ours in [("nothing", lambda folder: None, None), *FAULTS_2026]:
        folder = faultless("2026", fresh(tmp_path), make, zero_shot)
        plant(folder)
        output = "predicted.h5ad" if name == "output is an input" else "ours.vcc"
        limits = {"too many cells": {"max_cell_dim": 5}, "too many values": {"max_nnz": 5}}.get(name, {})

        def theirs(folder=folder, name=name, output=output, limits=limits):
            prep.run_prep(
                input_path=str(folder / "predicted.h5ad"), output_path=str(folder / output), force=False,
                genes_path=str(folder / "gene_names.csv"), perts_path=str(folder / "pert_counts.csv"),
                required_contexts=("A", "B"), cells_per_pert=4, expected_gene_dim=30, dry_run=name != "output exists",
                **limits,
            )  # fmt: skip

        lines = raised({prep.__name__}, theirs)
        said = found_by_ours(folder, output)
        assert bool(lines) == bool(ours), (name, lines)
        assert (said == []) if ours is None else any(re.search(ours, line) for line in said), (name, said)
        reached.update(lines[:1])
    assert unreached(prep, reached) == []


def fresh(folder):
    """The folder, empty."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder
