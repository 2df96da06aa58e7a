"""Cheats and slips are flagged by their names, and honest predictions by none."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.evaluation import evaluate
from stateshift.evaluation.flags import COLUMNS, FLAGS, Flag, flag_sentences, flags_frame

GENES, TARGETS, CELLS = 80, 8, 40
CONTEXTS = ("K562", "RPE1")


@dataclass
class Screen:
    """Log1p cells of a screen: base expression, effects by pair, and noise of cells."""

    bases: dict[str, np.ndarray]
    effects: dict[tuple[str, str], np.ndarray]

    def cells(self, effects, seed, noise=0.4, controls=None):
        """Cells with these effects; a context's control cells, given or drawn, stand first."""
        rng = np.random.default_rng(seed)
        X, obs = [], []
        for context, base in self.bases.items():
            for perturbation in ("ctrl", *(p for c, p in self.effects if c == context)):
                effect = 0 if perturbation == "ctrl" else effects[context, perturbation]
                if perturbation == "ctrl" and controls is not None:
                    block = controls[context]
                else:
                    block = np.clip(base + effect + rng.normal(0, noise, (CELLS, GENES)), 0, None)
                X.append(block)
                obs += [(perturbation, context)] * CELLS
        obs = pd.DataFrame(obs, columns=["gene", "context"], index=[f"c{i}" for i in range(len(obs))])
        var = pd.DataFrame(index=[f"G{i:02d}" for i in range(GENES)])
        X = csr_matrix(np.vstack(X).astype(np.float32))
        return ad.AnnData(X=X, obs=obs, var=var, uns={"log1p": {"base": None}})


@pytest.fixture(scope="module")
def screen():
    """A shared response and one of each perturbation's own, of like size."""
    rng = np.random.default_rng(3)
    shared, own = rng.normal(0, 0.2, GENES), rng.normal(0, 0.25, (TARGETS, GENES))
    bases = {context: rng.uniform(1.5, 3.0, GENES) for context in CONTEXTS}
    effects = {(c, f"G{i:02d}"): shared + own[i] + rng.normal(0, 0.1, GENES) for c in CONTEXTS for i in range(TARGETS)}
    return Screen(bases, effects)


@pytest.fixture(scope="module")
def truth(screen):
    return screen.cells(screen.effects, seed=1)


@pytest.fixture(scope="module")
def good(screen, truth):
    """Half of the truth and half of an error as large, on the truth's controls."""
    return screen.cells(mixed(screen, 0.7, 0.15), seed=2, controls=controls_of(truth))


def mixed(screen, share, error, seed=11):
    rng = np.random.default_rng(seed)
    return {pair: share * effect + rng.normal(0, error, GENES) for pair, effect in screen.effects.items()}


def controls_of(adata):
    is_control = (adata.obs["gene"] == "ctrl").to_numpy()
    return {c: adata.X[is_control & (adata.obs["context"] == c).to_numpy()].toarray() for c in CONTEXTS}


def moved(adata, function):
    """The cells of each pair passed through a function of (values, context, perturbation)."""
    adata = adata.copy()
    X = adata.X.toarray()
    for (context, perturbation), rows in adata.obs.groupby(["context", "gene"], observed=True).indices.items():
        if perturbation != "ctrl":
            X[rows] = np.clip(function(X[rows], context, perturbation), 0, None)
    adata.X = csr_matrix(X.astype(np.float32))
    return adata


def named(prediction, truth, **options):
    flags = evaluate(prediction, truth, **options).flags
    assert flags.columns.tolist() == COLUMNS
    return flags


def means_of(truth):
    return {context: block.mean(axis=0) for context, block in controls_of(truth).items()}


def test_honest_predictions_are_not_flagged(screen, truth, good):
    assert named(good, truth).empty
    replicate = screen.cells(screen.effects, seed=9)
    assert named(replicate, truth).empty
    ridge_like = screen.cells(mixed(screen, 0.5, 0.05), seed=4, controls=controls_of(truth))
    assert named(ridge_like, truth).empty
    poor = screen.cells(mixed(screen, 0.3, 0.25), seed=5, controls=controls_of(truth))
    assert named(poor, truth).empty


