"""The limits of values, one below and one at each; and what the scale is told by."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from stateshift.challenge import validate
from stateshift.errors import StateshiftError


@pytest.fixture
def of_2026(zero_shot, genes, bundle, rules_2026):
    """Complaints of a prediction of the season of counts, edited, under rules edited."""

    def run(edit=lambda cells: None, rule=("", "")):
        cells = zero_shot(genes)
        cells = cells[cells.obs["target_gene"] != "non-targeting"].copy()
        edited = edit(cells)
        rules_2026.write_text(rules_2026.read_text().replace(*rule))
        outcome = validate(cells if edited is None else edited, rules_2026, bundle / "gene_names.csv")
        return {c.name: c.detail for c in outcome.checks if c.status in ("fail", "warn")}

    return run


@pytest.fixture
def of_2025(make, genes, gene_file):
    """Complaints of a prediction of the season of log1p, edited."""

    def run(edit, **options):
        cells = make(genes)
        edited = edit(cells)
        outcome = validate(cells if edited is None else edited, "2025", gene_file, expected_gene_dim=30, **options)
        return {c.name: c.detail for c in outcome.checks if c.status in ("fail", "warn")}

    return run


@pytest.mark.parametrize(("more", "names"), [(0, []), (1, ["counts of a cell"])])
def test_a_cell_may_hold_the_seasons_most_counts_and_not_one_more(of_2026, more, names):
    def fill(cells):
        cells.X.data[0] += 1_000_000 - cells.X[0].sum() + more

    found = of_2026(fill)
    assert list(found) == names
    assert not names or found["counts of a cell"].endswith("(up to 1,000,001; G01 in A)")


@pytest.mark.parametrize(("fewer", "names"), [(0, []), (1, ["stored values"])])
def test_a_file_may_hold_the_seasons_most_values_and_not_one_more(of_2026, zero_shot, genes, fewer, names):
    cells = zero_shot(genes)
    stored = cells[cells.obs["target_gene"] != "non-targeting"].X.nnz
    assert list(of_2026(rule=("4_750_000_000", str(stored - fewer)))) == names


def test_the_limits_are_held_on_the_seasons_genes_as_the_file_will_be(of_2026):
    def more(own):
        def edit(cells):
            extra = ad.AnnData(np.full((cells.n_obs, 1), 2e6, np.float32), cells.obs.copy())
            extra.var_names = ["MORE"]
            cells.X = cells.X.multiply((~(cells.obs["target_gene"] == "G01").to_numpy() | own)[:, None]).tocsr()
            both = ad.concat([cells, extra], axis=1, merge="first")
            both.uns = cells.uns
            return both

        return edit

    assert list(of_2026(more(own=True))) == ["other genes"]
    # the left-out gene is all that G01 expresses: vcc prep would refuse the file
    found = of_2026(more(own=False))
    assert found["no empty perturbation"] == "2 hold nothing but zeros: G01 in A, G01 in B"


@pytest.mark.parametrize(("values", "mixed"), [(2, False), (3, True)])
def test_a_cell_of_three_whole_values_is_one_of_counts_and_of_two_is_not(of_2025, values, mixed):
    def whole(cells):
        X = cells.X.toarray()
        X[9] = 0
        X[9, 3 : 3 + values] = [1, 2, 3][:values]
        cells.X = X

    found = of_2025(whole)
    assert ("one scale" in found) == mixed
    assert not mixed or "1 cells hold whole numbers alone and 15 hold fractions (G02)" in found["one scale"]


def test_of_a_mixture_the_fewer_cells_are_named(of_2025):
    def logs_of_one(cells):
        cells.X.data[cells.X.indptr[4] :] = np.rint(5 * cells.X.data[cells.X.indptr[4] :] + 1)

    assert "12 cells hold whole numbers alone and 4 hold fractions (ctrl)" in of_2025(logs_of_one)["one scale"]


@pytest.mark.parametrize(("base", "said"), [(2.0, True), (10, True), (np.e, False), (None, False), ("e", False)])
def test_a_base_of_logarithms_other_than_e_is_a_warning(of_2025, base, said):
    def marked(cells):
        cells.uns["log1p"] = {"base": base}

    assert list(of_2025(marked)) == (["logarithm"] if said else [])


@pytest.mark.parametrize(("most", "names"), [(14.99, []), (15.0, ["scale"])])
def test_logarithms_lie_below_the_seasons_limit(of_2025, most, names):
    def reaching(cells):
        cells.X.data[0] = most
        del cells.uns["stateshift"]["scale"]

    assert list(of_2025(reaching)) == names


def test_all_zeros_have_no_scale(of_2025):
    def zeros(cells):
        cells.X = np.zeros(cells.shape, np.float32)

    assert of_2025(zeros)["scale"] == "is all zeros"


def test_counts_are_taken_for_counts_in_a_season_of_logarithms_unless_declared_otherwise(of_2025):
    def counts(**uns):
        def edit(cells):
            cells.X.data = np.rint(3 * cells.X.data + 1)
            cells.uns["stateshift"] = uns

        return edit

    assert of_2025(counts()) == {}
    assert of_2025(counts(scale="counts")) == {}
    assert "declared `log1p`" in of_2025(counts(scale="log1p"))["scale"]


@pytest.mark.parametrize(("factor", "said"), [(1.2, False), (1.3, True), (1 / 1.2, False), (1 / 1.3, True)])
def test_a_total_a_quarter_off_the_seasons_is_a_warning(make, genes, of_2025, tmp_path, factor, said):
    make(genes).write_h5ad(tmp_path / "controls.h5ad")

    def scaled(cells):
        cells.X.data = np.log1p(np.float32(factor) * np.expm1(cells.X.data))

    found = of_2025(scaled, controls=tmp_path / "controls.h5ad")
    assert list(found) == (["total of a cell"] if said else [])
    assert (
        not said
        or f"log1p of {1e4 * factor:,.0f} counts and the season's control cells of 10,000" in found["total of a cell"]
    )


def test_a_season_may_leave_its_limits_out(of_2026, rules_2026):
    for line in ("most_counts", "most_stored", "whole"):
        rules_2026.write_text("".join(s for s in rules_2026.read_text().splitlines(True) if not s.startswith(line)))

    def huge(cells):
        cells.X.data[0] = 1e7

    def fractional(cells):
        cells.X.data[0] += 1e-3

    assert of_2026(huge) == {}
    assert list(of_2026(fractional)) == ["one scale"]


def test_control_cells_with_gaps_or_none_at_all_are_no_measure(make, genes, of_2025, tmp_path):
    cells = make(genes)
    cells[:0].copy().write_h5ad(tmp_path / "none.h5ad")
    cells.X.data[0] = np.nan
    cells.write_h5ad(tmp_path / "gaps.h5ad")
    with pytest.raises(StateshiftError, match=r"gaps\.h5ad holds 1 NaN"):
        of_2025(lambda cells: None, controls=tmp_path / "gaps.h5ad")
    with pytest.raises(StateshiftError, match=r"none\.h5ad has no cells"):
        of_2025(lambda cells: None, controls=tmp_path / "none.h5ad")
