"""Trained on 200 variable genes, or an embedding, of 1,000 genes: the other 800 are predicted, and how well."""

import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from stateshift.cells import EffectTable, estimate_effects, read_cells
from stateshift.cells.matrix.scale import to_log1p
from stateshift.cells.simulate.experiment import simulate_experiment
from stateshift.errors import StateshiftError
from stateshift.evaluation import evaluate
from stateshift.feature_table import FeatureTable
from stateshift.metrics import pearson_delta
from stateshift.prediction import predict
from stateshift.run import RunDirectory
from stateshift.training import resume, train
from stateshift.transition.checkpoint import load_transition

SMALL = [
    "model.hidden=32", "model.ffn=32", "model.heads=2", "model.layers=1", "model.set_size=32", "training.max_steps=40",
    "training.val_every=20", "training.lr=1e-3", "model.gene_decoder_widths=[64]",
]  # fmt: skip
WAYS = {
    "the network's genes and effects": ("X_hvg", []),
    "a gene decoder": ("X_hvg", ["model.output_space=all", "model.gene_decoder=true"]),
    "all genes": ("X_hvg", ["model.output_space=all"]),
    "all genes of an embedding": ("X_pca", []),
    "a gene decoder of an embedding": ("X_pca", ["model.output_space=gene", "model.gene_decoder=true"]),
    "effects beside an embedding": ("X_pca", ["model.output_space=embedding"]),
}
MODELLED = {
    "the network's genes and effects": {"effect": 800, "network": 200},
    "a gene decoder": {"decoder": 1000},
    "all genes": {"network": 1000},
    "all genes of an embedding": {"network": 1000},
    "a gene decoder of an embedding": {"decoder": 1000},
    "effects beside an embedding": {"effect": 1000},
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """An experiment of 1,000 genes, X log1p of 1e4, 200 in X_hvg, and 20 components in X_pca."""
    from sklearn.decomposition import PCA

    folder = tmp_path_factory.mktemp("simulated")
    toml = simulate_experiment(
        folder / "sim.h5ad", contexts=3, targets=24, cells=4000, genes=1000, batches=2, depth=20_000, seed=3
    )
    adata = ad.read_h5ad(folder / "sim.h5ad")
    adata.X = to_log1p(adata.X, {})[0]
    X = adata.X.toarray()
    variable = np.sort(np.argsort(-X.var(axis=0))[:200])
    adata.obsm["X_hvg"] = X[:, variable]
    adata.obsm["X_pca"] = PCA(20, random_state=0).fit_transform(X).astype(np.float32)
    names = adata.var_names[variable].to_numpy(dtype=object)
    adata.uns["stateshift"] = {"scale": "log1p_1e4", "embedding_genes": {"X_hvg": names}}
    (folder / "sim.h5ad").unlink()
    adata.write_h5ad(folder / "sim.h5ad")
    for key in ("X_hvg", "X_pca"):
        (folder / f"{key}.toml").write_text(toml.read_text() + f'\n[columns]\nembedding = "{key}"\n')
    return folder


@pytest.fixture(scope="module")
def measured(simulated) -> EffectTable:
    """The effects that the cells hold, of all splits."""
    return estimate_effects(read_cells(simulated / "sim.h5ad"))


@pytest.fixture(scope="module")
def run_of(simulated):
    """A trained run of a way, made once."""
    made = {}

    def trained(way: str) -> Path:
        if way not in made:
            key, options = WAYS[way]
            name = way.replace(" ", "_").replace("'", "")
            made[way] = train(simulated / f"{key}.toml", [*SMALL, *options], output_dir=simulated / "runs", name=name)
        return made[way]

    return trained


def score(shifts: dict[tuple[str, str], np.ndarray], measured: EffectTable, genes: np.ndarray) -> float:
    """Mean Pearson delta over some of the genes."""
    row = {pair: r for r, pair in enumerate(zip(measured.contexts, measured.perturbations))}
    scores = [pearson_delta(shift[None, genes], measured.effects[row[p]][None, genes]) for p, shift in shifts.items()]
    return float(np.mean(scores))


@pytest.mark.parametrize("way", WAYS)
def test_the_other_genes_are_predicted_better_than_control_and_not_below_the_mean(
    simulated, measured, run_of, way, tmp_path
):
    cells = simulated / "sim.h5ad"
    adata = ad.read_h5ad(predict(run_of(way), cells=cells, split="test", output=tmp_path / "out.h5ad"))
    assert adata.var_names.tolist() == measured.genes
    assert adata.var["modelled_by"].value_counts().to_dict() == MODELLED[way]
    assert adata.X.min() >= 0
    assert np.isfinite(adata.X.data).all()

    baselines = adata.uns["stateshift"]["baselines"]
    pairs = list(zip(baselines["context"], baselines["target_gene"]))
    predicted = {}
    for context, target in pairs:
        here = (adata.obs["context"] == context).to_numpy()
        rows = here & (adata.obs["target_gene"] == target).to_numpy()
        controls = here & adata.obs["is_control"].to_numpy()
        predicted[context, target] = np.asarray(adata[rows].X.mean(axis=0) - adata[controls].X.mean(axis=0)).ravel()
    others = ~np.isin(measured.genes, ad.read_h5ad(cells).uns["stateshift"]["embedding_genes"]["X_hvg"].astype(str))
    assert others.sum() == 800
    ours = score(predicted, measured, others)
    mean = score(dict(zip(pairs, baselines["effects"]["mean"])), measured, others)
    assert mean > 0.2
    assert ours > mean + 0.05  # a control's copy has no shift, and scores nothing

    largest = max(
        np.abs(shift - effect).max() for shift, effect in zip(predicted.values(), baselines["effects"]["ridge"])
    )
    assert (largest > 0.02) == (way != "effects beside an embedding")  # trained heads say more than where they start


def test_an_embedding_is_predicted_beside_the_genes_that_the_effects_give(simulated, run_of, tmp_path):
    way = "effects beside an embedding"
    output = predict(run_of(way), cells=simulated / "sim.h5ad", split="test", output=tmp_path / "out.h5ad")
    adata, stored = ad.read_h5ad(output), ad.read_h5ad(simulated / "sim.h5ad")
    controls = adata[adata.obs["is_control"]]
    np.testing.assert_array_equal(controls.obsm["X_predicted"], stored[controls.obs_names].obsm["X_pca"])
    perturbed = adata[~adata.obs["is_control"]]
    starts = stored[[name.split(":", 1)[1] for name in perturbed.obs_names]].obsm["X_pca"]
    assert np.abs(perturbed.obsm["X_predicted"] - starts).max() > 0.1


def test_predictions_of_every_gene_are_scored(simulated, run_of, tmp_path):
    cells, way = simulated / "sim.h5ad", "all genes of an embedding"
    output = predict(run_of(way), cells=cells, split="test", contexts=["context_3"], output=tmp_path / "out.h5ad")
    table = evaluate(output, truth=cells, output=tmp_path / "scores")
    assert table is not None
    assert (tmp_path / "scores").is_dir()


def test_genes_that_neither_the_network_nor_an_effect_models_are_refused_by_name(simulated, run_of, tmp_path):
    run = RunDirectory(Path(shutil.copytree(run_of("the network's genes and effects"), tmp_path / "run")))
    effects = EffectTable.load(run.effects_file)
    network = set(run.genes())
    lost = [g for g in effects.genes if g not in network][:2]
    effects.effects[3, [effects.genes.index(gene) for gene in lost]] = np.nan
    effects.save(run.effects_file)
    with pytest.raises(StateshiftError, match=f"doesn't model {lost[0]}, {lost[1]}, and effects.npz holds no training"):
        predict(run.path, cells=simulated / "sim.h5ad", split="test", output=tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize("way", ["a gene decoder", "the network's genes and effects"])
def test_a_resumed_run_of_every_gene_ends_where_an_unbroken_one_does(simulated, run_of, way, tmp_path):
    key, options = WAYS[way]
    short = [*SMALL, *options, "training.max_steps=20"]
    run = train(simulated / f"{key}.toml", short, output_dir=simulated / "runs", name=f"broken_{len(options)}")
    resume(run, ["training.max_steps=40"])
    for ours, whole in ((RunDirectory(run), RunDirectory(run_of(way))),):
        a, b = (
            load_transition(each, FeatureTable.load(each.features_file).width, each.last).state_dict()
            for each in (ours, whole)
        )
        assert all((a[name] == b[name]).all() for name in b)
    assert RunDirectory(run).every_gene() == read_cells(simulated / "sim.h5ad").genes