def test_the_mean_effect_for_all_is_named_and_no_warning(screen, truth):
    mean = {
        pair: np.mean([e for (c, _), e in screen.effects.items() if c == pair[0]], axis=0) for pair in screen.effects
    }
    drawn = named(screen.cells(mean, seed=6, controls=controls_of(truth)), truth)
    assert set(drawn["name"]) == {"same effect for all"}
    assert (drawn["figure"] <= drawn["limit"]).all()
    assert set(drawn["kind"]) == {"note"}
    # moved control cells, the same cells for every perturbation, as a mean baseline often writes them
    controls = controls_of(truth)
    copies = moved(truth, lambda X, context, p: controls[context] + mean[context, p])
    assert set(named(copies, truth)["name"]) == {"same effect for all"}


def test_scaled_effects_are_flagged_with_their_size(truth, good):
    base = means_of(truth)
    loud = named(moved(good, lambda X, context, _: X + 3 * (X.mean(axis=0) - base[context])), truth)
    assert set(loud["name"]) == {"scaled up"}
    assert set(loud["context"]) == set(CONTEXTS)
    assert loud["figure"].between(2.5, 4).all()
    quiet = named(moved(good, lambda X, context, _: X - 0.75 * (X.mean(axis=0) - base[context])), truth)
    assert set(quiet["name"]) == {"scaled down"}
    # 0.7 of the truth with errors: the best factor is 0.7·‖t‖² / ‖p‖², and four times that after scaling
    assert quiet["figure"].between(3, 5).all()


def test_a_pasted_pseudobulk_is_flagged_even_with_a_little_noise(truth, good):
    rng = np.random.default_rng(0)
    for noise in (0, 0.02):
        pasted = moved(good, lambda X, *_, noise=noise: X.mean(axis=0) + rng.normal(0, noise, X.shape))
        found = named(pasted, truth)
        assert set(found["name"]) == {"pasted"}
        assert len(found) == TARGETS * len(CONTEXTS)
        assert (found["figure"] < 0.01).all()


def test_permuted_labels_are_flagged_and_a_good_models_own_are_not(truth, good):
    turned = good.copy()
    names = [f"G{i:02d}" for i in range(TARGETS)]
    turned.obs["gene"] = turned.obs["gene"].replace(dict(zip(names, names[3:] + names[:3])))
    found = named(turned, truth)
    assert set(found["name"]) == {"labels permuted"}
    assert (found["figure"] > 0.5).all()


def test_cells_dealt_between_perturbations_are_flagged(truth, good):
    dealt = good.copy()
    labels = dealt.obs["gene"].to_numpy(dtype=object)
    rng = np.random.default_rng(0)
    for context in CONTEXTS:
        rows = np.flatnonzero((dealt.obs["context"] == context).to_numpy() & (labels != "ctrl"))
        labels[rows] = labels[rng.permutation(rows)]
    dealt.obs["gene"] = labels
    found = named(dealt, truth)
    assert set(found["name"]) == {"cells shuffled"}
    assert set(found["context"]) == set(CONTEXTS)


def test_copied_controls_are_flagged(truth):
    controls = controls_of(truth)
    rng = np.random.default_rng(0)
    copies = moved(truth, lambda X, context, _: controls[context][rng.integers(0, CELLS, CELLS)])
    found = named(copies, truth)
    assert set(found["name"]) == {"control cells copied", "no change"}
    assert (found.loc[found["name"] == "control cells copied", "figure"] == 1).all()
    # their mean alone, under cells of one's own
    jittered = moved(truth, lambda X, context, _: controls[context] + rng.normal(0, 0.01, (CELLS, GENES)))
    assert set(named(jittered, truth)["name"]) == {"no change"}


def test_the_same_cells_under_several_perturbations_are_flagged(truth, good):
    twice = good.copy()
    X, labels = twice.X.toarray(), twice.obs["gene"].to_numpy()
    k562 = (twice.obs["context"] == "K562").to_numpy()
    X[k562 & (labels == "G01")] = X[k562 & (labels == "G00")]
    twice.X = csr_matrix(X)
    found = named(twice, truth)
    assert found["name"].tolist() == ["cells repeated"] * 2
    assert found["perturbation"].tolist() == ["G00", "G01"]
    said = twice.copy()
    said.obs["route"] = np.where(said.obs["gene"].isin(["G00", "G01"]), "fallback", "features")
    assert named(said, truth).empty


