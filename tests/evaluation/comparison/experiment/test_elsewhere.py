"""Predictions made elsewhere beside the baselines of a comparison, fold by fold."""

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.cells import EffectTable, effects_to_anndata
from stateshift.cells.pseudobulk import write_effects
from stateshift.errors import StateshiftError
from stateshift.evaluation import compare

MODEL = "additive"


@pytest.fixture
def compared(screen):
    """The screen compared by its baselines alone; `again` compares in the same folder."""

    def again(*models, folds=None):
        return compare(
            screen.toml, models=["mean", *map(str, models)], folds=folds, n_folds=2, output=screen.folder / "c"
        )

    return again


def kept(comparison, fold, model=MODEL):
    """What a baseline predicted in a fold, as an effect table."""
    truth = EffectTable.load(comparison.folder / "folds" / fold / "truth.npz")
    with np.load(comparison.folder / "predicted" / fold / f"{model},seed=0.npz") as stored:
        effects = stored["effects"]
    return EffectTable(truth.genes, truth.perturbations, truth.contexts, effects, None, {}, scale=truth.scale)


def as_cells(comparison, fold, table, n=3):
    """Cells, all alike in a group, that show effects on top of the control means."""
    means = EffectTable.load(comparison.folder / "folds" / fold / "train.npz").control_means
    rows = np.repeat(np.arange(len(table)), n)
    X = np.stack([means[table.contexts[i]] + table.effects[i] for i in rows])
    obs = pd.DataFrame(
        {"target_gene": np.array(table.perturbations)[rows], "cell_type": np.array(table.contexts)[rows]}
    )
    cells = ad.AnnData(
        csr_matrix(X.astype(np.float32)), obs.set_index(obs.index.astype(str)), pd.DataFrame(index=table.genes)
    )
    cells.uns["stateshift"] = {"scale": table.scale}
    return cells


def row(comparison, model):
    return comparison.rows[comparison.rows["model"] == model].iloc[0]


def test_effects_and_cells_of_elsewhere_score_as_the_model_that_they_were_taken_from(compared, screen):
    first = compared()
    table = kept(first, "test")
    write_effects(table, screen.folder / "by_effects.h5ad")
    cells = as_cells(first, "test", table)[:, ::-1].copy()
    cells.obs["target_gene"] = [f"{name}+ctrl" if "+" not in name else "G2+G1" for name in cells.obs["target_gene"]]
    cells.write_h5ad(screen.folder / "by_cells.h5ad")
    found = compared(screen.folder / "by_effects.h5ad", screen.folder / "by_cells.h5ad")
    for name in ("by_effects", "by_cells"):
        for column in ("pearson_delta", "mae", "pds_l1"):
            assert row(found, name)[column] == pytest.approx(row(first, MODEL)[column], abs=1e-5)
        assert row(found, name)["fallback"] == 0
    asked = pd.read_csv(found.folder / "folds" / "test" / "truth.csv")
    assert list(zip(asked["context"], asked["perturbation"])) == list(zip(table.contexts, table.perturbations))


def test_each_fold_has_a_file_of_its_own_and_all_of_them_are_asked_for(compared, screen):
    first = compared(folds="T")
    mine = screen.folder / "mine"
    mine.mkdir()
    write_effects(kept(first, "T0"), mine / "T0.h5ad")
    with pytest.raises(StateshiftError, match=re.escape("a folder with T1.h5ad is needed")):
        compared(mine, folds="T")
    with pytest.raises(StateshiftError, match=re.escape("a folder with T0.h5ad, T1.h5ad is needed")):
        compared(mine / "T0.h5ad", folds="T")
    write_effects(kept(first, "T1"), mine / "T1.h5ad")
    found = compared(mine, folds="T")
    assert row(found, "mine")["pearson_delta"] == pytest.approx(row(first, MODEL)["pearson_delta"], abs=1e-6)
    swapped = mine / "T1.h5ad"
    write_effects(kept(first, "T1", "mean"), swapped, overwrite=True)
    with pytest.raises(
        StateshiftError, match="T1.h5ad predicts other effects than those that .* holds as `mine`: rename it"
    ):
        compared(mine, folds="T")


def test_a_pair_that_a_file_lacks_gets_the_mean_effect_and_is_named(compared, screen):
    first = compared()
    table = kept(first, "test")
    lacking = np.array([(c, p) != ("K562", "G4") for c, p in zip(table.contexts, table.perturbations)])
    write_effects(table.rows(lacking), screen.folder / "mine.h5ad")
    found = compared(screen.folder / "mine.h5ad")
    assert "mine: 1 pairs are not predicted and get the mean training effect: G4 in K562." in found.notes
    scores = pd.read_csv(found.folder / "scores.csv").set_index(["model", "context", "perturbation"])
    of_mine, of_mean = (scores.loc[(model, "K562", "G4"), "mae"] for model in ("mine", "mean"))
    assert of_mine == pytest.approx(of_mean)


def test_what_cannot_be_told_apart_or_compared_is_left_out_with_its_reason(compared, screen):
    table = kept(compared(), "test")
    effects = {
        "other_scale": EffectTable(table.genes, table.perturbations, table.contexts, table.effects, None, {}, scale=""),
        "few_genes": table.columns(np.arange(len(table.genes)) > 1),
        "no_pairs": table.rows(np.array(table.contexts) == "T98G"),
        "spelt": table.rows(np.array(table.perturbations) == "G1"),
    }
    effects["no_pairs"].contexts = ["A549"] * len(effects["no_pairs"])
    effects["spelt"].perturbations = ["g1"] * len(effects["spelt"])
    for name, of in effects.items():
        effects_to_anndata(of).write_h5ad(screen.folder / f"{name}.h5ad")
    found = compared(*(screen.folder / f"{name}.h5ad" for name in effects))
    assert set(found.rows["model"]).isdisjoint(effects)
    for name, told in {
        "other_scale": "is on the scale unknown, and what it is compared with on",
        "few_genes": "lacks 2 of 20 genes: GENE0, GENE1",
        "no_pairs": "predicts none of the 6 pairs of test",
        "spelt": "one perturbation is spelt `G1` and `g1`",
    }.items():
        assert any(note.startswith(f"{name},seed=0 failed") and told in note for note in found.notes), name


def test_a_file_that_is_not_there_or_goes_by_a_models_name_is_refused(compared, screen):
    with pytest.raises(StateshiftError, match="mine.h5ad: there is no such file"):
        compared(screen.folder / "mine.h5ad")
    (screen.folder / "stack").mkdir()
    with pytest.raises(StateshiftError, match="another model goes by the name `stack`: rename it"):
        compared(screen.folder / "stack")
