"""The report: one page that needs nothing else, says what is there and escapes what it quotes."""

from __future__ import annotations

import io
import json
import shutil
from html.parser import HTMLParser

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.errors import StateshiftError
from stateshift.evaluation import Evaluation, evaluate, sentences, summary_table, write_report
from stateshift.evaluation.scores import summarise
from stateshift.evaluation.tables import verdict
from stateshift.feature_table import FeatureTable


class Page(HTMLParser):
    """Tags, attributes and words of a page; a tag left open or closed twice is kept as a fault."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "path", "use", "rect"})

    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.tags, self.links, self.words = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    def says(self, words):
        return words in " ".join(" ".join(self.words).split())


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "first"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "genes.txt").write_text("\n".join(f"G{i:02d}" for i in range(20)))
    splits = {"train": {"K562": {"G00": 120, "G09": 80}}, "val": {}, "test": {"RPE1": {"G01": 30}}}
    (folder / "splits.json").write_text(json.dumps(splits))
    (folder / "config.yaml").write_text("model: <state_tiny>\n")
    pd.DataFrame({"step": [0, 10, 20], "train_loss": [3.0, 2.0, 1.5], "val_loss": [np.nan, 2.5, 2.1]}).to_csv(
        folder / "metrics.csv", index=False
    )
    FeatureTable(["G00", "G01"], np.eye(2), {"source": "onehot"}).save(folder / "features.pt")
    return folder


def test_a_page_of_run_and_evaluation_fetches_nothing_and_is_well_formed(world, run, tmp_path):
    evaluate(world.predicted(), world.truth, output=tmp_path / "runs" / "scores")
    written = write_report(tmp_path / "runs", tmp_path / "report.html")
    text = written.read_text()
    page = Page(text)
    assert not page.faults
    assert not page.open
    assert [link for link in page.links if not link.startswith("#")] == []
    assert "@import" not in text
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert page.tags.count("svg") == 4
    before_the_first_section = text[: text.index("<h2")]
    assert '<p class="note">The effects here are simulated: they show that the way works' in before_the_first_section
    assert page.says("200 train cells")
    assert page.says("2 of the splits' 3 genes have a vector; without one: G09.")
    assert page.says("Not in this run directory: experiment.toml, versions.json.")
    assert "<state_tiny>" not in text
    assert page.says("model: <state_tiny>")


def test_the_page_repeats_the_numbers_of_the_summary(world, tmp_path):
    found = evaluate(world.predicted(), world.truth, output=tmp_path / "scores")
    page = Page(write_report(tmp_path / "scores", tmp_path / "report.html").read_text())
    overall = found.summary[found.summary["context"] == "all contexts"].set_index(["model", "metric"])
    for model in ("state_tiny", "control", "mean"):
        assert page.says(f"{overall.loc[(model, 'mae'), 'mean']:.3f}")
    row = overall.loc[("mean", "pearson_delta")]
    assert page.says(f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]")
    assert all(page.says(sentence) for sentence in sentences(found))


def test_names_from_files_are_escaped_and_measured_effects_are_not_called_simulated(world, tmp_path):
    predicted = world.predicted()
    predicted.uns["stateshift"] |= {"model": "<script>alert('x')</script>", "simulated": False}
    evaluate(predicted, world.truth, output=tmp_path / "scores")
    text = write_report(tmp_path / "scores", tmp_path / "report.html").read_text()
    assert "<script" not in text
    assert "simulated" not in text
    assert not Page(text).faults


def test_the_same_folder_gives_the_same_page_and_an_existing_one_is_kept(world, run, tmp_path):
    evaluate(world.predicted(), world.truth, output=run / "scores")
    (tmp_path / "one.html").write_text("older")
    first = write_report(run, tmp_path / "one.html", overwrite=True).read_bytes()
    assert write_report(run, tmp_path / "two.html").read_bytes() == first
    with pytest.raises(StateshiftError, match="exists already"):
        write_report(run, tmp_path / "one.html")
    assert (tmp_path / "one.html").read_bytes() == first


def test_where_a_network_is_kept_beside_its_backbone_is_told(run, tmp_path):
    verdict = {
        "network": 0.5,
        "backbone": 0.4,
        "mean": 0.1,
        "low": 0.0625,
        "high": 0.14,
        "pairs": 9,
        "perturbations": 7,
    }
    regimes = {"T": {**verdict, "kept": True}, "J": {**verdict, "low": -0.5, "kept": False}}
    (run / "anchored.json").write_text(json.dumps({"step": 20, "regimes": regimes}))
    page = Page(write_report(run, tmp_path / "report.html").read_text())
    assert page.says("T: a new perturbation in a known context 0.500 0.400 +0.100 +0.062 to +0.140 7 network")
    assert page.says("J: both are new 0.500 0.400 +0.100 -0.500 to +0.140 7 backbone")
    (run / "anchored.json").write_text("{}")
    page = Page(write_report(run, tmp_path / "other.html").read_text())
    assert page.says("is missing or damaged: copy the run anew")


def test_a_run_with_almost_nothing_in_it_says_what_is_absent(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "genes.txt").write_text("A\nB\n")
    (tmp_path / "run" / "config.yaml").write_text("a: 1\n")
    page = Page(write_report(tmp_path / "run", tmp_path / "report.html").read_text())
    assert page.says("No splits.json")
    assert page.says("No features.pt here.")
    assert page.says("No metrics.csv")
    assert page.says("No evaluation lies here yet")


def test_a_folder_with_neither_run_nor_evaluation_is_refused(tmp_path):
    with pytest.raises(StateshiftError, match=r"neither a run .* \(it is empty\): train, predict or evaluate"):
        write_report(tmp_path, tmp_path / "report.html")
    with pytest.raises(StateshiftError, match="no such folder or file"):
        write_report(tmp_path / "nowhere", tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "cells.h5ad").write_bytes(b"no HDF5")
    with pytest.raises(StateshiftError, match=r"it holds cells\.h5ad, notes\.txt.*pass it as --truth"):
        write_report(tmp_path, tmp_path / "report.html")
    with pytest.raises(StateshiftError, match=r"notes\.txt is neither a folder nor predicted cells"):
        write_report(tmp_path / "notes.txt", tmp_path / "report.html")
    with pytest.raises(StateshiftError, match=r"written as \.html"):
        write_report(tmp_path, tmp_path / "report.pdf")


def test_a_whole_folder_tells_what_was_trained_on_what_and_what_the_page_lacks(world_page):
    text = world_page.read_text()
    page = Page(text)
    assert not page.faults
    assert page.says("state_tiny was trained for up to 200 steps on 2 perturbations in 1 context (K562) of truth.h5ad.")
    assert page.says("the lowest validation loss, 2, is that of step 100.")
    assert page.says("3 of the splits' 3 genes have a vector.")
    assert not page.says("What this page lacks")
    assert "<img" not in text
    assert [link for link in page.links if not link.startswith("#")] == []


def test_words_of_the_page_are_explained_and_no_others(world_page):
    page = Page(world_page.read_text())
    assert page.says("regime J Both are new.")
    assert page.says("route neural The network.")
    assert page.says("model mean The mean effect of all training perturbations.")
    assert page.says("half its length in units of log1p")
    assert not page.says("regime C")
    assert not page.says("model knn")
    assert page.says('what the features were made of { "source": "gene_sets", "lookup": "sets.gmt"')


def test_cells_that_are_gone_are_said_and_the_rest_is_told(world_folder, tmp_path):
    shutil.copytree(world_folder / "scores", tmp_path / "scores")
    page = Page(write_report(tmp_path / "scores", tmp_path / "one.html").read_text())
    assert page.says("predicted.h5ad against truth.h5ad) are not here, so nothing is shown pair by pair: name them")
    assert page.says("No run is here")
    named = {"prediction": world_folder / "predicted.h5ad", "truth": world_folder / "truth.h5ad"}
    page = Page(write_report(tmp_path / "scores", tmp_path / "two.html", **named).read_text())
    assert "script" in page.tags
    assert page.says("No map by features: the features of the run that predicted are not here.")


def test_a_prediction_that_is_named_finds_the_truth_of_its_evaluation(world_folder, tmp_path):
    prediction = world_folder / "predicted.h5ad"
    page = Page(write_report(world_folder / "scores", tmp_path / "one.html", prediction=prediction).read_text())
    assert page.says("Predicted over measured change")
    assert not page.says("No measured cells were given")


def test_predicted_cells_alone_or_with_a_truth_make_a_page(world_folder, tmp_path):
    alone = Page(write_report(world_folder / "predicted.h5ad", tmp_path / "alone.html").read_text())
    assert alone.says("No measured cells were given")
    assert alone.says("No evaluation lies here yet")
    truth = world_folder / "truth.h5ad"
    both = Page(write_report(world_folder / "predicted.h5ad", tmp_path / "both.html", truth=truth).read_text())
    found = Evaluation.load(world_folder / "scores")
    assert all(both.says(sentence) for sentence in sentences(found))


def test_a_prediction_without_intervals_or_a_known_maker_says_so(world_folder, tmp_path):
    cells = ad.read_h5ad(world_folder / "predicted.h5ad")
    del cells.uns["stateshift"]
    cells.write_h5ad(tmp_path / "other.h5ad")
    truth = world_folder / "truth.h5ad"
    page = Page(write_report(tmp_path / "other.h5ad", tmp_path / "report.html", truth=truth).read_text())
    assert page.says("other gives no intervals.")
    assert page.says("The prediction gives no intervals.")
    with pytest.raises(StateshiftError, match="name the measured cells with --truth"):
        write_report(tmp_path / "other.h5ad", tmp_path / "two.html")


def test_sentences_claim_no_more_than_the_interval_allows(world):
    good = sentences(evaluate(world.predicted(), world.truth))[0]
    assert "is better than the best baseline, mean" in good
    rng = np.random.default_rng(0)
    noise = world.predicted()
    X = noise.X.toarray()
    labels = noise.obs["target_gene"].astype(str) + noise.obs["context"].astype(str)
    for label in labels[noise.obs["target_gene"] != "ctrl"].unique():
        X[(labels == label).to_numpy()] += rng.normal(0, 1.0, 20)
    noise.X = np.clip(X, 0, None)
    said = sentences(evaluate(noise, world.truth))
    assert "is worse than the best baseline" in said[1]


def test_a_difference_whose_interval_holds_zero_is_called_open(world):
    found = evaluate(world.predicted(), world.truth)
    scores = found.scores
    own = scores.loc[scores["model"] == found.model, "mae"].to_numpy()
    scores.loc[scores["model"] == "mean", "mae"] = own + np.tile([0.1, -0.1], 6)
    said = sentences(Evaluation(scores, summarise(scores), found.about))[1]
    assert "is not distinguishable from the best baseline, mean" in said
    assert "difference 0.000 [-0.0" in said


def test_too_few_perturbations_are_called_so_with_a_dash_for_the_interval(world, tmp_path):
    from rich.console import Console

    few = world.truth[~world.truth.obs["gene"].isin(["G04", "G05"])].copy()
    found = evaluate(world.predicted(), few, output=tmp_path / "scores")
    row = found.summary.set_index(["context", "model", "metric"]).loc[("all contexts", "mean", "pearson_delta")]
    assert verdict(row) == "few"
    said = sentences(found)[0]
    assert (
        f"stands beside the best baseline, mean ({row['mean']:.3f}): difference {row['difference']:+.3f} [–] over "
        in said
    )
    assert (
        "8 pairs (context, perturbation) of 4 perturbations; too few perturbations to tell; higher is better." in said
    )
    page = Page(write_report(tmp_path / "scores", tmp_path / "report.html").read_text())
    assert page.says(f"{row['difference']:+.3f} [–]")
    assert page.says(said)
    assert not page.says("nan")
    assert not page.says("the intervals are rough")
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(summary_table(found))
    text = console.export_text()
    assert f"{row['difference']:+.3f} [–]" in text
    assert "nan" not in text


def test_the_terminal_table_has_a_row_a_model_with_the_model_first(world):
    from rich.console import Console

    found = evaluate(world.predicted(), world.truth)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(summary_table(found))
    text = console.export_text()
    assert text.index("state_tiny") < text.index("mean") < text.index("control")
    assert "12 pairs (context, perturbation) of 6 perturbations" in text
    assert "K562: 6 perturbations" in summary_table(found, "K562").title
    assert [c.header for c in summary_table(found, "K562").columns][1:3] == ["Pearson delta ↑", "MAE ↓"]


def test_a_comparison_is_told_by_its_table(tmp_path):
    (tmp_path / "comparison.json").write_text("{}")
    row = {
        "regime": "T",
        "model": "stack",
        "features": "<go>",
        "seeds": 1,
        "pairs": 48,
        "pearson_delta": 0.67,
        "sd": np.nan,
    }
    row |= {"baseline": "ridge, go", "difference": 0.075, "low": 0.05, "high": 0.105, "harm": 0.02, "gap_closed": 1.15}
    best = {**row, "model": "ridge", "difference": np.nan, "low": np.nan, "high": np.nan, "harm": np.nan}
    pd.DataFrame([row, best]).assign(mae=0.17, pds_l1=0.91).to_csv(tmp_path / "table.csv", index=False)
    page = Page(write_report(tmp_path, tmp_path / "report.html").read_text())
    assert page.says("T stack <go> 48 0.670 +0.075 [+0.050, +0.105] 2% 115% 0.170 0.910")
    assert page.says("T ridge <go> 48 0.670 – – 115% 0.170 0.910")
    pd.DataFrame([row]).to_csv(tmp_path / "table.csv", index=False)
    page = Page(write_report(tmp_path, tmp_path / "other.html").read_text())
    assert page.says("table.csv can't be read ('mae'): compare again.")
