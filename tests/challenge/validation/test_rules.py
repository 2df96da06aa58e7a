"""Every rule of the shipped season files, broken by a fault that only it finds; and rules files that are wrong."""

from __future__ import annotations

import re
import tomllib

import anndata as ad
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stateshift.challenge import read_season, validate
from stateshift.challenge.seasons import competition_folder
from stateshift.errors import InputProblems


def relabelled(column, old, new):
    def edit(cells):
        cells.obs[column] = cells.obs[column].replace(old, new)

    return edit


def without(column):
    def edit(cells):
        del cells.obs[column]

    return edit


def plus(value, rows):
    """Something added to the values of a few cells."""

    def edit(cells):
        cells.X.data[: cells.X.indptr[rows]] += value

    return edit


def one_value(value):
    def edit(cells):
        cells.X.data[2] = value

    return edit


def logged(cells):
    cells.X.data = np.log1p(cells.X.data)
    cells.uns["stateshift"]["scale"] = "log1p"


def controls_too(cells):
    more = cells[:2].copy()
    more.obs["target_gene"] = "non-targeting"
    more.X = csr_matrix(more.X.toarray()[:, ::-1])
    both = ad.concat([cells, more])
    both.uns["stateshift"] = cells.uns["stateshift"]
    return both


def unchanged(cells):
    return cells


# season → key of the rules → what is done to the prediction, to the rules, and the one check that finds it
FAULTS = {
    "2025": {
        "cells.perturbation": (without("target_gene"), None, "perturbation column"),
        "cells.control": (relabelled("target_gene", "ctrl", "G01"), None, "control"),
        "cells.controls": (lambda cells: cells[4:].copy(), None, "control"),
        "cells.genes": (unchanged, ("genes = 30", "genes = 31"), "number of genes"),
        "cells.most": (unchanged, (r"most = [\d_]+", "most = 15"), "number of cells"),
        "cells.advised": (unchanged, (r"advised = [\d_]+", "advised = 15"), "advised cells"),
        "values.scale": (unchanged, ('scale = "log1p"', 'scale = "counts"'), "scale"),
        "values.whole": (unchanged, ("whole = 1e-3", "whole = 0.9999"), "scale"),
        "values.below": (unchanged, (r"below = 15.0", "below = 2.5"), "scale"),
    },
    "2026": {
        "cells.perturbation": (without("target_gene"), None, "perturbation column"),
        "cells.context": (without("context"), None, "contexts"),
        "cells.control": (controls_too, None, "control"),
        "cells.controls": (unchanged, ("controls = false", "controls = true"), "control"),
        "cells.each": (lambda cells: cells[1:].copy(), None, "cells of each"),
        "cells.most": (unchanged, (r"most = [\d_]+", "most = 23"), "number of cells"),
        "cells.genes": (unchanged, ("genes = 30", "genes = 31"), "number of genes"),
        "cells.gene_header": (unchanged, ("gene_header = true", "gene_header = false"), "gene list"),
        "values.scale": (logged, None, "scale"),
        "values.whole": (plus(1e-3, 24), None, "scale"),
        "values.most_counts": (one_value(2_000_000), None, "counts of a cell"),
        "values.most_stored": (unchanged, (r"most_stored = [\d_]+", "most_stored = 99"), "stored values"),
    },
}


@pytest.mark.parametrize(("season", "key"), [(season, key) for season, faults in FAULTS.items() for key in faults])
def test_each_rule_of_a_season_finds_a_fault_that_no_other_finds(season, key, make, zero_shot, genes, bundle, tmp_path):
    edit, rule, check = FAULTS[season][key]
    cells = make(genes) if season == "2025" else perturbed(zero_shot(genes))
    del cells.uns["stateshift"]["control"]
    text = (competition_folder() / season / "rules.toml").read_text()
    text = re.sub(r"genes = 18_\d+", "genes = 30", text).replace("each = 400", "each = 4")
    lists = bundle if season == "2026" else tmp_path
    (lists / "gene_names.csv").write_text("gene_name\n" * (season == "2026") + "\n".join(genes))
    (lists / "pert_counts.csv").write_text("target_gene\nG01\nG02\nG03\n")

    def complaints(cells, text):
        (tmp_path / "rules.toml").write_text(text)
        found = validate(
            cells, tmp_path / "rules.toml", lists / "gene_names.csv", pert_counts=lists / "pert_counts.csv"
        )
        return [c.name for c in found.checks if c.status in ("fail", "warn")]

    assert complaints(cells, text) == []
    edited = edit(cells)
    broken = text if rule is None else re.sub(*rule, text)
    assert complaints(cells if edited is None else edited, broken) == [check]


