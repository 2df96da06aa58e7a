"""The demo does the whole job on the embedded data, without network, and beats the mean there."""

from __future__ import annotations

import io
import socket
import tarfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import toml
import zstandard

from stateshift.demo import (
    ALL_PAIRS,
    CELL_TYPES,
    NEVER_TREATED,
    DemoResult,
    differences_by_regime,
    embedded_controls,
    run_demo,
    write_experiment,
)
from stateshift.errors import StateshiftError
from stateshift.evaluation import Evaluation
from stateshift.metrics import paired_bootstrap
from stateshift.run import open_run


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> DemoResult:
    """One demo, with every attempt to connect to anything an error."""

    def refuse(self, address):
        raise AssertionError(f"the demo tried to connect to {address}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return run_demo(tmp_path_factory.mktemp("demo") / "stateshift-demo")


def test_the_embedded_controls_are_log_normalised_and_say_so():
    cells = embedded_controls()
    assert cells.shape == (586, 765)
    assert cells.uns["stateshift"]["scale"] == "log1p"
    assert sorted(cells.obs["cell_type"].unique()) == sorted(CELL_TYPES.values())
    # scaled expression would be negative somewhere; a cell's smallest count is one and the next is two
    assert cells.X.min() == 0
    expressed = np.expm1(cells.X[0].data.astype(float))
    assert np.allclose(np.unique((expressed / expressed.min()).round(2))[:3], [1, 2, 3], atol=0.01)


def test_the_model_beats_the_mean_and_the_interval_says_so(demo):
    differences = demo.differences.set_index(["regime", "baseline"])
    for regime in (ALL_PAIRS, "gene never perturbed", "cell type never treated"):
        assert differences.loc[(regime, "mean"), "low"] > 0.03, regime
    assert differences.loc[(ALL_PAIRS, "mean"), "pairs"] == 16 * 5 + 48


def test_every_baseline_stands_beside_the_model(demo):
    assert set(demo.differences["baseline"]) == {
        "control",
        "mean",
        "context_mean",
        "additive",
        "ridge",
        "knn",
        "transfer",
    }
    said = demo.sentences()
    assert sum(s.startswith(ALL_PAIRS) for s in said) == 7
    ahead = demo.differences[(demo.differences["regime"] == ALL_PAIRS) & (demo.differences["low"] > 0)]
    assert sum("ahead of" in s for s in said if s.startswith(ALL_PAIRS)) == len(ahead)


def test_the_differences_are_those_of_the_written_scores(demo):
    scores = pd.read_csv(demo.evaluation / "scores.csv")
    for baseline in ("mean", "ridge"):
        model, other = (scores[scores["model"] == m]["pearson_delta"] for m in ("state_tiny", baseline))
        row = demo.differences[
            (demo.differences["regime"] == ALL_PAIRS) & (demo.differences["baseline"] == baseline)
        ].iloc[0]
        assert row["difference"] == pytest.approx(model.mean() - other.mean())


def test_test_genes_and_the_test_cell_type_were_never_trained_or_chosen_on(demo):
    experiment = toml.load(demo.experiment)
    splits = open_run(demo.run).splits()
    test_genes = set(experiment["fewshot"]["screen.monocyte"]["test"])
    assert len(test_genes) == 16
    for split in ("train", "val"):
        assert NEVER_TREATED not in splits[split]
        assert test_genes.isdisjoint(gene for genes in splits[split].values() for gene in genes)
    assert set(splits["test"]) == set(CELL_TYPES.values())


def test_the_predictions_are_marked_simulated_and_name_their_genes(demo):
    predicted = anndata.read_h5ad(demo.predictions)
    assert bool(predicted.uns["stateshift"]["simulated"])
    assert list(predicted.var_names) == list(embedded_controls().var_names)
    assert set(predicted.obs["route"]) == {"neural", "control"}


def test_the_challenge_file_holds_the_cell_type_never_treated(demo):
    with tarfile.open(demo.submission) as tar:
        packed = tar.extractfile("pred.h5ad.zst").read()
        assert tar.extractfile("watermark.txt").read() == b"vcc-prep"
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read()
    file = demo.submission.with_name("unpacked.h5ad")
    file.write_bytes(plain)
    cells = anndata.read_h5ad(file)
    file.unlink()
    assert cells.obs["target_gene"].nunique() == 64 + 1
    assert cells.n_vars == 765


def test_the_report_says_that_the_effects_are_simulated(demo):
    text = demo.report.read_text()
    assert '<p class="note">The effects here are simulated: they show that the way works' in text[: text.index("<h2")]
    assert "<td>knn<" in text


def test_the_experiment_can_be_trained_again_from_its_folder(demo):
    from stateshift.cells import assign_splits, load_cells, read_experiment

    experiment = read_experiment(demo.experiment)
    split = assign_splits(experiment, load_cells(experiment))
    assert dict(zip(*np.unique(split, return_counts=True))) == {
        "control": 1000,
        "test": (64 + 16 * 4) * 32,
        "train": 40 * 4 * 32,
        "val": 8 * 4 * 32,
    }


def test_the_same_seed_writes_the_same_experiment(demo, tmp_path):
    toml_path, unseen = write_experiment(tmp_path, seed=0)
    assert toml_path.read_text() == demo.experiment.read_text()
    assert (tmp_path / "proteins.fasta").read_text() == (demo.folder / "proteins.fasta").read_text()
    assert len(unseen) == 16


def test_differences_are_split_by_what_is_new_about_a_pair():
    pairs = [("B", "NEW"), ("B", "OLD"), ("monocyte", "NEW")]
    rows = [
        {"context": c, "perturbation": p, "model": m, "pearson_delta": value}
        for m, values in (("ours", (0.5, 0.7, 0.9)), ("mean", (0.4, 0.4, 0.4)))
        for (c, p), value in zip(pairs, values)
    ]
    evaluation = Evaluation(pd.DataFrame(rows), pd.DataFrame(), {"model": "ours"})
    differences = differences_by_regime(evaluation, ["NEW"]).set_index("regime")
    assert differences.loc[ALL_PAIRS, "difference"] == pytest.approx(0.3)
    assert differences.loc["gene never perturbed", "difference"] == pytest.approx(0.5)
    assert differences.loc["cell type never treated", "difference"] == pytest.approx(0.3)
    assert differences.loc["both at once", "difference"] == pytest.approx(0.1)
    assert differences["low"].isna().all()
    assert differences.loc[ALL_PAIRS, ["pairs", "perturbations"]].tolist() == [3, 2]


def test_the_intervals_draw_a_gene_with_all_its_cell_types():
    rng = np.random.default_rng(0)
    genes = [f"G{i}" for i in range(8)]
    rows = [
        {"context": context, "perturbation": gene, "model": model, "pearson_delta": value * (model == "ours")}
        for gene, value in zip(genes, rng.normal(0.1, 0.3, size=8))
        for context in ("monocyte", "dendritic", "T_cytotoxic")
        for model in ("ours", "mean")
    ]
    found = differences_by_regime(Evaluation(pd.DataFrame(rows), pd.DataFrame(), {"model": "ours"}), genes)
    row = found.set_index("regime").loc["gene never perturbed"]
    once = [r["pearson_delta"] for r in rows if r["model"] == "ours" and r["context"] == "monocyte"]
    expected = paired_bootstrap(once, np.zeros(8))
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert (row["pairs"], row["perturbations"]) == (24, 8)


def test_a_sentence_without_an_interval_claims_nothing():
    names = ["regime", "baseline", "model_mean", "baseline_mean", "difference", "low", "high", "pairs", "perturbations"]
    rows = [
        (ALL_PAIRS, "mean", 0.9, 0.2, 0.7, np.nan, np.nan, 6, 3),
        (ALL_PAIRS, "knn", 0.9, 0.8, 0.1, 0.05, 0.2, 30, 9),
    ]
    nowhere = Path("nowhere")
    result = DemoResult(*[nowhere] * 8, differences=pd.DataFrame(rows, columns=names), seconds={})
    few, clear = result.sentences()
    assert few == (
        f"{ALL_PAIRS} (6 pairs (context, perturbation) of 3 perturbations): Pearson delta 0.900, beside `mean` "
        "(0.200): difference +0.700, too few perturbations to tell."
    )
    assert "ahead of `knn`" in clear
    assert "95 % interval +0.050 to +0.200" in clear


def test_a_folder_with_other_content_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(StateshiftError, match="exists and is not empty"):
        run_demo(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_demo_that_fails_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("stateshift.demo.CELL_TYPES", {"No such cell": "none"})
    output: Path = tmp_path / "demo"
    with pytest.raises(StateshiftError, match="no control cells"):
        run_demo(output)
    assert not output.exists()