def test_counts_among_logarithms_are_flagged(truth, good):
    rng = np.random.default_rng(0)
    left = np.arange(CELLS) < 3
    found = named(moved(good, lambda X, c, p: np.where(left[:, None] & (p == "G02"), rng.poisson(X), X)), truth)
    assert found["name"].tolist() == ["mixed scales"] * 2
    assert found["figure"].tolist() == pytest.approx([3 / CELLS] * 2)


def test_cells_without_any_difference_between_genes_are_flagged(truth, good):
    empty = named(moved(good, lambda X, c, p: X * (p != "G04")), truth)
    assert {"constant cells", "pasted"} == set(empty["name"])
    assert set(empty["perturbation"]) == {"G04"}


def test_altered_controls_are_flagged_and_other_control_cells_are_not(screen, truth, good):
    rng = np.random.default_rng(5)
    others = {c: np.clip(b + rng.normal(0, 0.4, (CELLS, GENES)), 0, None) for c, b in screen.bases.items()}
    assert named(screen.cells(mixed(screen, 0.7, 0.15), 2, controls=others), truth).empty
    push = rng.normal(0, 0.2, GENES)
    pushed = {c: np.clip(block + push, 0, None) for c, block in controls_of(truth).items()}
    found = named(screen.cells(mixed(screen, 0.7, 0.15), 2, controls=pushed), truth)
    assert set(found["name"]) == {"altered controls"}
    size = np.mean([effect @ effect for effect in screen.effects.values()])
    assert found["figure"].mean() == pytest.approx(push @ push / size, rel=0.15)


def test_controls_altered_in_few_genes_are_flagged(screen, truth):
    few = np.zeros(GENES)
    few[:2] = 1.5
    pushed = {c: np.clip(block + few, 0, None) for c, block in controls_of(truth).items()}
    found = named(screen.cells(mixed(screen, 0.7, 0.15), 2, controls=pushed), truth)
    assert found["name"].tolist() == ["altered controls"] * 2


def test_a_perturbation_of_one_cell_hides_nothing_of_the_others(screen, truth):
    def lonely(cells):
        second = cells.obs.groupby(["context", "gene"], observed=True).cumcount() > 0
        return cells[~((cells.obs["gene"] == "G00") & second).to_numpy()].copy()

    same = {pair: np.mean([e for p, e in screen.effects.items() if p[0] == pair[0]], axis=0) for pair in screen.effects}
    found = named(lonely(screen.cells(same, 2, controls=controls_of(truth))), truth)
    assert found["name"].tolist() == ["same effect for all"] * 2
    dealt = screen.cells(screen.effects, 2, controls=controls_of(truth))
    X, at = dealt.X.toarray(), np.flatnonzero(dealt.obs["gene"] != "ctrl")
    for context in CONTEXTS:
        here = at[(dealt.obs["context"] == context).to_numpy()[at]]
        X[here] = X[np.random.default_rng(0).permutation(here)]
    dealt.X = csr_matrix(X)
    assert named(lonely(dealt), truth)["name"].tolist() == ["cells shuffled"] * 2


def test_flags_are_written_read_and_said(truth, good, tmp_path):
    pasted = moved(good, lambda X, *_: X.mean(axis=0))
    found = evaluate(pasted, truth, output=tmp_path / "scores")
    from stateshift.evaluation import Evaluation

    pd.testing.assert_frame_equal(Evaluation.load(tmp_path / "scores").flags, found.flags)
    (said,) = flag_sentences(found.flags)
    assert said.startswith(
        "Warning, the prediction is pasted in G00 (K562), G01 (K562), G02 (K562), G03 (K562) and 12 more"
    )
    assert set(found.flags["meaning"]) == {FLAGS["pasted"].text}


def test_warnings_stand_before_notes():
    rows = flags_frame([Flag("scaled down", "m", "c", "", 3, 2), Flag("mixed scales", "m", "c", "p", 0.1, 0)])
    assert rows["kind"].tolist() == ["warning", "note"]