def perturbed(cells):
    return cells[cells.obs["target_gene"] != "non-targeting"].copy()


@pytest.mark.parametrize("season", ["2025", "2026"])
def test_no_rule_of_a_season_is_without_its_fault(season):
    rules = tomllib.loads((competition_folder() / season / "rules.toml").read_text())
    keys = {f"{table}.{key}" for table in ("cells", "values") for key in rules[table]}
    assert keys == set(FAULTS[season])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[cells]", "[cell]", "cell is no key of the rules (did you mean `cells`?)."),
        ("[cells]", "[cells]\nmax = 3", "[cells] max is no key of the rules (there are: "),
        ("most =", "mots =", "[cells] mots is no key of the rules (did you mean `most`?)."),
        ("most = 200_000", 'most = "many"', "[cells] most = 'many' is no whole number."),
        ("most = 200_000", "most = true", "[cells] most = True is no whole number."),
        ("most = 200_000", "most = 0", "[cells] most = 0 has to be at least 1."),
        ("controls = true", "controls = 1", "[cells] controls = 1 is neither true nor false."),
        ("below = 15.0", 'below = "15"', "[values] below = '15' is no number."),
        ("below = 15.0", "", "[values] below is missing: log1p values need their limit."),
        ("mae = 0.027", 'mae = "low"', "[score] baseline = {'mae': 'low', 'des': 0.106, 'pds': 0.514} is no table of numbers."),
        ('scale = "log1p"', 'scale = "log"', "[values] scale = `log` (did you mean `log1p`?)."),
        ('title = "', 'titel = "', "titel is no key of the rules (did you mean `title`?)."),
        ('season = "2025"', "season = 2025", "season = 2025 is no text."),
        ("zstd_level = 1", "zstd_level = 23", "[file] zstd_level = 23 has to be 1 to 22."),
        ("zstd_level = 1", "zstd_level = 0", "[file] zstd_level = 0 has to be 1 to 22."),
        ("genes = 18_080", "genes = {}", "[cells] genes = {} is no whole number."),
        ('like = "2025"', 'like = "2024"', "[score] like = `2024` (did you mean `2026`?)."),
        ('matrix = "pred.h5ad"', 'matrix = "a/pred.h5ad"', "[file] `a/pred.h5ad` is no plain file name."),
        ('mark = "watermark.txt"', "", "[file] mark and mark_text go together."),
        ('mark_text = "vcc-prep"', "", "[file] mark and mark_text go together."),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_one_sentence_that_names_it(old, new, said, tmp_path):
    text = (competition_folder() / "2025" / "rules.toml").read_text()
    assert text.count(old) == 1
    (tmp_path / "rules.toml").write_text(text.replace(old, new))
    with pytest.raises(InputProblems) as error:
        read_season(tmp_path / "rules.toml")
    assert any(problem.startswith(said) for problem in error.value.problems), error.value.problems


def test_rules_may_lie_at_their_limits_and_leave_out_what_a_season_does_not_have(tmp_path):
    text = (competition_folder() / "2025" / "rules.toml").read_text()
    text = re.sub(r"zstd_level = 1", "zstd_level = 22", re.sub(r"(most|advised|genes) = [\d_]+", r"\1 = 1", text))
    left_out = r"(?m)^(whole|mark|mark_text|mae|des|pds) = .*$|^\[score.baseline\].*$"
    (tmp_path / "rules.toml").write_text(re.sub(left_out, "", text))
    season = read_season(tmp_path / "rules.toml")
    assert (season.cells.most, season.cells.advised, season.cells.genes, season.file.zstd_level) == (1, 1, 1, 22)
    assert (season.cells.each, season.cells.context, season.cells.gene_header) == (None, None, False)
    assert (season.values.whole, season.values.most_counts, season.values.most_stored) == (1e-6, None, None)
    assert (season.file.meta, season.file.mark, season.score.baseline) == (None, None, None)


def test_a_rules_file_that_holds_no_tables_lacks_all_of_them(tmp_path):
    (tmp_path / "rules.toml").write_text("cells = 3\n")
    with pytest.raises(InputProblems) as error:
        read_season(tmp_path / "rules.toml")
    assert error.value.problems == [
        "season is missing.", "title is missing.",
        "[cells] is missing.", "[values] is missing.", "[file] is missing.", "[score] is missing.",
    ]  # fmt: skip
